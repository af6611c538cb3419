/* SPDX-License-Identifier: MIT */
/*
 * take.c - see take.h.
 *
 * A handle has one reader of the library: the entry that it claimed (next, wait), all that was
 * pending (drain), or what it only looks at (peek, entries/N).  Reading is by offset, so seeking
 * back shows the same bytes.  A damaged entry gives EIO once; the stream goes on behind it, so from
 * there on the offsets of the program and of the reader differ (struct take_skip).
 *
 * Strict mode: the library consumes what a read touches, durably, before it hands it out: such a
 * read runs on the pool; what was touched before is read on the transport thread.  At-least-once:
 * the read is answered on the transport thread, which then tells the library what arrived; now and
 * then that is to be stored, which a job does.  Only what arrived without a gap from the first byte on
 * counts: who looks at the tail of `drain` did not take what lies before.
 *
 * An entry of no bytes is consumed when its handle closes, or when the end of `drain` was read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "reply.h"
#include "take.h"

/* How often `next` tries to get around entries that others hold before it says EBUSY. */
#define NEXT_RETRY_COUNT 8

static bool is_claim(const struct handle *handle)
{
    return handle->kind == KIND_NEXT || handle->kind == KIND_WAIT || handle->kind == KIND_DRAIN;
}

static bool is_strict(const struct handle *handle)
{
    return handle->mount->options->walrus.consistency == WALRUS_STRICT;
}

/* ------------------------------------------------------------------------------------- opening */

/* The handle goes without having been opened; what it claimed goes back. */
static void take_abandon(struct handle *handle)
{
    walrus_reader_abort(handle->take.reader);
    handle->take.reader = NULL;
    int r = take_fini(handle); /* there is nothing to go wrong */
    (void)r;
    handle_destroy(handle);
}

/* A reader without bytes may hold an entry whose header is damaged.  Nobody reads from a file of no
 * bytes, so that is told at once: -EBADMSG, and the entry is consumed as by a read. */
static int take_check_empty(struct walrus_reader *reader)
{
    struct walrus_entry entry;
    uint64_t offset;
    unsigned char none;

    if (reader == NULL || walrus_reader_size(reader) > 0 ||
        walrus_reader_entry(reader, 0, &entry, &offset) != -EBADMSG)
        return 0;
    ssize_t n = walrus_reader_read(reader, &none, 1, 0, NULL);
    return n < 0 ? (int)n : 0;
}

/* The reader is in hand (or NULL: the file is empty); answers the OPEN. */
static void take_opened(struct handle *handle, fuse_req_t req, struct walrus_reader *reader)
{
    struct take *take = &handle->take;
    uint64_t size = reader != NULL ? walrus_reader_size(reader) : 0;
    int r = take_check_empty(reader);

    take->reader = reader;
    if (r < 0) {
        reply_error(req, r);
        take_abandon(handle);
        return;
    }
    atomic_store(&take->size, size);
    if (handle_finish_open(handle, req, size, false) < 0)
        take_abandon(handle);
}

static int take_claim(struct handle *handle, struct walrus_reader **ret_reader)
{
    const struct place_key *key = handle_key(handle);

    switch (handle->kind) {
    case KIND_ENTRY:
        return walrus_entry_open(key->topic, key->seq, ret_reader);
    case KIND_PEEK:
        return walrus_group_peek(key->group, ret_reader);
    case KIND_DRAIN:
        return walrus_group_claim(key->group, SIZE_MAX, SIZE_MAX, ret_reader);
    default:
        return walrus_group_claim(key->group, 1, SIZE_MAX, ret_reader);
    }
}

static int wait_claim(struct waiter *waiter)
{
    return take_claim(waiter->handle, &waiter->reader);
}

static void wait_open_finish(struct waiter *waiter)
{
    struct handle *handle = waiter->handle;

    if (waiter->result == 0) {
        take_opened(handle, waiter->req, waiter->reader);
    } else {
        reply_error(waiter->req, waiter->result);
        take_abandon(handle);
    }
    free(waiter);
}

/* Parks a request of `wait`; false: no memory, nothing was done. */
static bool wait_park(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset,
                      void (*finish)(struct waiter *waiter))
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter == NULL)
        return false;
    waiter->gate = handle->take.gate;
    waiter->handle = handle;
    waiter->req = req;
    waiter->size = size;
    waiter->offset = offset;
    waiter->claim = wait_claim;
    waiter->finish = finish;
    gate_park(waiter);
    return true;
}

