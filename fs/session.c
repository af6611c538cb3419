/* SPDX-License-Identifier: MIT */
/*
 * session.c - see session.h.
 *
 * Transport: two to four threads, each pinned to one of the cores that the process may use, because
 * a request is answered several times faster by a thread on the core of its client.  Each reads
 * /dev/fuse into a buffer of its own; libfuse takes the request apart and calls ops.c.
 *
 * The main thread waits for a signal, or for the transport to end (unmounted).  On SIGTERM: what is
 * parked gets ESHUTDOWN, the mountpoint is detached, which ends the transport if no file is open;
 * otherwise the threads are stopped.  Then what the handles still hold becomes entries or goes
 * back, and the store is closed, which makes everything durable.
 *
 * A thread that sleeps in read(2) is woken by a signal that does nothing (STOP_SIGNAL), sent until
 * it is gone, since one that comes just before the read is lost.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"
#include "handle.h"
#include "log.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "session.h"

#define STOP_SIGNAL          SIGUSR1
#define TRANSPORT_COUNT_MAX  4
#define TRANSPORT_COUNT_MIN  2
#define TRANSPORT_STACK_SIZE (1024 * 1024)
/* A request with 1 MiB of data, and its header. */
#define TRANSPORT_BUFFER_SIZE (MOUNT_REQUEST_SIZE_MAX + 64 * 1024)
/* How long a detached mount may take to end by itself before the threads are stopped, in ms. */
#define DETACH_WAIT_MS 200

struct transport {
    struct session *session;
    pthread_t thread;
    int core; /* -1: any */
    bool started;
};

struct session {
    struct mount mount;
    struct lock handles_lock;
    struct serial changes;
    struct transport transports[TRANSPORT_COUNT_MAX];
    unsigned transport_count;
    _Atomic unsigned running_count; /* transport threads */
    atomic_bool stopping;           /* they are to end */
    atomic_bool told;               /* the main thread knows that INIT was answered */
    int event;                      /* eventfd: something above changed */
    int signals;                    /* signalfd */
    bool mounted;
};

/* ----------------------------------------------------------------------------------- transport */

static void session_wake(struct session *session)
{
    uint64_t one = 1;
    ssize_t n = write(session->event, &one, sizeof(one));
    (void)n; /* full means that it is awake */
}

static void transport_pin(const struct transport *transport)
{
    cpu_set_t set;

    if (transport->core < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET(transport->core, &set);
    int r = pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    (void)r; /* slower, that is all */
}

/* One request; false when the connection is over. */
static bool transport_step(struct session *session, void *buffer)
{
    ssize_t n = read(fuse_session_fd(session->mount.session), buffer, TRANSPORT_BUFFER_SIZE);
    if (n < 0) {
        /* ENOENT: a request was withdrawn while it was read. */
        if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
            return true;
        if (errno != ENODEV) /* ENODEV: unmounted */
            log_write(WALRUS_ERROR, errno, NULL, "cannot read from /dev/fuse");
        return false;
    }
    if (n == 0)
        return false;
    struct fuse_buf request = {.mem = buffer, .size = (size_t)n};
    fuse_session_process_buf(session->mount.session, &request);
    return true;
}

static void *transport_main(void *arg)
{
    struct transport *transport = arg;
    struct session *session = transport->session;
    sigset_t stop;

    sigemptyset(&stop);
    sigaddset(&stop, STOP_SIGNAL);
    int r = pthread_sigmask(SIG_UNBLOCK, &stop, NULL);
    transport_pin(transport);
    void *buffer = r == 0 ? aligned_alloc(4096, TRANSPORT_BUFFER_SIZE) : NULL;
    if (buffer == NULL)
        log_write(WALRUS_ERROR, ENOMEM, NULL, "cannot start a transport thread");
    while (buffer != NULL && !atomic_load(&session->stopping) && transport_step(session, buffer)) {
        if (atomic_load_explicit(&session->mount.ready, memory_order_relaxed) &&
            !atomic_load_explicit(&session->told, memory_order_relaxed) &&
            !atomic_exchange(&session->told, true))
            session_wake(session);
    }
    free(buffer);
    atomic_fetch_sub(&session->running_count, 1);
    session_wake(session);
    return NULL;
}

static void stop_signal_ignore(int number)
{
    (void)number; /* it only ends a read(2) */
}

/* The cores that the process may use, in turn. */
static unsigned choose_cores(const struct options *options, int *ret_cores)
{
    cpu_set_t set;
    unsigned count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        CPU_ZERO(&set);
    for (int core = 0; core < CPU_SETSIZE && count < TRANSPORT_COUNT_MAX; core++) {
        if (CPU_ISSET(core, &set))
            ret_cores[count++] = core;
    }
    if (count == 0)
        ret_cores[count++] = -1;
    while (count < TRANSPORT_COUNT_MIN) {
        ret_cores[count] = ret_cores[0];
        count++;
    }
    return options->single ? 1 : count;
}

static int transports_start(struct session *session)
{
    int cores[TRANSPORT_COUNT_MAX];
    struct sigaction action = {.sa_handler = stop_signal_ignore}; /* no SA_RESTART */
    pthread_attr_t attr;

    if (sigaction(STOP_SIGNAL, &action, NULL) < 0)
        return -errno;
    int r = pthread_attr_init(&attr);
    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attr, TRANSPORT_STACK_SIZE);
    session->transport_count = choose_cores(session->mount.options, cores);
    for (unsigned i = 0; r == 0 && i < session->transport_count; i++) {
        struct transport *transport = &session->transports[i];
        transport->session = session;
        transport->core = cores[i];
        atomic_fetch_add(&session->running_count, 1);
        r = pthread_create(&transport->thread, &attr, transport_main, transport);
        if (r == 0)
            transport->started = true;
        else
            atomic_fetch_sub(&session->running_count, 1);
    }
    pthread_attr_destroy(&attr);
    return -r;
}

