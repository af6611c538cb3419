/* SPDX-License-Identifier: MIT */
/*
 * recover.c - from the files of a store to its topics, when it is opened.
 *
 * Serves walrus.c; uses space, topic, group, registry and offsets.  Runs before the store has
 * threads and takes locks only where functions it calls want them.
 *
 * 1. the registry gives topics and groups; 2. of each log file the metadata is read, and gives
 * blocks; 3. the blocks of each topic are put in order, and where the store was not closed cleanly
 * recover_topic (recover_walk.c) walks the active ones; 4. the groups get their offsets.
 *
 * After an unclean end the page cache may hold what the disk does not (a process that died; a sync
 * that failed): before anything is changed, what was read and is believed is written once more
 * and synced.  So nothing counts as durable only because it could be read.
 *
 * Failure: damage is reported and worked around; only what makes the whole store unreadable, and
 * errors of the system, end the opening.
 */
#include "recover.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "os.h"

#define STRANGERS_REPORTED 10 /* unknown files named one by one */

/* ------------------------------------------------------------------------------ directory -- */

bool recover_log_number(const char *name, uint32_t *ret_number, bool *ret_tmp)
{
    char *end;
    if (strncmp(name, "wal_", 4) != 0 || !isdigit((unsigned char)name[4]))
        return false;
    errno = 0;
    unsigned long number = strtoul(name + 4, &end, 10);
    *ret_tmp = strcmp(end, ".log.tmp") == 0;
    if (errno || number == 0 || number > UINT32_MAX - 1 || (!*ret_tmp && strcmp(end, ".log") != 0))
        return false;
    char again[64];
    snprintf(again, sizeof(again), "wal_%04lu.log%s", number, *ret_tmp ? ".tmp" : "");
    *ret_number = (uint32_t)number;
    return strcmp(again, name) == 0;
}

