/* SPDX-License-Identifier: MIT */
/*
 * recover_walk.c - the blocks of one topic after a crash: where its log ends, and what is damaged.
 *
 * Serves recover.c.  The rules are in docs/disk-format.md, "What recovery makes of an active
 * block": where the walk meets something invalid it is damage if an entry there is known to have
 * been durable, and the end of the log if not.  Then everything from the last whole unit on is
 * dropped.
 *
 * What was accepted but not known durable is written once more, so that the next sync, which the
 * opening asks for at once, really brings it to the disk.
 */
#include "recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "os.h"

#define SCAN_SIZE 65536u /* the search behind the end looks at data in steps of this */

/* The end of the last whole unit. */
struct unit_end {
    size_t block; /* index of it among the blocks kept */
    uint32_t off, count;
    uint64_t bytes, seq, last_time_ns;
};

struct walk {
    struct recovery *rec;
    struct walrus_topic *topic;
    struct found *found;
    size_t count;
    struct block **blocks; /* adopted, as far as the walk came */
    size_t kept;
    uint64_t seq;      /* the number that comes next; of an entry in parts: its own */
    uint64_t left;     /* bytes of that entry that are still to come; 0: none is open */
    bool open;         /* a unit has begun and not ended */
    uint64_t proven;   /* all entries below are known to have been durable */
    bool looked_ahead; /* proofs behind the present place are in `proven` */
    bool damaged;
    bool walked; /* some block was */
    struct unit_end end;
};

/* Number of the first entry that begins behind the walk's place. */
static uint64_t walk_next_first(const struct walk *w)
{
    return w->seq + (w->left ? 1 : 0);
}

static void walk_mark_end(struct walk *w, size_t i, uint32_t off)
{
    struct block *block = w->blocks[i];
    w->open = false;
    w->end = (struct unit_end){.block = i,
                               .off = off,
                               .count = block->count,
                               .bytes = block->bytes,
                               .seq = w->seq,
                               .last_time_ns = block->last_time_ns};
}

/* --------------------------------------------------------------------------------- proofs -- */

/* Everything below this was durable when the record was written; in a store that was closed cleanly
 * so was the record itself, also when an opening since then did not come to its end. */
static uint64_t proof_of(const struct walk *w, const struct record_info *info)
{
    if (w->rec->store->super.clean)
        return info->seq + 1;
    return info->undurable == UINT32_MAX || info->undurable > info->seq
               ? 0
               : info->seq - info->undurable;
}

/* Whether what comes at the walk's place was durable: a number that is proven proves its whole
 * unit. */
static bool walk_was_durable(const struct walk *w)
{
    return w->proven > w->seq || (w->open && w->proven > w->end.seq);
}

/*
 * The first valid header at or behind `off` for which `seq` <= its number (UINT64_MAX as seq: none
 * is wanted, all are looked at for their proofs).  Looks only where the file has data.
 */
static bool scan_headers(struct walk *w, const struct found *found, uint32_t off, uint64_t seq,
                         uint32_t *ret_off, struct record_info *ret_info)
{
    struct walrus *store = w->rec->store;
    uint64_t base = FORMAT_FILE_META_SIZE + (uint64_t)found->idx * store->super.block_size;
    uint32_t size = store->super.block_size;
    uint32_t seed = block_seed(store, found->file, found->idx, found->info.epoch);
    uint32_t data_end = off; /* up to here there is data */
    for (; off + FORMAT_RECORD_SIZE <= size; off += FORMAT_RECORD_ALIGN) {
        if (off >= data_end) {
            int64_t data = os_seek_data(found->file->fd, base + off);
            if (data == -ENXIO || (data >= 0 && (uint64_t)data >= base + size))
                return false;
            if (data >= 0 && (uint64_t)data > base + off)
                off = (uint32_t)round_down((uint64_t)data - base, FORMAT_RECORD_ALIGN);
            data_end = off + SCAN_SIZE;
            if (off + FORMAT_RECORD_SIZE > size)
                return false;
        }
        uint8_t header[FORMAT_RECORD_SIZE];
        struct record_info info;
        if (guard_copy(header, found->file->map + base + off, sizeof(header)) < 0 ||
            format_record_decode(header, size - off, seed, off, &info) < 0)
            continue;
        w->proven = MAX(w->proven, proof_of(w, &info));
        if (seq != UINT64_MAX && info.seq >= seq && !(info.flags & FORMAT_CONT)) {
            *ret_off = off;
            *ret_info = info;
            return true;
        }
    }
    return false;
}

