/* SPDX-License-Identifier: MIT */
/*
 * program.c - random calls on a store and its model: see program.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program_parts.h"

enum {
    NOTES_MAX = 48,
};

struct rig program_rig;
struct oracle program_now;
uint64_t program_random;
uint32_t program_append_max, program_blob_max;
bool program_verbose;
bool program_fallible, program_unsure;
int program_failure;
static uint32_t name_next;
static char notes[NOTES_MAX][160];
static unsigned note_count;

uint64_t program_dice(uint64_t limit)
{
    return powercut_random(&program_random, limit);
}

bool program_chance(unsigned percent)
{
    return program_dice(100) < percent;
}

__attribute__((format(printf, 1, 2))) void program_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    char *note = notes[note_count++ % NOTES_MAX];
    vsnprintf(note, sizeof(notes[0]), format, args);
    va_end(args);
    if (program_verbose)
        fprintf(stderr, "  %s\n", note);
}

void program_print_notes(void)
{
    for (unsigned i = note_count > NOTES_MAX ? note_count - NOTES_MAX : 0; i < note_count; i++)
        fprintf(stderr, "  %s\n", notes[i % NOTES_MAX]);
}

void program_init(uint64_t seed)
{
    program_random = seed;
    note_count = program_tag_next = name_next = 0;
    program_failure = 0;
    memset(&program_now, 0, sizeof(program_now));
    program_append_max = 200000;
    program_blob_max = 2500000;
    rig_init(&program_rig);
}

void program_choose_options(void)
{
    program_now.strict = program_chance(50);
    program_now.persist_every = 1 + (uint32_t)program_dice(5);
    program_rig.options.blocks_per_file = 1 + (uint32_t)program_dice(8);
    program_rig.options.consistency = program_now.strict ? WALRUS_STRICT : WALRUS_AT_LEAST_ONCE;
    program_rig.options.persist_every = program_now.persist_every;
    program_rig.options.fsync = (enum walrus_fsync)program_dice(3);
    program_rig.options.fsync_ms = program_chance(50) ? 1 + (uint32_t)program_dice(20) : 3600000;
    program_note("strict %d, persist_every %u, fsync %d, fsync_ms %u, %u blocks a file",
                 program_now.strict, program_now.persist_every, (int)program_rig.options.fsync,
                 program_rig.options.fsync_ms, program_rig.options.blocks_per_file);
}

bool program_result(int rc, int expected)
{
    if (rc == expected)
        return true;
    if (!program_fallible)
        CHECK_INT(rc, expected);
    CHECK(rc < 0 && rc > -133);
    if (program_failure == 0)
        program_failure = rc;
    program_note("-- failed: %s", strerrorname_np(-rc));
    return false;
}

/* ---------------------------------------------------------------------------------- choosing -- */

struct oracle_topic *program_pick_topic(void)
{
    size_t first = program_dice(ORACLE_TOPICS);

    for (size_t i = 0; i < ORACLE_TOPICS; i++)
        if (program_now.topics[(first + i) % ORACLE_TOPICS].live)
            return &program_now.topics[(first + i) % ORACLE_TOPICS];
    return NULL;
}

struct oracle_group *program_pick_group(struct oracle_topic *topic)
{
    size_t first = program_dice(ORACLE_GROUPS);

    for (size_t i = 0; i < ORACLE_GROUPS; i++)
        if (topic->groups[(first + i) % ORACLE_GROUPS].live)
            return &topic->groups[(first + i) % ORACLE_GROUPS];
    CHECK(!"every topic has a group");
}

struct walrus_topic *program_topic_ref(const struct oracle_topic *topic)
{
    struct walrus_topic *found = NULL;

    CHECK_INT(walrus_topic_find(program_rig.walrus, topic->name, &found), 0);
    return found;
}

struct walrus_group *program_group_ref(const struct oracle_topic *topic,
                                       const struct oracle_group *group)
{
    struct walrus_topic *in = program_topic_ref(topic);
    struct walrus_group *found = NULL;

    CHECK_INT(walrus_group_find(in, group->name, &found), 0);
    walrus_topic_unref(in);
    return found;
}

