/* SPDX-License-Identifier: MIT */
/*
 * verify_registry.c - topics.db, read for verify: both headers, every record, and what has
 * to be zero.
 *
 * Serves verify.c and, where it can be mended, repair.c; uses format.h.  One thread.
 *
 * Failure: see verify.c.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "os.h"

#define REGISTRY_NAME    "topics.db"
#define REGISTRY_STEP    65536u
#define FILE_SIZE_MAX    ((uint64_t)1 << 30)
#define GROUP_COUNT_MAX  4u    /* changes that take effect together, */
#define CHANGES_SIZE_MAX 1760u /* and their bytes */

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
            (*at)->removed |= (*at)->id == change->group_id;
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

/* A place where changes should begin. */
struct spot {
    const struct check *c;
    const uint8_t *salt;
    uint8_t *file; /* all of it */
    uint64_t size, off;
};

static bool changes_valid(void *arg, const void *data)
{
    struct spot *spot = arg;
    struct registry_change changes[GROUP_COUNT_MAX];
    size_t count, extent;
    (void)data; /* lies in the file */
    return decode_changes(spot->c, spot->salt, spot->file, spot->size, spot->off, changes, &count,
                          &extent) == 0;
}

/* Mends one wrong bit in the changes at `off`, which end before `end`. */
static bool registry_mend(struct check *c, const uint8_t salt[16], uint8_t *data, uint64_t size,
                          uint64_t off, uint64_t end)
{
    struct spot spot = {.c = c, .salt = salt, .file = data, .size = size, .off = off};
    size_t reach = (size_t)MIN(end - off, CHANGES_SIZE_MAX);
    if (!check_mend_bit(c, data + off, reach, changes_valid, &spot) ||
        !check_mend(c, REGISTRY_NAME, off, data + off, reach))
        return false;
    check_damage(c,
                 (struct walrus_damage){.cost = WALRUS_COST_NAME,
                                        .mended = true,
                                        .file = REGISTRY_NAME,
                                        .block = -1,
                                        .off = off,
                                        .size = reach},
                 "a change of topics or groups had one wrong bit");
    return true;
}

static int registry_records(struct check *c, const uint8_t salt[16], uint8_t *data, uint64_t size)
{
    struct registry_change changes[GROUP_COUNT_MAX];
    uint64_t end = 2 * sizeof(struct format_registry);
    for (uint64_t off = end; off + sizeof(struct format_regrec) <= size;) {
        size_t count, extent;
        if (decode_changes(c, salt, data, size, off, changes, &count, &extent) < 0) {
            off += FORMAT_RECORD_ALIGN;
            continue;
        }
        if (off != end && registry_mend(c, salt, data, size, end, off)) {
            off = end; /* again from there */
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
    uint64_t whole = size;
    while (size > end && data[size - 1] == 0)
        size--;
    /* A change that a crash cut short is no damage, and one that is being written is none either. */
    if (size > end && registry_mend(c, salt, data, whole, end, whole))
        return registry_records(c, salt, data, whole);
    if (size > end && c->super.clean == FORMAT_CLOSED && !c->live)
        registry_damage(c, end, size);
    c->digest += format_digest(FORMAT_DIGEST_REGISTRY, crc32c(0, salt, 16), end);
    return 0;
}

static void registry_cut(struct check *c, uint64_t size)
{
    uint64_t whole = round_up(size, REGISTRY_STEP);
    c->registry_damaged = true;
    check_damage(c,
                 (struct walrus_damage){.cost = WALRUS_COST_NAME,
                                        .file = REGISTRY_NAME,
                                        .block = -1,
                                        .off = size,
                                        .size = whole - size},
                 "cut short; what these bytes said of topics and groups, if anything, is lost");
}

/* What a copy of the header is checked by. */
struct header_seed {
    uint32_t seed;
    uint8_t salt[16];
};

static bool header_valid(void *arg, const void *data)
{
    struct header_seed *seed = arg;
    uint64_t ignored;
    return format_registry_decode(data, sizeof(struct format_registry), seed->seed, seed->salt,
                                  &ignored) == 0;
}

/* Writes a bad copy again: without its one wrong bit, or from the other one where that is good. */
static bool registry_header_mend(struct check *c, uint8_t *data, uint32_t copy, bool other)
{
    struct header_seed seed = {.seed = format_seed_registry(c->super.uuid)};
    size_t size = sizeof(struct format_registry);
    if (!check_mend_bit(c, data + copy * size, size, header_valid, &seed)) {
        if (!other)
            return false;
        memcpy(data + copy * size, data + (copy ^ 1) * size, size);
    }
    return check_mend(c, REGISTRY_NAME, copy * size, data + copy * size, size);
}

int check_registry(struct check *c)
{
    uint8_t *data, salt[2][16];
    uint64_t size, id_next;
    int result[2];
    c->topic_id_next = c->super.topic_id_next;
    int r = registry_load(c, &data, &size);
    if (r < 0)
        return r;
    if (!data || size < 2 * sizeof(struct format_registry)) {
        /* A store that was never used may have none yet. */
        c->registry_damaged = c->registry_lost = data || c->file_count;
        if (c->registry_lost)
            check_damage(c,
                         (struct walrus_damage){.cost = data ? WALRUS_COST_STORE : WALRUS_COST_NAME,
                                                .file = REGISTRY_NAME,
                                                .block = -1},
                         data ? "too short for its header" : "missing, and all names with it");
        free(data);
        return 0;
    }
    if (size % REGISTRY_STEP)
        registry_cut(c, size);
    for (uint32_t copy = 0; copy < 2; copy++) {
        result[copy] = format_registry_decode(
            data + copy * sizeof(struct format_registry), sizeof(struct format_registry),
            format_seed_registry(c->super.uuid), salt[copy], &id_next);
        if (result[copy] == -EPROTONOSUPPORT)
            r = result[copy];
    }
    bool lost = result[0] < 0 && result[1] < 0;
    for (uint32_t copy = 0; r == 0 && copy < 2; copy++)
        if (result[copy] < 0)
            check_damage(
                c,
                (struct walrus_damage){.cost = lost ? WALRUS_COST_STORE : WALRUS_COST_NOTHING,
                                       .mended = registry_header_mend(c, data, copy, !lost),
                                       .file = REGISTRY_NAME,
                                       .block = -1,
                                       .off = copy * sizeof(struct format_registry),
                                       .size = sizeof(struct format_registry)},
                "copy %u of the header is damaged%s", copy,
                lost ? ", as is the other" : "; the other is used");
    for (uint32_t copy = 0; copy < 2; copy++) { /* as they may have been mended */
        result[copy] = format_registry_decode(
            data + copy * sizeof(struct format_registry), sizeof(struct format_registry),
            format_seed_registry(c->super.uuid), salt[copy], &id_next);
        if (result[copy] == 0)
            c->topic_id_next = MAX(c->topic_id_next, id_next);
    }
    c->registry_lost = result[0] < 0 && result[1] < 0;
    c->registry_damaged |= c->registry_lost;
    if (r == 0 && !c->registry_lost)
        r = registry_records(c, salt[result[0] < 0], data, size);
    free(data);
    return r;
}
