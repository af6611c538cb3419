/* SPDX-License-Identifier: MIT */
/*
 * os.c - the system calls behind os.h, and what every caller wants done about their oddities.
 *
 * Serves all of engine/; uses libc.  No locks; `os` changes only while no store is open.  Every
 * function returns -errno of the call that failed.  A call that a signal interrupted is made again,
 * close(2) excepted: Linux has closed the descriptor by then, and its number may be somebody
 * else's.
 */
#include "os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REWRITE_SIZE 1048576u
#define SALVAGE_SIZE 4096u
#define ZERO_SIZE    262144u

/* The value of `call`, made until it is not interrupted, or -errno. */
#define RETRY(call)                                                                                \
    __extension__({                                                                                \
        __typeof__(call) value_;                                                                   \
        do                                                                                         \
            value_ = (call);                                                                       \
        while (value_ < 0 && errno == EINTR);                                                      \
        value_ < 0 ? -errno : value_;                                                              \
    })

/* A limit on the size of files (RLIMIT_FSIZE, or the filesystem's) is one of space. */
static int as_space(int result)
{
    return result == -EFBIG ? -ENOSPC : result;
}

static int system_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    return openat(dirfd, name, flags, mode);
}

static void *system_mmap(int fd, size_t size, int prot)
{
    return mmap(NULL, size, prot, MAP_SHARED, fd, 0);
}

static int system_msync(void *addr, size_t size)
{
    return msync(addr, size, MS_SYNC);
}

static int system_renameat(int dirfd, const char *from, const char *to)
{
    return renameat(dirfd, from, dirfd, to);
}

static int system_unlinkat(int dirfd, const char *name)
{
    return unlinkat(dirfd, name, 0);
}

const struct os_ops os_system = {
    .openat = system_openat,
    .close = close,
    .fstat = fstat,
    .ftruncate = ftruncate,
    .fallocate = fallocate,
    .pread = pread,
    .pwritev2 = pwritev2,
    .mmap = system_mmap,
    .munmap = munmap,
    .msync = system_msync,
    .fsync = fsync,
    .fdatasync = fdatasync,
    .renameat = system_renameat,
    .unlinkat = system_unlinkat,
    .mkdirat = mkdirat,
    .lseek = lseek,
};

const struct os_ops *os = &os_system;

int os_open(int dirfd, const char *name, int flags, mode_t mode)
{
    /* A pipe or a terminal in the place of a file must not make anybody wait. */
    return RETRY(os->openat(dirfd, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode));
}

int os_close(int fd)
{
    if (fd < 0 || os->close(fd) == 0 || errno == EINTR)
        return 0;
    return -errno;
}

int os_fstat(int fd, struct stat *ret_st)
{
    struct stat st;
    int r = RETRY(os->fstat(fd, &st));
    if (r == 0)
        *ret_st = st;
    return r;
}

int os_truncate(int fd, uint64_t size)
{
    return as_space(RETRY(os->ftruncate(fd, (off_t)size)));
}

int os_allocate(int fd, uint64_t off, uint64_t size)
{
    int r = RETRY(os->fallocate(fd, 0, (off_t)off, (off_t)size));
    return r == -EOPNOTSUPP ? os_zero(fd, off, size) : as_space(r);
}

int os_punch(int fd, uint64_t off, uint64_t size)
{
    const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return RETRY(os->fallocate(fd, mode, (off_t)off, (off_t)size));
}

