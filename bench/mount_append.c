/* SPDX-License-Identifier: MIT */
/*
 * mount_append.c - what an append over the mount costs, beside the same write to a server that does
 * nothing on the same transport.
 *
 * Writers are pinned, because with one of them the placement by the kernel decides more than any
 * server.  Then: ten O_APPEND writers of one topic, which the kernel would let in one by one if they
 * shared an inode; and durable appends, one writer against ten.
 */
#include "writers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct named {
    const char *name;
    struct writers shape;
};

static struct named all[] = {
    {"append-1", {.count = 1, .size = 1024, .pinned = true}},
    {"null-1", {.loop = "own", .count = 1, .size = 1024, .pinned = true}},
    {"append-10", {.count = 10, .size = 1024, .pinned = true}},
    {"null-10", {.loop = "own", .count = 10, .size = 1024, .pinned = true}},
    {"one-topic-10", {.count = 10, .size = 1024, .files = WRITERS_ONE_TOPIC}},
    {"one-node-10", {.count = 10, .size = 1024, .files = WRITERS_SHARE_NODE}},
    {"durable-1", {.options = "fsync=each", .count = 1, .size = 1024}},
    {"durable-10", {.options = "fsync=each", .count = 10, .size = 1024}},
};

static const struct bench_aim aims[] = {
    {1, "append/null,1-writer", "append-1", "null-1", BENCH_RATE, 0.9, false},
    {1, "append/null,10-writers", "append-10", "null-10", BENCH_RATE, 0.9, false},
    {0, "null/append,processor-time,1-writer", "null-1", "append-1", BENCH_CPU, 0.9, false},
    {0, "null/append,processor-time,10-writers", "null-10", "append-10", BENCH_CPU, 0.9, false},
    {5, "one-topic/one-node,10-writers", "one-topic-10", "one-node-10", BENCH_RATE, 3, false},
    {11, "mount-durable,10-writers/1", "durable-10", "durable-1", BENCH_RATE, 2.5, false},
};

int main(int argc, char **argv)
{
    struct bench_case cases[COUNT(all)];
    struct bench bench;

    bench_begin(&bench, argc, argv, "Appends over the mount, beside a server that does nothing.",
                1);
    for (size_t i = 0; i < COUNT(all); i++)
        cases[i] = (struct bench_case){all[i].name, "write/s", writers_run, &all[i].shape};
    bench_measure(&bench, cases, COUNT(all));
    for (size_t i = 0; i < COUNT(aims); i++)
        bench_ratio(&bench, &aims[i]);
    bench_end(&bench);
}
