/* SPDX-License-Identifier: MIT */
/*
 * program.c - random calls on a store and its model: see program.h.
 */
#include "program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HOLDS_MAX = 6,
    BLOBS_MAX = 2,
    BATCH_MAX = 40,
    NOTES_MAX = 48,
};

/* A claim that is open. */
struct hold {
    struct walrus_reader *reader; /* NULL: none */
    size_t t, g;
    bool counts; /* no seek or removal since */
    bool gone;   /* its group was removed */
    unsigned count;
    uint64_t bytes;
    uint16_t seqs[ORACLE_ENTRIES];
};

struct blob {
    struct walrus_blob *blob; /* NULL: none */
    size_t t;
    uint32_t tag, size, done;
    uint8_t *data;
};

struct rig program_rig;
struct oracle program_now;
uint64_t program_random;
uint32_t program_append_max, program_blob_max;
bool program_verbose;
static struct hold holds[HOLDS_MAX];
static struct blob blobs[BLOBS_MAX];
static uint32_t tag_next, name_next;
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
    note_count = tag_next = name_next = 0;
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

/* ---------------------------------------------------------------------------------- choosing -- */

static struct oracle_topic *pick_topic(void)
{
    size_t first = program_dice(ORACLE_TOPICS);

    for (size_t i = 0; i < ORACLE_TOPICS; i++)
        if (program_now.topics[(first + i) % ORACLE_TOPICS].live)
            return &program_now.topics[(first + i) % ORACLE_TOPICS];
    return NULL;
}

static struct oracle_group *pick_group(struct oracle_topic *topic)
{
    size_t first = program_dice(ORACLE_GROUPS);

    for (size_t i = 0; i < ORACLE_GROUPS; i++)
        if (topic->groups[(first + i) % ORACLE_GROUPS].live)
            return &topic->groups[(first + i) % ORACLE_GROUPS];
    CHECK(!"every topic has a group");
}

static struct walrus_topic *topic_ref(const struct oracle_topic *topic)
{
    struct walrus_topic *found = NULL;

    CHECK_INT(walrus_topic_find(program_rig.walrus, topic->name, &found), 0);
    return found;
}

static struct walrus_group *group_ref(const struct oracle_topic *topic,
                                      const struct oracle_group *group)
{
    struct walrus_topic *in = topic_ref(topic);
    struct walrus_group *found = NULL;

    CHECK_INT(walrus_group_find(in, group->name, &found), 0);
    walrus_topic_unref(in);
    return found;
}

static uint32_t pick_size(uint32_t max)
{
    static const uint32_t edges[] = {0,
                                     1,
                                     7,
                                     8,
                                     9,
                                     24,
                                     31,
                                     32,
                                     472,
                                     4056,
                                     RIG_ENTRY_EDGE - 41,
                                     RIG_ENTRY_EDGE - 40,
                                     RIG_ENTRY_EDGE - 1,
                                     RIG_ENTRY_EDGE,
                                     RIG_ENTRY_EDGE + 1,
                                     65536,
                                     2 * RIG_ENTRY_EDGE - 1,
                                     2 * RIG_ENTRY_EDGE,
                                     2 * RIG_ENTRY_EDGE + 1,
                                     3 * RIG_ENTRY_EDGE,
                                     196608,
                                     200000};
    uint32_t size = edges[program_dice(sizeof(edges) / sizeof(edges[0]))];

    if (program_chance(60))
        size = (uint32_t)program_dice(program_chance(70) ? 300 : 9000);
    else if (program_chance(30))
        size = (uint32_t)program_dice(max + 1);
    return size < max ? size : max;
}

/* ---------------------------------------------------------------------------------- appending --
 */

static void entry_add(struct oracle_topic *topic, uint32_t tag, uint32_t size, uint64_t unit_end)
{
    topic->tag[topic->count] = tag;
    topic->size[topic->count] = size;
    topic->unit_end[topic->count] = (uint16_t)unit_end;
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        topic->groups[g].state[topic->count] = ORACLE_PENDING;
    topic->count++;
}

