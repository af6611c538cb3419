/* SPDX-License-Identifier: MIT */
/*
 * workload.h - random programs (tests/lib/program.h) on the simulated machine, recorded together
 * with what the store had to hold before and after each call; and many of them, each in a process
 * of its own.
 */
#ifndef WALRUS_TESTS_WORKLOAD_H
#define WALRUS_TESTS_WORKLOAD_H

#include "oracle.h"
#include "sim.h"

struct workload {
    uint64_t seed;
    struct sim_log log;
    struct oracle *before; /* before[n]: before call n; before[calls]: at the end */
    unsigned calls;
};

/* Runs the program of `seed` with `calls` calls, of which the first opens the store.  `small`: a
 * few hundred bytes an entry at most. */
void workload_run(struct workload *workload, uint64_t seed, unsigned calls);
/* The simulated machine, its directory empty, its threads scheduled. */
void workload_machine(uint64_t seed);
/* Its parts: the options of the store, a call, and what happens between two. */
void workload_options(void);
void workload_call(unsigned call);
void workload_background(void);
void workload_free(struct workload *workload);

/* What may be there after the event: between these two. */
const struct oracle *workload_before(const struct workload *workload, const struct sim_event *at);
const struct oracle *workload_after(const struct workload *workload, const struct sim_event *at);

/* Numbers that all processes share. */
struct tally {
    _Atomic uint64_t states, workloads, events, checks, failures;
};

/* Programs seed, seed + step, ...: `count` of them (0: no end), or until so many states or seconds
 * (0: no end) are over. */
struct workload_plan {
    uint64_t seed, step, count, states;
    unsigned seconds, jobs; /* processes at a time */
    void (*run)(uint64_t seed);
};

/* Runs each in a process of its own, until one fails.  Returns the exit status. */
int workload_many(const struct workload_plan *plan, struct tally **ret_tally);
void workload_print(const struct tally *tally, uint64_t ms);

/* A state of its own for the dice of one cut. */
uint64_t workload_dice(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

/* A closed store in the simulated directory: no path, no directory of its own. */
void workload_rig(struct rig *rig, const struct walrus_options *options);

#endif
