/* SPDX-License-Identifier: MIT */
/*
 * verify_meta.c - the registry, the offsets and the block tables, read for verify: every copy, and
 * what has to be zero.
 *
 * Serves verify.c; uses format.h.  One thread.
 *
 * Failure: see verify.c.
 */
#include "check.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "os.h"

#define REGISTRY_NAME   "topics.db"
#define REGISTRY_STEP   65536u
#define FILE_SIZE_MAX   ((uint64_t)1 << 30) /* of these two */
#define OFFSETS_NAME    "read_offset_idx_index.db"
#define OFFSETS_EXTENT  65536u
#define OFFSETS_COPY    32768u
#define OFFSETS_SLOTS   64u
#define GROUP_COUNT_MAX 4u /* changes that take effect together */

/* ---------------------------------------------------------------------------------- registry -- */

/* Reads the whole file.  Its user appends to it: then until two readings are the same. */
static int registry_read(struct check *c, int fd, uint64_t size, uint8_t *data)
{
    unsigned tries = 0;
    int r = os_read_salvaging(fd, data, size, 0);
    while (r == 0 && check_again(c, &tries)) {
        uint8_t *second = malloc(size);
        r = second ? os_read_salvaging(fd, second, size, 0) : -ENOMEM;
        bool same = r == 0 && memcmp(data, second, size) == 0;
        if (r == 0)
            memcpy(data, second, size);
        free(second);
        if (same)
            break;
    }
    return r;
}

/* 0 with *ret_data NULL: not there, or not usable (told). */
static int registry_load(struct check *c, uint8_t **ret_data, uint64_t *ret_size)
{
    int fd;
    uint8_t *data = NULL;
    *ret_data = NULL;
    int r = check_open(c, REGISTRY_NAME, &fd, ret_size);
    if (r < 0 || fd < 0)
        return r == -ELOOP ? 0 : r;
    if (*ret_size > FILE_SIZE_MAX) {
        check_damage(
            c,
            (struct walrus_damage){.cost = WALRUS_COST_STORE, .file = REGISTRY_NAME, .block = -1},
            "over 1 GiB long, which no store makes");
    } else {
        data = malloc(*ret_size + 1);
        r = data ? registry_read(c, fd, *ret_size, data) : -ENOMEM;
    }
    os_close(fd);
    if (r < 0) {
        free(data);
        return r;
    }
    *ret_data = data;
    return 0;
}

static int take_topic(struct check *c, const struct registry_change *change)
{
    struct check_topic *topic;
    int r = check_topic(c, change->topic_id, &topic);
    if (r < 0)
        return r;
    char *name = strndup(change->name, change->name_size);
    if (!name)
        return -ENOMEM;
    free(topic->name);
    topic->name = name;
    return 0;
}

static int take_group(struct check *c, const struct registry_change *change)
{
    struct check_topic *topic;
    int r = check_topic(c, change->topic_id, &topic);
    if (r < 0)
        return r;
    struct check_group **at = &topic->groups;
    while (*at && (*at)->id != change->group_id)
        at = &(*at)->next;
    char *name = strndup(change->name, change->name_size);
    struct check_group *group = *at ? *at : calloc(1, sizeof(*group));
    if (!name || !group) {
        free(name);
        if (!*at)
            free(group);
        return -ENOMEM; /* a group that was there already is still in the list */
    }
    free(group->name);
    *at = group;
    group->id = change->group_id;
    group->slot = change->slot;
    group->name = name;
    return 0;
}

static int take_change(struct check *c, const struct registry_change *change)
{
    struct check_topic *topic;
    int r;
    switch (change->kind) {
    case REGISTRY_TOPIC:
        return take_topic(c, change);
    case REGISTRY_GROUP:
        return take_group(c, change);
    case REGISTRY_TOPIC_REMOVED:
        r = check_topic(c, change->topic_id, &topic);
        if (r == 0)
            topic->removed = true;
        return r;
    case REGISTRY_GROUP_REMOVED:
        r = check_topic(c, change->topic_id, &topic);
        for (struct check_group **at = &topic->groups; r == 0 && *at; at = &(*at)->next) {
            struct check_group *group = *at;
            if (group->id != change->group_id)
                continue;
            *at = group->next;
            free(group->name);
            free(group);
            break;
        }
        return r;
    case REGISTRY_STORE:
        return 0;
    }
    return 0;
}

