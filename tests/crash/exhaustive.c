/* SPDX-License-Identifier: MIT */
/*
 * exhaustive.c - every program of three calls from a bounded alphabet, cut at every prefix of its
 * changes, with everything that is not durable, nothing, and each single sector, length or name.
 *
 *     crash_exhaustive [-j JOBS] [-t SECONDS] [-s PART] FIRST COUNT
 *     crash_exhaustive -e EVENT -m MODE -n SINGLE PROGRAM 1
 *
 * Program n is three calls, the digits of n to the base of the alphabet, on a store with a topic
 * of three entries of which one is consumed; the first digit above says under which options.
 * `-s PART`: programs PART apart, for a sample.  The idea is ACE's: most bugs of crashes need few
 * calls, so all of those are tried.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cut.h"
#include "order.h"
#include "os.h"
#include "program.h"
#include "workload.h"

enum { LETTERS = 14, DEPTH = 3, OPTIONS = 4, PROGRAMS = OPTIONS * LETTERS * LETTERS * LETTERS };

static struct workload workload;
static struct tally *tally;
static struct rig image;
static uint64_t program_number;
static struct {
    bool only;
    size_t event;
    enum cut_mode mode;
    unsigned single;
} at;
static size_t only_event;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "%s", image.report_text);
    program_print_notes();
    fprintf(stderr, "crash_exhaustive: failed: seed=%llu n=%zu single=%u fs=sim mode=%s\n",
            (unsigned long long)program_number, at.event, at.single, cut_mode_names[at.mode]);
    fprintf(stderr, "replay: crash_exhaustive -e %zu -m %d -n %u %llu 1\n", at.event, (int)at.mode,
            at.single, (unsigned long long)program_number);
}

/* ---------------------------------------------------------------------------------- alphabet -- */

static struct oracle_topic *first_topic(void)
{
    return &program_now.topics[0];
}

static void append_sized(uint32_t size, size_t count, bool durable)
{
    uint32_t sizes[PROGRAM_BATCH_MAX];

    for (size_t i = 0; i < count; i++)
        sizes[i] = size;
    program_append(first_topic(), sizes, count, durable);
}

static void letter_topic(void)
{
    if (program_now.topics[1].live)
        program_topic_remove(&program_now.topics[1]);
    else
        program_topic_make(&program_now.topics[1]);
}

static void letter_group(void)
{
    struct oracle_group *group = &first_topic()->groups[1];

    if (group->live)
        program_group_remove(first_topic(), group);
    else
        program_group_make(first_topic(), group);
}

static void call(unsigned letter)
{
    switch (letter) {
    case 0:
        append_sized(100, 1, false);
        break;
    case 1:
        append_sized(100, 1, true);
        break;
    case 2:
        append_sized(500, 3, false);
        break;
    case 3: /* two blocks */
        append_sized(70000, 1, false);
        break;
    case 4: /* to the end of the block */
        append_sized(64000, 1, false);
        break;
    case 5:
        program_take(first_topic(), 1, SIZE_MAX, false);
        break;
    case 6:
        program_take(first_topic(), 40, SIZE_MAX, false);
        break;
    case 7:
        program_seek(first_topic(), &first_topic()->groups[0], WALRUS_SEEK_TO, 0);
        break;
    case 8:
        program_sync(first_topic(), &first_topic()->groups[0]);
        break;
    case 9:
        letter_topic();
        break;
    case 10:
        letter_group();
        break;
    case 11:
        program_topic_rename(first_topic());
        break;
    case 12:
        program_reopen();
        break;
    default: /* the threads do what they have to */
        sim_clock(10000000000u, 0);
        sim_settle();
    }
}

static void record(void)
{
    uint64_t number = program_number;
    unsigned options = (unsigned)(number / (LETTERS * LETTERS * LETTERS));

    program_init(1);
    program_now.strict = options % 2 == 0;
    program_now.persist_every = 2;
    program_rig.options.consistency = program_now.strict ? WALRUS_STRICT : WALRUS_AT_LEAST_ONCE;
    program_rig.options.persist_every = 2;
    program_rig.options.fsync = options < 2 ? WALRUS_FSYNC_NEVER : WALRUS_FSYNC_EACH;
    program_rig.options.blocks_per_file = 2;
    program_open();
    program_topic_make(first_topic());
    append_sized(100, 3, false);
    program_take(first_topic(), 1, SIZE_MAX, false);
    program_sync(NULL, NULL);
    sim_settle();
}

