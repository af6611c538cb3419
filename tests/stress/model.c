/* SPDX-License-Identifier: MIT */
/*
 * model.c - random programs over walrus.h against a plain model, with crashes between and inside of
 * their calls.
 *
 *     stress_model [seconds [seed [programs]]]
 *
 * Runs programs of seed, seed + 1, ... until the seconds are over (20 by default) or so many have
 * run (0: no end).  A failure prints the seed of its program and the last calls, and leaves the
 * directories.  To replay one:  stress_model 0 SEED 1.  The library's own threads run as they like,
 * so now and then it takes a few tries.
 *
 * The program changes the store and the model alike and compares what both say.  Now and then
 * a crash is armed: at the n-th system call from then on that changes a file, in whatever thread,
 * the directory is copied as a killed process or a loss of power would leave it (powercut.h).
 * The copy is checked against the model of before and after the call (oracle.h); sometimes the
 * program then goes on in the copy, so that crashes follow crashes and fall into recoveries.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"
#include "registry.h"
#include "tmpdir.h"

#define PROGRAM_SECONDS 20

/* A crash that is to come. */
struct crash {
    bool armed, adopt;
    atomic_bool done;
    enum powercut_mode mode;
    unsigned percent;
    uint64_t random;
    char *image, *durable;
};

static struct oracle before;
static struct crash crash;
static uint64_t program_seed, crash_count, op_count;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    program_print_notes();
    fprintf(stderr, "%s\nstress_model: failed; directory %s, crash image %s\n",
            program_rig.report_text, program_rig.dir, crash.image != NULL ? crash.image : "none");
    fprintf(stderr, "replay: stress_model 0 %llu 1\n", (unsigned long long)program_seed);
}

/* ------------------------------------------------------------------------------------ crashes --
 */

static void crash_hook(void *arg)
{
    (void)arg;
    powercut_write(crash.image, crash.mode, crash.percent, &crash.random);
    if (crash.durable != NULL)
        powercut_write(crash.durable, POWERCUT_DURABLE, 0, &crash.random);
    atomic_store(&crash.done, true);
}

static void crash_arm(uint64_t within)
{
    static const unsigned percents[] = {2, 20, 50, 80, 98};

    if (crash.armed)
        return;
    crash.armed = true;
    crash.adopt = program_chance(40);
    atomic_store(&crash.done, false);
    crash.mode = (enum powercut_mode)program_dice(POWERCUT_MODE_COUNT);
    crash.percent = percents[program_dice(5)];
    crash.random = program_dice(UINT64_MAX);
    crash.image = tmpdir_create();
    crash.durable = crash.adopt && crash.mode == POWERCUT_KILL ? tmpdir_create() : NULL;
    uint64_t nth = 1 + program_dice(within);
    program_note("-- crash armed: at change %llu, mode %d, %u percent%s", (unsigned long long)nth,
                 (int)crash.mode, crash.percent, crash.adopt ? ", to go on in" : "");
    powercut_arm(nth, crash_hook, NULL);
}

static void crash_end(void)
{
    powercut_arm(0, crash_hook, NULL);
    crash.armed = false;
    tmpdir_destroy(crash.image);
    tmpdir_destroy(crash.durable);
    crash.image = crash.durable = NULL;
}

/* The call in which the crash fell moved no group and changed no name: what a killed process left
 * is then, but for entries and offsets, as durable as it looks. */
static bool crash_was_plain(void)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        const struct oracle_topic *b = &before.topics[t], *a = &program_now.topics[t];
        if (b->live != a->live || strcmp(b->name, a->name) != 0)
            return false;
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            if (b->groups[g].live != a->groups[g].live ||
                b->groups[g].seeks != a->groups[g].seeks ||
                strcmp(b->groups[g].name, a->groups[g].name) != 0)
                return false;
    }
    return true;
}

/* The program goes on in what the crash left. */
static void crash_adopt(const struct oracle *found)
{
    bool killed = crash.mode == POWERCUT_KILL, plain = crash_was_plain();
    static struct oracle left;

    left = *found;
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        struct oracle_topic *topic = &left.topics[t];
        topic->keep_from = UINT64_MAX;
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            for (uint64_t seq = 0; seq < topic->count; seq++) {
                uint8_t *state = &topic->groups[g].state[seq];
                uint8_t was = before.topics[t].groups[g].state[seq];
                if (*state == ORACLE_DONE && was == ORACLE_GONE)
                    *state = ORACLE_GONE;
                else if (*state == ORACLE_DONE && killed && was != ORACLE_DONE)
                    *state = was == ORACLE_SOFT ? ORACLE_SOFT : ORACLE_CUT;
            }
    }
    program_close();
    powercut_remove();
    tmpdir_destroy(program_rig.dir_made);
    program_rig.dir_made = crash.image;
    crash.image = NULL;
    snprintf(program_rig.dir, sizeof(program_rig.dir), "%s", program_rig.dir_made);
    powercut_install(program_rig.dir, crash.durable);
    crash_end();
    program_now = before = left;
    if ((plain || !killed) && program_chance(60))
        crash_arm(60);
    program_open();
}

/* Checks the image of a crash that has come. */
static void crash_check(void)
{
    static struct oracle found;
    struct rig image;

    if (!crash.armed || !atomic_load(&crash.done))
        return;
    program_note("-- crash came");
    crash_count++;
    struct rig copy = {.options = program_rig.options};
    snprintf(copy.dir, sizeof(copy.dir), "%s", crash.image);
    rig_copy(&copy, &image);
    image.options.report_arg = &image;
    if (program_chance(20))
        oracle_check_read_only(&image);
    oracle_check_crash(&image, &before, &program_now, crash.mode == POWERCUT_KILL, &found);
    rig_fini(&image);
    if (crash.adopt)
        crash_adopt(&found);
    else
        crash_end();
}

static void op_reopen(void)
{
    struct rig copy;

    program_close();
    rig_copy(&program_rig, &copy);
    oracle_check_flip(&copy, &program_now, &program_random);
    rig_fini(&copy);
    program_open();
}

/* ----------------------------------------------------------------------------------- programs --
 */

static void op_run(void)
{
    powercut_wait(); /* a crash under way belongs to the call before */
    crash_check();
    before = program_now;
    if (program_chance(1))
        op_reopen();
    else
        program_call();
    op_count++;
    crash_check();
    program_check_groups();
}

static void program_run(uint64_t seed)
{
    program_seed = seed;
    program_init(seed);
    program_choose_options();
    registry_compact_size = program_chance(50) ? 0 : 1u << 20;
    powercut_install(program_rig.dir, NULL);
    rig_open(&program_rig);
    unsigned crash_percent = (unsigned)program_dice(20);
    for (uint64_t left = 20 + program_dice(300); left > 0; left--) {
        if (program_chance(crash_percent))
            crash_arm(program_chance(50) ? 5 : 60);
        op_run();
    }
    if (crash.armed)
        crash_end();
    program_drain();
    rig_close(&program_rig);
    powercut_remove();
    rig_fini(&program_rig);
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : PROGRAM_SECONDS;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : now_ms() * 1000003 % 1000000007;
    uint64_t programs = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    uint64_t end_ms = now_ms() + seconds * 1000, count = 0;

    signal(SIGABRT, on_abort);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    while (programs > 0 ? count < programs : now_ms() < end_ms)
        program_run(seed + count++);
    printf("%llu programs, %llu calls, %llu crashes\n", (unsigned long long)count,
           (unsigned long long)op_count, (unsigned long long)crash_count);
    return 0;
}
