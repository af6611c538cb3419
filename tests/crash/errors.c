/* SPDX-License-Identifier: MIT */
/*
 * errors.c - the n-th system call, or the n-th allocation, of a program or of a recovery fails, for
 * every n.
 *
 *     crash_errors [-a] [-c PROGRAMS] [-t SECONDS] [SEED]     -a: every errno, once and for ever
 *     crash_errors -k KIND -e ERRNO -f FOREVER -n N [-r EVENT] SEED       one of them again
 *
 * A program that meets an error ends there.  What its store says then must be as if the call had
 * not been made (where the call could not be undone: as if it had, or not).  It is closed, opened
 * with all well again, and checked by the oracle; so is what a kill and a loss of power at the
 * moment of the error would have left.  With -r what fails is the opening of what a crash left.
 *
 * EINTR comes once only: regular files do not give it for ever, and the engine would try for ever.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cut.h"
#include "os.h"
#include "program.h"
#include "workload.h"

enum { CALLS = 40, RECOVERIES = 2, HANG_SECONDS = 300 };

enum kind { KIND_CALL, KIND_ALLOC };

static struct fault {
    enum kind kind;
    int error;
    bool forever;
    uint64_t nth;
    long event; /* of the crash whose recovery fails; -1: the program itself does */
} fault;

static struct workload reference;
static struct rig image;
static const char *stage = "run"; /* what is looked at */
static uint64_t runs, hits, surfaced;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "%s%s", program_rig.report_text, image.report_text);
    program_print_notes();
    fprintf(stderr, "crash_errors: failed: seed=%llu n=%llu fs=sim mode=%s %s%s, %s\n",
            (unsigned long long)reference.seed, (unsigned long long)fault.nth,
            fault.kind == KIND_ALLOC ? "alloc" : "call", strerrorname_np(fault.error),
            fault.forever ? " for ever" : "", signal_number == SIGALRM ? "hangs" : stage);
    fprintf(stderr, "replay: crash_errors -k %d -e %d -f %d -n %llu -r %ld %llu\n", (int)fault.kind,
            fault.error, fault.forever, (unsigned long long)fault.nth, fault.event,
            (unsigned long long)reference.seed);
    if (signal_number != SIGABRT)
        _exit(1);
}

static void fault_arm(void)
{
    sim_fail(fault.kind == KIND_CALL ? fault.nth : 0, fault.error, fault.forever);
    sim_alloc_fail(fault.kind == KIND_ALLOC ? fault.nth : 0, fault.forever);
}

/* All is well again; true: it had come to the fault. */
static bool fault_disarm(void)
{
    bool hit =
        fault.kind == KIND_CALL ? sim_call_count() >= fault.nth : sim_alloc_count() >= fault.nth;

    sim_fail(0, 0, false);
    sim_alloc_fail(0, false);
    return hit;
}

/* ---------------------------------------------------------------------------------- a program -- */

static bool models_same(const struct oracle *a, const struct oracle *b)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        const struct oracle_topic *x = &a->topics[t], *y = &b->topics[t];
        if (x->live != y->live || x->id != y->id || x->count != y->count ||
            strcmp(x->name, y->name) != 0)
            return false;
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            if (x->groups[g].live != y->groups[g].live || x->groups[g].id != y->groups[g].id ||
                x->groups[g].seeks != y->groups[g].seeks ||
                strcmp(x->groups[g].name, y->groups[g].name) != 0)
                return false;
    }
    return true;
}

/* What giving everything back consumed is consumed in both models. */
static void given_back(struct oracle *before, struct oracle *after)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            for (size_t i = 0; i < ORACLE_ENTRIES; i++) {
                uint8_t now = program_now.topics[t].groups[g].state[i];
                uint8_t *was = &before->topics[t].groups[g].state[i];
                uint8_t *is = &after->topics[t].groups[g].state[i];
                if (*was == ORACLE_HELD && oracle_consumed(now) && !oracle_consumed(*is))
                    *is = ORACLE_SOFT;
            }
}

static bool consumed_by_others(const struct oracle_topic *topic, size_t group, uint64_t seq)
{
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        if (g != group && topic->groups[g].live && !oracle_consumed(topic->groups[g].state[seq]))
            return false;
    return true;
}

/* A group whose making failed may be there when the store is opened anew.  It begins at the oldest
 * entry of then: what all others had consumed may have been given back by the end of the store. */
