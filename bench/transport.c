/* SPDX-License-Identifier: MIT */
/*
 * transport.c - what the ways from the kernel to a FUSE server cost, with a server that does nothing.
 *
 * The transports of walrusfs against libfuse's own loops, with one client and with ten.  Clients run
 * where the kernel puts them: that a request is answered on the core of its client is what the own
 * transports are for.
 */
#include "server.h"
#include "writers.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct named {
    const char *name;
    struct writers shape;
};

static struct named all[] = {
    {"null-own-10", {.loop = "own", .count = 10, .size = 1024}},
    {"null-libfuse10-10", {.loop = "mt10", .count = 10, .size = 1024}},
    {"null-libfuse1-10", {.loop = "st", .count = 10, .size = 1024}},
    {"null-own-1", {.loop = "own", .count = 1, .size = 1024}},
    {"null-libfuse10-1", {.loop = "mt10", .count = 1, .size = 1024}},
    {"null-libfuse1-1", {.loop = "st", .count = 1, .size = 1024}},
    /* With io_uring only. */
    {"null-uring-10", {.loop = "uring", .count = 10, .size = 1024}},
    {"null-uring-1", {.loop = "uring", .count = 1, .size = 1024}},
    {"null-own-1-128k", {.loop = "own", .count = 1, .size = 128 << 10}},
    {"null-uring-1-128k", {.loop = "uring", .count = 1, .size = 128 << 10}},
};
#define COUNT_WITHOUT_URING 6

static const struct bench_aim aims[] = {
    {2, "default/libfuse-10-threads,10-clients", "null-own-10", "null-libfuse10-10", BENCH_RATE, 1,
     false},
    {2, "default/libfuse-10-threads,1-client", "null-own-1", "null-libfuse10-1", BENCH_RATE, 3,
     false},
    {0, "libfuse-10-threads/default,processor-time,10-clients", "null-libfuse10-10", "null-own-10",
     BENCH_CPU, 1, false},
    {3, "io_uring/default,10-clients", "null-uring-10", "null-own-10", BENCH_RATE, 1.6, false},
    {3, "io_uring/default,1-client-128k", "null-uring-1-128k", "null-own-1-128k", BENCH_RATE, 0.9,
     false},
    {0, "default/io_uring,processor-time,10-clients", "null-own-10", "null-uring-10", BENCH_CPU, 1,
     false},
    {0, "io_uring/default,1-client", "null-uring-1", "null-own-1", BENCH_RATE, 1, false},
};
#define AIMS_WITHOUT_URING 3

int main(int argc, char **argv)
{
    struct bench_case cases[COUNT(all)];
    struct bench bench;

    bench_begin(&bench, argc, argv, "The null FUSE server on each transport.", 0.5);
    bool uring = server_has_uring();
    size_t count = uring ? COUNT(all) : COUNT_WITHOUT_URING;
    for (size_t i = 0; i < count; i++)
        cases[i] = (struct bench_case){all[i].name, "write/s", writers_run, &all[i].shape};
    bench_measure(&bench, cases, count);
    for (size_t i = 0; i < (uring ? COUNT(aims) : AIMS_WITHOUT_URING); i++)
        bench_ratio(&bench, &aims[i]);
    bench_end(&bench);
}
