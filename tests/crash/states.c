/* SPDX-License-Identifier: MIT */
/*
 * states.c - what a loss of power or a kill can leave at any moment of a random program, recovered
 * and checked.
 *
 *     crash_states [-j JOBS] [-t SECONDS] STATES [SEED]    until so many states, or so long
 *     crash_states -e EVENT -m MODE -n TURN 1 SEED         one state again
 *
 * Each program of 200 calls is recorded on the simulated machine (sim.h).  At a part of its events
 * the disk is cut in every mode of cut.h, and what is left is checked by the oracle: opened,
 * compared, appended to, closed, opened and compared again.
 */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cut.h"
#include "order.h"
#include "os.h"
#include "program.h"
#include "workload.h"

enum { CALLS = 200, TURNS = 2, EVENTS_OF_100 = 12 };

static struct workload workload;
static struct tally *tally;
static struct rig image;
static uint64_t states_wanted = 20000;
static size_t only_event;
/* the state that is looked at */
static struct {
    bool only; /* this one and no other */
    size_t event;
    enum cut_mode mode;
    unsigned turn;
} at;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "%s", image.report_text);
    program_print_notes();
    fprintf(stderr, "crash_states: failed: seed=%llu n=%zu turn=%u fs=sim mode=%s\n",
            (unsigned long long)workload.seed, at.event, at.turn, cut_mode_names[at.mode]);
    fprintf(stderr, "replay: crash_states -e %zu -m %d -n %u 1 %llu\n", at.event, (int)at.mode,
            at.turn, (unsigned long long)workload.seed);
}

static void state_check(const struct cut_disk *disk, const struct sim_event *event)
{
    static struct oracle found;
    uint64_t dice = workload_dice(workload.seed, at.event, at.mode, at.turn);

    cut_write(disk, at.mode, 0, &dice);
    sim_entropy(dice);
    workload_rig(&image, &program_rig.options);
    oracle_check_crash(&image, workload_before(&workload, event), workload_after(&workload, event),
                       at.mode == CUT_ALL, &found);
    tally->states++;
}

static void states_at(const struct cut_disk *disk, const struct sim_event *event)
{
    bool pending = cut_pending(disk);

    for (int mode = CUT_ALL; mode < CUT_SINGLE; mode++)
        for (unsigned turn = 0; turn < (mode < CUT_SOME ? 1 : TURNS); turn++) {
            if (at.only && (at.mode != (enum cut_mode)mode || at.turn != turn))
                continue;
            if (!pending && mode != CUT_ALL) /* all the same */
                continue;
            at.mode = (enum cut_mode)mode;
            at.turn = turn;
            state_check(disk, event);
        }
}

static void run(uint64_t seed)
{
    static struct cut_disk disk;
    static struct order order;
    uint64_t dice = workload_dice(seed, 1, 2, 3);

    signal(SIGABRT, on_abort);
    workload.seed = seed;
    sim_clear();
    cut_init(&disk);
    order_init(&order);
    workload_run(&workload, seed, CALLS);
    for (size_t i = 0; i < workload.log.count && tally->states < states_wanted; i++) {
        const struct sim_event *event = &workload.log.events[i];
        at.event = i;
        order_check(&order, &disk, &workload.log, event);
        cut_apply(&disk, &workload.log, event);
        tally->events++;
        bool chosen = powercut_random(&dice, 100) < EVENTS_OF_100;
        if (at.only ? i != only_event : !chosen)
            continue;
        states_at(&disk, event);
    }
    tally->checks += order.checks;
    cut_fini(&disk);
    workload_free(&workload);
}

/* -j JOBS, -t SECONDS, and those of one state. */
static void options_read(int argc, char **argv, unsigned *jobs, unsigned *seconds)
{
    for (int option; (option = getopt(argc, argv, "j:t:e:m:n:")) != -1;) {
        unsigned value = (unsigned)strtoul(optarg != NULL ? optarg : "", NULL, 10);
        switch (option) {
        case 'j':
            *jobs = value;
            break;
        case 't':
            *seconds = value;
            break;
        case 'e':
            at.only = program_verbose = true;
            only_event = value;
            break;
        case 'm':
            at.mode = (enum cut_mode)value;
            break;
        case 'n':
            at.turn = value;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    unsigned jobs = 1, seconds = 0;
    uint64_t seed = now_ms() * 1000003 % 1000000007, began_ms = now_ms();

    options_read(argc, argv, &jobs, &seconds);
    if (optind < argc)
        states_wanted = strtoull(argv[optind], NULL, 10);
    if (optind + 1 < argc)
        seed = strtoull(argv[optind + 1], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    int status = workload_many(seed, states_wanted, seconds, jobs, run, &tally);
    uint64_t ms = now_ms() - began_ms + 1;
    printf("%llu states of %llu programs with %llu events and %llu checks of their order, in "
           "%llu s: %llu a second\n",
           (unsigned long long)tally->states, (unsigned long long)tally->workloads,
           (unsigned long long)tally->events, (unsigned long long)tally->checks,
           (unsigned long long)(ms / 1000), (unsigned long long)(tally->states * 1000 / ms));
    return status;
}