static void made_in_vain(const struct oracle *before, struct oracle *after)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        for (size_t g = 0; g < ORACLE_GROUPS; g++) {
            struct oracle_topic *topic = &after->topics[t];
            if (!before->topics[t].live || before->topics[t].groups[g].live ||
                !topic->groups[g].live)
                continue;
            for (uint64_t seq = 0; seq < topic->count && consumed_by_others(topic, g, seq); seq++)
                topic->groups[g].state[seq] = ORACLE_GONE;
        }
}

static void check(const char *what, const struct oracle *before, const struct oracle *after,
                  bool killed)
{
    static struct oracle found;

    stage = what;
    workload_rig(&image, &program_rig.options);
    oracle_check_crash(&image, before, after, killed, &found);
}

/* What a kill and a loss of power left at the moment of the error. */
static void cuts_check(struct cut_disk *disk, const struct sim_log *log, size_t count,
                       const struct oracle *before, const struct oracle *after)
{
    static const enum cut_mode modes[] = {CUT_ALL, CUT_NONE, CUT_SOME, CUT_TORN};
    uint64_t dice = workload_dice(reference.seed, fault.nth, (uint64_t)fault.error, fault.kind);

    for (size_t i = 0; i < count; i++)
        cut_apply(disk, log, &log->events[i]);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        cut_write(disk, modes[i], 0, &dice);
        check(cut_mode_names[modes[i]], before, after, modes[i] == CUT_ALL);
    }
}

/* Runs the program into the fault; the number of the call that failed, or CALLS. */
static unsigned program_into_fault(struct oracle *ret_before)
{
    unsigned call = 0;

    for (; call < CALLS; call++) {
        *ret_before = program_now;
        program_unsure = false;
        sim_call(call, true);
        workload_call(call);
        sim_call(call, false);
        if (program_failure != 0)
            break;
        workload_background();
    }
    if (call == CALLS)
        *ret_before = program_now;
    return call;
}

/* The program with the fault; true: it came to it. */
static bool program_faulty(void)
{
    static struct oracle before, after;
    static struct cut_disk disk;
    struct sim_log log = {0};

    program_fallible = true;
    workload_machine(reference.seed);
    cut_init(&disk);
    sim_record(&log);
    program_init(reference.seed);
    workload_options();
    fault_arm();
    stage = "run";
    unsigned call = program_into_fault(&before);
    bool hit = fault_disarm(), open = program_rig.walrus != NULL;
    bool same = call < CALLS && models_same(&before, &reference.before[call]);
    after = same ? reference.before[call + 1] : before;
    surfaced += call < CALLS;
    stage = "what the store says";
    /* without a place for offsets groups are at an end: what they say does not count any more */
    bool ended = rig_reported(&program_rig, "no offset can be stored");
    if (open && call < CALLS && !program_unsure && !ended) {
        program_now = before;
        program_check_groups();
    }
    sim_mark();
    size_t moment = log.count;
    struct oracle *now = &program_now;
    *now = before;
    stage = "giving back";
    if (open)
        program_give_back();
    struct walrus *walrus = program_rig.walrus;
    program_rig.walrus = NULL;
    stage = "closing";
    (void)walrus_close(walrus);
    sim_record(NULL);
    sim_threads(SIM_LAZY, 0);
    struct oracle *given = malloc(sizeof(*given));
    CHECK(given != NULL);
    *given = after;
    given_back(&before, given);
    made_in_vain(&before, given);
    check("closed", &before, given, true);
    cuts_check(&disk, &log, moment, &before, &after);
    free(given);
    rig_fini(&program_rig);
    return hit;
}

/* --------------------------------------------------------------------------------- a recovery -- */

/* The opening of what a crash left; true: it came to the fault. */
static bool recovery_faulty(void)
{
    static struct cut_disk disk;
    const struct sim_event *event = &reference.log.events[fault.event];
    uint64_t dice = workload_dice(reference.seed, (uint64_t)fault.event, 5, 5);
    enum cut_mode mode = (enum cut_mode)powercut_random(&dice, CUT_SINGLE);

    program_fallible = true;
    workload_machine(reference.seed);
    sim_threads(SIM_LAZY, 0);
    cut_init(&disk);
    for (long i = 0; i <= fault.event; i++)
        cut_apply(&disk, &reference.log, &reference.log.events[i]);
    cut_write(&disk, mode, 0, &dice);
    sim_entropy(dice);
    workload_rig(&image, &program_rig.options);
    stage = "recovery";
    fault_arm();
    int rc = rig_try_open(&image);
    CHECK(rc <= 0 && rc > -133);
    surfaced += rc < 0;
    (void)walrus_close(image.walrus);
    bool hit = fault_disarm();
    check("after the recovery", workload_before(&reference, event),
          workload_after(&reference, event), mode == CUT_ALL);
    return hit;
}

