/* SPDX-License-Identifier: MIT */
/*
 * append.c - the write path: an entry, or a batch, goes to the end of a topic.
 *
 * Serves the public interface and stage.c; uses space for blocks and syncer for durability.
 *
 * The happy path, under LOCK_APPEND of the topic and nothing else: there is room in the newest
 * block and disk space below it was taken already (with zeros, in chunks that grow with the
 * rate); data and header of each record are stored through the mapping; the new end is published;
 * the topic is put on the syncer's list if it is not there.  No allocation, no system call.
 *
 * An append that must be durable stores by pwritev(2) instead, because a store through the mapping
 * makes the whole of a large page dirty and the sync after it write that much; both see the same
 * page cache.  The sync happens after LOCK_APPEND was released, and is shared (syncer.c).
 *
 * Failure: until the end is published nothing has happened.  Space is taken before a record is
 * stored, so a full disk is met there, by -ENOSPC.  A fault while storing is -EIO for this call;
 * what it left behind the end is zeroed before the next append.
 */
#include "store.h"

#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "guard.h"
#include "os.h"

#define WRITEV_ENTRIES 32u   /* entries that one pwritev takes */
#define PREFETCH_SIZE  1024u /* of a record; behind it the processor sees where this leads */

int append_check_locked(struct walrus_topic *topic)
{
    if (atomic_load_explicit(&topic->removed, memory_order_relaxed))
        return -ENODEV;
    return atomic_load_explicit(&topic->error, memory_order_relaxed);
}

int append_allocate_locked(struct walrus_topic *topic, struct block *block, uint64_t upto,
                           uint64_t now_ns)
{
    if (upto <= block->alloc_end)
        return 0;
    /* A busy topic takes twice as much each time, a quiet one begins small again.  While it is busy
     * space is taken in longer steps than it is written with zeros. */
    if (now_ns - topic->chunk_time_ns < 1000000000u)
        topic->chunk_size = MIN(topic->chunk_size * 2, CHUNK_SIZE_MAX);
    else
        topic->chunk_size = CHUNK_SIZE_MIN;
    topic->chunk_time_ns = now_ns;
    uint64_t least = round_up(upto, FORMAT_PAGE_SIZE);
    /* Chunks are aligned in the file: so are the large pages that the cache makes of them. */
    uint64_t base = block_file_off(block), full = topic->store->super.block_size;
    uint64_t step = topic->chunk_size;
    if (step > CHUNK_SIZE_MIN)
        step = step < CHUNK_SIZE_MAX ? step * SPACE_STEP_CHUNKS : SPACE_STEP_MAX;
    uint64_t ahead = MAX(MIN(round_up(base + upto, topic->chunk_size) - base, full), least);
    uint64_t space = MAX(MIN(round_up(base + upto, step) - base, full), ahead);
    int r = block_allocate(topic, block, ahead, space);
    if ((r == -ENOSPC || r == -EDQUOT) && least < space)
        r = block_allocate(topic, block, least, least);
    return r;
}

static int file_sync(struct file *file)
{
    const struct durable_view *view = durable_begin(&file->durable);
    return durable_end(&file->durable, view, os_fdatasync(view->fd));
}

/*
 * Zeroes what lies behind the end, durably, before anything is stored there.
 * First what recovery noted of the block becomes durable: what is zeroed may have been the proof
 * that an earlier entry, since damaged, was there.
 */
int append_trim(struct walrus_topic *topic, struct block *block)
{
    uint32_t end = atomic_load_explicit(&block->end, memory_order_relaxed);
    uint64_t base = block_file_off(block), page_end = round_up(end, FORMAT_PAGE_SIZE);
    uint32_t block_size = topic->store->super.block_size;
    int r = file_sync(block->file);
    if (r == 0 && page_end > end)
        r = os_zero(block->file->fd, base + end, page_end - end);
    if (r == 0 && page_end < block_size) {
        r = os_punch(block->file->fd, base + page_end, block_size - page_end);
        if (r == -EOPNOTSUPP)
            r = os_zero(block->file->fd, base + page_end, block_size - page_end);
    }
    if (r == 0)
        r = file_sync(block->file);
    if (r < 0)
        return r;
    block->trim = false;
    atomic_fetch_sub(&topic->disk_bytes, block->space_end - page_end);
    block->space_end = block->alloc_end = (uint32_t)page_end;
    return 0;
}