static void wait_open(struct handle *handle, fuse_req_t req)
{
    const struct place_key *key = handle_key(handle);
    struct walrus_reader *reader = NULL;
    int r = gate_get(handle->mount, key->group, key->topic_id, key->group_id, &handle->take.gate);

    if (r == 0)
        r = gate_is_busy(handle->take.gate) ? WALRUS_EMPTY : take_claim(handle, &reader);
    if (r == 0) {
        take_opened(handle, req, reader);
        return;
    }
    if (r == WALRUS_EMPTY || r == -EBUSY) {
        if ((handle->flags & O_NONBLOCK) != 0) {
            atomic_store(&handle->take.late, true);
            take_opened(handle, req, NULL);
            return;
        }
        /* If the size that was told is too large for some entry, the kernel has to look up once
         * more: better now than when there is one, and this reader would lose its place. */
        if (handle_hold_size(handle, req, 0, false) < 0) {
            take_abandon(handle);
            return;
        }
        if (wait_park(handle, req, 0, 0, wait_open_finish))
            return;
        r = -ENOMEM;
    }
    reply_error(req, r);
    take_abandon(handle);
}

void take_open(struct handle *handle, fuse_req_t req)
{
    struct walrus_reader *reader = NULL;

    poller_init(&handle->take.poller);
    if (handle->kind == KIND_WAIT) {
        wait_open(handle, req);
        return;
    }
    int r = take_claim(handle, &reader);
    if (r == 0 || r == WALRUS_EMPTY) {
        take_opened(handle, req, reader);
    } else {
        reply_error(req, r);
        take_abandon(handle);
    }
}

/* ------------------------------------------------------------------------------------- reading */

/* Where byte `at` of the stream lies in the reader, and how many bytes from there on lie so. */
static uint64_t take_map(const struct take *take, uint64_t at, uint64_t *ret_run)
{
    uint64_t to = at;
    *ret_run = UINT64_MAX;
    for (uint32_t i = 0; i < take->skip_count; i++) {
        if (take->skips[i].at > at) {
            *ret_run = take->skips[i].at - at;
            break;
        }
        to = take->skips[i].to + (at - take->skips[i].at);
    }
    return to;
}

/* From now on the stream goes on at `to` of the reader when it reaches `at`. */
static int take_skip(struct handle *handle, uint64_t at, uint64_t from, uint64_t to)
{
    struct take *take = &handle->take;
    struct take_skip *skips = realloc(take->skips, (take->skip_count + 1) * sizeof(*take->skips));
    if (skips == NULL)
        return -ENOMEM;
    take->skips = skips;
    uint32_t i = take->skip_count;
    while (i > 0 && skips[i - 1].at > at) {
        skips[i] = skips[i - 1];
        i--;
    }
    skips[i] = (struct take_skip){at, to};
    take->skip_count++;
    uint64_t size = atomic_load(&take->size);
    size -= MIN(size, to - from);
    atomic_store(&take->size, size);
    node_set_size(handle->mount, handle->node, size);
    handle_forget_size(handle);
    return 0;
}

/* Fills the buffer with the stream from `offset` on, as far as there is data. */
static ssize_t take_fill(struct handle *handle, unsigned char *buffer, size_t size, uint64_t offset)
{
    struct take *take = &handle->take;
    size_t done = 0;

    while (done < size) {
        uint64_t run, next = 0;
        uint64_t from = take_map(take, offset + done, &run);
        size_t want = (size_t)MIN(run, size - done);
        ssize_t n = walrus_reader_read(take->reader, buffer + done, want, from, &next);
        if (n < 0 && done > 0)
            break; /* the next read meets it again */
        if (n == -EBADMSG) {
            int r = take_skip(handle, offset, from, next);
            return r < 0 ? r : n;
        }
        if (n < 0)
            return n;
        done += (size_t)n;
        if ((size_t)n < want)
            break;
    }
    return (ssize_t)done;
}

/* Notes that [from, to) of the stream arrived; true if there is more from the first byte on.  It is
 * joined with what it touches, so that a file that is read backwards has one span. */
static bool take_note(struct take *take, uint64_t from, uint64_t to)
{
    uint64_t before = take->delivered;

    if (from == to)
        return false;
    for (uint32_t i = 0; i < take->span_count;) {
        struct take_span span = take->spans[i];
        if (span.from > to || span.to < from) {
            i++;
            continue;
        }
        from = MIN(from, span.from);
        to = MAX(to, span.to);
        take->spans[i] = take->spans[--take->span_count];
        i = 0;
    }
    if (from <= before)
        take->delivered = MAX(before, to);
    else if (take->span_count < ARRAY_COUNT(take->spans))
        take->spans[take->span_count++] = (struct take_span){from, to};
    /* With no room left the entries go back at close, and are delivered again. */
    return take->delivered > before;
}

