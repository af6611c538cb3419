/* SPDX-License-Identifier: MIT */
/*
 * durable.c - overlapping syncs of one file agree on whether any of them failed.
 *
 * Serves file, registry, offsets and syncer; one struct durable for each open file.  Takes
 * LOCK_DURABLE only, and is never called with a lock of that rank or above held.
 *
 * A ticket is in `running` from durable_begin until its result is known, which is before its owner
 * waits: so waiting never goes in a circle.  Whoever ends waits for every ticket that is running at
 * that moment; those that ended earlier left their failure in `error`, those that begin later can
 * only be told of failures that came after.  `error` never goes back to 0.
 */
#include "durable.h"

#include <errno.h>
#include <stdatomic.h>

void durable_init(struct durable *durable)
{
    lock_init(&durable->lock, LOCK_DURABLE);
    cond_init(&durable->cond);
    list_init(&durable->running);
    durable->next = 0;
    atomic_init(&durable->error, 0);
}

void durable_fini(struct durable *durable)
{
    WALRUS_ASSERT(list_empty(&durable->running));
    lock_fini(&durable->lock);
}

void durable_begin(struct durable *durable, struct durable_ticket *ticket)
{
    lock_acquire(&durable->lock);
    ticket->number = durable->next++;
    list_push_back(&durable->running, &ticket->node);
    lock_release(&durable->lock);
}

/* A ticket below `limit` is still running.  The list is in the order of numbers. */
static bool durable_runs_below_locked(const struct durable *durable, uint64_t limit)
{
    if (list_empty(&durable->running))
        return false;
    return LIST_ENTRY(durable->running.next, struct durable_ticket, node)->number < limit;
}

int durable_end(struct durable *durable, struct durable_ticket *ticket, int result)
{
    WALRUS_ASSERT(result <= 0);
    lock_acquire(&durable->lock);
    uint64_t limit = durable->next;

    list_remove(&ticket->node);
    if (result < 0 && atomic_load(&durable->error) == 0)
        atomic_store(&durable->error, result);
    cond_broadcast(&durable->cond);

    while (atomic_load(&durable->error) == 0 && durable_runs_below_locked(durable, limit))
        cond_wait(&durable->cond, &durable->lock);
    bool failed = atomic_load(&durable->error) != 0;
    lock_release(&durable->lock);
    return failed ? -EIO : 0;
}

int durable_error(struct durable *durable)
{
    return atomic_load(&durable->error) != 0 ? -EIO : 0;
}
