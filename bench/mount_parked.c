/* SPDX-License-Identifier: MIT */
/*
 * mount_parked.c - what readers that wait cost the others.
 *
 * One client, kept on one core, appends to two mounts in turns of 20 ms: at another topic of the one a
 * thousand readers wait that came from the same core, at the other none.  In turns, because what else
 * the machine does for a second says more about a rate than a thousand sleeping readers do.  On each
 * transport: under io_uring a waiting request holds something of its core's queue.  The memory is the
 * daemon's, with them.
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
#define TURN_NS      20000000u

struct side {
    struct server server;
    pid_t readers; /* 0: none */
    int fd;
    uint64_t count, ns; /* writes, and the time that they took */
    struct hist hist;
};

/* Both are measured at a time, when the case of one of them is to run; the other's case finds its
 * result here. */
struct pair {
    const char *options; /* of the mounts */
    struct side sides[2];
    struct bench_result results[2];
    bool measured[2];
    uint64_t began_ns;
};

struct parked {
    struct pair *pair;
    unsigned idx; /* 1: beside readers that wait */
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
    struct pair *pair = thread->arg;
    if (thread->count == 0)
        server_pin(0);
    uint64_t began = bench_now_ns();
    struct side *side = &pair->sides[(began - pair->began_ns) / TURN_NS % 2];
    if (write(side->fd, data, sizeof(data)) != (ssize_t)sizeof(data))
        bench_die("write: %s", strerror(errno));
    uint64_t ns = bench_now_ns() - began;
    hist_add(&side->hist, ns);
    side->ns += ns;
    side->count++;
    thread->count++;
}

static void side_begin(struct side *side, const struct bench_options *options,
                       const char *mount_options, unsigned reader_count)
{
    struct timespec pause = {.tv_nsec = 10000000};

    *side = (struct side){.readers = 0};
    server_start_walrusfs(&side->server, options, mount_options);
    server_make_topic(&side->server, "busy");
    server_make_topic(&side->server, "quiet");
    if (reader_count)
        side->readers = start_readers(&side->server, reader_count);
    while (status_of(&side->server, "waiting ") < reader_count)
        nanosleep(&pause, NULL);
    side->fd = server_open(&side->server, O_WRONLY, "busy/append");
}

static void side_end(struct side *side, struct bench_result *ret)
{
    ret->rate = (double)side->count / ((double)side->ns / 1e9);
    ret->byte_rate = ret->rate * 1024;
    ret->hist = side->hist;
    ret->memory_size = bench_memory_of(side->server.pid);
    close(side->fd);
    if (side->readers) {
        kill(side->readers, SIGKILL);
        waitpid(side->readers, NULL, 0);
    }
    server_stop(&side->server);
}

static void parked_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    const struct parked *parked = arg;
    struct pair *pair = parked->pair;

    if (!pair->measured[parked->idx]) {
        struct bench_options both = *options;
        struct bench_result unused = {0};
        both.seconds = 2 * options->seconds + 4 * TURN_NS / 1e9;
        for (unsigned i = 0; i < 2; i++)
            side_begin(&pair->sides[i], options, pair->options, i * READER_COUNT);
        pair->began_ns = bench_now_ns();
        load_run(&both, 1, step, pair, false, &unused);
        for (unsigned i = 2; i-- > 0;) { /* the readers' process has the other side's file, too */
            side_end(&pair->sides[i], &pair->results[i]);
            pair->measured[i] = true;
        }
    }
    *ret = pair->results[parked->idx];
    pair->measured[parked->idx] = false;
}

int main(int argc, char **argv)
{
    static struct pair dev_pair, uring_pair = {.options = "io_uring"};
    struct bench bench;
    struct parked dev[] = {{&dev_pair, 0}, {&dev_pair, 1}};
    struct parked uring[] = {{&uring_pair, 0}, {&uring_pair, 1}};
    const struct bench_case cases[] = {
        {"append-parked-0", "write/s", parked_run, &dev[0]},
        {"append-parked-1000", "write/s", parked_run, &dev[1]},
        {"uring-append-parked-0", "write/s", parked_run, &uring[0]},
        {"uring-append-parked-1000", "write/s", parked_run, &uring[1]},
    };
    bench_begin(&bench, argc, argv, "Appends beside a thousand readers that wait.", 2);
    size_t count = server_has_uring() ? 4 : 2;
    bench_measure(&bench, cases, count);
    for (size_t i = 0; i < count; i += 2)
        bench_ratio(&bench,
                    &(struct bench_aim){4, i ? "parked-1000/0,io_uring" : "parked-1000/0",
                                        cases[i + 1].name, cases[i].name, BENCH_RATE, 0.9, false});
    bench_end(&bench);
}
