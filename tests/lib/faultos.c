/* SPDX-License-Identifier: MIT */
/*
 * faultos.c - see faultos.h.
 *
 * Uses os_system for the real work.  One mutex guards all state; it is not held across a real call
 * or the hook.  The name of a descriptor's file comes from /proc, so that it is the present one
 * also after a rename; that of a mapping is noted when it is made.
 */
#include "faultos.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"

#define RULE_COUNT_MAX 8
#define FILE_COUNT_MAX 4096
#define MAP_COUNT_MAX  4096

struct armed {
    struct faultos_rule rule;
    unsigned seen; /* matching calls since it was armed */
};

struct read_file {
    char name[NAME_MAX + 1];
    uint64_t bytes;
};

struct mapping {
    uintptr_t addr;
    size_t size; /* 0: unused */
    char name[NAME_MAX + 1];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct armed rules[RULE_COUNT_MAX];
static size_t rule_count;
static uint64_t counts[FAULTOS_KIND_COUNT];
static uint64_t failed_count;
static struct read_file read_files[FILE_COUNT_MAX];
static size_t read_file_count;
static struct mapping mappings[MAP_COUNT_MAX];
static size_t transfer_limit;
static void (*sync_hook)(void *arg, const char *file);
static void *sync_hook_arg;

static void die(const char *what)
{
    fprintf(stderr, "faultos: %s\n", what);
    abort();
}

static void state_lock(void)
{
    if (pthread_mutex_lock(&mutex) != 0)
        die("lock");
}

static void state_unlock(void)
{
    if (pthread_mutex_unlock(&mutex) != 0)
        die("unlock");
}

static bool kind_is_sync(enum faultos_kind kind)
{
    return kind == FAULTOS_MSYNC || kind == FAULTOS_FSYNC || kind == FAULTOS_FDATASYNC ||
           kind == FAULTOS_WRITE_DURABLE;
}

static bool kind_matches(enum faultos_kind wanted, enum faultos_kind kind)
{
    return wanted == kind || wanted == FAULTOS_ANY ||
           (wanted == FAULTOS_ANY_SYNC && kind_is_sync(kind));
}

static void name_set(char *name, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *last = slash ? slash + 1 : path;
    size_t size = strnlen(last, NAME_MAX);
    memcpy(name, last, size);
    name[size] = '\0';
}

static void name_of_fd(char *name, int fd)
{
    char link[64], path[PATH_MAX];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    path[size < 0 ? 0 : size] = '\0';
    name_set(name, path);
}

static void name_of_mapping(char *name, const void *addr)
{
    state_lock();
    name[0] = '\0';
    for (size_t i = 0; i < MAP_COUNT_MAX; i++)
        if (mappings[i].size > 0 && (uintptr_t)addr - mappings[i].addr < mappings[i].size)
            name_set(name, mappings[i].name);
    state_unlock();
}

/* Counts a call.  True if it has to fail: errno says with what. */
static bool call_fails(enum faultos_kind kind, const char *name)
{
    int error = 0;

    state_lock();
    counts[kind]++;
    for (size_t i = 0; i < rule_count; i++) {
        struct armed *armed = &rules[i];
        if (!kind_matches(armed->rule.kind, kind))
            continue;
        if (armed->rule.file && fnmatch(armed->rule.file, name, 0) != 0)
            continue;
        armed->seen++;
        bool due = armed->seen == armed->rule.nth ||
                   (armed->rule.forever && armed->seen > armed->rule.nth);
        if (due && error == 0)
            error = armed->rule.error;
    }
    if (error != 0)
        failed_count++;
    void (*hook)(void *, const char *) = kind_is_sync(kind) ? sync_hook : NULL;
    void *arg = sync_hook_arg;
    state_unlock();

    if (hook)
        hook(arg, name);
    errno = error;
    return error != 0;
}

static bool fd_call_fails(enum faultos_kind kind, int fd)
{
    char name[NAME_MAX + 1];
    name_of_fd(name, fd);
    return call_fails(kind, name);
}

static bool mapping_call_fails(enum faultos_kind kind, const void *addr)
{
    char name[NAME_MAX + 1];
    name_of_mapping(name, addr);
    return call_fails(kind, name);
}

static int fault_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    char last[NAME_MAX + 1];
    name_set(last, name);
    return call_fails(FAULTOS_OPEN, last) ? -1 : os_system.openat(dirfd, name, flags, mode);
}

