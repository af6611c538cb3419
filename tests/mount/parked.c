/* SPDX-License-Identifier: MIT */
/*
 * parked.c - many readers that wait for an entry, each a thread with a small stack.
 *
 *      parked COUNT FILE...
 *
 * Thread i opens FILE number i modulo their number and reads once, with a buffer into which one
 * record of `batch` with a short entry fits.  What it read goes to stdout as one line; an error as
 * a line `errno N`.  A single thread waits in open(2) where the file does; many wait in read(2).
 * The process ends when all threads have; parked.py runs it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STACK_SIZE  (64 * 1024)
#define ENTRY_SIZE  16 /* bytes of each entry, parked.py has it so */
#define RECORD_SIZE (24 + ENTRY_SIZE)

/* Look-ups of one name at the same time wait for each other in the kernel, which wakes them all for
 * each one that is done; so the files are opened in turn, and none may wait in open(2). */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static bool alone; /* the only thread: it may */

static void tell(const char *line, size_t size)
{
    if (write(STDOUT_FILENO, line, size) != (ssize_t)size)
        _exit(2);
}

static int open_file(const char *path)
{
    if (alone)
        return open(path, O_RDONLY);
    pthread_mutex_lock(&opening);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    pthread_mutex_unlock(&opening);
    if (fd >= 0 && fcntl(fd, F_SETFL, 0) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void *reader_main(void *arg)
{
    char data[RECORD_SIZE + 1], line[64];
    int fd = open_file(arg);
    ssize_t n = fd >= 0 ? read(fd, data, RECORD_SIZE) : -1;
    int error = errno;

    if (n == RECORD_SIZE)
        memmove(data, data + RECORD_SIZE - ENTRY_SIZE, ENTRY_SIZE);
    if (n == RECORD_SIZE || n == ENTRY_SIZE) {
        data[ENTRY_SIZE] = '\n';
        tell(data, ENTRY_SIZE + 1);
    } else {
        int size = n < 0 ? snprintf(line, sizeof(line), "errno %d\n", error)
                         : snprintf(line, sizeof(line), "read %zd\n", n);
        tell(line, (size_t)size);
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

int main(int argc, char **argv)
{
    struct rlimit files;
    pthread_attr_t attr;
    pthread_t *threads;
    int count = argc > 2 ? atoi(argv[1]) : 0;

    if (count <= 0) {
        fprintf(stderr, "usage: parked COUNT FILE...\n");
        return 2;
    }
    threads = calloc((size_t)count, sizeof(*threads));
    if (threads == NULL || getrlimit(RLIMIT_NOFILE, &files) < 0 || pthread_attr_init(&attr) != 0 ||
        pthread_attr_setstacksize(&attr, STACK_SIZE) != 0)
        return 2;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return 2;
    alone = count == 1;
    for (int i = 0; i < count; i++) {
        int r = pthread_create(&threads[i], &attr, reader_main, argv[2 + i % (argc - 2)]);
        if (r != 0) {
            fprintf(stderr, "thread %d: %s\n", i, strerror(r));
            return 2;
        }
    }
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
