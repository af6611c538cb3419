/* SPDX-License-Identifier: MIT */
/*
 * program_data.c - the calls of random programs that append and take: see program.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "program_parts.h"

enum { HOLDS_MAX = 6, BLOBS_MAX = 2 };

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

static struct hold holds[HOLDS_MAX];
static struct blob blobs[BLOBS_MAX];
uint32_t program_tag_next;

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

void program_append(struct oracle_topic *topic, const uint32_t *sizes, size_t count, bool durable)
{
    struct iovec entries[PROGRAM_BATCH_MAX];
    uint64_t seq = 0;

    for (size_t i = 0; i < count; i++) {
        entries[i].iov_len = sizes[i];
        entries[i].iov_base = malloc(sizes[i] + 1);
        CHECK(entries[i].iov_base != NULL);
        payload_fill(ORACLE_SEED, "", program_tag_next + (uint32_t)i, entries[i].iov_base,
                     sizes[i]);
    }
    program_note("append %s: %zu entries, the first of %u, durable %d", topic->name, count,
                 sizes[0], durable);
    struct walrus_topic *ref = program_topic_ref(topic);
    struct walrus_append_options options = {.durable = durable};
    int rc = walrus_topic_append(ref, entries, count, &options, &seq);
    walrus_topic_unref(ref);
    for (size_t i = 0; i < count; i++)
        free(entries[i].iov_base);
    bool waits = durable || program_rig.options.fsync == WALRUS_FSYNC_EACH;
    program_unsure = waits && rc == -EIO; /* it can be there, and not durable */
    if (topic->limit > 0 && rc == -ENOSPC)
        return;
    if (!program_result(rc, 0))
        return;
    uint64_t end = topic->count + count;
    for (size_t i = 0; i < count; i++)
        entry_add(topic, program_tag_next + (uint32_t)i, sizes[i], end);
    program_tag_next += (uint32_t)count;
    CHECK_INT(seq, end - count);
    if (waits)
        topic->durable = topic->count;
}

void program_op_append(void)
{
    struct oracle_topic *topic = program_pick_topic();
    uint32_t sizes[PROGRAM_BATCH_MAX];

    if (topic == NULL || topic->count + PROGRAM_BATCH_MAX > ORACLE_ENTRIES)
        return;
    size_t count = program_chance(60) ? 1 : 1 + program_dice(PROGRAM_BATCH_MAX);
    uint32_t max = count == 1 || program_chance(10) ? program_append_max : 6000;
    max = max < program_append_max ? max : program_append_max;
    bool durable = program_chance(15);
    for (size_t i = 0; i < count; i++)
        sizes[i] = pick_size(max);
    program_append(topic, sizes, count, durable);
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
        program_unsure = rc == -EIO;
        if (!(topic->limit > 0 && rc == -ENOSPC) && program_result(rc, 0)) {
            CHECK_INT(seq, topic->count);
            entry_add(topic, blob->tag, blob->size, topic->count + 1);
            if (durable || program_rig.options.fsync == WALRUS_FSYNC_EACH)
                topic->durable = topic->count;
        }
    }
    free(blob->data);
    blob->blob = NULL;
}

void program_blobs_abort(const struct oracle_topic *topic)
{
    for (size_t i = 0; i < BLOBS_MAX; i++)
        if (blobs[i].blob != NULL && (topic == NULL || topic == &program_now.topics[blobs[i].t]))
            blob_end(&blobs[i], false);
}

