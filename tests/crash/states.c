/* SPDX-License-Identifier: MIT */
/*
 * states.c - what a loss of power or a kill can leave at any moment of a random program, recovered
 * and checked.
 *
 *     crash_states [-j JOBS] [-t SECONDS] STATES [SEED]    until so many states, or so long
 *     crash_states -e EVENT -m MODE -n TURN [-E EVENT -M MODE] 1 SEED     one state again
 *
 * Each program of 200 calls is recorded on the simulated machine (sim.h).  At a part of its events
 * the disk is cut in every mode of cut.h, and what is left is checked by the oracle: opened,
 * compared, appended to, closed, opened and compared again.
 *
 * Now and then what is left is opened and closed with that recorded in turn, and the disk cut
 * again at a part of those events: recovery can be cut short anywhere.  What a kill left goes into
 * that as it was, with what was not durable.
 */
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cut.h"
#include "order.h"
#include "os.h"
#include "program.h"
#include "workload.h"

enum { CALLS = 200, TURNS = 2, EVENTS_OF_100 = 12, NESTED_OF_1000 = 8, SECOND_OF_100 = 12 };

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
    bool nested; /* a cut of the recovery of this state */
    size_t second;
    enum cut_mode second_mode;
} at;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "%s", image.report_text);
    program_print_notes();
    fprintf(stderr, "crash_states: failed: seed=%llu n=%zu turn=%u fs=sim mode=%s\n",
            (unsigned long long)workload.seed, at.event, at.turn, cut_mode_names[at.mode]);
    if (at.nested)
        fprintf(stderr, "in its recovery: n=%zu mode=%s\n", at.second,
                cut_mode_names[at.second_mode]);
    fprintf(stderr, "replay: crash_states -e %zu -m %d -n %u ", at.event, (int)at.mode, at.turn);
    if (at.nested)
        fprintf(stderr, "-E %zu -M %d ", at.second, (int)at.second_mode);
    fprintf(stderr, "1 %llu\n", (unsigned long long)workload.seed);
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

/* What a recovery of this state does, in *ret_log. */
static void recovery_record(struct sim_log *ret_log)
{
    memset(ret_log, 0, sizeof(*ret_log));
    workload_rig(&image, &program_rig.options);
    sim_record(ret_log);
    rig_open(&image);
    rig_close(&image);
    sim_record(NULL);
}

static void nested_cut(const struct cut_disk *disk, const struct sim_event *event)
{
    static struct oracle found;
    uint64_t dice = workload_dice(workload.seed, at.event * 8 + at.mode, at.turn,
                                  at.second * 8 + at.second_mode);

    cut_write(disk, at.second_mode, 0, &dice);
    sim_entropy(dice);
    workload_rig(&image, &program_rig.options);
    oracle_check_crash(&image, workload_before(&workload, event), workload_after(&workload, event),
                       at.mode == CUT_ALL && at.second_mode == CUT_ALL, &found);
    tally->states++;
}

/* Cuts of the recovery of a state. */
static void nested_check(const struct cut_disk *disk, const struct sim_event *event)
{
    static struct cut_disk second;
    static struct order order;
    struct sim_log log;
    uint64_t dice = workload_dice(workload.seed, at.event, at.mode, at.turn);
    size_t only = at.second;
    enum cut_mode only_mode = at.second_mode;

    cut_write(disk, at.mode, 0, &dice);
    sim_entropy(dice);
    if (at.mode == CUT_ALL)
        cut_clone(&second, disk);
    else
        cut_init(&second);
    order_init(&order);
    order.recovery = true;
    recovery_record(&log);
    for (size_t i = 0; i < log.count; i++) {
        at.second = i;
        order_check(&order, &second, &log, &log.events[i]);
        cut_apply(&second, &log, &log.events[i]);
        enum cut_mode mode = (enum cut_mode)powercut_random(&dice, CUT_SINGLE);
        bool chosen = powercut_random(&dice, 100) < SECOND_OF_100;
        if (at.only ? i != only : !chosen)
            continue;
        at.second = i;
        at.second_mode = at.only ? only_mode : mode;
        nested_cut(&second, event);
    }
    sim_log_free(&log);
    cut_fini(&second);
}

static void state_at(const struct cut_disk *disk, const struct sim_event *event)
{
    uint64_t dice = workload_dice(workload.seed, at.event, 77 + at.mode, at.turn);

    if (!at.only || !at.nested)
        state_check(disk, event);
    if (at.only ? !at.nested : powercut_random(&dice, 1000) >= NESTED_OF_1000)
        return;
    at.nested = true;
    nested_check(disk, event);
    at.nested = at.only;
}

static void states_at(const struct cut_disk *disk, const struct sim_event *event)
{
    bool pending = cut_pending(disk);

    if (at.only) {
        state_at(disk, event);
        return;
    }
    for (int mode = CUT_ALL; mode < CUT_SINGLE; mode++)
        for (unsigned turn = 0; turn < (mode < CUT_SOME ? 1 : TURNS); turn++) {
            if (!pending && mode != CUT_ALL) /* all the same */
                continue;
            at.mode = (enum cut_mode)mode;
            at.turn = turn;
            state_at(disk, event);
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

/* -j JOBS, -t SECONDS, and what one state is found by. */
static void options_read(int argc, char **argv, struct workload_plan *plan)
{
    for (int option; (option = getopt(argc, argv, "j:t:e:m:n:E:M:")) != -1;) {
        unsigned value = (unsigned)strtoul(optarg != NULL ? optarg : "", NULL, 10);
        switch (option) {
        case 'j':
            plan->jobs = value;
            break;
        case 't':
            plan->seconds = value;
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
        case 'E':
            at.nested = true;
            at.second = value;
            break;
        case 'M':
            at.second_mode = (enum cut_mode)value;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    uint64_t began_ms = now_ms();
    struct workload_plan plan = {
        .seed = began_ms * 1000003 % 1000000007, .step = 1, .jobs = 1, .run = run};

    options_read(argc, argv, &plan);
    if (optind < argc)
        states_wanted = strtoull(argv[optind], NULL, 10);
    if (optind + 1 < argc)
        plan.seed = strtoull(argv[optind + 1], NULL, 10);
    plan.states = states_wanted;
    printf("seed %llu\n", (unsigned long long)plan.seed);
    int status = workload_many(&plan, &tally);
    workload_print(tally, now_ms() - began_ms);
    return status;
}
