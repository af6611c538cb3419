/* SPDX-License-Identifier: MIT */
/*
 * sync.c - mutexes that check the lock order, conditions on the monotonic clock.
 *
 * Serves every file with a lock.  What a thread holds is one thread-local word with a bit for each
 * rank; as no thread holds two locks of a rank, that is the whole truth.  A breach of the order is
 * a mistake of ours and ends the process.
 *
 * The mutex is that of Drepper's "Futexes are tricky": whoever finds it held marks it contended and
 * sleeps, and the release of a contended one wakes one sleeper, which leaves the mark for others
 * that may sleep.  A release touches nothing of the lock after the word is free but its address, so
 * the last who held a lock may free what it lies in.  The condition is a word that each signal
 * changes: whoever read it with the lock held cannot sleep through a signal that came after.
 */
#include "sync.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

#ifdef SYS_futex_time64 /* 32 bits: the call with the same times as elsewhere */
#define FUTEX_CALL SYS_futex_time64
#else
#define FUTEX_CALL SYS_futex
#endif

enum lock_state { LOCK_FREE, LOCK_HELD, LOCK_CONTENDED };

_Static_assert(LOCK_RANK_COUNT <= 32, "a bit for each rank must fit in `held`");

/* initial-exec: no call to find it, also from the shared library. */
static __thread uint32_t held __attribute__((tls_model("initial-exec")));

static uint32_t rank_bit(const struct lock *lock)
{
    return UINT32_C(1) << lock->rank;
}

/* ----------------------------------------------------------------------------------- futexes -- */

/* Sleeps while *word is `value`, or not even that.  True: the deadline, if there is one, passed. */
static bool word_wait(_Atomic uint32_t *word, uint32_t value,
                      const struct __kernel_timespec *deadline)
{
    long r = syscall(FUTEX_CALL, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, deadline,
                     NULL, FUTEX_BITSET_MATCH_ANY); /* the one with an absolute time */
    WALRUS_ASSERT(r == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
    return r != 0 && errno == ETIMEDOUT;
}

/* The memory may be gone by now, or be something else: then nobody is woken, or somebody for
 * nothing, whom it does no harm. */
static void word_wake(_Atomic uint32_t *word, int count)
{
    (void)syscall(FUTEX_CALL, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

static bool word_try(struct lock *lock)
{
    uint32_t expected = LOCK_FREE;
    return atomic_compare_exchange_strong_explicit(&lock->state, &expected, LOCK_HELD,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void word_lock(struct lock *lock)
{
    if (word_try(lock))
        return;
    while (atomic_exchange_explicit(&lock->state, LOCK_CONTENDED, memory_order_acquire) !=
           LOCK_FREE)
        (void)word_wait(&lock->state, LOCK_CONTENDED, NULL);
}

static void word_unlock(struct lock *lock)
{
    uint32_t was = atomic_exchange(&lock->state, LOCK_FREE);
    WALRUS_ASSERT(was != LOCK_FREE);
    if (was == LOCK_CONTENDED)
        word_wake(&lock->state, 1);
}

/* ------------------------------------------------------------------------------------- locks -- */

void lock_init(struct lock *lock, enum lock_rank rank)
{
    WALRUS_ASSERT((unsigned)rank < LOCK_RANK_COUNT);
    atomic_init(&lock->state, LOCK_FREE);
    lock->rank = (uint8_t)rank;
}

void lock_fini(struct lock *lock)
{
    WALRUS_ASSERT(atomic_load_explicit(&lock->state, memory_order_relaxed) == LOCK_FREE);
}

void lock_acquire(struct lock *lock)
{
    WALRUS_ASSERT(held >> lock->rank == 0);
    word_lock(lock);
    held |= rank_bit(lock);
}

void lock_release(struct lock *lock)
{
    WALRUS_ASSERT(held & rank_bit(lock));
    held &= ~rank_bit(lock);
    word_unlock(lock);
}

/* A try cannot deadlock, but the order holds for it too: one rule is easier to keep than two. */
bool lock_try(struct lock *lock)
{
    WALRUS_ASSERT(held >> lock->rank == 0);
    if (!word_try(lock))
        return false;
    held |= rank_bit(lock);
    return true;
}

unsigned lock_held_count(enum lock_rank from)
{
    return (unsigned)__builtin_popcount(held >> from);
}

bool lock_is_held(const struct lock *lock)
{
    return (held & rank_bit(lock)) != 0;
}

/* -------------------------------------------------------------------------------- conditions -- */

void cond_init(struct cond *cond)
{
    atomic_init(&cond->turn, 0);
    atomic_init(&cond->waiting, 0);
}

/* The word `held` keeps its bit during a wait: the thread runs nothing that could look at it. */
static bool cond_wait_for(struct cond *cond, struct lock *lock,
                          const struct __kernel_timespec *deadline)
{
    WALRUS_ASSERT(held >> lock->rank == 1);
    uint32_t turn = atomic_load_explicit(&cond->turn, memory_order_relaxed);
    atomic_fetch_add_explicit(&cond->waiting, 1, memory_order_relaxed);
    word_unlock(lock);
    bool passed = word_wait(&cond->turn, turn, deadline);
    word_lock(lock);
    atomic_fetch_sub_explicit(&cond->waiting, 1, memory_order_relaxed);
    return passed;
}

void cond_wait(struct cond *cond, struct lock *lock)
{
    (void)cond_wait_for(cond, lock, NULL);
}

bool cond_wait_until(struct cond *cond, struct lock *lock, uint64_t deadline_ns)
{
    struct __kernel_timespec deadline = {
        .tv_sec = (long long)(deadline_ns / NS_PER_S),
        .tv_nsec = (long long)(deadline_ns % NS_PER_S),
    };
    return cond_wait_for(cond, lock, &deadline);
}

static void cond_wake(struct cond *cond, int count)
{
    /* Whoever waits for what was changed counted itself before it let go of the lock. */
    if (atomic_load_explicit(&cond->waiting, memory_order_relaxed) == 0)
        return;
    atomic_fetch_add_explicit(&cond->turn, 1, memory_order_relaxed);
    word_wake(&cond->turn, count);
}

void cond_signal(struct cond *cond)
{
    cond_wake(cond, 1);
}

void cond_broadcast(struct cond *cond)
{
    cond_wake(cond, INT_MAX);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    WALRUS_ASSERT(clock_gettime(clock, &now) == 0);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t realtime_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
