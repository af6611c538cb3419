/* SPDX-License-Identifier: MIT */
/*
 * stage.c - what does not fit in one block: large entries, large batches, blobs.
 *
 * Serves append.c and the public interface; uses space and append.
 *
 * The data goes into blocks that belong to nobody else yet, without any lock of the topic, so
 * writers of the topic go on meanwhile.  A *place* remembers each record.  The commit, under
 * LOCK_APPEND, gives the numbers, stores the headers and hooks the blocks in behind the tail in one
 * step.  All records of the unit but the last carry MORE, so after a crash it is there as a whole
 * or not at all.  A blob of up to one piece (BLOB_PIECE_SIZE) is an ordinary append.
 *
 * An entry larger than a block begins at offset 0 of a block and fills blocks with PART records.
 *
 * Failure: blocks of a stage that is not committed go back; their table entry was never written, so
 * after a crash they are free as they were.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "os.h"

#define BLOB_PIECE_SIZE 1048576u

/* A record whose data is stored and whose header is not. */
struct place {
    uint32_t block; /* which of the stage's */
    uint32_t off;
    struct record_info info; /* seq counts from 0 until the commit */
};

struct stage {
    struct walrus_topic *topic;
    struct block **blocks;
    uint32_t *ends; /* bytes of records in each */
    size_t block_count, block_room;
    struct place *places;
    size_t place_count, place_room;
    uint64_t entry_count; /* entries begun */
    uint64_t bytes;
};

struct walrus_blob {
    struct stage stage;
    size_t size;
    uint8_t *piece; /* gathered until a piece is full */
    size_t piece_used;
    uint64_t time_ns;
    bool failed;
};

static int grow(void **array, size_t *room, size_t count, size_t item_size)
{
    if (count < *room)
        return 0;
    size_t next = *room ? *room * 2 : 16;
    void *bigger = realloc(*array, next * item_size);
    if (!bigger)
        return -ENOMEM;
    *array = bigger;
    *room = next;
    return 0;
}

static void stage_fini(struct stage *stage)
{
    for (size_t i = 0; i < stage->block_count; i++) {
        struct block *block = stage->blocks[i];
        atomic_fetch_sub(&stage->topic->disk_bytes, block->space_end);
        space_free(stage->topic->store, block);
    }
    free(stage->blocks);
    free(stage->ends);
    free(stage->places);
    memset(stage, 0, sizeof(*stage));
}

static int stage_block(struct stage *stage)
{
    size_t room = stage->block_room;
    int r = grow((void **)&stage->blocks, &stage->block_room, stage->block_count,
                 sizeof(stage->blocks[0]));
    if (r == 0)
        r = grow((void **)&stage->ends, &room, stage->block_count, sizeof(stage->ends[0]));
    if (r == 0)
        r = space_take(stage->topic->store, &stage->blocks[stage->block_count]);
    if (r < 0)
        return r;
    stage->ends[stage->block_count++] = 0;
    return 0;
}

/* Disk space up to `upto` in the last block.  The chunk policy of append.c needs LOCK_APPEND; here
 * the sizes are known, so what is needed is taken. */
static int stage_allocate(struct stage *stage, uint64_t upto)
{
    struct block *block = stage->blocks[stage->block_count - 1];
    uint64_t end = round_up(upto, FORMAT_PAGE_SIZE);
    return end <= block->alloc_end ? 0 : block_allocate(stage->topic, block, end, end);
}

static int stage_place(struct stage *stage, const struct record_info *info,
                       struct place **ret_place)
{
    int r = grow((void **)&stage->places, &stage->place_room, stage->place_count,
                 sizeof(stage->places[0]));
    if (r < 0)
        return r;
    struct place *place = &stage->places[stage->place_count++];
    *place = (struct place){.block = (uint32_t)stage->block_count - 1,
                            .off = stage->ends[stage->block_count - 1],
                            .info = *info};
    *ret_place = place;
    return 0;
}

/* Adds bytes to the record begun last. */
static int stage_fill(struct stage *stage, struct place *place, const void *data, uint32_t size)
{
    struct block *block = stage->blocks[place->block];
    uint32_t at = place->off + FORMAT_RECORD_SIZE + place->info.size;
    int r = stage_allocate(stage, round_up((uint64_t)at + size, FORMAT_RECORD_ALIGN));
    if (r == 0)
        r = block_store(block, at, data, size);
    if (r < 0)
        return r;
    place->info.data_crc = crc32c(place->info.data_crc, data, size);
    place->info.size += size;
    stage->ends[place->block] = place->off + (uint32_t)format_record_extent(place->info.size);
    return 0;
}

