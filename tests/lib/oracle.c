/* SPDX-License-Identifier: MIT */
/*
 * oracle.c - the checks of a store against a model of it: see oracle.h.
 *
 * Uses rig and walrus.h only.  A check that fails prints and aborts.
 */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool oracle_consumed(enum oracle_state state)
{
    return state >= ORACLE_CUT;
}

uint64_t oracle_offset(const struct oracle_topic *topic, const struct oracle_group *group)
{
    uint64_t seq = 0;

    while (seq < topic->count && oracle_consumed(group->state[seq]))
        seq++;
    return seq;
}

unsigned oracle_ranges(const struct oracle_topic *topic, const struct oracle_group *group)
{
    unsigned count = 0;

    for (uint64_t seq = oracle_offset(topic, group); seq + 1 < topic->count; seq++)
        count += !oracle_consumed(group->state[seq]) && oracle_consumed(group->state[seq + 1]);
    return count;
}

void oracle_stored(struct oracle_topic *topic, struct oracle_group *group)
{
    if (oracle_ranges(topic, group) > 56) /* more than can be stored */
        return;
    for (uint64_t seq = 0; seq < topic->count; seq++) {
        if (group->state[seq] == ORACLE_CUT || group->state[seq] == ORACLE_SOFT)
            group->state[seq] = ORACLE_DONE;
        if (group->state[seq] >= ORACLE_DONE && topic->durable <= seq)
            topic->durable = seq + 1;
    }
}

void oracle_synced(struct oracle *oracle)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        struct oracle_topic *topic = &oracle->topics[t];
        topic->durable = topic->count;
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            oracle_stored(topic, &topic->groups[g]);
    }
}

/* ----------------------------------------------------------------------------- an open store -- */

static struct walrus_topic *topic_by_id(struct rig *rig, uint64_t id)
{
    struct walrus_topic *topic = NULL;
    struct walrus_topic_stat stat;

    if (walrus_topic_after(rig->walrus, id - 1, &topic) != 0)
        return NULL;
    walrus_topic_stat(topic, &stat);
    if (stat.id == id)
        return topic;
    walrus_topic_unref(topic);
    return NULL;
}

static struct walrus_group *group_by_id(struct walrus_topic *topic, uint64_t id)
{
    struct walrus_group *group = NULL;
    struct walrus_group_stat stat;

    if (walrus_group_after(topic, id - 1, &group) != 0)
        return NULL;
    walrus_group_stat(group, &stat);
    if (stat.id == id)
        return group;
    walrus_group_unref(group);
    return NULL;
}

static void stat_check(const struct walrus_group_stat *stat, const struct oracle_topic *topic,
                       const struct oracle_group *group)
{
    uint64_t pending = 0, bytes = 0, held = 0, head_size = 0;

    for (uint64_t seq = topic->count; seq-- > 0;) {
        held += group->state[seq] == ORACLE_HELD;
        if (group->state[seq] != ORACLE_PENDING)
            continue;
        pending++;
        bytes += topic->size[seq];
        head_size = topic->size[seq];
    }
    CHECK_INT(stat->offset, oracle_offset(topic, group));
    CHECK_INT(stat->pending_count, pending);
    CHECK_INT(stat->pending_bytes, bytes);
    CHECK_INT(stat->claimed_count, held);
    CHECK_INT(stat->head, pending > 0);
    CHECK_INT(stat->head_size, head_size);
}

void oracle_check_group(struct rig *rig, struct oracle_topic *topic,
                        const struct oracle_group *group)
{
    struct walrus_group_stat stat;
    struct walrus_topic_stat topic_stat;
    struct walrus_topic *in = topic_by_id(rig, topic->id);
    CHECK(in != NULL);
    struct walrus_group *found = group_by_id(in, group->id);
    CHECK(found != NULL);

    walrus_topic_stat(in, &topic_stat);
    CHECK_INT(topic_stat.tail_seq, topic->count);
    CHECK(topic_stat.durable_seq <= topic->count);
    if (topic_stat.durable_seq > topic->durable)
        topic->durable = topic_stat.durable_seq; /* what it says must hold */
    CHECK_INT(topic_stat.damaged_count, 0);
    walrus_group_stat(found, &stat);
    stat_check(&stat, topic, group);
    walrus_group_unref(found);
    walrus_topic_unref(in);
}