/* Gathers what the records behind `off` of block i prove. */
static void look_ahead(struct walk *w, size_t i, uint32_t off)
{
    uint32_t ignored_off;
    struct record_info ignored;
    if (w->looked_ahead)
        return;
    w->looked_ahead = true;
    for (; i < w->count; i++) {
        if (w->found[i].info.state == FORMAT_ACTIVE)
            scan_headers(w, &w->found[i], off, UINT64_MAX, &ignored_off, &ignored);
        off = i + 1 < w->count ? w->found[i + 1].info.used : 0;
    }
}

static void report_lost(struct walk *w, uint64_t from, uint64_t to, const struct block *block)
{
    w->damaged = true;
    if (to <= from)
        return;
    topic_damage(w->topic, from, to,
                 "entries from %llu to %llu are lost to damage in wal_%04u.log, block %u",
                 (unsigned long long)from, (unsigned long long)to - 1, block->file->number,
                 block->idx);
}

/* ------------------------------------------------------------------------------------- walk -- */

/* The block that follows i in the topic, NULL: it is not there. */
static const struct block_info *walk_following(const struct walk *w, size_t i)
{
    const struct block_info *next = i + 1 < w->count ? &w->found[i + 1].info : NULL;
    return next && next->block_seq == w->found[i].info.block_seq + 1 ? next : NULL;
}

/* The block after i continues where the walk stands. */
static bool walk_continues(const struct walk *w, size_t i)
{
    const struct block_info *next = walk_following(w, i);
    return next && next->first_seq == walk_next_first(w);
}

/* The unit that is open was dropped by an earlier recovery, which met damage before it and so left
 * it where it is: its numbers were given again, in the block after i. */
static bool walk_was_dropped(const struct walk *w, size_t i)
{
    const struct block_info *next = walk_following(w, i);
    return w->open && w->seq > w->end.seq && w->end.block == i && next &&
           next->first_seq == w->end.seq;
}

/* Whether the record at `off` is the one that must come there; its data is checked too, unless it
 * was durable: then a bad checksum is for its readers to meet. */
static int walk_record(struct walk *w, size_t i, uint32_t off, struct record_info *ret_info)
{
    const struct block *block = w->blocks[i];
    int r = walk_header(block, off, w->rec->store->super.block_size, ret_info);
    if (r < 0)
        return r;
    bool cont = ret_info->flags & FORMAT_CONT;
    if (ret_info->seq != w->seq || cont != (w->left > 0) || (cont && ret_info->size > w->left))
        return -EBADMSG;
    uint32_t crc;
    r = guard_crc(&crc, 0, block->base + off + FORMAT_RECORD_SIZE, ret_info->size);
    if (r == 0 && crc == ret_info->data_crc)
        return 0;
    bool dropped = (!w->left && walk_continues(w, i)) || walk_was_dropped(w, i);
    return walk_was_durable(w) && !dropped ? 0 : -EBADMSG;
}

static void walk_accept(struct walk *w, size_t i, const struct record_info *info, uint32_t *off)
{
    struct block *block = w->blocks[i];
    if (!(info->flags & FORMAT_CONT)) {
        block->count++;
        block->bytes += info->total;
        w->left = info->total;
    }
    w->left -= info->size;
    if (!(info->flags & FORMAT_PART)) {
        w->left = 0;
        w->seq++;
    }
    block->last_time_ns = MAX(block->last_time_ns, info->time_ns);
    w->proven = MAX(w->proven, proof_of(w, info));
    w->open = true;
    *off += (uint32_t)format_record_extent(info->size);
    atomic_store(&block->end, *off);
    if (!(info->flags & FORMAT_MORE))
        walk_mark_end(w, i, *off);
}