static void op_append(void)
{
    struct oracle_topic *topic = pick_topic();
    struct iovec entries[BATCH_MAX];
    uint64_t seq = 0;

    if (topic == NULL || topic->count + BATCH_MAX > ORACLE_ENTRIES)
        return;
    size_t count = program_chance(60) ? 1 : 1 + program_dice(BATCH_MAX);
    uint32_t max = count == 1 || program_chance(10) ? program_append_max : 6000;
    max = max < program_append_max ? max : program_append_max;
    bool durable = program_chance(15);
    for (size_t i = 0; i < count; i++) {
        entries[i].iov_len = pick_size(max);
        entries[i].iov_base = malloc(entries[i].iov_len + 1);
        CHECK(entries[i].iov_base != NULL);
        payload_fill(ORACLE_SEED, "", tag_next + (uint32_t)i, entries[i].iov_base,
                     entries[i].iov_len);
    }
    program_note("append %s: %zu entries, the first of %zu, durable %d", topic->name, count,
                 entries[0].iov_len, durable);
    struct walrus_topic *ref = topic_ref(topic);
    struct walrus_append_options options = {.durable = durable};
    int rc = walrus_topic_append(ref, entries, count, &options, &seq);
    walrus_topic_unref(ref);
    CHECK_INT(rc, topic->limit > 0 && rc == -ENOSPC ? -ENOSPC : 0);
    uint64_t end = topic->count + count;
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            entry_add(topic, tag_next + (uint32_t)i, (uint32_t)entries[i].iov_len, end);
        free(entries[i].iov_base);
    }
    tag_next += (uint32_t)count;
    if (rc == 0)
        CHECK_INT(seq, end - count);
    if (rc == 0 && (durable || program_rig.options.fsync == WALRUS_FSYNC_EACH))
        topic->durable = topic->count;
}

static void blob_end(struct blob *blob, bool commit)
{
    struct oracle_topic *topic = &program_now.topics[blob->t];
    uint64_t seq = 0;
    bool durable = program_chance(30);

    program_note("blob %s of %u %s", topic->name, blob->size, commit ? "committed" : "aborted");
    if (!commit || topic->count == ORACLE_ENTRIES) {
        walrus_blob_abort(blob->blob);
    } else {
        int rc = walrus_blob_commit(blob->blob, durable, &seq);
        CHECK_INT(rc, topic->limit > 0 && rc == -ENOSPC ? -ENOSPC : 0);
        if (rc == 0) {
            CHECK_INT(seq, topic->count);
            entry_add(topic, blob->tag, blob->size, topic->count + 1);
            if (durable || program_rig.options.fsync == WALRUS_FSYNC_EACH)
                topic->durable = topic->count;
        }
    }
    free(blob->data);
    blob->blob = NULL;
}

static void blobs_abort(const struct oracle_topic *topic)
{
    for (size_t i = 0; i < BLOBS_MAX; i++)
        if (blobs[i].blob != NULL && (topic == NULL || topic == &program_now.topics[blobs[i].t]))
            blob_end(&blobs[i], false);
}

static void op_blob(void)
{
    struct blob *blob = &blobs[program_dice(BLOBS_MAX)];
    struct oracle_topic *topic = pick_topic();

    if (topic == NULL)
        return;
    if (blob->blob == NULL) {
        struct walrus_topic *ref = topic_ref(topic);
        *blob = (struct blob){.t = (size_t)(topic - program_now.topics), .tag = tag_next++};
        blob->size = program_chance(20) ? (uint32_t)program_dice(program_blob_max)
                                        : pick_size(program_append_max);
        blob->data = malloc(blob->size + 1);
        CHECK(blob->data != NULL);
        payload_fill(ORACLE_SEED, "", blob->tag, blob->data, blob->size);
        CHECK_INT(walrus_blob_open(ref, &blob->blob), 0);
        walrus_topic_unref(ref);
    }
    program_note("blob %s: %u of %u", program_now.topics[blob->t].name, blob->done, blob->size);
    while (blob->done < blob->size && program_chance(90)) {
        uint32_t left = blob->size - blob->done, size = (uint32_t)program_dice(700000) + 1;
        size = size < left ? size : left;
        int rc = walrus_blob_write(blob->blob, blob->data + blob->done, size);
        if (rc != 0) {
            CHECK(program_now.topics[blob->t].limit > 0 && rc == -ENOSPC);
            blob_end(blob, false);
            return;
        }
        blob->done += size;
    }
    CHECK_INT(walrus_blob_size(blob->blob), blob->done);
    if (blob->done == blob->size && program_chance(70))
        blob_end(blob, program_chance(75));
}

