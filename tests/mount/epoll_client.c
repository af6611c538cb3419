// SPDX-License-Identifier: MIT
//
// epoll_client.c - uses a file of the mount in the way of Go's runtime: the descriptor is
// registered with epoll once, edge-triggered and for everything, and after that the program calls
// read(2) or write(2) until EAGAIN before it waits for an event.
//
// tools.py compiles and runs it, and checks what it prints: a line `again` for each EAGAIN, `data
// TEXT` for each read, `end` for the end of the file.  One thread.  Whatever fails ends it with a
// message and status 1; an event that does not come within WAIT_MS does too, so a test never hangs
// on it.
//
// usage: epoll_client nonblock|later PATH COUNT   read until COUNT reads gave data, or the end
//        epoll_client write PATH TEXT COUNT       write TEXT, COUNT times
//
// `nonblock` opens with O_NONBLOCK, as syscall.Open with that flag does; `later` sets it only after
// the descriptor was registered, as os.OpenFile does.

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { WAIT_MS = 120000 };

static int client_open(const char *path, int flags, int *ret_epoll)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        err(1, "open %s", path);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        err(1, "epoll");
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        err(1, "fcntl");
    *ret_epoll = epoll;
    return fd;
}

// Waits for an event after a call that failed; all but EAGAIN is fatal.
static void client_wait(int epoll)
{
    if (errno != EAGAIN)
        err(1, "the call");
    struct epoll_event event;
    puts("again");
    int count = epoll_wait(epoll, &event, 1, WAIT_MS);
    if (count < 0)
        err(1, "epoll_wait");
    if (count == 0)
        errx(1, "no event came");
}

static void client_read(const char *path, int flags, int count)
{
    int epoll;
    int fd = client_open(path, O_RDONLY | flags, &epoll);
    while (count > 0) {
        char buffer[4096];
        ssize_t size = read(fd, buffer, sizeof(buffer));
        if (size < 0) {
            client_wait(epoll);
        } else if (size == 0) {
            puts("end");
            return;
        } else {
            printf("data %.*s\n", (int)size, buffer);
            count--;
        }
    }
}

static void client_write(const char *path, const char *text, int count)
{
    int epoll;
    int fd = client_open(path, O_WRONLY, &epoll);
    while (count > 0) {
        ssize_t size = write(fd, text, strlen(text));
        if (size < 0)
            client_wait(epoll);
        else if ((size_t)size != strlen(text))
            errx(1, "a write was cut");
        else
            count--;
    }
    if (close(fd) != 0)
        err(1, "close");
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0); // the test reads a pipe, line by line
    if (argc == 4 && strcmp(argv[1], "nonblock") == 0)
        client_read(argv[2], O_NONBLOCK, atoi(argv[3]));
    else if (argc == 4 && strcmp(argv[1], "later") == 0)
        client_read(argv[2], 0, atoi(argv[3]));
    else if (argc == 5 && strcmp(argv[1], "write") == 0)
        client_write(argv[2], argv[3], atoi(argv[4]));
    else
        errx(1, "usage: epoll_client nonblock|later PATH COUNT | write PATH TEXT COUNT");
    return 0;
}
