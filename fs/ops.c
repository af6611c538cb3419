/* SPDX-License-Identifier: MIT */
/*
 * ops.c - the table of FUSE operations: checks what is asked, finds who is responsible, and leaves
 * the rest and the reply to him.
 *
 * These functions run on transport threads and never wait for a disk: what may do so becomes a
 * struct request on the pool.  What is not in the table at all has a reason: without getxattr,
 * fallocate, lseek, copy_file_range and ioctl the kernel answers itself, as it should.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "attr.h"
#include "dir.h"
#include "handle.h"
#include "log.h"
#include "ops.h"
#include "options.h"
#include "produce.h"
#include "reply.h"
#include "stream.h"
#include "take.h"
#include "text.h"

/* ---------------------------------------------------------------------------------- connection */

static void ops_init(void *arg, struct fuse_conn_info *conn)
{
    struct mount *mount = arg;

    /* ASYNC_DIO would cut one large write into pieces that arrive in any order; AUTO_INVAL_DATA and
     * the writeback cache would let the kernel believe in sizes of its own. */
    conn->want &=
        ~(unsigned)(FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_SPLICE_READ |
                    FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE |
                    FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                    FUSE_CAP_HANDLE_KILLPRIV);
    conn->want |= conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS |
                                   FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
    conn->max_write = MOUNT_REQUEST_SIZE_MAX;
    conn->max_background = 256; /* a close is one, too, and must not queue behind slow reads */
    /* A write of one page less than a request is never cut, however it lies in memory. */
    mount->append_size = conn->max_write - (size_t)sysconf(_SC_PAGESIZE);
}

/* ------------------------------------------------------------------------------------- the tree */

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(req);
    dir_look_up(mount, req, node_of(mount, parent), name);
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
    struct mount *mount = mount_of(req);
    node_forget(mount, node_of(mount, ino), count);
    reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct mount *mount = mount_of(req);
    for (size_t i = 0; i < count; i++)
        node_forget(mount, node_of(mount, forgets[i].ino), forgets[i].nlookup);
    reply_none(req);
}

static void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                        struct fuse_file_info *info)
{
    struct mount *mount = mount_of(req);
    dir_read(mount, req, node_of(mount, ino), size, (uint64_t)offset);
}

static void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct mount *mount = mount_of(req);
    dir_make(mount, req, node_of(mount, parent), name, mode);
}

static void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(req);
    dir_remove(mount, req, node_of(mount, parent), name);
}

static void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                       const char *new_name, unsigned flags)
{
    struct mount *mount = mount_of(req);
    dir_rename(mount, req, node_of(mount, parent), name, node_of(mount, new_parent), new_name,
               flags);
}

static void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    reply_error(req, -EPERM);
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    reply_error(req, -EPERM);
}

static void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    reply_error(req, -EPERM);
}

static void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
    reply_error(req, -EPERM);
}

static void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                       struct fuse_file_info *info)
{
    reply_error(req, strlen(name) > WALRUS_NAME_SIZE_MAX ? -ENAMETOOLONG : -EACCES);
}

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs stat;

    if (fstatvfs(walrus_dirfd(mount_of(req)->store), &stat) < 0) {
        reply_error(req, -errno);
        return;
    }
    stat.f_namemax = WALRUS_NAME_SIZE_MAX;
    reply_statfs(req, &stat);
}

/* ---------------------------------------------------------------------------------- attributes */

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(req);
    struct stat stat;

    int r = attr_get(mount, node_of(mount, ino), fuse_req_ctx(req)->pid, &stat);
    if (r < 0)
        reply_error(req, r);
    else
        reply_attr(req, &stat, S_ISDIR(stat.st_mode) ? REPLY_ATTR_TIMEOUT : 0);
}

static void setattr_request(struct request *request)
{
    struct mount *mount = request->mount;
    struct stat stat;

    int r = attr_set(mount, request->node, &request->stat, request->to_set);
    if (r == 0)
        r = attr_get(mount, request->node, fuse_req_ctx(request->req)->pid, &stat);
    if (r < 0)
        reply_error(request->req, r);
    else
        reply_attr(request->req, &stat, 0);
    request_destroy(request);
    serial_leave(mount->changes, mount->pool);
}