struct oracle_group *program_default_group(struct oracle_topic *topic)
{
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        if (topic->groups[g].live && strcmp(topic->groups[g].name, "default") == 0)
            return &topic->groups[g];
    return NULL;
}

/* ---------------------------------------------------------------------- groups, topics, store --
 */

void program_seek(struct oracle_topic *topic, struct oracle_group *group, enum walrus_whence whence,
                  uint64_t target)
{
    uint64_t value = whence == WALRUS_SEEK_BY ? target - oracle_offset(topic, group) : target;
    if (whence == WALRUS_SEEK_END)
        target = topic->count;
    program_note("seek %s/%s: whence %d to %llu", topic->name, group->name, (int)whence,
                 (unsigned long long)target);
    struct walrus_group *ref = program_group_ref(topic, group);
    CHECK_INT(walrus_group_seek(ref, WALRUS_SEEK_TO, topic->count + 1), -ERANGE);
    int rc = walrus_group_seek(ref, whence, value);
    struct walrus_group_stat after;
    walrus_group_stat(ref, &after);
    walrus_group_unref(ref);
    if (rc == -ERANGE && target < rig_topic_stat(&program_rig, topic->name).first_seq)
        return; /* reclaimed meanwhile */
    if (!program_result(rc, 0))
        return;
    if (whence == WALRUS_SEEK_BEGIN)
        target = after.offset;
    for (uint64_t seq = 0; seq < topic->count; seq++)
        group->state[seq] = seq < target ? ORACLE_DONE : ORACLE_PENDING;
    if (topic->durable < target)
        topic->durable = target;
    group->seeks++;
    program_group_moved(group);
}

static void op_seek(void)
{
    struct oracle_topic *topic = program_pick_topic();

    if (topic == NULL)
        return;
    struct oracle_group *group = program_pick_group(topic);
    struct walrus_topic_stat stat = rig_topic_stat(&program_rig, topic->name);
    uint64_t target = stat.first_seq + program_dice(topic->count - stat.first_seq + 1);
    program_seek(topic, group, (enum walrus_whence)program_dice(4), target);
}

void program_group_make(struct oracle_topic *topic, struct oracle_group *group)
{
    struct walrus_topic *in = program_topic_ref(topic);
    struct walrus_group *made = NULL;
    struct walrus_group_stat stat;

    memset(group, 0, sizeof(*group));
    snprintf(group->name, sizeof(group->name), "g%u", name_next++);
    if (program_default_group(topic) == NULL && program_chance(50))
        strcpy(group->name, "default");
    program_note("create group %s/%s", topic->name, group->name);
    int rc = walrus_group_create(in, group->name, NULL, &made);
    walrus_topic_unref(in);
    if (!program_result(rc, 0))
        return;
    walrus_group_stat(made, &stat);
    group->live = true;
    group->id = stat.id;
    for (uint64_t seq = 0; seq < stat.offset; seq++)
        group->state[seq] = ORACLE_GONE;
    walrus_group_unref(made);
}

void program_group_rename(struct oracle_topic *topic, struct oracle_group *group)
{
    struct walrus_group *ref = program_group_ref(topic, group);
    char name[16];

    snprintf(name, sizeof(name), "g%u", name_next++);
    program_note("rename group %s/%s to %s", topic->name, group->name, name);
    if (program_result(walrus_group_rename(ref, name), 0))
        strcpy(group->name, name);
    walrus_group_unref(ref);
}

void program_group_remove(struct oracle_topic *topic, struct oracle_group *group)
{
    struct walrus_group *ref = program_group_ref(topic, group);
    unsigned live = 0;

    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        live += topic->groups[g].live;
    program_note("remove group %s/%s", topic->name, group->name);
    int rc = walrus_group_remove(ref);
    program_unsure = rc < 0;
    if (program_result(rc, live > 1 ? 0 : -EBUSY) && live > 1)
        program_group_gone(group);
    walrus_group_unref(ref);
}