static void entry_check(const struct walrus_entry *entry, const struct oracle_topic *topic)
{
    CHECK(entry->seq < topic->count);
    CHECK_INT(entry->size, topic->size[entry->seq]);
    CHECK(payload_same(ORACLE_SEED, "", topic->tag[entry->seq], entry->data, entry->size));
}

void oracle_check_entry(struct rig *rig, const struct oracle_topic *topic, uint64_t seq,
                        bool damaged)
{
    struct walrus_entry entry;
    int rc = walrus_read_at(rig->walrus, topic->name, seq, &entry);

    if (damaged) {
        CHECK_INT(rc, -EBADMSG);
        return;
    }
    if (rc != 0)
        fprintf(stderr, "topic %s entry %llu\n", topic->name, (unsigned long long)seq);
    CHECK_INT(rc, 0);
    CHECK_INT(entry.seq, seq);
    entry_check(&entry, topic);
    free(entry.data);
}

/* ------------------------------------------------------------------------------ after a crash --
 */

/* The consumed entries of a group on disk, by what a claim of all the rest does not get. */
static void group_found(struct walrus_group *group, const struct oracle_topic *topic,
                        struct oracle_group *ret_found)
{
    struct walrus_group_stat stat;
    struct walrus_reader *reader = NULL;
    struct walrus_entry entry;
    uint64_t offset, at = 0;

    walrus_group_name(group, ret_found->name);
    walrus_group_stat(group, &stat);
    ret_found->live = true;
    ret_found->id = stat.id;
    CHECK(stat.offset <= topic->count);
    memset(ret_found->state, ORACLE_DONE, sizeof(ret_found->state));
    int rc = walrus_group_claim(group, SIZE_MAX, SIZE_MAX, &reader);
    CHECK_INT(rc, stat.pending_count > 0 ? 0 : WALRUS_EMPTY);
    for (uint64_t i = 0; rc == 0 && i < walrus_reader_count(reader); i++) {
        CHECK_INT(walrus_reader_entry(reader, i, &entry, &offset), 0);
        CHECK(entry.seq < topic->count);
        CHECK_INT(entry.size, topic->size[entry.seq]);
        CHECK_INT(offset, at);
        at += entry.size;
        ret_found->state[entry.seq] = ORACLE_PENDING;
    }
    stat_check(&stat, topic, ret_found);
    for (uint64_t seq = topic->count; seq < ORACLE_ENTRIES; seq++)
        ret_found->state[seq] = ORACLE_PENDING;
    CHECK_INT(walrus_reader_close(reader), 0);
}

/* The close of the claim that group_found made consumed a single entry without bytes. */
static void group_closed(const struct oracle_topic *topic, struct oracle_group *group)
{
    uint64_t pending = 0, last = 0;

    for (uint64_t seq = 0; seq < topic->count; seq++)
        if (group->state[seq] == ORACLE_PENDING) {
            pending++;
            last = seq;
        }
    if (pending == 1 && topic->size[last] == 0)
        group->state[last] = ORACLE_DONE;
}

/* What was consumed lies between the two models of the group. */
static bool group_between(const struct oracle *oracle, const struct oracle_topic *found_topic,
                          const struct oracle_group *found, const struct oracle_topic *topic,
                          const struct oracle_group *before, const struct oracle_group *after)
{
    uint64_t missing = 0;

    for (uint64_t seq = 0; seq < found_topic->count; seq++) {
        bool is = oracle_consumed(found->state[seq]);
        if (is && !oracle_consumed(before->state[seq]) && !oracle_consumed(after->state[seq]))
            return false; /* skipped */
        if (!is && before->state[seq] == ORACLE_DONE)
            return false;                                    /* again, although that was durable */
        missing += !is && before->state[seq] == ORACLE_SOFT; /* those in hand do not count */
    }
    return oracle_ranges(topic, before) > 56 || oracle->strict ||
           missing <= oracle->persist_every; /* strict: soft only while a store is opened */
}

