/* SPDX-License-Identifier: MIT */
/*
 * stream.c - see stream.h.
 *
 * A read takes what comes next, whatever its offset (the files are not seekable); but see
 * stream_is_over() for what the kernel makes of a large read(2).  `follow` has at
 * most one entry in hand, and gives the rest of it to the next reads.  `batch` claims what could
 * fit, frames as many entries as do, and gives the others back at once; it keeps a reader between
 * reads only when a damaged entry cut the read short, because the library may have consumed what
 * lies behind.
 *
 * With nothing to take a READ parks at the group's gate as owner of the handle's serial, so that
 * reads of one handle are answered in order.  Whatever is read is consumed, which may wait for the
 * disk: from the claim on the work is done on the pool.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "record.h"
#include "reply.h"
#include "stream.h"
#include "take.h"

/* A READ of `batch` stops here, so that what it gave one WRITE takes. */
#define BATCH_SIZE_MAX 1044480u

static void stream_leave(struct handle *handle)
{
    serial_leave(&handle->serial, handle->mount->pool);
}

void stream_open(struct handle *handle, fuse_req_t req)
{
    const struct place_key *key = handle_key(handle);
    struct take *take = &handle->take;
    bool reads = (handle->flags & O_ACCMODE) != O_WRONLY;
    int r = 0;

    poller_init(&take->poller);
    if (reads && key->group != NULL)
        r = gate_get(handle->mount, key->group, key->topic_id, key->group_id, &take->gate);
    else if ((handle->flags & O_ACCMODE) == O_RDONLY)
        r = -ENXIO;
    if (r == 0 && handle->mount->options->walrus.read_only)
        r = -EROFS;
    if (r == 0 && handle_finish_open(handle, req, 0, true) == 0)
        return;
    if (r < 0)
        reply_error(req, r);
    r = take_fini(handle); /* nothing is in hand */
    (void)r;
    handle_destroy(handle);
}

/*
 * The kernel sends a read(2) of more than a request as several READs, until one is not filled.  Its
 * offsets count from 0 in each read(2), for such a file has no position.  So a READ that goes on
 * where one of the same thread ended, which was as large as they get and was filled, is the rest of
 * one read(2).  When there is no rest of an entry to put there that read(2) is over, whatever is
 * pending: it has what it takes, and must not wait with that.
 *
 * Not seen is where readv(2) is cut for the number of its pieces: any size is possible there, and an
 * offset of an io_uring read, which is the program's own, may well be the end of a filled small one.
 */
static bool stream_is_over(struct handle *handle, fuse_req_t req, uint64_t offset)
{
    struct take *take = &handle->take;

    take->read_offset = offset;
    return offset > 0 && offset == take->filled_end && fuse_req_ctx(req)->pid == take->filled_pid &&
           (handle->kind == KIND_BATCH || take->reader == NULL);
}

/* The READ is about to be answered with `count` of the `size` bytes that it asked for. */
static void stream_note(struct handle *handle, fuse_req_t req, size_t size, size_t count)
{
    struct take *take = &handle->take;
    pid_t pid = fuse_req_ctx(req)->pid;

    if (count == size && size > handle->mount->append_size) {
        take->filled_end = take->read_offset + size;
        take->filled_pid = pid;
    } else if (pid == take->filled_pid) {
        take->filled_end = 0;
    }
}

static void stream_end(struct handle *handle, fuse_req_t req)
{
    handle->take.filled_end = 0;
    int r = reply_data(req, "", 0);
    (void)r;
    stream_leave(handle);
}

/* Gives back what is in hand and was not consumed. */
static void stream_drop(struct take *take)
{
    walrus_reader_abort(take->reader);
    take->reader = NULL;
    take->delivered = 0;
    take->index = 0;
}

/* What is in hand was handed out, which consumes an entry of no bytes. */
static void stream_finish(struct take *take)
{
    int r = walrus_reader_close(take->reader); /* the library reports what goes wrong */
    (void)r;
    take->reader = NULL;
    stream_drop(take);
}

/* Strict, what is given was consumed before; otherwise its arrival consumes it. */
static int stream_reply(const struct handle *handle, fuse_req_t req, const void *data, size_t size)
{
    return handle->mount->options->walrus.consistency == WALRUS_STRICT
               ? reply_data(req, data, size)
               : reply_data_arrived(req, data, size);
}

/* -------------------------------------------------------------------------------------- follow */

/* Gives the next piece of the entry in hand.  WALRUS_EMPTY: it had no bytes, and was consumed.
 * -EBUSY: not now; nothing was answered. */