/* The changes that take effect together at `off`.  -EBADMSG: none are there */
static int decode_changes(const struct check *c, const uint8_t salt[16], const uint8_t *data,
                          uint64_t size, uint64_t off, struct registry_change *changes,
                          size_t *ret_count, size_t *ret_extent)
{
    size_t at = 0, extent;
    bool more = true;
    const uint8_t *before = NULL;
    for (size_t count = 0; count < GROUP_COUNT_MAX; count++) {
        uint32_t seed = format_seed_regrec(c->super.uuid, salt, off + at);
        if (before)
            seed = crc32c(seed, before, sizeof(struct le32)); /* its crc stands first */
        before = data + off + at;
        int r =
            format_regrec_decode(before, size - off - at, seed, &changes[count], &more, &extent);
        if (r < 0)
            return r;
        at += extent;
        if (!more) {
            *ret_count = count + 1;
            *ret_extent = at;
            return 0;
        }
    }
    return -EBADMSG;
}

static void registry_damage(struct check *c, uint64_t from, uint64_t to)
{
    c->registry_damaged = true;
    check_damage(c,
                 (struct walrus_damage){.cost = WALRUS_COST_NAME,
                                        .file = REGISTRY_NAME,
                                        .block = -1,
                                        .off = from,
                                        .size = to - from},
                 "what these bytes said of topics and groups is lost");
}

static int registry_records(struct check *c, const uint8_t salt[16], const uint8_t *data,
                            uint64_t size)
{
    struct registry_change changes[GROUP_COUNT_MAX];
    uint64_t end = 2 * sizeof(struct format_registry);
    for (uint64_t off = end; off + sizeof(struct format_regrec) <= size;) {
        size_t count, extent;
        if (decode_changes(c, salt, data, size, off, changes, &count, &extent) < 0) {
            off += FORMAT_RECORD_ALIGN;
            continue;
        }
        if (off != end)
            registry_damage(c, end, off);
        for (size_t i = 0; i < count; i++) {
            int r = take_change(c, &changes[i]);
            if (r < 0)
                return r;
        }
        off += extent;
        end = off;
    }
    c->digest += format_digest(FORMAT_DIGEST_REGISTRY, crc32c(0, salt, 16), end);
    while (size > end && data[size - 1] == 0)
        size--;
    /* A change that a crash cut short is no damage, and one that is being written is none either. */
    if (size > end && c->super.clean && !c->live)
        registry_damage(c, end, size);
    return 0;
}

int check_registry(struct check *c)
{
    uint8_t *data, salt[2][16];
    uint64_t size, ignored;
    int result[2];
    int r = registry_load(c, &data, &size);
    if (r < 0)
        return r;
    if (!data || size < 2 * sizeof(struct format_registry)) {
        c->registry_damaged = true;
        /* A store that was never used may have none yet. */
        if (data || c->file_count)
            check_damage(c,
                         (struct walrus_damage){.cost = data ? WALRUS_COST_STORE : WALRUS_COST_NAME,
                                                .file = REGISTRY_NAME,
                                                .block = -1},
                         data ? "too short for its header" : "missing, and all names with it");
        free(data);
        return 0;
    }
    if (size % REGISTRY_STEP)
        registry_damage(c, size, (size + REGISTRY_STEP - 1) / REGISTRY_STEP * REGISTRY_STEP);
    for (uint32_t copy = 0; copy < 2; copy++) {
        result[copy] = format_registry_decode(
            data + copy * sizeof(struct format_registry), sizeof(struct format_registry),
            format_seed_registry(c->super.uuid), salt[copy], &ignored);
        if (result[copy] == -EPROTONOSUPPORT)
            r = result[copy];
    }
    bool lost = result[0] < 0 && result[1] < 0;
    for (uint32_t copy = 0; r == 0 && copy < 2; copy++)
        if (result[copy] < 0)
            check_damage(
                c,
                (struct walrus_damage){.cost = lost ? WALRUS_COST_STORE : WALRUS_COST_NOTHING,
                                       .file = REGISTRY_NAME,
                                       .block = -1,
                                       .off = copy * sizeof(struct format_registry),
                                       .size = sizeof(struct format_registry)},
                "copy %u of the header is damaged%s", copy,
                lost ? ", as is the other" : "; the other is used");
    c->registry_damaged |= lost;
    if (r == 0 && !lost)
        r = registry_records(c, salt[result[0] < 0], data, size);
    free(data);
    return r;
}

/* ----------------------------------------------------------------------------------- offsets -- */

/* Who has a slot. */
struct owner {
    const struct check_topic *topic; /* NULL: nobody */
    const struct check_group *group;
};

