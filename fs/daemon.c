/* SPDX-License-Identifier: MIT */
/*
 * daemon.c - see daemon.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"

static int ready_pipe = -1; /* to the parent */

/* The parent: waits for a byte, or for the child's end. */
NORETURN static void parent_wait(int pipe_fd, pid_t child)
{
    unsigned char byte;
    int status;
    ssize_t n;

    do
        n = read(pipe_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status)); /* it said why */
    fprintf(stderr, "walrusfs: the daemon ended unexpectedly\n");
    _exit(4);
}

int daemon_fork(void)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        int r = -errno;
        close(fds[0]);
        close(fds[1]);
        return r;
    }
    if (child > 0) {
        close(fds[1]);
        parent_wait(fds[0], child);
    }
    close(fds[0]);
    ready_pipe = fds[1];
    /* Who ends the command before the mount works wants none; a recovery comes to its end first. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || setsid() < 0)
        return -errno;
    return getppid() == parent ? 0 : -EINTR; /* or it was ended before that */
}

void daemon_ready(void)
{
    unsigned char byte = 0;

    if (ready_pipe < 0)
        return;
    (void)prctl(PR_SET_PDEATHSIG, 0); /* the parent ends now; it cannot fail */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
            (void)dup2(null, fd);
        if (null > STDERR_FILENO)
            close(null);
    }
    ssize_t n = write(ready_pipe, &byte, 1);
    (void)n; /* a parent that was killed needs no news */
    close(ready_pipe);
    ready_pipe = -1;
}

void daemon_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    ssize_t n = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
    (void)n; /* systemd's own timeout tells it */
    close(fd);
}