/* ------------------------------------------------------------------------------------- taking --
 */

static struct oracle_group *hold_group(const struct hold *hold)
{
    return &program_now.topics[hold->t].groups[hold->g];
}

static void consume(struct oracle_topic *topic, struct oracle_group *group, uint64_t seq)
{
    if (!oracle_consumed(group->state[seq]))
        group->state[seq] = ORACLE_SOFT;
    if (program_now.strict)
        oracle_stored(topic, group);
}

/* Claims and checks that the oldest entries that nobody has come, in order. */
static void op_claim(void)
{
    struct hold *hold = &holds[program_dice(HOLDS_MAX)];
    struct oracle_topic *topic = pick_topic();

    if (topic == NULL || hold->reader != NULL)
        return;
    struct oracle_group *group = pick_group(topic);
    if (oracle_ranges(topic, group) > 40)
        return;
    size_t max_count = program_chance(40)   ? 1
                       : program_chance(50) ? SIZE_MAX
                                            : 1 + program_dice(20);
    size_t max_bytes = program_chance(70) ? SIZE_MAX : program_dice(20000);
    program_note("claim %s/%s: %zd entries, %zd bytes", topic->name, group->name,
                 (ssize_t)max_count, (ssize_t)max_bytes);
    struct walrus_group *ref = group_ref(topic, group);
    int rc = walrus_group_claim(ref, max_count, max_bytes, &hold->reader);
    walrus_group_unref(ref);
    hold->t = (size_t)(topic - program_now.topics);
    hold->g = (size_t)(group - topic->groups);
    hold->counts = true;
    hold->gone = false;
    hold->count = 0;
    hold->bytes = 0;
    for (uint64_t seq = 0; seq < topic->count && hold->count < max_count; seq++) {
        if (group->state[seq] != ORACLE_PENDING)
            continue;
        uint64_t room = hold->bytes < max_bytes ? max_bytes - hold->bytes : 0;
        if (hold->count > 0 && topic->size[seq] > room)
            break;
        hold->seqs[hold->count++] = (uint16_t)seq;
        hold->bytes += topic->size[seq];
        group->state[seq] = ORACLE_HELD;
    }
    CHECK_INT(rc, hold->count > 0 ? 0 : WALRUS_EMPTY);
    if (rc != 0)
        return;
    CHECK_INT(walrus_reader_count(hold->reader), hold->count);
    CHECK_INT(walrus_reader_size(hold->reader), hold->bytes);
    CHECK_INT(walrus_reader_seq(hold->reader), hold->seqs[0]);
}

/* The entries laid end to end have these bytes from `offset` on. */
static void bytes_check(const struct oracle_topic *topic, const uint16_t *seqs, unsigned count,
                        uint64_t offset, const uint8_t *data, size_t size)
{
    uint64_t begin = 0;

    for (unsigned i = 0; i < count && begin < offset + size; i++) {
        uint64_t end = begin + topic->size[seqs[i]];
        if (end > offset && end > begin) {
            uint8_t *whole = malloc(end - begin);
            CHECK(whole != NULL);
            payload_fill(ORACLE_SEED, "", topic->tag[seqs[i]], whole, end - begin);
            uint64_t from = begin > offset ? begin : offset;
            uint64_t to = end < offset + size ? end : offset + size;
            CHECK(memcmp(whole + (from - begin), data + (from - offset), to - from) == 0);
            free(whole);
        }
        begin = end;
    }
}

/* Strict: a read consumes what it touches. */
static void read_consumes(struct hold *hold, uint64_t offset, size_t size)
{
    struct oracle_topic *topic = &program_now.topics[hold->t];
    uint64_t begin = 0;

    for (unsigned i = 0; hold->counts && i < hold->count; i++) {
        uint32_t length = topic->size[hold->seqs[i]];
        bool touched =
            begin < offset + size && (length > 0 ? begin + length > offset : begin >= offset);
        if (touched)
            consume(topic, hold_group(hold), hold->seqs[i]);
        begin += length;
    }
}

