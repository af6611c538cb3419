/* SPDX-License-Identifier: MIT */
/*
 * stdfds.c - see stdfds.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "stdfds.h"

int stdfds_open(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* The wrong way around, so that using it goes on to fail: output must not be lost in
         * silence.  The lowest number that is free is this one. */
        if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
            return -EBADF;
    }
    return 0;
}
