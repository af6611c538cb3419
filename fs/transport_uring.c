/* SPDX-License-Identifier: MIT */
/*
 * transport_uring.c - see transport.h: FUSE over io_uring, for kernels that have it (6.14 and later)
 * when the administrator has turned it on.
 *
 * The kernel has a queue for each possible core and puts a request into the one of its client's.  A
 * queue has entries, each with a place for a request's header and one for its data; an entry is
 * registered once, then a reply and the wish for the next request are one submission.  A thread
 * pinned to each core that the process may use serves the queue of that core, and the queues of the
 * cores that it may not use are shared out.
 *
 * The header of a request and its data come to different places, and libfuse wants them in one piece,
 * as if read from /dev/fuse: so the header is copied to the place straight before the data; or both,
 * when there is little data, to a place that the thread has for all its requests, which is warm and
 * leaves alone a page of the entry.  The unique number in that copy is our own: it names the entry,
 * and a reply, which libfuse hands to reply_writev(), finds it without a table or a lock.
 *
 * A request that waits keeps its entry, and a queue without free ones takes no request at all.  So
 * whenever a request is left unanswered and fewer than FREE_COUNT_MIN entries are free, more are
 * registered.  They stay: the kernel uses the last one freed first, and the others take a page or two.
 *
 * Only a queue's own thread may submit for it, because the kernel copies requests in the context of
 * the thread that did.  A reply from elsewhere is put into the entry and handed over with an eventfd,
 * and so are INTERRUPTs, which come through /dev/fuse (as FORGETs do): the thread of the queue has
 * surely seen a request once it has looked at all completions that were there before its interrupt.
 *
 * A reply that is in an entry is on its way only when it was submitted, and a daemon that is killed
 * before has not given it.  What counts as consumed by its delivery waits for that:
 * uring_reply_arrive().
 *
 * After uring_stop() requests are left lying, and end with the connection; replies go out until
 * uring_close().  A reply to a connection that is over fails with ENOENT, as a write to /dev/fuse
 * does; but the kernel tells us late, so one that crosses an abort on its way counts as delivered.
 */
#include <assert.h>
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "log.h"
#include "mount.h"
#include "ring.h"
#include "trace.h"
#include "transport_uring.h"

#define SLAB_ENTRY_COUNT 32u
#define SLAB_COUNT_MAX   (MOUNT_HANDLE_COUNT_MAX / SLAB_ENTRY_COUNT)
#define DEPTH            8u /* entries that a queue begins with; measured: more gain nothing */
#define FREE_COUNT_MIN   4u
#define SMALL_SIZE       4096u /* of data that is copied */
#define SUBMISSION_COUNT 64u
#define GAP_SIZE         4096u /* before each entry's data */
#define STACK_SIZE       (256u * 1024)

/* The numbers that libfuse sees: 24 bits for the entry, above the lower bits of the kernel's.  Bit 0
 * stays: it is set in those of INTERRUPTs.  Below 1 << UNIQUE_BITS: read from /dev/fuse. */
#define UNIQUE_BITS 40u
#define UNIQUE_MASK ((UINT64_C(1) << UNIQUE_BITS) - 1)
#define SLOT_BITS   17u
/* Their numbers count from 1, so that no entry's name is 0; more cores share threads. */
#define THREAD_COUNT_MAX ((1u << (64u - UNIQUE_BITS - SLOT_BITS)) - 1)

/* What the kernel wants, as its interface (7.42) has it; <linux/fuse.h> may be older. */
#define URING_FLAG2    (1u << 9) /* FUSE_OVER_IO_URING is bit 41 of the flags of INIT */
#define URING_REGISTER 1u
#define URING_COMMIT   2u

struct uring_header {
    uint8_t in_out[128]; /* struct fuse_in_header, or struct fuse_out_header in a reply */
    uint8_t op_in[128];  /* the operation's own header */
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_size;
    uint32_t padding;
    uint64_t reserved;
};

struct uring_command { /* in the second half of a submission */
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue_id;
    uint8_t padding[6];
};

