/* SPDX-License-Identifier: MIT */
/*
 * verify_offsets.c - read_offset_idx_index.db, read for verify: both copies of every slot.
 *
 * Serves verify.c and, where it can be mended, repair.c; uses format.h.  One thread.
 *
 * Failure: see verify.c.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

#define OFFSETS_NAME   "read_offset_idx_index.db"
#define OFFSETS_EXTENT 65536u
#define OFFSETS_COPY   32768u
#define OFFSETS_SLOTS  64u
#define FILE_SIZE_MAX  ((uint64_t)1 << 30)

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

static int stray_add(struct check *c, uint32_t slot, const struct offset_value *value)
{
    if (c->stray_count == c->stray_room) {
        size_t room = c->stray_room ? c->stray_room * 2 : 64;
        struct check_stray *bigger = realloc(c->strays, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        c->strays = bigger;
        c->stray_room = room;
    }
    c->strays[c->stray_count++] = (struct check_stray){
        .topic_id = value->topic_id, .group_id = value->group_id, .slot = slot};
    return 0;
}

static int take_value(struct check *c, uint32_t slot, const struct offset_value *value)
{
    struct check_topic *topic;
    HASH_FIND(hh, c->topics, &value->topic_id, sizeof(value->topic_id), topic);
    if (!topic)
        return stray_add(c, slot, value);
    for (struct check_group *group = topic->groups; group; group = group->next) {
        if (group->id != value->group_id)
            continue;
        topic->bound = MAX(topic->bound, value->offset);
        if (value->range_count)
            topic->bound = MAX(topic->bound, value->ranges[value->range_count - 1].end);
        return 0;
    }
    return stray_add(c, slot, value);
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

static bool slot_valid(void *arg, const void *data)
{
    const uint32_t *seed = arg;
    struct offset_value value;
    uint64_t generation;
    int r = format_slot_decode(data, sizeof(struct format_slot), *seed, &value, &generation);
    return r == WALRUS_EMPTY || (r == 0 && generation != UINT64_MAX);
}

/* Mends a bad copy that has one wrong bit; result is then as that of slot_decode. */
static void slot_mend_bit(struct slots *slots, uint32_t slot, uint32_t copy, int *result,
                          struct offset_value *value, uint64_t *generation)
{
    struct check *c = slots->c;
    uint8_t *data = slots->data + slot_off(slot, copy);
    size_t size = sizeof(struct format_slot);
    uint32_t seed = format_seed_slot(c->super.uuid, slot, copy);
    if (*result >= 0 || !check_mend_bit(c, data, size, slot_valid, &seed) ||
        !check_mend(c, OFFSETS_NAME, slot_off(slot, copy), data, size))
        return;
    *result = slot_decode(slots, slot, copy, value, generation);
    check_damage(c,
                 (struct walrus_damage){.cost = WALRUS_COST_OFFSET,
                                        .mended = true,
                                        .file = OFFSETS_NAME,
                                        .block = -1,
                                        .off = slot_off(slot, copy),
                                        .size = size},
                 "copy %u of slot %u had one wrong bit", copy, slot);
}

/* Writes a bad copy again: as the good one, or as never used where the slot is nobody's. */
static bool slot_mend(struct slots *slots, uint32_t slot, uint32_t copy,
                      const struct offset_value *good, uint64_t generation)
{
    struct format_slot raw;
    struct check *c = slots->c;
    if (!slots->owners[slot].group && !good)
        return check_mend_zero(c, OFFSETS_NAME, slot_off(slot, 0), sizeof(raw)) &&
               check_mend_zero(c, OFFSETS_NAME, slot_off(slot, 1), sizeof(raw));
    if (!good) /* and it is somebody's: where that group was is lost */
        return false;
    format_slot_encode(&raw, good, generation, format_seed_slot(c->super.uuid, slot, copy));
    return check_mend(c, OFFSETS_NAME, slot_off(slot, copy), &raw, sizeof(raw));
}

static int check_slot(struct slots *slots, uint32_t slot)
{
    struct offset_value value[2];
    uint64_t generation[2] = {0, 0};
    int result[2];
    for (uint32_t copy = 0; copy < 2; copy++)
        result[copy] = slot_decode(slots, slot, copy, &value[copy], &generation[copy]);
    for (uint32_t copy = 0; copy < 2; copy++)
        slot_mend_bit(slots, slot, copy, &result[copy], &value[copy], &generation[copy]);
    for (uint32_t copy = 0; copy < 2; copy++) /* zero beside a later step: it was wiped */
        if (result[copy] == WALRUS_EMPTY && result[!copy] == 0 && generation[!copy] > 1)
            result[copy] = -EBADMSG;
    uint32_t best = result[0] != 0 || (result[1] == 0 && generation[1] > generation[0]);
    if (result[best] == 0)
        slots->c->digest += format_digest(FORMAT_DIGEST_SLOT, slot, generation[best]);
    bool usable = result[best] == 0 && value[best].topic_id != 0;
    int r = usable ? take_value(slots->c, slot, &value[best]) : 0;
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
            damage.mended =
                slot_mend(slots, slot, copy, usable ? &value[best] : NULL, generation[best]);
        if (result[copy] < 0)
            check_damage(slots->c, damage, "copy %u of slot %u is damaged: %s%s%s", copy, slot,
                         owner.group ? "group " : "it is nobody's",
                         owner.group ? owner.group->name : "",
                         !owner.group ? ""
                         : usable     ? " goes on from the other copy, which may be a step older"
                                      : " starts again at the oldest entry");
    }
    return r;
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
            if (topic->removed || group->removed)
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
                                            .mended = check_mend_size(c, OFFSETS_NAME, whole),
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
        r = check_slot(&slots, slot);
    free(slots.owners);
    free(slots.data);
    os_close(slots.fd);
    return r;
}
