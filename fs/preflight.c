/* SPDX-License-Identifier: MIT */
/*
 * preflight.c - see preflight.h.
 *
 * Each message says what can be done about it: it is all that the user of a mount that did not come
 * about gets to see.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "preflight.h"

#define FUSE_CONF "/etc/fuse.conf"

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

static bool is_mounted(const char *path)
{
    char config[PATH_MAX];
    return snprintf(config, sizeof(config), "%s/.walrusfs/config", path) < (int)sizeof(config) &&
           access(config, F_OK) == 0;
}

/* What a dead daemon left.  stat(2) may still be answered from the kernel's cache.  While the io_uring
 * of a daemon that was just killed ends, a call may also be canceled or interrupted. */
static bool is_stale(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == ENOTCONN || errno == ECONNABORTED || errno == ECANCELED);
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
                  "a dead daemon left its mount at %s; remove it with: fusermount3 -u -- %s "
                  "(or mount with -o clean_stale)",
                  given, given);
        return SESSION_MOUNT;
    }
    if (stat(given, &stat_buf) < 0) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot use %s as mountpoint%s", given,
                  errno == ENOENT ? " (mkdir makes it)" : "");
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
    if (!options->non_empty && is_mounted(path)) {
        log_write(WALRUS_ERROR, 0, NULL,
                  "a store is mounted at %s already; unmount it with: fusermount3 -u -- %s", path,
                  path);
        return SESSION_MOUNT;
    }
    if (!options->non_empty && !dir_is_empty(path)) {
        log_write(WALRUS_ERROR, 0, NULL,
                  "the mountpoint %s is not empty; -o nonempty mounts over what is there", path);
        return SESSION_MOUNT;
    }
    return SESSION_OK;
}

static enum session_result check_store(struct options *options)
{
    char *store = resolve_store(options->store);
    if (store == NULL) {
        log_write(WALRUS_ERROR, errno, NULL,
                  "cannot find the store %s; only its last directory is made when it is missing",
                  options->store);
        return SESSION_STORE;
    }
    free(options->store);
    options->store = store;
    if (path_is_in(store, options->mountpoint)) {
        log_write(
            WALRUS_ERROR, 0, NULL,
            "the store %s lies inside the mountpoint %s, which would hide it: mount elsewhere",
            store, options->mountpoint);
        return SESSION_USAGE;
    }
    return SESSION_OK;
}

/* Whether the mount can be opened to others by who runs this. */
static enum session_result check_allow_other(const struct options *options)
{
    char line[256];
    bool found = false;

    if (geteuid() == 0 || !(options->allow_other || options->allow_root))
        return SESSION_OK;
    FILE *file = fopen(FUSE_CONF, "re");
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, " \t\n")] = '\0';
        found = strcmp(line, "user_allow_other") == 0;
    }
    if (file != NULL)
        fclose(file);
    if (found)
        return SESSION_OK;
    log_write(WALRUS_ERROR, 0, NULL,
              "%s is for root, unless %s has the line user_allow_other: add it (as root), or leave "
              "the option out",
              options->allow_other ? "allow_other" : "allow_root", FUSE_CONF);
    return SESSION_MOUNT;
}

static enum session_result check_device(void)
{
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 || (errno != ENOENT && errno != ENXIO && errno != ENODEV && errno != EPERM))
        return SESSION_OK; /* whoever opens it for the mount will tell */
    log_write(WALRUS_ERROR, errno, NULL,
              "cannot open /dev/fuse; load the module with `modprobe fuse`, or start the container "
              "with --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor:unconfined");
    return SESSION_MOUNT;
}

enum session_result preflight_check(struct options *options)
{
    enum session_result result = check_mountpoint(options);
    if (result == SESSION_OK)
        result = check_store(options);
    if (result == SESSION_OK)
        result = check_allow_other(options);
    if (result == SESSION_OK)
        result = check_device();
    return result;
}
