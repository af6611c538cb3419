/* SPDX-License-Identifier: MIT */
/*
 * reply.c - see reply.h.
 */
#include <errno.h>
#include <linux/fuse.h>

#include "reply.h"
#include "sync.h"
#include "transport_uring.h"

static void assert_no_lock(void)
{
    WALRUS_ASSERT(lock_held_count(LOCK_FS_NODES) == 0);
}

/* What a program sees for the engine's result. */
static int visible_error(int error)
{
    switch (error) {
    case -EBADMSG:         /* damaged: the log and .walrusfs/errors say more */
    case -EPROTONOSUPPORT: /* cannot arise once the store is open */
        return EIO;
    default:
        return error < 0 ? -error : error == 0 ? 0 : EIO;
    }
}

void reply_error(fuse_req_t req, int error)
{
    assert_no_lock();
    (void)fuse_reply_err(req, visible_error(error)); /* an aborted request needs no answer */
}

void reply_none(fuse_req_t req)
{
    assert_no_lock();
    fuse_reply_none(req);
}

int reply_entry(fuse_req_t req, fuse_ino_t ino, const struct stat *attr, double entry_timeout,
                double attr_timeout)
{
    struct fuse_entry_param entry = {
        .ino = ino,
        .generation = 1,
        .attr = *attr,
        .attr_timeout = attr_timeout,
        .entry_timeout = entry_timeout,
    };
    assert_no_lock();
    return fuse_reply_entry(req, &entry);
}

void reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
    assert_no_lock();
    (void)fuse_reply_attr(req, attr, timeout);
}

int reply_open(fuse_req_t req, const void *handle, enum kind kind)
{
    /* libfuse 3.14 has no field for FOPEN_STREAM, so the answer is laid out here.  FOPEN_NOFLUSH
     * spares a request for each close(2); blob and lines do something at FLUSH. */
    struct fuse_open_out out = {
        .fh = (uint64_t)(uintptr_t)handle,
        .open_flags = FOPEN_DIRECT_IO,
    };
    if (kind != KIND_BLOB && kind != KIND_LINES)
        out.open_flags |= FOPEN_NOFLUSH;
    if (kind_is(kind, KIND_STREAM))
        out.open_flags |= FOPEN_STREAM;
    assert_no_lock();
    return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

void reply_written(fuse_req_t req, size_t size)
{
    assert_no_lock();
    (void)fuse_reply_write(req, size);
}

int reply_data(fuse_req_t req, const void *data, size_t size)
{
    assert_no_lock();
    return fuse_reply_buf(req, data, size);
}

int reply_data_arrived(fuse_req_t req, const void *data, size_t size)
{
    int r = reply_data(req, data, size);
    if (r == 0)
        uring_reply_arrive();
    return r;
}

void reply_statfs(fuse_req_t req, const struct statvfs *stat)
{
    assert_no_lock();
    (void)fuse_reply_statfs(req, stat);
}

void reply_poll(fuse_req_t req, unsigned events)
{
    assert_no_lock();
    (void)fuse_reply_poll(req, events);
}