/*
 * Hooks a block in behind the newest; nothing goes into that one any more.  Under LOCK_APPEND.
 * `tail`: the block is where the next number goes, from its start on.  That is published in the
 * same step, so that the tail block always is one that reclaim leaves alone: the newest, or, while
 * the blocks of one unit are hooked in, the first of them, whose entries nobody can have consumed.
 */
void append_link_locked(struct walrus_topic *topic, struct block *block, bool tail)
{
    lock_acquire(&topic->blocks_lock);
    struct block *before =
        list_empty(&topic->blocks) ? NULL : LIST_ENTRY(topic->blocks.prev, struct block, node);
    if (!before)
        atomic_store(&topic->oldest_end_seq, UINT64_MAX);
    else if (topic->blocks.next == &before->node)
        atomic_store(&topic->oldest_end_seq, block_end_seq(before));
    list_push_back(&topic->blocks, &block->node);
    topic->block_seq_next = block->block_seq + 1;
    if (tail) {
        struct tail_snap now = topic_tail(topic);
        topic_tail_publish(topic, now.seq, now.bytes, block, 0);
    }
    if (before)
        atomic_store_explicit(&before->next, block, memory_order_release);
    lock_release(&topic->blocks_lock);
    topic->roll = false;
}

/*
 * Before the topic goes on in another block: what recovery dropped from the tail must not come back
 * and be taken for what comes next.  Where entries were lost (`roll`) it stays: it may be the proof
 * that what follows the loss was durable.
 */
int append_leave_locked(struct walrus_topic *topic)
{
    struct tail_snap tail = topic_tail(topic);
    return tail.block && tail.block->trim && !topic->roll ? append_trim(topic, tail.block) : 0;
}

/*
 * Enters a new block in the table, not durably, but for the topic's first one: if the entry of a
 * later one reached the disk and that one's did not, recovery could not tell it from a block that
 * was consumed and given back, and would take up the log behind a gap.  Nobody else knows the block
 * yet, and it happens once in the life of a topic, so the sync under LOCK_APPEND is no matter.
 */
int append_enter_locked(struct block *block)
{
    int r = block_table_activate(block);
    if (r == 0 && block->block_seq == 0)
        r = block_table_settle(block->file, &block, 1);
    return r;
}

int append_roll_locked(struct walrus_topic *topic, uint32_t want)
{
    struct tail_snap tail = topic_tail(topic);
    struct block *block;
    int r = append_leave_locked(topic);
    if (r == 0)
        r = space_take(topic->store, &block);
    if (r < 0)
        return r;
    block->topic_id = topic->id;
    block->block_seq = topic->block_seq_next;
    block->first_seq = tail.seq;
    block->first_byte = tail.bytes;
    if (want)
        r = append_allocate_locked(topic, block, want, realtime_ns());
    if (r == 0)
        r = append_enter_locked(block);
    if (r < 0) {
        atomic_fetch_sub(&topic->disk_bytes, block->space_end);
        space_free(topic->store, block);
        return r;
    }
    append_link_locked(topic, block, true);
    if (tail.block)
        syncer_mark(topic, SYNC_FULL);
    return 0;
}

/* Makes sure that `size` bytes fit behind the tail, on disk too. */
static int append_reserve_locked(struct walrus_topic *topic, uint64_t size, uint64_t now_ns)
{
    struct tail_snap tail = topic_tail(topic);
    if (!tail.block || topic->roll || tail.off + size > topic->store->super.block_size)
        return append_roll_locked(topic, (uint32_t)size);
    if (tail.off + size <= tail.block->alloc_end && !tail.block->trim)
        return 0;
    if (tail.block->trim) {
        int r = append_trim(topic, tail.block);
        if (r < 0)
            return r;
    }
    return append_allocate_locked(topic, tail.block, tail.off + size, now_ns);
}

