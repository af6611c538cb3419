/* SPDX-License-Identifier: MIT */
/*
 * scale.c - many topics, and many entries in one: what each costs, and how that grows.
 *
 * Makes topics, lists them, appends an entry to each in turn, opens the store again; then fills one
 * topic.  Each figure is of one unit (a topic, an entry), at steps, so that a cost that grows with
 * the number shows.  Blocks are of 64 KiB here, or the log files would need more descriptors than a
 * process may have.  One round: what is measured is a state, not a rate.
 *
 * usage: bench_scale [--dir DIR] [TOPICS [ENTRIES]]
 */
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "load.h"
#include "walrus.h"

#define STEPS 4u

static const struct walrus_options many_topics = {.fsync = WALRUS_FSYNC_NEVER,
                                                  .block_size = 65536,
                                                  .blocks_per_file = 224},
                                   many_entries = {.fsync = WALRUS_FSYNC_NEVER};
static uint8_t source[LOAD_SIZE_MAX];

static double disk_used(const char *path)
{
    DIR *dir = opendir(path);
    struct stat st;
    double size = 0;
    if (!dir)
        bench_die("%s: %s", path, strerror(errno));
    for (const struct dirent *entry; (entry = readdir(dir));)
        if (fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
            size += (double)st.st_blocks * 512;
    closedir(dir);
    return size;
}

static void print(const char *name, uint64_t count, const char *unit, double value)
{
    printf("case=%s-%llu unit=%s median=%.4g low=%.4g high=%.4g\n", name, (unsigned long long)count,
           unit, value, value, value);
}

static void topic_name(char *ret_name, uint64_t idx)
{
    snprintf(ret_name, 32, "topic_%llu", (unsigned long long)idx);
}

/* Calls `step` for 0 to count - 1 and prints the time of one in each quarter. */
static void steps(const char *name, struct walrus *store, uint64_t count,
                  void (*step)(struct walrus *store, uint64_t idx))
{
    uint64_t done = 0;
    for (unsigned i = 1; i <= STEPS; i++) {
        uint64_t upto = count * i / STEPS, from = done, began = bench_now_ns();
        for (; done < upto; done++)
            step(store, done);
        if (upto > from)
            print(name, upto, "us", (double)(bench_now_ns() - began) / 1e3 / (double)(upto - from));
    }
}

static void create_one(struct walrus *store, uint64_t idx)
{
    struct walrus_topic *topic;
    char name[32];
    topic_name(name, idx);
    BENCH_OK(walrus_topic_create(store, name, NULL, NULL, &topic));
    walrus_topic_unref(topic);
}

static void append_one(struct walrus *store, uint64_t idx)
{
    char name[32];
    topic_name(name, idx);
    BENCH_OK(walrus_append(store, name, source, LOAD_SIZE_MIN));
}

static void append_first(struct walrus *store, uint64_t idx)
{
    (void)idx;
    BENCH_OK(walrus_append(store, "topic_0", source, LOAD_SIZE_MIN));
}

static void list(struct walrus *store, uint64_t count)
{
    uint64_t id = 0, found = 0, began = bench_now_ns();
    struct walrus_topic *topic;
    while (walrus_topic_after(store, id, &topic) == 0) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        id = stat.id;
        found++;
        walrus_topic_unref(topic);
    }
    if (found != count)
        bench_die("%llu topics are listed", (unsigned long long)found);
    print("topics-list", count, "us", (double)(bench_now_ns() - began) / 1e3 / (double)count);
}

static struct walrus *open_timed(const char *dir, const struct walrus_options *how,
                                 const char *name, uint64_t count, const char *memory)
{
    struct walrus *store;
    malloc_trim(0); /* what the store before left behind */
    size_t before = bench_memory();
    uint64_t began = bench_now_ns();
    BENCH_OK(walrus_open(dir, how, &store));
    double us = (double)(bench_now_ns() - began) / 1e3;
    print(name, count, "us", us / (double)count);
    if (memory) {
        double kib = (double)(bench_memory() - before) / 1024 / (double)count;
        print(memory, count, "KiB", kib);
    }
    return store;
}

static void topics_run(const struct bench_options *options, uint64_t count)
{
    char *dir = bench_scratch(options);
    struct walrus *store;
    BENCH_OK(walrus_open(dir, &many_topics, &store));
    size_t before = bench_memory();
    steps("topics-create", store, count, create_one);
    double kib = (double)(bench_memory() - before) / 1024 / (double)count;
    bench_print_ratio(
        &(struct bench_aim){17, "idle-topic/KiB", "memory", "KiB", BENCH_RATE, 1, true}, &kib, 1);
    list(store, count);
    print("topics-empty-disk", count, "KiB", disk_used(dir) / 1024 / (double)count);
    steps("topics-append-first", store, count, append_one);
    steps("topics-append-second", store, count, append_one);
    print("topics-disk", count, "KiB", disk_used(dir) / 1024 / (double)count);
    BENCH_OK(walrus_close(store));
    store = open_timed(dir, &many_topics, "topics-open", count, "topics-open-memory");
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
}

static void entries_run(const struct bench_options *options, uint64_t count)
{
    char *dir = bench_scratch(options);
    struct walrus *store;
    BENCH_OK(walrus_open(dir, &many_entries, &store));
    size_t before = bench_memory();
    steps("entries-append", store, count, append_first);
    print("entries-memory", count, "byte", (double)(bench_memory() - before) / (double)count);
    uint64_t began = bench_now_ns();
    BENCH_OK(walrus_close(store));
    print("entries-close", count, "us", (double)(bench_now_ns() - began) / 1e3 / (double)count);
    print("entries-disk", count, "byte", disk_used(dir) / (double)count);
    store = open_timed(dir, &many_entries, "entries-open", count, NULL);
    struct walrus_entry entry;
    began = bench_now_ns();
    BENCH_OK(walrus_read_at(store, "topic_0", count - 1, &entry));
    free(entry.data);
    print("entries-read-at", count, "us", (double)(bench_now_ns() - began) / 1e3);
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
}

int main(int argc, char **argv)
{
    struct bench bench;
    struct rlimit files;
    bench_begin(&bench, argc, argv,
                "Many topics, many entries: [TOPICS (10000) [ENTRIES (1000000)]]", 1);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    uint64_t topics = argc > optind ? strtoull(argv[optind], NULL, 10) : 10000;
    uint64_t entries = argc > optind + 1 ? strtoull(argv[optind + 1], NULL, 10) : 1000000;
    topics_run(&bench.options, topics > STEPS ? topics : STEPS);
    entries_run(&bench.options, entries > STEPS ? entries : STEPS);
    bench_end(&bench);
}
