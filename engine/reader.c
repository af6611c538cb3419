/* SPDX-License-Identifier: MIT */
/*
 * reader.c - the bytes of the entries in a reader, checked, and what reading them consumes.
 *
 * Serves the public interface; claim.c made the reader.  The entries are laid end to end; a cursor
 * remembers where the last read stopped, so reading on costs nothing and seeking back walks again.
 *
 * Strict: a read first makes sure that the data of what it touches is durable, then marks it
 * consumed and stores that, and only then copies.  At-least-once: the caller says what was
 * delivered, in order from the first byte; the offset is stored each persist_every entries, and
 * when it cannot be, no more than those are handed out.
 *
 * Checksums are checked on the copy where an entry is read whole, and before the copy where it is
 * read in pieces: once an entry, or once a fragment of a large one.
 *
 * Failure: a damaged entry is consumed by the error that reports it, so that no reader meets it
 * twice; without a group (peek, an entry by its number) the error is permanent.
 */
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "guard.h"

#define FETCH_AHEAD_SIZE 2048u

/* ------------------------------------------------------------------------------------ taken -- */

/* Makes room for one more range of `taken`. */
static int taken_reserve(struct walrus_reader *reader)
{
    if (reader->taken_count < reader->taken_room)
        return 0;
    uint32_t room = reader->taken_room ? reader->taken_room * 2 : 4;
    struct taken *bigger = realloc(reader->taken, room * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    reader->taken = bigger;
    reader->taken_room = room;
    return 0;
}

static bool taken_has(const struct walrus_reader *reader, uint64_t seq)
{
    for (uint32_t i = 0; i < reader->taken_count; i++)
        if (seq >= reader->taken[i].first && seq < reader->taken[i].end)
            return true;
    return false;
}

static void taken_add(struct walrus_reader *reader, uint64_t first, uint64_t end)
{
    uint32_t a = 0;
    while (a < reader->taken_count && reader->taken[a].end < first)
        a++;
    uint32_t b = a;
    while (b < reader->taken_count && reader->taken[b].first <= end) {
        first = MIN(first, reader->taken[b].first);
        end = MAX(end, reader->taken[b].end);
        b++;
    }
    memmove(&reader->taken[a + 1], &reader->taken[b],
            (reader->taken_count - b) * sizeof(reader->taken[0]));
    reader->taken[a] = (struct taken){first, end};
    reader->taken_count += 1 + a - b;
}

/* Consumes [first, end) for the reader's group.  *ret_store: the offset is to be stored. */
static int reader_take(struct walrus_reader *reader, uint64_t first, uint64_t end, bool *ret_store)
{
    struct walrus_group *group = reader->group;
    bool strict = group->topic->store->options.consistency == WALRUS_STRICT;
    uint64_t counted = 0;
    int r = strict ? topic_sync_to(reader->topic, end, false) : 0;
    if (r == 0)
        r = taken_reserve(reader);
    if (r == 0)
        r = group_consume(group, reader->seek_count, first, end, strict, &counted);
    if (r == 0) /* only what was consumed: the rest goes back when the reader is closed */
        taken_add(reader, first, end);
    *ret_store |= r == 0 && counted > 0;
    return r;
}

/* ----------------------------------------------------------------------------------- cursors -- */

static void cursor_begin(struct walrus_reader *reader, struct cursor *cursor)
{
    cursor->run = LIST_ENTRY(reader->runs.next, struct run, node);
    pos_copy(&cursor->pos, &cursor->run->pos);
    cursor->offset = 0;
    cursor->index = 0;
    cursor->past_empty = false;
}

static void cursor_clear(struct cursor *cursor)
{
    pos_clear(&cursor->pos);
    cursor->run = NULL;
}

static void cursor_copy(struct cursor *to, const struct cursor *from)
{
    to->run = from->run;
    to->offset = from->offset;
    to->index = from->index;
    pos_copy(&to->pos, &from->pos);
}

/* The entry at the cursor; WALRUS_EMPTY: behind the last. */
static int cursor_peek(struct walrus_reader *reader, struct cursor *cursor,
                       struct walk_entry *ret_entry)
{
    if (!cursor->run)
        cursor_begin(reader, cursor);
    for (;;) {
        if (cursor->pos.seq < cursor->run->end_seq) {
            int r = walk_peek(reader->topic, &cursor->pos, ret_entry);
            if (r <= 0) {
                ret_entry->end_seq = MIN(ret_entry->end_seq, cursor->run->end_seq);
                return r;
            }
        }
        struct list *next = cursor->run->node.next;
        if (next == &reader->runs)
            return WALRUS_EMPTY;
        cursor->run = LIST_ENTRY(next, struct run, node);
        pos_copy(&cursor->pos, &cursor->run->pos);
    }
}

static int cursor_next(struct walrus_reader *reader, struct cursor *cursor,
                       const struct walk_entry *entry)
{
    int r = walk_next(reader->topic, &cursor->pos, entry);
    reader->met_damage |= entry->damaged;
    if (r == 0) {
        cursor->offset += entry->size;
        cursor->index += entry->end_seq - entry->seq;
        cursor->past_empty = false;
    }
    return r;
}

/* Moves the reading cursor to the entry that holds byte `offset`, or to an entry without bytes that
 * lies right there. */
static int cursor_find(struct walrus_reader *reader, uint64_t offset, struct walk_entry *ret_entry)
{
    struct cursor *at = &reader->at;
    if (!at->run || offset < at->offset || (offset == at->offset && at->past_empty))
        cursor_begin(reader, at);
    for (;;) {
        int r = cursor_peek(reader, at, ret_entry);
        if (r != 0)
            return r;
        if (at->offset == offset && !(ret_entry->damaged && taken_has(reader, ret_entry->seq)))
            return 0;
        if (offset < at->offset + ret_entry->size)
            return 0;
        bool empty = ret_entry->size == 0 && (at->past_empty || !ret_entry->damaged);
        r = cursor_next(reader, at, ret_entry);
        if (r < 0)
            return r;
        at->past_empty = empty;
    }
}

/* ------------------------------------------------------------------------------------ bytes -- */

/* Where `skip` bytes into the entry are: the record, and the bytes from there on in it. */
static int fragment_find(struct walrus_reader *reader, const struct pos *pos,
                         const struct walk_entry *entry, uint64_t skip, struct block **ret_block,
                         uint32_t *ret_off, struct record_info *ret_info, uint32_t *ret_frag)
{
    uint32_t block_size = reader->topic->store->super.block_size;
    uint32_t full = block_size - FORMAT_RECORD_SIZE;
    *ret_frag = 0;
    *ret_block = pos->block;
    *ret_off = pos->off;
    if (format_record_extent(entry->size) <= block_size) { /* its header was read just now */
        ret_info->size = entry->record_size;
        ret_info->data_crc = entry->data_crc;
        return entry->record_size == entry->size ? 0 : -EBADMSG;
    }
    *ret_frag = (uint32_t)(skip / full);
    for (uint32_t i = 0; i < *ret_frag; i++) {
        *ret_block = atomic_load_explicit(&(*ret_block)->next, memory_order_acquire);
        *ret_off = 0;
        if (!*ret_block)
            return -EBADMSG;
    }
    uint32_t end = atomic_load_explicit(&(*ret_block)->end, memory_order_acquire);
    int r = walk_header(*ret_block, *ret_off, end, ret_info);
    if (r < 0)
        return r;
    uint64_t left = entry->size - (uint64_t)*ret_frag * full;
    if (ret_info->seq != entry->seq || ret_info->size != MIN(left, full))
        return -EBADMSG;
    return 0;
}

/* Copies checked bytes of one fragment of the entry; the count goes to *ret_size.  -EBADMSG: they are
 * damaged, or on a place that the disk does not give back. */
static int entry_copy(struct walrus_reader *reader, const struct pos *pos,
                      const struct walk_entry *entry, uint64_t skip, void *to, size_t size,
                      size_t *ret_size)
{
    struct block *block;
    struct record_info info;
    uint32_t off, frag;
    int r = fragment_find(reader, pos, entry, skip, &block, &off, &info, &frag);
    if (r < 0)
        return r;
    const uint8_t *data = block->base + off + FORMAT_RECORD_SIZE;
    uint64_t before =
        (uint64_t)frag * (reader->topic->store->super.block_size - FORMAT_RECORD_SIZE);
    size_t from = (size_t)(skip - before);
    size = MIN(size, info.size - from);
    bool whole = from == 0 && size == info.size;
    if (!whole && (reader->checked_seq != entry->seq || reader->checked_frag != frag)) {
        uint32_t crc;
        if (guard_crc(&crc, 0, data, info.size) < 0 || crc != info.data_crc)
            return -EBADMSG;
        reader->checked_seq = entry->seq;
        reader->checked_frag = frag;
    }
    if (guard_copy(to, data + from, size) < 0 || (whole && crc32c(0, to, size) != info.data_crc))
        return -EBADMSG;
    *ret_size = size;
    return 0;
}

/* The entry at the cursor is damaged: consume it, tell, and step behind it. */
static int reader_damaged(struct walrus_reader *reader, const struct walk_entry *entry,
                          uint64_t *ret_next)
{
    struct walrus_group *group = reader->group;
    bool store = false;
    int r = 0;
    if (group)
        r = reader_take(reader, entry->seq, entry->end_seq, &store);
    if (r == 0 && store)
        r = group_store(group);
    if (r < 0)
        return r;
    const struct pos *pos = &reader->at.pos;
    topic_damage(reader->topic, entry->seq, entry->end_seq,
                 "entries from %llu to %llu are damaged: wal_%04u.log, block %u, offset %u: %s",
                 (unsigned long long)entry->seq, (unsigned long long)entry->end_seq - 1,
                 pos->block->file->number, pos->block->idx, pos->off,
                 entry->damaged ? "what is there is no entry"
                                : "the data cannot be read or fails its checksum");
    r = cursor_next(reader, &reader->at, entry);
    if (r < 0)
        return r;
    if (ret_next)
        *ret_next = reader->at.offset;
    return -EBADMSG;
}

/* Asks for what lies behind the entry at *pos.  A topic's data is in no cache when it is read for the
 * first time, entries are too short for the processor to see where they lead, and it never looks
 * beyond a page. */
static void fetch_ahead(const struct pos *pos, uint64_t size)
{
    const uint8_t *base = pos->block->base;
    uint64_t block_size = pos->block->file->store->super.block_size;
    uint64_t extent = format_record_extent(size);
    uint64_t from = pos->off + extent + FETCH_AHEAD_SIZE;
    uint64_t end = MIN(from + MIN(extent, FETCH_AHEAD_SIZE), block_size);
    for (uint64_t at = from; at < end; at += CACHE_LINE_SIZE)
        __builtin_prefetch(base + at);
}

/* Copies what lies from the cursor on.  0 bytes and -EBADMSG: the entry at the cursor is damaged.
 */
static int reader_copy(struct walrus_reader *reader, uint8_t *to, size_t size, uint64_t offset,
                       struct walk_entry *entry, size_t *ret_size)
{
    struct cursor *at = &reader->at;
    size_t done = 0;
    int r = 0;
    while (done < size) {
        r = cursor_peek(reader, at, entry);
        if (r == 0 && entry->damaged && !taken_has(reader, entry->seq))
            r = -EBADMSG;
        if (r != 0)
            break;
        fetch_ahead(&at->pos, entry->size);
        uint64_t skip = offset + done - at->offset;
        while (r == 0 && skip < entry->size && done < size) {
            size_t piece;
            r = entry_copy(reader, &at->pos, entry, skip, to + done, size - done, &piece);
            if (r == 0) {
                done += piece;
                skip += piece;
            }
        }
        if (r == 0 && skip >= entry->size)
            r = cursor_next(reader, at, entry);
        if (r != 0)
            break;
    }
    *ret_size = done;
    return r == WALRUS_EMPTY ? 0 : r;
}

/*
 * Strict mode: consumes the entries that a read of `size` bytes at the cursor touches, durably.
 * *ret_size is how many bytes may be handed out: fewer when ranges ran out behind the first ones.
 */
static int reader_take_ahead(struct walrus_reader *reader, uint64_t offset, size_t size,
                             size_t *ret_size)
{
    struct cursor probe = {0};
    bool store = false, any = false;
    uint64_t allowed = offset + size;
    int r = 0;
    cursor_copy(&probe, &reader->at);
    while (r == 0 && probe.offset < allowed) {
        struct run *run = NULL;
        uint64_t first = 0, end = 0, begin = probe.offset;
        struct walk_entry entry;
        while ((r = cursor_peek(reader, &probe, &entry)) == 0 && !entry.damaged &&
               probe.offset < offset + size && (!run || run == probe.run)) {
            if (!run)
                first = entry.seq;
            run = probe.run;
            end = entry.end_seq;
            r = cursor_next(reader, &probe, &entry);
            if (r < 0)
                break;
        }
        if (r < 0 || !run)
            break;
        int last = r;
        bool had = reader->taken_count == 1 && reader->taken[0].first <= first &&
                   reader->taken[0].end >= end;
        r = had ? 0 : reader_take(reader, first, end, &store);
        if (r < 0) {
            allowed = MAX(begin, offset);
            break;
        }
        any = true;
        r = last;
    }
    cursor_clear(&probe);
    if (r < 0 && !any)
        return r;
    if (store) {
        r = group_store(reader->group);
        if (r < 0)
            return r;
    }
    *ret_size = (size_t)(allowed - offset);
    return 0;
}

/* Nothing is ever delivered for a reader that consumes in another way, or not at all. */
static bool consumes_delivered(const struct walrus_reader *reader)
{
    return reader->group && reader->topic->store->options.consistency == WALRUS_AT_LEAST_ONCE;
}

bool walrus_reader_due(const struct walrus_reader *reader)
{
    const struct walrus_options *options = &reader->topic->store->options;
    return consumes_delivered(reader) &&
           atomic_load(&reader->group->unstored_count) >= MAX(options->persist_every, 1u);
}

/* At-least-once: no more is handed out than may come again, before the offset was stored.  What was
 * consumed already can be read again. */
static int reader_hold_back(struct walrus_reader *reader, uint64_t seq)
{
    struct walrus_group *group = reader->group;
    bool due = walrus_reader_due(reader);
    if (!consumes_delivered(reader) || (!due && !atomic_load(&group->behind)) ||
        taken_has(reader, seq))
        return 0;
    lock_acquire(&group->lock);
    int r = group->error;
    lock_release(&group->lock);
    return r == 0 && due ? group_store(group) : r;
}

ssize_t walrus_reader_read(struct walrus_reader *reader, void *buffer, size_t size, uint64_t offset,
                           uint64_t *ret_next)
{
    struct walk_entry entry;
    if (atomic_load(&reader->topic->removed) ||
        (reader->group && atomic_load(&reader->group->removed)))
        return -ENODEV;
    int r = cursor_find(reader, offset, &entry);
    if (r != 0)
        return r == WALRUS_EMPTY ? 0 : r;
    r = reader_hold_back(reader, entry.seq);
    if (r < 0)
        return r;
    if (entry.damaged)
        return reader_damaged(reader, &entry, ret_next);
    if (reader->group && reader->topic->store->options.consistency == WALRUS_STRICT &&
        (size > 0 || entry.size == 0)) {
        size_t allowed;
        r = reader_take_ahead(reader, offset, MAX(size, 1), &allowed);
        if (r < 0)
            return r;
        size = MIN(size, allowed);
    }
    size_t done;
    r = reader_copy(reader, buffer, size, offset, &entry, &done);
    if (done > 0 || r == 0)
        return (ssize_t)done;
    return r == -EBADMSG ? reader_damaged(reader, &entry, ret_next) : r;
}

/* Whether the group's offset is to be stored now: *ret_due: because that was promised; otherwise
 * early, so that blocks can go. */
static bool store_is_wanted(struct walrus_group *group, bool *ret_due)
{
    const struct walrus_options *options = &group->topic->store->options;
    uint32_t every = MAX(options->persist_every, 1u);
    lock_acquire(&group->lock);
    *ret_due =
        options->consistency == WALRUS_STRICT || atomic_load(&group->unstored_count) >= every;
    bool early = group_holds_blocks_locked(group);
    lock_release(&group->lock);
    return *ret_due || early;
}

/* Stores the group's offset when it is time to. */
static int reader_store(struct walrus_group *group)
{
    bool due;
    int r = store_is_wanted(group, &due) ? group_store(group) : 0;
    return due ? r : 0;
}

int reader_load(struct walrus_reader *reader, void *buffer, size_t size, uint64_t offset)
{
    struct walk_entry entry;
    size_t done;
    int r = cursor_find(reader, offset, &entry);
    if (r != 0)
        return r;
    if (entry.damaged)
        return -EBADMSG;
    if (size == 0) { /* an entry without bytes: its header was checked */
        uint64_t none = 0;
        return entry_copy(reader, &reader->at.pos, &entry, 0, &none, 0, &done);
    }
    r = reader_copy(reader, buffer, size, offset, &entry, &done);
    return done == size ? 0 : r < 0 ? r : -EIO;
}

/* A store of the offset syncs the data below it.  Where one is due that is done before anything is
 * consumed, so that nothing is when it fails: whoever asked does not get the entries then. */
static int consume_prepare(struct walrus_reader *reader, uint64_t count)
{
    struct walrus_group *group = reader->group;
    const struct walrus_options *options = &group->topic->store->options;
    uint64_t left = count, end = 0;
    LIST_FOR_EACH(node, &reader->runs)
    {
        struct run *run = LIST_ENTRY(node, struct run, node);
        uint64_t n = MIN(left, run->end_seq - run->pos.seq);
        end = n > 0 ? run->pos.seq + n : end;
        left -= n;
    }
    lock_acquire(&group->lock);
    bool due = options->consistency == WALRUS_STRICT ||
               atomic_load(&group->unstored_count) + count >= MAX(options->persist_every, 1u);
    lock_release(&group->lock);
    return due ? topic_sync_to(reader->topic, end, false) : 0;
}

int reader_consume(struct walrus_reader *reader, uint64_t count)
{
    bool store = false;
    int r = consume_prepare(reader, count);
    LIST_FOR_EACH(node, &reader->runs)
    {
        struct run *run = LIST_ENTRY(node, struct run, node);
        uint64_t n = MIN(count, run->end_seq - run->pos.seq);
        if (r == 0 && n > 0)
            r = reader_take(reader, run->pos.seq, run->pos.seq + n, &store);
        count -= n;
    }
    return r < 0 || !store ? r : reader_store(reader->group);
}

/* Who reads on and is delivered what was read: all from the last delivery to where reading stopped
 * goes in one step, without a look at the headers in between.  Not past lost numbers that nobody was
 * told of: those wait until they are met. */
static int delivered_along(struct walrus_reader *reader, uint64_t offset, bool *ret_store)
{
    struct cursor *sent = &reader->sent, *at = &reader->at;
    if (!sent->run)
        cursor_begin(reader, sent);
    bool along = !reader->met_damage && at->run == sent->run && at->offset <= offset &&
                 at->pos.seq > sent->pos.seq &&
                 (reader->taken_count == 0 ||
                  (reader->taken_count == 1 && reader->taken[0].end <= sent->pos.seq));
    if (!along)
        return 0;
    int r = reader_take(reader, sent->pos.seq, at->pos.seq, ret_store);
    if (r == 0)
        cursor_copy(sent, at);
    return r;
}

/* Consumes what was delivered.  *ret_store: the offset changed. */
static int reader_consume_delivered(struct walrus_reader *reader, uint64_t offset, bool *ret_store)
{
    int r = delivered_along(reader, offset, ret_store);
    uint64_t first = 0, end = 0; /* delivered and not consumed yet, where they differ */
    while (r == 0) {
        struct walk_entry entry;
        r = cursor_peek(reader, &reader->sent, &entry);
        if (r != 0)
            break;
        bool taken = taken_has(reader, entry.seq);
        if (!taken && (entry.damaged || reader->sent.offset + entry.size > offset))
            break;
        if (!taken && first != end && entry.seq != end) {
            r = reader_take(reader, first, end, ret_store);
            first = end;
        }
        if (r == 0 && !taken) {
            first = first == end ? entry.seq : first;
            end = entry.end_seq;
        }
        if (r == 0)
            r = cursor_next(reader, &reader->sent, &entry);
    }
    int last = first == end || r < 0 ? 0 : reader_take(reader, first, end, ret_store);
    r = last < 0 ? last : MIN(r, 0);
    if (r < 0)
        cursor_clear(&reader->sent); /* the next call begins again, and steps over what is taken */
    return r;
}

int walrus_reader_delivered(struct walrus_reader *reader, uint64_t offset)
{
    bool store = false;
    int r = consumes_delivered(reader) ? reader_consume_delivered(reader, offset, &store) : 0;
    return r < 0 || !store ? r : reader_store(reader->group);
}

int walrus_reader_note_delivered(struct walrus_reader *reader, uint64_t offset)
{
    bool store = false, due;
    int r = consumes_delivered(reader) ? reader_consume_delivered(reader, offset, &store) : 0;
    return r == 0 && store && store_is_wanted(reader->group, &due) ? WALRUS_DUE : r;
}

/* ------------------------------------------------------------------------------- description -- */

uint64_t walrus_reader_size(const struct walrus_reader *reader)
{
    return reader->bytes;
}

uint64_t walrus_reader_count(const struct walrus_reader *reader)
{
    return reader->count;
}

uint64_t walrus_reader_seq(const struct walrus_reader *reader)
{
    return reader->first_seq;
}

uint64_t walrus_reader_time(const struct walrus_reader *reader)
{
    return reader->first_time_ns;
}

int walrus_reader_entry(struct walrus_reader *reader, uint64_t index,
                        struct walrus_entry *ret_entry, uint64_t *ret_offset)
{
    struct walk_entry entry;
    if (index < reader->it.index)
        reader->it.run = NULL;
    for (;;) {
        int r = cursor_peek(reader, &reader->it, &entry);
        if (r != 0)
            return r;
        if (index < reader->it.index + (entry.end_seq - entry.seq))
            break;
        r = cursor_next(reader, &reader->it, &entry);
        if (r < 0)
            return r;
    }
    *ret_entry = (struct walrus_entry){.seq = entry.seq + (index - reader->it.index),
                                       .time_ns = entry.time_ns,
                                       .size = entry.size};
    *ret_offset = reader->it.offset;
    return entry.damaged ? -EBADMSG : 0;
}

/* ------------------------------------------------------------------------------------- close -- */

/* Gives back a run but for what was taken of it. */
static void run_return(struct walrus_reader *reader, struct run *run)
{
    struct walrus_group *group = reader->group;
    struct run *part = NULL;
    struct pos pos = {0};
    pos_copy(&pos, &run->pos);
    while (pos.seq < run->end_seq) {
        struct walk_entry entry;
        if (walk_peek(reader->topic, &pos, &entry) != 0)
            break;
        bool taken = taken_has(reader, entry.seq);
        if (!taken && !part && (part = calloc(1, sizeof(*part)))) {
            list_init(&part->node);
            pos_copy(&part->pos, &pos);
        }
        if (walk_next(reader->topic, &pos, &entry) < 0)
            break;
        if (!taken && part) {
            part->end_seq = MIN(entry.end_seq, run->end_seq);
            part->bytes += entry.size;
            part->damaged |= entry.damaged;
        } else if (part) {
            group_give_back(group, reader->seek_count, part);
            part = NULL;
        }
    }
    if (part)
        group_give_back(group, reader->seek_count, part);
    pos_clear(&pos);
    run_free(run);
}

static bool run_untouched(const struct walrus_reader *reader, const struct run *run)
{
    for (uint32_t i = 0; i < reader->taken_count; i++)
        if (reader->taken[i].first < run->end_seq && reader->taken[i].end > run->pos.seq)
            return false;
    return true;
}

static bool run_consumed(const struct walrus_reader *reader, const struct run *run)
{
    for (uint32_t i = 0; i < reader->taken_count; i++)
        if (reader->taken[i].first <= run->pos.seq && reader->taken[i].end >= run->end_seq)
            return true;
    return false;
}

/* A claimed entry without bytes is consumed by the close of its reader. */
static int reader_close_empty(struct walrus_reader *reader)
{
    struct run *run = LIST_ENTRY(reader->runs.next, struct run, node);
    if (reader->count != 1 || reader->bytes != 0 || run->damaged || run_consumed(reader, run))
        return 0;
    bool store = false;
    int r = reader_hold_back(reader, run->pos.seq);
    if (r == 0)
        r = reader_take(reader, run->pos.seq, run->end_seq, &store);
    if (r == 0 && store)
        r = reader_store(reader->group);
    return r == -ENODEV ? 0 : r; /* removed: there is nothing to consume it for */
}

void walrus_reader_abort(struct walrus_reader *reader)
{
    if (!reader)
        return;
    struct walrus_group *group = reader->group;
    struct walrus_topic *topic = reader->topic;
    cursor_clear(&reader->at);
    cursor_clear(&reader->it);
    cursor_clear(&reader->sent);
    LIST_FOR_EACH(node, &reader->runs)
    {
        struct run *run = LIST_ENTRY(node, struct run, node);
        list_remove(node);
        if (!group || run_consumed(reader, run))
            run_free(run);
        else if (run_untouched(reader, run))
            group_give_back(group, reader->seek_count, run);
        else
            run_return(reader, run);
    }
    if (atomic_exchange(&topic->pinned, false) ||
        (group && group_frees_blocks(group, atomic_load(&group->stored_low))))
        keeper_mark(topic);
    if (group && atomic_load(&topic->watch_count))
        group_fire(group);
    walrus_group_unref(group);
    free(reader->taken);
    free(reader);
    walrus_topic_unref(topic);
}

int walrus_reader_close(struct walrus_reader *reader)
{
    int r = reader && reader->group ? reader_close_empty(reader) : 0;
    walrus_reader_abort(reader);
    return r;
}
