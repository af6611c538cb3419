/* SPDX-License-Identifier: MIT */
/*
 * failpoints.c - a library to preload into the daemon: kills it, or makes a call fail, at a site.
 *
 * A site is a system call on a kind of file of the store: `fdatasync:wal`, `renameat:topics.tmp`.
 * Sites need no names in the program: they are found by recording a run.  The tests are
 * tests/mount/failpoints.py.  From the environment:
 *
 *     WALRUSFS_FAIL_SITES=FILE   counts the hits of each site in FILE, which survives a kill
 *     WALRUSFS_FAIL=SITE:HIT:ACTION   what happens at the HIT-th hit of SITE; `HIT+`: from then on
 *
 * Actions: kill (SIGKILL before the call), tear (a write stores half of its bytes, then SIGKILL),
 * eio, enospc (the call is not made and fails so), sleep (20 ms, then the call), stop (SIGSTOP; the
 * call after SIGCONT).
 *
 * Kinds: super, lock, topics, offsets, wal, each also with .tmp, and dir for directories.  A file
 * is known by the name it was opened by; msync(2) by the mapping.  Stores through a mapping are no
 * calls and no sites.  The tables are written under one lock and read under it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT    __attribute__((visibility("default")))
#define NAME_SIZE 40u
#define SITES_MAX 256u
#define FDS_MAX   4096
#define MAPS_MAX  256u
#define KIND_NONE 0

enum action { ACT_NONE, ACT_KILL, ACT_TEAR, ACT_EIO, ACT_ENOSPC, ACT_SLEEP, ACT_STOP };

/* As it lies in the file of counts. */
struct site {
    char name[NAME_SIZE];
    uint64_t count;
};

/* A kind is an index in here; the odd ones behind `dir` are those being made. */
static const char *const kinds[] = {"",        "dir",         "super",  "super.tmp",
                                    "lock",    "lock.tmp",    "topics", "topics.tmp",
                                    "offsets", "offsets.tmp", "wal",    "wal.tmp"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct site own_sites[SITES_MAX], *sites = own_sites;
static uint8_t fd_kinds[FDS_MAX];
static struct {
    uintptr_t start, end;
    uint8_t kind;
} maps[MAPS_MAX];

static struct {
    char site[NAME_SIZE];
    uint64_t hit;
    bool for_ever;
    enum action action;
} plan;

/* The system's own function of that name. */
#define REAL(name)                                                                                 \
    __extension__({                                                                                \
        static __typeof__(&name) real_;                                                            \
        if (real_ == NULL)                                                                         \
            real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                    \
        real_;                                                                                     \
    })

static void read_plan(const char *text)
{
    static const char *const actions[] = {"", "kill", "tear", "eio", "enospc", "sleep", "stop"};
    const char *action = strrchr(text, ':'), *hit = action;
    while (hit != NULL && hit > text && (hit == action || *hit != ':'))
        hit--;
    if (hit == NULL || hit == text || (size_t)(hit - text) >= NAME_SIZE)
        return;
    memcpy(plan.site, text, (size_t)(hit - text));
    plan.hit = strtoull(hit + 1, NULL, 10);
    plan.for_ever = action[-1] == '+';
    for (unsigned i = 1; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(action + 1, actions[i]) == 0)
            plan.action = (enum action)i;
}

static void set_up(void)
{
    const char *text = getenv("WALRUSFS_FAIL"), *path = getenv("WALRUSFS_FAIL_SITES");
    if (text != NULL)
        read_plan(text);
    int fd = path != NULL ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0 && REAL(ftruncate)(fd, sizeof(own_sites)) == 0) {
        void *at = REAL(mmap)(NULL, sizeof(own_sites), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        sites = at != MAP_FAILED ? at : own_sites;
    }
    if (fd >= 0)
        close(fd);
}

static uint8_t kind_of_name(const char *path)
{
    static const struct {
        const char *start;
        uint8_t kind;
    } names[] = {
        {"SUPER", 2}, {"LOCK", 4}, {"topics.db", 6}, {"read_offset_idx_index.db", 8}, {"wal_", 10}};
    const char *name = strrchr(path, '/');
    name = name != NULL ? name + 1 : path;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(name, names[i].start, strlen(names[i].start)) == 0)
            return (uint8_t)(names[i].kind + (strstr(name, ".tmp") != NULL));
    return KIND_NONE;
}

static uint8_t kind_of_fd(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? fd_kinds[fd] : KIND_NONE;
}

/* Counts a hit; what is to happen. */
static enum action hit(const char *call, uint8_t kind)
{
    char name[NAME_SIZE] = {0};
    if (kind == KIND_NONE)
        return ACT_NONE;
    pthread_once(&once, set_up);
    snprintf(name, sizeof(name), "%s:%s", call, kinds[kind]);
    pthread_mutex_lock(&lock);
    unsigned i = 0;
    while (i < SITES_MAX - 1 && sites[i].name[0] != 0 && strcmp(sites[i].name, name) != 0)
        i++;
    if (sites[i].name[0] == 0)
        memcpy(sites[i].name, name, sizeof(name));
    uint64_t count = ++sites[i].count;
    pthread_mutex_unlock(&lock);
    bool now =
        strcmp(name, plan.site) == 0 && (count == plan.hit || (plan.for_ever && count > plan.hit));
    return now ? plan.action : ACT_NONE;
}

