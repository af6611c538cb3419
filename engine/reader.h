/* SPDX-License-Identifier: MIT */
/*
 * reader.h - a reader: entries that somebody holds (a claim) or looks at.
 *
 * Shared by claim.c, which fills it, and reader.c, which reads and closes it.  One thread at a
 * time.
 */
#ifndef WALRUS_READER_H
#define WALRUS_READER_H

#include "store.h"

/* Entries that the reader has consumed: first <= seq < end. */
struct taken {
    uint64_t first, end;
};

/* Where a walk over the reader's entries stands. */
struct cursor {
    struct run *run; /* NULL: at the beginning */
    struct pos pos;
    uint64_t offset; /* of the entry at pos, in the reader's bytes */
    uint64_t index;  /* of the entry at pos */
    bool past_empty; /* an entry without bytes, right before pos, was stepped over and not read */
};

struct walrus_reader {
    struct walrus_topic *topic; /* with a reference */
    struct walrus_group *group; /* with a reference; NULL: nothing is claimed */
    uint64_t seek_count;        /* of the group when it was claimed */
    struct list runs;           /* ascending */
    uint64_t bytes, count;
    uint64_t first_seq, first_time_ns;
    struct cursor at;    /* for reading */
    struct cursor it;    /* for walrus_reader_entry */
    struct taken *taken; /* ascending, not touching */
    uint32_t taken_count, taken_room;
    struct cursor sent; /* at-least-once: the first entry not known to be delivered in full */
    uint64_t
        checked_seq; /* this entry's (UINT64_MAX: none's) fragment `checked_frag` was checked */
    uint32_t checked_frag;
    bool met_damage; /* a cursor stepped over lost numbers */
};

/* For callers that hand out entries as a whole: copies `size` bytes at `offset`, which lie within
 * one entry, checked; consumes nothing.  -EBADMSG: damaged.  WALRUS_EMPTY: behind the end. */
WALRUS_CHECK int reader_load(struct walrus_reader *reader, void *buffer, size_t size,
                             uint64_t offset);
/* Consumes the first `count` entries, with one store of the offset. */
WALRUS_CHECK int reader_consume(struct walrus_reader *reader, uint64_t count);

#endif
