/* SPDX-License-Identifier: MIT */
/*
 * mount_parked.c - what readers that wait cost the others.
 *
 * One client, kept on one core, appends; meanwhile a thousand readers that came from the same core
 * wait at another topic, or none.  On each transport: under io_uring a waiting request holds
 * something of its core's queue.  The memory is the daemon's, with them.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"
#include "server.h"

#define READER_COUNT 1000u

struct parked {
    const char *options; /* of the mount */
    unsigned reader_count;
};

static void *reader_main(void *arg)
{
    char buffer[64];
    ssize_t n = read((int)(intptr_t)arg, buffer, sizeof(buffer)); /* for ever: we are killed */
    bench_die("a reader did not wait: %zd", n);
}

/* A process with so many threads that wait in read(2).  Opened one by one, which does not wait:
 * many that look up one name at a time make each other begin again. */
static pid_t start_readers(const struct server *server, unsigned count)
{
    const struct rlimit files = {count + 64, count + 64};
    pthread_attr_t attr;
    pthread_t thread;
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    server_pin(0);
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        bench_die("setrlimit: %s", strerror(errno));
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    for (unsigned i = 0; i < count; i++) {
        int fd = server_open(server, O_RDONLY | O_NONBLOCK, "quiet/wait");
        if (fcntl(fd, F_SETFL, 0) != 0)
            bench_die("fcntl: %s", strerror(errno));
        BENCH_OK(-pthread_create(&thread, &attr, reader_main, (void *)(intptr_t)fd));
    }
    for (;;)
        pause();
}

/* The number of `key` in a topic's status. */
static unsigned long status_of(const struct server *server, const char *key)
{
    char text[4096];
    int fd = server_open(server, O_RDONLY, "quiet/groups/default/status");
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    const char *at = strstr(text, key);
    return at ? strtoul(at + strlen(key), NULL, 10) : 0;
}

static void step(struct load_thread *thread)
{
    static char data[1024];
    if (thread->count == 0)
        server_pin(0);
    if (write(*(int *)thread->arg, data, sizeof(data)) != (ssize_t)sizeof(data))
        bench_die("write: %s", strerror(errno));
    thread->count++;
    thread->bytes += sizeof(data);
}

static void parked_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    const struct parked *parked = arg;
    struct timespec pause = {.tv_nsec = 10000000};
    struct server server;
    pid_t readers = 0;

    server_start_walrusfs(&server, options, parked->options);
    server_make_topic(&server, "busy");
    server_make_topic(&server, "quiet");
    if (parked->reader_count)
        readers = start_readers(&server, parked->reader_count);
    while (status_of(&server, "waiting ") < parked->reader_count)
        nanosleep(&pause, NULL);
    int fd = server_open(&server, O_WRONLY, "busy/append");
    load_run(options, 1, step, &fd, true, ret);
    close(fd);
    ret->memory_size = bench_memory_of(server.pid);
    if (readers) {
        kill(readers, SIGKILL);
        waitpid(readers, NULL, 0);
    }
    server_stop(&server);
}

int main(int argc, char **argv)
{
    struct bench bench;
    struct parked dev[] = {{NULL, 0}, {NULL, READER_COUNT}};
    struct parked uring[] = {{"io_uring", 0}, {"io_uring", READER_COUNT}};
    const struct bench_case cases[] = {
        {"append-parked-0", "write/s", parked_run, &dev[0]},
        {"append-parked-1000", "write/s", parked_run, &dev[1]},
        {"uring-append-parked-0", "write/s", parked_run, &uring[0]},
        {"uring-append-parked-1000", "write/s", parked_run, &uring[1]},
    };
    bench_begin(&bench, argc, argv, "Appends beside a thousand readers that wait.", 1);
    size_t count = server_has_uring() ? 4 : 2;
    bench_measure(&bench, cases, count);
    for (size_t i = 0; i < count; i += 2)
        bench_ratio(&bench,
                    &(struct bench_aim){4, i ? "parked-1000/0,io_uring" : "parked-1000/0",
                                        cases[i + 1].name, cases[i].name, BENCH_RATE, 0.9, false});
    bench_end(&bench);
}