static void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *stat, int to_set,
                        struct fuse_file_info *info)
{
    struct mount *mount = mount_of(req);
    struct node *node = node_of(mount, ino);

    if ((to_set & FUSE_SET_ATTR_SIZE) != 0 && stat->st_size != 0) {
        reply_error(req, -EINVAL);
        return;
    }
    if ((to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) == 0) {
        ops_getattr(req, ino, info); /* sizes and times stay as they are */
        return;
    }
    struct request *request = request_create(mount, req, NULL, node, 0);
    if (request == NULL)
        return;
    request->stat = *stat;
    request->to_set = to_set;
    request_submit_to(request, mount->changes, setattr_request);
}

/* --------------------------------------------------------------------------------------- opening
 */

/* Tries before an open of a file that another open has, some 30 ms in all: RELEASE comes after
 * close(2) has returned. */
#define BUSY_RETRY_COUNT 5

static bool may_open(const struct place_key *key, int flags)
{
    if ((flags & O_ACCMODE) == O_RDONLY)
        return true;
    switch (key->kind) {
    case KIND_APPEND:
    case KIND_LINES:
    case KIND_BLOB:
    case KIND_OFFSET:
    case KIND_RETENTION:
    case KIND_LIMIT:
        return true;
    case KIND_BATCH:
        return !key->in_group;
    default: /* root passes any mode */
        return false;
    }
}

static void text_open(struct handle *handle, fuse_req_t req)
{
    struct text *text = &handle->text;
    bool reads = (handle->flags & O_ACCMODE) != O_WRONLY;
    int r = 0;

    if (reads)
        r = text_render(handle->mount, handle_key(handle), &text->text, &text->size);
    if (r < 0)
        reply_error(req, r);
    if (r < 0 || handle_finish_open(handle, req, text->size, !reads) < 0) {
        free(text->text);
        handle_destroy(handle);
    }
}

/* Opens the file.  -EBUSY: somebody has it open, who may be closing it; nothing was answered. */
static int open_now(struct mount *mount, fuse_req_t req, struct node *node, int flags)
{
    struct handle *handle;
    enum kind kind = node_kind(node);

    int r = handle_create(mount, req, node, flags, &handle);
    if (r == -EBUSY)
        return r;
    if (r < 0)
        reply_error(req, r);
    else if (kind == KIND_FOLLOW || kind == KIND_BATCH)
        stream_open(handle, req);
    else if (kind_is(kind, KIND_PRODUCES))
        produce_open(handle, req);
    else if (kind_is(kind, KIND_IS_TEXT))
        text_open(handle, req);
    else
        take_open(handle, req);
    return 0;
}

static void open_request(struct request *request)
{
    if (closings_pending(request->mount, request->offset, request->node->place->key.topic_id) &&
        request_retry_closing(request, open_request))
        return;
    int r = open_now(request->mount, request->req, request->node, request->flags);
    if (r == -EBUSY && request->retry_count < BUSY_RETRY_COUNT &&
        request_retry(request, NULL, 0, open_request) == 0)
        return;
    if (r < 0)
        reply_error(request->req, r);
    request_destroy(request);
}

static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(req);
    struct node *node = node_of(mount, ino);
    const struct place_key *key = &node->place->key;

    if (!may_open(key, info->flags)) {
        reply_error(req, -EACCES);
        return;
    }
    if (kind_is(key->kind, KIND_CONSUMES) && !kind_is(key->kind, KIND_PRODUCES) &&
        key->group == NULL) {
        reply_error(req, -ENXIO);
        return;
    }
    bool slow = key->kind == KIND_METRICS || key->kind == KIND_ERRORS;
    bool after = closings_any(mount) &&
                 (!kind_is(key->kind, KIND_PRODUCES) || kind_is(key->kind, KIND_CONSUMES));
    if (!slow && !after && open_now(mount, req, node, info->flags) == 0)
        return;
    struct request *request = request_create(mount, req, NULL, node, 0);
    if (request == NULL)
        return;
    request->flags = info->flags;
    request->offset = closings_now(mount);
    request_submit(request, open_request);
}

