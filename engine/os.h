/* SPDX-License-Identifier: MIT */
/*
 * os.h - every call of the engine that touches a file, through one table.
 *
 * Serves all of engine/; nothing else there calls open, mmap, fsync and their like.  The table
 * exists for tests: faultos makes the n-th call fail, crashos records what a power cut could leave.
 * The functions return 0 or a count, or -errno; EINTR and short transfers are handled here.
 * Stores through a mapping do not pass here; guard.h has those.
 */
#ifndef WALRUS_OS_H
#define WALRUS_OS_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "compiler.h"

struct os_ops {
    int (*openat)(int dirfd, const char *name, int flags, mode_t mode);
    int (*close)(int fd);
    int (*fstat)(int fd, struct stat *st);
    int (*ftruncate)(int fd, off_t size);
    int (*fallocate)(int fd, int mode, off_t off, off_t size);
    ssize_t (*pread)(int fd, void *buf, size_t size, off_t off);
    /* flags: 0 or RWF_DSYNC */
    ssize_t (*pwritev2)(int fd, const struct iovec *iov, int count, off_t off, int flags);
    void *(*mmap)(int fd, size_t size, int prot); /* shared, from 0; MAP_FAILED and errno */
    int (*munmap)(void *addr, size_t size);
    int (*msync)(void *addr, size_t size); /* MS_SYNC */
    int (*fsync)(int fd);
    int (*fdatasync)(int fd);
    int (*renameat)(int dirfd, const char *from, const char *to);
    int (*unlinkat)(int dirfd, const char *name);
    int (*mkdirat)(int dirfd, const char *name, mode_t mode);
    off_t (*lseek)(int fd, off_t off, int whence); /* SEEK_DATA, SEEK_HOLE */
};

extern const struct os_ops os_system; /* the system's own calls, -1 and errno on failure */
extern const struct os_ops *os;       /* what is in use; tests replace it while no store is open */

WALRUS_CHECK int os_open(int dirfd, const char *name, int flags,
                         mode_t mode); /* adds flags that do no harm */
int os_close(int fd);                  /* < 0 is allowed and does nothing */
WALRUS_CHECK int os_fstat(int fd, struct stat *ret_st);
WALRUS_CHECK int os_truncate(int fd, uint64_t size);
WALRUS_CHECK int os_allocate(int fd, uint64_t off,
                             uint64_t size); /* fallocate mode 0; EOPNOTSUPP writes zeros */
WALRUS_CHECK int os_punch(int fd, uint64_t off,
                          uint64_t size); /* gives the space back, keeps the size */
/* Reads up to `size`; fewer only at the end of the file.  Bytes read. */
WALRUS_CHECK ssize_t os_read(int fd, void *buf, size_t size, uint64_t off);
/* Writes all of it, or fails.  `durable`: RWF_DSYNC. */
WALRUS_CHECK int os_write(int fd, const void *buf, size_t size, uint64_t off, bool durable);
WALRUS_CHECK int os_writev(int fd, struct iovec *iov, int count, uint64_t off,
                           bool durable); /* changes iov */
WALRUS_CHECK int os_zero(int fd, uint64_t off,
                         uint64_t size); /* writes zeros, in pieces of 256 KiB at most */
WALRUS_CHECK int os_map(int fd, uint64_t size, bool writable, uint8_t **ret_addr);
void os_unmap(uint8_t *addr, uint64_t size);
WALRUS_CHECK int os_msync(uint8_t *addr, uint64_t off, uint64_t size); /* rounds to pages */
WALRUS_CHECK int os_fsync(int fd);
WALRUS_CHECK int os_fdatasync(int fd);
/* Reads all of it around places that the disk cannot give back, which become 0xff; zeros behind the
 * end.  -EIO: not one page could be read, so it is no matter of some bad sectors. */
WALRUS_CHECK int os_read_salvaging(int fd, uint8_t *buf, size_t size, uint64_t off);
/* Writes a whole file back as it reads, and syncs it: what the page cache shows is then on disk,
 * also what a failed sync left there as clean. */
WALRUS_CHECK int os_rewrite(int fd);
WALRUS_CHECK int os_rename(int dirfd, const char *from, const char *to);
WALRUS_CHECK int os_unlink(int dirfd, const char *name);
WALRUS_CHECK int os_mkdir(int dirfd, const char *name, mode_t mode);
/* Calls `each` for every name in a directory (`.` and `..` too), until it returns other than 0, which is
 * returned then.  `type`: DT_DIR and the like. */
WALRUS_CHECK int os_list(int dirfd, int (*each)(void *arg, const char *name, int type), void *arg);
/* Offset of the first data at or after off; -ENXIO: none. */
WALRUS_CHECK int64_t os_seek_data(int fd, uint64_t off);

#endif
