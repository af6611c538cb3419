/* SPDX-License-Identifier: MIT */
/*
 * order.c - the rules of order.h, looked up in what is durable and what is not at each change.
 */
#include "order.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "format.h"
#include "rig.h"

enum { BLOCK = RIG_BLOCK_SIZE, BLOCKS_MAX = 512, GROUPS_MAX = 256, TOPICS_MAX = 256 };

/* A log file as both images have it. */
struct log_file {
    const struct cut_file *file;
    uint32_t number;
    uint8_t salt[16];
};

/* A block in use, by the better of its two entries. */
struct used_block {
    struct log_file *in;
    uint32_t idx;
    struct block_info info;
};

/* What the journal says, up to where it is durable. */
struct journal {
    uint64_t topics[TOPICS_MAX];
    unsigned topic_count;
    struct {
        uint64_t topic, group;
        uint32_t slot;
    } groups[GROUPS_MAX];
    unsigned group_count;
};

/* All that the rules look at, of one moment. */
struct view {
    struct order *order;
    const struct cut_disk *disk;
    uint8_t uuid[16];
    struct log_file files[SIM_NAMES];
    unsigned file_count;
    struct used_block now[BLOCKS_MAX], durable[BLOCKS_MAX];
    unsigned now_count, durable_count;
};

static void rule(struct order *order, bool holds, int number, const char *text)
{
    order->checks++;
    if (holds)
        return;
    fprintf(stderr, "order: rule %d broken: %s\n", number, text);
    abort();
}

static const struct cut_file *file_named(const struct sim_names *names, const struct cut_disk *disk,
                                         const char *text)
{
    for (unsigned i = 0; i < names->count; i++)
        if (strcmp(names->at[i].text, text) == 0)
            return disk->files[names->at[i].file];
    return NULL;
}

static const char *name_of(const struct sim_names *names, unsigned file)
{
    for (unsigned i = 0; i < names->count; i++)
        if (names->at[i].file == file)
            return names->at[i].text;
    return NULL;
}

/* "wal_<number>.log", and not its temporary name. */
static bool log_name(const char *name, uint32_t *ret_number)
{
    int end = 0;

    return name != NULL && sscanf(name, "wal_%u.log%n", ret_number, &end) == 1 && end > 0 &&
           name[end] == 0;
}

/* -------------------------------------------------------------------------------- the moment -- */

static int entry_decode(const struct view *view, const struct log_file *file, const uint8_t *data,
                        uint32_t copy, uint32_t idx, struct block_info *ret_info)
{
    uint32_t seed = format_seed_block(view->uuid, file->salt, file->number, idx, copy);
    int r = format_block_decode(data + FORMAT_TABLE_OFF(copy) + idx * sizeof(struct format_block),
                                sizeof(struct format_block), seed, BLOCK, ret_info);

    if (r != 0)
        memset(ret_info, 0, sizeof(*ret_info));
    return r;
}

/* The entry that counts; without one, zeros. */
static struct block_info entry_best(const struct view *view, const struct log_file *file,
                                    const uint8_t *data, uint32_t idx)
{
    struct block_info info[2];

    for (uint32_t copy = 0; copy < 2; copy++)
        (void)!entry_decode(view, file, data, copy, idx, &info[copy]);
    return info[1].generation > info[0].generation ? info[1] : info[0];
}

static void blocks_read(const struct view *view, struct log_file *file, const uint8_t *data,
                        struct used_block *blocks, unsigned *count)
{
    for (uint32_t idx = 0; FORMAT_FILE_META_SIZE + (idx + 1) * BLOCK <= file->file->size; idx++) {
        struct block_info info = entry_best(view, file, data, idx);
        if (info.state == FORMAT_FREE)
            continue;
        CHECK(*count < BLOCKS_MAX);
        blocks[(*count)++] = (struct used_block){.in = file, .idx = idx, .info = info};
    }
}

static bool uuid_read(const struct order *order, const struct cut_disk *disk, uint8_t uuid[16])
{
    const struct cut_file *super = file_named(&order->now, disk, "SUPER");
    struct super_info info;

    for (uint32_t copy = 0; super != NULL && copy < 2; copy++)
        if (format_super_decode(super->now + copy * FORMAT_PAGE_SIZE, FORMAT_PAGE_SIZE, &info) ==
            0) {
            memcpy(uuid, info.uuid, sizeof(info.uuid));
            return true;
        }
    return false;
}

static struct view *view_make(struct order *order, const struct cut_disk *disk)
{
    static struct view view;

