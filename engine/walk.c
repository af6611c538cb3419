/* SPDX-License-Identifier: MIT */
/*
 * walk.c - from one entry of a topic to the next, by the headers alone.
 *
 * Serves group.c and reader.c.  A position holds a reference to its block, so the blocks from there
 * on stay.  Takes no lock but LOCK_BLOCKS, for a moment, when a position is looked up by number;
 * readers and the writer of a topic meet in `end` and `next` of a block only: records are published
 * by `end`, and when `next` is set `end` is final.
 *
 * Damage: a header that does not validate, or cannot be read.  The walk goes on at the next one that
 * does, in the same block or the next; the numbers in between are reported to the caller as one lost
 * range.  Where something cannot be read and nothing behind it can, the disk may be gone: that is
 * -EIO, and no number counts as lost.
 */
#include "store.h"

#include <errno.h>
#include <string.h>

#include "guard.h"

void pos_set(struct pos *pos, struct block *block, uint32_t off, uint64_t seq, uint64_t bytes)
{
    if (block)
        block_ref(block);
    block_unref(pos->block);
    *pos = (struct pos){block, off, seq, bytes};
}

void pos_copy(struct pos *to, const struct pos *from)
{
    pos_set(to, from->block, from->off, from->seq, from->bytes);
}

void pos_clear(struct pos *pos)
{
    block_unref(pos->block);
    memset(pos, 0, sizeof(*pos));
}

int walk_header(const struct block *block, uint32_t off, uint32_t end, struct record_info *ret_info)
{
    uint8_t header[FORMAT_RECORD_SIZE];
    if (end - off < sizeof(header))
        return -EBADMSG;
    int r = guard_copy(header, block->base + off, sizeof(header));
    return r < 0 ? r : format_record_decode(header, end - off, block->seed, off, ret_info);
}

/* Steps over what is left of the block of *pos, into blocks that follow; false: no block follows.
 */
static bool step_block(struct pos *pos)
{
    struct block *next = atomic_load_explicit(&pos->block->next, memory_order_acquire);
    if (!next)
        return false;
    uint64_t seq = MAX(pos->seq, next->first_seq);
    pos_set(pos, next, 0, seq, MAX(pos->bytes, next->first_byte));
    return true;
}

/* The first valid record from `off` on that begins an entry of at least `seq`.  WALRUS_EMPTY: there
 * is none; -EIO: nor could all be read. */
static int resync(const struct block *block, uint32_t off, uint32_t end, uint64_t seq,
                  uint32_t *ret_off, uint64_t *ret_seq)
{
    int none = WALRUS_EMPTY;
    for (; off < end && end - off >= FORMAT_RECORD_SIZE; off += FORMAT_RECORD_ALIGN) {
        struct record_info info;
        int r = walk_header(block, off, end, &info);
        if (r == 0 && !(info.flags & FORMAT_CONT) && info.seq >= seq) {
            *ret_off = off;
            *ret_seq = info.seq;
            return 0;
        }
        if (r == -EIO) { /* not each place of a page, which the disk would be asked for again */
            none = -EIO;
            off = (uint32_t)round_up(off + 1, FORMAT_PAGE_SIZE) - FORMAT_RECORD_ALIGN;
        }
    }
    return none;
}

/* Skips a record at the start of a block that continues an entry that is not being read; true if
 * there was one. */
static bool skip_continued(struct pos *pos, uint32_t end)
{
    struct record_info info;
    if (walk_header(pos->block, pos->off, end, &info) < 0 || !(info.flags & FORMAT_CONT))
        return false;
    pos->off += (uint32_t)format_record_extent(info.size);
    return true;
}

/* The start of a block can be read. */
static bool is_readable(const struct block *block)
{
    struct record_info info;
    return walk_header(block, 0, atomic_load_explicit(&block->end, memory_order_acquire), &info) !=
           -EIO;
}

/* What is missing at *pos, where reading the header gave `error`.  WALRUS_EMPTY: nothing, *pos was
 * moved to where the entry is. */
static int peek_damaged(struct walrus_topic *topic, struct pos *pos, uint32_t end, int error,
                        struct walk_entry *ret)
{
    uint32_t off;
    uint64_t seq;
    struct block *next = atomic_load_explicit(&pos->block->next, memory_order_acquire);
    *ret = (struct walk_entry){.seq = pos->seq, .damaged = true};
    int r = resync(pos->block, pos->off + FORMAT_RECORD_ALIGN, end, pos->seq, &off, &seq);
    if (r == 0) {
        if (seq == pos->seq) { /* only the rest of an entry before it was lost */
            pos->off = off;
            return WALRUS_EMPTY;
        }
        ret->end_seq = seq;
    } else if ((r == -EIO || error == -EIO) && !(next && is_readable(next))) {
        return -EIO;
    } else if (next) {
        ret->end_seq = next->first_seq;
    } else {
        ret->end_seq = topic_tail(topic).seq;
    }
    /* Only continued records were lost: no number is missing, go on behind them. */
    if (ret->end_seq <= pos->seq)
        ret->end_seq = pos->seq;
    return 0;
}

