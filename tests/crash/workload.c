/* SPDX-License-Identifier: MIT */
/*
 * workload.c - programs on the simulated machine, and processes for many: see workload.h.
 */
#include "workload.h"

#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os.h"
#include "program.h"

enum { JOBS_MAX = 64 };

uint64_t workload_dice(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t state = seed;

    state += powercut_random(&state, UINT64_MAX) ^ a;
    state += powercut_random(&state, UINT64_MAX) ^ b;
    state += powercut_random(&state, UINT64_MAX) ^ c;
    return state;
}

void workload_rig(struct rig *rig, const struct walrus_options *options)
{
    memset(rig, 0, offsetof(struct rig, report_text));
    rig->report_text[0] = 0;
    CHECK_INT(pthread_mutex_init(&rig->lock, NULL), 0);
    strcpy(rig->dir, "sim");
    rig->options = *options;
    rig->options.report_arg = rig;
}

/* ---------------------------------------------------------------------------------- a program -- */

void workload_options(void)
{
    static const uint32_t sizes[] = {300, 1500, 1500, 9000, 70000};

    program_choose_options();
    program_rig.options.blocks_per_file = 1 + (uint32_t)program_dice(4);
    program_append_max = sizes[program_dice(5)];
    program_blob_max = program_append_max > 9000 ? 140000 : program_append_max;
}

/* The threads, and the clock, get some of what they could have. */
void workload_background(void)
{
    if (program_chance(40))
        sim_settle();
    if (program_chance(20))
        sim_clock(program_dice(2000) * 1000000u, 0);
    if (program_chance(2)) /* somebody sets the clock, by up to ten years */
        sim_clock(0, (int64_t)program_dice(630720000) * 1000000000 - 315360000ll * 1000000000);
}

void workload_call(unsigned call)
{
    if (call == 0)
        program_open();
    else if (program_chance(2))
        program_reopen();
    else
        program_call();
    if (program_failure == 0)
        program_check_groups();
}

void workload_machine(uint64_t seed)
{
    (void)mallopt(M_ARENA_MAX, 1);            /* addresses, too, are the same each time */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 28); /* and large buffers cost no page faults */
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 28);
    os = &sim_ops;
    sim_clear();
    sim_entropy(seed);
    sim_threads(SIM_SCHEDULED, seed);
}

void workload_run(struct workload *workload, uint64_t seed, unsigned calls)
{
    workload_machine(seed);
    workload->seed = seed;
    workload->calls = calls;
    workload->before = calloc(calls + 1, sizeof(struct oracle));
    CHECK(workload->before != NULL);
    sim_record(&workload->log);
    program_init(seed);
    workload_options();
    for (unsigned call = 0; call < calls; call++) {
        workload->before[call] = program_now;
        sim_call(call, true);
        workload_call(call);
        workload->before[call + 1] = program_now;
        sim_call(call, false);
        sim_mark();
        workload_background();
    }
    sim_record(NULL);
    program_give_back();
    rig_close(&program_rig);
    sim_threads(SIM_LAZY, 0);
}

void workload_free(struct workload *workload)
{
    rig_fini(&program_rig);
    sim_log_free(&workload->log);
    free(workload->before);
    memset(workload, 0, sizeof(*workload));
}

const struct oracle *workload_before(const struct workload *workload, const struct sim_event *at)
{
    return &workload->before[at->inside ? at->call : at->call + 1];
}

const struct oracle *workload_after(const struct workload *workload, const struct sim_event *at)
{
    return &workload->before[at->call + 1];
}

/* ------------------------------------------------------------------------------- many of them -- */

/* Waits for a process; false: it failed. */
static bool reap(pid_t *pids, unsigned *count)
{
    int status;
    pid_t pid = wait(&status);

    CHECK(pid > 0);
    for (unsigned i = 0; i < *count; i++)
        if (pids[i] == pid) {
            pids[i] = pids[--*count];
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
    return true;
}

static bool plan_over(const struct workload_plan *plan, const struct tally *tally, uint64_t begun,
                      uint64_t end_ms)
{
    return tally->failures > 0 || tally->states >= plan->states ||
           (plan->count > 0 && begun >= plan->count) || (plan->seconds > 0 && now_ms() >= end_ms);
}

int workload_many(const struct workload_plan *plan, struct tally **ret_tally)
{
    pid_t pids[JOBS_MAX];
    unsigned count = 0;
    uint64_t begun = 0, end_ms = now_ms() + plan->seconds * 1000ull;
    struct tally *tally =
        mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    CHECK(tally != MAP_FAILED && plan->jobs > 0 && plan->jobs <= JOBS_MAX);
    *ret_tally = tally;
    while (!plan_over(plan, tally, begun, end_ms)) {
        if (count == plan->jobs) {
            tally->failures += !reap(pids, &count);
            continue;
        }
        fflush(NULL);
        pids[count] = fork();
        CHECK(pids[count] >= 0);
        if (pids[count] == 0) {
            plan->run(plan->seed + begun * plan->step);
            tally->workloads++;
            fflush(NULL);
            child_exit(0);
        }
        count++;
        begun++;
    }
    while (count > 0)
        tally->failures += !reap(pids, &count);
    return tally->failures > 0;
}

void workload_print(const struct tally *tally, uint64_t ms)
{
    printf("%llu states of %llu programs with %llu events and %llu checks of their order, in "
           "%llu s: %llu a second\n",
           (unsigned long long)tally->states, (unsigned long long)tally->workloads,
           (unsigned long long)tally->events, (unsigned long long)tally->checks,
           (unsigned long long)(ms / 1000), (unsigned long long)(tally->states * 1000 / (ms + 1)));
}
