/* SPDX-License-Identifier: MIT */
/*
 * load.h - threads that all do one thing until the time is up, and entries whose bytes are known.
 *
 * Serves the benchmarks; fails by ending the program.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>

#include "bench.h"

#define LOAD_SIZE_MIN 500u /* bytes of an entry, as the seed's benchmarks have them */
#define LOAD_SIZE_MAX 1024u

/* One thread of a load. */
struct load_thread {
    unsigned idx; /* 0 to threads - 1 */
    void *arg;
    uint64_t count; /* operations, counted by the thread */
    uint64_t bytes;
    uint64_t random;        /* state of load_random */
    struct hist *hist;      /* NULL: times are not wanted */
    const atomic_bool *end; /* the time is up */
};

typedef void load_fn(struct load_thread *thread);

/* Runs `step` in each thread again and again until the time is up; `threads` begin together.  Counts
 * go to *ret, and with `times` the time of each step.  Their wall time is what rates are made of. */
void load_run(const struct bench_options *options, unsigned threads, load_fn *step, void *arg,
              bool times, struct bench_result *ret);

/* xorshift64*; not for secrets. */
static inline uint64_t load_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

/* A size from LOAD_SIZE_MIN to LOAD_SIZE_MAX. */
static inline size_t load_size(uint64_t *state)
{
    return LOAD_SIZE_MIN + (size_t)(load_random(state) % (LOAD_SIZE_MAX - LOAD_SIZE_MIN + 1));
}

/* The bytes of entry `number` of `thread`: its number and thread, then a pattern that both decide. */
const void *load_entry(unsigned thread, uint64_t number, size_t size, void *buffer);
/* The entry is whole: its number, or -1. */
int64_t load_check(unsigned thread, const void *data, size_t size);

#endif