/* ------------------------------------------------------------------------------ reading, writing
 */

static void text_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset)
{
    const struct text *text = &handle->text;
    size_t from = (size_t)MIN(offset, text->size);
    size_t count = MIN(size, text->size - from);
    /* A copy, since the handle may be closed before the reply has returned here. */
    char *buffer = thread_buffer(count);

    if (buffer == NULL) {
        reply_error(req, -ENOMEM);
        return;
    }
    if (count > 0)
        memcpy(buffer, text->text + from, count);
    int r = reply_data(req, buffer, count);
    (void)r;
}

static void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
                     struct fuse_file_info *info)
{
    struct handle *handle = handle_of(info);

    if (info->lock_owner == 0) /* read(2) sends one, the page cache does not */
        atomic_store_explicit(&handle->cached, true, memory_order_relaxed);
    switch (handle->kind) {
    case KIND_NEXT:
    case KIND_WAIT:
    case KIND_DRAIN:
    case KIND_PEEK:
    case KIND_ENTRY:
        take_read(handle, req, size, (uint64_t)offset, info->flags);
        return;
    case KIND_FOLLOW:
    case KIND_BATCH:
        stream_read(handle, req, size, (uint64_t)offset, info->flags);
        return;
    default:
        if (kind_is(handle->kind, KIND_IS_TEXT)) {
            text_read(handle, req, size, (uint64_t)offset);
        } else {
            int r = reply_data(req, "", 0); /* a producer */
            (void)r;
        }
    }
}

static void text_write_request(struct request *request)
{
    int r = text_store(handle_key(request->handle), (const char *)request->data, request->size);
    if (r < 0)
        reply_error(request->req, r);
    else
        reply_written(request->req, request->size);
    request_destroy(request);
}

static void ops_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset,
                      struct fuse_file_info *info)
{
    struct handle *handle = handle_of(info);

    if (kind_is(handle->kind, KIND_PRODUCES)) {
        produce_write(handle, req, data, size, (uint64_t)offset, info->flags);
        return;
    }
    if (size > 4096) {
        reply_error(req, -EINVAL);
        return;
    }
    struct request *request = request_create(handle->mount, req, handle, NULL, size);
    if (request == NULL)
        return;
    memcpy(request->data, data, size);
    request->size = size;
    request_submit(request, text_write_request);
}

static unsigned poll_events(struct handle *handle, struct fuse_pollhandle *poll)
{
    struct take *take = &handle->take;
    unsigned always = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;

    if (!kind_is(handle->kind, KIND_MAY_PARK) || take->gate == NULL) {
        if (poll != NULL)
            fuse_pollhandle_destroy(poll);
        return always;
    }
    unsigned out = handle->kind == KIND_BATCH && (handle->flags & O_ACCMODE) != O_RDONLY
                       ? POLLOUT | POLLWRNORM
                       : 0;
    bool ready = gate_poll(take->gate, &take->poller, poll) ||
                 (handle->kind == KIND_WAIT && !atomic_load(&take->late)) || take->in_hand;
    return ready ? POLLIN | POLLRDNORM | out : out;
}

static void ops_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info,
                     struct fuse_pollhandle *poll)
{
    unsigned events = poll_events(handle_of(info), poll);
    reply_poll(req, events);
}

/* ------------------------------------------------------------------------------ syncing, closing
 */

static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct handle *handle = handle_of(info);

    if (handle->kind == KIND_BLOB || handle->kind == KIND_LINES)
        produce_flush(handle, req);
    else
        reply_error(req, 0);
}

static int sync_node(struct mount *mount, const struct place_key *key)
{
    if (key->topic == NULL)
        return walrus_sync(mount->store);
    int r = walrus_topic_sync(key->topic);
    if (r == 0 && key->group != NULL && kind_is(key->kind, KIND_CONSUMES | KIND_IS_TEXT))
        r = walrus_group_sync(key->group);
    return r;
}