static void op_read(void)
{
    struct hold *hold = &holds[program_dice(HOLDS_MAX)];

    if (hold->reader == NULL)
        return;
    uint64_t offset = program_chance(50) ? 0 : program_dice(hold->bytes + 10);
    size_t size =
        1 + (program_chance(50) ? hold->bytes : program_dice(program_chance(50) ? 100 : 70000));
    program_note("read %s/%s: %zu at %llu of %llu%s", program_now.topics[hold->t].name,
                 hold_group(hold)->name, size, (unsigned long long)offset,
                 (unsigned long long)hold->bytes, hold->counts ? "" : ", stale");
    if (program_now.strict && hold->counts &&
        oracle_ranges(&program_now.topics[hold->t], hold_group(hold)) > 50)
        return;
    uint8_t *data = malloc(size);
    CHECK(data != NULL);
    ssize_t got = walrus_reader_read(hold->reader, data, size, offset, NULL);
    if (hold->gone) {
        CHECK_INT(got, -ENODEV);
    } else {
        uint64_t left = offset < hold->bytes ? hold->bytes - offset : 0;
        CHECK_INT(got, left < size ? left : size);
        bytes_check(&program_now.topics[hold->t], hold->seqs, hold->count, offset, data,
                    (size_t)got);
        if (program_now.strict)
            read_consumes(hold, offset, size);
    }
    free(data);
}

static void op_delivered(void)
{
    struct hold *hold = &holds[program_dice(HOLDS_MAX)];
    uint64_t begin = 0;

    if (hold->reader == NULL || hold->gone)
        return;
    uint64_t offset = program_chance(40) ? hold->bytes : program_dice(hold->bytes + 1);
    program_note("delivered %s/%s: %llu of %llu", program_now.topics[hold->t].name,
                 hold_group(hold)->name, (unsigned long long)offset,
                 (unsigned long long)hold->bytes);
    CHECK_INT(walrus_reader_delivered(hold->reader, offset), 0);
    for (unsigned i = 0; !program_now.strict && hold->counts && i < hold->count; i++) {
        begin += program_now.topics[hold->t].size[hold->seqs[i]];
        if (begin <= offset)
            consume(&program_now.topics[hold->t], hold_group(hold), hold->seqs[i]);
    }
}

static void hold_close(struct hold *hold)
{
    struct oracle_topic *topic = &program_now.topics[hold->t];

    if (hold->reader == NULL)
        return;
    program_note("close %s/%s: %u entries from %u", topic->name, hold_group(hold)->name,
                 hold->count, hold->seqs[0]);
    CHECK_INT(walrus_reader_close(hold->reader), 0);
    hold->reader = NULL;
    if (hold->counts && hold->count == 1 && hold->bytes == 0)
        consume(topic, hold_group(hold), hold->seqs[0]);
    for (unsigned i = 0; hold->counts && i < hold->count; i++)
        if (hold_group(hold)->state[hold->seqs[i]] == ORACLE_HELD)
            hold_group(hold)->state[hold->seqs[i]] = ORACLE_PENDING;
}

static void op_close_hold(void)
{
    hold_close(&holds[program_dice(HOLDS_MAX)]);
}

static void holds_close(void)
{
    for (size_t i = 0; i < HOLDS_MAX; i++)
        hold_close(&holds[i]);
}

static struct oracle_group *default_group(struct oracle_topic *topic)
{
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        if (topic->groups[g].live && strcmp(topic->groups[g].name, "default") == 0)
            return &topic->groups[g];
    return NULL;
}

