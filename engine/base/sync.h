/* SPDX-License-Identifier: MIT */
/*
 * sync.h - mutexes that know their place in the lock order, and conditions to wait for with them.
 *
 * enum lock_rank is the lock order of the whole project: a thread may only acquire a mutex of a
 * strictly higher rank than any that it holds, and never two of one rank.  lock_acquire() asserts
 * it, in every build (two instructions on a thread-local word).  Waiting on a condition releases
 * and re-acquires, so it is allowed only with the waited-on mutex as the highest held.
 *
 * The source of the idea: nbdkit's precedence list on the struct, made executable.
 *
 * They are futexes, 8 bytes each where pthread's have 40 and 48: a topic with its group has five
 * mutexes and two conditions, and there may be a hundred thousand topics.
 */
#ifndef WALRUS_BASE_SYNC_H
#define WALRUS_BASE_SYNC_H

#include <stdatomic.h>
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
    LOCK_DURABLE,         /* which descriptions of a file have a sync running */
    LOCK_DIRTY,           /* list of topics to sync */
    LOCK_KEEPER,          /* work for the background thread */
    LOCK_WATCH,           /* armed watches */
    LOCK_LEAF,            /* protects a few words, calls nothing */
    LOCK_RANK_COUNT
};

struct lock {
    _Atomic uint32_t state; /* free, held, or held with somebody waiting */
    uint8_t rank;           /* enum lock_rank */
};

/* What is waited for is changed with the mutex held that the waiting threads give. */
struct cond {
    _Atomic uint32_t turn;    /* another one with each signal */
    _Atomic uint32_t waiting; /* threads that wait: without any, a signal costs no system call */
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

/* A wait may end without a signal: it belongs in a loop. */
void cond_init(struct cond *cond);
void cond_wait(struct cond *cond, struct lock *lock);
/* Waits until `deadline_ns` of monotonic_ns(); true if it passed. */
bool cond_wait_until(struct cond *cond, struct lock *lock, uint64_t deadline_ns);
void cond_signal(struct cond *cond);    /* wakes one */
void cond_broadcast(struct cond *cond); /* wakes all */

uint64_t monotonic_ns(void);
uint64_t realtime_ns(void); /* since the epoch */

#endif
