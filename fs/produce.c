/* SPDX-License-Identifier: MIT */
/*
 * produce.c - see produce.h: `append`, the writing of `batch`, and what all producers share.
 *
 * A write that need not be durable is done on the transport thread, from the buffer that the kernel
 * filled.  One that must be durable before it returns is copied and done on the pool, so that many
 * of them meet in the library and share a flush.
 *
 * The offset of a write says nothing: it is what the kernel believes the file's size to be.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "log.h"
#include "options.h"
#include "produce.h"
#include "record.h"
#include "reply.h"

static bool is_serial(const struct handle *handle)
{
    return handle->kind == KIND_LINES || handle->kind == KIND_BLOB;
}

static bool must_sync(const struct handle *handle, int flags)
{
    return flags_sync(flags) || walrus_fsync_each(handle->mount->store);
}

struct walrus_topic *produce_known_topic(const struct handle *handle)
{
    struct walrus_topic *topic = handle_key(handle)->topic;
    return topic != NULL ? topic : atomic_load(&handle->made);
}

static int make_topic(const struct handle *handle, struct walrus_topic **ret_topic)
{
    struct walrus *store = handle->mount->store;
    const char *name = handle_key(handle)->name;
    unsigned char topic_attr[WALRUS_ATTR_SIZE], group_attr[WALRUS_ATTR_SIZE];

    int r = walrus_topic_find(store, name, ret_topic);
    if (r != -ENOENT)
        return r;
    const struct place_key root = {.kind = KIND_ROOT};
    gid_t gid = handle->gid;
    mode_t mode = 0755;
    attr_inherit(handle->mount, &root, &gid, &mode);
    attr_init_topic(topic_attr, handle->uid, gid, mode);
    attr_init_group(group_attr, handle->uid, gid, mode);
    r = walrus_topic_create(store, name, topic_attr, group_attr, ret_topic);
    return r == -EEXIST ? walrus_topic_find(store, name, ret_topic) : r;
}

int produce_topic(struct handle *handle, struct walrus_topic **ret_topic)
{
    struct walrus_topic *topic = produce_known_topic(handle), *none = NULL;

    if (topic == NULL) {
        int r = make_topic(handle, &topic);
        if (r < 0)
            return r;
        /* From now on this one, whatever its name becomes, and also when it is removed. */
        if (!atomic_compare_exchange_strong(&handle->made, &none, topic)) {
            walrus_topic_unref(topic);
            topic = none;
        }
    }
    *ret_topic = walrus_topic_ref(topic);
    return 0;
}

void produce_open(struct handle *handle, fuse_req_t req)
{
    const struct place_key *key = handle_key(handle);
    bool writes = (handle->flags & O_ACCMODE) != O_RDONLY;
    int r = 0;

    if (writes && key->topic == NULL && !attr_may_write_root(handle->mount, req))
        r = -EACCES;
    if (r == 0 && handle->kind == KIND_BLOB)
        blob_open(handle, fuse_req_ctx(req)->pid);
    if (r < 0)
        reply_error(req, r);
    if (r < 0 || handle_finish_open(handle, req, 0, true) < 0)
        handle_destroy(handle);
}

/* ------------------------------------------------------------------------------------- writing */

static int append_write(struct handle *handle, const char *data, size_t size, bool durable)
{
    struct walrus_append_options options = {.durable = durable};
    struct iovec entry = {(void *)(uintptr_t)data, size};
    struct walrus_topic *topic;

    int r = produce_topic(handle, &topic);
    if (r < 0)
        return r;
    r = walrus_topic_append(topic, &entry, 1, &options, NULL);
    walrus_topic_unref(topic);
    return r;
}

static int batch_write(struct handle *handle, const char *data, size_t size, bool durable)
{
    struct walrus_append_options options = {.durable = durable};
    struct walrus_topic *topic = NULL;
    struct iovec *entries;
    uint64_t *times;
    size_t count;

    int r = record_parse((const unsigned char *)data, size, &entries, &times, &count);
    if (r < 0) /* the kernel cuts large writes, so that a piece is no whole record */
        return r == -EINVAL && size > handle->mount->append_size ? -EMSGSIZE : r;
    if (size > handle->mount->append_size && count > 1)
        r = -EMSGSIZE;
    if (r == 0)
        r = produce_topic(handle, &topic);
    if (r == 0) {
        options.time_ns = times;
        r = walrus_topic_append(topic, entries, count, &options, NULL);
        walrus_topic_unref(topic);
    }
    free(entries);
    free(times);
    return r;
}

/* Does the write; on the pool when it is durable.  The caller replies. */
static int write_now(struct handle *handle, const char *data, size_t size, uint64_t offset,
                     bool durable)
{
    int r;

    if (is_serial(handle) && handle->may_close) { /* it was not the last close */
        handle->may_close = false;
        handle_end_closing(handle);
    }
    switch (handle->kind) {
    case KIND_APPEND:
        r = append_write(handle, data, size, durable);
        break;
    case KIND_BATCH:
        r = batch_write(handle, data, size, durable);
        break;
    case KIND_LINES:
        r = lines_write(handle, data, size, durable);
        break;
    default:
        r = blob_write(handle, data, size, offset, durable); /* that is, at its commit */
        break;
    }
    if (r == 0)
        attr_touch_dir(handle->mount, handle->node);
    return r;
}

static void write_reply(fuse_req_t req, int result, size_t size)
{
    if (result < 0)
        reply_error(req, result);
    else
        reply_written(req, size);
}