/* The rest of an entry whose beginning the table vouches for: it was durable as a whole, so its
 * parts at the start of this block are simply there. */
static void walk_skip_rest(struct walk *w, size_t i, uint32_t *off)
{
    struct block *block = w->blocks[i];
    struct record_info info;
    if (*off > 0 || w->left > 0 ||
        walk_header(block, 0, w->rec->store->super.block_size, &info) < 0 ||
        !(info.flags & FORMAT_CONT) || info.seq + 1 != w->seq)
        return;
    *off = (uint32_t)format_record_extent(info.size);
    atomic_store(&block->end, *off);
    w->open = true;
    if (!(info.flags & FORMAT_MORE))
        walk_mark_end(w, i, *off);
}

/* Back to the end of the last whole unit, in the block that it ends in. */
static void walk_back(struct walk *w)
{
    struct block *block = w->blocks[w->end.block];
    atomic_store(&block->end, w->end.off);
    block->count = w->end.count;
    block->bytes = w->end.bytes;
    block->last_time_ns = w->end.last_time_ns;
    w->seq = w->end.seq;
    w->left = 0;
    w->open = false;
}

/* Walks an active block.  WALRUS_EMPTY: the log ends in it. */
static int walk_block(struct walk *w, size_t i)
{
    struct block *block = w->blocks[i];
    uint32_t off = atomic_load(&block->end);
    walk_skip_rest(w, i, &off);
    for (;;) {
        struct record_info info;
        int r = walk_record(w, i, off, &info);
        if (r == 0) {
            walk_accept(w, i, &info, &off);
            continue;
        }
        if (r == -EIO)
            report(&w->rec->store->reporter, WALRUS_ERROR, r, w->topic->name,
                   "wal_%04u.log: block %u cannot be read at offset %u", block->file->number,
                   block->idx, off);
        if (walk_was_dropped(w, i)) {
            walk_back(w);
            return 0;
        }
        /* Within an entry a part that does not fill its block cannot lead into the next one: what
         * comes there is a later part, and this one is not whole. */
        bool whole = !w->left || off >= w->rec->store->super.block_size;
        if (whole && walk_continues(w, i))
            return 0;
        look_ahead(w, i, off);
        if (!walk_was_durable(w))
            return WALRUS_EMPTY;
        r = walk_record(w, i, off, &info); /* more is proven now: only its data may be bad */
        if (r == 0) {
            walk_accept(w, i, &info, &off);
            continue;
        }
        uint32_t found_off;
        if (!scan_headers(w, &w->found[i], off + FORMAT_RECORD_ALIGN, walk_next_first(w),
                          &found_off, &info) ||
            (walk_following(w, i) && info.seq >= walk_following(w, i)->first_seq))
            return 0; /* the next block, or the end, tells how much is lost */
        report_lost(w, w->seq, info.seq, block);
        block->count += (uint32_t)(info.seq - walk_next_first(w));
        w->seq = info.seq;
        w->left = 0;
        off = found_off;
        walk_mark_end(w, i, off);
    }
}