uint32_t append_undurable(const struct walrus_topic *topic, uint64_t seq)
{
    uint64_t durable = atomic_load_explicit(&topic->durable_seq, memory_order_relaxed);
    return seq <= durable ? 0 : (uint32_t)MIN(seq - durable, UINT32_MAX);
}

/* What one append carries from step to step. */
struct append {
    struct walrus_topic *topic;
    const struct iovec *entries;
    size_t count;
    const uint64_t *time_ns;
    uint64_t now_ns;
    uint32_t first_crc; /* of the data of the first entry */
    struct block *block;
    uint32_t off;     /* where the next record goes */
    uint64_t seq;     /* its number */
    uint64_t bytes;   /* payload bytes so far */
    uint64_t last_ns; /* latest time so far */
};

static void append_header(struct append *a, size_t i, struct format_record *ret_header)
{
    struct record_info info = {
        .flags = i + 1 < a->count ? FORMAT_MORE : 0,
        .size = (uint32_t)a->entries[i].iov_len,
        .total = (uint32_t)a->entries[i].iov_len,
        .seq = a->seq,
        .time_ns = a->time_ns && a->time_ns[i] ? a->time_ns[i] : a->now_ns,
        .undurable = append_undurable(a->topic, a->seq),
        .data_crc =
            i == 0 ? a->first_crc : crc32c(0, a->entries[i].iov_base, a->entries[i].iov_len),
    };
    format_record_encode(ret_header, &info, a->block->seed, a->off);
    a->off += (uint32_t)format_record_extent(info.size);
    a->seq++;
    a->bytes += info.size;
    a->last_ns = MAX(a->last_ns, info.time_ns);
}

static int append_store(struct append *a)
{
    for (size_t i = 0; i < a->count; i++) {
        struct format_record header;
        uint8_t *to = a->block->base + a->off;
        append_header(a, i, &header);
        int r =
            guard_store(to, &header, sizeof(header), a->entries[i].iov_base, a->entries[i].iov_len);
        if (r < 0)
            return r;
    }
    return 0;
}

static int append_write(struct append *a)
{
    static const uint8_t zeros[FORMAT_RECORD_ALIGN];
    struct format_record headers[WRITEV_ENTRIES];
    struct iovec iov[WRITEV_ENTRIES * 3];
    for (size_t i = 0; i < a->count;) {
        uint64_t off = block_file_off(a->block) + a->off;
        int n = 0;
        for (size_t k = 0; k < WRITEV_ENTRIES && i < a->count; k++, i++) {
            size_t size = a->entries[i].iov_len;
            append_header(a, i, &headers[k]);
            iov[n++] = (struct iovec){&headers[k], sizeof(headers[k])};
            iov[n++] = a->entries[i];
            iov[n++] = (struct iovec){(void *)(uintptr_t)zeros,
                                      format_record_extent(size) - FORMAT_RECORD_SIZE - size};
        }
        int r = os_writev(a->block->file->fd, iov, n, off, false);
        if (r < 0)
            return r;
    }
    return 0;
}

static void append_begin(struct append *a, const struct tail_snap *tail)
{
    a->block = tail->block;
    a->off = tail->off;
    a->seq = tail->seq;
    a->bytes = 0;
    a->last_ns = 0;
}

static int append_put(struct append *a, const struct tail_snap *tail, bool durable)
{
    append_begin(a, tail);
    int r = durable ? append_write(a) : append_store(a);
    if (r == -EIO && !durable && block_may_write(tail->block)) {
        append_begin(a, tail);
        r = append_write(a);
    }
    return r;
}

