/* SPDX-License-Identifier: MIT */
/*
 * sync.h - mutexes that know their place in the lock order.
 *
 * enum lock_rank is the lock order of the whole project: a thread may only acquire a mutex of a
 * strictly higher rank than any that it holds, and never two of one rank.  lock_acquire() asserts
 * it, in every build (two instructions on a thread-local word).  Waiting on a condition releases
 * and re-acquires, so it is allowed only with the waited-on mutex as the highest held.
 *
 * The source of the idea: nbdkit's precedence list on the struct, made executable.
 */
#ifndef WALRUS_BASE_SYNC_H
#define WALRUS_BASE_SYNC_H

#include <pthread.h>
#include <stdint.h>

#include "compiler.h"

enum lock_rank {
    /* fs/: outside of the engine; none is held across a call of the engine or a reply */
    LOCK_FS_NODES = 0, /* inodes and lookup counts */
    LOCK_FS_HANDLE,    /* one open file */
    LOCK_FS_WAITERS,   /* parked requests */
    LOCK_FS_POOL,      /* queue of the worker threads */
    LOCK_FS_MISC,      /* leaf: logs, counters */
    /* engine/, from the outside in */
    LOCK_REGISTRY_CHANGE, /* serialises changes of topics and groups, held across their sync */
    LOCK_TOPICS,          /* the table of topics */
    LOCK_GROUPS,          /* the groups of a topic */
    LOCK_APPEND,          /* the tail of a topic: one writer at a time */
    LOCK_SYNC,            /* what is durable of a topic */
    LOCK_GROUP,           /* positions and claims of a group */
    LOCK_BLOCKS,          /* the list of blocks of a topic */
    LOCK_SPACE,           /* files and free blocks */
    LOCK_TABLE,           /* block table of a file */
    LOCK_SLOTS,           /* slots of the offset file */
    LOCK_DURABLE,         /* tickets of syncs of a file */
    LOCK_DIRTY,           /* list of topics to sync */
    LOCK_KEEPER,          /* work for the background thread */
    LOCK_WATCH,           /* armed watches */
    LOCK_LEAF,            /* protects a few words, calls nothing */
    LOCK_RANK_COUNT
};

struct lock {
    pthread_mutex_t mutex;
    uint8_t rank; /* enum lock_rank */
};

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_fini(struct lock *lock);
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);
/* True if acquired. */
bool lock_try(struct lock *lock);

/* Locks of ranks from `from` on that this thread holds: 0 where none may be. */
unsigned lock_held_count(enum lock_rank from);
bool lock_is_held(const struct lock *lock); /* by rank: this thread holds a lock of its rank */

/* Conditions wait on the monotonic clock. */
void cond_init(pthread_cond_t *cond);
void cond_wait(pthread_cond_t *cond, struct lock *lock);
/* Waits until `deadline_ns` of monotonic_ns(); true if it passed. */
bool cond_wait_until(pthread_cond_t *cond, struct lock *lock, uint64_t deadline_ns);

uint64_t monotonic_ns(void);
uint64_t realtime_ns(void); /* since the epoch */

#endif
