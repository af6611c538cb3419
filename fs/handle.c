/* SPDX-License-Identifier: MIT */
/*
 * handle.c - see handle.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "handle.h"
#include "reply.h"

/* Time between tries where there is no gate: from a millisecond to 32. */
#define RETRY_NS           500000ull
#define RETRY_DOUBLE_COUNT 6u
/* Such tries, with up to 32 ms between them, to let a close be finished. */
#define CLOSING_RETRY_COUNT 200u
/* So many open files that the memory they leave is worth a look. */
#define BURST_COUNT_MIN 256
/* How long a request for entries waits for the RELEASE of a producer that was flushed before it. */
#define CLOSING_WAIT_NS 50000000ull

int handle_create(struct mount *mount, fuse_req_t req, struct node *node, int flags,
                  struct handle **ret_handle)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);

    if (atomic_fetch_add(&mount->handle_count, 1) >= MOUNT_HANDLE_COUNT_MAX) {
        atomic_fetch_sub(&mount->handle_count, 1);
        return -EMFILE;
    }
    struct handle *handle = calloc(1, sizeof(*handle));
    int r = handle != NULL ? node_open(mount, node, who->pid) : -ENOMEM;
    if (r < 0) {
        atomic_fetch_sub(&mount->handle_count, 1);
        free(handle);
        return r;
    }
    serial_init(&handle->serial);
    list_init(&handle->closing_link);
    handle->mount = mount;
    handle->node = node;
    handle->kind = node_kind(node);
    handle->flags = flags;
    handle->uid = who->uid;
    handle->gid = who->gid;
    lock_acquire(mount->handles_lock);
    list_push_back(&mount->handles, &handle->link);
    burst_grow(&mount->handle_burst, atomic_load(&mount->handle_count));
    lock_release(mount->handles_lock);
    *ret_handle = handle;
    return 0;
}

void handle_destroy(struct handle *handle)
{
    struct mount *mount = handle->mount;

    lock_acquire(mount->handles_lock);
    list_remove(&handle->link);
    uint32_t count = atomic_fetch_sub(&mount->handle_count, 1) - 1;
    bool over = burst_is_over(&mount->handle_burst, count, BURST_COUNT_MIN);
    lock_release(mount->handles_lock);
    if (handle->node != NULL)
        node_close(mount, handle->node);
    walrus_topic_unref(atomic_load(&handle->made));
    serial_fini(&handle->serial);
    free(handle);
    if (over)
        memory_give_back();
}

static void closing_add_locked(struct handle *handle, uint64_t until_ns)
{
    struct mount *mount = handle->mount;

    if (list_empty(&handle->closing_link)) {
        handle->closing = mount->closing_next++;
        list_push_back(&mount->closings, &handle->closing_link);
        atomic_fetch_add(&mount->closing_count, 1);
    }
    handle->closing_until_ns = until_ns;
}

static void closing_remove_locked(struct handle *handle)
{
    if (list_empty(&handle->closing_link))
        return;
    list_remove(&handle->closing_link);
    atomic_fetch_sub(&handle->mount->closing_count, 1);
}

void handle_may_close(struct handle *handle)
{
    lock_acquire(handle->mount->handles_lock);
    closing_remove_locked(handle);
    closing_add_locked(handle, monotonic_ns() + CLOSING_WAIT_NS);
    lock_release(handle->mount->handles_lock);
}

void handle_begin_closing(struct handle *handle)
{
    lock_acquire(handle->mount->handles_lock);
    closing_add_locked(handle, UINT64_MAX); /* at the place of its FLUSH */
    lock_release(handle->mount->handles_lock);
}

void handle_end_closing(struct handle *handle)
{
    struct mount *mount = handle->mount;

    lock_acquire(mount->handles_lock); /* neighbours in the list change the link, too */
    closing_remove_locked(handle);
    lock_release(mount->handles_lock);
}

uint64_t closings_now(struct mount *mount)
{
    lock_acquire(mount->handles_lock);
    uint64_t number = mount->closing_next;
    lock_release(mount->handles_lock);
    return number;
}

