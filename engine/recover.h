/* SPDX-License-Identifier: MIT */
/* recover.h - what the two files of recovery share. */
#ifndef WALRUS_RECOVER_H
#define WALRUS_RECOVER_H

#include "store.h"

/* A block in use, as its table entry describes it. */
struct found {
    struct block_info info;
    struct file *file;
    uint32_t idx;
    bool walk; /* the entry is not exact: the store was not closed, or its newer copy may be bad */
};

struct recovery {
    struct walrus *store;
    bool unclean;      /* not closed cleanly, and opened for writing */
    bool walk;         /* table entries of active blocks are not exact */
    uint64_t digest;   /* of the block tables as they were read */
    bool damaged;      /* something was lost to damage: gaps are expected */
    uint32_t *numbers; /* of log files, ascending */
    size_t number_count, number_room;
    unsigned stranger_count; /* files that are none of the store's */
    struct found *found;     /* by topic, then block_seq */
    size_t found_count, found_room;
    uint64_t *removed; /* ids of topics that were removed */
    size_t removed_count, removed_room;
};

/* Puts the blocks of a topic in order and finds its end.  -EBADMSG: reported */
WALRUS_CHECK int recover_topic(struct recovery *rec, struct walrus_topic *topic,
                               struct found *found, size_t count);
/* After the groups have their offsets: no number is given twice. */
WALRUS_CHECK int recover_finish(struct recovery *rec, struct walrus_topic *topic);
uint64_t recover_groups_bound(struct walrus_topic *topic);
WALRUS_CHECK int recover_default_group(struct walrus_topic *topic);

#endif
