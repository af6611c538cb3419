/* SPDX-License-Identifier: MIT */
/*
 * transport.c - what the ways from the kernel to a FUSE server cost, with a server that does nothing.
 *
 * The transports of walrusfs against libfuse's own loops, with one client and with ten.  Clients run
 * where the kernel puts them: that a request is answered on the core of its client is what the own
 * transports are for.
 */
#include "writers.h"

int main(int argc, char **argv)
{
    static struct writers shapes[] = {
        {.loop = "own", .count = 10, .size = 1024}, {.loop = "mt10", .count = 10, .size = 1024},
        {.loop = "st", .count = 10, .size = 1024},  {.loop = "own", .count = 1, .size = 1024},
        {.loop = "mt10", .count = 1, .size = 1024}, {.loop = "st", .count = 1, .size = 1024},
    };
    static const char *const names[] = {"null-own-10", "null-libfuse10-10", "null-libfuse1-10",
                                        "null-own-1",  "null-libfuse10-1",  "null-libfuse1-1"};
    struct bench_case cases[sizeof(names) / sizeof(names[0])];
    struct bench bench;

    bench_begin(&bench, argc, argv, "The null FUSE server on each transport.", 0.5);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cases[i] = (struct bench_case){names[i], "write/s", writers_run, &shapes[i]};
    bench_measure(&bench, cases, sizeof(names) / sizeof(names[0]));
    bench_ratio(&bench,
                &(struct bench_aim){2, "default/libfuse-10-threads,10-clients", "null-own-10",
                                    "null-libfuse10-10", BENCH_RATE, 1.0, false});
    bench_ratio(&bench, &(struct bench_aim){2, "default/libfuse-10-threads,1-client", "null-own-1",
                                            "null-libfuse10-1", BENCH_RATE, 3, false});
    bench_end(&bench);
}