static void op_group(void)
{
    struct oracle_topic *topic = program_pick_topic();

    if (topic == NULL)
        return;
    struct oracle_group *group = &topic->groups[program_dice(ORACLE_GROUPS)];
    if (!group->live)
        program_group_make(topic, group);
    else if (program_chance(50))
        program_group_rename(topic, group);
    else
        program_group_remove(topic, group);
}

void program_topic_make(struct oracle_topic *topic)
{
    struct walrus_topic *made = NULL;
    struct walrus_topic_stat stat;

    memset(topic, 0, sizeof(*topic));
    snprintf(topic->name, sizeof(topic->name), "t%u", name_next++);
    program_note("create topic %s", topic->name);
    int rc = walrus_topic_create(program_rig.walrus, topic->name, NULL, NULL, &made);
    if (!program_result(rc, 0))
        return;
    walrus_topic_stat(made, &stat);
    topic->live = true;
    topic->id = stat.id;
    topic->keep_from = UINT64_MAX;
    topic->groups[0].live = true;
    topic->groups[0].id = 1;
    strcpy(topic->groups[0].name, "default");
    walrus_topic_unref(made);
}

void program_topic_rename(struct oracle_topic *topic)
{
    struct walrus_topic *ref = program_topic_ref(topic);
    char name[16];

    snprintf(name, sizeof(name), "t%u", name_next++);
    program_note("rename topic %s to %s", topic->name, name);
    if (program_result(walrus_topic_rename(ref, name), 0))
        strcpy(topic->name, name);
    walrus_topic_unref(ref);
}

void program_topic_remove(struct oracle_topic *topic)
{
    struct walrus_topic *ref = program_topic_ref(topic);
    bool consumed = true;

    program_note("remove topic %s", topic->name);
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        consumed &=
            !topic->groups[g].live || oracle_offset(topic, &topic->groups[g]) == topic->count;
    int rc = walrus_topic_remove(ref);
    program_unsure = rc < 0;
    if (program_result(rc, consumed ? 0 : -ENOTEMPTY) && consumed) {
        topic->live = false;
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            if (topic->groups[g].live)
                program_group_gone(&topic->groups[g]);
        program_blobs_abort(topic);
    }
    walrus_topic_unref(ref);
}

static void op_topic(void)
{
    struct oracle_topic *topic = &program_now.topics[program_dice(ORACLE_TOPICS)];

    if (!topic->live)
        program_topic_make(topic);
    else if (program_chance(50))
        program_topic_rename(topic);
    else
        program_topic_remove(topic);
}

static void op_settings(void)
{
    struct oracle_topic *topic = program_pick_topic();
    struct walrus_retention retention = {.kind = (enum walrus_retention_kind)program_dice(4),
                                         .value = program_dice(300000)};

    if (topic == NULL)
        return;
    struct walrus_topic *ref = program_topic_ref(topic);
    if (program_chance(50)) {
        uint64_t limit = program_chance(60) ? 0 : 200000 + program_dice(1000000);
        program_note("limit %s: %llu", topic->name, (unsigned long long)limit);
        if (program_result(walrus_topic_set_limit(ref, limit), 0))
            topic->limit = limit;
    } else {
        program_note("retention %s: %d", topic->name, (int)retention.kind);
        if (program_result(walrus_topic_set_retention(ref, &retention), 0)) {
            topic->retention = retention;
            topic->keep_from = retention.kind == WALRUS_KEEP_ALL
                                   ? rig_topic_stat(&program_rig, topic->name).first_seq
                                   : UINT64_MAX;
        }
    }
    walrus_topic_unref(ref);
}

void program_sync(struct oracle_topic *topic, struct oracle_group *group)
{
    if (topic == NULL) {
        program_note("sync");
        if (program_result(walrus_sync(program_rig.walrus), 0))
            oracle_synced(&program_now);
        return;
    }
    struct walrus_group *ref = program_group_ref(topic, group);
    program_note("sync %s, group %s", topic->name, group->name);
    if (program_result(walrus_topic_sync(walrus_group_topic(ref)), 0)) {
        topic->durable = topic->count;
        if (program_result(walrus_group_sync(ref), 0))
            oracle_stored(topic, group);
    }
    walrus_group_unref(ref);
}

