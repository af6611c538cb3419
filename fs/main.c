/* SPDX-License-Identifier: MIT */
/*
 * main.c - walrusfs, the daemon: reads the command line, checks the paths, goes to the background,
 * and runs the session.
 *
 * Whatever can fail does so before the first process exits, with a message on stderr and one of the
 * exit codes of enum session_result.  The process forks before it opens the store, because the
 * library starts threads.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "mount.h"
#include "options.h"
#include "session.h"

/* The absolute path of a store that may not exist yet.  NULL: errno says why. */
static char *resolve_store(const char *store)
{
    char *path = realpath(store, NULL);
    if (path != NULL || errno != ENOENT)
        return path;
    char *for_dir = strdup(store), *for_base = strdup(store), *dir = NULL;
    if (for_dir != NULL && for_base != NULL)
        dir = realpath(dirname(for_dir), NULL);
    if (dir != NULL &&
        asprintf(&path, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, basename(for_base)) < 0)
        path = NULL;
    free(dir);
    free(for_dir);
    free(for_base);
    return path;
}

/* Whether `path` is `dir`, or lies in it. */
static bool path_is_in(const char *path, const char *dir)
{
    size_t size = strlen(dir);
    if (strcmp(dir, "/") == 0)
        return true;
    return strncmp(path, dir, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

static bool dir_is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *item;
    bool empty = true;

    if (dir == NULL)
        return true; /* the mount itself will say what is wrong */
    while (empty && (item = readdir(dir)) != NULL)
        empty = strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0;
    closedir(dir);
    return empty;
}

/* What a dead daemon left.  stat(2) may still be answered from the kernel's cache. */
static bool is_stale(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* Makes the mountpoint's path absolute and checks what is there. */
static enum session_result check_mountpoint(struct options *options)
{
    struct stat stat_buf;
    const char *given = options->mountpoint;

    if (is_stale(given) && options->clean_stale && session_detach(given) == 0)
        log_write(WALRUS_INFO, 0, NULL, "unmounted what a dead daemon left at %s", given);
    if (is_stale(given)) {
        log_write(WALRUS_ERROR, 0, NULL,
                  "a dead daemon left its mount at %s; remove it with: fusermount3 -u -- %s", given,
                  given);
        return SESSION_MOUNT;
    }
    if (stat(given, &stat_buf) < 0) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot use %s as mountpoint", given);
        return SESSION_MOUNT;
    }
    if (!S_ISDIR(stat_buf.st_mode)) {
        log_write(WALRUS_ERROR, ENOTDIR, NULL, "cannot use %s as mountpoint", given);
        return SESSION_MOUNT;
    }
    char *path = realpath(given, NULL);
    if (path == NULL) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot use %s as mountpoint", given);
        return SESSION_MOUNT;
    }
    free(options->mountpoint);
    options->mountpoint = path;
    if (!options->non_empty && !dir_is_empty(path)) {
        log_write(WALRUS_ERROR, 0, NULL,
                  "the mountpoint %s is not empty; -o nonempty mounts over what is there", path);
        return SESSION_MOUNT;
    }
    return SESSION_OK;
}

static enum session_result check_paths(struct options *options)
{
    enum session_result result = check_mountpoint(options);
    if (result != SESSION_OK)
        return result;
    char *store = resolve_store(options->store);
    if (store == NULL) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot find the store %s", options->store);
        return SESSION_STORE;
    }
    free(options->store);
    options->store = store;
    if (path_is_in(store, options->mountpoint)) {
        log_write(WALRUS_ERROR, 0, NULL, "the store %s lies inside the mountpoint %s", store,
                  options->mountpoint);
        return SESSION_USAGE;
    }
    return SESSION_OK;
}

/* Copies of large writes go back to the system when they are freed, and threads share heaps: else
 * the memory of one busy moment would be kept for ever. */
static void set_memory(void)
{
    bool tuned = mallopt(M_ARENA_MAX, 2) != 0 && mallopt(M_MMAP_THRESHOLD, 256 * 1024) != 0 &&
                 mallopt(M_TRIM_THRESHOLD, 1024 * 1024) != 0;
    (void)tuned; /* another allocator has ways of its own */
}

/* Core dumps would hold what is in all topics; open files need descriptors. */
static void set_limits(void)
{
    struct rlimit none = {0, 0}, files;

    if (setrlimit(RLIMIT_CORE, &none) < 0)
        log_write(WALRUS_WARNING, errno, NULL, "cannot turn off core dumps");
#if !defined(__SANITIZE_ADDRESS__) /* the leak checker must be able to look into the process */
    if (prctl(PR_SET_DUMPABLE, 0) < 0)
        log_write(WALRUS_WARNING, errno, NULL, "cannot turn off core dumps");
#endif
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &files) < 0)
            log_write(WALRUS_WARNING, errno, NULL, "cannot raise the limit of open files");
    }
}

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
    char state[128];

    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\rwalrusfs: recovering, log file %llu of %llu%s", (unsigned long long)done,
                (unsigned long long)total, done == total ? "\n" : "");
    snprintf(state, sizeof(state), "STATUS=recovering, log file %llu of %llu",
             (unsigned long long)done, (unsigned long long)total);
    daemon_notify(state);
}

static bool in_background;

static void session_is_ready(void)
{
    daemon_notify("READY=1\nSTATUS=mounted");
    if (in_background) {
        log_detach();
        daemon_ready();
    }
}

static enum session_result run(struct options *options)
{
    options->walrus.report = log_report;
    options->walrus.progress = show_progress;
    enum session_result result = check_paths(options);
    if (result != SESSION_OK)
        return result;
    if (!options->foreground) {
        int r = daemon_fork();
        if (r < 0) {
            log_write(WALRUS_ERROR, -r, NULL, "cannot go to the background");
            return SESSION_OTHER;
        }
        in_background = true;
    }
    if (chdir("/") < 0) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot change to /");
        return SESSION_OTHER;
    }
    (void)umask(077);
    set_limits();
    set_memory();
    result = session_run(options, session_is_ready);
    daemon_notify("STOPPING=1");
    return result;
}

int main(int argc, char **argv)
{
    struct options options;
    char message[512];

    if (options_parse(&options, argc, argv, message, sizeof(message)) < 0) {
        fprintf(stderr, "walrusfs: %s\n`walrusfs --help` shows the options.\n", message);
        return SESSION_USAGE;
    }
    if (options.help || options.version) {
        if (options.help)
            fputs(options_usage(), stdout);
        else
            printf("walrusfs %s (libfuse %s)\n", WALRUS_VERSION, fuse_pkgversion());
        options_fini(&options);
        return fflush(stdout) == 0 ? SESSION_OK : SESSION_OTHER;
    }
    int r = log_open(options.log_file, options.log_level);
    if (r < 0) {
        fprintf(stderr, "walrusfs: cannot open %s: %s\n", options.log_file, strerrordesc_np(-r));
        options_fini(&options);
        return SESSION_USAGE;
    }
    enum session_result result = run(&options);
    log_close();
    options_fini(&options);
    return result;
}