void program_op_blob(void)
{
    struct blob *blob = &blobs[program_dice(BLOBS_MAX)];
    struct oracle_topic *topic = program_pick_topic();

    if (topic == NULL)
        return;
    if (blob->blob == NULL) {
        struct walrus_topic *ref = program_topic_ref(topic);
        *blob = (struct blob){.t = (size_t)(topic - program_now.topics), .tag = program_tag_next++};
        blob->size = program_chance(20) ? (uint32_t)program_dice(program_blob_max)
                                        : pick_size(program_append_max);
        blob->data = malloc(blob->size + 1);
        CHECK(blob->data != NULL);
        payload_fill(ORACLE_SEED, "", blob->tag, blob->data, blob->size);
        int rc = walrus_blob_open(ref, &blob->blob);
        walrus_topic_unref(ref);
        if (!program_result(rc, 0)) {
            free(blob->data);
            blob->blob = NULL;
            return;
        }
    }
    program_note("blob %s: %u of %u", program_now.topics[blob->t].name, blob->done, blob->size);
    while (blob->done < blob->size && program_chance(90)) {
        uint32_t left = blob->size - blob->done, size = (uint32_t)program_dice(700000) + 1;
        size = size < left ? size : left;
        int rc = walrus_blob_write(blob->blob, blob->data + blob->done, size);
        if (rc != 0) {
            if (program_now.topics[blob->t].limit == 0 || rc != -ENOSPC)
                (void)program_result(rc, 0);
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
void program_op_claim(void)
{
    struct hold *hold = &holds[program_dice(HOLDS_MAX)];
    struct oracle_topic *topic = program_pick_topic();

    if (topic == NULL || hold->reader != NULL)
        return;
    struct oracle_group *group = program_pick_group(topic);
    if (oracle_ranges(topic, group) > 40)
        return;
    size_t max_count = program_chance(40)   ? 1
                       : program_chance(50) ? SIZE_MAX
                                            : 1 + program_dice(20);
    size_t max_bytes = program_chance(70) ? SIZE_MAX : program_dice(20000);
    program_note("claim %s/%s: %zd entries, %zd bytes", topic->name, group->name,
                 (ssize_t)max_count, (ssize_t)max_bytes);
    struct walrus_group *ref = program_group_ref(topic, group);
    int rc = walrus_group_claim(ref, max_count, max_bytes, &hold->reader);
    walrus_group_unref(ref);
    if (rc < 0 && !program_result(rc, 0))
        return;
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

void program_op_read(void)
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
    } else if (got >= 0 || program_result((int)got, 0)) {
        uint64_t left = offset < hold->bytes ? hold->bytes - offset : 0;
        CHECK_INT(got, left < size ? left : size);
        bytes_check(&program_now.topics[hold->t], hold->seqs, hold->count, offset, data,
                    (size_t)got);
        if (program_now.strict)
            read_consumes(hold, offset, size);
    }
    free(data);
}

void program_op_delivered(void)
{
    struct hold *hold = &holds[program_dice(HOLDS_MAX)];
    uint64_t begin = 0;

    if (hold->reader == NULL || hold->gone)
        return;
    uint64_t offset = program_chance(40) ? hold->bytes : program_dice(hold->bytes + 1);
    program_note("delivered %s/%s: %llu of %llu", program_now.topics[hold->t].name,
                 hold_group(hold)->name, (unsigned long long)offset,
                 (unsigned long long)hold->bytes);
    int rc = walrus_reader_delivered(hold->reader, offset);
    program_unsure = rc != 0;
    if (!program_result(rc, 0))
        return;
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
    int rc = walrus_reader_close(hold->reader);
    hold->reader = NULL;
    program_unsure = rc != 0;
    (void)program_result(rc, 0);
    if (hold->counts && hold->count == 1 && hold->bytes == 0)
        consume(topic, hold_group(hold), hold->seqs[0]);
    for (unsigned i = 0; hold->counts && i < hold->count; i++)
        if (hold_group(hold)->state[hold->seqs[i]] == ORACLE_HELD)
            hold_group(hold)->state[hold->seqs[i]] = ORACLE_PENDING;
}

void program_op_close_hold(void)
{
    hold_close(&holds[program_dice(HOLDS_MAX)]);
}

void program_holds_close(void)
{
    for (size_t i = 0; i < HOLDS_MAX; i++)
        hold_close(&holds[i]);
}

/* read_next, batch_read or peek: by name, from "default". */
void program_take(struct oracle_topic *topic, size_t max_count, size_t max_bytes, bool peek)
{
    struct oracle_group *group = program_default_group(topic);
    struct walrus_entry *entries = NULL;
    size_t count = 0;
    uint64_t seq = 0, bytes = 0;

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
    if (rc < 0 && !program_result(rc, 0)) {
        if (peek)
            free(entries);
        return;
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

void program_op_take(void)
{
    struct oracle_topic *topic = program_pick_topic();
    struct oracle_group *group = topic != NULL ? program_default_group(topic) : NULL;
    size_t max_count = program_chance(50) ? 1 : 1 + program_dice(30);
    size_t max_bytes = program_chance(50) ? SIZE_MAX : program_dice(10000);

    if (group == NULL || oracle_ranges(topic, group) > 40)
        return;
    program_take(topic, max_count, max_bytes, program_chance(30));
}

void program_op_entry(void)
{
    struct oracle_topic *topic = program_pick_topic();

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
    if (seq < low)
        return;
    struct walrus_entry entry;
    int rc = walrus_read_at(program_rig.walrus, topic->name, seq, &entry);
    if (!program_result(rc, 0))
        return;
    CHECK_INT(entry.seq, seq);
    CHECK_INT(entry.size, topic->size[seq]);
    CHECK(payload_same(ORACLE_SEED, "", topic->tag[seq], entry.data, entry.size));
    free(entry.data);
}

void program_group_gone(struct oracle_group *group)
{
    group->live = false;
    for (size_t i = 0; i < HOLDS_MAX; i++)
        if (holds[i].reader != NULL && hold_group(&holds[i]) == group) {
            holds[i].counts = false;
            holds[i].gone = true;
            hold_close(&holds[i]);
        }
}

/* What the readers of the group consume does not count any more. */
void program_group_moved(const struct oracle_group *group)
{
    for (size_t i = 0; i < HOLDS_MAX; i++)
        if (holds[i].reader != NULL && hold_group(&holds[i]) == group)
            holds[i].counts = false;
}