int walk_peek(struct walrus_topic *topic, struct pos *pos, struct walk_entry *ret)
{
    while (pos->block) {
        uint32_t end = atomic_load_explicit(&pos->block->end, memory_order_acquire);
        if (pos->off >= end) {
            struct block *next = atomic_load_explicit(&pos->block->next, memory_order_acquire);
            end = atomic_load_explicit(&pos->block->end, memory_order_acquire);
            if (pos->off < end)
                continue;
            if (!next)
                return WALRUS_EMPTY;
            if (next->first_seq > pos->seq) { /* what lay between did not survive */
                *ret = (struct walk_entry){
                    .seq = pos->seq, .end_seq = next->first_seq, .damaged = true};
                return 0;
            }
            step_block(pos);
            continue;
        }
        if (pos->off == 0 && skip_continued(pos, end))
            continue;
        struct record_info info;
        int r = walk_header(pos->block, pos->off, end, &info);
        if (r == 0 && info.seq == pos->seq && !(info.flags & FORMAT_CONT)) {
            *ret = (struct walk_entry){.seq = info.seq,
                                       .end_seq = info.seq + 1,
                                       .time_ns = info.time_ns,
                                       .size = info.total,
                                       .record_size = info.size,
                                       .data_crc = info.data_crc};
            return 0;
        }
        r = peek_damaged(topic, pos, end, r, ret);
        if (r == WALRUS_EMPTY)
            continue;
        if (r < 0 || ret->end_seq > pos->seq)
            return r;
        if (!step_block(pos))
            return WALRUS_EMPTY;
    }
    return WALRUS_EMPTY;
}

/* Behind an entry that fills blocks; where one of them is missing, at the block that is there. */
static void next_large(struct pos *pos, uint64_t size, uint32_t block_size)
{
    uint32_t full = block_size - FORMAT_RECORD_SIZE;
    uint64_t seq = pos->seq, bytes = pos->bytes + size, left = size;
    while (left > full) {
        struct block *next = atomic_load_explicit(&pos->block->next, memory_order_acquire);
        struct record_info info;
        uint32_t end = next ? atomic_load_explicit(&next->end, memory_order_acquire) : 0;
        if (!next) {
            pos->off = atomic_load_explicit(&pos->block->end, memory_order_acquire);
            left = 0;
        } else if (walk_header(next, 0, end, &info) < 0 || !(info.flags & FORMAT_CONT) ||
                   info.seq != seq) {
            pos_set(pos, next, 0, 0, 0);
            left = 0;
        } else {
            left -= full;
            pos_set(pos, next, left > full ? 0 : (uint32_t)format_record_extent(left), 0, 0);
        }
    }
    pos->seq = seq + 1;
    pos->bytes = bytes;
}

int walk_next(struct walrus_topic *topic, struct pos *pos, const struct walk_entry *entry)
{
    uint32_t block_size = topic->store->super.block_size;
    if (!entry->damaged) {
        uint64_t extent = format_record_extent(entry->size);
        if (extent > block_size) {
            next_large(pos, entry->size, block_size);
            return 0;
        }
        pos->off += (uint32_t)extent;
        pos->seq = entry->end_seq;
        pos->bytes += entry->size;
        return 0;
    }
    uint32_t end = atomic_load_explicit(&pos->block->end, memory_order_acquire), off;
    uint64_t seq;
    if (resync(pos->block, pos->off + FORMAT_RECORD_ALIGN, end, entry->end_seq, &off, &seq) == 0 &&
        seq == entry->end_seq) {
        pos->off = off;
    } else if (!step_block(pos)) {
        pos->off = end;
    }
    pos->seq = entry->end_seq;
    return 0;
}

/* The place where the look-up before this one ended, if `seq` lies behind it in the same block: who
 * looks up one number after the other does not walk each block again for each of them. */
static bool seek_go_on_locked(const struct walrus_topic *topic, uint64_t seq, struct pos *pos)
{
    const struct pos *last = &topic->sought;
    if (!last->block || last->seq > seq)
        return false;
    const struct block *next = atomic_load_explicit(&last->block->next, memory_order_acquire);
    if (next && next->first_seq <= seq)
        return false;
    pos_copy(pos, last);
    return true;
}

/* Remembers the place; without a reference, since reclaim forgets it with the block. */
static void seek_remember(struct walrus_topic *topic, const struct pos *pos)
{
    lock_acquire(&topic->blocks_lock);
    topic->sought = *pos;
    lock_release(&topic->blocks_lock);
}

int walk_seek(struct walrus_topic *topic, uint64_t seq, struct pos *pos)
{
    lock_acquire(&topic->blocks_lock);
    bool goes_on = seek_go_on_locked(topic, seq, pos);
    struct block *found = goes_on ? pos->block : NULL;
    for (struct list *node = topic->blocks.prev; !goes_on && node != &topic->blocks;
         node = node->prev) {
        found = LIST_ENTRY(node, struct block, node);
        if (found->first_seq <= seq)
            break;
    }
    if (found && !goes_on)
        pos_set(pos, found, 0, found->first_seq, found->first_byte);
    lock_release(&topic->blocks_lock);
    if (!found) {
        struct tail_snap tail = topic_tail(topic);
        pos_set(pos, NULL, 0, tail.seq, tail.bytes);
        return 0;
    }
    while (pos->seq < seq) {
        struct walk_entry entry;
        int r = walk_peek(topic, pos, &entry);
        if (r != 0)
            return r == WALRUS_EMPTY ? 0 : r;
        if (entry.end_seq > seq && entry.damaged) {
            pos->seq = seq; /* within a lost range: the walk reports the rest of it from here */
            return 0;
        }
        r = walk_next(topic, pos, &entry);
        if (r < 0)
            return r;
    }
    seek_remember(topic, pos);
    return 0;
}