/* ----------------------------------------------------------------------------------- all of it -- */

/* One fault in a process of its own: 0 it came to it, 1 it did not, else a failure. */
static int fault_run(void)
{
    int status;

    runs++;
    fflush(NULL);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, on_abort);
        signal(SIGSEGV, on_abort);
        signal(SIGALRM, on_abort);
        (void)alarm(HANG_SECONDS);
        surfaced = 0;
        bool hit = fault.event < 0 ? program_faulty() : recovery_faulty();
        child_exit(hit ? (surfaced > 0 ? 0 : 3) : 1);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status))
        return 2;
    status = WEXITSTATUS(status);
    hits += status == 0 || status == 3;
    surfaced += status == 0;
    return status == 3 ? 0 : status == 0 || status == 1 ? status : 2;
}

/* n = 1, 2, ... until the run passes.  False: a failure, or the time is over. */
static bool sweep(enum kind kind, int error, bool forever, long event, uint64_t end_ms,
                  bool *ret_failed)
{
    for (uint64_t nth = 1;; nth++) {
        fault = (struct fault){kind, error, forever, nth, event};
        int r = fault_run();
        *ret_failed |= r == 2;
        if (r == 2 || (end_ms > 0 && now_ms() >= end_ms))
            return false;
        if (r == 1)
            return true;
    }
}

static bool sweep_all(const int *errors, bool all, long event, uint64_t end_ms, bool *ret_failed)
{
    for (size_t i = 0; errors[i] != 0; i++)
        for (int forever = 0; forever < (all && errors[i] != EINTR ? 2 : 1); forever++)
            if (!sweep(KIND_CALL, errors[i], forever, event, end_ms, ret_failed))
                return false;
    for (int forever = 0; forever < (all ? 2 : 1); forever++)
        if (!sweep(KIND_ALLOC, ENOMEM, forever, event, end_ms, ret_failed))
            return false;
    return true;
}

/* All faults of the program of one seed, and of recoveries of what it may leave. */
static bool seed_run(uint64_t seed, bool all, uint64_t end_ms, bool *ret_failed)
{
    static const int few[] = {EIO, ENOSPC, 0};
    static const int many[] = {EIO, ENOSPC, EDQUOT, EMFILE, ENOMEM, EINTR, EROFS, 0};
    uint64_t dice = workload_dice(seed, 9, 9, 9);

    workload_run(&reference, seed, CALLS);
    bool more = sweep_all(all ? many : few, all, -1, end_ms, ret_failed);
    for (unsigned i = 0; more && i < RECOVERIES; i++) {
        long event = (long)powercut_random(&dice, reference.log.count);
        more = sweep_all(all ? many : few, all, event, end_ms, ret_failed);
    }
    workload_free(&reference);
    return more;
}

int main(int argc, char **argv)
{
    uint64_t programs = 1;
    bool all = false, only = false, failed = false;
    uint64_t began_ms = now_ms(), seconds = 0, seed = began_ms * 1000003 % 1000000007;

    fault.event = -1;
    for (int option; (option = getopt(argc, argv, "ac:t:k:e:f:n:r:")) != -1;) {
        long value = optarg != NULL ? strtol(optarg, NULL, 10) : 0;
        only |= option == 'n';
        if (option == 'a')
            all = true;
        else if (option == 'c')
            programs = (uint64_t)value;
        else if (option == 't')
            seconds = (uint64_t)value;
        else if (option == 'k')
            fault.kind = (enum kind)value;
        else if (option == 'e')
            fault.error = (int)value;
        else if (option == 'f')
            fault.forever = value != 0;
        else if (option == 'n')
            fault.nth = (uint64_t)value;
        else if (option == 'r')
            fault.event = value;
        else
            return 2;
    }
    if (optind < argc)
        seed = strtoull(argv[optind], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    if (only) {
        workload_run(&reference, seed, CALLS);
        program_verbose = true;
        return fault_run() == 2;
    }
    uint64_t end_ms = seconds > 0 ? began_ms + seconds * 1000 : 0;
    for (uint64_t i = 0; i < programs && seed_run(seed + i, all, end_ms, &failed); i++)
        ;
    uint64_t ms = now_ms() - began_ms + 1;
    printf("%llu runs, of which %llu came to their error and %llu gave it to a caller, in %llu s: "
           "%llu a second\n",
           (unsigned long long)runs, (unsigned long long)hits, (unsigned long long)surfaced,
           (unsigned long long)(ms / 1000), (unsigned long long)(runs * 1000 / ms));
    return failed;
}