    view = (struct view){.order = order, .disk = disk};
    CHECK(uuid_read(order, disk, view.uuid));
    for (unsigned i = 0; i < order->now.count; i++) {
        struct log_file *file = &view.files[view.file_count];
        struct file_info info;
        if (!log_name(order->now.at[i].text, &file->number))
            continue;
        file->file = disk->files[order->now.at[i].file];
        uint32_t seed = format_seed_file(view.uuid, file->number, 0);
        CHECK_INT(format_file_decode(file->file->now, FORMAT_PAGE_SIZE, seed, &info), 0);
        memcpy(file->salt, info.salt, sizeof(file->salt));
        view.file_count++;
        blocks_read(&view, file, file->file->now, view.now, &view.now_count);
        blocks_read(&view, file, file->file->durable, view.durable, &view.durable_count);
    }
    return &view;
}

static const uint8_t *journal_record(struct journal *journal, const uint8_t *at,
                                     const struct registry_change *change)
{
    unsigned *count = &journal->group_count;

    switch (change->kind) {
    case REGISTRY_TOPIC_REMOVED:
    case REGISTRY_TOPIC:
        for (unsigned i = 0; i < journal->topic_count; i++)
            if (journal->topics[i] == change->topic_id)
                journal->topics[i] = journal->topics[--journal->topic_count];
        CHECK(journal->topic_count < TOPICS_MAX);
        if (change->kind == REGISTRY_TOPIC)
            journal->topics[journal->topic_count++] = change->topic_id;
        break;
    case REGISTRY_GROUP_REMOVED:
    case REGISTRY_GROUP:
        for (unsigned i = 0; i < *count; i++)
            if (journal->groups[i].topic == change->topic_id &&
                journal->groups[i].group == change->group_id)
                journal->groups[i] = journal->groups[--*count];
        CHECK(*count < GROUPS_MAX);
        if (change->kind == REGISTRY_GROUP) {
            journal->groups[*count].topic = change->topic_id;
            journal->groups[*count].group = change->group_id;
            journal->groups[(*count)++].slot = change->slot;
        }
        break;
    default:
        break;
    }
    return at + format_regrec_extent(change);
}

/* Reads what is durable of topics.db. */
static struct journal *journal_read(const struct view *view)
{
    static struct journal journal;
    const struct cut_file *file = file_named(&view->disk->names, view->disk, "topics.db");
    uint8_t salt[16];
    uint64_t topic_id_next;

    memset(&journal, 0, sizeof(journal));
    if (file == NULL ||
        format_registry_decode(file->durable, FORMAT_PAGE_SIZE, format_seed_registry(view->uuid),
                               salt, &topic_id_next) != 0)
        return &journal;
    const uint8_t *at = file->durable + 2 * FORMAT_PAGE_SIZE, *end = file->durable + SIM_ROOM;
    const uint8_t *previous = NULL;
    for (;;) {
        struct registry_change change;
        bool more;
        size_t extent;
        uint32_t seed = format_seed_regrec(view->uuid, salt, (uint64_t)(at - file->durable));
        if (previous != NULL)
            seed = crc32c(seed, previous, sizeof(struct le32));
        if (format_regrec_decode(at, (size_t)(end - at), seed, &change, &more, &extent) != 0)
            return &journal;
        previous = more ? at : NULL;
        at = journal_record(&journal, at, &change);
    }
}

static bool journal_has_topic(const struct journal *journal, uint64_t topic)
{
    for (unsigned i = 0; i < journal->topic_count; i++)
        if (journal->topics[i] == topic)
            return true;
    return false;
}

/* ---------------------------------------------------------------------------------- records -- */

static const struct used_block *block_of(const struct used_block *blocks, unsigned count,
                                         uint64_t topic, uint64_t block_seq)
{
    for (unsigned i = 0; i < count; i++)
        if (blocks[i].info.topic_id == topic && blocks[i].info.block_seq == block_seq)
            return &blocks[i];
    return NULL;
}

/* What a walk over the records of a block has found. */
struct walked {
    uint32_t unit_end; /* where the last whole unit does end */
    uint64_t next;     /* the number behind the last entry that begins here */
    uint64_t tail;     /* the number behind the last whole unit */
};