static int fault_close(int fd)
{
    bool fails = fd_call_fails(FAULTOS_CLOSE, fd);
    int error = errno;
    int r = os_system.close(fd);
    if (fails)
        errno = error;
    return fails ? -1 : r;
}

static int fault_fstat(int fd, struct stat *st)
{
    return fd_call_fails(FAULTOS_STAT, fd) ? -1 : os_system.fstat(fd, st);
}

static int fault_ftruncate(int fd, off_t size)
{
    return fd_call_fails(FAULTOS_TRUNCATE, fd) ? -1 : os_system.ftruncate(fd, size);
}

static int fault_fallocate(int fd, int mode, off_t off, off_t size)
{
    enum faultos_kind kind = mode == 0 ? FAULTOS_ALLOCATE : FAULTOS_PUNCH;
    return fd_call_fails(kind, fd) ? -1 : os_system.fallocate(fd, mode, off, size);
}

static size_t get_transfer_limit(void)
{
    state_lock();
    size_t limit = transfer_limit;
    state_unlock();
    return limit > 0 ? limit : SIZE_MAX;
}

static void note_read(int fd, size_t size)
{
    char name[NAME_MAX + 1];
    size_t i = 0;

    name_of_fd(name, fd);
    state_lock();
    while (i < read_file_count && strcmp(read_files[i].name, name) != 0)
        i++;
    if (i == read_file_count) {
        if (i == FILE_COUNT_MAX)
            die("too many files read");
        read_file_count++;
        name_set(read_files[i].name, name);
        read_files[i].bytes = 0;
    }
    read_files[i].bytes += size;
    state_unlock();
}

static ssize_t fault_pread(int fd, void *buf, size_t size, off_t off)
{
    if (fd_call_fails(FAULTOS_READ, fd))
        return -1;
    ssize_t r = os_system.pread(fd, buf, MIN(size, get_transfer_limit()), off);
    if (r > 0)
        note_read(fd, (size_t)r);
    return r;
}

static ssize_t fault_pwritev2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    enum faultos_kind kind = flags & RWF_DSYNC ? FAULTOS_WRITE_DURABLE : FAULTOS_WRITE;
    size_t limit = get_transfer_limit();

    if (fd_call_fails(kind, fd))
        return -1;
    if (limit == SIZE_MAX || count == 0)
        return os_system.pwritev2(fd, iov, count, off, flags);
    struct iovec first = {iov->iov_base, MIN(iov->iov_len, limit)};
    return os_system.pwritev2(fd, &first, 1, off, flags);
}

static void *fault_mmap(int fd, size_t size, int prot)
{
    char name[NAME_MAX + 1];
    size_t i = 0;

    name_of_fd(name, fd);
    if (call_fails(FAULTOS_MAP, name))
        return MAP_FAILED;
    void *addr = os_system.mmap(fd, size, prot);
    if (addr == MAP_FAILED)
        return addr;
    state_lock();
    while (i < MAP_COUNT_MAX && mappings[i].size > 0)
        i++;
    if (i == MAP_COUNT_MAX)
        die("too many mappings");
    mappings[i].addr = (uintptr_t)addr;
    mappings[i].size = size;
    name_set(mappings[i].name, name);
    state_unlock();
    return addr;
}

static int fault_munmap(void *addr, size_t size)
{
    if (mapping_call_fails(FAULTOS_UNMAP, addr))
        return -1;
    state_lock(); /* before the range can be given out again */
    for (size_t i = 0; i < MAP_COUNT_MAX; i++)
        if (mappings[i].addr == (uintptr_t)addr)
            mappings[i].size = 0;
    state_unlock();
    return os_system.munmap(addr, size);
}

static int fault_msync(void *addr, size_t size)
{
    return mapping_call_fails(FAULTOS_MSYNC, addr) ? -1 : os_system.msync(addr, size);
}

