/* SPDX-License-Identifier: MIT */
/* server.c - see server.h. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *mounted; /* for a program that ends before its time */

static void take_away(void)
{
    if (mounted)
        umount2(mounted, MNT_DETACH);
}

/* The directory that this program is in. */
static char *program_dir(void)
{
    char *path = realpath("/proc/self/exe", NULL);
    if (!path)
        bench_die("/proc is needed");
    return dirname(path);
}

static bool is_mounted(const char *path)
{
    struct stat here, above;
    char *parent;
    if (asprintf(&parent, "%s/..", path) < 0)
        bench_die("no memory");
    bool yes = stat(path, &here) == 0 && stat(parent, &above) == 0 && here.st_dev != above.st_dev;
    free(parent);
    return yes;
}

static void prepare(struct server *server, const struct bench_options *options)
{
    if (access("/dev/fuse", W_OK) != 0) {
        printf("skipped: /dev/fuse is not usable here\n");
        exit(77);
    }
    server->scratch = bench_scratch(options);
    if (asprintf(&server->mount, "%s/m", server->scratch) < 0 ||
        asprintf(&server->store, "%s/store", server->scratch) < 0)
        bench_die("no memory");
    if (mkdir(server->mount, 0700) != 0)
        bench_die("%s: %s", server->mount, strerror(errno));
}

static void launch(struct server *server, char *const argv[])
{
    static bool known;
    struct timespec pause = {.tv_nsec = 1000000};
    int status;

    if (!known && atexit(take_away) != 0)
        bench_die("atexit fails");
    known = true;
    server->pid = fork();
    if (server->pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        execv(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    mounted = server->mount;
    while (!is_mounted(server->mount)) {
        if (waitpid(server->pid, &status, WNOHANG) == server->pid)
            bench_die("%s ended before the mount was there", argv[0]);
        nanosleep(&pause, NULL);
    }
}

void server_start_walrusfs(struct server *ret_server, const struct bench_options *options,
                           const char *mount_options)
{
    char *dir = program_dir(), *program, *list;
    const char *given = getenv("WALRUSFS");

    prepare(ret_server, options);
    if (asprintf(&program, "%s/../fs/walrusfs", dir) < 0 ||
        asprintf(&list, "loglevel=error%s%s", mount_options ? "," : "",
                 mount_options ? mount_options : "") < 0)
        bench_die("no memory");
    char *argv[] = {given ? (char *)(uintptr_t)given : program,
                    (char *)"-f",
                    (char *)"-o",
                    list,
                    ret_server->store,
                    ret_server->mount,
                    NULL};
    launch(ret_server, argv);
    free(list);
    free(program);
    free(dir);
}

void server_start_null(struct server *ret_server, const struct bench_options *options,
                       const char *loop, uint64_t size)
{
    char *dir = program_dir(), *program, text[32];

    prepare(ret_server, options);
    if (asprintf(&program, "%s/null_server", dir) < 0)
        bench_die("no memory");
    snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
    char *argv[] = {program, (char *)(uintptr_t)loop, text, ret_server->mount, NULL};
    launch(ret_server, argv);
    free(program);
    free(dir);
}

void server_stop(struct server *server)
{
    struct timespec pause = {.tv_nsec = 5000000};
    int status;

    /* A file that was closed just now may keep it busy for a moment. */
    while (umount2(server->mount, 0) != 0 && errno == EBUSY)
        nanosleep(&pause, NULL);
    mounted = NULL;
    if (waitpid(server->pid, &status, 0) != server->pid || status != 0)
        bench_die("the server of %s ended with status %d", server->mount, status);
    free(server->mount);
    free(server->store);
    bench_scratch_remove(server->scratch);
}

double server_cpu_seconds(const struct server *server)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(server->pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        bench_die("the processor time of the server cannot be read");
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static char *format_path(const struct server *server, const char *format, va_list args)
{
    char *name, *path;
    if (vasprintf(&name, format, args) < 0 || asprintf(&path, "%s/%s", server->mount, name) < 0)
        bench_die("no memory");
    free(name);
    return path;
}

char *server_path(const struct server *server, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *path = format_path(server, format, args);
    va_end(args);
    return path;
}

int server_open(const struct server *server, int flags, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *path = format_path(server, format, args);
    va_end(args);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        bench_die("%s: %s", path, strerror(errno));
    free(path);
    return fd;
}

void server_make_topic(const struct server *server, const char *name)
{
    char *path = server_path(server, "%s", name);
    if (mkdir(path, 0700) != 0)
        bench_die("%s: %s", path, strerror(errno));
    free(path);
}

bool server_has_uring(void)
{
    char value = 'N';
    int fd = open("/sys/module/fuse/parameters/enable_uring", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, &value, 1);
    close(fd);
    return n == 1 && value == 'Y';
}

void server_pin(unsigned idx)
{
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof(all), &all) != 0)
        return;
    idx %= (unsigned)CPU_COUNT(&all);
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (CPU_ISSET(core, &all) && idx-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(core, &one);
            sched_setaffinity(0, sizeof(one), &one);
            return;
        }
    }
}