/* The offset file, while its slots are looked at. */
struct slots {
    struct check *c;
    int fd;
    uint8_t *data;
    uint64_t count;
    struct owner *owners;
};

static uint64_t slot_off(uint32_t slot, uint32_t copy)
{
    return (uint64_t)(slot / OFFSETS_SLOTS) * OFFSETS_EXTENT + copy * OFFSETS_COPY +
           slot % OFFSETS_SLOTS * sizeof(struct format_slot);
}

static void take_value(struct check *c, const struct offset_value *value)
{
    struct check_topic *topic;
    HASH_FIND(hh, c->topics, &value->topic_id, sizeof(value->topic_id), topic);
    if (!topic)
        return;
    for (struct check_group *group = topic->groups; group; group = group->next) {
        if (group->id != value->group_id)
            continue;
        topic->bound = MAX(topic->bound, value->offset);
        if (value->range_count)
            topic->bound = MAX(topic->bound, value->ranges[value->range_count - 1].end);
    }
}

static int slot_decode(struct slots *slots, uint32_t slot, uint32_t copy,
                       struct offset_value *ret_value, uint64_t *ret_generation)
{
    uint8_t *data = slots->data + slot_off(slot, copy);
    unsigned tries = 0;
    for (;;) {
        int r = format_slot_decode(data, sizeof(struct format_slot),
                                   format_seed_slot(slots->c->super.uuid, slot, copy), ret_value,
                                   ret_generation);
        if (r == 0 && *ret_generation == UINT64_MAX)
            r = -EBADMSG;
        if (r >= 0 || !check_again(slots->c, &tries))
            return r;
        if (os_read_salvaging(slots->fd, data, sizeof(struct format_slot), slot_off(slot, copy)) <
            0)
            return r;
    }
}

static void check_slot(struct slots *slots, uint32_t slot)
{
    struct offset_value value[2];
    uint64_t generation[2] = {0, 0};
    int result[2];
    for (uint32_t copy = 0; copy < 2; copy++)
        result[copy] = slot_decode(slots, slot, copy, &value[copy], &generation[copy]);
    for (uint32_t copy = 0; copy < 2; copy++) /* zero beside a later step: it was wiped */
        if (result[copy] == WALRUS_EMPTY && result[!copy] == 0 && generation[!copy] > 1)
            result[copy] = -EBADMSG;
    uint32_t best = result[0] != 0 || (result[1] == 0 && generation[1] > generation[0]);
    if (result[best] == 0)
        slots->c->digest += format_digest(FORMAT_DIGEST_SLOT, slot, generation[best]);
    bool usable = result[best] == 0 && value[best].topic_id != 0;
    if (usable)
        take_value(slots->c, &value[best]);
    struct owner owner = slots->owners[slot];
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct walrus_damage damage = {.cost =
                                           owner.group ? WALRUS_COST_OFFSET : WALRUS_COST_NOTHING,
                                       .file = OFFSETS_NAME,
                                       .topic = owner.topic ? owner.topic->name : NULL,
                                       .block = -1,
                                       .off = slot_off(slot, copy),
                                       .size = sizeof(struct format_slot)};
        if (result[copy] < 0)
            check_damage(slots->c, damage, "copy %u of slot %u is damaged: %s%s%s", copy, slot,
                         owner.group ? "group " : "it is nobody's",
                         owner.group ? owner.group->name : "",
                         !owner.group ? ""
                         : usable     ? " goes on from the other copy, which may be a step older"
                                      : " starts again at the oldest entry");
    }
}

/* Notes who has which slot, and tells of groups whose slots are not there, or have two owners. */
static void take_owners(struct slots *slots)
{
    struct check *c = slots->c;
    struct check_topic *topic, *next;
    HASH_ITER(hh, c->topics, topic, next)
    {
        for (struct check_group *group = topic->groups; group; group = group->next) {
            bool there = group->slot < slots->count;
            if (topic->removed)
                continue;
            if (there && !slots->owners[group->slot].group) {
                slots->owners[group->slot] = (struct owner){topic, group};
                continue;
            }
            if (c->live)
                continue; /* the registry and the offsets are not of one moment */
            check_damage(c,
                         (struct walrus_damage){.cost = WALRUS_COST_OFFSET,
                                                .file = OFFSETS_NAME,
                                                .topic = topic->name,
                                                .block = -1,
                                                .off = slot_off(group->slot, 0),
                                                .size = sizeof(struct format_slot)},
                         "%s group %s, which starts again at the oldest entry",
                         there ? "another group has the slot of"
                               : "the file ends before the offset of",
                         group->name);
        }
    }
}

