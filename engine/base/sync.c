/* SPDX-License-Identifier: MIT */
/*
 * sync.c - mutexes that check the lock order, conditions on the monotonic clock.
 *
 * Serves every file with a lock.  What a thread holds is one thread-local word with a bit for each
 * rank; as no thread holds two locks of a rank, that is the whole truth.  A breach of the order is
 * a mistake of ours and ends the process, and so does an error of pthread: with valid arguments
 * these calls have none.
 */
#include "sync.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S 1000000000ull

_Static_assert(LOCK_RANK_COUNT <= 32, "a bit for each rank must fit in `held`");

/* initial-exec: no call to find it, also from the shared library. */
static __thread uint32_t held __attribute__((tls_model("initial-exec")));

static uint32_t rank_bit(const struct lock *lock)
{
    return UINT32_C(1) << lock->rank;
}

void lock_init(struct lock *lock, enum lock_rank rank)
{
    WALRUS_ASSERT((unsigned)rank < LOCK_RANK_COUNT);
    WALRUS_ASSERT(pthread_mutex_init(&lock->mutex, NULL) == 0);
    lock->rank = (uint8_t)rank;
}

void lock_fini(struct lock *lock)
{
    WALRUS_ASSERT(pthread_mutex_destroy(&lock->mutex) == 0);
}

void lock_acquire(struct lock *lock)
{
    WALRUS_ASSERT(held >> lock->rank == 0);
    WALRUS_ASSERT(pthread_mutex_lock(&lock->mutex) == 0);
    held |= rank_bit(lock);
}

void lock_release(struct lock *lock)
{
    WALRUS_ASSERT(held & rank_bit(lock));
    held &= ~rank_bit(lock);
    WALRUS_ASSERT(pthread_mutex_unlock(&lock->mutex) == 0);
}

/* A try cannot deadlock, but the order holds for it too: one rule is easier to keep than two. */
bool lock_try(struct lock *lock)
{
    WALRUS_ASSERT(held >> lock->rank == 0);
    int r = pthread_mutex_trylock(&lock->mutex);
    WALRUS_ASSERT(r == 0 || r == EBUSY);
    if (r != 0)
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

void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    WALRUS_ASSERT(pthread_condattr_init(&attr) == 0);
    WALRUS_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    WALRUS_ASSERT(pthread_cond_init(cond, &attr) == 0);
    WALRUS_ASSERT(pthread_condattr_destroy(&attr) == 0);
}

/* The word `held` keeps its bit during a wait: the thread runs nothing that could look at it. */
void cond_wait(pthread_cond_t *cond, struct lock *lock)
{
    WALRUS_ASSERT(held >> lock->rank == 1);
    WALRUS_ASSERT(pthread_cond_wait(cond, &lock->mutex) == 0);
}

bool cond_wait_until(pthread_cond_t *cond, struct lock *lock, uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_S),
        .tv_nsec = (long)(deadline_ns % NS_PER_S),
    };
    WALRUS_ASSERT(held >> lock->rank == 1);
    int r = pthread_cond_timedwait(cond, &lock->mutex, &deadline);
    WALRUS_ASSERT(r == 0 || r == ETIMEDOUT);
    return r == ETIMEDOUT;
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
