/* SPDX-License-Identifier: MIT */
/*
 * transport_dev.c - see transport.h: the default transport.
 *
 * Two to four threads, each pinned to one of the cores that the process may use, because a request
 * is answered several times faster by a thread on the core of its client.  Each reads /dev/fuse
 * into a buffer of its own; libfuse takes the request apart and calls the handlers.  No splice: it
 * costs more than it spares for requests of this size.
 *
 * With io_uring one such thread remains, for what the kernel does not send that way.
 *
 * A thread that sleeps in read(2) is woken by a signal that does nothing (STOP_SIGNAL), sent until
 * it is gone, since one that comes just before the read is lost.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "mount.h"
#include "trace.h"
#include "transport.h"
#include "transport_uring.h"

#define STOP_SIGNAL       SIGUSR1
#define THREAD_COUNT_MAX  4
#define THREAD_COUNT_MIN  2
#define THREAD_STACK_SIZE (1024 * 1024)
/* A request with 1 MiB of data, and its header. */
#define BUFFER_SIZE (MOUNT_REQUEST_SIZE_MAX + 64 * 1024)

struct dev_thread {
    struct transport *transport;
    pthread_t thread;
    int core; /* -1: any */
    bool started;
};

struct transport {
    struct transport_options options;
    struct dev_thread threads[THREAD_COUNT_MAX];
    unsigned thread_count;
    struct uring *uring; /* NULL: all comes through /dev/fuse */
    _Atomic unsigned running_count;
    atomic_bool stopping;
};

static void pin(int core)
{
    cpu_set_t set;

    if (core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    int r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    (void)r; /* slower, that is all */
}

/* Reads one request.  Its size; 0: none, try again; -ENODEV: the connection is over; or what read(2)
 * says. */
static ssize_t receive(struct fuse_session *fuse, void *buffer)
{
    ssize_t n = read(fuse_session_fd(fuse), buffer, BUFFER_SIZE);
    if (n > 0)
        return n;
    if (n == 0)
        return -ENODEV;
    /* ENOENT: a request was withdrawn while it was read. */
    if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
        return 0;
    /* ECONNABORTED: it ended while a request was read, the RELEASE of the last file, say. */
    if (errno == ENODEV || errno == ECONNABORTED)
        return -ENODEV;
    log_write(WALRUS_ERROR, errno, NULL, "cannot read from /dev/fuse");
    return -errno;
}

static void process(const struct transport *transport, void *buffer, ssize_t size)
{
    const struct fuse_in_header *head = buffer;
    struct fuse_buf request = {.mem = buffer, .size = (size_t)size};

    trace_request(buffer, (size_t)size);
    if (transport->uring != NULL && head->opcode == FUSE_INTERRUPT)
        uring_interrupt(transport->uring, buffer, (size_t)size);
    else
        fuse_session_process_buf(transport->options.fuse, &request);
}

static void *thread_main(void *arg)
{
    struct dev_thread *thread = arg;
    struct transport *transport = thread->transport;
    sigset_t stop;

    sigemptyset(&stop);
    sigaddset(&stop, STOP_SIGNAL);
    int r = pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
    pin(thread->core);
    void *buffer = r == 0 ? aligned_alloc(4096, BUFFER_SIZE) : NULL;
    if (buffer == NULL)
        log_write(WALRUS_ERROR, ENOMEM, NULL, "cannot start a transport thread");
    ssize_t size = buffer != NULL ? 0 : -ENOMEM;
    while (size >= 0 && !atomic_load(&transport->stopping)) {
        size = receive(transport->options.fuse, buffer);
        if (size > 0)
            process(transport, buffer, size);
    }
    free(buffer);
    atomic_fetch_sub(&transport->running_count, 1);
    transport->options.ended(transport->options.arg);
    return NULL;
}

static void stop_signal_ignore(int number)
{
    (void)number; /* it only ends a read(2) */
}

/* The cores that the process may use, in turn. */
static unsigned choose_cores(bool single, int *ret_cores)
{
    cpu_set_t set;
    unsigned count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        CPU_ZERO(&set);
    for (int core = 0; core < CPU_SETSIZE && count < THREAD_COUNT_MAX; core++) {
        if (CPU_ISSET(core, &set))
            ret_cores[count++] = core;
    }
    if (count == 0)
        ret_cores[count++] = -1;
    while (count < THREAD_COUNT_MIN) {
        ret_cores[count] = ret_cores[0];
        count++;
    }
    return single ? 1 : count;
}

static int start_threads(struct transport *transport)
{
    int cores[THREAD_COUNT_MAX];
    struct sigaction action = {.sa_handler = stop_signal_ignore}; /* no SA_RESTART */
    pthread_attr_t attr;

    if (sigaction(STOP_SIGNAL, &action, NULL) < 0)
        return -errno;
    int r = pthread_attr_init(&attr);
    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attr, THREAD_STACK_SIZE);
    transport->thread_count = choose_cores(transport->options.single, cores);
    if (transport->uring != NULL) {
        transport->thread_count = 1;
        cores[0] = -1;
    }
    for (unsigned i = 0; r == 0 && i < transport->thread_count; i++) {
        struct dev_thread *thread = &transport->threads[i];
        thread->transport = transport;
        thread->core = cores[i];
        atomic_fetch_add(&transport->running_count, 1);
        r = pthread_create(&thread->thread, &attr, thread_main, thread);
        if (r == 0)
            thread->started = true;
        else
            atomic_fetch_sub(&transport->running_count, 1);
    }
    pthread_attr_destroy(&attr);
    return -r;
}

