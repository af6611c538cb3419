/* SPDX-License-Identifier: MIT */
/* test_durable.c - a sync is good only when every sync that overlapped it was good. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "durable.h"

static struct durable durable;

static void init(void)
{
    durable_init(&durable);
}

/* A sync that ends in a thread of its own. */
struct ending {
    struct durable_ticket ticket;
    int result; /* of its sync */
    pthread_t thread;
    int outcome; /* of durable_end, valid when done */
    atomic_bool done;
};

static void *end_in_thread(void *arg)
{
    struct ending *ending = arg;
    ending->outcome = durable_end(&durable, &ending->ticket, ending->result);
    atomic_store(&ending->done, true);
    return NULL;
}

static bool is_running(const struct durable_ticket *ticket)
{
    bool found = false;
    lock_acquire(&durable.lock);
    LIST_FOR_EACH(node, &durable.running)
    {
        found = found || node == &ticket->node;
    }
    lock_release(&durable.lock);
    return found;
}

/* Returns when the sync has reported its result: it is waiting for others now, or done. */
static void start_ending(struct ending *ending, int result)
{
    ending->result = result;
    cr_assert_eq(pthread_create(&ending->thread, NULL, end_in_thread, ending), 0);
    while (is_running(&ending->ticket))
        sched_yield();
}

static int outcome_of(struct ending *ending)
{
    cr_assert_eq(pthread_join(ending->thread, NULL), 0);
    return ending->outcome;
}

Test(durable, a_sync_alone_is_what_it_says, .init = init)
{
    struct durable_ticket ticket;

    durable_begin(&durable, &ticket);
    cr_assert_eq(durable_end(&durable, &ticket, 0), 0);
    cr_assert_eq(durable_error(&durable), 0);
    durable_begin(&durable, &ticket);
    cr_assert_eq(durable_end(&durable, &ticket, -ENOSPC), -EIO);
    cr_assert_eq(durable_error(&durable), -EIO);
    durable_fini(&durable);
}

Test(durable, no_sync_succeeds_after_a_failed_one, .init = init)
{
    struct durable_ticket ticket;

    durable_begin(&durable, &ticket);
    cr_assert_eq(durable_end(&durable, &ticket, -EIO), -EIO);
    for (int i = 0; i < 3; i++) {
        durable_begin(&durable, &ticket);
        cr_assert_eq(durable_end(&durable, &ticket, 0), -EIO);
    }
    cr_assert_eq(durable_error(&durable), -EIO);
}

Test(durable, a_failure_makes_a_success_that_overlapped_it_fail, .init = init)
{
    struct durable_ticket failing;
    struct ending good = {.outcome = 1};

    durable_begin(&durable, &failing);
    durable_begin(&durable, &good.ticket);
    start_ending(&good, 0); /* the kernel told it 0 */
    cr_assert_eq(durable_end(&durable, &failing, -EIO), -EIO);
    cr_assert_eq(outcome_of(&good), -EIO);
}

Test(durable, it_makes_no_difference_which_of_the_two_began_first, .init = init)
{
    struct durable_ticket failing;
    struct ending good = {.outcome = 1};

    durable_begin(&durable, &good.ticket);
    durable_begin(&durable, &failing);
    start_ending(&good, 0);
    cr_assert_eq(durable_end(&durable, &failing, -EIO), -EIO);
    cr_assert_eq(outcome_of(&good), -EIO);
}

Test(durable, a_failure_that_was_reported_before_counts_too, .init = init)
{
    struct durable_ticket failing, good;

    durable_begin(&durable, &good);
    durable_begin(&durable, &failing);
    cr_assert_eq(durable_end(&durable, &failing, -EIO), -EIO);
    cr_assert_eq(durable_end(&durable, &good, 0), -EIO);
}

static void wait_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    cr_assert_eq(nanosleep(&moment, NULL), 0);
}

Test(durable, a_success_waits_for_every_sync_that_overlapped_it, .init = init, .timeout = 300)
{
    struct ending first = {.outcome = 1}, good = {.outcome = 1};
    struct durable_ticket last;

    durable_begin(&durable, &first.ticket);
    durable_begin(&durable, &good.ticket);
    durable_begin(&durable, &last);
    start_ending(&good, 0);
    wait_a_moment();
    cr_assert_not(atomic_load(&good.done));
    start_ending(&first, 0); /* the end of one of two does not do */
    wait_a_moment();
    cr_assert_not(atomic_load(&good.done));

    cr_assert_eq(durable_end(&durable, &last, 0), 0);
    cr_assert_eq(outcome_of(&good), 0);
    cr_assert_eq(outcome_of(&first), 0);
}

Test(durable, a_success_does_not_wait_for_a_sync_that_began_after_it, .init = init, .timeout = 300)
{
    struct ending before = {.outcome = 1}, good = {.outcome = 1};
    struct durable_ticket after;

    durable_begin(&durable, &before.ticket);
    durable_begin(&durable, &good.ticket);
    start_ending(&good, 0);
    durable_begin(&durable, &after);
    start_ending(&before, 0);
    cr_assert_eq(outcome_of(&good), 0); /* while `after` still runs */
    cr_assert(is_running(&after));
    cr_assert_eq(durable_end(&durable, &after, 0), 0);
    cr_assert_eq(outcome_of(&before), 0);
}

Test(durable, a_failure_after_the_success_was_told_does_not_change_it, .init = init)
{
    struct durable_ticket good, failing;

    durable_begin(&durable, &good);
    cr_assert_eq(durable_end(&durable, &good, 0), 0);
    durable_begin(&durable, &failing);
    cr_assert_eq(durable_error(&durable), 0);
    cr_assert_eq(durable_end(&durable, &failing, -EIO), -EIO);
}

#define THREAD_COUNT 8
#define ROUND_COUNT  2000

static void *sync_often(void *arg)
{
    uintptr_t failed = 0;
    (void)arg;
    for (int i = 0; i < ROUND_COUNT; i++) {
        struct durable_ticket ticket;
        durable_begin(&durable, &ticket);
        if (i % 16 == 0)
            sched_yield();
        failed += durable_end(&durable, &ticket, 0) != 0;
    }
    return (void *)failed;
}

Test(durable, many_threads_never_wait_in_a_circle, .init = init, .timeout = 300)
{
    pthread_t threads[THREAD_COUNT];

    for (size_t i = 0; i < THREAD_COUNT; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, sync_often, NULL), 0);
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        void *failed = NULL;
        cr_assert_eq(pthread_join(threads[i], &failed), 0);
        cr_assert_null(failed);
    }
    durable_fini(&durable);
}
