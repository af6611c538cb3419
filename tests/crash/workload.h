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
void workload_free(struct workload *workload);

/* What may be there after the event: between these two. */
const struct oracle *workload_before(const struct workload *workload, const struct sim_event *at);
const struct oracle *workload_after(const struct workload *workload, const struct sim_event *at);

/* Numbers that all processes share. */
struct tally {
    _Atomic uint64_t states, workloads, events, checks, failures;
};

/* Calls run(seed, seed + 1, ...) in processes, `jobs` at a time, until tally->states is `states`
 * or a failure comes (`seconds` > 0: or so long).  Returns the exit status. */
int workload_many(uint64_t seed, uint64_t states, unsigned seconds, unsigned jobs,
                  void (*run)(uint64_t seed), struct tally **ret_tally);

/* A state of its own for the dice of one cut. */
uint64_t workload_dice(uint64_t seed, uint64_t a, uint64_t b, uint64_t c);

/* A closed store in the simulated directory: no path, no directory of its own. */
void workload_rig(struct rig *rig, const struct walrus_options *options);

#endif