/* read_next, batch_read or peek: by name, from "default". */
static void op_take(void)
{
    struct oracle_topic *topic = pick_topic();
    struct oracle_group *group = topic != NULL ? default_group(topic) : NULL;
    struct walrus_entry *entries = NULL;
    size_t count = 0, max_count = program_chance(50) ? 1 : 1 + program_dice(30);
    size_t max_bytes = program_chance(50) ? SIZE_MAX : program_dice(10000);
    uint64_t seq = 0, bytes = 0;

    if (group == NULL || oracle_ranges(topic, group) > 40)
        return;
    bool peek = program_chance(30);
    program_note("%s %s: %zu entries", peek ? "peek" : "batch_read", topic->name,
                 peek ? 1 : max_count);
    int rc = 0;
    if (peek) {
        entries = calloc(1, sizeof(*entries));
        CHECK(entries != NULL);
        rc = walrus_peek(program_rig.walrus, topic->name, entries);
        count = rc == 0;
    } else {
        rc = walrus_batch_read(program_rig.walrus, topic->name, max_bytes, max_count, &entries,
                               &count);
    }
    for (size_t i = 0; i < count && rc == 0; i++, seq++) {
        while (seq < topic->count && group->state[seq] != ORACLE_PENDING)
            seq++;
        CHECK_INT(entries[i].seq, seq);
        CHECK(seq < topic->count);
        CHECK_INT(entries[i].size, topic->size[seq]);
        CHECK(payload_same(ORACLE_SEED, "", topic->tag[seq], entries[i].data, entries[i].size));
        bytes += entries[i].size;
        if (!peek)
            consume(topic, group, seq);
    }
    while (seq < topic->count && group->state[seq] != ORACLE_PENDING)
        seq++;
    if (rc == 0 && !peek && seq < topic->count && max_bytes != SIZE_MAX)
        CHECK(count == max_count || bytes + topic->size[seq] > max_bytes);
    CHECK_INT(rc, count > 0 || seq < topic->count ? 0 : WALRUS_EMPTY);
    if (rc == 0)
        walrus_entries_free(entries, count);
    else if (peek)
        free(entries);
}

static void op_entry(void)
{
    struct oracle_topic *topic = pick_topic();

    if (topic == NULL || topic->count == 0)
        return;
    uint64_t seq = program_dice(topic->count);
    struct walrus_topic_stat stat = rig_topic_stat(&program_rig, topic->name);
    uint64_t low = topic->keep_from;
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        if (topic->groups[g].live && oracle_offset(topic, &topic->groups[g]) < low)
            low = oracle_offset(topic, &topic->groups[g]);
    CHECK(stat.first_seq <= low);
    program_note("read_at %s: %llu, retained from %llu", topic->name, (unsigned long long)seq,
                 (unsigned long long)stat.first_seq);
    if (seq >= low)
        oracle_check_entry(&program_rig, topic, seq, false);
}

/* ---------------------------------------------------------------------- groups, topics, store --
 */

static void op_seek(void)
{
    struct oracle_topic *topic = pick_topic();

    if (topic == NULL)
        return;
    struct oracle_group *group = pick_group(topic);
    struct walrus_topic_stat stat = rig_topic_stat(&program_rig, topic->name);
    uint64_t target = stat.first_seq + program_dice(topic->count - stat.first_seq + 1);
    enum walrus_whence whence = (enum walrus_whence)program_dice(4);
    uint64_t value = whence == WALRUS_SEEK_BY ? target - oracle_offset(topic, group) : target;
    if (whence == WALRUS_SEEK_END)
        target = topic->count;
    program_note("seek %s/%s: whence %d to %llu", topic->name, group->name, (int)whence,
                 (unsigned long long)target);
    struct walrus_group *ref = group_ref(topic, group);
    CHECK_INT(walrus_group_seek(ref, WALRUS_SEEK_TO, topic->count + 1), -ERANGE);
    int rc = walrus_group_seek(ref, whence, value);
    struct walrus_group_stat after;
    walrus_group_stat(ref, &after);
    walrus_group_unref(ref);
    if (rc == -ERANGE && target < rig_topic_stat(&program_rig, topic->name).first_seq)
        return; /* reclaimed meanwhile */
    CHECK_INT(rc, 0);
    if (whence == WALRUS_SEEK_BEGIN)
        target = after.offset;
    for (uint64_t seq = 0; seq < topic->count; seq++)
        group->state[seq] = seq < target ? ORACLE_DONE : ORACLE_PENDING;
    if (topic->durable < target)
        topic->durable = target;
    group->seeks++;
    for (size_t i = 0; i < HOLDS_MAX; i++)
        if (holds[i].reader != NULL && hold_group(&holds[i]) == group)
            holds[i].counts = false;
}