static void group_print(const char *what, const struct oracle_topic *topic,
                        const struct oracle_group *group)
{
    fprintf(stderr, "%-6s %s/%s:", what, topic->name, group->name);
    for (uint64_t seq = 0; seq < topic->count; seq++)
        fputc(".hcsDg"[group->state[seq]], stderr);
    fputc('\n', stderr);
}

static void group_check_crash(struct walrus_topic *in, const struct oracle *oracle,
                              struct oracle_topic *found_topic, size_t g,
                              const struct oracle_topic *before, const struct oracle_topic *after)
{
    const struct oracle_group *b = &before->groups[g], *a = &after->groups[g];
    struct oracle_group *found = &found_topic->groups[g];
    bool before_live = before->live && b->live, after_live = after->live && a->live;

    memset(found, 0, sizeof(*found));
    if (!before_live && !after_live)
        return;
    struct walrus_group *group = group_by_id(in, after_live ? a->id : b->id);
    CHECK(group != NULL || !before_live || !after_live);
    if (group == NULL)
        return;
    group_found(group, found_topic, found);
    walrus_group_unref(group);
    CHECK((before_live && strcmp(b->name, found->name) == 0) ||
          (after_live && strcmp(a->name, found->name) == 0));
    if (!before_live) {
        b = a; /* made by the call: nothing of it is consumed */
        before = after;
    }
    if (!after_live) {
        a = b;
        after = before;
    }
    bool good = b->seeks == a->seeks ? group_between(oracle, found_topic, found, before, b, a)
                                     : group_between(oracle, found_topic, found, before, b, b) ||
                                           group_between(oracle, found_topic, found, after, a, a);
    found->seeks = a->seeks;
    if (good)
        return;
    group_print("before", before, b);
    group_print("after", after, a);
    group_print("found", found_topic, found);
    CHECK(!"what the group consumed lies between before and after");
}

static unsigned groups_count(struct walrus_topic *topic)
{
    struct walrus_group *group;
    struct walrus_group_stat stat;
    unsigned count = 0;

    for (uint64_t id = 0; walrus_group_after(topic, id, &group) == 0; id = stat.id) {
        walrus_group_stat(group, &stat);
        walrus_group_unref(group);
        count++;
    }
    return count;
}

/* What all groups consumed may be given back at any time. */
static uint64_t must_be_there(struct walrus_topic *topic, const struct walrus_topic_stat *stat)
{
    struct walrus_group *group;
    struct walrus_group_stat group_stat;
    uint64_t low = stat->tail_seq;

    if (stat->retention.kind == WALRUS_KEEP_ALL)
        return stat->first_seq;
    for (uint64_t id = 0; walrus_group_after(topic, id, &group) == 0; id = group_stat.id) {
        walrus_group_stat(group, &group_stat);
        walrus_group_unref(group);
        if (group_stat.offset < low)
            low = group_stat.offset;
    }
    CHECK(stat->first_seq <= low);
    return low;
}

