/* SPDX-License-Identifier: MIT */
/*
 * repair_lost.c - makes anew what has no good copy: a block's table entry from its records, records
 * of the registry from blocks and offsets.
 *
 * Serves repair.c, after its first pass has read everything.
 *
 * A record's checksum depends on the epoch of its block, which only the table knows.  But it can be
 * run backwards: from a record to the seed, and from the seed to an epoch that gives it.  Whose
 * block it is, no record says: it must fill a gap in the blocks of just one topic, by the numbers of
 * its entries.  Where two would do, nothing is guessed: the block stays out of use, as it is.
 *
 * A damaged registry is written anew as a whole, beside the old one, with all records that can be read
 * and those that were lost, and then renamed over it.
 *
 * Failure: see repair.c.
 */
#include "repair.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "os.h"

/* No entry that was ever written has so high a generation: it cannot pass for the lost one. */
#define REBUILT_GENERATION ((uint64_t)1 << 40)

/* ------------------------------------------------------------------------------ blocks' entries -- */

/* A block whose entries are both lost, by its records. */
struct orphan {
    struct check *c;
    const struct check_place *place;
    uint8_t *data;
    uint32_t seed;
    uint64_t first_seq, end_seq; /* of entries that begin in it */
    uint64_t bytes;
};

/* The seed under which a valid record lies at `off`, its data checked too. */
static bool seed_at(struct orphan *o, uint32_t off)
{
    struct format_record raw;
    struct record_info info;
    memcpy(&raw, o->data + off, sizeof(raw));
    uint32_t crc = le32_get(raw.crc);
    raw.crc = le32_put(off);
    uint32_t seed = crc32c_before(crc, &raw, sizeof(raw));
    if (format_record_decode(o->data + off, o->c->super.block_size - off, seed, off, &info) < 0 ||
        crc32c(0, o->data + off + FORMAT_RECORD_SIZE, info.size) != info.data_crc)
        return false;
    o->seed = seed;
    return true;
}

/* What its records say.  False: there are none, or the first is bad. */
static bool orphan_read(struct orphan *o)
{
    uint32_t size = o->c->super.block_size;
    bool any = false;
    if (!seed_at(o, 0))
        return false;
    for (uint32_t off = 0; off + FORMAT_RECORD_SIZE <= size;) {
        struct record_info info;
        if (format_record_decode(o->data + off, size - off, o->seed, off, &info) < 0) {
            off += FORMAT_RECORD_ALIGN;
            continue;
        }
        bool cont = info.flags & FORMAT_CONT;
        if (!any)
            o->first_seq = info.seq + cont;
        any = true;
        o->bytes += cont ? 0 : info.total;
        o->end_seq = info.seq + 1;
        off += (uint32_t)format_record_extent(info.size);
    }
    return any;
}

/* Places of a topic around which the orphan fits. */
struct fit {
    const struct check_topic *topic;
    const struct check_place *before, *after; /* NULL: none */
    unsigned count, inner;                    /* how many fit; between two others */
};

static void fit_add(struct fit *fit, const struct check_topic *topic,
                    const struct check_place *before, const struct check_place *after)
{
    bool inner = before && after;
    fit->count += !inner;
    fit->inner += inner;
    if (fit->inner && !inner)
        return;
    fit->topic = topic;
    fit->before = before;
    fit->after = after;
}

static bool place_ends_at(const struct check_place *place, uint64_t seq)
{
    return place->info.state == FORMAT_SEALED && place->info.first_seq + place->info.count == seq;
}

static void fit_topic(const struct orphan *o, const struct check_topic *topic, struct fit *fit)
{
    const struct check *c = o->c;
    if (topic->removed)
        return;
    if (!topic->last_place) {
        if (topic->name && o->first_seq == 0 && topic->bound <= o->end_seq)
            fit_add(fit, topic, NULL, NULL);
        return;
    }
    const struct check_place *last = &c->places[topic->last_place - 1], *at = last;
    if (topic->end_seq == o->first_seq)
        fit_add(fit, topic, last, NULL);
    for (; at > c->places && at[-1].info.topic_id == topic->id; at--)
        if (at[-1].info.block_seq + 2 == at->info.block_seq &&
            place_ends_at(&at[-1], o->first_seq) && at->info.first_seq == o->end_seq)
            fit_add(fit, topic, &at[-1], at);
    if (at->info.block_seq > 0 && at->info.first_seq == o->end_seq)
        fit_add(fit, topic, NULL, at);
}

