/* SPDX-License-Identifier: MIT */
/*
 * durable.h - syncs of one open file whose first failure is final, also among threads.
 *
 * The kernel reports a write-back error once per open file.  With several syncs of the file under
 * way, one thread may be told of a failure that hit another's data, and the other is told 0.  So a
 * sync counts as good only when every sync that overlapped it has reported, and none failed.
 *
 *     ticket = durable_begin(d);  r = the sync;  r = durable_end(d, ticket, r);
 *
 * durable_end() waits for the syncs that began before it was called; it takes LOCK_DURABLE only.
 */
#ifndef WALRUS_DURABLE_H
#define WALRUS_DURABLE_H

#include "list.h"
#include "sync.h"

struct durable {
    struct lock lock;
    struct cond cond;
    struct list running; /* GUARDED: struct durable_ticket, oldest first */
    uint64_t next;       /* GUARDED: number of the next ticket */
    _Atomic int error;   /* 0, or the first failure as -errno; set under lock */
};

struct durable_ticket {
    struct list node;
    uint64_t number;
};

void durable_init(struct durable *durable);
void durable_fini(struct durable *durable);
void durable_begin(struct durable *durable, struct durable_ticket *ticket);
/* `result` is the sync's own, 0 or -errno.  0: what was written before durable_begin is durable.
 * -EIO: it is not, and nothing of this file can be called durable any more. */
WALRUS_CHECK int durable_end(struct durable *durable, struct durable_ticket *ticket, int result);
int durable_error(struct durable *durable); /* 0 or -EIO */

#endif