/* Begins an entry.  `fresh`: at the start of a block. */
static int stage_begin(struct stage *stage, uint64_t time_ns, uint64_t size, bool fresh,
                       struct place **ret_place)
{
    uint32_t block_size = stage->topic->store->super.block_size;
    int r = 0;
    if (fresh || !stage->block_count ||
        stage->ends[stage->block_count - 1] + format_record_extent(size) > block_size)
        r = stage_block(stage);
    struct record_info info = {.seq = stage->entry_count, .time_ns = time_ns};
    if (r == 0)
        r = stage_place(stage, &info, ret_place);
    if (r == 0) /* also a record without data has its header's space */
        r = stage_fill(stage, *ret_place, "", 0);
    if (r == 0)
        stage->entry_count++;
    return r;
}

/* Adds bytes to the entry begun last, over as many blocks as they take. */
static int stage_put(struct stage *stage, const uint8_t *data, uint64_t size)
{
    uint32_t block_size = stage->topic->store->super.block_size;
    while (size > 0) {
        struct place *place = &stage->places[stage->place_count - 1];
        uint32_t room = block_size - place->off - FORMAT_RECORD_SIZE - place->info.size;
        if (room == 0) {
            struct record_info next = {
                .flags = FORMAT_CONT, .seq = place->info.seq, .time_ns = place->info.time_ns};
            place->info.flags |= FORMAT_PART;
            int r = stage_block(stage);
            if (r == 0)
                r = stage_place(stage, &next, &place);
            if (r < 0)
                return r;
            room = block_size - FORMAT_RECORD_SIZE;
        }
        uint32_t piece = (uint32_t)MIN(room, size);
        int r = stage_fill(stage, place, data, piece);
        if (r < 0)
            return r;
        data += piece;
        size -= piece;
        stage->bytes += piece;
    }
    return 0;
}

/* Tells every record of each entry how large the whole entry is. */
static void stage_totals(struct stage *stage)
{
    for (size_t i = 0; i < stage->place_count;) {
        uint32_t total = 0;
        size_t end = i;
        do
            total += stage->places[end++].info.size;
        while (end < stage->place_count && stage->places[end].info.flags & FORMAT_CONT);
        for (; i < end; i++)
            stage->places[i].info.total = total;
    }
}

/* Stores the headers with their true numbers.  Under LOCK_APPEND. */
static int stage_headers_locked(struct stage *stage, uint64_t seq)
{
    uint32_t undurable = append_undurable(stage->topic, seq);
    for (size_t i = 0; i < stage->place_count; i++) {
        struct place *place = &stage->places[i];
        struct block *block = stage->blocks[place->block];
        struct record_info info = place->info;
        info.seq += seq;
        info.undurable = undurable ? (uint32_t)MIN(undurable + place->info.seq, UINT32_MAX)
                                   : (uint32_t)MIN(place->info.seq, UINT32_MAX);
        if (i + 1 < stage->place_count)
            info.flags |= FORMAT_MORE;
        struct format_record header;
        format_record_encode(&header, &info, block->seed, place->off);
        int r = block_store(block, place->off, &header, sizeof(header));
        if (r < 0)
            return r;
    }
    return 0;
}

/* What the block table and the walk need to know of each block. */
static void stage_describe_locked(struct stage *stage, const struct tail_snap *tail)
{
    uint64_t seq = tail->seq, bytes = tail->bytes;
    size_t p = 0;
    for (size_t i = 0; i < stage->block_count; i++) {
        struct block *block = stage->blocks[i];
        block->topic_id = stage->topic->id;
        block->block_seq = stage->topic->block_seq_next + i;
        block->first_seq = seq;
        block->first_byte = bytes;
        atomic_store(&block->end, stage->ends[i]);
        for (; p < stage->place_count && stage->places[p].block == i; p++) {
            const struct record_info *info = &stage->places[p].info;
            block->last_time_ns = MAX(block->last_time_ns, info->time_ns);
            if (info->flags & FORMAT_CONT)
                continue;
            block->count++;
            block->bytes += info->total;
        }
        seq += block->count;
        bytes += block->bytes;
    }
}

static int stage_commit_locked(struct stage *stage, uint64_t *ret_seq)
{
    struct walrus_topic *topic = stage->topic;
    struct tail_snap tail = topic_tail(topic);
    int r = append_leave_locked(topic);
    if (r < 0)
        return r;
    stage_totals(stage);
    stage_describe_locked(stage, &tail);
    r = stage_headers_locked(stage, tail.seq);
    for (size_t i = 0; r == 0 && i < stage->block_count; i++)
        r = append_enter_locked(stage->blocks[i]);
    if (r < 0)
        return r;
    uint64_t last_ns = 0;
    for (size_t i = 0; i < stage->block_count; i++) {
        append_link_locked(topic, stage->blocks[i], i == 0);
        last_ns = MAX(last_ns, stage->blocks[i]->last_time_ns);
    }
    struct block *last = stage->blocks[stage->block_count - 1];
    atomic_store_explicit(&topic->last_time_ns, last_ns, memory_order_relaxed);
    topic_tail_publish(topic, tail.seq + stage->entry_count, tail.bytes + stage->bytes, last,
                       stage->ends[stage->block_count - 1]);
    stage->block_count = 0; /* they are the topic's now */
    *ret_seq = tail.seq;
    return 0;
}