static void calls_record(struct cut_disk *disk, struct order *order)
{
    uint64_t number = program_number;

    workload_machine(program_number);
    record();
    cut_init(disk);
    order_init(order);
    order->dir_synced = true;
    sim_record(&workload.log);
    for (unsigned i = 0; i < DEPTH; i++, number /= LETTERS) {
        workload.before[i] = program_now;
        sim_call(i, true);
        call((unsigned)(number % LETTERS));
        program_check_groups();
        workload.before[i + 1] = program_now;
        sim_call(i, false);
        sim_mark();
    }
    sim_record(NULL);
    program_give_back();
    rig_close(&program_rig);
    sim_threads(SIM_LAZY, 0);
}

/* -------------------------------------------------------------------------------------- cuts -- */

static void state_check(const struct cut_disk *disk, const struct sim_event *event)
{
    static struct oracle found;
    uint64_t dice = workload_dice(program_number, at.event, at.mode, at.single);

    cut_write(disk, at.mode, at.single, &dice);
    sim_entropy(dice);
    workload_rig(&image, &program_rig.options);
    oracle_check_crash(&image, workload_before(&workload, event), workload_after(&workload, event),
                       at.mode == CUT_ALL, &found);
    tally->states++;
}

static void states_at(const struct cut_disk *disk, const struct sim_event *event)
{
    unsigned singles = cut_single_count(disk);

    if (at.only) {
        state_check(disk, event);
        return;
    }
    at.mode = CUT_ALL;
    state_check(disk, event);
    if (singles == 0)
        return;
    at.mode = CUT_NONE;
    state_check(disk, event);
    at.mode = CUT_SINGLE;
    for (at.single = 0; at.single < singles; at.single++)
        state_check(disk, event);
    at.single = 0;
}

static void run(uint64_t number)
{
    static struct cut_disk disk;
    static struct order order;
    static struct oracle before[DEPTH + 1];

    signal(SIGABRT, on_abort);
    program_number = number % PROGRAMS;
    workload.before = before;
    calls_record(&disk, &order);
    for (size_t i = 0; i < workload.log.count; i++) {
        const struct sim_event *event = &workload.log.events[i];
        at.event = i;
        order_check(&order, &disk, &workload.log, event);
        cut_apply(&disk, &workload.log, event);
        tally->events++;
        if (!at.only || i == only_event)
            states_at(&disk, event);
    }
    tally->checks += order.checks;
    cut_fini(&disk);
    sim_log_free(&workload.log);
    rig_fini(&program_rig);
}

int main(int argc, char **argv)
{
    struct workload_plan plan = {.jobs = 1, .step = 1, .states = UINT64_MAX, .run = run};
    uint64_t began_ms = now_ms();

    for (int option; (option = getopt(argc, argv, "j:t:s:e:m:n:")) != -1;) {
        unsigned value = (unsigned)strtoul(optarg != NULL ? optarg : "", NULL, 10);
        if (option == 'j')
            plan.jobs = value;
        else if (option == 't')
            plan.seconds = value;
        else if (option == 's')
            plan.step = value;
        else if (option == 'm')
            at.mode = (enum cut_mode)value;
        else if (option == 'n')
            at.single = value;
        else if (option == 'e')
            only_event = value, at.only = program_verbose = true;
        else
            return 2;
    }
    plan.seed = optind < argc ? strtoull(argv[optind], NULL, 10) : 0;
    plan.count = optind + 1 < argc ? strtoull(argv[optind + 1], NULL, 10) : PROGRAMS;
    printf("seed %llu, of %d programs\n", (unsigned long long)plan.seed, PROGRAMS);
    int status = workload_many(&plan, &tally);
    workload_print(tally, now_ms() - began_ms);
    return status;
}