/* Where the records of a block end that are durable, at most at `limit`. */
static uint32_t records_walk(const struct view *view, const struct used_block *block,
                             uint32_t limit, struct walked *walked)
{
    uint64_t base = FORMAT_FILE_META_SIZE + (uint64_t)block->idx * BLOCK;
    const uint8_t *durable = block->in->file->durable + base, *now = block->in->file->now + base;
    uint32_t seed = format_seed_record(view->uuid, block->in->salt, block->in->number, block->idx,
                                       block->info.epoch);
    uint32_t off = 0;

    while (off < limit) {
        struct record_info info;
        if (format_record_decode(durable + off, BLOCK - off, seed, off, &info) != 0)
            break;
        uint32_t extent = (uint32_t)format_record_extent(info.size);
        const uint8_t *data = durable + off + FORMAT_RECORD_SIZE;
        if (memcmp(durable + off, now + off, FORMAT_RECORD_SIZE + info.size) != 0 ||
            crc32c(0, data, info.size) != info.data_crc)
            break;
        off += extent;
        walked->next = info.seq + 1;
        if (info.flags & FORMAT_MORE)
            continue;
        walked->unit_end = off;
        if (!(info.flags & FORMAT_PART))
            walked->tail = info.seq + 1;
    }
    return off;
}

/* The number behind the last durable entry of a topic. */
static uint64_t durable_tail(const struct view *view, uint64_t topic)
{
    const struct used_block *first = NULL;

    for (unsigned i = 0; i < view->durable_count; i++)
        if (view->durable[i].info.topic_id == topic &&
            (first == NULL || view->durable[i].info.block_seq < first->info.block_seq))
            first = &view->durable[i];
    uint64_t begin = first != NULL ? first->info.first_seq : 0;
    struct walked walked = {.next = begin, .tail = begin};
    for (const struct used_block *block = first;
         block != NULL && block->info.first_seq == walked.next;) {
        (void)records_walk(view, block, BLOCK, &walked);
        block = block_of(view->durable, view->durable_count, topic, block->info.block_seq + 1);
    }
    return walked.tail;
}

/* ------------------------------------------------------------------------------ block entries -- */

static bool same_bytes(const struct cut_file *file, uint64_t off, uint64_t size)
{
    return memcmp(file->now + off, file->durable + off, size) == 0;
}

/* A first entry of a block. */
static void check_activation(struct view *view, const struct log_file *file, uint32_t idx,
                             const struct block_info *info)
{
    struct order *order = view->order;
    struct block_info now = entry_best(view, file, file->file->now, idx);
    struct block_info durable = entry_best(view, file, file->file->durable, idx);
    char name[SIM_NAME_SIZE];

    snprintf(name, sizeof(name), "wal_%04u.log", file->number);
    rule(order, file_named(&view->disk->names, view->disk, name) == file->file, 1,
         "the name of the log file is durable");
    rule(order,
         same_bytes(file->file, 0, FORMAT_PAGE_SIZE) &&
             same_bytes(file->file, FORMAT_HEADER_OFF(1), FORMAT_PAGE_SIZE),
         1, "the headers of the log file are durable");
    rule(order, file->file->durable_size == file->file->size, 1, "so is its length");
    rule(order, journal_has_topic(journal_read(view), info->topic_id), 2,
         "the topic's record is durable");
    rule(order, now.state == FORMAT_FREE && durable.state == FORMAT_FREE, 8,
         "a place is used again only when `free` is durable");
    if (info->block_seq > 0) {
        bool any = false;
        for (unsigned i = 0; i < view->durable_count; i++)
            any |= view->durable[i].info.topic_id == info->topic_id &&
                   view->durable[i].info.block_seq < info->block_seq;
        rule(order, any, 11, "the entry of an earlier block is durable");
    }
}

/* Says how much of the block is durable. */
static void check_mark(struct view *view, struct log_file *file, uint32_t idx,
                       const struct block_info *info)
{
    struct order *order = view->order;

    for (uint32_t copy = 0; copy < 2; copy++) {
        struct block_info durable;
        (void)!entry_decode(view, file, file->file->durable, copy, idx, &durable);
        rule(order, durable.epoch == info->epoch && durable.state != FORMAT_FREE, 5,
             "both copies of the active entry are durable");
    }
    struct used_block block = {.in = file, .idx = idx, .info = *info};
    struct walked walked = {0};
    uint32_t end = records_walk(view, &block, info->used, &walked);
    rule(order, end == info->used, 6, "all records below the mark are durable");
    /* in the middle of a unit that goes on in later blocks, a full block is sealed all the same */
    rule(order, walked.unit_end == info->used || info->state == FORMAT_SEALED, 6,
         "the mark is the end of a unit");
    for (unsigned i = 0; i < view->now_count; i++) {
        const struct used_block *other = &view->now[i];
        if (other->info.topic_id != info->topic_id || other->info.block_seq >= info->block_seq ||
            other->info.state == FORMAT_SEALED)
            continue;
        const struct used_block *next =
            block_of(view->now, view->now_count, info->topic_id, other->info.block_seq + 1);
        walked = (struct walked){.next = other->info.first_seq};
        (void)records_walk(view, other, BLOCK, &walked);
        rule(order, next == NULL || walked.next >= next->info.first_seq, 6,
             "so are those of the blocks before");
    }
}