static int stage_commit(struct stage *stage, uint64_t *ret_seq)
{
    struct walrus_topic *topic = stage->topic;
    lock_acquire(&topic->append_lock);
    int r = append_check_locked(topic);
    if (r == 0)
        r = stage_commit_locked(stage, ret_seq);
    lock_release(&topic->append_lock);
    if (r == 0)
        syncer_mark(topic, SYNC_FULL);
    return r;
}

int stage_append(struct walrus_topic *topic, const struct iovec *entries, size_t count,
                 const uint64_t *time_ns, uint64_t now_ns, uint64_t *ret_seq)
{
    struct stage stage = {.topic = topic};
    uint64_t room = topic->store->super.block_size;
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct place *place;
        uint64_t size = entries[i].iov_len;
        r = stage_begin(&stage, time_ns && time_ns[i] ? time_ns[i] : now_ns, size,
                        i == 0 || format_record_extent(size) > room, &place);
        if (r == 0)
            r = stage_put(&stage, entries[i].iov_base, size);
    }
    if (r == 0)
        r = stage_commit(&stage, ret_seq);
    stage_fini(&stage);
    return r;
}

/* ------------------------------------------------------------------------------------ blobs -- */

int walrus_blob_open(struct walrus_topic *topic, struct walrus_blob **ret_blob)
{
    if (topic->store->read_only)
        return -EROFS;
    if (atomic_load(&topic->removed))
        return -ENODEV;
    struct walrus_blob *blob = calloc(1, sizeof(*blob));
    if (!blob)
        return -ENOMEM;
    blob->stage.topic = walrus_topic_ref(topic);
    blob->time_ns = realtime_ns();
    *ret_blob = blob;
    return 0;
}

/* Moves what was gathered to its place on disk. */
static int blob_spill(struct walrus_blob *blob)
{
    int r = 0;
    if (!blob->stage.entry_count) {
        struct place *place;
        r = stage_begin(&blob->stage, blob->time_ns, 0, true, &place);
    }
    if (r == 0)
        r = stage_put(&blob->stage, blob->piece, blob->piece_used);
    blob->piece_used = 0;
    return r;
}

int walrus_blob_write(struct walrus_blob *blob, const void *data, size_t size)
{
    struct walrus_topic *topic = blob->stage.topic;
    if (blob->failed)
        return -EIO;
    if (size > WALRUS_ENTRY_SIZE_MAX - blob->size)
        return -EFBIG;
    int r = atomic_load(&topic->removed) ? -ENODEV : atomic_load(&topic->error);
    const uint8_t *from = data;
    while (r == 0 && size > 0) {
        if (!blob->piece && !(blob->piece = malloc(BLOB_PIECE_SIZE)))
            r = -ENOMEM;
        size_t piece = MIN(size, BLOB_PIECE_SIZE - blob->piece_used);
        if (r == 0 && piece == 0) {
            r = blob_spill(blob);
        } else if (r == 0) {
            memcpy(blob->piece + blob->piece_used, from, piece);
            blob->piece_used += piece;
            blob->size += piece;
            from += piece;
            size -= piece;
        }
    }
    blob->failed = r < 0;
    return r;
}

size_t walrus_blob_size(const struct walrus_blob *blob)
{
    return blob->size;
}

int walrus_blob_commit(struct walrus_blob *blob, bool durable, uint64_t *ret_seq)
{
    struct walrus_topic *topic = blob->stage.topic;
    struct walrus *store = topic->store;
    uint64_t seq = 0;
    int r = blob->failed ? -EIO : 0;
    if (r == 0 && !blob->stage.entry_count) {
        struct iovec entry = {blob->piece, blob->piece_used};
        struct walrus_append_options options = {.durable = durable};
        r = walrus_topic_append(topic, &entry, 1, &options, &seq);
    } else if (r == 0) {
        r = blob_spill(blob);
        if (r == 0)
            r = stage_commit(&blob->stage, &seq);
        if (r == 0)
            r = append_done(topic, seq + 1, durable || store->options.fsync == WALRUS_FSYNC_EACH);
    }
    if (r == 0 && ret_seq)
        *ret_seq = seq;
    walrus_blob_abort(blob);
    return r;
}

void walrus_blob_abort(struct walrus_blob *blob)
{
    if (!blob)
        return;
    struct walrus_topic *topic = blob->stage.topic;
    stage_fini(&blob->stage);
    free(blob->piece);
    free(blob);
    walrus_topic_unref(topic);
}