static void transports_stop(struct session *session)
{
    atomic_store(&session->stopping, true);
    for (unsigned i = 0; i < session->transport_count; i++) {
        struct transport *transport = &session->transports[i];
        while (transport->started && pthread_tryjoin_np(transport->thread, NULL) == EBUSY) {
            struct timespec pause = {.tv_nsec = 2000000};
            pthread_kill(transport->thread, STOP_SIGNAL);
            (void)nanosleep(&pause, NULL);
        }
        transport->started = false;
    }
}

/* ------------------------------------------------------------------------------------- mounting */

static void fuse_log_line(enum fuse_log_level level, const char *format, va_list args)
{
    char text[1024];
    enum walrus_level own = level <= FUSE_LOG_ERR       ? WALRUS_ERROR
                            : level <= FUSE_LOG_WARNING ? WALRUS_WARNING
                            : level <= FUSE_LOG_INFO    ? WALRUS_INFO
                                                        : WALRUS_DEBUG;

    vsnprintf(text, sizeof(text), format, args);
    size_t size = strlen(text);
    while (size > 0 && text[size - 1] == '\n')
        text[--size] = '\0';
    if (size > 0)
        log_write(own, 0, NULL, "%s", text);
}

/* The arguments of fuse_session_new(): the options that libfuse and the kernel are to see. */
static int build_args(const struct options *options, struct fuse_args *args)
{
    char *fsname = NULL, *list = NULL, *all = NULL;
    int r = -ENOMEM;

    if (asprintf(&fsname, "fsname=%s", options->store) < 0)
        fsname = NULL;
    else if (fuse_opt_add_opt_escaped(&list, fsname) == 0 &&
             asprintf(&all, "%s,subtype=walrusfs,default_permissions,nosuid,nodev%s%s%s%s", list,
                      options->allow_other ? ",allow_other" : "",
                      options->walrus.read_only ? ",ro" : "",
                      options->mount_options != NULL ? "," : "",
                      options->mount_options != NULL ? options->mount_options : "") >= 0 &&
             fuse_opt_add_arg(args, "walrusfs") == 0 && fuse_opt_add_arg(args, "-o") == 0 &&
             fuse_opt_add_arg(args, all) == 0 &&
             (!options->debug || fuse_opt_add_arg(args, "-d") == 0))
        r = 0;
    free(fsname);
    free(list);
    free(all);
    return r;
}

