/* SPDX-License-Identifier: MIT */
/*
 * claim.c - who gets which entry: claims, their return, and looking without claiming.
 *
 * Serves the public interface; uses walk.  Under LOCK_GROUP a claim takes entries first from what
 * was given back, in order, then from `cur`, the first entry that nobody ever claimed, up to the
 * tail; numbers that are consumed already (after a restart) are stepped over.  So no two readers
 * ever hold the same entry, and what comes back keeps its place.
 *
 * A group's positions are looked up when first needed, so that opening a store reads no entry.
 */
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct run *run_new(const struct pos *pos)
{
    struct run *run = calloc(1, sizeof(*run));
    if (!run)
        return NULL;
    list_init(&run->node);
    pos_copy(&run->pos, pos);
    run->end_seq = pos->seq;
    return run;
}

/* Looks up group->cur, and moves it behind consumed ranges.  WALRUS_EMPTY: it is at the tail. */
static int cur_resolve_locked(struct walrus_group *group, uint64_t tail_seq)
{
    for (;;) {
        if (group->cur.seq >= tail_seq)
            return WALRUS_EMPTY;
        uint64_t want = MAX(group->cur.seq, group->low);
        for (uint32_t i = 0; i < group->done_count; i++)
            if (want >= group->done[i].first && want < group->done[i].end)
                want = group->done[i].end;
        if (want == group->cur.seq && group->cur.block)
            return 0;
        int r = walk_seek(group->topic, want, &group->cur);
        if (r < 0)
            return r;
        if (group->cur.seq < want)
            return WALRUS_EMPTY;
        if (!group->cur.block) /* the topic has no blocks: nothing is retained */
            return WALRUS_EMPTY;
    }
}

void group_settle_cur(struct walrus_group *group)
{
    lock_acquire(&group->lock);
    if (group->cur.block) {
        struct walk_entry entry;
        struct pos *pos = &group->cur;
        if (pos->off >= atomic_load(&pos->block->end) || pos->off == 0) {
            int ignored =
                walk_peek(group->topic, pos, &entry); /* only for the step that it takes */
            (void)ignored;
        }
    }
    lock_release(&group->lock);
}

/* The next consumed number at or above seq. */
static uint64_t done_above_locked(const struct walrus_group *group, uint64_t seq)
{
    for (uint32_t i = 0; i < group->done_count; i++)
        if (group->done[i].first >= seq)
            return group->done[i].first;
    return UINT64_MAX;
}

/* What a claim may still take. */
struct budget {
    size_t count, bytes;
    bool any; /* something was taken: from then on bytes count */
};

/*
 * Takes entries from *pos into a run: up to `end_seq` and the budget.  A run of lost numbers stands
 * alone.
 */
static int take_run(struct walrus_topic *topic, struct pos *pos, uint64_t end_seq,
                    struct budget *budget, struct run **ret_run)
{
    struct run *run = run_new(pos);
    if (!run)
        return -ENOMEM;
    int r = 0;
    while (r == 0 && pos->seq < end_seq && budget->count > 0) {
        struct walk_entry entry;
        r = walk_peek(topic, pos, &entry);
        if (r != 0 || (entry.damaged && run->end_seq > run->pos.seq))
            break;
        if (budget->any && entry.size > budget->bytes) {
            budget->count = 0;
            break;
        }
        if (run->end_seq == run->pos.seq)
            pos_copy(&run->pos, pos);
        r = walk_next(topic, pos, &entry);
        if (r < 0)
            break;
        entry.end_seq = MIN(entry.end_seq, end_seq);
        run->end_seq = entry.end_seq;
        run->bytes += entry.size;
        run->damaged = entry.damaged;
        budget->count -= budget->count != SIZE_MAX;
        budget->bytes -= budget->bytes != SIZE_MAX ? MIN(budget->bytes, entry.size) : 0;
        budget->any = true;
        if (entry.damaged)
            break;
    }
    if (run->end_seq == run->pos.seq) {
        run_free(run);
        return r < 0 ? r : WALRUS_EMPTY;
    }
    *ret_run = run; /* an error behind what was taken meets the next claim */
    return 0;
}

/* All of what is left up to the tail, in one step. */
static int take_rest(struct walrus_group *group, const struct tail_snap *tail, struct run **ret_run)
{
    struct run *run = run_new(&group->cur);
    if (!run)
        return -ENOMEM;
    run->end_seq = tail->seq;
    run->bytes = tail->bytes - MIN(tail->bytes, group->cur.bytes);
    pos_set(&group->cur, tail->block, tail->off, tail->seq, tail->bytes);
    *ret_run = run;
    return 0;
}

static void reader_add_run(struct walrus_reader *reader, struct run *run)
{
    list_push_back(&reader->runs, &run->node);
    reader->bytes += run->bytes;
    reader->count += run->end_seq - run->pos.seq;
}

