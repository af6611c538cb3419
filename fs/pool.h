/* SPDX-License-Identifier: MIT */
/*
 * pool.h - worker threads for what waits for the disk, and queues that keep the requests of one
 * object in order.
 *
 * A transport thread must never wait for a disk: it hands such work to the pool as a job, and the
 * job sends the reply.  The pool begins jobs in the order of their submission.
 *
 * struct serial is a mutex that parks requests instead of threads: whoever enters it owns the
 * object until serial_leave(); jobs that come meanwhile are queued and run, one at a time, in
 * order.  It is held across calls of the engine and replies, which no lock of fs/ may be.
 */
#ifndef WALRUSFS_POOL_H
#define WALRUSFS_POOL_H

#include <stdbool.h>

#include "compiler.h"
#include "sync.h"

#define POOL_THREAD_COUNT_MAX 16

struct pool;

struct job {
    struct job *next;
    uint64_t due_ns;              /* monotonic; of a delayed job */
    void (*run)(struct job *job); /* may free the job */
    bool withdrawn;               /* under the lock of a serial: it is not to be queued there */
};

WALRUS_CHECK int pool_create(struct pool **ret_pool);
/* Runs what is queued, then ends the threads.  NULL is allowed. */
void pool_destroy(struct pool *pool);
/* Waits until no job is queued or running. */
void pool_drain(struct pool *pool);
/* Runs job->run(job) on a worker.  Never fails. */
void pool_submit(struct pool *pool, struct job *job);
/* The same, not before `delay_ns` have passed. */
void pool_submit_later(struct pool *pool, struct job *job, uint64_t delay_ns);

struct serial {
    struct lock lock; /* LOCK_FS_HANDLE; guards the rest */
    bool busy;
    struct job *first, *last; /* waiting for their turn */
};

void serial_init(struct serial *serial);
void serial_fini(struct serial *serial);
/* True: the caller owns the object now. */
bool serial_try(struct serial *serial);
/* The same with a job.  0: the caller owns the object; SERIAL_QUEUED: the job will run on the pool, as
 * the owner; -EINTR: it would have been queued, but serial_withdraw() came first. */
#define SERIAL_QUEUED 1
WALRUS_CHECK int serial_enter(struct serial *serial, struct job *job);
/* Takes the job out of the queue: true, and the caller has it.  False: it had its turn, or is not
 * there yet, and serial_enter() does not queue it any more. */
bool serial_withdraw(struct serial *serial, struct job *job);
/* Gives the object to the next job, if any.  A job that destroys the object does not call it. */
void serial_leave(struct serial *serial, struct pool *pool);

#endif