ssize_t os_read(int fd, void *buf, size_t size, uint64_t off)
{
    size_t done = 0;

    while (done < size) {
        ssize_t r = RETRY(os->pread(fd, (uint8_t *)buf + done, size - done, (off_t)(off + done)));
        if (r < 0)
            return r;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

int os_write(int fd, const void *buf, size_t size, uint64_t off, bool durable)
{
    struct iovec iov = {.iov_base = (void *)buf, .iov_len = size};
    return os_writev(fd, &iov, 1, off, durable);
}

/* Takes `size` written bytes off the front of *iov, and with them the vectors that are used up. */
static void iov_advance(struct iovec **iov, int *count, size_t size)
{
    while (*count > 0 && size >= (*iov)->iov_len) {
        size -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    if (*count > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + size;
        (*iov)->iov_len -= size;
    }
}

int os_writev(int fd, struct iovec *iov, int count, uint64_t off, bool durable)
{
    iov_advance(&iov, &count,
                0); /* empty vectors in front: a write of nothing looks like no progress */
    while (count > 0) {
        ssize_t r =
            RETRY(os->pwritev2(fd, iov, MIN(count, IOV_MAX), (off_t)off, durable ? RWF_DSYNC : 0));
        if (r < 0)
            return as_space((int)r);
        if (r == 0) /* not a thing that regular files do; it must not become an endless loop */
            return -EIO;
        off += (uint64_t)r;
        iov_advance(&iov, &count, (size_t)r);
    }
    return 0;
}

int os_zero(int fd, uint64_t off, uint64_t size)
{
    static uint8_t zeros[ZERO_SIZE]; /* never written, so all of it is the kernel's one zero page */

    while (size > 0) {
        size_t piece = MIN(size, sizeof(zeros));
        int r = os_write(fd, zeros, piece, off, false);
        if (r < 0)
            return r;
        off += piece;
        size -= piece;
    }
    return 0;
}

int os_map(int fd, uint64_t size, bool writable, uint8_t **ret_addr)
{
    void *addr = os->mmap(fd, size, writable ? PROT_READ | PROT_WRITE : PROT_READ);
    if (addr == MAP_FAILED)
        return -errno;
    *ret_addr = addr;
    return 0;
}

void os_unmap(uint8_t *addr, uint64_t size)
{
    if (!addr)
        return;
    /* A failure costs address space and nothing else, and nobody could do better about it. */
    (void)os->munmap(addr, size);
}

int os_msync(uint8_t *addr, uint64_t off, uint64_t size)
{
    if (size == 0)
        return 0;
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t start = round_down(off, page);
    return RETRY(os->msync(addr + start, round_up(off + size, page) - start));
}

int os_fsync(int fd)
{
    return RETRY(os->fsync(fd));
}

int os_fdatasync(int fd)
{
    return RETRY(os->fdatasync(fd));
}

int os_rename(int dirfd, const char *from, const char *to)
{
    return RETRY(os->renameat(dirfd, from, to));
}

int os_unlink(int dirfd, const char *name)
{
    return RETRY(os->unlinkat(dirfd, name));
}

int os_mkdir(int dirfd, const char *name, mode_t mode)
{
    return RETRY(os->mkdirat(dirfd, name, mode));
}

int os_list(int dirfd, int (*each)(void *arg, const char *name, int type), void *arg)
{
    int fd = os_open(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int error = errno;
        os_close(fd);
        return -error;
    }
    int r = 0;
    while (r == 0) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            r = -errno;
            break;
        }
        r = each(arg, entry->d_name, entry->d_type);
    }
    closedir(dir);
    return r;
}

int64_t os_seek_data(int fd, uint64_t off)
{
    return RETRY(os->lseek(fd, (off_t)off, SEEK_DATA));
}

int os_read_salvaging(int fd, uint8_t *buf, size_t size, uint64_t off)
{
    ssize_t n = os_read(fd, buf, size, off);
    if (n != -EIO) {
        memset(buf + MAX(n, 0), 0, n < 0 ? 0 : size - (size_t)n);
        return (int)MIN(n, 0);
    }
    bool any = false;
    for (size_t done = 0; done < size; done += SALVAGE_SIZE) {
        size_t piece = MIN(size - done, SALVAGE_SIZE);
        n = os_read(fd, buf + done, piece, off + done);
        if (n < 0 && n != -EIO)
            return (int)n;
        if (n < 0)
            memset(buf + done, 0xff, piece);
        else
            memset(buf + done + n, 0, piece - (size_t)n);
        any |= n >= 0;
    }
    return any ? 0 : -EIO;
}

int os_rewrite(int fd)
{
    struct stat st;
    int r = os_fstat(fd, &st);
    uint8_t *piece = r == 0 ? malloc(REWRITE_SIZE) : NULL;
    if (r == 0 && !piece)
        r = -ENOMEM;
    for (uint64_t off = 0; r == 0 && off < (uint64_t)st.st_size; off += REWRITE_SIZE) {
        size_t size = MIN(REWRITE_SIZE, (uint64_t)st.st_size - off);
        r = os_read_salvaging(fd, piece, size, off);
        if (r == 0)
            r = os_write(fd, piece, size, off, false);
    }
    free(piece);
    return r < 0 ? r : os_fdatasync(fd);
}