static int claim_back_locked(struct walrus_group *group, struct walrus_reader *reader,
                             struct budget *budget)
{
    while (!list_empty(&group->back) && budget->count > 0) {
        struct run *back = LIST_ENTRY(group->back.next, struct run, node), *run;
        if (budget->count == SIZE_MAX && budget->bytes == SIZE_MAX) {
            list_remove(&back->node);
            run = back;
            budget->any = true;
        } else {
            int r = take_run(group->topic, &back->pos, back->end_seq, budget, &run);
            if (r != 0)
                return r < 0 && !budget->any ? r : 0;
        }
        group->back_count -= run->end_seq - run->pos.seq;
        group->back_bytes -= MIN(group->back_bytes, run->bytes);
        if (run != back)
            back->bytes -= MIN(back->bytes, run->bytes);
        if (run != back && back->pos.seq >= back->end_seq)
            run_free(back);
        reader_add_run(reader, run);
    }
    return 0;
}

static int claim_new_locked(struct walrus_group *group, struct walrus_reader *reader,
                            struct budget *budget, const struct tail_snap *tail)
{
    while (budget->count > 0) {
        int r = cur_resolve_locked(group, tail->seq);
        if (r != 0)
            return r < 0 && !budget->any ? r : 0;
        /* Below the last range a claim closes a gap; and who takes all there is, with nobody else
         * holding anything, closes all of them on the way. */
        bool all_gaps = budget->count == SIZE_MAX && group->held_count == 0;
        if (group->done_count >= OFFSETS_RANGE_COUNT_MAX && !all_gaps &&
            group->cur.seq >= group->done[group->done_count - 1].end)
            return budget->any ? 0 : -EBUSY;
        uint64_t end = MIN(done_above_locked(group, group->cur.seq), tail->seq);
        bool all = budget->count == SIZE_MAX && budget->bytes == SIZE_MAX && end == tail->seq;
        struct run *run;
        r = all ? take_rest(group, tail, &run)
                : take_run(group->topic, &group->cur, end, budget, &run);
        if (r != 0)
            return r < 0 && !budget->any ? r : 0;
        budget->any = true;
        reader_add_run(reader, run);
    }
    return 0;
}

static struct walrus_reader *reader_new(struct walrus_topic *topic)
{
    struct walrus_reader *reader = calloc(1, sizeof(*reader));
    if (!reader)
        return NULL;
    reader->topic = walrus_topic_ref(topic);
    list_init(&reader->runs);
    reader->checked_seq = UINT64_MAX;
    return reader;
}

/* Number and time of the first entry; a damaged one has a number only. */
static void reader_describe(struct walrus_reader *reader)
{
    struct run *run = LIST_ENTRY(reader->runs.next, struct run, node);
    struct walk_entry entry;
    struct pos pos = {0};
    reader->first_seq = run->pos.seq;
    pos_copy(&pos, &run->pos);
    if (!run->damaged && walk_peek(reader->topic, &pos, &entry) == 0)
        reader->first_time_ns = entry.time_ns;
    pos_clear(&pos);
}

int walrus_group_claim(struct walrus_group *group, size_t max_count, size_t max_bytes,
                       struct walrus_reader **ret_reader)
{
    struct walrus_topic *topic = group->topic;
    if (topic->store->read_only)
        return -EROFS;
    if (max_count == 0)
        return -EINVAL;
    struct walrus_reader *reader = reader_new(topic);
    if (!reader)
        return -ENOMEM;
    struct budget budget = {.count = max_count, .bytes = max_bytes};
    lock_acquire(&group->lock);
    struct tail_snap tail = topic_tail_ref(topic);
    int r = atomic_load(&group->removed) ? -ENODEV : group->error;
    if (r == 0)
        r = claim_back_locked(group, reader, &budget);
    if (r == 0)
        r = claim_new_locked(group, reader, &budget, &tail);
    if (r == 0) {
        group->held_count += reader->count;
        reader->seek_count = group->seek_count;
    }
    lock_release(&group->lock);
    block_unref(tail.block);
    if (r == 0 && list_empty(&reader->runs))
        r = WALRUS_EMPTY;
    if (r == 0) {
        reader->group = walrus_group_ref(group);
        reader_describe(reader);
        *ret_reader = reader;
    } else {
        int ignored = walrus_reader_close(reader); /* it has no group: nothing to store */
        (void)ignored;
    }
    return r;
}

void group_give_back(struct walrus_group *group, uint64_t seek_count, struct run *run)
{
    lock_acquire(&group->lock);
    if (seek_count != group->seek_count || atomic_load(&group->removed)) {
        lock_release(&group->lock);
        run_free(run);
        return;
    }
    struct list *at = &group->back;
    while (at->prev != &group->back &&
           LIST_ENTRY(at->prev, struct run, node)->pos.seq > run->pos.seq)
        at = at->prev;
    list_insert_before(at, &run->node);
    uint64_t count = run->end_seq - run->pos.seq;
    group->back_count += count;
    group->back_bytes += run->bytes;
    group->held_count -= MIN(count, group->held_count);
    lock_release(&group->lock);
}