/* An epoch that gives the seed, below those of the next opening. */
static uint64_t epoch_of(const struct orphan *o)
{
    const struct check_file *file = &o->c->files[o->place->file];
    const struct le64 zero = le64_put(0);
    struct le32 high = le32_put((uint32_t)o->c->super.generation);
    uint32_t base = crc32c_before(
        format_seed_record(o->c->super.uuid, file->salt, file->number, o->place->idx, 0), &zero,
        sizeof(zero));
    uint32_t middle = crc32c_before(o->seed, &high, sizeof(high));
    uint32_t low = crc32c_before(middle, &zero, sizeof(struct le32)) ^ base;
    return (uint64_t)le32_get(high) << 32 | low;
}

static int orphan_enter(struct orphan *o, const struct fit *fit)
{
    struct check *c = o->c;
    const struct check_file *file = &c->files[o->place->file];
    struct block_info info = {.state = FORMAT_ACTIVE,
                              .generation = REBUILT_GENERATION,
                              .epoch = epoch_of(o),
                              .topic_id = fit->topic->id,
                              .first_seq = o->first_seq};
    if (fit->before) {
        info.block_seq = fit->before->info.block_seq + 1;
        info.first_byte = fit->before->info.first_byte + fit->before->info.bytes;
    } else if (fit->after) {
        info.block_seq = fit->after->info.block_seq - 1;
        info.first_byte = fit->after->info.first_byte - MIN(o->bytes, fit->after->info.first_byte);
    }
    bool done = true;
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct format_block raw;
        format_block_encode(
            &raw, &info,
            format_seed_block(c->super.uuid, file->salt, file->number, o->place->idx, copy));
        done =
            done && check_mend(c, file->name, FORMAT_TABLE_OFF(copy) + o->place->idx * sizeof(raw),
                               &raw, sizeof(raw));
    }
    c->digest_wrong |= done;
    if (done)
        check_damage(c,
                     (struct walrus_damage){.cost = WALRUS_COST_BLOCK,
                                            .mended = true,
                                            .file = file->name,
                                            .topic = fit->topic->name,
                                            .block = o->place->idx,
                                            .off = FORMAT_TABLE_OFF(0) +
                                                   o->place->idx * sizeof(struct format_block),
                                            .size = sizeof(struct format_block)},
                     "the block's table entry was made anew from its records, entries %" PRIu64
                     " to %" PRIu64,
                     o->first_seq, o->end_seq - 1);
    return c->mender->error;
}

static int repair_block(struct check *c, const struct check_place *place)
{
    struct orphan o = {.c = c, .place = place};
    struct fit fit = {0};
    struct check_topic *topic, *next;
    o.data = malloc(c->super.block_size);
    if (!o.data)
        return -ENOMEM;
    int r = os_read_salvaging(c->files[place->file].fd, o.data, c->super.block_size,
                              FORMAT_FILE_META_SIZE + (uint64_t)place->idx * c->super.block_size);
    if (r == 0 && orphan_read(&o)) {
        HASH_ITER(hh, c->topics, topic, next)
        fit_topic(&o, topic, &fit);
        if (fit.inner == 1 || (fit.inner == 0 && fit.count == 1))
            r = orphan_enter(&o, &fit);
    }
    free(o.data);
    return r == -EIO ? 0 : r; /* it cannot be read: it is told */
}

/* ------------------------------------------------------------------------------------ registry -- */

/* The registry that takes the place of the damaged one. */
struct remade {
    struct check *c;
    struct registry_making *making; /* NULL: it is in its place, and what it has again is told */
};

/* What takes the place of a name that is lost. */
static void recovered_name(uint64_t id, char ret_name[40])
{
    snprintf(ret_name, 40, "recovered-%" PRIu64, id);
}

/* A record that was lost: adds it, or tells of it. */
static int lost_record(struct remade *remade, struct registry_change *change,
                       const struct check_topic *topic, const char *name)
{
    static const uint8_t attr[WALRUS_ATTR_SIZE];
    char own[40];
    recovered_name(topic->id, own);
    change->name = name;
    change->name_size = strlen(name);
    change->attr = attr;
    if (remade->making)
        return registry_add(remade->making, change);
    check_damage(remade->c,
                 (struct walrus_damage){.cost = WALRUS_COST_NAME,
                                        .mended = true,
                                        .file = "topics.db",
                                        .topic = topic->name ? topic->name : own,
                                        .block = -1},
                 change->kind == REGISTRY_TOPIC
                     ? "the topic has a record again, under the name %s"
                     : "group %s has a record again, and goes on where it was",
                 name);
    return 0;
}