static_assert(MOUNT_HANDLE_COUNT_MAX <= 1u << SLOT_BITS, "every entry of a thread has a name");
static_assert(sizeof(struct uring_header) == 288, "the kernel's struct fuse_uring_req_header");
static_assert(sizeof(struct uring_command) == 24, "the kernel's struct fuse_uring_cmd_req");

struct uring_queue {
    struct uring_thread *thread;
    uint16_t id;
    unsigned entry_count; /* registered */
    unsigned busy_count;  /* of them: a request is being handled */
};

/* Something for a queue's thread from another one. */
struct uring_message {
    struct uring_message *next;
    struct uring_entry *entry; /* with a reply; or NULL */
    sem_t *arrived;            /* to be posted when all replies were submitted; or NULL */
    /* Neither: an INTERRUPT follows this struct. */
};

struct uring_interrupt {
    struct uring_message message;
    struct fuse_in_header head;
    struct fuse_interrupt_in body;
};

struct uring_entry {
    struct uring_queue *queue;
    uint64_t unique; /* the kernel's, of the request in here; 0: none */
    uint64_t name;   /* what stands above UNIQUE_BITS for this entry */
    struct uring_message message;
    struct iovec parts[2]; /* the header below, and the data */
    uint8_t *data;         /* GAP_SIZE bytes before it are free */
    struct uring_header header;
};

struct uring_slab {
    void *map; /* of all data */
    struct uring_entry entries[SLAB_ENTRY_COUNT];
};

struct uring_thread {
    struct uring *uring;
    unsigned idx;
    int core; /* -1: any */
    pthread_t thread;
    bool started;
    struct ring ring;
    int event; /* eventfd: `messages`, or a flag of struct uring */
    uint64_t event_count;
    bool registered, warned, told_stop;
    struct uring_message *interrupts; /* to be looked at when all completions were */
    unsigned entry_count;             /* in slabs */
    struct uring_slab *slabs[SLAB_COUNT_MAX];
    _Alignas(8) uint8_t request[sizeof(struct fuse_in_header) + 128 + SMALL_SIZE];
    _Atomic(struct uring_message *) messages;
};

struct uring {
    struct fuse_session *fuse;
    size_t data_size; /* of an entry */
    bool init_open;   /* INIT is being answered */
    atomic_bool go;   /* entries may be registered */
    atomic_bool stopping, ending;
    atomic_bool over; /* the kernel said so */
    sem_t stopped;    /* counts the threads that know of `stopping` */
    unsigned thread_count, queue_count;
    struct uring_thread **threads;
    struct uring_queue *queues;
};

/* libfuse does not say for which session a reply is; a process has one transport. */
static struct uring *the_uring;
static _Thread_local struct uring_thread *this_thread;
/* Whose entry has the reply that this thread gave last. */
static _Thread_local struct uring_thread *last_replied;

/* -------------------------------------------------------------------------------------- entries */

/* Of an entry's data, with the gap before it. */
static size_t data_stride(const struct uring *uring)
{
    return GAP_SIZE + uring->data_size;
}

static struct uring_entry *entry_at(const struct uring_thread *thread, unsigned slot)
{
    return &thread->slabs[slot / SLAB_ENTRY_COUNT]->entries[slot % SLAB_ENTRY_COUNT];
}

static struct io_uring_sqe *next_sqe(struct uring_thread *thread)
{
    struct io_uring_sqe *sqe;
    while ((sqe = ring_next_sqe(&thread->ring)) == NULL)
        ring_enter(&thread->ring, 0);
    return sqe;
}

static void submit(struct uring_entry *entry, unsigned operation)
{
    struct uring_thread *thread = entry->queue->thread;
    struct io_uring_sqe *sqe = next_sqe(thread);
    struct uring_command command = {.commit_id = entry->unique, .queue_id = entry->queue->id};

    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fuse_session_fd(thread->uring->fuse);
    sqe->cmd_op = operation;
    sqe->user_data = (uintptr_t)entry;
    if (operation == URING_REGISTER) {
        sqe->addr = (uintptr_t)entry->parts;
        sqe->len = ARRAY_COUNT(entry->parts);
    }
    memcpy(sqe->cmd, &command, sizeof(command));
}

