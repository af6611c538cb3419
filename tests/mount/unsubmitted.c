// SPDX-License-Identifier: MIT
//
// unsubmitted.c - a library to preload into the daemon: while the file that WALRUSFS_HOLD names is
// there, whoever submits something to an io_uring waits for ever.
//
// uring.py compiles it.  The replies that the daemon has made by then have not reached the kernel.

#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

long syscall(long number, ...)
{
    long (*real)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    const char *hold = getenv("WALRUSFS_HOLD");
    long args[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    while (number == SYS_io_uring_enter && (unsigned)args[1] > 0 && hold && access(hold, F_OK) == 0)
        pause();
    return real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
