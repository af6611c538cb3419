/* SPDX-License-Identifier: MIT */
/*
 * durable.c - what an append costs that is durable when the call returns.
 *
 * The floor writes as many bytes one behind the other into a file that was written before, and makes
 * each durable: by pwrite and fdatasync, and by pwritev2 with RWF_DSYNC.  "dirty" cases have a second
 * writer in the same store (or file) that is never synced: what else is dirty should not matter.
 *
 * A disk that answers within 0.2 ms hides what sharing a sync is worth; `slow` cases make each sync
 * of the store take 5 ms, by a replaced table of system calls.
 */
#include <errno.h>
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
#include "os.h"
#include "walrus.h"

#define FLOOR_SIZE  ((off_t)64 << 20)
#define DIRTY_COUNT 512u  /* entries that the writer beside appends in one go, */
#define DIRTY_PAUSE 20000 /* and ns until the next: some hundreds of MB a second */
#define SLOW_NS     5000000

static uint8_t source[LOAD_SIZE_MAX];

struct shape {
    unsigned threads;
    bool dirty, slow;
    enum { BY_ENGINE, BY_FDATASYNC, BY_DSYNC } how;
};

static void pause_ns(long ns)
{
    struct timespec time = {.tv_nsec = ns};
    nanosleep(&time, NULL);
}

/* A thread beside those that are measured, which makes pages dirty. */
struct beside {
    pthread_t thread;
    atomic_bool end;
    bool runs;
    void (*step)(void *arg, uint64_t count);
    void *arg;
};

static void *beside_main(void *arg)
{
    struct beside *beside = arg;
    for (uint64_t i = 0; !atomic_load(&beside->end); i++) {
        beside->step(beside->arg, i);
        pause_ns(DIRTY_PAUSE);
    }
    return NULL;
}

static void beside_begin(struct beside *beside, void (*step)(void *arg, uint64_t count), void *arg)
{
    beside->step = step;
    beside->arg = arg;
    beside->runs = true;
    BENCH_OK(-pthread_create(&beside->thread, NULL, beside_main, beside));
}

static void beside_end(struct beside *beside)
{
    atomic_store(&beside->end, true);
    if (beside->runs)
        pthread_join(beside->thread, NULL);
}

/* ------------------------------------------------------------------------------------ floor -- */

struct floor {
    const struct shape *shape;
    int fd;
};

static void floor_step(struct load_thread *thread)
{
    struct floor *floor = thread->arg;
    size_t size = load_size(&thread->random);
    off_t part = FLOOR_SIZE / (floor->shape->threads + 1);
    off_t off = thread->idx * part + (off_t)(thread->bytes % (uint64_t)(part - LOAD_SIZE_MAX));
    struct iovec entry = {source, size};
    int flags = floor->shape->how == BY_DSYNC ? RWF_DSYNC : 0;
    if (pwritev2(floor->fd, &entry, 1, off, flags) != (ssize_t)size ||
        (!flags && fdatasync(floor->fd) != 0))
        bench_die("the floor cannot write");
    thread->count++;
    thread->bytes += size;
}

static void floor_dirty(void *arg, uint64_t count)
{
    struct floor *floor = arg;
    off_t part = FLOOR_SIZE / (floor->shape->threads + 1);
    static const uint8_t many[DIRTY_COUNT * LOAD_SIZE_MAX];
    off_t off =
        floor->shape->threads * part + (off_t)(count * sizeof(many)) % (part - (off_t)sizeof(many));
    if (pwrite(floor->fd, many, sizeof(many), off) < 0)
        bench_die("the floor cannot write");
}

static void floor_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct floor floor = {.shape = arg};
    char *dir = bench_scratch(options), *path;
    struct beside beside = {0};
    if (asprintf(&path, "%s/floor", dir) < 0)
        bench_die("no memory");
    floor.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (off_t off = 0; off < FLOOR_SIZE; off += 4096) {
        static const uint8_t page[4096];
        if (pwrite(floor.fd, page, sizeof(page), off) != (ssize_t)sizeof(page))
            bench_die("%s: cannot be written", path);
    }
    if (fsync(floor.fd) != 0)
        bench_die("%s: cannot be synced", path);
    if (floor.shape->dirty)
        beside_begin(&beside, floor_dirty, &floor);
    load_run(options, floor.shape->threads, floor_step, &floor, true, ret);
    beside_end(&beside);
    close(floor.fd);
    free(path);
    bench_scratch_remove(dir);
}

/* ----------------------------------------------------------------------------------- engine -- */

static struct os_ops slow_ops;

static int slow_fdatasync(int fd)
{
    pause_ns(SLOW_NS);
    return fdatasync(fd);
}

static int slow_msync(void *addr, size_t size)
{
    pause_ns(SLOW_NS);
    return os_system.msync(addr, size);
}

