/* SPDX-License-Identifier: MIT */
/*
 * mount_tail.c - the slowest appends over the mount, at 50 MB a second: what the background sync adds.
 *
 * One writer appends 4 KiB 12,500 times a second, each at its time; one that comes late is not made
 * up for, so what is measured is the write(2) alone.  Two minutes show the disk's own pace, a moment
 * does not: --seconds 120.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

#define ENTRY_SIZE  4096u
#define INTERVAL_NS 80000u

static void tail_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static char data[ENTRY_SIZE];
    struct server server;
    uint64_t count = 0;

    server_start_walrusfs(&server, options, arg);
    server_make_topic(&server, "t");
    int fd = server_open(&server, O_WRONLY, "t/append");
    uint64_t began = bench_now_ns(), due = began;
    uint64_t end = began + (uint64_t)(options->seconds * 1e9);
    while (due < end) {
        uint64_t now = bench_now_ns();
        if (now < due) {
            struct timespec time = {.tv_sec = (time_t)(due / 1000000000),
                                    .tv_nsec = (long)(due % 1000000000)};
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
            now = bench_now_ns();
        }
        if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
            bench_die("write: %s", strerror(errno));
        uint64_t done = bench_now_ns();
        hist_add(&ret->hist, done - now);
        count++;
        due = due + INTERVAL_NS > done - 1000000 ? due + INTERVAL_NS : done;
    }
    ret->rate = (double)count / ((double)(bench_now_ns() - began) / 1e9);
    ret->byte_rate = ret->rate * ENTRY_SIZE;
    ret->memory_size = bench_memory_of(server.pid);
    close(fd);
    server_stop(&server);
}

int main(int argc, char **argv)
{
    struct bench bench;
    char synced[] = "fsync=1000", never[] = "fsync=never";
    const struct bench_case cases[] = {
        {"tail-fsync-1000", "write/s", tail_run, synced},
        {"tail-fsync-never", "write/s", tail_run, never},
    };
    bench_begin(&bench, argc, argv, "The slowest appends over the mount at 50 MB/s.", 10);
    bench_measure(&bench, cases, 2);
    bench_ratio(&bench, &(struct bench_aim){13, "mount,p99.9,fsync-1000/never", cases[0].name,
                                            cases[1].name, BENCH_P999, 3, true});
    bench_end(&bench);
}