/* Opens the entry at `pos` (moved there by a walk) without a claim. */
static int reader_open_at(struct walrus_topic *topic, struct pos *pos, uint64_t end_seq,
                          struct walrus_reader **ret_reader)
{
    struct walrus_reader *reader = reader_new(topic);
    if (!reader)
        return -ENOMEM;
    struct budget budget = {.count = 1, .bytes = SIZE_MAX};
    struct run *run;
    int r = take_run(topic, pos, end_seq, &budget, &run);
    if (r != 0) {
        int ignored = walrus_reader_close(reader);
        (void)ignored;
        return r;
    }
    reader_add_run(reader, run);
    reader_describe(reader);
    *ret_reader = reader;
    return 0;
}

int walrus_group_peek(struct walrus_group *group, struct walrus_reader **ret_reader)
{
    struct pos pos = {0};
    uint64_t end_seq = 0;
    lock_acquire(&group->lock);
    int r = atomic_load(&group->removed) ? -ENODEV : 0;
    if (r == 0 && !list_empty(&group->back)) {
        struct run *back = LIST_ENTRY(group->back.next, struct run, node);
        pos_copy(&pos, &back->pos);
        end_seq = back->end_seq;
    } else if (r == 0) {
        uint64_t tail_seq = topic_tail(group->topic).seq;
        r = cur_resolve_locked(group, tail_seq);
        if (r == 0) {
            pos_copy(&pos, &group->cur);
            end_seq = MIN(done_above_locked(group, pos.seq), tail_seq);
        }
    }
    lock_release(&group->lock);
    if (r == 0)
        r = reader_open_at(group->topic, &pos, end_seq, ret_reader);
    pos_clear(&pos);
    return r;
}

int walrus_entry_open(struct walrus_topic *topic, uint64_t seq, struct walrus_reader **ret_reader)
{
    if (atomic_load(&topic->removed))
        return -ENODEV;
    if (seq >= topic_tail(topic).seq)
        return -ENOENT;
    struct pos pos = {0};
    int r = walk_seek(topic, seq, &pos);
    if (r == 0 && pos.seq != seq)
        r = -ENOENT;
    if (r == 0)
        r = reader_open_at(topic, &pos, seq + 1, ret_reader);
    pos_clear(&pos);
    return r == WALRUS_EMPTY ? -ENOENT : r;
}

/* ------------------------------------------------------------------------------- description -- */

/* Payload bytes of consumed entries at or above cur: after a restart, until claims passed them. */
static uint64_t done_bytes_locked(struct walrus_group *group, uint64_t from)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < group->done_count; i++) {
        struct pos first = {0}, end = {0};
        if (group->done[i].first >= from &&
            walk_seek(group->topic, group->done[i].first, &first) == 0 &&
            walk_seek(group->topic, group->done[i].end, &end) == 0)
            bytes += end.bytes - first.bytes;
        pos_clear(&first);
        pos_clear(&end);
    }
    return bytes;
}

void walrus_group_stat(struct walrus_group *group, struct walrus_group_stat *ret_stat)
{
    struct walrus_topic *topic = group->topic;
    memset(ret_stat, 0, sizeof(*ret_stat));
    ret_stat->id = group->id;
    ret_stat->last_take_ns = atomic_load(&group->last_take_ns);
    lock_acquire(&group->lock);
    struct tail_snap tail = topic_tail(topic);
    ret_stat->offset = group->low;
    ret_stat->claimed_count = group->held_count;
    ret_stat->pending_count = group->back_count;
    ret_stat->pending_bytes = group->back_bytes;
    struct pos pos = {0};
    struct walk_entry entry;
    if (!atomic_load(&group->removed) && cur_resolve_locked(group, tail.seq) == 0) {
        uint64_t done = 0;
        for (uint32_t i = 0; i < group->done_count; i++)
            if (group->done[i].first >= group->cur.seq)
                done += group->done[i].end - group->done[i].first;
        ret_stat->pending_count += tail.seq - group->cur.seq - done;
        ret_stat->pending_bytes += tail.bytes - MIN(tail.bytes, group->cur.bytes) -
                                   (done ? done_bytes_locked(group, group->cur.seq) : 0);
        pos_copy(&pos, &group->cur);
    }
    if (!list_empty(&group->back))
        pos_copy(&pos, &LIST_ENTRY(group->back.next, struct run, node)->pos);
    if (ret_stat->pending_count) {
        ret_stat->head = true;
        if (pos.block && walk_peek(topic, &pos, &entry) == 0)
            ret_stat->head_size = entry.size;
    }
    pos_clear(&pos);
    lock_release(&group->lock);
}