/* Reads the file, as if it ended with a whole extent. */
static int slots_load(struct slots *slots)
{
    struct check *c = slots->c;
    uint64_t size;
    int r = check_open(c, OFFSETS_NAME, &slots->fd, &size);
    if (r < 0 || slots->fd < 0)
        return r == -ELOOP ? 0 : r;
    if (size > FILE_SIZE_MAX) {
        check_damage(
            c, (struct walrus_damage){.cost = WALRUS_COST_STORE, .file = OFFSETS_NAME, .block = -1},
            "over 1 GiB long, which no store makes");
        return 0;
    }
    uint64_t whole = (size + OFFSETS_EXTENT - 1) / OFFSETS_EXTENT * OFFSETS_EXTENT;
    slots->data = whole ? malloc(whole) : NULL;
    if (whole && !slots->data)
        return -ENOMEM;
    slots->count = whole / OFFSETS_EXTENT * OFFSETS_SLOTS;
    if (whole != size && !c->live)
        check_damage(c,
                     (struct walrus_damage){.cost = WALRUS_COST_OFFSET,
                                            .file = OFFSETS_NAME,
                                            .block = -1,
                                            .off = size,
                                            .size = whole - size},
                     "cut short within an extent");
    return whole ? os_read_salvaging(slots->fd, slots->data, whole, 0) : 0;
}

int check_offsets(struct check *c)
{
    struct slots slots = {.c = c, .fd = -1};
    int r = slots_load(&slots);
    slots.owners = calloc(slots.count + 1, sizeof(slots.owners[0]));
    if (r == 0 && !slots.owners)
        r = -ENOMEM;
    if (r == 0)
        take_owners(&slots);
    for (uint32_t slot = 0; r == 0 && slot < slots.count; slot++)
        check_slot(&slots, slot);
    free(slots.owners);
    free(slots.data);
    os_close(slots.fd);
    return r;
}

/* ------------------------------------------------------------------------------ block tables -- */

int check_entry(struct check *c, size_t file_idx, uint32_t idx, struct block_info *ret_info)
{
    const struct check_file *file = &c->files[file_idx];
    struct block_info info[2];
    int result[2], best;
    unsigned tries = 0;
    do {
        best = -1;
        for (uint32_t copy = 0; copy < 2; copy++) {
            uint8_t raw[sizeof(struct format_block)];
            int r = os_read_salvaging(file->fd, raw, sizeof(raw),
                                      FORMAT_TABLE_OFF(copy) + idx * sizeof(raw));
            if (r < 0 && r != -EIO)
                return r;
            result[copy] = r < 0 ? -EBADMSG
                                 : format_block_decode(raw, sizeof(raw),
                                                       format_seed_block(c->super.uuid, file->salt,
                                                                         file->number, idx, copy),
                                                       c->super.block_size, &info[copy]);
            if (result[copy] == WALRUS_EMPTY)
                info[copy] = (struct block_info){0};
            if (result[copy] >= 0 && (best < 0 || info[copy].generation > info[best].generation))
                best = (int)copy;
        }
        if (best >= 0 && result[best ^ 1] == WALRUS_EMPTY && info[best].state != FORMAT_FREE &&
            info[best].generation > 1)
            result[best ^ 1] = -EBADMSG; /* both were written by then */
    } while ((result[0] < 0 || result[1] < 0) && check_again(c, &tries));
    for (uint32_t copy = 0; copy < 2; copy++)
        if (result[copy] < 0)
            check_damage(c,
                         (struct walrus_damage){
                             .cost = best < 0 ? WALRUS_COST_BLOCK : WALRUS_COST_NOTHING,
                             .file = file->name,
                             .block = idx,
                             .off = FORMAT_TABLE_OFF(copy) + idx * sizeof(struct format_block),
                             .size = sizeof(struct format_block)},
                         "copy %u of the block's table entry is damaged%s", copy,
                         best < 0 ? ", as is the other: the block is left out"
                                  : "; the other is used");
    if (best < 0)
        return -EBADMSG;
    *ret_info = info[best];
    return result[0] < 0 || result[1] < 0 ? WALRUS_EMPTY : 0; /* EMPTY: not exact */
}

