/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the benchmarks share: options, rounds, ratios, output, a place to work in.
 *
 * A benchmark is a list of cases: what is measured, its floor, its rivals.  bench_measure() runs them
 * in turn, as often as there are rounds, forwards and backwards, so that what drifts on the machine
 * hits all alike; bench_ratio() compares two of them round by round.  Nothing here asserts a figure.
 *
 * Printed are a table for people and lines for scripts/bench-report, one a case and one a ratio:
 *
 *     case=NAME unit=UNIT median=R low=R high=R [bytes=R] [cpu_ns=R]
 *         [p50_us=R p99_us=R p999_us=R max_us=R] [kib=R]
 *     aim=N name=NAME ratio=R median=R low=R high=R rounds=N want=R rule=least|most a=NAME b=NAME
 *
 * `ratio` is the median of the rounds' ratios, as is `median`; low and high are the spread.  N is the
 * number of the aim in docs/performance.md, 0 for a comparison without one.  Names have no spaces.
 *
 * Failure: a benchmark that cannot do what it is to measure prints why and exits with 1.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hist.h"

#define BENCH_CASES_MAX  24
#define BENCH_ROUNDS_MAX 50

struct bench_options {
    double seconds;   /* that one case of one round takes, about */
    unsigned rounds;  /* 1 to BENCH_ROUNDS_MAX */
    unsigned threads; /* 0: as the benchmark has it */
    const char *dir;  /* where the scratch directory is made: its disk is what is measured */
    const char *only; /* a part of the names of the cases to run; NULL: all */
};

/* What one case of one round gave. */
struct bench_result {
    double rate;        /* per second */
    double byte_rate;   /* per second; 0: not of interest */
    double cpu_ns;      /* of the process and its server, for each operation; 0: not of interest */
    size_t memory_size; /* bytes; 0: not of interest */
    struct hist hist;   /* of nanoseconds; empty: not of interest */
};

struct bench_case {
    const char *name;
    const char *unit; /* of the rate: "append/s" */
    void (*run)(void *arg, const struct bench_options *options, struct bench_result *ret);
    void *arg;
};

struct bench {
    struct bench_options options;
    const struct bench_case *cases;
    size_t case_count;
    struct bench_result *results; /* case_count times rounds */
};

enum bench_what { BENCH_RATE, BENCH_P999, BENCH_MAX, BENCH_CPU };

struct bench_aim {
    int number;        /* 0: none */
    const char *name;  /* of the ratio */
    const char *a, *b; /* cases: the ratio is a/b */
    enum bench_what what;
    double want;
    bool at_most; /* `want` is the most, not the least, that is aimed at */
};

/* Reads --seconds, --rounds, --threads, --dir and --only; `seconds` is the default.  Ends the program on
 * anything else, with `about` and the options. */
void bench_begin(struct bench *bench, int argc, char **argv, const char *about, double seconds);
/* Runs the cases and prints a line for each. */
void bench_measure(struct bench *bench, const struct bench_case *cases, size_t count);
/* Prints the ratio of two cases, if both were measured. */
void bench_ratio(const struct bench *bench, const struct bench_aim *aim);
void bench_end(struct bench *bench);

/* Prints a ratio that no case stands behind (a figure of somebody else's, say). */
void bench_print_ratio(const struct bench_aim *aim, const double *ratios, unsigned count);
double bench_median(const double *values, unsigned count);

/* An empty directory below options->dir; the caller passes it to bench_scratch_remove. */
char *bench_scratch(const struct bench_options *options);
void bench_scratch_remove(char *path);

uint64_t bench_now_ns(void);
double bench_cpu_seconds(void); /* of this process so far */
size_t bench_memory(void);      /* anonymous memory of this process, bytes */
/* Another process's: all that it has resident. */
size_t bench_memory_of(int pid);

void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Ends the program unless `result`, 0 or -errno, is at least 0. */
#define BENCH_OK(result) bench_check((result), #result, __FILE__, __LINE__)
long bench_check(long result, const char *what, const char *file, int line);

#endif
