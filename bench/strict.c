/* SPDX-License-Identifier: MIT */
/*
 * strict.c - what a take costs whose offset is durable before the entry is handed out.
 *
 * The floor is one write of 512 bytes with one sync, into a file that was written before: an offset
 * cannot be stored for less.  The entries are durable before the clock runs.  "dirty" has a writer
 * in another topic that is not synced.  Ten consumers read a topic each, or one topic together.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "load.h"
#include "walrus.h"

#define CONSUMERS   10u
#define SLOT_SIZE   512u
#define ENTRIES_MAX 1000000u /* a second's worth, many times over */

struct shape {
    unsigned threads, topics;
    bool dirty;
};

static uint8_t source[LOAD_SIZE_MAX];

static void floor_step(struct load_thread *thread)
{
    int fd = *(int *)thread->arg;
    struct iovec slot = {source, SLOT_SIZE};
    if (pwritev2(fd, &slot, 1, (off_t)(thread->count % 2 * 32768), RWF_DSYNC) != SLOT_SIZE)
        bench_die("the floor cannot write");
    thread->count++;
}

static void floor_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static const uint8_t zeros[65536];
    char *dir = bench_scratch(options), *path;
    if (asprintf(&path, "%s/floor", dir) < 0)
        bench_die("no memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (pwrite(fd, zeros, sizeof(zeros), 0) != (ssize_t)sizeof(zeros) || fsync(fd) != 0)
        bench_die("%s: cannot be written", path);
    load_run(options, 1, floor_step, &fd, true, ret);
    close(fd);
    free(path);
    bench_scratch_remove(dir);
    (void)arg;
}

struct engine {
    const struct shape *shape;
    struct walrus *store;
    atomic_bool end;
};

static void *dirty_main(void *arg)
{
    struct engine *engine = arg;
    const struct timespec pause = {.tv_nsec = 20000};
    while (!atomic_load(&engine->end)) {
        BENCH_OK(walrus_append(engine->store, "beside", source, sizeof(source)));
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void engine_step(struct load_thread *thread)
{
    struct engine *engine = thread->arg;
    struct walrus_entry entry;
    char name[32];
    snprintf(name, sizeof(name), "topic_%u", thread->idx % engine->shape->topics);
    if (BENCH_OK(walrus_read_next(engine->store, name, &entry)) == WALRUS_EMPTY)
        bench_die("%s: the entries are used up: fewer seconds, please", name);
    thread->bytes += entry.size;
    thread->count++;
    free(entry.data);
}

static void engine_fill(const struct engine *engine, const struct bench_options *options)
{
    uint64_t random = 1;
    unsigned count = (unsigned)(options->seconds * 30000) * engine->shape->threads + 100;
    for (unsigned i = 0; i < engine->shape->topics; i++) {
        char name[32];
        snprintf(name, sizeof(name), "topic_%u", i);
        for (unsigned k = 0; k < count / engine->shape->topics && k < ENTRIES_MAX; k++)
            BENCH_OK(walrus_append(engine->store, name, source, load_size(&random)));
    }
    BENCH_OK(walrus_sync(engine->store));
}

static void engine_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct engine engine = {.shape = arg};
    const struct walrus_options how = {.fsync = WALRUS_FSYNC_NEVER};
    char *dir = bench_scratch(options);
    pthread_t dirty = 0;
    BENCH_OK(walrus_open(dir, &how, &engine.store));
    engine_fill(&engine, options);
    if (engine.shape->dirty)
        BENCH_OK(-pthread_create(&dirty, NULL, dirty_main, &engine));
    load_run(options, engine.shape->threads, engine_step, &engine, true, ret);
    atomic_store(&engine.end, true);
    if (engine.shape->dirty)
        pthread_join(dirty, NULL);
    BENCH_OK(walrus_close(engine.store));
    bench_scratch_remove(dir);
}

static const struct shape one = {1, 1, false}, one_dirty = {1, 1, true},
                          ten_apart = {CONSUMERS, CONSUMERS, false},
                          ten_together = {CONSUMERS, 1, false};

int main(int argc, char **argv)
{
    struct bench bench;
    bench_begin(&bench, argc, argv,
                "Strict takes of durable entries, beside one slot and one sync.", 1);
#define CASE(name, run, shape)                                                                     \
    {                                                                                              \
        name, "take/s", run, (void *)(uintptr_t) & (shape)                                         \
    }
    const struct bench_case cases[] = {
        CASE("strict-1", engine_run, one),
        CASE("slot-dsync", floor_run, one),
        CASE("strict-1-dirty", engine_run, one_dirty),
        CASE("strict-10-topics", engine_run, ten_apart),
        CASE("strict-10-consumers", engine_run, ten_together),
    };
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    bench_ratio(&bench, &(struct bench_aim){12, "strict/slot", "strict-1", "slot-dsync", BENCH_RATE,
                                            0.7, false});
    bench_ratio(&bench, &(struct bench_aim){12, "strict-dirty/slot", "strict-1-dirty", "slot-dsync",
                                            BENCH_RATE, 0.7, false});
    bench_ratio(&bench, &(struct bench_aim){0, "strict-10-topics/1", "strict-10-topics", "strict-1",
                                            BENCH_RATE, 2.5, false});
    bench_ratio(&bench, &(struct bench_aim){0, "strict-10-consumers/1", "strict-10-consumers",
                                            "strict-1", BENCH_RATE, 2.5, false});
    bench_end(&bench);
}