/* `init` is the kernel's first request. */
static void try_uring(struct transport *transport, const void *init, size_t size)
{
    const char *why;
    if (uring_open(transport->options.fuse, init, size, transport->options.single,
                   &transport->uring, &why) < 0)
        log_write(WALRUS_WARNING, 0, NULL, "going on without io_uring: %s", why);
    else
        log_write(WALRUS_INFO, 0, NULL, "requests come through io_uring");
}

/* The kernel sends nothing else before this is answered. */
static int answer_init(struct transport *transport)
{
    void *buffer = aligned_alloc(4096, BUFFER_SIZE);
    ssize_t size = buffer != NULL ? 0 : -ENOMEM;
    while (size == 0)
        size = receive(transport->options.fuse, buffer);
    if (size > 0) {
        if (transport->options.uring)
            try_uring(transport, buffer, (size_t)size);
        process(transport, buffer, size);
        if (transport->uring != NULL)
            uring_start(transport->uring);
    }
    free(buffer);
    return size < 0 ? (int)size : 0;
}

int transport_start(const struct transport_options *options, struct transport **ret_transport)
{
    struct transport *transport = calloc(1, sizeof(*transport));
    if (transport == NULL)
        return -ENOMEM;
    transport->options = *options;
    int r = answer_init(transport);
    if (r == 0)
        r = start_threads(transport);
    if (r < 0) {
        transport_stop(transport);
        transport_destroy(transport);
        return r;
    }
    *ret_transport = transport;
    return 0;
}

bool transport_is_over(const struct transport *transport)
{
    return atomic_load(&transport->running_count) == 0;
}

void transport_stop(struct transport *transport)
{
    atomic_store(&transport->stopping, true);
    for (unsigned i = 0; i < transport->thread_count; i++) {
        struct dev_thread *thread = &transport->threads[i];
        while (thread->started && pthread_tryjoin_np(thread->thread, NULL) == EBUSY) {
            struct timespec pause = {.tv_nsec = 2000000};
            pthread_kill(thread->thread, STOP_SIGNAL);
            (void)nanosleep(&pause, NULL);
        }
        thread->started = false;
    }
    if (transport->uring != NULL)
        uring_stop(transport->uring);
}

void transport_destroy(struct transport *transport)
{
    if (transport == NULL)
        return;
    uring_close(transport->uring);
    free(transport);
}