static ssize_t slow_pwritev2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    if (flags & RWF_DSYNC)
        pause_ns(SLOW_NS);
    return pwritev2(fd, iov, count, off, flags);
}

static void slow_disk(bool on)
{
    slow_ops = os_system;
    slow_ops.fdatasync = slow_fdatasync;
    slow_ops.msync = slow_msync;
    slow_ops.pwritev2 = slow_pwritev2;
    os = on ? &slow_ops : &os_system;
}

static void engine_step(struct load_thread *thread)
{
    struct walrus_topic **topics = thread->arg;
    const struct walrus_append_options durable = {.durable = true};
    struct iovec entry = {source, load_size(&thread->random)};
    BENCH_OK(walrus_topic_append(topics[thread->idx], &entry, 1, &durable, NULL));
    thread->count++;
    thread->bytes += entry.iov_len;
}

static void engine_dirty(void *arg, uint64_t count)
{
    struct iovec entries[DIRTY_COUNT];
    for (unsigned i = 0; i < DIRTY_COUNT; i++)
        entries[i] = (struct iovec){source, sizeof(source)};
    (void)count;
    BENCH_OK(walrus_topic_append(arg, entries, DIRTY_COUNT, NULL, NULL));
}

static void engine_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    const struct shape *shape = arg;
    const struct walrus_options how = {.fsync = WALRUS_FSYNC_NEVER};
    char *dir = bench_scratch(options);
    struct walrus *store;
    struct walrus_topic *topics[64];
    struct beside beside = {0};
    BENCH_OK(walrus_open(dir, &how, &store));
    for (unsigned i = 0; i <= shape->threads; i++) {
        char name[32];
        struct iovec first = {source, LOAD_SIZE_MIN};
        snprintf(name, sizeof(name), "topic_%u", i);
        BENCH_OK(walrus_topic_create(store, name, NULL, NULL, &topics[i]));
        BENCH_OK(walrus_topic_append(topics[i], &first, 1, NULL, NULL));
        BENCH_OK(walrus_topic_sync(topics[i]));
    }
    slow_disk(shape->slow);
    if (shape->dirty)
        beside_begin(&beside, engine_dirty, topics[shape->threads]);
    load_run(options, shape->threads, engine_step, topics, true, ret);
    beside_end(&beside);
    slow_disk(false);
    for (unsigned i = 0; i <= shape->threads; i++)
        walrus_topic_unref(topics[i]);
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
}

static const struct shape one = {1, false, false, BY_ENGINE},
                          one_dirty = {1, true, false, BY_ENGINE},
                          ten = {10, false, false, BY_ENGINE},
                          one_slow = {1, false, true, BY_ENGINE},
                          ten_slow = {10, false, true, BY_ENGINE},
                          floor_one = {1, false, false, BY_FDATASYNC},
                          floor_dirty_one = {1, true, false, BY_FDATASYNC},
                          dsync_one = {1, false, false, BY_DSYNC},
                          dsync_ten = {10, false, false, BY_DSYNC};

static void ratio(const struct bench *bench, int aim, const char *name, const char *a,
                  const char *b, double want)
{
    bench_ratio(bench, &(struct bench_aim){aim, name, a, b, BENCH_RATE, want, false});
}

int main(int argc, char **argv)
{
    struct bench bench;
    bench_begin(&bench, argc, argv, "Appends that are durable when they return, beside one sync.",
                1);
#define CASE(name, run, shape)                                                                     \
    {                                                                                              \
        name, "append/s", run, (void *)(uintptr_t) & (shape)                                       \
    }
    const struct bench_case cases[] = {
        CASE("durable-1", engine_run, one),
        CASE("fdatasync-1", floor_run, floor_one),
        CASE("dsync-1", floor_run, dsync_one),
        CASE("durable-1-dirty", engine_run, one_dirty),
        CASE("fdatasync-1-dirty", floor_run, floor_dirty_one),
        CASE("durable-10", engine_run, ten),
        CASE("dsync-10", floor_run, dsync_ten),
        CASE("durable-1-slow", engine_run, one_slow),
        CASE("durable-10-slow", engine_run, ten_slow),
    };
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    ratio(&bench, 10, "durable/fdatasync", "durable-1", "fdatasync-1", 0.7);
    ratio(&bench, 10, "durable/fdatasync-dirty", "durable-1-dirty", "fdatasync-1-dirty", 2);
    ratio(&bench, 11, "durable-10/1", "durable-10", "durable-1", 2.5);
    ratio(&bench, 11, "durable-10/1-slow", "durable-10-slow", "durable-1-slow", 4);
    ratio(&bench, 0, "durable-10/dsync-10", "durable-10", "dsync-10", 0.7);
    bench_end(&bench);
}