static int place_add(struct check *c, size_t file, uint32_t idx, const struct block_info *info,
                     bool exact)
{
    if (c->place_count == c->place_room) {
        size_t room = c->place_room ? c->place_room * 2 : 256;
        struct check_place *bigger = realloc(c->places, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        c->places = bigger;
        c->place_room = room;
    }
    c->places[c->place_count++] =
        (struct check_place){.info = *info, .file = file, .idx = idx, .exact = exact};
    return 0;
}

/* Both headers of a log file.  -EBADMSG: neither can be used */
static int file_headers(struct check *c, struct check_file *file, const uint8_t *meta)
{
    struct file_info info;
    int result[2], r = -EBADMSG;
    for (uint32_t copy = 0; copy < 2; copy++) {
        result[copy] =
            format_file_decode(meta + FORMAT_HEADER_OFF(copy), sizeof(struct format_file),
                               format_seed_file(c->super.uuid, file->number, copy), &info);
        if (result[copy] == 0 &&
            (info.number != file->number || info.block_size != c->super.block_size ||
             info.blocks_per_file != c->super.blocks_per_file))
            result[copy] = -EBADMSG;
        if (result[copy] == 0) {
            memcpy(file->salt, info.salt, sizeof(file->salt));
            r = 0;
        }
    }
    for (uint32_t copy = 0; copy < 2; copy++)
        if (result[copy] < 0)
            check_damage(
                c,
                (struct walrus_damage){.cost = r < 0 ? WALRUS_COST_BLOCK : WALRUS_COST_NOTHING,
                                       .file = file->name,
                                       .block = -1,
                                       .off = FORMAT_HEADER_OFF(copy),
                                       .size = sizeof(struct format_file)},
                "copy %u of the header is damaged%s", copy,
                r < 0 ? ", as is the other: the file is left out" : "; the other is used");
    return r;
}

/* The places of blocks that a file does not have are zero. */
static void file_rest(struct check *c, const struct check_file *file, const uint8_t *meta)
{
    size_t used = c->super.blocks_per_file * sizeof(struct format_block);
    for (uint32_t copy = 0; copy < 2; copy++) {
        size_t size = FORMAT_FILE_BLOCKS_MAX * sizeof(struct format_block) - used;
        if (!check_zero(meta + FORMAT_TABLE_OFF(copy) + used, size))
            check_damage(c,
                         (struct walrus_damage){.cost = WALRUS_COST_NOTHING,
                                                .file = file->name,
                                                .block = -1,
                                                .off = FORMAT_TABLE_OFF(copy) + used,
                                                .size = size},
                         "not zero behind copy %u of the block table, where nothing is kept", copy);
    }
}

int check_file_meta(struct check *c, size_t file_idx)
{
    struct check_file *file = &c->files[file_idx];
    uint64_t size,
        whole = FORMAT_FILE_META_SIZE + (uint64_t)c->super.blocks_per_file * c->super.block_size;
    int r = check_open(c, file->name, &file->fd, &size);
    if (r < 0 || file->fd < 0)
        return r == -ELOOP ? 0 : r;
    if (size < whole) /* what is missing of records is told with them */
        check_damage(c,
                     (struct walrus_damage){.cost = size < FORMAT_FILE_META_SIZE
                                                        ? WALRUS_COST_BLOCK
                                                        : WALRUS_COST_NOTHING,
                                            .file = file->name,
                                            .block = -1,
                                            .off = size,
                                            .size = whole - size},
                     "cut short; what lay behind counts as zeros");
    uint8_t *meta = malloc(FORMAT_FILE_META_SIZE);
    r = meta ? os_read_salvaging(file->fd, meta, FORMAT_FILE_META_SIZE, 0) : -ENOMEM;
    if (r == 0)
        r = file_headers(c, file, meta);
    if (r == 0)
        file_rest(c, file, meta);
    free(meta);
    if (r < 0)
        return r == -EBADMSG ? 0 : r;
    check_progress(c, FORMAT_FILE_META_SIZE);
    for (uint32_t idx = 0; r >= 0 && idx < c->super.blocks_per_file; idx++) {
        struct block_info info;
        r = check_entry(c, file_idx, idx, &info);
        if (r >= 0)
            c->digest += format_digest(FORMAT_DIGEST_BLOCK, (uint64_t)file->number << 32 | idx,
                                       info.generation);
        if (r == -EBADMSG)
            r = 0;
        else if (r >= 0 && info.state != FORMAT_FREE)
            r = place_add(c, file_idx, idx, &info, c->super.clean && r == 0);
    }
    return MIN(r, 0);
}