/* Stores the records and publishes them.  Room is there. */
static int append_commit_locked(struct append *a, bool durable)
{
    struct walrus_topic *topic = a->topic;
    struct tail_snap tail = topic_tail(topic);
    int r = append_put(a, &tail, durable);
    if (r < 0) {
        /* Records behind the first may be whole, and would follow upon a shorter one that comes
         * here next. */
        tail.block->trim = true;
        return r;
    }
    struct block *block = a->block;
    block->count += (uint32_t)a->count;
    block->bytes += a->bytes;
    block->last_time_ns = MAX(block->last_time_ns, a->last_ns);
    atomic_store_explicit(&block->end, a->off, memory_order_release);
    atomic_store_explicit(&topic->last_time_ns, a->last_ns, memory_order_relaxed);
    topic_tail_publish(topic, a->seq, tail.bytes + a->bytes, block, a->off);
    return 0;
}

int append_done(struct walrus_topic *topic, uint64_t end_seq, bool durable)
{
    if (atomic_load_explicit(&topic->watch_count, memory_order_seq_cst))
        topic_fire(topic);
    /* It is in the log by now: an error that says that nothing changed would be a lie. */
    if (durable)
        return topic_sync_to(topic, end_seq, false) < 0 ? -EIO : 0;
    syncer_mark(topic, SYNC_SCHEDULED);
    return 0;
}

/* Bytes of all the records, or why the batch cannot be. */
static int append_measure(const struct iovec *entries, size_t count, uint64_t *ret_size)
{
    if (count > WALRUS_BATCH_COUNT_MAX)
        return -EMSGSIZE;
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++) {
        if (entries[i].iov_len > WALRUS_ENTRY_SIZE_MAX)
            return -EMSGSIZE;
        size += format_record_extent(entries[i].iov_len);
    }
    *ret_size = size;
    return 0;
}

/*
 * Where the record will go is in no cache when many topics take turns.  It is asked for before the
 * clock is read and the checksum taken, and comes meanwhile: under the lock, whose release waits for
 * all stores, each line of it would be waited for.
 */
static void append_prefetch(const struct walrus_topic *topic, uint64_t size)
{
    const uint8_t *at = atomic_load_explicit(&topic->tail.at, memory_order_relaxed);
    for (uint64_t off = 0; at && off < MIN(size, PREFETCH_SIZE); off += CACHE_LINE_SIZE)
        __builtin_prefetch(at + off, 1);
}

int walrus_topic_append(struct walrus_topic *topic, const struct iovec *entries, size_t count,
                        const struct walrus_append_options *options, uint64_t *ret_seq)
{
    uint64_t size;
    int r = append_measure(entries, count, &size);
    if (r < 0)
        return r;
    append_prefetch(topic, size);
    struct walrus *store = topic->store;
    if (store->read_only)
        return -EROFS;
    bool durable = (options && options->durable) || store->options.fsync == WALRUS_FSYNC_EACH;
    struct append a = {.topic = topic,
                       .entries = entries,
                       .count = count,
                       .time_ns = options ? options->time_ns : NULL,
                       .now_ns = realtime_ns()};
    uint64_t first;
    if (count > 0 && size > store->super.block_size) {
        r = stage_append(topic, entries, count, a.time_ns, a.now_ns, &first);
    } else {
        if (count > 0) /* before the lock: most appends have one entry */
            a.first_crc = crc32c(0, entries[0].iov_base, entries[0].iov_len);
        lock_acquire(&topic->append_lock);
        r = append_check_locked(topic);
        if (r == 0 && count > 0)
            r = append_reserve_locked(topic, size, a.now_ns);
        if (r == 0 && count > 0)
            r = append_commit_locked(&a, durable);
        first = (count ? a.seq : topic_tail(topic).seq) - count;
        lock_release(&topic->append_lock);
        if (r == 0 && count == 0)
            first += count;
    }
    if (r == -ENOSPC || r == -EDQUOT) {
        atomic_store(&topic->squeezed, true);
        keeper_mark(topic);
    }
    if (r < 0)
        return r;
    if (ret_seq)
        *ret_seq = first;
    return count ? append_done(topic, first + count, durable) : 0;
}

bool walrus_fsync_each(struct walrus *store)
{
    return store->options.fsync == WALRUS_FSYNC_EACH;
}
