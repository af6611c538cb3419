// SPDX-License-Identifier: MIT
//
// aborted.c - a library to preload into the daemon: the end of a connection always comes in the
// middle of a read of /dev/fuse.
//
// contract.py compiles it.  The kernel then gives ECONNABORTED to that read, and ENODEV to later
// ones; here all get the former.  No other read(2) of the daemon gives ENODEV.

#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

static ssize_t told(ssize_t n)
{
    if (n < 0 && errno == ENODEV)
        errno = ECONNABORTED;
    return n;
}

ssize_t read(int fd, void *data, size_t size)
{
    ssize_t (*real)(int, void *, size_t) =
        (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return told(real(fd, data, size));
}

ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
    ssize_t (*real)(int, void *, size_t, size_t) =
        (ssize_t(*)(int, void *, size_t, size_t))dlsym(RTLD_NEXT, "__read_chk");
    return told(real(fd, data, size, room));
}