static int add_slab(struct uring_thread *thread)
{
    unsigned idx = thread->entry_count / SLAB_ENTRY_COUNT;
    struct uring_slab *slab;

    if (idx == SLAB_COUNT_MAX)
        return -ENOMEM;
    slab = calloc(1, sizeof(*slab));
    if (slab == NULL)
        return -ENOMEM;
    slab->map = mmap(NULL, SLAB_ENTRY_COUNT * data_stride(thread->uring), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slab->map == MAP_FAILED) {
        free(slab);
        return -ENOMEM;
    }
    thread->slabs[idx] = slab;
    return 0;
}

/* Registers one more entry with the queue.  -ENOMEM: none can be had. */
static int add_entry(struct uring_queue *queue)
{
    struct uring_thread *thread = queue->thread;
    unsigned slot = thread->entry_count, place = slot % SLAB_ENTRY_COUNT;

    if (place == 0 && add_slab(thread) < 0)
        return -ENOMEM;
    struct uring_entry *entry = entry_at(thread, slot);
    entry->queue = queue;
    entry->name = ((uint64_t)(thread->idx + 1) << SLOT_BITS | slot) << UNIQUE_BITS;
    entry->data = (uint8_t *)thread->slabs[slot / SLAB_ENTRY_COUNT]->map +
                  place * data_stride(thread->uring) + GAP_SIZE;
    entry->parts[0] = (struct iovec){&entry->header, sizeof(entry->header)};
    entry->parts[1] = (struct iovec){entry->data, thread->uring->data_size};
    entry->message.entry = entry;
    thread->entry_count++;
    queue->entry_count++;
    submit(entry, URING_REGISTER);
    return 0;
}

static void keep_some_free(struct uring_queue *queue)
{
    struct uring_thread *thread = queue->thread;

    while (queue->entry_count - queue->busy_count < FREE_COUNT_MIN) {
        if (add_entry(queue) == 0)
            continue;
        if (!thread->warned)
            log_write(WALRUS_WARNING, 0, NULL,
                      "no memory for more requests at a time: those that wait keep others waiting");
        thread->warned = true;
        return;
    }
}

/* -------------------------------------------------------------------------------------- replies */

static void commit(struct uring_entry *entry)
{
    submit(entry, URING_COMMIT);
    entry->unique = 0;
    entry->queue->busy_count--;
}

static void wake(struct uring_thread *thread)
{
    uint64_t one = 1;
    ssize_t n = write(thread->event, &one, sizeof(one));
    (void)n; /* full means that it is awake */
}

static void send_message(struct uring_thread *thread, struct uring_message *message)
{
    struct uring_message *first = atomic_load(&thread->messages);
    do
        message->next = first;
    while (!atomic_compare_exchange_weak(&thread->messages, &first, message));
    if (first == NULL)
        wake(thread);
}

/* The answer to INIT, with io_uring accepted. */
static ssize_t write_init(struct uring *uring, int fd, const struct iovec *iov, int count)
{
    struct fuse_init_out out = {.major = 0};
    struct iovec changed[2] = {iov[0], {&out, 0}};

    if (count != 2 || iov[1].iov_len < offsetof(struct fuse_init_out, unused))
        return writev(fd, iov, count);
    changed[1].iov_len = MIN(iov[1].iov_len, sizeof(out));
    memcpy(&out, iov[1].iov_base, changed[1].iov_len);
    out.flags |= FUSE_INIT_EXT;
    out.flags2 |= URING_FLAG2;
    uring->data_size =
        MAX(MAX(out.max_write, 8192u), out.max_pages * (size_t)sysconf(_SC_PAGESIZE));
    return writev(fd, changed, 2);
}

