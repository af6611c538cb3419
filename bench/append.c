/* SPDX-License-Identifier: MIT */
/*
 * append.c - what an append costs, beside the memory copies that it cannot be cheaper than.
 *
 * The floors copy the same entries, as large as they are with a header, into a shared mapping of a
 * file: one whose pages were written before ("warm"), and one that has its space but whose pages
 * come with the first store to each ("faulting").  Neither writes a header or a checksum, takes a
 * lock or ever needs a new block: the engine does all of that.
 *
 * Ten threads with a topic each, and one thread that goes over 1,000 topics in turn.  For a third of
 * a second: at gigabytes a second more would meet the bound on dirty memory, and measure the disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"
#include "walrus.h"

#define THREADS     10u
#define TOPICS      1000u
#define RECORD_SIZE 40u     /* the engine's header */
#define WARM_SIZE   524288u /* that a topic is given before: it takes space as at full rate then */

struct shape {
    unsigned threads;
    unsigned topics;    /* of each thread */
    size_t window_size; /* of a floor's topic: begun again when it is full */
};

/* Windows are larger than any cache together: a log is never written twice. */
static struct shape ten_threads = {THREADS, 1, (size_t)32 << 20},
                    many_topics = {1, TOPICS, (size_t)1 << 19};

/* A run that is only to show that it works need not prepare so much. */
static void shapes_shrink(void)
{
    ten_threads.window_size /= 16;
    many_topics.topics /= 20;
}

/* Entries that exist before the clock runs: making them is no part of an append. */
static uint8_t source[64][LOAD_SIZE_MAX];

static void source_make(void)
{
    for (unsigned i = 0; i < 64; i++)
        load_entry(0, i, LOAD_SIZE_MAX, source[i]);
}

/* ----------------------------------------------------------------------------------- floors -- */

struct window {
    uint8_t *base;
    size_t size, off;
};

struct floor {
    const struct shape *shape;
    struct window *windows; /* one a topic */
    bool faulting;
    int fd;
};

/* The pages go, the disk space stays: the next store to each faults. */
static void window_cool(struct floor *floor, struct window *window, size_t idx)
{
    off_t off = (off_t)(idx * window->size);
    if (munmap(window->base, window->size) != 0 ||
        fallocate(floor->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off,
                  (off_t)window->size) != 0 ||
        fallocate(floor->fd, 0, off, (off_t)window->size) != 0)
        bench_die("a window cannot be emptied");
    window->base = mmap(NULL, window->size, PROT_READ | PROT_WRITE, MAP_SHARED, floor->fd, off);
    if (window->base == MAP_FAILED)
        bench_die("mmap fails");
}

static void floor_step(struct load_thread *thread)
{
    struct floor *floor = thread->arg;
    size_t idx = thread->idx * floor->shape->topics + thread->count % floor->shape->topics;
    struct window *window = &floor->windows[idx];
    size_t size = load_size(&thread->random);
    if (window->off + size + RECORD_SIZE > window->size) {
        window->off = 0;
        if (floor->faulting)
            window_cool(floor, window, idx);
    }
    memcpy(window->base + window->off + RECORD_SIZE, source[thread->count % 64], size);
    window->off += (size + RECORD_SIZE + 7) / 8 * 8;
    thread->count++;
    thread->bytes += size;
}

static void floor_run(const struct shape *shape, bool faulting, const struct bench_options *options,
                      struct bench_result *ret)
{
    char *dir = bench_scratch(options), *path;
    size_t count = shape->threads * shape->topics;
    size_t size = shape->window_size;
    struct floor floor = {.shape = shape, .faulting = faulting};
    floor.windows = calloc(count, sizeof(*floor.windows));
    if (!floor.windows || asprintf(&path, "%s/floor", dir) < 0)
        bench_die("no memory");
    floor.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (floor.fd < 0 || ftruncate(floor.fd, (off_t)(count * size)) != 0 ||
        fallocate(floor.fd, 0, 0, (off_t)(count * size)) != 0)
        bench_die("%s: cannot be made", path);
    for (size_t i = 0; i < count; i++) {
        struct window *window = &floor.windows[i];
        window->size = size;
        window->base =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, floor.fd, (off_t)(i * size));
        if (window->base == MAP_FAILED)
            bench_die("mmap fails");
        if (!faulting)
            memset(window->base, 1, size);
    }
    load_run(options, shape->threads, floor_step, &floor, false, ret);
    for (size_t i = 0; i < count; i++)
        munmap(floor.windows[i].base, size);
    close(floor.fd);
    free(floor.windows);
    free(path);
    bench_scratch_remove(dir);
}