static bool slot_durable(const struct view *view, uint32_t slot, struct offset_value *ret_value)
{
    const struct cut_file *file =
        file_named(&view->disk->names, view->disk, "read_offset_idx_index.db");
    uint64_t generation[2] = {0};
    struct offset_value value[2] = {{0}};

    for (uint32_t copy = 0; file != NULL && copy < 2; copy++) {
        uint64_t off = slot / 64 * 65536ull + copy * 32768ull + slot % 64 * 512ull;
        if (format_slot_decode(file->durable + off, 512, format_seed_slot(view->uuid, slot, copy),
                               &value[copy], &generation[copy]) != 0)
            generation[copy] = 0;
    }
    *ret_value = value[generation[1] > generation[0]];
    return generation[0] > 0 || generation[1] > 0;
}

static void check_free(struct view *view, struct log_file *file, uint32_t idx)
{
    struct order *order = view->order;
    struct block_info was = entry_best(view, file, file->file->now, idx);
    struct journal *journal = journal_read(view);

    if (was.state == FORMAT_FREE || !journal_has_topic(journal, was.topic_id))
        return; /* its removal is durable */
    if (order->recovery && was.first_seq >= durable_tail(view, was.topic_id))
        return; /* it lies behind the end */
    const struct used_block *next =
        block_of(view->now, view->now_count, was.topic_id, was.block_seq + 1);
    rule(order, next != NULL, 10, "the newest block of a topic stays");
    rule(order,
         block_of(view->durable, view->durable_count, was.topic_id, was.block_seq + 1) != NULL, 10,
         "the next block's entry is durable");
    for (unsigned i = 0; i < view->now_count; i++)
        rule(order,
             view->now[i].info.topic_id != was.topic_id ||
                 view->now[i].info.block_seq >= was.block_seq,
             8, "blocks go free in order");
    for (unsigned i = 0; i < journal->group_count; i++) {
        struct offset_value value;
        if (journal->groups[i].topic != was.topic_id)
            continue;
        bool stored = slot_durable(view, journal->groups[i].slot, &value) &&
                      value.topic_id == was.topic_id && value.group_id == journal->groups[i].group;
        /* a group made later begins at what was oldest then */
        rule(order, !stored || value.offset >= next->info.first_seq, 8,
             "the offsets behind the block are durable");
    }
}

static void check_entry(struct order *order, const struct cut_disk *disk,
                        const struct sim_event *event, const uint8_t *data)
{
    struct view *view = view_make(order, disk);
    struct log_file *file = NULL;
    uint32_t copy = event->off < FORMAT_TABLE_OFF(1) ? 0 : 1;
    uint32_t idx = (uint32_t)(event->off - FORMAT_TABLE_OFF(copy)) / sizeof(struct format_block);
    struct block_info info, durable;

    for (unsigned i = 0; i < view->file_count; i++)
        if (view->files[i].file == disk->files[event->file])
            file = &view->files[i];
    CHECK(file != NULL);
    uint32_t seed = format_seed_block(view->uuid, file->salt, file->number, idx, copy);
    rule(order, format_block_decode(data, event->size, seed, BLOCK, &info) == 0, 0,
         "an entry is valid");
    durable = entry_best(view, file, file->file->durable, idx);
    uint64_t other = FORMAT_TABLE_OFF(copy ^ 1u) + idx * sizeof(struct format_block);
    rule(order, same_bytes(file->file, other, sizeof(struct format_block)), 0,
         "the copy that is not written is durable");
    if (info.state == FORMAT_FREE)
        check_free(view, file, idx);
    else if (durable.epoch != info.epoch)
        check_activation(view, file, idx, &info);
    else if (info.used > durable.used || info.state != durable.state)
        check_mark(view, file, idx, &info);
}

/* --------------------------------------------------------------------------- the other files -- */

static void check_slot(struct order *order, const struct cut_disk *disk,
                       const struct sim_event *event, const uint8_t *data)
{
    struct view *view = view_make(order, disk);
    const struct cut_file *file = disk->files[event->file];
    uint32_t copy = event->off % 65536 >= 32768;
    uint32_t slot = (uint32_t)(event->off / 65536 * 64 + event->off % 32768 / 512);
    struct offset_value value, was;
    uint64_t generation;

    rule(order,
         format_slot_decode(data, event->size, format_seed_slot(view->uuid, slot, copy), &value,
                            &generation) == 0,
         0, "a slot is valid");
    rule(order, same_bytes(file, event->off ^ 32768u, 512), 0,
         "the copy that is not written is durable");
    if (value.topic_id == 0)
        return;
    bool known = slot_durable(view, slot, &was) && was.topic_id != 0;
    rule(order, !known || (was.topic_id == value.topic_id && was.group_id == value.group_id), 9,
         "a slot that changes hands was cleared");
    uint64_t end = value.range_count > 0 ? value.ranges[value.range_count - 1].end : value.offset;
    rule(order, durable_tail(view, value.topic_id) >= end, 7, "an offset lies in what is durable");
}

