/* SPDX-License-Identifier: MIT */
/*
 * fifo.c - eight threads append to and take from a topic; what they saw must be the history of a
 * first-in-first-out queue, in both modes of delivery and across a kill.
 *
 *     stress_fifo [appends of a thread [seed]]
 *
 * Each append and take is noted with when it began and ended.  Values are all different, so the
 * check is near linear: the order of the queue is that of the sequence numbers, and some moment
 * within each call must exist so that all moments come in that order, those of takes behind those
 * of their appends.  A take that found nothing must have had a moment at which nothing had to be
 * there.  The clock is the machine's: a shared counter would order the threads, and so hide races
 * from the thread sanitizer.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "powercut.h"
#include "rig.h"

enum { WRITERS = 4, TAKERS = 4, BATCH = 8, EMPTY_MAX = 4000, PERSIST_EVERY = 7 };

struct value {
    uint32_t writer, number;
    uint8_t filling[24];
};

struct call {
    uint64_t began_ns, ended_ns;
    uint64_t seq; /* takes that found nothing: UINT64_MAX */
    struct value value;
};

struct history {
    struct call *calls;
    size_t count, room;
};

struct worker {
    pthread_t thread;
    uint32_t index;
    uint64_t random;
    struct history history;
    size_t empty_count;
};

static struct rig rig;
static uint64_t seed, appends = 1500, first_number;
static atomic_uint writers_left;

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    fprintf(stderr, "stress_fifo: failed: seed=%llu\nreplay: stress_fifo %llu %llu\n",
            (unsigned long long)seed, (unsigned long long)appends, (unsigned long long)seed);
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    CHECK_INT(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void history_add(struct history *history, const struct call *call)
{
    if (history->count == history->room) {
        history->room = history->room > 0 ? 2 * history->room : 1024;
        history->calls = realloc(history->calls, history->room * sizeof(history->calls[0]));
        CHECK(history->calls != NULL);
    }
    history->calls[history->count++] = *call;
}

/* ----------------------------------------------------------------------------------- threads -- */

static void *writer_main(void *arg)
{
    struct worker *self = arg;
    struct walrus_topic *topic = rig_topic(&rig, "t");
    struct value values[BATCH];
    struct iovec entries[BATCH];
    uint64_t seq = 0;

    for (uint64_t number = 0; number < appends;) {
        size_t count =
            powercut_random(&self->random, 3) > 0 ? 1 : 1 + powercut_random(&self->random, BATCH);
        for (size_t i = 0; i < count; i++) {
            values[i] = (struct value){self->index, (uint32_t)(first_number + number + i), {0}};
            entries[i] = (struct iovec){&values[i], sizeof(values[i])};
        }
        struct call call = {.began_ns = clock_ns()};
        CHECK_INT(walrus_topic_append(topic, entries, count, NULL, &seq), 0);
        call.ended_ns = clock_ns();
        for (size_t i = 0; i < count; i++) {
            call.seq = seq + i;
            call.value = values[i];
            history_add(&self->history, &call);
        }
        number += count;
        if (powercut_random(&self->random, 32) == 0) /* let the others find nothing */
            sleep_ms(1);
    }
    walrus_topic_unref(topic);
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static void *taker_main(void *arg)
{
    struct worker *self = arg;

    for (;;) {
        bool last = atomic_load(&writers_left) == 0;
        struct walrus_entry *entries = NULL;
        size_t count = 0, most = 1 + powercut_random(&self->random, BATCH);
        struct call call = {.began_ns = clock_ns(), .seq = UINT64_MAX};
        int rc = walrus_batch_read(rig.walrus, "t", SIZE_MAX, most, &entries, &count);
        call.ended_ns = clock_ns();
        if (rc == WALRUS_EMPTY) {
            if (self->empty_count++ < EMPTY_MAX)
                history_add(&self->history, &call);
            if (last)
                return NULL;
            continue;
        }
        CHECK_INT(rc, 0);
        for (size_t i = 0; i < count; i++) {
            CHECK_INT(entries[i].size, sizeof(call.value));
            call.seq = entries[i].seq;
            memcpy(&call.value, entries[i].data, sizeof(call.value));
            history_add(&self->history, &call);
        }
        walrus_entries_free(entries, count);
    }
}

/* Runs all threads until what they append is taken; adds what they saw. */
static void phase_run(struct history *appended, struct history *taken)
{
    struct worker workers[WRITERS + TAKERS] = {0};

    atomic_store(&writers_left, WRITERS);
    for (uint32_t i = 0; i < WRITERS + TAKERS; i++) {
        workers[i].index = i;
        workers[i].random = seed + 100 * first_number + i;
        CHECK_INT(pthread_create(&workers[i].thread, NULL, i < WRITERS ? writer_main : taker_main,
                                 &workers[i]),
                  0);
    }
    for (uint32_t i = 0; i < WRITERS + TAKERS; i++) {
        CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
        for (size_t k = 0; k < workers[i].history.count; k++)
            history_add(i < WRITERS ? appended : taken, &workers[i].history.calls[k]);
        free(workers[i].history.calls);
    }
    first_number += appends + BATCH;
}

/* ------------------------------------------------------------------------------------- check -- */

static int by_seq(const void *a, const void *b)
{
    const struct call *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->began_ns < y->began_ns ? -1 : x->began_ns > y->began_ns;
}

static int by_begin(const void *a, const void *b)
{
    const struct call *x = a, *y = b;

    return x->began_ns < y->began_ns ? -1 : x->began_ns > y->began_ns;
}

/* From when to when each value had to be in the queue: from the end of its append to the beginning
 * of its take.  A take that found nothing must not lie within them all. */
static void empty_check(const struct history *appended, const struct call *takes, size_t count,
                        const struct call *empties, size_t empty_count)
{
    struct history spans = {0};
    size_t at = 0;

    for (size_t i = 0; i < count; i++) {
        struct call span = {.began_ns = appended->calls[i].ended_ns, .ended_ns = takes[i].began_ns};
        if (span.began_ns < span.ended_ns)
            history_add(&spans, &span);
    }
    qsort(spans.calls, spans.count, sizeof(spans.calls[0]), by_begin);
    size_t merged = 0;
    for (size_t i = 1; i < spans.count; i++) {
        struct call *last = &spans.calls[merged];
        if (spans.calls[i].began_ns >= last->ended_ns)
            spans.calls[++merged] = spans.calls[i];
        else if (spans.calls[i].ended_ns > last->ended_ns)
            last->ended_ns = spans.calls[i].ended_ns;
    }
    merged += spans.count > 0;
    for (size_t i = 0; i < empty_count; i++) {
        while (at < merged && spans.calls[at].ended_ns <= empties[i].began_ns)
            at++;
        for (size_t k = at; k < merged && spans.calls[k].began_ns < empties[i].began_ns; k++)
            CHECK(spans.calls[k].ended_ns <= empties[i].ended_ns);
    }
    free(spans.calls);
}

/* Sequence numbers give the order: moments exist that are in it. */
static void order_check(struct history *appended, const struct call *takes, size_t count)
{
    uint64_t append_ns = 0, take_ns = 0;

    CHECK_INT(count, appended->count);
    for (size_t i = 0; i < count; i++) {
        const struct call *append = &appended->calls[i], *take = &takes[i];
        CHECK_INT(append->seq, i);
        CHECK_INT(take->seq, i);
        CHECK(memcmp(&append->value, &take->value, sizeof(append->value)) == 0);
        if (append->began_ns > append_ns)
            append_ns = append->began_ns;
        CHECK(append_ns <= append->ended_ns);
        if (take->began_ns > take_ns)
            take_ns = take->began_ns;
        if (append_ns > take_ns)
            take_ns = append_ns;
        CHECK(take_ns <= take->ended_ns);
    }
}

/* Takes off the second deliveries, which at-least-once allows after a kill: so many at most. */
static size_t repeats_drop(struct call *takes, size_t count, size_t allowed)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++)
        if (kept == 0 || takes[kept - 1].seq != takes[i].seq)
            takes[kept++] = takes[i];
    CHECK(count - kept <= allowed);
    return kept;
}