static void warm_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    floor_run(arg, false, options, ret);
}

static void faulting_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    floor_run(arg, true, options, ret);
}

/* ----------------------------------------------------------------------------------- engine -- */

struct engine {
    const struct shape *shape;
    struct walrus_topic **topics;
};

static void engine_step(struct load_thread *thread)
{
    struct engine *engine = thread->arg;
    size_t idx = thread->idx * engine->shape->topics + thread->count % engine->shape->topics;
    struct iovec entry = {source[thread->count % 64], load_size(&thread->random)};
    BENCH_OK(walrus_topic_append(engine->topics[idx], &entry, 1, NULL, NULL));
    thread->count++;
    thread->bytes += entry.iov_len;
}

static void engine_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    const struct shape *shape = arg;
    const struct walrus_options how = {.fsync = WALRUS_FSYNC_NEVER};
    size_t count = shape->threads * shape->topics;
    char *dir = bench_scratch(options);
    struct walrus *store;
    BENCH_OK(walrus_open(dir, &how, &store));
    struct engine engine = {shape, calloc(count, sizeof(*engine.topics))};
    if (!engine.topics)
        bench_die("no memory");
    for (size_t i = 0; i < count; i++) {
        char name[32];
        struct iovec first = {source[0], LOAD_SIZE_MIN};
        snprintf(name, sizeof(name), "topic_%zu", i);
        BENCH_OK(walrus_topic_create(store, name, NULL, NULL, &engine.topics[i]));
        /* The first block of a topic is entered durably, once in its life. */
        BENCH_OK(walrus_topic_append(engine.topics[i], &first, 1, NULL, NULL));
    }
    for (size_t n = 0; n < count * (WARM_SIZE / LOAD_SIZE_MAX); n++) {
        struct iovec warm = {source[n % 64], LOAD_SIZE_MAX};
        BENCH_OK(walrus_topic_append(engine.topics[n % count], &warm, 1, NULL, NULL));
    }
    load_run(options, shape->threads, engine_step, &engine, false, ret);
    for (size_t i = 0; i < count; i++)
        walrus_topic_unref(engine.topics[i]);
    free(engine.topics);
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
}

int main(int argc, char **argv)
{
    struct bench bench;
    bench_begin(&bench, argc, argv, "Appends through the library, beside copies into a mapping.",
                0.3);
    source_make();
    void *ten = &ten_threads, *many = &many_topics;
    if (bench.options.seconds < 0.1)
        shapes_shrink();
    const struct bench_case cases[] = {
        {"append-10-threads", "append/s", engine_run, ten},
        {"memcpy-warm-10-threads", "copy/s", warm_run, ten},
        {"memcpy-faulting-10-threads", "copy/s", faulting_run, ten},
        {"append-1000-topics", "append/s", engine_run, many},
        {"memcpy-warm-1000-topics", "copy/s", warm_run, many},
    };
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    bench_ratio(&bench, &(struct bench_aim){8, "append/memcpy-warm", cases[0].name, cases[1].name,
                                            BENCH_RATE, 0.35, false});
    bench_ratio(&bench, &(struct bench_aim){8, "append/memcpy-faulting", cases[0].name,
                                            cases[2].name, BENCH_RATE, 1.4, false});
    bench_ratio(&bench, &(struct bench_aim){9, "append/memcpy-warm-1000-topics", cases[3].name,
                                            cases[4].name, BENCH_RATE, 0.5, false});
    bench_ratio(&bench, &(struct bench_aim){0, "memcpy-warm/append,processor-time", cases[1].name,
                                            cases[0].name, BENCH_CPU, 0.35, false});
    bench_ratio(&bench, &(struct bench_aim){0, "memcpy-warm/append,processor-time,1000-topics",
                                            cases[4].name, cases[3].name, BENCH_CPU, 0.5, false});
    bench_end(&bench);
}