/* Enters block i.  WALRUS_EMPTY: the log ends before it; -EBADMSG: it cannot belong here. */
static int walk_enter(struct walk *w, size_t i)
{
    const struct block_info *info = &w->found[i].info;
    if (i > 0 && !walk_continues(w, i - 1)) {
        look_ahead(w, i - 1, w->found[i - 1].info.used);
        if (!walk_was_durable(w))
            return WALRUS_EMPTY;
        if (info->first_seq < walk_next_first(w))
            return -EBADMSG;
    }
    struct block *block = space_adopt(w->found[i].file, w->found[i].idx, info);
    if (!block)
        return -ENOMEM;
    if (i > 0 && info->first_seq > walk_next_first(w))
        report_lost(w, w->seq, info->first_seq, block);
    bool continues = i > 0 && w->left && info->first_seq == w->seq + 1 && info->used == 0 &&
                     info->state == FORMAT_ACTIVE;
    if (!continues) {
        w->left = 0;
        w->seq = info->first_seq + info->count;
    }
    w->blocks[w->kept++] = block;
    if (info->used > 0 || !w->open) /* what the table vouches for ends a unit */
        walk_mark_end(w, w->kept - 1, info->used);
    return 0;
}

static void walk_drop(struct walk *w, struct block *block)
{
    if (w->rec->store->read_only)
        free(block);
    else
        space_free(w->rec->store, block);
}

/* The same for one that was not entered.  -ENOMEM, and then the store is not opened: in a store that
 * is closed well afterwards, the next opening would take it for a block behind a loss. */
static int walk_drop_found(struct walk *w, const struct found *found)
{
    struct block *block = space_adopt(found->file, found->idx, &found->info);
    if (!block)
        return -ENOMEM;
    walk_drop(w, block);
    return 0;
}

/* Cuts the log at the end of its last whole unit. */
static void walk_cut(struct walk *w)
{
    if (w->open && w->proven > w->end.seq && w->seq > w->end.seq)
        return; /* part of the open unit was durable, so all of it was: its end is damaged */
    while (w->kept > w->end.block + 1)
        walk_drop(w, w->blocks[--w->kept]);
    walk_back(w);
}

static int walk_blocks(struct walk *w)
{
    int r = 0;
    size_t i = 0;
    for (; r == 0 && i < w->count; i++) {
        r = walk_enter(w, i);
        if (r == -EBADMSG) {
            report(&w->rec->store->reporter, WALRUS_ERROR, r, w->topic->name,
                   "wal_%04u.log: block %u is out of order and is quarantined",
                   w->found[i].file->number, w->found[i].idx);
            w->found[i].file->cells[w->found[i].idx].use = CELL_QUARANTINED;
            memmove(&w->found[i], &w->found[i + 1], (w->count - i - 1) * sizeof(w->found[0]));
            w->count--;
            i--;
            r = 0;
            continue;
        }
        if (r == 0 && w->found[i].info.state == FORMAT_ACTIVE && w->found[i].walk) {
            w->walked = true;
            r = walk_block(w, i);
        }
    }
    if (r < 0)
        return r;
    if (r == WALRUS_EMPTY) { /* blocks behind the end, also those never entered */
        r = 0;
        for (size_t k = w->count; r == 0 && k > w->kept; k--)
            r = walk_drop_found(w, &w->found[k - 1]);
        if (r < 0)
            return r;
    }
    if (w->walked)
        walk_cut(w);
    return 0;
}

/* Brings to the page cache, dirty, what was accepted above what is known durable. */
static int rewrite_accepted(struct block *block)
{
    uint8_t *copy = NULL;
    uint32_t end = atomic_load(&block->end);
    int r = 0;
    for (uint32_t off = block->synced_end; r == 0 && off < end;) {
        uint32_t size = MIN(end - off, SCAN_SIZE);
        if (!copy && !(copy = malloc(SCAN_SIZE)))
            return -ENOMEM;
        r = guard_copy(copy, block->base + off, size);
        if (r == 0)
            r = os_write(block->file->fd, copy, size, block_file_off(block) + off, false);
        off += size;
    }
    free(copy);
    return r;
}