/* SUPER as it is on disk says that the store is closed. */
static bool durable_clean(const struct order *order, const struct cut_disk *disk)
{
    const struct cut_file *super = file_named(&order->now, disk, "SUPER");
    struct super_info info;
    bool clean = false;

    for (uint32_t copy = 0; super != NULL && copy < 2; copy++)
        if (format_super_decode(super->durable + copy * FORMAT_PAGE_SIZE, FORMAT_PAGE_SIZE,
                                &info) == 0)
            clean |= info.clean == FORMAT_CLOSED;
    return clean;
}

static void check_super(struct order *order, const struct cut_disk *disk,
                        const struct sim_event *event, const uint8_t *data)
{
    struct super_info info;

    rule(order, format_super_decode(data, event->size, &info) == 0, 0, "SUPER is valid");
    if (info.clean != FORMAT_CLOSED) { /* what follows an opening that was marked is its end */
        order->dir_synced = order->dir_synced && order->opening && info.clean == FORMAT_IN_USE;
        order->opening = order->opening || info.clean == FORMAT_OPENING;
        return;
    }
    order->opening = false;
    rule(order, disk->change_count == 0, 0, "SUPER is clean when all names are durable");
    for (unsigned i = 0; i < disk->file_count; i++) {
        const char *name = name_of(&order->now, i);
        if (name != NULL && strcmp(name, "LOCK") != 0 && disk->files[i] != NULL)
            rule(order,
                 disk->files[i]->pending_count == 0 ||
                     memcmp(disk->files[i]->now, disk->files[i]->durable, SIM_ROOM) == 0,
                 0, "SUPER is clean when all files are durable");
    }
}

static void check_write(struct order *order, const struct cut_disk *disk, const struct sim_log *log,
                        const struct sim_event *event)
{
    const char *name = name_of(&order->now, event->file);
    const uint8_t *data = log->bytes + event->data;
    uint32_t number;

    if (name == NULL || strstr(name, ".tmp") != NULL || strcmp(name, "LOCK") == 0)
        return;
    if (strcmp(name, "SUPER") == 0) {
        check_super(order, disk, event, data);
        return;
    }
    rule(order, !durable_clean(order, disk), 0, "a store that says it is closed is not changed");
    if (log_name(name, &number)) {
        rule(order, order->dir_synced, 13, "the directory was synced since the store was opened");
        if (event->off < FORMAT_FILE_META_SIZE && event->size == sizeof(struct format_block))
            check_entry(order, disk, event, data);
    } else if (strcmp(name, "read_offset_idx_index.db") == 0 && event->size == 512) {
        check_slot(order, disk, event, data);
    }
}

void order_init(struct order *order)
{
    memset(order, 0, sizeof(*order));
    order->now = *sim_directory();
}

static void names_drop(struct sim_names *names, const char *text)
{
    for (unsigned i = 0; i < names->count; i++)
        if (strcmp(names->at[i].text, text) == 0)
            names->at[i] = names->at[--names->count];
}

static void names_add(struct sim_names *names, const char *text, unsigned file)
{
    names_drop(names, text);
    strcpy(names->at[names->count].text, text);
    names->at[names->count++].file = file;
}

void order_check(struct order *order, const struct cut_disk *disk, const struct sim_log *log,
                 const struct sim_event *event)
{
    switch (event->kind) {
    case SIM_WRITE:
        check_write(order, disk, log, event);
        break;
    case SIM_STORE:
        rule(order, !event->outside, 3, "space is allocated before it is stored to");
        rule(order, !durable_clean(order, disk), 0,
             "a store that says it is closed is not changed");
        break;
    case SIM_NAME:
        names_add(&order->now, event->name, event->file);
        break;
    case SIM_RENAME:
        names_drop(&order->now, event->name);
        names_add(&order->now, event->to, event->file);
        break;
    case SIM_UNLINK:
        names_drop(&order->now, event->name);
        break;
    case SIM_SYNC_DIR:
        order->dir_synced = true;
        break;
    default:
        break;
    }
}