static void history_check(struct history *appended, struct history *taken, size_t repeats)
{
    size_t found = 0;

    qsort(appended->calls, appended->count, sizeof(struct call), by_seq);
    qsort(taken->calls, taken->count, sizeof(struct call), by_seq);
    while (found < taken->count && taken->calls[found].seq != UINT64_MAX)
        found++;
    struct call *empties = &taken->calls[found];
    size_t count = repeats_drop(taken->calls, found, repeats);
    order_check(appended, taken->calls, count);
    empty_check(appended, taken->calls, count, empties, taken->count - found);
    printf("%zu entries, %zu takes, %zu of nothing\n", appended->count, count,
           taken->count - found);
}

/* Goes on in what a kill at this moment would leave. */
static void kill_and_reopen(void)
{
    struct rig left;

    rig_copy(&rig, &left);
    rig_fini(&rig);
    rig = left;
    rig.options.report_arg = &rig;
    CHECK_INT(pthread_mutex_init(&rig.lock, NULL), 0);
    rig_open(&rig);
}

static void run(enum walrus_consistency consistency)
{
    struct history appended = {0}, taken = {0};

    first_number = 0;
    rig_init(&rig);
    rig.options.consistency = consistency;
    rig.options.persist_every = PERSIST_EVERY;
    rig.options.fsync_ms = 5;
    rig_open(&rig);
    phase_run(&appended, &taken);
    kill_and_reopen();
    phase_run(&appended, &taken);
    history_check(&appended, &taken, consistency == WALRUS_STRICT ? 0 : PERSIST_EVERY);
    rig_fini(&rig);
    free(appended.calls);
    free(taken.calls);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        appends = strtoull(argv[1], NULL, 10);
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : clock_ns() % 1000000007;
    printf("seed %llu\n", (unsigned long long)seed);
    signal(SIGABRT, on_abort);
    if (access("/dev/shm", W_OK) == 0) /* where a sync costs nothing */
        CHECK_INT(setenv("TMPDIR", "/dev/shm", 1), 0);
    run(WALRUS_STRICT);
    run(WALRUS_AT_LEAST_ONCE);
    return 0;
}