static int follow_give(struct handle *handle, fuse_req_t req, size_t size)
{
    struct take *take = &handle->take;
    uint64_t have = walrus_reader_size(take->reader);
    size_t want = (size_t)MIN(size, have - take->delivered);
    unsigned char *buffer = thread_buffer(want);
    ssize_t n = 0;

    if (want > 0)
        n = buffer != NULL ? walrus_reader_read(take->reader, buffer, want, take->delivered, NULL)
                           : -ENOMEM;
    if (n == -EBUSY)
        return -EBUSY;
    if (n < 0) {
        reply_error(req, (int)n);
        if (n == -EBADMSG)
            stream_drop(take);
        return 0;
    }
    stream_note(handle, req, size, (size_t)n);
    /* Before the reply: a poll may follow at once. */
    atomic_store(&take->in_hand, take->delivered + (uint64_t)n < have);
    if (n > 0 && stream_reply(handle, req, buffer, (size_t)n) == 0) {
        take->delivered += (uint64_t)n;
        int r = walrus_reader_delivered(take->reader, take->delivered);
        (void)r; /* the library reports it */
    }
    if (n == 0 || take->delivered >= have)
        stream_finish(take);
    return n > 0 ? 0 : WALRUS_EMPTY;
}

/* --------------------------------------------------------------------------------------- batch */

/* How much of a reader one READ gives. */
struct batch_fit {
    uint64_t index, count; /* entries */
    uint64_t end;          /* where they end in the reader's bytes */
    size_t size;           /* as records */
    bool all;              /* up to the end of the reader */
};

/*
 * Finds how many entries from take->index on fit into `room` bytes; the first one, alone, into
 * `first_room`.  An entry of no bytes is consumed together with what follows it, so such entries
 * are left off at the end, unless the reader ends there, too. -EMSGSIZE: not even one fits.
 */
static int batch_fit(struct take *take, size_t room, size_t first_room, struct batch_fit *ret_fit)
{
    struct batch_fit fit = {.index = take->index, .end = take->delivered}, good = fit;
    struct walrus_entry entry;
    uint64_t offset;
    int r;

    while ((r = walrus_reader_entry(take->reader, fit.index + fit.count, &entry, &offset)) == 0) {
        uint64_t size = record_size(entry.size);
        if (fit.size + size > room && (fit.count > 0 || size > first_room))
            break;
        fit.size += size;
        fit.end = offset + entry.size;
        fit.count++;
        if (entry.size > 0)
            good = fit;
    }
    if (r < 0 && r != -EBADMSG)
        return r;
    fit.all = r == WALRUS_EMPTY;
    if (r == 0 && fit.count == 0)
        return -EMSGSIZE;
    *ret_fit = fit.all || good.count == 0 ? fit : good;
    return 0;
}

/* Puts headers between the `size` bytes of data at `from`.  Returns the size of the records that
 * were complete, and steps take->index and take->delivered behind them. */
static size_t batch_frame(struct take *take, const struct batch_fit *fit, unsigned char *to,
                          const unsigned char *from, size_t size)
{
    struct walrus_entry entry;
    uint64_t offset, begin = take->delivered;
    size_t done = 0;

    for (uint64_t i = 0; i < fit->count; i++) {
        if (walrus_reader_entry(take->reader, take->index, &entry, &offset) != 0 ||
            offset + entry.size > begin + size)
            break;
        if (entry.size > 0)
            memcpy(to + done + RECORD_HEADER_SIZE, from + (offset - begin), entry.size);
        record_frame(to + done, (uint32_t)entry.size, entry.seq, entry.time_ns);
        done += record_size(entry.size);
        take->index++;
        take->delivered = offset + entry.size;
    }
    return done;
}

/* The entry at take->delivered is damaged; the one behind it begins at `next`. */
static void batch_skip(struct take *take, uint64_t next)
{
    struct walrus_entry entry;
    uint64_t offset;
    int r = walrus_reader_entry(take->reader, take->index, &entry, &offset);

    if (r == 0 && offset < next)
        take->index++; /* its data is: its header was fine */
    while (r == -EBADMSG) {
        take->index++;
        r = walrus_reader_entry(take->reader, take->index, &entry, &offset);
    }
    take->delivered = next;
}

/* Whether what fits must be claimed by itself to be consumed by itself: it is nothing but entries
 * of no bytes, or (at-least-once) such an entry follows, which the library would count with it. */
static bool batch_is_cut(struct handle *handle, const struct batch_fit *fit)
{
    struct take *take = &handle->take;
    struct walrus_entry entry;
    uint64_t offset;

    if (fit->all)
        return false;
    if (fit->end == take->delivered)
        return true;
    return handle->mount->options->walrus.consistency != WALRUS_STRICT &&
           walrus_reader_entry(take->reader, fit->index + fit->count, &entry, &offset) == 0 &&
           entry.size == 0;
}