/* A topic that has no record any more, but blocks or groups. */
static bool topic_lost(const struct check_topic *topic)
{
    return !topic->removed && !topic->name && (topic->last_place || topic->groups);
}

static int lost_topics(struct remade *remade)
{
    struct check_topic *topic, *next;
    int r = 0;
    HASH_ITER(hh, remade->c->topics, topic, next)
    {
        struct registry_change change = {.kind = REGISTRY_TOPIC, .topic_id = topic->id};
        char name[40];
        recovered_name(topic->id, name);
        if (r == 0 && topic_lost(topic))
            r = lost_record(remade, &change, topic, name);
    }
    return r;
}

/* The group whose offset the stray is: the first one of a topic is made as "default". */
static int lost_group(struct remade *remade, const struct check_stray *stray)
{
    struct check_topic *topic;
    char name[40];
    struct registry_change change = {.kind = REGISTRY_GROUP,
                                     .topic_id = stray->topic_id,
                                     .group_id = stray->group_id,
                                     .slot = stray->slot};
    HASH_FIND(hh, remade->c->topics, &stray->topic_id, sizeof(stray->topic_id), topic);
    if (!topic || topic->removed || !(topic->name || topic_lost(topic)))
        return 0;
    for (struct check_group *group = topic->groups; group; group = group->next)
        if (group->id == stray->group_id || group->slot == stray->slot)
            return 0;
    recovered_name(stray->group_id, name);
    return lost_record(remade, &change, topic, stray->group_id == 1 ? "default" : name);
}

static int lost_groups(struct remade *remade)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < remade->c->stray_count; i++)
        r = lost_group(remade, &remade->c->strays[i]);
    return r;
}

static int add_kept(void *arg, const struct registry_change *change)
{
    struct remade *remade = arg;
    return registry_add(remade->making, change);
}

/* All records that can be read, in their order, between lost topics, so that theirs come before their
 * groups', and lost groups. */
static int registry_refill(void *arg, struct registry_making *making)
{
    struct remade *remade = arg;
    struct check *c = remade->c;
    struct reporter silent = {0};
    struct registry *old = NULL;
    uint64_t ignored_next, ignored_damaged;
    remade->making = making;
    int r = lost_topics(remade);
    if (r == 0 && !c->registry_lost)
        r = registry_open(c->dirfd, c->super.uuid, true, &silent, add_kept, remade, &ignored_next,
                          &ignored_damaged, &old);
    registry_close(old);
    return r == 0 ? lost_groups(remade) : r;
}

/* Keeps topics.db as it is, all of it. */
static int registry_keep(struct check *c, uint64_t *ret_size)
{
    struct stat st = {0};
    int fd = os_open(c->dirfd, "topics.db", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    int r = os_fstat(fd, &st);
    if (r == 0)
        r = mender_keep(c->mender, "topics.db", fd, 0, (uint64_t)st.st_size);
    os_close(fd);
    *ret_size = (uint64_t)st.st_size;
    return r;
}

/* Makes a damaged registry anew, whole and in one step: until then what shows the damage is there, so
 * that a repair that was cut short is done again. */
static int repair_registry(struct check *c)
{
    struct remade remade = {.c = c};
    struct check_topic *topic, *next;
    uint64_t id_next = c->topic_id_next, size = 0;
    if (!c->registry_damaged)
        return 0;
    HASH_ITER(hh, c->topics, topic, next)
    id_next = MAX(id_next, topic->id + 1);
    int r = registry_keep(c, &size);
    if (r == 0)
        r = registry_make(c->dirfd, c->super.uuid, registry_refill, &remade, id_next);
    if (r < 0)
        return r;
    c->digest_wrong = true;
    check_damage(
        c,
        (struct walrus_damage){.cost = WALRUS_COST_NAME,
                               .mended = true,
                               .file = "topics.db",
                               .block = -1,
                               .size = size},
        "made anew from what could be read; what else it said of topics and groups is lost");
    remade.making = NULL;
    r = lost_topics(&remade);
    return r == 0 ? lost_groups(&remade) : r;
}

int repair_lost(struct check *c)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < c->orphan_count; i++)
        r = repair_block(c, &c->orphans[i]);
    return r < 0 ? r : repair_registry(c);
}
