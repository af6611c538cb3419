/* SPDX-License-Identifier: MIT */
/*
 * seed.h - what the three benchmarks of the seed share: a place to append to and read from, the
 * library or a mount; counters; rows each half a second.
 *
 * Serves writes.c, reads.c and scaling.c.  Their names, parameters, CSV files and columns are those of
 * the seed.  Rates are of the time that really passed since the row before, also in the first row.
 */
#ifndef BENCH_SEED_H
#define BENCH_SEED_H

#include <stdatomic.h>
#include <stdio.h>

#include "load.h"

#define SEED_THREADS_MAX 64u
#define SEED_ROW_MS      500

struct seed_options {
    double write_seconds, read_seconds;
    unsigned threads;
    unsigned persist_every;
    const char *fsync; /* milliseconds, "each" or "never" */
    const char *mount; /* a mount point; NULL: the library */
    const char *dir;   /* where the library's store is made */
    const char *out;   /* where the CSV files go */
    bool strict;
    bool sums; /* a line for each phase, for scripts/bench-report */
};

/* What a thread counts; only it writes. */
struct seed_count {
    _Atomic uint64_t entries, bytes;
    char apart[48]; /* no two threads' counters share a cache line */
};

struct seed;

/* Reads the options; the rest are the benchmark's own values. */
void seed_parse(struct seed_options *options, int argc, char **argv, const char *about);
struct seed *seed_open(const struct seed_options *options);
void seed_close(struct seed *seed);

/* Runs `threads` writers, or readers, for about `seconds`; `row` is called each half second with what
 * was counted so far, and once at the end.  Every entry that is read is checked, and must be the next
 * one of its thread.  *ret_seconds: how long it took. */
struct seed_sum {
    uint64_t entries, bytes;
};
typedef void seed_row(void *arg, double elapsed, struct seed_sum sum);
struct seed_sum seed_write(struct seed *seed, unsigned threads, double seconds, seed_row *row,
                           void *arg, double *ret_seconds);
struct seed_sum seed_read(struct seed *seed, unsigned threads, double seconds, seed_row *row,
                          void *arg, double *ret_seconds);

/* Opens a CSV file in options->out and writes its head. */
FILE *seed_csv(const struct seed_options *options, const char *name, const char *head);
/* Prints the line for scripts/bench-report. */
void seed_case(const struct seed_options *options, const char *name, struct seed_sum sum,
               double seconds);

#endif
