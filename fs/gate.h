/* SPDX-License-Identifier: MIT */
/*
 * gate.h - requests that wait for an entry, and polls.
 *
 * A group with somebody waiting has a gate: the waiting requests in the order in which they came,
 * and one watch on the group (walrus_group_watch) while there are any.  A waiting request costs its
 * struct waiter, no thread.  When the watch fires, a job on the pool claims for the first waiter,
 * then the next, until there is nothing left to claim.
 *
 * A waiter's state says who may end it:
 *
 *      gate_park        interrupt
 *   OWNED -----> PARKED --------> CANCELLED   (a job answers EINTR)
 *     |  ^         |
 *     |  +---------+ a claim is tried
 *     +--interrupt--> OWNED_INTERRUPTED       (the owner answers EINTR when it has nothing)
 *
 * The interrupt callback runs under a lock of libfuse that fuse_req_interrupt_func() takes as well.
 * So it only swaps the state and submits a job, and it is registered before the waiter is in the
 * list, with no lock held.
 *
 * Lock: LOCK_FS_WAITERS guards the table of gates and all lists.
 */
#ifndef WALRUSFS_GATE_H
#define WALRUSFS_GATE_H

#include "list.h"
#include "mount.h"
#include "pool.h"

struct gate;
struct handle;
struct walrus_reader;

enum waiter_state { WAITER_OWNED, WAITER_OWNED_INTERRUPTED, WAITER_PARKED, WAITER_CANCELLED };

struct waiter {
    struct list link;
    _Atomic int state; /* enum waiter_state */
    struct gate *gate;
    struct handle *handle;
    fuse_req_t req;
    size_t size;                  /* a READ's */
    uint64_t offset;              /* a READ's */
    struct walrus_reader *reader; /* what was claimed */
    int result;
    struct job job; /* cancel, then free for `finish` */
    /* Tries to claim into waiter->reader: 0, WALRUS_EMPTY or a negative errno. */
    int (*claim)(struct waiter *waiter);
    /* Answers the request according to waiter->result and frees the waiter.  Any thread of ours. */
    void (*finish)(struct waiter *waiter);
};

struct poller {
    struct list link;
    struct fuse_pollhandle *poll; /* NULL: not asked */
};

WALRUS_CHECK int gate_table_create(struct gate_table **ret_table);
void gate_table_destroy(struct gate_table *table);

/* The gate of a group, for a handle; gate_put() when the handle goes.  -ENOMEM */
WALRUS_CHECK int gate_get(struct mount *mount, struct walrus_group *group, uint64_t topic_id,
                          uint64_t group_id, struct gate **ret_gate);
void gate_put(struct gate *gate); /* NULL is allowed */

/* Somebody waits already: who comes now has to queue behind. */
bool gate_is_busy(struct gate *gate);
/* Queues a waiter (all fields but link, state, reader, result and job set by the caller). */
void gate_park(struct waiter *waiter);
/* Requests that wait at the group's gate. */
uint64_t gate_waiting_count(struct mount *mount, uint64_t topic_id, uint64_t group_id);

void poller_init(struct poller *poller);
/* Remembers to notify `poll` once there may be something; true: there is already. */
bool gate_poll(struct gate *gate, struct poller *poller, struct fuse_pollhandle *poll);
/* A read found nothing: whoever polls is to be told of the next entry.  An edge-triggered poll was
 * told once, and does not ask again. */
void gate_notify_next(struct gate *gate);
/*
 * A read of entry `seq`, already claimed, that the library cannot do now (-EBUSY): too many entries
 * are consumed above ones that are not.  The job runs when something was settled, the lowest number
 * first, since that closes a gap most likely; or else after a while.  -ENOMEM
 */
WALRUS_CHECK int gate_stall(struct gate *gate, uint64_t seq, struct job *job);
/* An entry was consumed. */
void gate_settled(struct gate *gate);

void gate_unpoll(struct gate *gate, struct poller *poller);

/* Ends all waiting with ESHUTDOWN, and lets nobody wait from now on. */
void gates_stop(struct mount *mount);

#endif