static enum session_result session_mount(struct session *session)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    const struct options *options = session->mount.options;

    fuse_set_log_func(fuse_log_line);
    if (build_args(options, &args) == 0)
        session->mount.session =
            fuse_session_new(&args, &ops_table, sizeof(ops_table), &session->mount);
    fuse_opt_free_args(&args);
    if (session->mount.session == NULL) {
        log_write(WALRUS_ERROR, 0, NULL, "cannot prepare the mount");
        return SESSION_MOUNT;
    }
    if (fuse_session_mount(session->mount.session, options->mountpoint) < 0) {
        if (access("/dev/fuse", F_OK) < 0)
            log_write(WALRUS_ERROR, 0, NULL,
                      "there is no /dev/fuse: load the module with `modprobe fuse`, or start the "
                      "container with --device /dev/fuse --cap-add SYS_ADMIN");
        log_write(WALRUS_ERROR, 0, NULL, "cannot mount at %s", options->mountpoint);
        return SESSION_MOUNT;
    }
    session->mounted = true;
    return SESSION_OK;
}

int session_detach(const char *mountpoint)
{
    extern char **environ;
    char *argv[] = {"fusermount3", "-u", "-q", "-z", "--", (char *)(uintptr_t)mountpoint, NULL};
    int status;
    pid_t pid;

    if (umount2(mountpoint, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    int r = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
    if (r != 0)
        return -r;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

/* A limit on the time of requests would end the whole mount once a reader waited that long. */
static void check_timeouts(void)
{
    static const char *const files[] = {"/proc/sys/fs/fuse/default_request_timeout",
                                        "/proc/sys/fs/fuse/max_request_timeout"};
    for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
        FILE *file = fopen(files[i], "re");
        unsigned seconds = 0;
        if (file == NULL)
            continue;
        if (fscanf(file, "%u", &seconds) == 1 && seconds != 0)
            log_write(WALRUS_WARNING, 0, NULL,
                      "%s is %u: a reader that waits longer for an entry ends the whole mount",
                      files[i], seconds);
        fclose(file);
    }
}

/* ------------------------------------------------------------------------------- life and death */

static int session_init(struct session *session, const struct options *options)
{
    struct mount *mount = &session->mount;
    sigset_t wanted, blocked;

    mount->options = options;
    mount->uid = getuid();
    mount->gid = getgid();
    mount->start_ns = realtime_ns();
    mount->append_size = MOUNT_REQUEST_SIZE_MAX - 4096;
    mount->handles_lock = &session->handles_lock;
    mount->changes = &session->changes;
    list_init(&mount->handles);
    list_init(&mount->closings);
    lock_init(&session->handles_lock, LOCK_FS_MISC);
    serial_init(&session->changes);
    session->event = session->signals = -1;

    /* Before any thread is made: all but this one leave these signals alone. */
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGINT);
    sigaddset(&wanted, SIGHUP);
    blocked = wanted;
    sigaddset(&blocked, STOP_SIGNAL);
    sigaddset(&blocked, SIGPIPE);
    int r = pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    if (r != 0)
        return -r;
    session->signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    session->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (session->signals < 0 || session->event < 0)
        return -errno;
    r = node_table_create(&mount->nodes);
    if (r == 0)
        r = gate_table_create(&mount->gates);
    if (r == 0)
        r = pool_create(&mount->pool);
    return r;
}

static enum session_result session_open_store(struct session *session)
{
    const struct options *options = session->mount.options;

    int r = walrus_open(options->store, &options->walrus, &session->mount.store);
    if (r == 0)
        return SESSION_OK;
    session->mount.store = NULL;
    switch (r) {
    case -EBUSY:
        log_write(WALRUS_ERROR, 0, NULL, "the store %s is in use", options->store);
        break;
    case -EPROTONOSUPPORT:
        log_write(WALRUS_ERROR, 0, NULL,
                  "the store %s was written by a newer version; it was left as it is",
                  options->store);
        break;
    case -EMEDIUMTYPE:
        log_write(WALRUS_ERROR, 0, NULL,
                  "%s is on a network or FUSE filesystem, where a store is not safe; "
                  "-o force uses it all the same",
                  options->store);
        break;
    case -ENOTEMPTY:
        log_write(WALRUS_ERROR, 0, NULL, "%s holds something else than a store", options->store);
        break;
    case -EBADMSG:
        log_write(WALRUS_ERROR, 0, NULL, "the header of the store %s is damaged in both copies",
                  options->store);
        break;
    default:
        log_write(WALRUS_ERROR, -r, NULL, "cannot open the store %s", options->store);
    }
    return SESSION_STORE;
}

/* Waits up to `ms` (-1: for ever) for a signal to end or for the transport to end; false: neither.
 */
static bool session_wait(struct session *session, int ms)
{
    struct pollfd polls[] = {{.fd = session->event, .events = POLLIN},
                             {.fd = session->signals, .events = POLLIN}};
    struct signalfd_siginfo info;
    uint64_t count;

    int n = poll(polls, ARRAY_COUNT(polls), ms);
    if (n < 0 && errno != EINTR)
        return true;
    if (read(session->event, &count, sizeof(count)) < 0 && errno != EAGAIN)
        return true;
    if (read(session->signals, &info, sizeof(info)) == (ssize_t)sizeof(info) &&
        info.ssi_signo != SIGHUP) {
        log_write(WALRUS_INFO, 0, NULL, "ending on signal %u", info.ssi_signo);
        return true;
    }
    return atomic_load(&session->running_count) == 0;
}

static void session_serve(struct session *session, void (*ready)(void))
{
    bool announced = false;

    while (!session_wait(session, -1)) {
        if (!announced && atomic_load(&session->told)) {
            announced = true;
            ready();
        }
    }
}

/* Ends the transport, detaching the mountpoint if that is still ours to do. */
static void session_stop_transport(struct session *session)
{
    const char *mountpoint = session->mount.options->mountpoint;
    struct statvfs stat_buf; /* stat(2) could be answered from a cache */

    if (atomic_load(&session->running_count) > 0 && session->mounted) {
        int r = session_detach(mountpoint);
        if (r < 0)
            log_write(WALRUS_WARNING, -r, NULL, "cannot detach %s", mountpoint);
        uint64_t end = monotonic_ns() + DETACH_WAIT_MS * 1000000ull;
        while (atomic_load(&session->running_count) > 0 && monotonic_ns() < end)
            (void)session_wait(session, 10);
    } else if (session->mounted && statvfs(mountpoint, &stat_buf) < 0 && errno == ENOTCONN) {
        /* Aborted by the administrator: what is left there is dead. */
        int r = session_detach(mountpoint);
        (void)r;
    }
    transports_stop(session);
}

/* What open files hold becomes entries, or goes back, or is dropped (an unfinished blob). */
static void session_close_handles(struct session *session)
{
    struct mount *mount = &session->mount;

    for (;;) {
        lock_acquire(&session->handles_lock);
        struct handle *handle = list_empty(&mount->handles)
                                    ? NULL
                                    : LIST_ENTRY(mount->handles.next, struct handle, link);
        lock_release(&session->handles_lock);
        if (handle == NULL)
            break;
        ops_close_handle(handle, false);
    }
}

static void session_end_fuse(struct session *session)
{
    struct fuse_session *fuse = session->mount.session;

    if (fuse == NULL)
        return;
    struct pollfd poll_fd = {.fd = session->mounted ? fuse_session_fd(fuse) : -1};
    /* While files of a detached mount are open, libfuse would unmount whatever is there now. */
    if (session->mounted && poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLERR) != 0)
        fuse_session_unmount(fuse);
    fuse_session_destroy(fuse);
    session->mount.session = NULL;
}