static void log_check(struct rig *rig, struct walrus_topic *in, struct oracle_topic *found,
                      const struct oracle_topic *before, const struct oracle_topic *after,
                      bool killed)
{
    struct walrus_topic_stat stat;
    struct walrus_entry entry;
    uint64_t bytes = 0;
    uint64_t least = before->live ? (killed ? before->count : before->durable) : 0;

    walrus_topic_stat(in, &stat);
    walrus_topic_name(in, found->name);
    found->live = true;
    CHECK((before->live && strcmp(before->name, found->name) == 0) ||
          (after->live && strcmp(after->name, found->name) == 0));
    if (stat.tail_seq < least || stat.tail_seq > found->count)
        fprintf(stderr, "topic %s: %llu entries, not %llu to %llu\n", found->name,
                (unsigned long long)stat.tail_seq, (unsigned long long)least,
                (unsigned long long)found->count);
    CHECK(stat.tail_seq >= least && stat.tail_seq <= found->count);
    CHECK_INT(stat.damaged_count, 0);
    if (stat.tail_seq > 0)
        CHECK(found->unit_end[stat.tail_seq - 1] <= stat.tail_seq);
    found->count = stat.tail_seq;
    found->durable = killed ? (before->live && before->durable < found->count ? before->durable : 0)
                            : found->count;
    found->retention = stat.retention;
    if (stat.retention.kind != WALRUS_KEEP_ALL) /* the crash undid what kept it all */
        found->keep_from = UINT64_MAX;
    found->limit = stat.limit;
    CHECK(stat.first_seq <= stat.tail_seq);
    if (before->live && after->live && before->keep_from != UINT64_MAX &&
        after->keep_from != UINT64_MAX)
        CHECK(stat.first_seq <= before->keep_from);
    for (uint64_t seq = 0; seq < found->count; seq++)
        bytes += found->size[seq];
    CHECK_INT(stat.bytes, bytes);
    for (uint64_t seq = must_be_there(in, &stat); seq < found->count; seq++)
        oracle_check_entry(rig, found, seq, false);
    CHECK_INT(walrus_read_at(rig->walrus, found->name, found->count, &entry), -ENOENT);
}

static void topic_check_crash(struct rig *rig, const struct oracle *oracle,
                              struct oracle_topic *found, const struct oracle_topic *before,
                              const struct oracle_topic *after, bool killed, unsigned *ret_seen)
{
    unsigned seen = 0;

    *found = after->live ? *after : *before;
    found->live = false;
    if (!before->live && !after->live)
        return;
    struct walrus_topic *in = topic_by_id(rig, found->id);
    CHECK(in != NULL || !before->live || !after->live);
    if (in == NULL)
        return;
    (*ret_seen)++;
    log_check(rig, in, found, before, after, killed);
    for (size_t g = 0; g < ORACLE_GROUPS; g++) {
        group_check_crash(in, oracle, found, g, before, after);
        seen += found->groups[g].live;
    }
    CHECK_INT(groups_count(in), seen);
    walrus_topic_unref(in);
}

static void store_check(struct rig *rig, const struct oracle *before, const struct oracle *after,
                        bool killed, struct oracle *ret_found)
{
    unsigned seen = 0;

    *ret_found = *after;
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        topic_check_crash(rig, after, &ret_found->topics[t], &before->topics[t], &after->topics[t],
                          killed, &seen);
    CHECK_INT(rig_stat(rig).topic_count, seen);
    if (rig_reports(rig, WALRUS_ERROR) > 0)
        fputs(rig->report_text, stderr);
    CHECK_INT(rig_reports(rig, WALRUS_ERROR), 0);
}

/* One more entry for each topic. */
static void store_extend(struct rig *rig, struct oracle *oracle)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        struct oracle_topic *topic = &oracle->topics[t];
        if (!topic->live || topic->count == ORACLE_ENTRIES || topic->limit)
            continue;
        uint32_t size = 100 + (uint32_t)t, tag = 0x80000000u + (uint32_t)topic->count;
        uint8_t data[256];
        payload_fill(ORACLE_SEED, "", tag, data, size);
        CHECK_INT(walrus_append(rig->walrus, topic->name, data, size), 0);
        topic->size[topic->count] = size;
        topic->tag[topic->count] = tag;
        topic->unit_end[topic->count] = (uint16_t)(topic->count + 1);
        topic->count++;
        oracle_check_entry(rig, topic, topic->count - 1, false);
    }
}