/* True: the call is not made, and errno says what it fails with. */
static bool stopped(const char *call, uint8_t kind)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    switch (hit(call, kind)) {
    case ACT_KILL:
    case ACT_TEAR:
        kill(getpid(), SIGKILL);
        return true;
    case ACT_EIO:
        errno = EIO;
        return true;
    case ACT_ENOSPC:
        errno = ENOSPC;
        return true;
    case ACT_SLEEP:
        nanosleep(&pause, NULL);
        return false;
    case ACT_STOP:
        kill(getpid(), SIGSTOP);
        return false;
    default:
        return false;
    }
}

EXPORT int openat64(int dirfd, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(args, mode_t) : 0;
    va_end(args);
    uint8_t kind = (flags & O_DIRECTORY) != 0 ? 1 : kind_of_name(path);
    if (stopped((flags & O_CREAT) != 0 ? "create" : "openat", kind))
        return -1;
    int fd = REAL(openat64)(dirfd, path, flags, mode);
    if (fd >= 0 && fd < FDS_MAX)
        fd_kinds[fd] = kind;
    return fd;
}

EXPORT int close(int fd)
{
    if (fd >= 0 && fd < FDS_MAX)
        fd_kinds[fd] = KIND_NONE;
    return REAL(close)(fd);
}

EXPORT int ftruncate64(int fd, off_t size)
{
    return stopped("ftruncate", kind_of_fd(fd)) ? -1 : REAL(ftruncate64)(fd, size);
}

EXPORT int fallocate64(int fd, int mode, off_t off, off_t size)
{
    const char *call = mode != 0 ? "punch" : "fallocate";
    return stopped(call, kind_of_fd(fd)) ? -1 : REAL(fallocate64)(fd, mode, off, size);
}

EXPORT ssize_t pread64(int fd, void *buf, size_t size, off_t off)
{
    return stopped("pread", kind_of_fd(fd)) ? -1 : REAL(pread64)(fd, buf, size, off);
}

/* Half of the bytes are written, and nobody is left to write the rest. */
static void tear(int fd, const struct iovec *iov, int count, off_t off)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += iov[i].iov_len;
    size /= 2;
    for (int i = 0; i < count && size > 0; i++) {
        size_t piece = iov[i].iov_len < size ? iov[i].iov_len : size;
        ssize_t written = pwrite(fd, iov[i].iov_base, piece, off);
        off += written > 0 ? written : 0;
        size -= piece;
    }
    kill(getpid(), SIGKILL);
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    uint8_t kind = kind_of_fd(fd);
    if (plan.action == ACT_TEAR) {
        if (hit("pwritev2", kind) == ACT_TEAR)
            tear(fd, iov, count, off);
    } else if (stopped("pwritev2", kind)) {
        return -1;
    }
    return REAL(pwritev64v2)(fd, iov, count, off, flags);
}

EXPORT void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off_t off)
{
    uint8_t kind = kind_of_fd(fd);
    if (stopped("mmap", kind))
        return MAP_FAILED;
    void *at = REAL(mmap64)(addr, size, prot, flags, fd, off);
    if (at == MAP_FAILED || kind == KIND_NONE)
        return at;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MAPS_MAX; i++) {
        if (maps[i].start == 0) {
            maps[i].start = (uintptr_t)at;
            maps[i].end = (uintptr_t)at + size;
            maps[i].kind = kind;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return at;
}

EXPORT int munmap(void *addr, size_t size)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MAPS_MAX; i++)
        if (maps[i].start == (uintptr_t)addr)
            maps[i].start = 0;
    pthread_mutex_unlock(&lock);
    return REAL(munmap)(addr, size);
}

EXPORT int msync(void *addr, size_t size, int flags)
{
    uint8_t kind = KIND_NONE;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < MAPS_MAX; i++)
        if (maps[i].start != 0 && (uintptr_t)addr >= maps[i].start && (uintptr_t)addr < maps[i].end)
            kind = maps[i].kind;
    pthread_mutex_unlock(&lock);
    return stopped("msync", kind) ? -1 : REAL(msync)(addr, size, flags);
}

EXPORT int fsync(int fd)
{
    return stopped("fsync", kind_of_fd(fd)) ? -1 : REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
    return stopped("fdatasync", kind_of_fd(fd)) ? -1 : REAL(fdatasync)(fd);
}

/* A file that gets its final name is of another kind from then on. */
EXPORT int renameat(int old_dir, const char *from, int new_dir, const char *to)
{
    uint8_t kind = kind_of_name(from), next = kind_of_name(to);
    if (stopped("renameat", kind))
        return -1;
    int r = REAL(renameat)(old_dir, from, new_dir, to);
    for (int fd = 0; r == 0 && kind != KIND_NONE && fd < FDS_MAX; fd++)
        if (fd_kinds[fd] == kind)
            fd_kinds[fd] = next;
    return r;
}

EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
    return stopped("unlinkat", kind_of_name(path)) ? -1 : REAL(unlinkat)(dirfd, path, flags);
}

EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
    return stopped("mkdirat", 1) ? -1 : REAL(mkdirat)(dirfd, path, mode);
}
