/* SPDX-License-Identifier: MIT */
/*
 * offsets.h - read_offset_idx_index.db: the durable position of every group, one slot each
 * (docs/disk-format.md, section 6).
 *
 * Serves group.c; uses os, format and durable.  A slot is written by one thread at a time (the
 * group sees to it); different slots are written and synced side by side.  LOCK_SLOTS guards the
 * free list and the growth of the file.
 *
 * Failure: a failed write or sync is final for the whole file, every later store gives -EIO:
 * strict takes fail rather than deliver twice.
 */
#ifndef WALRUS_OFFSETS_H
#define WALRUS_OFFSETS_H

#include "compiler.h"
#include "report.h"

#define OFFSETS_RANGE_COUNT_MAX 56

struct offsets;

struct offset_range {
    uint64_t first, end; /* consumed: first <= seq < end */
};

struct offset_value {
    uint64_t topic_id, group_id;
    uint64_t offset; /* lowest number that is not consumed */
    uint32_t range_count;
    struct offset_range ranges[OFFSETS_RANGE_COUNT_MAX]; /* ascending, disjoint, above offset */
};

/*
 * Opens dirfd/read_offset_idx_index.db, made durably where it is missing; a length that is no
 * multiple of an extent is rounded up with zeros and reported.  read_only: never writes.
 * Reads all slots into memory once; offsets_visit hands them out.
 */
WALRUS_CHECK int offsets_open(int dirfd, const uint8_t uuid[16], bool read_only,
                              const struct reporter *reporter, struct offsets **ret_offsets);
/* Makes what was read durable, before anything is changed after an unclean end.  -EIO -ENOSPC */
WALRUS_CHECK int offsets_barrier(struct offsets *offsets);
void offsets_close(struct offsets *offsets); /* NULL is allowed */

enum offsets_slot_state {
    OFFSETS_NONE,    /* never written, or of nobody */
    OFFSETS_GOOD,    /* *ret_value is set */
    OFFSETS_ONE_BAD, /* one copy is damaged, *ret_value is set from the other (maybe a step older)
                      */
    OFFSETS_BAD,     /* both copies hold something that does not validate */
    OFFSETS_FIRST_TORN, /* one copy does not validate and the other is nobody's: the owner's first
                         * store was cut short, so none was ever acknowledged */
};

/* What slot `slot` (any number; beyond the end: OFFSETS_NONE) held when the file was opened. */
enum offsets_slot_state offsets_get(const struct offsets *offsets, uint32_t slot,
                                    struct offset_value *ret_value);
/* Sum of format_digest() over the slots: which generation each has reached. */
uint64_t offsets_digest(const struct offsets *offsets);
uint32_t offsets_slot_count(const struct offsets *offsets);

/* After recovery: frees the memory of what was read.  offsets_get may not be called any more. */
void offsets_loaded(struct offsets *offsets);

/* Marks a slot as in use (recovery), or takes a free one, growing the file if needed: allocated and
 * durable on return.  -ENOSPC -EDQUOT -EIO -EROFS -EEXIST (claim: already in use) */
WALRUS_CHECK int offsets_claim(struct offsets *offsets, uint32_t slot);
WALRUS_CHECK int offsets_take(struct offsets *offsets, uint32_t *ret_slot);
/* Writes both copies as nobody's, durably, and frees the slot.  On failure the slot stays taken. */
WALRUS_CHECK int offsets_give_back(struct offsets *offsets, uint32_t slot);

/*
 * Stores a value: one write, one sync, into the copy that is not the newest durable one; the first
 * value of an owner into both, one after the other.
 * value->ranges further than 2^32 - 1 above the offset, or over the count: -EOVERFLOW, nothing
 * stored. -EIO -EROFS
 */
WALRUS_CHECK int offsets_store(struct offsets *offsets, uint32_t slot,
                               const struct offset_value *value);

/* Closes descriptors that were needed when more threads stored at one time (durable_trim). */
void offsets_trim(struct offsets *offsets);

/* 0, or -EIO after a sync failed. */
int offsets_error(const struct offsets *offsets);

#endif