static enum session_result session_fini(struct session *session)
{
    struct mount *mount = &session->mount;

    gates_stop(mount);
    session_stop_transport(session);
    pool_drain(mount->pool);
    session_close_handles(session);
    pool_destroy(mount->pool);
    node_table_destroy(mount->nodes);
    gate_table_destroy(mount->gates);
    session_end_fuse(session);
    int r = walrus_close(mount->store);
    if (r < 0)
        log_write(WALRUS_ERROR, -r, NULL, "the store could not be closed properly");
    close(session->event);
    close(session->signals);
    serial_fini(&session->changes);
    lock_fini(&session->handles_lock);
    return r < 0 ? SESSION_STORE : SESSION_OK;
}

enum session_result session_run(const struct options *options, void (*ready)(void))
{
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL)
        return SESSION_OTHER;
    int r = session_init(session, options);
    if (r < 0) {
        log_write(WALRUS_ERROR, -r, NULL, "cannot start");
        return SESSION_OTHER; /* the process ends, and its memory with it */
    }
    enum session_result result = session_open_store(session);
    if (result == SESSION_OK) {
        check_timeouts();
        result = session_mount(session);
    }
    if (result == SESSION_OK) {
        r = transports_start(session);
        if (r < 0) {
            log_write(WALRUS_ERROR, -r, NULL, "cannot start the transport threads");
            result = SESSION_OTHER;
        } else {
            session_serve(session, ready);
        }
    }
    enum session_result ended = session_fini(session);
    free(session);
    return result != SESSION_OK ? result : ended;
}
