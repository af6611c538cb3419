/* SPDX-License-Identifier: MIT */
/*
 * durable.h - syncs of one file whose first failure is final, also among threads.
 *
 * The kernel reports a write-back error once for each open file description (errseq_t).  With two
 * syncs under way on one description, one thread may be told of a failure that hit the other's data,
 * and the other is told 0.  So each sync has a description to itself for as long as it runs: a view.
 * A file has one, and opens a few more when threads wait for it.
 *
 *     view = durable_begin(d);  r = a sync by view->fd or view->map;  r = durable_end(d, view, r);
 *
 * Any thread.  Takes LOCK_DURABLE only, and waits for syncs that run, never for what their owners do
 * after them.
 */
#ifndef WALRUS_DURABLE_H
#define WALRUS_DURABLE_H

#include "sync.h"

#define DURABLE_VIEW_COUNT_MAX 8u
#define DURABLE_NAME_SIZE      32u

struct durable_view {
    int fd;
    uint8_t *map; /* all of the file, for msync only; NULL where the file is not mapped */
    bool busy;    /* LOCK_DURABLE */
};

struct durable {
    struct lock lock;
    struct cond cond; /* a view is free */
    int dirfd;        /* borrowed: where further views are opened */
    char name[DURABLE_NAME_SIZE];
    uint64_t map_size; /* 0: not mapped */
    struct durable_view views[DURABLE_VIEW_COUNT_MAX];
    uint32_t count;    /* GUARDED: views that syncs may use */
    uint32_t highest;  /* GUARDED: index of the last that one used since durable_trim */
    bool wanted;       /* GUARDED: a thread had to wait for a view */
    bool opened;       /* views[count] waits to be used; who has views[0] writes it */
    _Atomic int error; /* 0, or the first failure as -errno; set under lock */
};

void durable_init(struct durable *durable);
/* Closes the views that were opened here; the first one is its owner's. */
void durable_fini(struct durable *durable);
/* The file: its descriptor, and where it is mapped through that (or NULL and 0).  Before the first
 * sync.  `dirfd` must stay as long as the durable does. */
void durable_attach(struct durable *durable, int dirfd, const char *name, int fd, uint8_t *map,
                    uint64_t map_size);
const struct durable_view *durable_begin(struct durable *durable);
/* `result` is the sync's own, 0 or -errno.  0: what was written before durable_begin is durable.
 * -EIO: it is not, and nothing of this file can be called durable any more. */
WALRUS_CHECK int durable_end(struct durable *durable, const struct durable_view *view, int result);
/* Closes views that were not needed since the last time. */
void durable_trim(struct durable *durable);
int durable_error(const struct durable *durable); /* 0 or -EIO */

#endif