/* Stores what was delivered; owner of the serial, which is left. */
static void take_store(struct job *job)
{
    struct take *take = CONTAINER_OF(job, struct take, job);
    struct handle *handle = CONTAINER_OF(take, struct handle, take);

    int r = walrus_group_sync(handle_key(handle)->group); /* the library reports a failure */
    (void)r;
    serial_leave(&handle->serial, handle->mount->pool);
}

/* Tells the library what arrived; owner of the serial, which is left.  Now and then that stores the
 * offset: on the pool, unless this thread may wait (`blocking`). */
static void take_deliver(struct handle *handle, bool blocking)
{
    struct take *take = &handle->take;
    uint64_t run, to = 0;

    if (take->delivered > 0)
        to = take_map(take, take->delivered - 1, &run) + 1;
    if (walrus_reader_note_delivered(take->reader, to) != WALRUS_DUE) {
        serial_leave(&handle->serial, handle->mount->pool);
    } else if (blocking) {
        take_store(&take->job);
    } else {
        take->job.run = take_store;
        pool_submit(handle->mount->pool, &take->job);
    }
}

/* Answers a READ from the reader; owner of the serial, which is left.  `blocking`: this thread may
 * wait for the disk, and -EBUSY is the caller's: nothing was answered or left. */
static int take_read_now(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset,
                         bool blocking)
{
    struct take *take = &handle->take;
    bool strict = is_strict(handle), more = false;
    uint64_t have = atomic_load(&take->size);
    size_t want = (size_t)MIN(size, have > offset ? have - offset : 0);
    unsigned char *buffer = thread_buffer(want + 1);
    ssize_t n = buffer != NULL ? 0 : -ENOMEM;

    if (n == 0 && want > 0) {
        n = take_fill(handle, buffer, want, offset);
    } else if (n == 0 && take->reader != NULL && handle->kind == KIND_DRAIN && !take->ended) {
        /* At the end: what lies there has no bytes, and the library consumes it when asked. */
        uint64_t run, from = take_map(take, have, &run);
        n = walrus_reader_read(take->reader, buffer, 1, from, NULL);
        take->ended = n == 0;
        n = n > 0 ? 0 : n;
    }
    if (n == -EBUSY && blocking)
        return -EBUSY;
    if (n < 0) {
        reply_error(req, (int)n);
        serial_leave(&handle->serial, handle->mount->pool);
        return 0;
    }
    if (strict && offset <= take->touched && offset + (size_t)n > take->touched) {
        take->touched = offset + (size_t)n;
        gate_settled(take->gate);
    }
    bool counts = !strict && take->reader != NULL && is_claim(handle);
    int r =
        counts ? reply_data_arrived(req, buffer, (size_t)n) : reply_data(req, buffer, (size_t)n);
    if (r == 0 && counts)
        more =
            take_note(take, offset, offset + (size_t)n) || (n == 0 && handle->kind == KIND_DRAIN);
    if (more)
        take_deliver(handle, blocking);
    else
        serial_leave(&handle->serial, handle->mount->pool);
    return 0;
}

static bool take_read_blocks(const struct handle *handle, size_t size, uint64_t offset)
{
    const struct take *take = &handle->take;
    uint64_t have = atomic_load(&take->size);

    if (take->reader == NULL || !is_claim(handle))
        return false;
    if (!is_strict(handle))
        return walrus_reader_due(take->reader);
    if (offset >= have)
        return handle->kind == KIND_DRAIN && !take->ended;
    return MIN(offset + size, have) > take->touched;
}

/* On the pool, as owner of the serial. */
static void take_read_request(struct request *request)
{
    struct handle *handle = request->handle;
    struct mount *mount = request->mount;

    int r = take_read_now(handle, request->req, request->size, request->offset, true);
    if (r == -EBUSY && (handle->kind != KIND_NEXT || request->retry_count < NEXT_RETRY_COUNT)) {
        r = request_retry(request, handle->take.gate, walrus_reader_seq(handle->take.reader),
                          take_read_request);
        if (r == 0)
            return;
    }
    if (r < 0) {
        reply_error(request->req, r);
        serial_leave(&handle->serial, mount->pool);
    }
    request_destroy(request);
}

