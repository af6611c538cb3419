// SPDX-License-Identifier: MIT
//
// interrupted.c - takes entries from a file while an alarm interrupts it twice a millisecond.
//
// waiting.py compiles and runs it.  It opens PATH, prints what is there and closes it, until the
// entry END was taken.  Only EINTR may go wrong: open(2) and read(2) are then called again.  The
// number of those is printed to stderr.  One thread.
//
// usage: interrupted PATH END

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void ignore(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = ignore}; // no SA_RESTART
    struct itimerval often = {.it_interval.tv_usec = 500, .it_value.tv_usec = 500};
    char data[4096];
    unsigned long interrupted = 0;
    bool ended = false;

    if (argc != 3 || sigaction(SIGALRM, &action, NULL) < 0 ||
        setitimer(ITIMER_REAL, &often, NULL) < 0)
        err(1, "usage: interrupted PATH END");
    while (!ended) {
        ssize_t size;
        int fd = open(argv[1], O_RDONLY);
        if (fd < 0 && errno == EINTR) {
            interrupted++;
            continue;
        }
        if (fd < 0)
            err(1, "open");
        while ((size = read(fd, data, sizeof(data))) != 0) {
            if (size < 0 && errno != EINTR)
                err(1, "read");
            interrupted += size < 0;
            ended |= size == (ssize_t)strlen(argv[2]) && memcmp(data, argv[2], (size_t)size) == 0;
            if (size > 0 && !ended && fwrite(data, 1, (size_t)size, stdout) != (size_t)size)
                err(1, "write");
        }
        close(fd);
    }
    fprintf(stderr, "%lu\n", interrupted);
    return fflush(stdout) == 0 ? 0 : 1;
}
