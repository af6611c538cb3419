/* SPDX-License-Identifier: MIT */
/*
 * session.c - see session.h.
 *
 * Requests come by a transport (transport.h), on whose threads libfuse calls ops.c.
 *
 * The main thread waits for a signal, or for the transport to end (unmounted).  On SIGTERM: what is
 * parked gets ESHUTDOWN, the mountpoint is detached, which ends the transport if no file is open;
 * otherwise it is stopped.  Then what the handles still hold becomes entries or goes
 * back, and the store is closed, which makes everything durable.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "gate.h"
#include "handle.h"
#include "log.h"
#include "node.h"
#include "ops.h"
#include "pool.h"
#include "session.h"
#include "transport.h"

/* How long a detached mount may take to end by itself before the threads are stopped, in ms. */
#define DETACH_WAIT_MS 200

struct session {
    struct mount mount;
    struct lock handles_lock;
    struct serial changes;
    struct transport *transport; /* NULL: not started */
    int event;                   /* eventfd: the transport may be over */
    int signals;                 /* signalfd */
    bool mounted;
    dev_t device; /* of the mount, 0: unknown */
};

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

/* The device of what is mounted at `path`, 0: unknown.  Asks no daemon: whoever it is may be dead, or
 * be this one. */
static dev_t mounted_device(const char *path)
{
    struct statx found;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;

    if (statx(AT_FDCWD, path, flags, 0, &found) < 0)
        return 0;
    return makedev(found.stx_dev_major, found.stx_dev_minor);
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
        log_write(WALRUS_ERROR, 0, NULL,
                  "cannot mount at %s; users other than root need fusermount3 (package fuse3), "
                  "containers --device /dev/fuse --cap-add SYS_ADMIN --security-opt "
                  "apparmor:unconfined",
                  options->mountpoint);
        return SESSION_MOUNT;
    }
    session->mounted = true;
    session->device = mounted_device(options->mountpoint);
    return SESSION_OK;
}

int session_detach(const char *mountpoint)
{
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
    sigaddset(&wanted, SIGUSR2);
    blocked = wanted;
    sigaddset(&blocked, SIGUSR1); /* the transport's */
    sigaddset(&blocked, SIGPIPE);
    sigaddset(&blocked,
              SIGXFSZ); /* a file that may not grow is an error of the call that grows it */
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
        log_write(WALRUS_ERROR, 0, NULL,
                  "the store %s is in use; `findmnt -t fuse.walrusfs` shows where it is mounted",
                  options->store);
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

/* Signals that are about the log; false: any other. */
static bool session_signal(uint32_t number)
{
    if (number == SIGUSR2) {
        const char *name = log_level_name(log_toggle_debug());
        log_write(WALRUS_INFO, 0, NULL, "messages from level %s on", name);
        return true;
    }
    if (number != SIGHUP)
        return false;
    int r = log_reopen();
    if (r < 0)
        log_write(WALRUS_ERROR, -r, NULL, "cannot open the log file anew: the old one stays");
    return true;
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
        !session_signal(info.ssi_signo)) {
        log_write(WALRUS_INFO, 0, NULL, "ending on signal %u", info.ssi_signo);
        return true;
    }
    return transport_is_over(session->transport);
}

static void session_transport_ended(void *arg)
{
    struct session *session = arg;
    uint64_t one = 1;
    ssize_t n = write(session->event, &one, sizeof(one));
    (void)n; /* full means that it is awake */
}

static bool wants_uring(const struct options *options)
{
    if (!options->uring || options->mount_options == NULL ||
        strstr(options->mount_options, "auto_unmount") == NULL)
        return options->uring;
    /* Its helper looks for a dead mount at the moment when the process ends; but the kernel ends the
     * rings of a process, and with them the mount, a little later. */
    log_write(WALRUS_WARNING, 0, NULL,
              "going on without io_uring: auto_unmount would miss the end");
    return false;
}

static enum session_result session_serve(struct session *session, void (*ready)(void))
{
    const struct transport_options options = {
        .fuse = session->mount.session,
        .single = session->mount.options->single,
        .uring = wants_uring(session->mount.options),
        .ended = session_transport_ended,
        .arg = session,
    };
    int r = transport_start(&options, &session->transport);
    if (r < 0) {
        log_write(WALRUS_ERROR, -r, NULL, "cannot talk to the kernel");
        return SESSION_OTHER;
    }
    ready();
    while (!session_wait(session, -1))
        continue;
    return SESSION_OK;
}

/* Whether the kernel ended the connection: the last user of the mount is gone, or it was aborted. */
static bool session_is_over(const struct session *session)
{
    struct pollfd poll_fd = {.fd = fuse_session_fd(session->mount.session)};
    return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLERR) != 0;
}

/* Whether our mount is at the mountpoint.  The administrator may have detached it (umount -l), and
 * mounted something else there since.  After the end what is there must be dead, too, because the
 * number of the device may be somebody else's by now. */
static bool session_is_there(const struct session *session)
{
    const char *mountpoint = session->mount.options->mountpoint;
    struct statvfs stat_buf; /* stat(2) could be answered from a cache */

    if (session->device != 0 && mounted_device(mountpoint) != session->device)
        return false;
    return !session_is_over(session) || (statvfs(mountpoint, &stat_buf) < 0 && errno == ENOTCONN);
}

/* Ends the transport, detaching the mountpoint if that is still ours to do. */
static void session_stop_transport(struct session *session)
{
    const char *mountpoint = session->mount.options->mountpoint;

    if (!session->mounted)
        return;
    if (session_is_there(session)) {
        int r = session_detach(mountpoint);
        if (r < 0)
            log_write(WALRUS_WARNING, -r, NULL, "cannot detach %s", mountpoint);
    }
    uint64_t end = monotonic_ns() + DETACH_WAIT_MS * 1000000ull;
    while (session->transport != NULL && !transport_is_over(session->transport) &&
           monotonic_ns() < end)
        (void)session_wait(session, 10);
    if (session->transport != NULL)
        transport_stop(session->transport);
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
    /* While files of a detached mount are open, libfuse would unmount whatever is there now. */
    if (session->mounted && session_is_over(session))
        fuse_session_unmount(fuse);
    fuse_session_destroy(fuse);
    session->mount.session = NULL;
}

static enum session_result session_fini(struct session *session)
{
    struct mount *mount = &session->mount;

    daemon_notify("STOPPING=1\nSTATUS=storing what is in memory");
    gates_stop(mount);
    session_stop_transport(session);
    pool_drain(mount->pool);
    session_close_handles(session);
    pool_destroy(mount->pool);
    node_table_destroy(mount->nodes);
    gate_table_destroy(mount->gates);
    transport_destroy(session->transport);
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
    if (result == SESSION_OK)
        result = session_serve(session, ready);
    enum session_result ended = session_fini(session);
    free(session);
    return result != SESSION_OK ? result : ended;
}
