// SPDX-License-Identifier: MIT
//
// late_release.c - a library to preload into the daemon: the thread that reads a RELEASE from
// /dev/fuse is held up before it sees it, so that another thread gets what is asked after the close.
//
// lines.py compiles it.  On a busy machine this happens by itself, once in some thousand closes.

#include <dlfcn.h>
#include <linux/fuse.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static ssize_t hold(const void *data, ssize_t n)
{
    struct fuse_in_header head;
    struct timespec pause = {.tv_nsec = 10000000};

    if (n < (ssize_t)sizeof(head))
        return n;
    memcpy(&head, data, sizeof(head));
    if (head.len == (unsigned)n && head.opcode == FUSE_RELEASE)
        nanosleep(&pause, NULL);
    return n;
}

ssize_t read(int fd, void *data, size_t size)
{
    ssize_t (*real)(int, void *, size_t) =
        (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return hold(data, real(fd, data, size));
}

ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
    ssize_t (*real)(int, void *, size_t, size_t) =
        (ssize_t(*)(int, void *, size_t, size_t))dlsym(RTLD_NEXT, "__read_chk");
    return hold(data, real(fd, data, size, room));
}