void oracle_check_crash(struct rig *rig, const struct oracle *before, const struct oracle *after,
                        bool killed, struct oracle *ret_found)
{
    static struct oracle extended, again;

    rig_open(rig);
    store_check(rig, before, after, killed, ret_found);
    extended = *ret_found;
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            group_closed(&extended.topics[t], &extended.topics[t].groups[g]);
    store_extend(rig, &extended);
    rig_reopen(rig);
    store_check(rig, &extended, &extended, true, &again);
    rig_close(rig);
}

void oracle_check_read_only(struct rig *rig)
{
    struct rig copy;
    struct walrus_topic *topic;
    struct walrus_topic_stat stat;
    struct walrus_entry entry;
    char name[WALRUS_NAME_SIZE_MAX + 1];

    rig_copy(rig, &copy);
    copy.options.read_only = true;
    rig_open(&copy);
    for (uint64_t id = 0; walrus_topic_after(copy.walrus, id, &topic) == 0; id = stat.id) {
        walrus_topic_stat(topic, &stat);
        walrus_topic_name(topic, name);
        for (uint64_t seq = stat.first_seq; seq < stat.tail_seq; seq++) {
            CHECK_INT(walrus_read_at(copy.walrus, name, seq, &entry), 0);
            free(entry.data);
        }
        walrus_topic_unref(topic);
    }
    rig_close(&copy);
    CHECK(dir_same(rig->dir, copy.dir));
    rig_fini(&copy);
}

/* ------------------------------------------------------------------------------------ damage -- */

/* Takes all of "default" one by one: the damaged entry is told once. */
static void flip_drain(struct rig *rig, const struct oracle_topic *topic,
                       const struct oracle_group *group, uint64_t damaged)
{
    struct walrus_entry entry;

    for (uint64_t seq = 0; seq < topic->count; seq++) {
        if (oracle_consumed(group->state[seq]))
            continue;
        int rc = walrus_read_next(rig->walrus, topic->name, &entry);
        CHECK_INT(rc, seq == damaged ? -EBADMSG : 0);
        if (rc != 0)
            continue;
        CHECK_INT(entry.seq, seq);
        entry_check(&entry, topic);
        free(entry.data);
    }
    CHECK_INT(walrus_read_next(rig->walrus, topic->name, &entry), WALRUS_EMPTY);
}

void oracle_check_flip(struct rig *rig, const struct oracle *oracle, uint64_t *random)
{
    const struct oracle_topic *topic = &oracle->topics[powercut_random(random, ORACLE_TOPICS)];
    struct walrus_topic_stat stat;
    struct place place;

    if (!topic->live || topic->count == 0)
        return;
    rig_open(rig);
    stat = rig_topic_stat(rig, topic->name);
    rig_close(rig);
    if (stat.first_seq >= topic->count)
        return;
    uint64_t seq = stat.first_seq + powercut_random(random, topic->count - stat.first_seq);
    uint32_t size = topic->size[seq] < 1024 ? topic->size[seq] : 1024;
    uint8_t data[1024];
    payload_fill(ORACLE_SEED, "", topic->tag[seq], data, size);
    if (size < 16 || !dir_find(rig->dir, data, size, &place))
        return;
    place_flip(&place, (int64_t)powercut_random(random, size + RIG_RECORD_SIZE) - RIG_RECORD_SIZE);
    rig_open(rig);
    CHECK_INT(rig_topic_stat(rig, topic->name).tail_seq, topic->count);
    struct walrus_topic *in = topic_by_id(rig, topic->id);
    CHECK(in != NULL);
    walrus_topic_stat(in, &stat);
    for (uint64_t i = must_be_there(in, &stat); i < topic->count; i++)
        oracle_check_entry(rig, topic, i, i == seq);
    walrus_topic_unref(in);
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        if (topic->groups[g].live && strcmp(topic->groups[g].name, "default") == 0)
            flip_drain(rig, topic, &topic->groups[g], seq);
    rig_close(rig);
}