/* Makes the blocks the topic's. */
static void walk_install(struct walk *w)
{
    struct walrus_topic *topic = w->topic;
    struct block *before = NULL;
    uint64_t durable = UINT64_MAX;
    for (size_t i = 0; i < w->kept; i++) {
        struct block *block = w->blocks[i];
        uint32_t end = atomic_load(&block->end);
        block->space_end = block->alloc_end = (uint32_t)round_up(end, FORMAT_PAGE_SIZE);
        atomic_fetch_add(&topic->disk_bytes, block->space_end);
        topic->last_time_ns = MAX(topic->last_time_ns, block->last_time_ns);
        if (!block->sealed && !topic->sync_block) {
            topic->sync_block = block_ref(block);
            durable = w->found[i].walk ? block->first_seq + w->found[i].info.count : UINT64_MAX;
        }
        list_push_back(&topic->blocks, &block->node);
        if (before)
            atomic_store(&before->next, block);
        before = block;
    }
    if (!topic->sync_block)
        topic->sync_block = block_ref(before);
    struct block *oldest = w->blocks[0];
    atomic_store(&topic->oldest_end_seq, w->kept > 1 ? block_end_seq(oldest) : UINT64_MAX);
    topic->block_seq_next = before->block_seq + 1;
    uint64_t least = MAX(w->proven, w->seq + (w->open ? 1 : 0)); /* an open unit had more */
    if (w->walked && least > w->seq) {                           /* the end itself is lost */
        report_lost(w, w->seq, least, before);
        w->seq = least;
    }
    topic->roll = before->sealed || w->damaged;
    before->trim = w->rec->unclean && !before->sealed;
    atomic_store(&topic->durable_seq, MIN(durable, w->seq));
    topic_tail_publish(topic, w->seq, before->first_byte + before->bytes, before,
                       atomic_load(&before->end));
}

/* Of two blocks with one place in the topic the later use counts: the other one was dropped, and
 * could not be marked free.  Now it can, or is left out once more. */
static int drop_stale(struct walk *w)
{
    size_t kept = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < w->count; i++) {
        const struct found *found = &w->found[i];
        if (!kept || found->info.block_seq != w->found[kept - 1].info.block_seq)
            w->found[kept++] = *found;
        else
            r = walk_drop_found(w, found);
    }
    w->count = kept;
    return r;
}

int recover_topic(struct recovery *rec, struct walrus_topic *topic, struct found *found,
                  size_t count)
{
    struct walk w = {.rec = rec, .topic = topic, .found = found, .count = count};
    int r = drop_stale(&w);
    if (r < 0)
        return r;
    count = w.count;
    w.blocks = calloc(MAX(count, 1), sizeof(struct block *));
    if (!w.blocks)
        return -ENOMEM;
    w.proven = recover_groups_bound(topic);
    for (size_t i = 0; i < count; i++)
        if (found[i].info.used > 0)
            w.proven = MAX(w.proven, found[i].info.first_seq + found[i].info.count);
    r = walk_blocks(&w);
    for (size_t i = 0; r == 0 && rec->unclean && i < w.kept; i++)
        r = rewrite_accepted(w.blocks[i]);
    if (r == 0)
        walk_install(&w);
    else
        for (size_t i = 0; i < w.kept; i++)
            free(w.blocks[i]);
    free(w.blocks);
    return r;
}

int recover_finish(struct recovery *rec, struct walrus_topic *topic)
{
    struct tail_snap tail = topic_tail(topic);
    uint64_t bound = recover_groups_bound(topic);
    if (bound > tail.seq) {
        report(&rec->store->reporter, WALRUS_ERROR, -EBADMSG, topic->name,
               "entries %llu to %llu were consumed and are no longer there; their numbers are not "
               "used again",
               (unsigned long long)tail.seq, (unsigned long long)bound - 1);
        topic_tail_publish(topic, bound, tail.bytes, tail.block, tail.off);
        topic->roll = true;
    }
    if (topic->roll && tail.block && !rec->store->read_only) {
        /* The new block carries the number on; what is lost before it shows as a gap to readers. */
        int r = append_roll_locked(topic, 0);
        if (r < 0 && r != -ENOSPC && r != -EDQUOT)
            return r;
    }
    return 0;
}
