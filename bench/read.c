/* SPDX-License-Identifier: MIT */
/*
 * read.c - what reading entries out of the page cache costs, and how much of that is the checksum.
 *
 * The loop beside walks the same records of a log file as this program wrote it, through a mapping,
 * and copies their data out, once with the CRC of each and once without: the cheapest reader that
 * there could be.  The engine's reader holds a claim, checks header and data, copies, and counts
 * what was delivered; its offset is stored so rarely that the disk is no part of this.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "crc32c.h"
#include "load.h"
#include "walrus.h"

#define ENTRIES     200000u
#define BATCH_SIZE  262144u
#define RECORD_SIZE 40u

struct record {
    uint32_t size, crc;
};

static uint8_t source[64][LOAD_SIZE_MAX];

static void loop_run(bool with_crc, const struct bench_options *options, struct bench_result *ret)
{
    char *dir = bench_scratch(options), *path;
    size_t size = (size_t)ENTRIES * (LOAD_SIZE_MAX + RECORD_SIZE);
    if (asprintf(&path, "%s/floor", dir) < 0)
        bench_die("no memory");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        bench_die("%s: cannot be made", path);
    uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), *at = map;
    if (map == MAP_FAILED)
        bench_die("mmap fails");
    uint64_t random = 1;
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct record record = {.size = (uint32_t)load_size(&random)};
        record.crc = crc32c(0, source[i % 64], record.size);
        memcpy(at, &record, sizeof(record));
        memcpy(at + RECORD_SIZE, source[i % 64], record.size);
        at += (RECORD_SIZE + record.size + 7) / 8 * 8;
    }
    uint8_t *out = malloc(BATCH_SIZE + LOAD_SIZE_MAX);
    uint64_t began = bench_now_ns(), count = 0, bytes = 0;
    double seconds = 0, cpu = bench_cpu_seconds();
    while ((seconds = (double)(bench_now_ns() - began) / 1e9) < options->seconds) {
        at = map;
        size_t done = 0;
        for (unsigned i = 0; i < ENTRIES; i++) {
            struct record record;
            memcpy(&record, at, sizeof(record));
            memcpy(out + done, at + RECORD_SIZE, record.size);
            if (with_crc && crc32c(0, out + done, record.size) != record.crc)
                bench_die("the loop reads what it did not write");
            at += (RECORD_SIZE + record.size + 7) / 8 * 8;
            done = done + record.size < BATCH_SIZE ? done + record.size : 0;
            bytes += record.size;
        }
        count += ENTRIES;
    }
    ret->cpu_ns = (bench_cpu_seconds() - cpu) * 1e9 / (double)count;
    ret->rate = (double)count / seconds;
    ret->byte_rate = (double)bytes / seconds;
    free(out);
    munmap(map, size);
    close(fd);
    free(path);
    bench_scratch_remove(dir);
}

static void with_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    loop_run(true, options, ret);
    (void)arg;
}

static void without_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    loop_run(false, options, ret);
    (void)arg;
}

/* Reads all that is pending through one claim. */
static void drain(struct walrus_group *group, uint8_t *out, struct bench_result *ret)
{
    struct walrus_reader *reader;
    uint64_t offset = 0;
    if (BENCH_OK(walrus_group_claim(group, SIZE_MAX, SIZE_MAX, &reader)) == WALRUS_EMPTY)
        bench_die("nothing to read");
    uint64_t size = walrus_reader_size(reader);
    ret->rate += (double)walrus_reader_count(reader);
    while (offset < size) {
        offset += (uint64_t)BENCH_OK(walrus_reader_read(reader, out, BATCH_SIZE, offset, NULL));
        BENCH_OK(walrus_reader_delivered(reader, offset));
    }
    ret->byte_rate += (double)size;
    BENCH_OK(walrus_reader_close(reader));
}

static void engine_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    const struct walrus_options how = {
        .consistency = WALRUS_AT_LEAST_ONCE, .persist_every = 1000000, .fsync = WALRUS_FSYNC_NEVER};
    const struct walrus_retention all = {.kind = WALRUS_KEEP_ALL};
    char *dir = bench_scratch(options);
    struct walrus *store;
    struct walrus_topic *topic;
    struct walrus_group *group;
    uint64_t random = 1;
    BENCH_OK(walrus_open(dir, &how, &store));
    BENCH_OK(walrus_topic_create(store, "read", NULL, NULL, &topic));
    BENCH_OK(walrus_topic_set_retention(topic, &all));
    BENCH_OK(walrus_group_find(topic, "default", &group));
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct iovec entry = {source[i % 64], load_size(&random)};
        BENCH_OK(walrus_topic_append(topic, &entry, 1, NULL, NULL));
    }
    BENCH_OK(walrus_topic_sync(topic));
    uint8_t *out = malloc(BATCH_SIZE);
    double seconds = 0, cpu = 0;
    while (seconds < options->seconds) {
        uint64_t began = bench_now_ns();
        double cpu_began = bench_cpu_seconds();
        drain(group, out, ret);
        seconds += (double)(bench_now_ns() - began) / 1e9;
        cpu += bench_cpu_seconds() - cpu_began;
        BENCH_OK(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0));
    }
    ret->cpu_ns = cpu * 1e9 / ret->rate;
    ret->rate /= seconds;
    ret->byte_rate /= seconds;
    free(out);
    walrus_group_unref(group);
    walrus_topic_unref(topic);
    BENCH_OK(walrus_close(store));
    bench_scratch_remove(dir);
    (void)arg;
}

int main(int argc, char **argv)
{
    struct bench bench;
    bench_begin(&bench, argc, argv, "Reading from the page cache, with checksums and without.", 1);
    for (unsigned i = 0; i < 64; i++)
        load_entry(0, i, LOAD_SIZE_MAX, source[i]);
    const struct bench_case cases[] = {
        {"read", "read/s", engine_run, NULL},
        {"loop-crc", "read/s", with_run, NULL},
        {"loop-no-crc", "read/s", without_run, NULL},
    };
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    bench_ratio(&bench, &(struct bench_aim){15, "read/loop-no-crc", cases[0].name, cases[2].name,
                                            BENCH_RATE, 0.5, false});
    bench_ratio(&bench, &(struct bench_aim){0, "loop-crc/loop-no-crc", cases[1].name, cases[2].name,
                                            BENCH_RATE, 0.5, false});
    bench_ratio(&bench, &(struct bench_aim){0, "loop-no-crc/read,processor-time", cases[2].name,
                                            cases[0].name, BENCH_CPU, 0.5, false});
    bench_end(&bench);
}