static void op_sync(void)
{
    struct oracle_topic *topic = program_pick_topic();

    if (topic == NULL || program_chance(40))
        program_sync(NULL, NULL);
    else
        program_sync(topic, program_pick_group(topic));
}

/* ------------------------------------------------------------------------------------- whole -- */

static void op_writeback(void)
{
    powercut_writeback((unsigned)program_dice(100), &program_random);
}

static const struct {
    void (*run)(void);
    unsigned weight;
} ops[] = {
    {program_op_append, 30},
    {program_op_blob, 6},
    {program_op_claim, 16},
    {program_op_read, 20},
    {program_op_delivered, 14},
    {program_op_close_hold, 8},
    {program_op_take, 12},
    {program_op_entry, 4},
    {op_seek, 3},
    {op_group, 4},
    {op_topic, 4},
    {op_settings, 2},
    {op_sync, 4},
    {op_writeback, 4},
};

void program_call(void)
{
    unsigned sum = 0, at;
    size_t i = 0;

    for (size_t k = 0; k < sizeof(ops) / sizeof(ops[0]); k++)
        sum += ops[k].weight;
    for (at = (unsigned)program_dice(sum); at >= ops[i].weight; i++)
        at -= ops[i].weight;
    ops[i].run();
}

void program_check_groups(void)
{
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        for (size_t g = 0; program_now.topics[t].live && g < ORACLE_GROUPS; g++)
            if (program_now.topics[t].groups[g].live)
                oracle_check_group(&program_rig, &program_now.topics[t],
                                   &program_now.topics[t].groups[g]);
}

void program_give_back(void)
{
    program_holds_close();
    program_blobs_abort(NULL);
}

void program_open(void)
{
    program_note("open");
    if (program_fallible && !program_result(rig_try_open(&program_rig), 0))
        return;
    if (!program_fallible)
        rig_open(&program_rig);
    /* what was read is durable, offsets at once */
    for (size_t t = 0; t < ORACLE_TOPICS; t++)
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            oracle_stored(&program_now.topics[t], &program_now.topics[t].groups[g]);
}

void program_close(void)
{
    program_give_back();
    program_note("close");
    struct walrus *walrus = program_rig.walrus;
    program_rig.walrus = NULL;
    if (program_result(walrus_close(walrus), 0))
        oracle_synced(&program_now);
}

void program_reopen(void)
{
    program_close();
    if (program_failure == 0)
        program_open();
}

void program_drain(void)
{
    unsigned live = 0;

    program_note("drain");
    program_give_back();
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        struct oracle_topic *topic = &program_now.topics[t];
        struct walrus_retention retention = {.kind = WALRUS_KEEP_CONSUMED};
        if (!topic->live)
            continue;
        live++;
        struct walrus_topic *ref = program_topic_ref(topic);
        CHECK_INT(walrus_topic_set_limit(ref, 0), 0);
        CHECK_INT(walrus_topic_set_retention(ref, &retention), 0);
        for (size_t g = 0; g < ORACLE_GROUPS; g++) {
            if (!topic->groups[g].live)
                continue;
            struct walrus_group *group = program_group_ref(topic, &topic->groups[g]);
            CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
            walrus_group_unref(group);
        }
        CHECK_SOON(rig_topic_stat(&program_rig, topic->name).disk_bytes <= RIG_BLOCK_SIZE);
        walrus_topic_unref(ref);
    }
    uint32_t per_file = program_rig.options.blocks_per_file;
    CHECK_SOON(rig_stat(&program_rig).free_block_count <= 2 * per_file + live * per_file);
    CHECK_SOON(rig_stat(&program_rig).block_count - rig_stat(&program_rig).free_block_count <=
               2 * live);
}