static bool known_name(const char *name)
{
    static const char *const names[] = {
        ".", "..", "LOCK", "SUPER", "topics.db", "read_offset_idx_index.db", "lost+found"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool known_tmp(const char *name)
{
    return strcmp(name, "SUPER.tmp") == 0 || strcmp(name, "topics.db.tmp") == 0 ||
           strcmp(name, "read_offset_idx_index.db.tmp") == 0;
}

static int number_compare(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static int numbers_add(struct recovery *rec, uint32_t number)
{
    if (rec->number_count == rec->number_room) {
        size_t room = rec->number_room ? rec->number_room * 2 : 64;
        uint32_t *bigger = realloc(rec->numbers, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        rec->numbers = bigger;
        rec->number_room = room;
    }
    rec->numbers[rec->number_count++] = number;
    return 0;
}

static int list_name(void *arg, const char *name, int type)
{
    struct recovery *rec = arg;
    struct walrus *store = rec->store;
    uint32_t number;
    bool tmp = false;
    if (recover_log_number(name, &number, &tmp) && !tmp)
        return numbers_add(rec, number);
    if (tmp || known_tmp(name)) {
        int r = store->read_only ? 0 : os_unlink(store->dirfd, name);
        if (r < 0)
            report(&store->reporter, WALRUS_WARNING, r, NULL, "%s: cannot be removed", name);
        return 0;
    }
    /* What repair keeps, and other hidden names, are of no interest here. */
    if (!known_name(name) && strncmp(name, ".repair-", 8) != 0 && type != DT_DIR &&
        rec->stranger_count++ < STRANGERS_REPORTED)
        report(&store->reporter, WALRUS_WARNING, 0, NULL,
               "%s: not a file of the store; it is left alone", name);
    return 0;
}

/* Finds the log files; removes what was being made. */
static int recover_list(struct recovery *rec)
{
    int r = os_list(rec->store->dirfd, list_name, rec);
    if (r == 0 && rec->number_count)
        qsort(rec->numbers, rec->number_count, sizeof(rec->numbers[0]), number_compare);
    return r;
}

/* A sub-directory that is a store of its own: a namespace. */
static bool name_is_store(struct walrus *store, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/SUPER", name);
    int fd = os_open(store->dirfd, path, O_RDONLY | O_NOFOLLOW, 0);
    if (fd >= 0)
        os_close(fd);
    return fd >= 0;
}

struct strangers {
    struct walrus *store;
    int count;
    bool rust;
};

static int strangers_count(void *arg, const char *name, int type)
{
    struct strangers *strangers = arg;
    bool digits = name[0] && strspn(name, "0123456789") == strlen(name);
    (void)type;
    strangers->rust |= digits || strcmp(name, "read_offset_idx_index.db") == 0;
    /* What a creation that was cut short left behind, and namespaces, do not count. */
    strangers->count += !(strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
                          strcmp(name, "lost+found") == 0 || strcmp(name, "LOCK") == 0 ||
                          strcmp(name, "SUPER.tmp") == 0 || name_is_store(strangers->store, name));
    return 0;
}

int recover_strangers(struct walrus *store, bool *ret_rust)
{
    struct strangers strangers = {.store = store};
    int r = os_list(store->dirfd, strangers_count, &strangers);
    *ret_rust = strangers.rust;
    return r < 0 ? r : strangers.count;
}

/* ------------------------------------------------------------------------------------ blocks -- */

static int found_add(struct recovery *rec, struct file *file, uint32_t idx,
                     const struct block_info *info, bool walk)
{
    if (rec->found_count == rec->found_room) {
        size_t room = rec->found_room ? rec->found_room * 2 : 256;
        struct found *bigger = realloc(rec->found, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        rec->found = bigger;
        rec->found_room = room;
    }
    rec->found[rec->found_count++] =
        (struct found){.info = *info, .file = file, .idx = idx, .walk = walk};
    return 0;
}

static int entry_decode(const struct walrus *store, const struct file *file, uint32_t idx,
                        uint32_t copy, const uint8_t *meta, struct block_info *ret_info)
{
    uint32_t seed = format_seed_block(store->super.uuid, file->salt, file->number, idx, copy);
    int r =
        format_block_decode(meta + FORMAT_TABLE_OFF(copy) + idx * sizeof(struct format_block),
                            sizeof(struct format_block), seed, store->super.block_size, ret_info);
    if (r == WALRUS_EMPTY)
        *ret_info = (struct block_info){0};
    return r;
}

/* One block's two entries: which one counts. */
static int recover_entry(struct recovery *rec, struct file *file, uint32_t idx, const uint8_t *meta)
{
    struct walrus *store = rec->store;
    struct block_info info[2];
    int result[2], best = -1;
    for (uint32_t copy = 0; copy < 2; copy++) {
        result[copy] = entry_decode(store, file, idx, copy, meta, &info[copy]);
        if (result[copy] >= 0 && (best < 0 || info[copy].generation > info[best].generation))
            best = (int)copy;
    }
    /* The second entry of a block's use goes into the copy that the first did not. */
    if (best >= 0 && result[best ^ 1] == WALRUS_EMPTY && info[best].state != FORMAT_FREE &&
        info[best].generation > 1)
        result[best ^ 1] = -EBADMSG;
    struct cell *cell = &file->cells[idx];
    if (best < 0) {
        report(&store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
               "wal_%04u.log: both entries of block %u are damaged; the block is quarantined and "
               "what it holds is missing",
               file->number, idx);
        cell->use = CELL_QUARANTINED;
        rec->damaged = true;
        return 0;
    }
    if (result[best ^ 1] < 0)
        report(&store->reporter, WALRUS_WARNING, -EBADMSG, NULL,
               "wal_%04u.log: one entry of block %u is damaged, the other is used", file->number,
               idx);
    cell->epoch = info[best].epoch;
    cell->generation = info[best].generation;
    cell->durable_copy = (uint8_t)best;
    rec->digest +=
        format_digest(FORMAT_DIGEST_BLOCK, (uint64_t)file->number << 32 | idx, cell->generation);
    if (info[best].state == FORMAT_FREE) {
        file->free_count++;
        return 0;
    }
    cell->use = CELL_USED;
    return found_add(rec, file, idx, &info[best], rec->walk || result[best ^ 1] < 0);
}

/* Writes back what was read, so that the disk holds what is believed. */
static int meta_rewrite(struct file *file, const uint8_t *meta)
{
    int r = os_write(file->fd, meta, FORMAT_FILE_META_SIZE, 0, false);
    return r < 0 ? r : os_fdatasync(file->fd);
}

/* A block in use has its entry in both copies before anything in it is called durable: where a crash
 * or damage left only one, the other one gets it too.  The one that is there is durable by now. */
static int entries_mend(struct walrus *store, struct file *file, const uint8_t *meta)
{
    bool any = false;
    for (uint32_t idx = 0; idx < store->super.blocks_per_file; idx++) {
        struct cell *cell = &file->cells[idx];
        struct block_info best, other;
        struct format_block entry;
        uint32_t copy = cell->durable_copy ^ 1u;
        if (cell->use != CELL_USED ||
            entry_decode(store, file, idx, cell->durable_copy, meta, &best) != 0 ||
            (entry_decode(store, file, idx, copy, meta, &other) == 0 && other.epoch == best.epoch))
            continue;
        best.generation = cell->generation + 1;
        format_block_encode(
            &entry, &best,
            format_seed_block(store->super.uuid, file->salt, file->number, idx, copy));
        /* First all as it was read: a page that could not be read takes no part of it. */
        int r = any ? 0 : meta_rewrite(file, meta);
        if (r == 0)
            r = os_write(file->fd, &entry, sizeof(entry),
                         FORMAT_TABLE_OFF(copy) + idx * sizeof(entry), false);
        if (r == -EIO)
            continue; /* a bad sector, which was told when it was read: one copy has to do */
        if (r < 0)
            return r;
        cell->generation = best.generation;
        cell->durable_copy = (uint8_t)copy;
        any = true;
    }
    return any ? os_fdatasync(file->fd) : 0;
}

static int recover_files(struct recovery *rec)
{
    struct walrus *store = rec->store;
    uint8_t *meta = malloc(FORMAT_FILE_META_SIZE);
    int r = meta ? 0 : -ENOMEM;
    for (size_t i = 0; r == 0 && i < rec->number_count; i++) {
        struct file *file;
        r = space_file_open(store, rec->numbers[i], meta, &file);
        if (r == -EBADMSG) {
            rec->damaged = true;
            r = 0;
            continue;
        }
        for (uint32_t idx = 0; r == 0 && idx < store->super.blocks_per_file; idx++)
            r = recover_entry(rec, file, idx, meta);
        if (r == 0 && rec->unclean)
            r = meta_rewrite(file, meta);
        if (r == 0 && !store->read_only)
            r = entries_mend(store, file, meta);
        if (r == 0)
            store->space.free_count += file->free_count;
        if (store->options.progress)
            store->options.progress(store->options.report_arg, i + 1, rec->number_count);
    }
    free(meta);
    return r;
}

/* Space that a process took and died with: of free blocks nothing is kept. */
static void recover_punch(struct walrus *store)
{
    LIST_FOR_EACH(node, &store->space.files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        for (uint32_t i = 0; i < store->super.blocks_per_file; i++) {
            uint64_t off = FORMAT_FILE_META_SIZE + (uint64_t)i * store->super.block_size;
            if (file->cells[i].use != CELL_FREE)
                continue;
            int64_t data = os_seek_data(file->fd, off);
            if (data < 0)
                break; /* none behind, or the filesystem cannot say */
            if ((uint64_t)data >= off + store->super.block_size)
                continue;
            int r = os_punch(file->fd, off, store->super.block_size);
            if (r < 0)
                report(&store->reporter, WALRUS_WARNING, r, NULL,
                       "wal_%04u.log: the space of free block %u cannot be given back",
                       file->number, i);
        }
    }
}

/* ---------------------------------------------------------------------------------- registry -- */

/* A topic under a name that is free, `name` if it is. */
static int topic_add(struct walrus *store, uint64_t id, const char *name, size_t size,
                     struct walrus_topic **ret_topic)
{
    char own[64];
    struct walrus_topic *other = NULL;
    if (name)
        HASH_FIND(by_name, store->topics_by_name, name, size, other);
    if (!name || other || walrus_name_check(name, size) < 0) {
        size = (size_t)snprintf(own, sizeof(own), "recovered-%llu", (unsigned long long)id);
        name = own;
        HASH_FIND(by_name, store->topics_by_name, name, size, other);
        if (other)
            return -EBADMSG; /* a topic was given this very name: its own record tells its name */
        report(&store->reporter, WALRUS_ERROR, -EBADMSG, own,
               "topics.db: the name of topic %llu is lost; it comes back under this one",
               (unsigned long long)id);
    }
    int r = topic_new(store, id, name, size, ret_topic);
    if (r < 0)
        return r;
    r = topic_insert_locked(store, *ret_topic);
    if (r < 0)
        topic_free(*ret_topic);
    return r;
}

static int visit_topic(struct walrus *store, const struct registry_change *change)
{
    struct walrus_topic *topic = topic_by_id_locked(store, change->topic_id);
    struct walrus_topic *other = NULL;
    int r = 0;
    if (!topic) {
        r = topic_add(store, change->topic_id, change->name, change->name_size, &topic);
    } else if (strlen(topic->name) != change->name_size ||
               memcmp(topic->name, change->name, change->name_size) != 0) {
        HASH_FIND(by_name, store->topics_by_name, change->name, change->name_size, other);
        char *copy = other ? NULL : strndup(change->name, change->name_size);
        if (!other && !copy)
            return -ENOMEM;
        if (copy) {
            HASH_DELETE(by_name, store->topics_by_name, topic);
            free(topic->name);
            topic->name = copy;
            topic_name_insert_locked(store, topic);
        }
    }
    if (r < 0)
        return r == -EBADMSG ? 0 : r;
    topic->retention = change->retention;
    atomic_store(&topic->keep_now, (int)change->retention.kind);
    atomic_store(&topic->limit, change->limit);
    topic->created_ns = change->created_ns;
    topic->group_id_next = MAX(topic->group_id_next, MAX(change->group_id, 1));
    memcpy(topic->attr, change->attr, sizeof(topic->attr));
    store->keeper_ages |= topic->retention.kind == WALRUS_KEEP_AGE;
    return 0;
}

static struct walrus_group *group_by_id(struct walrus_topic *topic, uint64_t id)
{
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        if (group->id == id)
            return group;
    }
    return NULL;
}

static int visit_group(struct walrus *store, const struct registry_change *change)
{
    struct walrus_topic *topic = topic_by_id_locked(store, change->topic_id);
    if (!topic) {
        int r = topic_add(store, change->topic_id, NULL, 0, &topic);
        if (r < 0)
            return r == -EBADMSG ? 0 : r;
    }
    struct walrus_group *group = group_by_id(topic, change->group_id);
    if (group) {
        char *copy = strndup(change->name, change->name_size);
        if (!copy)
            return -ENOMEM;
        free(group->name);
        group->name = copy;
    } else {
        int r = group_new(topic, change->group_id, change->slot, change->name, change->name_size,
                          &group);
        if (r < 0)
            return r;
        group_insert_locked(topic, group);
    }
    group->slot = change->slot;
    group->created_ns = change->created_ns;
    memcpy(group->attr, change->attr, sizeof(group->attr));
    return 0;
}

/* Takes a topic out again; remembers that it was removed for the blocks that it still has. */
static int visit_topic_removed(struct recovery *rec, uint64_t id)
{
    struct walrus_topic *topic = topic_by_id_locked(rec->store, id);
    if (topic)
        topic_forget(rec->store, topic);
    if (rec->removed_count == rec->removed_room) {
        size_t room = rec->removed_room ? rec->removed_room * 2 : 64;
        uint64_t *bigger = realloc(rec->removed, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        rec->removed = bigger;
        rec->removed_room = room;
    }
    rec->removed[rec->removed_count++] = id;
    return 0;
}

static int recover_visit(void *arg, const struct registry_change *change)
{
    struct recovery *rec = arg;
    struct walrus *store = rec->store;
    switch (change->kind) {
    case REGISTRY_TOPIC:
        return visit_topic(store, change);
    case REGISTRY_GROUP:
        return visit_group(store, change);
    case REGISTRY_TOPIC_REMOVED:
        return visit_topic_removed(rec, change->topic_id);
    case REGISTRY_GROUP_REMOVED: {
        struct walrus_topic *topic = topic_by_id_locked(store, change->topic_id);
        struct walrus_group *group = topic ? group_by_id(topic, change->group_id) : NULL;
        if (group) {
            topic->group_id_next = MAX(topic->group_id_next, group->id + 1);
            list_remove(&group->node);
            group_free(group);
        }
        return 0;
    }
    case REGISTRY_STORE:
        memcpy(store->attr, change->attr, sizeof(store->attr));
        return 0;
    }
    return 0;
}

static int id_compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* The registry was read, and `removed` sorted. */
static bool was_removed(const struct recovery *rec, uint64_t id)
{
    return rec->removed_count &&
           bsearch(&id, rec->removed, rec->removed_count, sizeof(id), id_compare);
}

/* ------------------------------------------------------------------------------------ groups -- */

/* The slot of each group; one that two claim goes to the first. */
static int group_slot(struct walrus_group *group)
{
    struct walrus *store = group->topic->store;
    if (store->read_only)
        return 0;
    int r = offsets_claim(store->offsets, group->slot);
    if (r != -EEXIST)
        return r;
    report(&store->reporter, WALRUS_ERROR, -EBADMSG, group->topic->name,
           "topics.db: group \"%s\" shares its offset slot %u; it starts at the oldest entry",
           group->name, group->slot);
    r = offsets_take(store->offsets, &group->slot);
    if (r < 0)
        return r;
    struct registry_change change = group_change(group);
    return registry_append(store->registry, &change, 1);
}

static bool group_value(const struct walrus_group *group, struct offset_value *ret_value)
{
    struct walrus *store = group->topic->store;
    enum offsets_slot_state state = offsets_get(store->offsets, group->slot, ret_value);
    if (group->slot >= offsets_slot_count(store->offsets))
        report(
            &store->reporter, WALRUS_ERROR, -EBADMSG, group->topic->name,
            "read_offset_idx_index.db: too short for the offset of group \"%s\"; it starts again "
            "at the oldest entry",
            group->name);
    if (state == OFFSETS_BAD) {
        report(
            &store->reporter, WALRUS_ERROR, -EBADMSG, group->topic->name,
            "read_offset_idx_index.db: both copies of the offset of group \"%s\" are damaged; it "
            "starts again at the oldest entry",
            group->name);
        return false;
    }
    if (state == OFFSETS_FIRST_TORN) {
        report(&store->reporter, WALRUS_WARNING, -EBADMSG, group->topic->name,
               "read_offset_idx_index.db: the first store of the offset of group \"%s\" was cut "
               "short; it starts at the oldest entry",
               group->name);
        return false;
    }
    if (state == OFFSETS_ONE_BAD)
        report(&store->reporter, WALRUS_WARNING, -EBADMSG, group->topic->name,
               "read_offset_idx_index.db: one copy of the offset of group \"%s\" is damaged; the "
               "other, which may be a step older, is used",
               group->name);
    return state != OFFSETS_NONE && ret_value->topic_id == group->topic->id &&
           ret_value->group_id == group->id;
}

/* Numbers that the topic's groups have consumed lie below this: they were durable. */
uint64_t recover_groups_bound(struct walrus_topic *topic)
{
    uint64_t bound = 0;
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct offset_value value = {0};
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        (void)offsets_get(topic->store->offsets, group->slot, &value);
        if (value.topic_id != topic->id || value.group_id != group->id)
            continue;
        bound = MAX(bound, value.offset);
        if (value.range_count)
            bound = MAX(bound, value.ranges[value.range_count - 1].end);
    }
    return bound;
}

static int recover_groups(struct walrus_topic *topic)
{
    struct walrus *store = topic->store;
    uint64_t first = topic_first_seq(topic);
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        struct offset_value value;
        bool known = group_value(group, &value);
        int r = group_slot(group);
        if (r == 0 && known)
            r = group_restore(group, &value);
        if (r < 0)
            return r;
        if (known && value.offset < first)
            report(&store->reporter, WALRUS_WARNING, -EBADMSG, topic->name,
                   "group \"%s\" was at entry %llu, and what is there begins with %llu: what lies "
                   "between was consumed, or is lost",
                   group->name, (unsigned long long)value.offset, (unsigned long long)first);
        if (group->low < first) {
            /* Ranges below go too: the oldest entry starts anew. */
            int moved = 0;
            group->low = first;
            while (moved == 0 && group->done_count && group->done[0].first <= first) {
                struct offset_range range = group->done[0];
                memmove(&group->done[0], &group->done[1],
                        --group->done_count * sizeof(group->done[0]));
                moved =
                    group_restore(group, &(struct offset_value){.offset = MAX(first, range.end)});
            }
            if (moved < 0)
                return moved;
        }
        atomic_store(&group->stored_low, group->low);
        group->cur.seq = group->low;
    }
    if (!list_empty(&topic->groups) || store->read_only)
        return 0;
    return recover_default_group(topic);
}

/* A topic without any group, which only damage can make: it gets "default" again. */
int recover_default_group(struct walrus_topic *topic)
{
    struct walrus *store = topic->store;
    uint32_t slot;
    struct walrus_group *group;
    int r = offsets_take(store->offsets, &slot);
    if (r == 0)
        r = group_new(topic, topic->group_id_next, slot, "default", strlen("default"), &group);
    if (r < 0)
        return r;
    group->created_ns = realtime_ns();
    group->low = group->cur.seq = topic_first_seq(topic);
    atomic_store(&group->stored_low, group->low);
    group_insert_locked(topic, group);
    struct registry_change changes[] = {topic_change(topic), group_change(group)};
    report(&store->reporter, WALRUS_WARNING, -EBADMSG, topic->name,
           "topics.db: the topic's groups are lost; it has \"default\" again");
    return registry_append(store->registry, changes, ARRAY_COUNT(changes));
}

/* ------------------------------------------------------------------------------------- whole -- */

static int found_compare(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    if (x->info.topic_id != y->info.topic_id)
        return x->info.topic_id < y->info.topic_id ? -1 : 1;
    if (x->info.block_seq != y->info.block_seq)
        return x->info.block_seq < y->info.block_seq ? -1 : 1;
    return x->info.epoch < y->info.epoch ? 1 : -1;
}

/* Blocks of a topic that is no more. */
static int found_free(struct recovery *rec, struct found *found, size_t count)
{
    for (size_t i = 0; i < count && !rec->store->read_only; i++) {
        struct block *block = space_adopt(found[i].file, found[i].idx, &found[i].info);
        if (!block)
            return -ENOMEM;
        space_free(rec->store, block);
    }
    return 0;
}

static int recover_topics(struct recovery *rec)
{
    struct walrus *store = rec->store;
    int r = 0;
    if (rec->found_count)
        qsort(rec->found, rec->found_count, sizeof(rec->found[0]), found_compare);
    if (rec->removed_count)
        qsort(rec->removed, rec->removed_count, sizeof(rec->removed[0]), id_compare);
    for (size_t i = 0, n; r == 0 && i < rec->found_count; i += n) {
        struct found *found = &rec->found[i];
        uint64_t id = found->info.topic_id;
        for (n = 1; i + n < rec->found_count && found[n].info.topic_id == id; n++)
            ;
        struct walrus_topic *topic = topic_by_id_locked(store, id);
        if (!topic && was_removed(rec, id)) {
            r = found_free(rec, found, n);
            continue;
        }
        if (!topic)
            r = topic_add(store, id, NULL, 0, &topic);
        if (r == 0)
            r = recover_topic(rec, topic, found, n);
        if (r == -EBADMSG) /* reported: its blocks are left alone */
            r = 0;
    }
    for (size_t i = 0; r == 0 && i < store->topics_count; i++)
        r = recover_groups(store->topics_sorted[i]);
    for (size_t i = 0; r == 0 && i < store->topics_count; i++)
        r = recover_finish(rec, store->topics_sorted[i]);
    return r;
}

/* A store that was closed has just the metadata that it had then.  Sectors that hold what they held
 * earlier, or nothing, are valid all the same and only this tells.  What was open is walked then, as
 * after a crash; offsets can only be used as they are. */
static void digest_check(struct recovery *rec)
{
    struct walrus *store = rec->store;
    uint64_t digest =
        rec->digest + registry_digest(store->registry) + offsets_digest(store->offsets);
    if (store->super.clean != FORMAT_CLOSED || !store->super.digest ||
        store->super.digest == (digest ? digest : 1))
        return;
    report(&store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
           "the metadata is not what it was when the store was closed: some of it is damaged, or "
           "older; groups may be given entries again, and changes of topics may be undone");
    rec->unclean = !store->read_only;
    rec->walk = true;
    for (size_t i = 0; i < rec->found_count; i++)
        rec->found[i].walk = true;
}

/* A store with topics has an offset file: one that went missing is told, not just made again. */
static int offsets_check(struct walrus *store)
{
    struct stat st = {.st_size = 0};
    int fd = os_open(store->dirfd, "read_offset_idx_index.db", O_RDONLY | O_NOFOLLOW, 0);
    int r = fd < 0 ? fd : os_fstat(fd, &st);
    if (fd >= 0)
        os_close(fd);
    if (store->topics_count && (r == -ENOENT || (r == 0 && st.st_size == 0)))
        report(&store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
               "read_offset_idx_index.db: missing or empty; every group starts again at its oldest "
               "entry");
    return r == -ENOENT ? 0 : r;
}

int recover(struct walrus *store)
{
    struct recovery rec = {.store = store,
                           .unclean = store->super.clean != FORMAT_CLOSED && !store->read_only,
                           .walk = store->super.clean != FORMAT_CLOSED};
    uint64_t topic_id_next = 1, registry_damaged = 0;
    int r = registry_open(store->dirfd, store->super.uuid, store->read_only, &store->reporter,
                          recover_visit, &rec, &topic_id_next, &registry_damaged, &store->registry);
    if (r == -EBADMSG)
        report(
            &store->reporter, WALRUS_ERROR, r, NULL,
            "topics.db: cannot be read; moved elsewhere, it is made anew and the topics come back "
            "under other names");
    if (r == 0)
        r = offsets_check(store);
    if (r == 0)
        r = offsets_open(store->dirfd, store->super.uuid, store->read_only, &store->reporter,
                         &store->offsets);
    if (r == 0 && rec.unclean)
        r = registry_barrier(store->registry);
    if (r == 0 && rec.unclean)
        r = offsets_barrier(store->offsets);
    if (r == 0)
        r = recover_list(&rec);
    /* A process may have died between making a file and syncing its name. */
    if (r == 0 && !store->read_only)
        r = os_fsync(store->dirfd);
    if (r == 0)
        r = recover_files(&rec);
    if (r == 0)
        digest_check(&rec);
    if (r == 0)
        r = recover_topics(&rec);
    if (r == 0) {
        store->topic_id_next =
            MAX(MAX(store->topic_id_next, topic_id_next), store->super.topic_id_next);
        offsets_loaded(store->offsets);
        if (rec.unclean)
            recover_punch(store);
    }
    free(rec.numbers);
    free(rec.found);
    free(rec.removed);
    return r;
}