static int fault_fsync(int fd)
{
    return fd_call_fails(FAULTOS_FSYNC, fd) ? -1 : os_system.fsync(fd);
}

static int fault_fdatasync(int fd)
{
    return fd_call_fails(FAULTOS_FDATASYNC, fd) ? -1 : os_system.fdatasync(fd);
}

static int fault_renameat(int dirfd, const char *from, const char *to)
{
    return call_fails(FAULTOS_RENAME, from) ? -1 : os_system.renameat(dirfd, from, to);
}

static int fault_unlinkat(int dirfd, const char *name)
{
    return call_fails(FAULTOS_UNLINK, name) ? -1 : os_system.unlinkat(dirfd, name);
}

static int fault_mkdirat(int dirfd, const char *name, mode_t mode)
{
    return call_fails(FAULTOS_MKDIR, name) ? -1 : os_system.mkdirat(dirfd, name, mode);
}

static off_t fault_lseek(int fd, off_t off, int whence)
{
    return fd_call_fails(FAULTOS_SEEK, fd) ? -1 : os_system.lseek(fd, off, whence);
}

static const struct os_ops fault_ops = {
    .openat = fault_openat,
    .close = fault_close,
    .fstat = fault_fstat,
    .ftruncate = fault_ftruncate,
    .fallocate = fault_fallocate,
    .pread = fault_pread,
    .pwritev2 = fault_pwritev2,
    .mmap = fault_mmap,
    .munmap = fault_munmap,
    .msync = fault_msync,
    .fsync = fault_fsync,
    .fdatasync = fault_fdatasync,
    .renameat = fault_renameat,
    .unlinkat = fault_unlinkat,
    .mkdirat = fault_mkdirat,
    .lseek = fault_lseek,
};

void faultos_install(void)
{
    faultos_disarm();
    faultos_forget_counts();
    faultos_limit_transfer(0);
    faultos_on_sync(NULL, NULL);
    memset(mappings, 0, sizeof(mappings));
    os = &fault_ops;
}

void faultos_remove(void)
{
    os = &os_system;
}

void faultos_arm(const struct faultos_rule *rule)
{
    state_lock();
    if (rule_count == RULE_COUNT_MAX || rule->nth == 0 || rule->error <= 0)
        die("too many rules, or one that can never act");
    rules[rule_count++] = (struct armed){.rule = *rule};
    state_unlock();
}

void faultos_disarm(void)
{
    state_lock();
    rule_count = 0;
    state_unlock();
}

void faultos_limit_transfer(size_t size)
{
    state_lock();
    transfer_limit = size;
    state_unlock();
}

void faultos_on_sync(void (*hook)(void *arg, const char *file), void *arg)
{
    state_lock();
    sync_hook = hook;
    sync_hook_arg = arg;
    state_unlock();
}

uint64_t faultos_count(enum faultos_kind kind)
{
    uint64_t sum = 0;

    state_lock();
    for (enum faultos_kind k = 0; k < FAULTOS_KIND_COUNT; k++)
        if (kind_matches(kind, k))
            sum += counts[k];
    state_unlock();
    return sum;
}

uint64_t faultos_failed_count(void)
{
    state_lock();
    uint64_t count = failed_count;
    state_unlock();
    return count;
}

static void read_bytes(const char *pattern, uint64_t *ret_sum, uint64_t *ret_max)
{
    *ret_sum = *ret_max = 0;
    state_lock();
    for (size_t i = 0; i < read_file_count; i++) {
        if (fnmatch(pattern, read_files[i].name, 0) != 0)
            continue;
        *ret_sum += read_files[i].bytes;
        *ret_max = MAX(*ret_max, read_files[i].bytes);
    }
    state_unlock();
}

uint64_t faultos_read_bytes(const char *pattern)
{
    uint64_t sum, max;
    read_bytes(pattern, &sum, &max);
    return sum;
}

uint64_t faultos_read_bytes_max(const char *pattern)
{
    uint64_t sum, max;
    read_bytes(pattern, &sum, &max);
    return max;
}

void faultos_forget_counts(void)
{
    state_lock();
    memset(counts, 0, sizeof(counts));
    failed_count = 0;
    read_file_count = 0;
    state_unlock();
}