/* What fits of the reader in hand, which is changed for one that holds just that if need be.
 * -EAGAIN: somebody else was quicker meanwhile. */
static int batch_prepare(struct handle *handle, size_t size, struct batch_fit *ret_fit)
{
    struct take *take = &handle->take;
    int r = batch_fit(take, MIN(size, BATCH_SIZE_MAX), size, ret_fit);

    if (r == 0 && batch_is_cut(handle, ret_fit)) {
        stream_drop(take);
        r = walrus_group_claim(handle_key(handle)->group, ret_fit->count, SIZE_MAX, &take->reader);
        if (r == 0)
            r = batch_fit(take, MIN(size, BATCH_SIZE_MAX), size, ret_fit);
        if (r == WALRUS_EMPTY || (r == 0 && batch_is_cut(handle, ret_fit)))
            r = -EAGAIN;
    }
    if (r == -EMSGSIZE) {
        /* It stays.  No READ at all can be larger than the largest one. */
        struct walrus_entry entry = {.size = 0};
        uint64_t offset;
        if (walrus_reader_entry(take->reader, take->index, &entry, &offset) == 0 &&
            record_size(entry.size) <= MOUNT_REQUEST_SIZE_MAX)
            r = -EINVAL;
    }
    return r;
}

/* Answers a READ with records from the reader in hand.  WALRUS_EMPTY: there was nothing left in it.
 * -EBUSY: not now; nothing was answered. */
static int batch_give(struct handle *handle, fuse_req_t req, size_t size)
{
    struct take *take = &handle->take;
    struct batch_fit fit = {.count = 0};
    uint64_t next = 0;
    int r = batch_prepare(handle, size, &fit);

    if (r == -EAGAIN || (r == 0 && fit.count == 0)) {
        stream_drop(take);
        return WALRUS_EMPTY;
    }
    size_t data_size = r == 0 ? (size_t)(fit.end - take->delivered) : 0;
    unsigned char *buffer = r == 0 ? thread_buffer(fit.size + data_size + 1) : NULL;
    if (r == 0 && buffer == NULL)
        r = -ENOMEM;
    ssize_t n = r;
    if (r == 0)
        n = walrus_reader_read(take->reader, buffer + fit.size, MAX(data_size, (size_t)1),
                               take->delivered, &next);
    if (n == -EBUSY)
        return -EBUSY;
    if (n < 0) {
        reply_error(req, (int)n);
        if (n == -EBADMSG)
            batch_skip(take, next);
        else
            stream_drop(take);
        return 0;
    }
    bool whole = (size_t)n == data_size;
    if (whole && fit.all && data_size > 0) {
        unsigned char none;
        /* Consumes entries of no bytes at the very end; there is nothing else to fail at. */
        ssize_t rest = walrus_reader_read(take->reader, &none, 1, fit.end, NULL);
        (void)rest;
    }
    size_t framed = batch_frame(take, &fit, buffer, buffer + fit.size, (size_t)n);
    stream_note(handle, req, size, framed);
    bool arrived = stream_reply(handle, req, buffer, framed) == 0;
    if (arrived) {
        r = walrus_reader_delivered(take->reader, take->delivered);
        (void)r; /* the library reports it */
    }
    if (whole && arrived)
        stream_finish(take);
    else if (whole)
        stream_drop(take);
    return 0;
}

/* ------------------------------------------------------------------------------------- reading */

static int stream_claim(struct handle *handle, size_t size, struct walrus_reader **ret_reader)
{
    struct walrus_group *group = handle_key(handle)->group;

    if (handle->kind == KIND_FOLLOW)
        return walrus_group_claim(group, 1, SIZE_MAX, ret_reader);
    return walrus_group_claim(group, MAX(size / RECORD_HEADER_SIZE, (size_t)1), size, ret_reader);
}

static int stream_waiter_claim(struct waiter *waiter)
{
    return stream_claim(waiter->handle, waiter->size, &waiter->reader);
}

/* Serves from what is in hand, as owner of the serial, which is left.  WALRUS_EMPTY: there was
 * nothing to show in it, and the request goes on.  -EBUSY: it is to be tried again. */
static int stream_give(struct handle *handle, fuse_req_t req, size_t size)
{
    int r = handle->kind == KIND_FOLLOW ? follow_give(handle, req, size)
                                        : batch_give(handle, req, size);
    if (r == 0) {
        gate_settled(handle->take.gate);
        stream_leave(handle);
    }
    return r;
}

static void stream_read_finish(struct waiter *waiter);