/* A READ of what the handle holds, as owner of the serial. */
static void read_held(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset)
{
    if (!take_read_blocks(handle, size, offset)) {
        int r = take_read_now(handle, req, size, offset, false);
        WALRUS_ASSERT(r == 0);
        return;
    }
    struct request *request = request_create(handle->mount, req, handle, NULL, 0);
    if (request == NULL) {
        serial_leave(&handle->serial, handle->mount->pool);
        return;
    }
    request->size = size;
    request->offset = offset;
    request_submit(request, take_read_request);
}

static void wait_read_finish(struct waiter *waiter)
{
    struct handle *handle = waiter->handle;
    fuse_req_t req = waiter->req;
    size_t size = waiter->size;
    uint64_t offset = waiter->offset;
    int r = waiter->result;

    if (r == 0)
        r = take_check_empty(waiter->reader);
    if (r < 0 && waiter->result == 0)
        walrus_reader_abort(waiter->reader);
    if (r == 0) {
        handle->take.reader = waiter->reader;
        atomic_store(&handle->take.size, walrus_reader_size(waiter->reader));
        atomic_store(&handle->take.late, false);
        handle_raise_size(handle, walrus_reader_size(waiter->reader));
    }
    free(waiter);
    if (r < 0) {
        reply_error(req, r);
        serial_leave(&handle->serial, handle->mount->pool);
        return;
    }
    read_held(handle, req, size, offset);
}

/* A READ of `wait` that holds nothing yet; owner of the serial, which passes to who ends it. */
static void wait_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset,
                      int flags)
{
    struct waiter waiter = {.handle = handle, .req = req, .size = size, .offset = offset};
    int r = gate_is_busy(handle->take.gate) ? WALRUS_EMPTY : wait_claim(&waiter);

    if (r == 0) {
        struct waiter *copy = malloc(sizeof(*copy));
        if (copy != NULL) {
            *copy = waiter;
            wait_read_finish(copy);
            return;
        }
        walrus_reader_abort(waiter.reader);
        r = -ENOMEM;
    } else if ((r == WALRUS_EMPTY || r == -EBUSY) && (flags & O_NONBLOCK) != 0) {
        gate_notify_next(handle->take.gate);
        r = -EAGAIN;
    } else if (r == WALRUS_EMPTY || r == -EBUSY) {
        if (wait_park(handle, req, size, offset, wait_read_finish))
            return;
        r = -ENOMEM;
    }
    reply_error(req, r);
    serial_leave(&handle->serial, handle->mount->pool);
}

/* Serves a READ as owner of the serial, on a transport thread. */
static void take_read_owned(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset,
                            int flags)
{
    if (atomic_load(&handle->take.late)) {
        wait_read(handle, req, size, offset, flags);
        return;
    }
    read_held(handle, req, size, offset);
}

static void take_read_queued(struct request *request)
{
    struct handle *handle = request->handle;

    if (!atomic_load(&handle->take.late)) {
        take_read_request(request);
        return;
    }
    wait_read(handle, request->req, request->size, request->offset, request->flags);
    request_destroy(request);
}

void take_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset, int flags)
{
    struct take *take = &handle->take;

    /* The end of the file needs nothing but its size: most programs read it once more.
     * At-least-once it waits until the library knows what was delivered, so that who saw the end
     * has taken it. */
    if (handle->kind != KIND_DRAIN && !atomic_load(&take->late) &&
        (is_strict(handle) || !is_claim(handle)) && offset >= atomic_load(&take->size)) {
        int r = reply_data(req, "", 0);
        (void)r;
        return;
    }
    if (serial_try(&handle->serial)) {
        take_read_owned(handle, req, size, offset, flags);
        return;
    }
    struct request *request = request_create(handle->mount, req, handle, NULL, 0);
    if (request == NULL)
        return;
    request->size = size;
    request->offset = offset;
    request->flags = flags;
    request_submit_read(request, take_read_queued);
}

/* ------------------------------------------------------------------------------------- closing */

bool take_close_blocks(const struct handle *handle)
{
    return handle->take.reader != NULL && is_claim(handle) &&
           walrus_reader_size(handle->take.reader) == 0;
}

int take_fini(struct handle *handle)
{
    struct take *take = &handle->take;
    int r = walrus_reader_close(take->reader);

    take->reader = NULL;
    if (take->gate != NULL) {
        gate_unpoll(take->gate, &take->poller);
        gate_put(take->gate);
        take->gate = NULL;
    }
    free(take->skips);
    take->skips = NULL;
    return r;
}