static void sync_request(struct request *request)
{
    reply_error(request->req, sync_node(request->mount, &request->node->place->key));
    request_destroy(request);
}

static void ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(req);
    struct request *request = request_create(mount, req, NULL, node_of(mount, ino), 0);
    if (request != NULL)
        request_submit(request, sync_request);
}

static bool is_producer(const struct handle *handle)
{
    return kind_is(handle->kind, KIND_PRODUCES) && handle->kind != KIND_BATCH;
}

static void ops_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
    struct handle *handle = handle_of(info);

    if (is_producer(handle))
        produce_fsync(handle, req);
    else
        ops_fsyncdir(req, ino, data_only, info);
}

void ops_close_handle(struct handle *handle, bool ended)
{
    int r = 0;

    handle_drop_cache(handle);
    if (is_producer(handle))
        r = produce_fini(handle, ended);
    else if (kind_is(handle->kind, KIND_IS_TEXT))
        free(handle->text.text);
    else
        r = take_fini(handle);
    (void)r; /* it was reported, and close(2) has returned */
    handle_end_closing(handle);
    handle_destroy(handle);
}

static bool close_blocks(const struct handle *handle)
{
    if (kind_is(handle->kind, KIND_IS_TEXT))
        return atomic_load(&handle->cached); /* see handle_drop_cache() */
    if (kind_is(handle->kind, KIND_STREAM))
        return false;
    if (kind_is(handle->kind, KIND_PRODUCES))
        return produce_close_blocks(handle);
    return take_close_blocks(handle);
}

static void release_job(struct job *job)
{
    struct handle *handle = CONTAINER_OF(job, struct handle, close_job);
    fuse_req_t req = handle->close_req;

    ops_close_handle(handle, true);
    reply_error(req, 0);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct handle *handle = handle_of(info);
    struct mount *mount = handle->mount;

    if (is_producer(handle))
        handle_begin_closing(handle);
    /* A handle whose serial is taken has a read or a job to finish first. */
    bool owned = serial_try(&handle->serial);
    if (owned && !close_blocks(handle)) {
        ops_close_handle(handle, true);
        reply_error(req, 0);
        return;
    }
    handle->close_req = req;
    handle->close_job.run = release_job;
    if (owned || serial_enter(&handle->serial, &handle->close_job) == 0)
        pool_submit(mount->pool, &handle->close_job);
}

/* --------------------------------------------------------------------------------------- locks */

/* Nodes are per open, so the kernel's own locks would not exclude anybody: better none. */
static void ops_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info,
                      struct flock *lock)
{
    reply_error(req, -ENOLCK);
}

static void ops_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info,
                      struct flock *lock, int sleep)
{
    reply_error(req, lock->l_type == F_UNLCK ? 0 : -ENOLCK);
}

static void ops_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info, int op)
{
    reply_error(req, (op & LOCK_UN) != 0 ? 0 : -ENOLCK);
}

const struct fuse_lowlevel_ops ops_table = {
    .init = ops_init,
    .lookup = ops_lookup,
    .forget = ops_forget,
    .forget_multi = ops_forget_multi,
    .getattr = ops_getattr,
    .setattr = ops_setattr,
    .readdir = ops_readdir,
    .mkdir = ops_mkdir,
    .rmdir = ops_rmdir,
    .rename = ops_rename,
    .unlink = ops_unlink,
    .link = ops_link,
    .symlink = ops_symlink,
    .mknod = ops_mknod,
    .create = ops_create,
    .statfs = ops_statfs,
    .open = ops_open,
    .read = ops_read,
    .write = ops_write,
    .poll = ops_poll,
    .flush = ops_flush,
    .fsync = ops_fsync,
    .fsyncdir = ops_fsyncdir,
    .release = ops_release,
    .getlk = ops_getlk,
    .setlk = ops_setlk,
    .flock = ops_flock,
};