/* Parks the READ; the serial goes with it. */
static void stream_park(struct handle *handle, fuse_req_t req, size_t size, int flags)
{
    struct waiter *waiter = (flags & O_NONBLOCK) == 0 ? calloc(1, sizeof(*waiter)) : NULL;
    if (waiter == NULL) {
        gate_notify_next(handle->take.gate);
        reply_error(req, (flags & O_NONBLOCK) != 0 ? -EAGAIN : -ENOMEM);
        stream_leave(handle);
        return;
    }
    waiter->gate = handle->take.gate;
    waiter->handle = handle;
    waiter->req = req;
    waiter->size = size;
    waiter->claim = stream_waiter_claim;
    waiter->finish = stream_read_finish;
    gate_park(waiter);
}

/* Takes until there is something to answer; owner of the serial, on the pool.  -EBUSY: the same is
 * to be tried again, with the serial still ours. */
static int stream_read_blocking(struct handle *handle, fuse_req_t req, size_t size, int flags)
{
    for (;;) {
        int r = WALRUS_EMPTY;
        if (handle->take.reader != NULL)
            r = stream_give(handle, req, size);
        if (r != WALRUS_EMPTY)
            return r;
        /* There may be any number of entries of no bytes, each with a sync of its own. */
        if (fuse_req_interrupted(req)) {
            reply_error(req, -EINTR);
            stream_leave(handle);
            return 0;
        }
        if (!gate_is_busy(handle->take.gate))
            r = stream_claim(handle, size, &handle->take.reader);
        if (r == WALRUS_EMPTY || r == -EBUSY) {
            stream_park(handle, req, size, flags);
            return 0;
        }
        if (r < 0) {
            reply_error(req, r);
            stream_leave(handle);
            return 0;
        }
    }
}

static void stream_read_request(struct request *request)
{
    struct handle *handle = request->handle;
    struct mount *mount = request->mount;

    if (stream_is_over(handle, request->req, request->offset)) {
        stream_end(handle, request->req);
        request_destroy(request);
        return;
    }
    int r = stream_read_blocking(handle, request->req, request->size, request->flags);
    if (r == -EBUSY) {
        r = request_retry(request, handle->take.gate, walrus_reader_seq(handle->take.reader),
                          stream_read_request);
        if (r == 0)
            return;
        reply_error(request->req, r);
        serial_leave(&handle->serial, mount->pool);
    }
    request_destroy(request);
}

/* Goes on on the pool, as owner of the serial. */
static void stream_read_submit(struct handle *handle, fuse_req_t req, size_t size, int flags)
{
    struct request *request = request_create(handle->mount, req, handle, NULL, 0);
    if (request == NULL) {
        stream_leave(handle);
        return;
    }
    request->size = size;
    request->offset = handle->take.read_offset;
    request->flags = flags;
    request_submit(request, stream_read_request);
}

static void stream_read_finish(struct waiter *waiter)
{
    struct handle *handle = waiter->handle;

    if (waiter->result == 0) {
        handle->take.reader = waiter->reader;
        /* On a thread of its own: who waits next is not to wait for this one's disk. */
        stream_read_submit(handle, waiter->req, waiter->size, 0);
    } else {
        reply_error(waiter->req, waiter->result);
        stream_leave(handle);
    }
    free(waiter);
}

/* Whether the reader in hand has a piece of an entry that costs no sync. */
static bool follow_is_free(struct handle *handle, size_t size)
{
    const struct take *take = &handle->take;

    if (handle->kind != KIND_FOLLOW || take->reader == NULL || take->delivered == 0)
        return false;
    if (walrus_reader_due(take->reader)) /* of what others took */
        return false;
    return handle->mount->options->walrus.consistency == WALRUS_STRICT ||
           take->delivered + size < walrus_reader_size(take->reader);
}

void stream_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset, int flags)
{
    struct take *take = &handle->take;

    if (take->gate == NULL) { /* batch of a topic without its default group; never changes */
        reply_error(req, -ENXIO);
        return;
    }
    if (!serial_try(&handle->serial)) {
        struct request *request = request_create(handle->mount, req, handle, NULL, 0);
        if (request == NULL)
            return;
        request->size = size;
        request->offset = offset;
        request->flags = flags;
        request_submit_read(request, stream_read_request);
        return;
    }
    if (stream_is_over(handle, req, offset)) {
        stream_end(handle, req);
        return;
    }
    if (follow_is_free(handle, size) && stream_give(handle, req, size) == 0)
        return;
    if (take->reader == NULL) {
        int r = gate_is_busy(take->gate) ? WALRUS_EMPTY : stream_claim(handle, size, &take->reader);
        if (r == WALRUS_EMPTY || r == -EBUSY) {
            stream_park(handle, req, size, flags);
            return;
        }
        if (r < 0) {
            reply_error(req, r);
            stream_leave(handle);
            return;
        }
    }
    stream_read_submit(handle, req, size, flags);
}