static void group_gone(struct oracle_group *group)
{
    group->live = false;
    for (size_t i = 0; i < HOLDS_MAX; i++)
        if (holds[i].reader != NULL && hold_group(&holds[i]) == group) {
            holds[i].counts = false;
            holds[i].gone = true;
            hold_close(&holds[i]);
        }
}

static void group_make(struct oracle_topic *topic, struct oracle_group *group)
{
    struct walrus_topic *in = topic_ref(topic);
    struct walrus_group *made = NULL;
    struct walrus_group_stat stat;

    memset(group, 0, sizeof(*group));
    snprintf(group->name, sizeof(group->name), "g%u", name_next++);
    if (default_group(topic) == NULL && program_chance(50))
        strcpy(group->name, "default");
    program_note("create group %s/%s", topic->name, group->name);
    CHECK_INT(walrus_group_create(in, group->name, NULL, &made), 0);
    walrus_group_stat(made, &stat);
    group->live = true;
    group->id = stat.id;
    for (uint64_t seq = 0; seq < stat.offset; seq++)
        group->state[seq] = ORACLE_GONE;
    walrus_group_unref(made);
    walrus_topic_unref(in);
}

static void op_group(void)
{
    struct oracle_topic *topic = pick_topic();
    unsigned live = 0;

    if (topic == NULL)
        return;
    for (size_t g = 0; g < ORACLE_GROUPS; g++)
        live += topic->groups[g].live;
    struct oracle_group *group = &topic->groups[program_dice(ORACLE_GROUPS)];
    if (!group->live) {
        group_make(topic, group);
        return;
    }
    struct walrus_group *ref = group_ref(topic, group);
    if (program_chance(50)) {
        char name[16];
        snprintf(name, sizeof(name), "g%u", name_next++);
        program_note("rename group %s/%s to %s", topic->name, group->name, name);
        CHECK_INT(walrus_group_rename(ref, name), 0);
        strcpy(group->name, name);
    } else {
        program_note("remove group %s/%s", topic->name, group->name);
        CHECK_INT(walrus_group_remove(ref), live > 1 ? 0 : -EBUSY);
        if (live > 1)
            group_gone(group);
    }
    walrus_group_unref(ref);
}

static void topic_make(struct oracle_topic *topic)
{
    struct walrus_topic *made = NULL;
    struct walrus_topic_stat stat;

    memset(topic, 0, sizeof(*topic));
    snprintf(topic->name, sizeof(topic->name), "t%u", name_next++);
    program_note("create topic %s", topic->name);
    CHECK_INT(walrus_topic_create(program_rig.walrus, topic->name, NULL, NULL, &made), 0);
    walrus_topic_stat(made, &stat);
    topic->live = true;
    topic->id = stat.id;
    topic->keep_from = UINT64_MAX;
    topic->groups[0].live = true;
    topic->groups[0].id = 1;
    strcpy(topic->groups[0].name, "default");
    walrus_topic_unref(made);
}

static void op_topic(void)
{
    struct oracle_topic *topic = &program_now.topics[program_dice(ORACLE_TOPICS)];
    bool consumed = true;

    if (!topic->live) {
        topic_make(topic);
        return;
    }
    struct walrus_topic *ref = topic_ref(topic);
    if (program_chance(50)) {
        char name[16];
        snprintf(name, sizeof(name), "t%u", name_next++);
        program_note("rename topic %s to %s", topic->name, name);
        CHECK_INT(walrus_topic_rename(ref, name), 0);
        strcpy(topic->name, name);
    } else {
        program_note("remove topic %s", topic->name);
        for (size_t g = 0; g < ORACLE_GROUPS; g++)
            consumed &=
                !topic->groups[g].live || oracle_offset(topic, &topic->groups[g]) == topic->count;
        CHECK_INT(walrus_topic_remove(ref), consumed ? 0 : -ENOTEMPTY);
        if (consumed) {
            topic->live = false;
            for (size_t g = 0; g < ORACLE_GROUPS; g++)
                if (topic->groups[g].live)
                    group_gone(&topic->groups[g]);
            blobs_abort(topic);
        }
    }
    walrus_topic_unref(ref);
}