bool closings_pending(struct mount *mount, uint64_t number, uint64_t topic_id)
{
    bool pending = false;

    if (!closings_any(mount))
        return false;
    uint64_t now = monotonic_ns();
    lock_acquire(mount->handles_lock);
    LIST_FOR_EACH(at, &mount->closings)
    {
        struct handle *handle = LIST_ENTRY(at, struct handle, closing_link);
        uint64_t topic = handle_key(handle)->topic_id; /* 0: not known when it was opened */
        if (handle->closing >= number)
            break;
        if (handle->closing_until_ns <= now)
            closing_remove_locked(handle);
        else if (topic_id == 0 || topic == 0 || topic == topic_id)
            pending = true;
    }
    lock_release(mount->handles_lock);
    return pending;
}

/*
 * Whether a page of the file may be waited for, which is locked while a READ of it is on the way:
 * the thread that is to answer that must not be the one that waits.  A file that is had alone has
 * no READ on the way before its OPEN was answered, nor after its last one.  Control files can be
 * opened once more through /proc/self/fd: then nobody raises the size, and pages are dropped on the
 * pool.  At the end of the mount nobody answers.  What entries/N holds is the same for everybody
 * and for ever, and its pages need not be dropped.
 */
static bool may_wait_for_pages(const struct handle *handle)
{
    return handle->kind != KIND_ENTRY && !atomic_load(&handle->mount->stopping);
}

/* Makes the kernel's idea of the file's size `size`, by storing the last byte.  The page that this
 * makes is dropped before it can be read: by the open that follows, and by nobody having a size
 * to read up to before. */
static void raise_size(struct handle *handle, uint64_t size)
{
    struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(1);
    char byte = 0;

    if (!may_wait_for_pages(handle))
        return;
    bytes.buf[0].mem = &byte;
    /* A failure leaves programs that use sendfile with an empty file, and others unharmed. */
    (void)fuse_lowlevel_notify_store(handle->mount->session, node_ino(handle->mount, handle->node),
                                     (off_t)(size - 1), &bytes, 0);
}

void handle_drop_cache(struct handle *handle)
{
    if (!atomic_load(&handle->cached) || !may_wait_for_pages(handle))
        return;
    (void)fuse_lowlevel_notify_inval_inode(handle->mount->session,
                                           node_ino(handle->mount, handle->node), 0, 0);
}

void handle_forget_size(struct handle *handle)
{
    (void)fuse_lowlevel_notify_inval_inode(handle->mount->session,
                                           node_ino(handle->mount, handle->node), -1, 0);
}

int handle_hold_size(struct handle *handle, fuse_req_t req, uint64_t size, bool must)
{
    bool raise = false, lower = false;
    int r = node_hold_size(handle->mount, handle->node, fuse_req_ctx(req)->pid, size, must, &raise,
                           &lower);
    if (r < 0) {
        handle->node = NULL; /* closed already */
        reply_error(req, r);
        return r;
    }
    if (raise) {
        raise_size(handle, size);
        node_raised(handle->mount, handle->node);
    } else if (lower) {
        handle_forget_size(handle);
    }
    return 0;
}

int handle_finish_open(struct handle *handle, fuse_req_t req, uint64_t size, bool must)
{
    int r = handle_hold_size(handle, req, size, must);
    return r < 0 ? r : reply_open(req, handle, handle->kind);
}

void handle_raise_size(struct handle *handle, uint64_t size)
{
    node_set_size(handle->mount, handle->node, size);
    if (size > 0)
        raise_size(handle, size);
}

struct request *request_create(struct mount *mount, fuse_req_t req, struct handle *handle,
                               struct node *node, size_t room)
{
    struct request *request = malloc(sizeof(*request) + room);
    if (request == NULL) {
        reply_error(req, -ENOMEM);
        return NULL;
    }
    *request = (struct request){.mount = mount, .req = req, .handle = handle};
    if (node != NULL)
        request->node = node_ref(mount, node);
    return request;
}

void request_destroy(struct request *request)
{
    if (request->node != NULL)
        node_unref(request->mount, request->node);
    if (request->new_dir != NULL)
        node_unref(request->mount, request->new_dir);
    free(request->name);
    free(request->new_name);
    free(request);
}

static void request_run(struct job *job)
{
    struct request *request = CONTAINER_OF(job, struct request, job);
    request->run(request);
}

