/* SPDX-License-Identifier: MIT */
/*
 * latency.c - how long a single append takes at a steady 50 MB a second, with a sync each second and
 * without any; the worst case beside storing into a mapping whose pages fault in.
 *
 * One thread appends an entry of about 800 bytes each 16 us by the clock, so an append that takes
 * long is followed by late ones: the time is taken from when it should have begun.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"
#include "walrus.h"

#define RATE_BYTES  50e6
#define ENTRY_SIZE  800u
#define RECORD_SIZE 840u
#define STEP_NS     ((uint64_t)(ENTRY_SIZE / RATE_BYTES * 1e9))

static uint8_t source[ENTRY_SIZE];

/* Calls `store` at an even pace until the time is up. */
static void paced(const struct bench_options *options, void (*store)(void *arg, uint64_t count),
                  void *arg, struct bench_result *ret)
{
    uint64_t begin = bench_now_ns(), now = begin, count = 0;
    uint64_t end = begin + (uint64_t)(options->seconds * 1e9);
    while (now < end) {
        uint64_t due = begin + count * STEP_NS;
        while (bench_now_ns() < due)
            ;
        store(arg, count++);
        now = bench_now_ns();
        hist_add(&ret->hist, now - due);
    }
    ret->rate = (double)count / ((double)(now - begin) / 1e9);
    ret->byte_rate = ret->rate * ENTRY_SIZE;
}

static void append_one(void *arg, uint64_t count)
{
    struct iovec entry = {source, sizeof(source)};
    (void)count;
    BENCH_OK(walrus_topic_append(arg, &entry, 1, NULL, NULL));
}

static void engine_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct walrus_options how = {.fsync = *(enum walrus_fsync *)arg, .fsync_ms = 1000};
    char *dir = bench_scratch(options);
    struct walrus *store;
    struct walrus_topic *topic;
    BENCH_OK(walrus_open(dir, &how, &store));
    BENCH_OK(walrus_topic_create(store, "paced", NULL, NULL, &topic));
    append_one(topic, 0);
    paced(options, append_one, topic, ret);
    walrus_topic_unref(topic);
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
}

struct window {
    uint8_t *base;
    size_t size;
};

static void fault_one(void *arg, uint64_t count)
{
    struct window *window = arg;
    memcpy(window->base + count * RECORD_SIZE % (window->size - RECORD_SIZE), source,
           sizeof(source));
}

static void faulting_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    char *dir = bench_scratch(options), *path;
    struct window window = {.size = (size_t)(RATE_BYTES * 1.1 * options->seconds) + (1 << 20)};
    if (asprintf(&path, "%s/floor", dir) < 0)
        bench_die("no memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)window.size) != 0)
        bench_die("%s: cannot be made", path);
    window.base = mmap(NULL, window.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (window.base == MAP_FAILED)
        bench_die("mmap fails");
    paced(options, fault_one, &window, ret);
    munmap(window.base, window.size);
    close(fd);
    free(path);
    bench_scratch_remove(dir);
    (void)arg;
}

int main(int argc, char **argv)
{
    struct bench bench;
    static enum walrus_fsync each_second = WALRUS_FSYNC_MS, never = WALRUS_FSYNC_NEVER;
    bench_begin(&bench, argc, argv, "Time of single appends at 50 MB a second.", 10);
    const struct bench_case cases[] = {
        {"append-fsync-1000", "append/s", engine_run, &each_second},
        {"append-fsync-never", "append/s", engine_run, &never},
        {"store-faulting", "store/s", faulting_run, NULL},
    };
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    bench_ratio(&bench, &(struct bench_aim){13, "p999-fsync-1000/never", cases[0].name,
                                            cases[1].name, BENCH_P999, 3, true});
    bench_ratio(&bench, &(struct bench_aim){13, "max-fsync-1000/faulting", cases[0].name,
                                            cases[2].name, BENCH_MAX, 0.1, true});
    bench_end(&bench);
}