static void write_request(struct request *request)
{
    struct handle *handle = request->handle;
    struct mount *mount = request->mount;
    bool serial = is_serial(handle);

    int r = write_now(handle, (const char *)request->data, request->size, request->offset,
                      must_sync(handle, request->flags));
    write_reply(request->req, r, request->size);
    if (serial) /* else the handle may be gone */
        serial_leave(&handle->serial, mount->pool);
    request_destroy(request);
}

/* Errors that need no work. */
static int write_check(struct handle *handle, size_t size)
{
    if (handle->kind == KIND_APPEND && size > handle->mount->append_size)
        return -EMSGSIZE;
    if (handle->kind == KIND_BATCH && handle_key(handle)->in_group)
        return -EACCES;
    return 0;
}

void produce_write(struct handle *handle, fuse_req_t req, const char *data, size_t size,
                   uint64_t offset, int flags)
{
    bool serial = is_serial(handle);
    int r = write_check(handle, size);
    if (r < 0) {
        reply_error(req, r);
        return;
    }
    /* What makes its topic waits for the disk, too. */
    bool durable = must_sync(handle, flags);
    bool blocks = (durable && handle->kind != KIND_BLOB) || produce_known_topic(handle) == NULL;
    if (!blocks && (!serial || serial_try(&handle->serial))) {
        struct mount *mount = handle->mount;
        r = write_now(handle, data, size, offset, durable);
        write_reply(req, r, size);
        if (serial)
            serial_leave(&handle->serial, mount->pool);
        return;
    }
    struct request *request = request_create(handle->mount, req, handle, NULL, size);
    if (request == NULL)
        return;
    memcpy(request->data, data, size);
    request->size = size;
    request->offset = offset;
    request->flags = flags;
    if (serial)
        request_submit_serial(request, write_request);
    else
        request_submit(request, write_request);
}

/* ------------------------------------------------------------------------------ flush and sync */

/* Before the reply to FLUSH: what is held becomes an entry soon if that was the last close. */
static void announce_close(struct handle *handle)
{
    if (!produce_close_blocks(handle))
        return;
    handle->may_close = true;
    handle_may_close(handle);
}

static void flush_request(struct request *request)
{
    struct handle *handle = request->handle;
    int r = 0;

    if (handle->kind == KIND_BLOB)
        r = blob_flush(handle, request->flags, must_sync(handle, handle->flags));
    announce_close(handle);
    reply_error(request->req, r);
    serial_leave(&handle->serial, request->mount->pool);
    request_destroy(request);
}

void produce_flush(struct handle *handle, fuse_req_t req)
{
    if (handle->kind == KIND_LINES && serial_try(&handle->serial)) {
        struct mount *mount = handle->mount;
        announce_close(handle);
        reply_error(req, 0);
        serial_leave(&handle->serial, mount->pool);
        return;
    }
    struct request *request = request_create(handle->mount, req, handle, NULL, 0);
    if (request == NULL)
        return;
    request->flags = fuse_req_ctx(req)->pid;
    request_submit_serial(request, flush_request);
}

static int sync_now(struct handle *handle)
{
    struct walrus_topic *topic;
    int r = 0;

    if (handle->kind == KIND_LINES)
        r = lines_commit(handle, false);
    else if (handle->kind == KIND_BLOB)
        r = blob_commit(handle, false);
    if (r < 0)
        return r;
    topic = produce_known_topic(handle);
    if (topic != NULL)
        return walrus_topic_sync(topic);
    r = walrus_topic_find(handle->mount->store, handle_key(handle)->name, &topic);
    if (r == -ENOENT)
        return 0; /* nothing was written yet */
    if (r == 0) {
        r = walrus_topic_sync(topic);
        walrus_topic_unref(topic);
    }
    return r;
}

static void fsync_request(struct request *request)
{
    struct handle *handle = request->handle;
    struct mount *mount = request->mount;
    bool serial = is_serial(handle);

    int r = sync_now(handle);
    reply_error(request->req, r);
    if (serial)
        serial_leave(&handle->serial, mount->pool);
    request_destroy(request);
}

void produce_fsync(struct handle *handle, fuse_req_t req)
{
    struct request *request = request_create(handle->mount, req, handle, NULL, 0);
    if (request == NULL)
        return;
    if (is_serial(handle))
        request_submit_serial(request, fsync_request);
    else
        request_submit(request, fsync_request);
}

bool produce_close_blocks(const struct handle *handle)
{
    return (handle->kind == KIND_LINES && handle->lines.rest_size > 0) ||
           (handle->kind == KIND_BLOB && handle->blob.blob != NULL);
}

int produce_fini(struct handle *handle, bool ended)
{
    bool durable = must_sync(handle, handle->flags);
    int r = 0;

    if (handle->kind == KIND_LINES) {
        size_t size = handle->lines.rest_size;
        r = lines_commit(handle, durable);
        if (r < 0)
            log_write(WALRUS_ERROR, -r, NULL,
                      "the last %zu bytes of a line that was not ended could not be stored", size);
        lines_fini(handle);
    } else if (handle->kind == KIND_BLOB) {
        /* The end of the daemon closes what its writer did not: half a blob is no entry. */
        if (ended)
            r = blob_commit(handle, durable);
        if (r < 0)
            log_write(WALRUS_ERROR, -r, NULL, "a blob could not be stored when it was closed");
        blob_fini(handle);
    }
    return r;
}