/* Puts a reply into the entry that its request came in. */
static bool fill_reply(struct uring_entry *entry, const struct iovec *iov, int count)
{
    struct fuse_out_header head;
    size_t size = 0;

    memcpy(&head, iov[0].iov_base, sizeof(head));
    for (int i = 1; i < count; i++) {
        if (iov[i].iov_len > entry->parts[1].iov_len - size)
            return false;
        memmove(entry->data + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    head.unique = entry->unique;
    memcpy(entry->header.in_out, &head, sizeof(head));
    entry->header.payload_size = (uint32_t)size;
    return true;
}

/* libfuse calls this for each reply and notification, on the thread that makes it. */
static ssize_t reply_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct uring *uring = the_uring;
    struct fuse_out_header head;

    (void)userdata;
    memcpy(&head, iov[0].iov_base, sizeof(head));
    if (uring->init_open)
        return write_init(uring, fd, iov, count);
    if (head.unique <= UNIQUE_MASK || (head.unique & 1) != 0)
        return writev(fd, iov, count); /* to whom came through /dev/fuse; or a notification */
    uint64_t name = head.unique >> UNIQUE_BITS;
    unsigned slot = (unsigned)(name & ((1u << SLOT_BITS) - 1));
    struct uring_thread *thread = uring->threads[(name >> SLOT_BITS) - 1];
    struct uring_entry *entry = entry_at(thread, slot);
    if (atomic_load_explicit(&uring->over, memory_order_relaxed)) {
        errno = ENOENT;
        return -1;
    }
    if (!fill_reply(entry, iov, count)) {
        errno = EINVAL;
        return -1;
    }
    last_replied = thread;
    if (thread == this_thread)
        commit(entry);
    else
        send_message(thread, &entry->message);
    return head.len;
}

void uring_reply_arrive(void)
{
    struct uring_thread *thread = last_replied;

    last_replied = NULL;
    if (thread == NULL)
        return; /* it went through /dev/fuse */
    if (thread == this_thread) {
        ring_submit(&thread->ring);
        return;
    }
    sem_t arrived;
    struct uring_message message = {.arrived = &arrived};
    sem_init(&arrived, 0, 0);
    send_message(thread, &message);
    while (sem_wait(&arrived) != 0)
        continue; /* a signal */
    sem_destroy(&arrived);
}

static ssize_t never_read(int fd, void *buf, size_t size, void *userdata)
{
    (void)userdata; /* libfuse wants it, and none of its loops runs */
    return read(fd, buf, size);
}

/* ------------------------------------------------------------------------------------- requests */

static void refuse(struct uring_entry *entry)
{
    struct fuse_out_header head = {.len = sizeof(head), .error = -EIO};
    struct iovec part = {&head, sizeof(head)};

    if (fill_reply(entry, &part, 1))
        commit(entry);
}

static void handle_request(struct uring_entry *entry)
{
    struct uring *uring = entry->queue->thread->uring;
    struct fuse_in_header head;

    memcpy(&head, entry->header.in_out, sizeof(head));
    entry->unique = entry->header.commit_id;
    entry->queue->busy_count++;
    size_t data_size = entry->header.payload_size;
    if (head.len < sizeof(head) + data_size || data_size > uring->data_size ||
        head.len - sizeof(head) - data_size > sizeof(entry->header.op_in)) {
        log_write(WALRUS_ERROR, 0, NULL, "a request of the kernel makes no sense");
        refuse(entry);
        return;
    }
    size_t op_size = head.len - sizeof(head) - data_size;
    head.unique = entry->name | (entry->unique & UNIQUE_MASK);
    struct uring_thread *thread = entry->queue->thread;
    bool small = data_size <= SMALL_SIZE;
    uint8_t *request = small ? thread->request : entry->data - op_size - sizeof(head);
    memcpy(request, &head, sizeof(head));
    memcpy(request + sizeof(head), entry->header.op_in, op_size);
    if (small)
        memcpy(request + sizeof(head) + op_size, entry->data, data_size);
    trace_request(request, head.len);
    struct fuse_buf buf = {.mem = request, .size = head.len};
    struct uring_queue *queue = entry->queue;
    fuse_session_process_buf(uring->fuse, &buf);
    keep_some_free(queue);
}

static void handle_completion(struct uring_thread *thread, const struct io_uring_cqe *cqe)
{
    struct uring *uring = thread->uring;
    struct uring_entry *entry = (struct uring_entry *)(uintptr_t)cqe->user_data;

    if (cqe->res == 0) {
        if (!atomic_load_explicit(&uring->stopping, memory_order_relaxed))
            handle_request(entry);
        return;
    }
    /* The entry is lost. */
    entry->queue->entry_count--;
    if (cqe->res == -ENOTCONN || cqe->res == -ECONNABORTED)
        atomic_store(&uring->over, true);
    else if (cqe->res != -ECANCELED && !atomic_load(&uring->over))
        log_write(WALRUS_WARNING, -cqe->res, NULL, "the kernel refuses a buffer for requests");
}

static void wait_for_event(struct uring_thread *thread)
{
    struct io_uring_sqe *sqe = next_sqe(thread);

    sqe->opcode = IORING_OP_READ;
    sqe->fd = thread->event;
    sqe->addr = (uintptr_t)&thread->event_count;
    sqe->len = sizeof(thread->event_count);
    sqe->user_data = 0;
}

/* -------------------------------------------------------------------------------------- threads */

/* If one of this thread's entries has the request: libfuse knows it by another number. */
static void handle_interrupt(struct uring_thread *thread, struct uring_interrupt *interrupt)
{
    for (unsigned i = 0; i < thread->entry_count; i++) {
        const struct uring_entry *entry = entry_at(thread, i);
        if (entry->unique != interrupt->body.unique)
            continue;
        interrupt->body.unique = entry->name | (entry->unique & UNIQUE_MASK);
        struct fuse_buf buf = {.mem = &interrupt->head,
                               .size = sizeof(interrupt->head) + sizeof(interrupt->body)};
        fuse_session_process_buf(thread->uring->fuse, &buf);
        return;
    }
}

static void take_messages(struct uring_thread *thread)
{
    struct uring_message *message = atomic_exchange(&thread->messages, NULL), *waiting = NULL;

    while (message != NULL) {
        struct uring_message *next = message->next;
        if (message->entry != NULL) {
            commit(message->entry);
        } else if (message->arrived != NULL) {
            message->next = waiting;
            waiting = message;
        } else {
            message->next = thread->interrupts;
            thread->interrupts = message;
        }
        message = next;
    }
    if (waiting != NULL)
        ring_submit(&thread->ring);
    while (waiting != NULL) {
        sem_t *arrived = waiting->arrived;
        waiting = waiting->next; /* before its owner goes on, and takes it away */
        sem_post(arrived);
    }
}

static void take_interrupts(struct uring_thread *thread)
{
    while (thread->interrupts != NULL && !ring_has_more(&thread->ring)) {
        struct uring_message *message = thread->interrupts;
        struct uring_interrupt *interrupt = CONTAINER_OF(message, struct uring_interrupt, message);
        thread->interrupts = message->next;
        if (!atomic_load(&thread->uring->stopping))
            handle_interrupt(thread, interrupt);
        free(interrupt);
    }
}

static void register_queues(struct uring_thread *thread)
{
    struct uring *uring = thread->uring;

    thread->registered = true;
    for (unsigned i = 0; i < uring->queue_count; i++) {
        struct uring_queue *queue = &uring->queues[i];
        int r = 0;
        while (queue->thread == thread && queue->entry_count < DEPTH && r == 0)
            r = add_entry(queue);
    }
}

static void thread_pin(const struct uring_thread *thread)
{
    cpu_set_t set;

    if (thread->core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(thread->core, &set);
    int r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    (void)r; /* slower, that is all */
}

static void *thread_main(void *arg)
{
    struct uring_thread *thread = this_thread = arg;
    struct uring *uring = thread->uring;
    struct io_uring_cqe cqe;

    thread_pin(thread);
    wait_for_event(thread);
    while (!atomic_load_explicit(&uring->ending, memory_order_relaxed)) {
        ring_enter(&thread->ring, 1);
        if (!thread->registered && atomic_load(&uring->go))
            register_queues(thread);
        while (ring_take(&thread->ring, &cqe)) {
            if (cqe.user_data != 0) {
                handle_completion(thread, &cqe);
                continue;
            }
            /* Who adds to an empty list wakes us; so the list is emptied after the event was. */
            wait_for_event(thread);
            take_messages(thread);
        }
        take_interrupts(thread);
        if (!thread->told_stop && atomic_load_explicit(&uring->stopping, memory_order_relaxed)) {
            thread->told_stop = true;
            sem_post(&uring->stopped);
        }
    }
    take_messages(thread);
    ring_enter(&thread->ring, 0);
    return NULL;
}

/* ------------------------------------------------------------------------------- life and death */

/* How many cores the kernel has queues for; 0: unknown. */
static unsigned count_possible_cores(void)
{
    FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
    unsigned first, last, count = 0;
    int n, c;

    if (file == NULL)
        return 0;
    while ((n = fscanf(file, "%u-%u", &first, &last)) > 0) {
        count += n == 2 && last >= first ? last - first + 1 : 1;
        c = fgetc(file);
        if (c != ',')
            break;
    }
    fclose(file);
    return count <= UINT16_MAX ? count : 0;
}

static int thread_start(struct uring *uring, int core)
{
    struct uring_thread *thread = calloc(1, sizeof(*thread));
    pthread_attr_t attr;

    if (thread == NULL)
        return -ENOMEM;
    thread->uring = uring;
    thread->idx = uring->thread_count;
    thread->core = core;
    thread->ring.fd = -1;
    uring->threads[uring->thread_count++] = thread;
    thread->event = eventfd(0, EFD_CLOEXEC);
    if (thread->event < 0)
        return -errno;
    int r = ring_open(&thread->ring, SUBMISSION_COUNT);
    if (r < 0)
        return r;
    r = pthread_attr_init(&attr);
    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attr, STACK_SIZE);
    if (r == 0)
        r = pthread_create(&thread->thread, &attr, thread_main, thread);
    thread->started = r == 0;
    pthread_attr_destroy(&attr);
    return -r;
}

/* A thread for each core that the process may use. */
static int start_threads(struct uring *uring, bool single)
{
    cpu_set_t set;
    unsigned most = single ? 1 : THREAD_COUNT_MAX;
    int r = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        CPU_ZERO(&set);
    uring->threads = calloc(most, sizeof(struct uring_thread *));
    if (uring->threads == NULL)
        return -ENOMEM;
    for (int core = 0; core < CPU_SETSIZE && uring->thread_count < most && r == 0; core++) {
        if (CPU_ISSET(core, &set))
            r = thread_start(uring, core);
    }
    return r < 0 || uring->thread_count > 0 ? r : thread_start(uring, -1);
}

/* Each queue gets the thread of its core, or any. */
static int make_queues(struct uring *uring)
{
    uring->queue_count = count_possible_cores();
    if (uring->queue_count == 0)
        return -EOPNOTSUPP;
    uring->queues = calloc(uring->queue_count, sizeof(*uring->queues));
    if (uring->queues == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < uring->queue_count; i++) {
        struct uring_queue *queue = &uring->queues[i];
        queue->id = (uint16_t)i;
        queue->thread = uring->threads[i % uring->thread_count];
        for (unsigned k = 0; k < uring->thread_count; k++) {
            if (uring->threads[k]->core == (int)i)
                queue->thread = uring->threads[k];
        }
    }
    return 0;
}

/* Whether the kernel offers it in its INIT. */
static bool is_offered(const void *init, size_t size)
{
    struct fuse_in_header head;
    struct fuse_init_in in;

    if (size < sizeof(head) + sizeof(in))
        return false;
    memcpy(&head, init, sizeof(head));
    memcpy(&in, (const uint8_t *)init + sizeof(head), sizeof(in));
    return head.opcode == FUSE_INIT && (in.flags & FUSE_INIT_EXT) != 0 &&
           (in.flags2 & URING_FLAG2) != 0;
}

static const char *why_not_offered(void)
{
    FILE *file = fopen("/sys/module/fuse/parameters/enable_uring", "re");
    if (file == NULL)
        return "the kernel does not have it (6.14 and later do)";
    fclose(file);
    return "the administrator has not enabled it: "
           "echo Y > /sys/module/fuse/parameters/enable_uring";
}

int uring_open(struct fuse_session *fuse, const void *init, size_t init_size, bool single,
               struct uring **ret_uring, const char **ret_why)
{
    static const struct fuse_custom_io io = {.writev = reply_writev, .read = never_read};

    if (!is_offered(init, init_size)) {
        *ret_why = why_not_offered();
        return -EOPNOTSUPP;
    }
    struct uring *uring = calloc(1, sizeof(*uring));
    int r = uring != NULL ? 0 : -ENOMEM;
    if (r == 0) {
        uring->fuse = fuse;
        uring->init_open = true;
        sem_init(&uring->stopped, 0, 0);
        r = start_threads(uring, single);
    }
    if (r == 0)
        r = make_queues(uring);
    if (r == 0 && fuse_session_custom_io(fuse, &io, fuse_session_fd(fuse)) != 0)
        r = -ENOMEM;
    if (r < 0) {
        *ret_why = strerrordesc_np(-r);
        uring_close(uring);
        return r;
    }
    the_uring = uring;
    *ret_uring = uring;
    return 0;
}

static void wake_all(struct uring *uring)
{
    for (unsigned i = 0; i < uring->thread_count; i++) {
        if (uring->threads[i]->started)
            wake(uring->threads[i]);
    }
}

void uring_start(struct uring *uring)
{
    uring->init_open = false;
    atomic_store(&uring->go, true);
    wake_all(uring);
}

void uring_interrupt(struct uring *uring, const void *request, size_t size)
{
    if (size < sizeof(struct fuse_in_header) + sizeof(struct fuse_interrupt_in))
        return;
    for (unsigned i = 0; i < uring->thread_count; i++) {
        struct uring_interrupt *copy;
        while ((copy = calloc(1, sizeof(*copy))) == NULL)
            usleep(1000); /* or its client could not be killed */
        memcpy(&copy->head, request, sizeof(copy->head));
        memcpy(&copy->body, (const uint8_t *)request + sizeof(copy->head), sizeof(copy->body));
        send_message(uring->threads[i], &copy->message);
    }
}

void uring_stop(struct uring *uring)
{
    if (atomic_exchange(&uring->stopping, true))
        return;
    wake_all(uring);
    for (unsigned i = 0; i < uring->thread_count; i++) {
        while (uring->threads[i]->started && sem_wait(&uring->stopped) != 0)
            continue; /* a signal */
    }
}

static void thread_free(struct uring_thread *thread)
{
    if (thread->started)
        pthread_join(thread->thread, NULL);
    for (struct uring_message *at = thread->interrupts; at != NULL;) {
        struct uring_message *next = at->next;
        free(CONTAINER_OF(at, struct uring_interrupt, message));
        at = next;
    }
    ring_close(&thread->ring);
    if (thread->event >= 0)
        close(thread->event);
    for (unsigned i = 0; i < SLAB_COUNT_MAX && thread->slabs[i] != NULL; i++) {
        munmap(thread->slabs[i]->map, SLAB_ENTRY_COUNT * data_stride(thread->uring));
        free(thread->slabs[i]);
    }
    free(thread);
}

void uring_close(struct uring *uring)
{
    if (uring == NULL)
        return;
    uring_stop(uring);
    atomic_store(&uring->ending, true);
    wake_all(uring);
    for (unsigned i = 0; i < uring->thread_count; i++)
        thread_free(uring->threads[i]);
    sem_destroy(&uring->stopped);
    free(uring->threads);
    free(uring->queues);
    free(uring);
}