void request_submit(struct request *request, void (*run)(struct request *request))
{
    request->run = run;
    request->job.run = request_run;
    pool_submit(request->mount->pool, &request->job);
}

void request_submit_to(struct request *request, struct serial *serial,
                       void (*run)(struct request *request))
{
    request->run = run;
    request->job.run = request_run;
    if (serial_enter(serial, &request->job) == 0)
        pool_submit(request->mount->pool, &request->job);
}

void request_submit_serial(struct request *request, void (*run)(struct request *request))
{
    request_submit_to(request, &request->handle->serial, run);
}

static void read_run(struct job *job)
{
    struct request *request = CONTAINER_OF(job, struct request, job);

    /* Waits for a callback that is running; from here on whoever runs sees an interrupt himself. */
    fuse_req_interrupt_func(request->req, NULL, NULL);
    request->run(request);
}

static void read_cancel(struct request *request)
{
    reply_error(request->req, -EINTR);
    request_destroy(request);
}

/* Under a lock of libfuse, as waiter_interrupt() in gate.c. */
static void read_interrupt(fuse_req_t req, void *arg)
{
    struct request *request = arg;

    (void)req;
    if (!serial_withdraw(&request->handle->serial, &request->job))
        return;
    request->run = read_cancel;
    pool_submit(request->mount->pool, &request->job);
}

void request_submit_read(struct request *request, void (*run)(struct request *request))
{
    request->run = run;
    request->job.run = read_run;
    fuse_req_interrupt_func(request->req, read_interrupt, request);
    int r = serial_enter(&request->handle->serial, &request->job);
    if (r == 0)
        pool_submit(request->mount->pool, &request->job);
    if (r >= 0)
        return;
    fuse_req_interrupt_func(request->req, NULL, NULL);
    read_cancel(request);
}

int request_retry(struct request *request, struct gate *gate, uint64_t seq,
                  void (*run)(struct request *request))
{
    if (atomic_load(&request->mount->stopping))
        return -ESHUTDOWN;
    if (fuse_req_interrupted(request->req))
        return -EINTR;
    request->run = run;
    request->job.run = request_run;
    request->retry_count++;
    if (gate != NULL)
        return gate_stall(gate, seq, &request->job);
    pool_submit_later(request->mount->pool, &request->job,
                      RETRY_NS << MIN(request->retry_count, RETRY_DOUBLE_COUNT));
    return 0;
}

bool request_retry_closing(struct request *request, void (*run)(struct request *request))
{
    return request->retry_count < CLOSING_RETRY_COUNT && request_retry(request, NULL, 0, run) == 0;
}

#define BUFFER_SMALL_SIZE 8192u
#define BUFFER_KEEP_SIZE  (132u * 1024) /* what cat(1) asks for, and a little */

struct buffer {
    size_t size;
    unsigned char data[];
};

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static int buffer_key_error;

static void buffer_make_key(void)
{
    buffer_key_error = pthread_key_create(&buffer_key, free);
}

void *thread_buffer(size_t size)
{
    if (pthread_once(&buffer_once, buffer_make_key) != 0 || buffer_key_error != 0)
        return NULL;
    struct buffer *buffer = pthread_getspecific(buffer_key);
    /* One that a single large read left behind goes when it is not needed. */
    bool keep = buffer != NULL && (buffer->size <= BUFFER_KEEP_SIZE || size > BUFFER_SMALL_SIZE);
    if (keep && buffer->size >= size)
        return buffer->data;
    /* Large ones at once, small ones not at all: most reads ask for 4 KiB, 128 KiB or 1 MiB. */
    size_t room = size <= BUFFER_SMALL_SIZE  ? BUFFER_SMALL_SIZE
                  : size <= BUFFER_KEEP_SIZE ? BUFFER_KEEP_SIZE
                                             : round_up(size, 65536);
    struct buffer *bigger = malloc(sizeof(*bigger) + room);
    if (bigger == NULL)
        return NULL;
    bigger->size = room;
    if (pthread_setspecific(buffer_key, bigger) != 0) {
        free(bigger);
        return NULL;
    }
    free(buffer);
    return bigger->data;
}