static void op_settings(void)
{
    struct oracle_topic *topic = pick_topic();
    struct walrus_retention retention = {.kind = (enum walrus_retention_kind)program_dice(4),
                                         .value = program_dice(300000)};

    if (topic == NULL)
        return;
    struct walrus_topic *ref = topic_ref(topic);
    if (program_chance(50)) {
        topic->limit = program_chance(60) ? 0 : 200000 + program_dice(1000000);
        program_note("limit %s: %llu", topic->name, (unsigned long long)topic->limit);
        CHECK_INT(walrus_topic_set_limit(ref, topic->limit), 0);
    } else {
        program_note("retention %s: %d", topic->name, (int)retention.kind);
        CHECK_INT(walrus_topic_set_retention(ref, &retention), 0);
        topic->retention = retention;
        topic->keep_from = retention.kind == WALRUS_KEEP_ALL
                               ? rig_topic_stat(&program_rig, topic->name).first_seq
                               : UINT64_MAX;
    }
    walrus_topic_unref(ref);
}

static void op_sync(void)
{
    struct oracle_topic *topic = pick_topic();

    if (topic == NULL || program_chance(40)) {
        program_note("sync");
        CHECK_INT(walrus_sync(program_rig.walrus), 0);
        oracle_synced(&program_now);
        return;
    }
    struct oracle_group *group = pick_group(topic);
    struct walrus_group *ref = group_ref(topic, group);
    program_note("sync %s, group %s", topic->name, group->name);
    CHECK_INT(walrus_topic_sync(walrus_group_topic(ref)), 0);
    topic->durable = topic->count;
    CHECK_INT(walrus_group_sync(ref), 0);
    oracle_stored(topic, group);
    walrus_group_unref(ref);
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
    {op_append, 30},    {op_blob, 6},     {op_claim, 16}, {op_read, 20},     {op_delivered, 14},
    {op_close_hold, 8}, {op_take, 12},    {op_entry, 4},  {op_seek, 3},      {op_group, 4},
    {op_topic, 4},      {op_settings, 2}, {op_sync, 4},   {op_writeback, 4},
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
    holds_close();
    blobs_abort(NULL);
}

void program_open(void)
{
    program_note("open");
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
    rig_close(&program_rig);
    oracle_synced(&program_now);
}

void program_reopen(void)
{
    program_close();
    program_open();
}

void program_drain(void)
{
    static const char padding[20000];
    unsigned live = 0;

    program_note("drain");
    program_give_back();
    for (size_t t = 0; t < ORACLE_TOPICS; t++) {
        struct oracle_topic *topic = &program_now.topics[t];
        struct walrus_retention retention = {.kind = WALRUS_KEEP_CONSUMED};
        if (!topic->live)
            continue;
        live++;
        struct walrus_topic *ref = topic_ref(topic);
        CHECK_INT(walrus_topic_set_limit(ref, 0), 0);
        CHECK_INT(walrus_topic_set_retention(ref, &retention), 0);
        /* empty log files go with the next block that is given back: see to it that one is */
        CHECK_INT(walrus_append(program_rig.walrus, topic->name, padding, sizeof(padding)), 0);
        for (size_t g = 0; g < ORACLE_GROUPS; g++) {
            if (!topic->groups[g].live)
                continue;
            struct walrus_group *group = group_ref(topic, &topic->groups[g]);
            CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
            walrus_group_unref(group);
        }
        CHECK_SOON(rig_topic_stat(&program_rig, topic->name).disk_bytes <= RIG_BLOCK_SIZE);
        walrus_topic_unref(ref);
    }
    uint32_t per_file = program_rig.options.blocks_per_file;
    if (live == 0)
        return;
    CHECK_SOON(rig_stat(&program_rig).free_block_count <= 2 * per_file + live * per_file);
    CHECK_SOON(rig_stat(&program_rig).block_count - rig_stat(&program_rig).free_block_count <=
               2 * live);
}
