/* SPDX-License-Identifier: MIT */
/*
 * test_recovery.c - what a store makes of bytes that a crash tore or a disk changed: torn tails,
 * damaged entries, damaged metadata, and how much of the disk recovery looks at.
 *
 * A kill is a copy of the open store's files.  Nothing was synced in those copies unless the test
 * says so, so what is cut off there may go; what is damaged in a closed store was durable, so it
 * has to be told.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faultos.h"
#include "os.h"
#include "rig.h"

static struct rig s;

static void setup(void)
{
    rig_init(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(recovery, .init = setup, .fini = teardown, .timeout = 300);

/* Takes entries `first` to `end`; `bad` of them must be told as damaged, once. */
static void expect_all_but(struct rig *rig, const char *topic, uint64_t first, uint64_t end,
                           uint64_t bad)
{
    uint64_t seq = 0;

    for (uint64_t next = first; next < end; next++) {
        CHECK_INT(rig_take(rig, topic, &seq), next == bad ? -EBADMSG : 0);
        if (next != bad)
            CHECK_INT(seq, next);
    }
    rig_expect_empty(rig, topic);
}

/* ----------------------------------------------------------------------------------- torn tails --
 */

enum { TAIL_COUNT = 3, TAIL_FIRST = 4 };
static const size_t tail_sizes[TAIL_COUNT] = {20, 0, 33}; /* of the entries that are cut */

/* Where the record of tail entry `i` begins, counted from the data of the first, and its size. */
static int64_t tail_start(size_t i)
{
    int64_t off = -(int64_t)RIG_RECORD_SIZE;

    for (size_t before = 0; before < i; before++)
        off += (int64_t)((RIG_RECORD_SIZE + tail_sizes[before] + 7) / 8 * 8);
    return off;
}

/* A killed store with entries 0 to 3 and the tail; nothing is known to be durable. */
static void make_unsynced_tail(struct rig *ret_killed, struct place *ret_place)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, TAIL_FIRST, 50);
    for (size_t i = 0; i < TAIL_COUNT; i++)
        rig_append(&s, "t", TAIL_FIRST + i, tail_sizes[i]);
    rig_copy(&s, ret_killed);
    rig_find(ret_killed, "t", TAIL_FIRST, tail_sizes[0], ret_place);
}

/* How many of the tail's entries are byte for byte what they were, up to the first that is not. */
static uint64_t tail_intact(const struct place *place, const uint8_t *before, size_t size)
{
    uint8_t now[4096];

    disk_read(place->path, place->off - RIG_RECORD_SIZE, now, size);
    for (size_t i = 0; i < TAIL_COUNT; i++) {
        size_t from = (size_t)(tail_start(i) + (int64_t)RIG_RECORD_SIZE);
        if (memcmp(before + from, now + from, RIG_RECORD_SIZE + tail_sizes[i]) != 0)
            return i;
    }
    return TAIL_COUNT;
}

static size_t tail_size(uint64_t seq)
{
    return seq < TAIL_FIRST ? 50 : tail_sizes[seq - TAIL_FIRST];
}

/* Opens a store that was cut: entries below `end` are there, it can be used, and a second recovery
 * (of what a kill leaves right after the first) finds the same. */
static void expect_prefix(struct rig *rig, uint64_t end)
{
    struct rig again;

    rig_open(rig);
    CHECK_INT(rig_topic_stat(rig, "t").tail_seq, end);
    rig_copy(rig, &again);
    rig_open(&again);
    CHECK_INT(rig_topic_stat(&again, "t").tail_seq, end);
    for (uint64_t seq = 0; seq < end; seq++)
        rig_expect_at(&again, "t", seq, tail_size(seq));
    rig_fini(&again);

    rig_append(rig, "t", end, 77);
    for (uint64_t seq = 0; seq < end; seq++)
        rig_expect(rig, "t", seq, tail_size(seq));
    rig_expect(rig, "t", end, 77);
    rig_expect_empty(rig, "t");
    rig_reopen(rig);
    rig_expect_empty(rig, "t");
    rig_expect_at(rig, "t", end, 77);
}

/* For each position in the tail: changes a copy with `change`, expects the intact prefix. */
static void sweep_tail(void (*change)(const struct place *place, int64_t delta), int64_t step)
{
    struct rig killed, cut;
    struct place place;
    uint8_t before[4096];
    int64_t end = tail_start(TAIL_COUNT);
    size_t size = (size_t)(end + (int64_t)RIG_RECORD_SIZE);

    make_unsynced_tail(&killed, &place);
    disk_read(place.path, place.off - RIG_RECORD_SIZE, before, size);
    for (int64_t delta = tail_start(0); delta <= end; delta += step) {
        struct place there = place;
        rig_copy(&killed, &cut);
        snprintf(there.path, sizeof(there.path), "%s%s", cut.dir, place.path + strlen(killed.dir));
        change(&there, delta);
        expect_prefix(&cut, TAIL_FIRST + tail_intact(&there, before, size));
        rig_fini(&cut);
    }
    rig_fini(&killed);
}

static void zero_behind(const struct place *place, int64_t delta)
{
    place_zero(place, delta, 4096);
}

static void zero_eight(const struct place *place, int64_t delta)
{
    place_zero(place, delta, 8);
}

Test(recovery, a_tail_cut_at_any_byte_leaves_the_entries_before_it)
{
    sweep_tail(zero_behind, 1);
}

Test(recovery, a_tail_with_a_changed_byte_leaves_the_entries_before_it)
{
    sweep_tail(place_flip, 3);
}

Test(recovery, a_tail_with_a_hole_leaves_the_entries_before_it)
{
    sweep_tail(zero_eight, 8);
}

Test(recovery, what_was_dropped_never_comes_back)
{
    struct rig killed, again;
    struct place place;

    make_unsynced_tail(&killed, &place);
    place_flip(&place, 0); /* the first of the tail; two valid records follow it */
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, TAIL_FIRST);
    rig_append(&killed, "t", TAIL_FIRST, tail_sizes[0]); /* as long: the old next one is in place */
    rig_copy(&killed, &again);
    rig_open(&again);
    CHECK_INT(rig_topic_stat(&again, "t").tail_seq, TAIL_FIRST + 1);
    rig_fini(&again);
    rig_reopen(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, TAIL_FIRST + 1);
    rig_fini(&killed);
}

Test(recovery, an_entry_of_several_blocks_without_its_end_is_dropped)
{
    struct rig killed;
    struct place place;

    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_hold_syncs(true);
    rig_append(&s, "t", 1, 5 * RIG_BLOCK_SIZE);
    rig_copy(&s, &killed);
    rig_hold_syncs(false);
    uint8_t *data = payload_make(&s, "t", 1, 5 * RIG_BLOCK_SIZE);
    CHECK(dir_find(killed.dir, data + 5 * RIG_BLOCK_SIZE - 64, 64, &place));
    free(data);
    place_flip(&place, 3);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 1);
    rig_expect(&killed, "t", 0, 100);
    rig_append(&killed, "t", 1, 5 * RIG_BLOCK_SIZE);
    rig_expect(&killed, "t", 1, 5 * RIG_BLOCK_SIZE);
    rig_fini(&killed);
    rig_close(&s);
    faultos_remove();
}

Test(recovery, every_acknowledged_entry_survives_the_death_of_the_process)
{
    const enum walrus_fsync modes[] = {WALRUS_FSYNC_MS, WALRUS_FSYNC_EACH, WALRUS_FSYNC_NEVER};

    for (size_t i = 0; i < 3; i++) {
        s.options.fsync = modes[i];
        rig_open(&s);
        for (uint64_t count = 0; count < 600; count += 150) {
            struct rig killed;
            rig_append_many(&s, "t", count, 150, 1200);
            rig_copy(&s, &killed);
            rig_open(&killed);
            CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, count + 150);
            rig_expect_many(&killed, "t", 0, count + 150, 1200);
            rig_fini(&killed);
        }
        rig_fini(&s);
        rig_init(&s);
    }
}

/* ------------------------------------------------------------------------------- damaged entries
 * -- */

Test(recovery, one_flipped_byte_of_a_payload_costs_that_entry_and_says_so)
{
    const uint64_t bad[] = {0, 1, 57, 118, 119};

    rig_open(&s);
    rig_append_many(&s, "t", 0, 120, 1500);
    rig_close(&s);
    for (size_t i = 0; i < 5; i++) {
        struct rig hurt;
        struct place place;
        rig_copy(&s, &hurt);
        rig_find(&hurt, "t", bad[i], 1500, &place);
        place_flip(&place, i % 2 == 0 ? 0 : 1499);
        rig_open(&hurt);
        expect_all_but(&hurt, "t", 0, 120, bad[i]);
        CHECK_INT(rig_topic_stat(&hurt, "t").damaged_count, 1);
        CHECK_INT(rig_stat(&hurt).damaged_count, 1);
        CHECK(rig_reported(&hurt, "wal_"));
        rig_reopen(&hurt);
        rig_expect_empty(&hurt, "t");
        rig_append(&hurt, "t", 120, 10);
        rig_expect(&hurt, "t", 120, 10);
        rig_fini(&hurt);
    }
}

Test(recovery, one_flipped_byte_of_a_header_costs_that_entry_and_says_so)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 20, 100);
    rig_close(&s);
    for (int64_t delta = -(int64_t)RIG_RECORD_SIZE; delta < 0; delta++) {
        struct rig hurt;
        struct place place;
        rig_copy(&s, &hurt);
        rig_find(&hurt, "t", 7, 100, &place);
        place_flip(&place, delta);
        rig_open(&hurt);
        expect_all_but(&hurt, "t", 0, 20, 7);
        CHECK_INT(rig_topic_stat(&hurt, "t").damaged_count, 1);
        rig_append(&hurt, "t", 20, 100);
        rig_expect(&hurt, "t", 20, 100);
        rig_fini(&hurt);
    }
}

Test(recovery, damage_in_a_sealed_block_leaves_the_other_blocks_alone)
{
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 1000, 1000);
    rig_close(&s);
    rig_find(&s, "t", 500, 1000, &place);
    place_flip(&place, -1);
    rig_open(&s);
    expect_all_but(&s, "t", 0, 1000, 500);
}

Test(recovery, a_wiped_sector_costs_the_entries_in_it)
{
    struct place place;
    uint64_t seq = 0, bad = 0, good = 0;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 300, 100);
    rig_close(&s);
    rig_find(&s, "t", 100, 100, &place);
    place.off = place.off / 512 * 512;
    place_zero(&place, 0, 512);
    rig_open(&s);
    for (int rc; (rc = rig_take(&s, "t", &seq)) != WALRUS_EMPTY;) {
        CHECK(rc == 0 || rc == -EBADMSG);
        if (rc == 0)
            good++;
        else
            bad++;
    }
    CHECK(bad >= 1 && bad <= 6);
    CHECK_INT(seq, 299);
    CHECK(good >= 294);
    CHECK_INT(rig_topic_stat(&s, "t").damaged_count, 300 - good);
}

Test(recovery, damage_in_an_entry_of_several_blocks_costs_that_entry)
{
    struct place place;
    size_t size = 4 * RIG_BLOCK_SIZE;

    rig_open(&s);
    for (uint64_t seq = 0; seq < 5; seq++)
        rig_append(&s, "t", seq, seq == 2 ? size : 100);
    rig_close(&s);
    uint8_t *data = payload_make(&s, "t", 2, size);
    for (size_t part = 0; part < 4; part++) {
        struct rig hurt;
        rig_copy(&s, &hurt);
        CHECK(dir_find(hurt.dir, data + part * RIG_BLOCK_SIZE, 64, &place));
        place_flip(&place, 5);
        rig_open(&hurt);
        uint64_t seq;
        for (uint64_t next = 0; next < 5; next++) {
            CHECK_INT(rig_take(&hurt, "t", &seq), next == 2 ? -EBADMSG : 0);
            if (next != 2)
                CHECK_INT(seq, next);
        }
        rig_fini(&hurt);
    }
    free(data);
}

Test(recovery, each_group_is_told_once_of_a_damaged_entry_and_reading_it_by_number_always)
{
    struct walrus_entry entry;
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_close(&s);
    rig_find(&s, "t", 2, 100, &place);
    place_flip(&place, 10);
    rig_open(&s);
    struct walrus_group *other = rig_group(&s, "t", "other");
    rig_expect_many(&s, "t", 0, 2, 100);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(walrus_peek(s.walrus, "t", &entry), -EBADMSG);
        CHECK_INT(walrus_read_at(s.walrus, "t", 2, &entry), -EBADMSG);
    }
    expect_all_but(&s, "t", 2, 5, 2);
    for (uint64_t seq = 0; seq < 5; seq++) {
        struct walrus_reader *reader = rig_claim(other, 1);
        uint8_t data[100];
        ssize_t got = walrus_reader_read(reader, data, 100, 0, NULL);
        CHECK_INT(got, seq == 2 ? -EBADMSG : 100);
        CHECK_INT(walrus_reader_close(reader), 0);
    }
    walrus_group_unref(other);
    CHECK_INT(rig_group_stat(&s, "t", "other").offset, 5);
    CHECK_INT(walrus_read_at(s.walrus, "t", 2, &entry), -EBADMSG);
}

Test(recovery, a_damaged_entry_stays_consumed_after_a_kill)
{
    struct rig killed;
    struct place place;
    uint64_t seq;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    rig_close(&s);
    rig_find(&s, "t", 0, 100, &place);
    place_flip(&place, 10);
    rig_open(&s);
    CHECK_INT(rig_take(&s, "t", &seq), -EBADMSG);
    rig_copy(&s, &killed);
    rig_open(&killed);
    rig_expect_many(&killed, "t", 1, 2, 100);
    rig_fini(&killed);
}

Test(recovery, a_drain_stops_at_a_damaged_entry_once_and_goes_on_behind_it)
{
    struct place place;
    uint8_t data[1000], expected[1000];
    uint64_t next = 0;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_close(&s);
    rig_find(&s, "t", 4, 100, &place);
    place_flip(&place, 10);
    rig_open(&s);
    for (uint64_t seq = 0; seq < 10; seq++)
        payload_fill(s.seed, "t", seq, expected + 100 * seq, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    CHECK_INT(walrus_reader_read(reader, data, 1000, 0, NULL), 400);
    CHECK(memcmp(data, expected, 400) == 0);
    CHECK_INT(walrus_reader_read(reader, data, 1000, 400, &next), -EBADMSG);
    CHECK_INT(next, 500);
    CHECK_INT(walrus_reader_read(reader, data, 1000, 500, NULL), 500);
    CHECK(memcmp(data, expected + 500, 500) == 0);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_empty(&s, "t");
    CHECK_INT(rig_topic_stat(&s, "t").damaged_count, 1);
}

Test(recovery, a_batch_read_ends_before_a_damaged_entry_then_tells_it)
{
    struct walrus_entry *entries;
    struct place place;
    size_t count;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_close(&s);
    rig_find(&s, "t", 4, 100, &place);
    place_flip(&place, 10);
    rig_open(&s);
    CHECK_INT(walrus_batch_read(s.walrus, "t", SIZE_MAX, 100, &entries, &count), 0);
    CHECK_INT(count, 4);
    walrus_entries_free(entries, count);
    CHECK_INT(walrus_batch_read(s.walrus, "t", SIZE_MAX, 100, &entries, &count), -EBADMSG);
    CHECK_INT(walrus_batch_read(s.walrus, "t", SIZE_MAX, 100, &entries, &count), 0);
    CHECK_INT(count, 5);
    CHECK_INT(entries[0].seq, 5);
    walrus_entries_free(entries, count);
}

Test(recovery, damage_of_what_was_durable_is_told_even_after_a_kill)
{
    struct rig killed;
    struct place place;

    s.options.fsync = WALRUS_FSYNC_EACH;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 20, 100);
    rig_copy(&s, &killed);
    rig_find(&killed, "t", 11, 100, &place);
    place_zero(&place, -(int64_t)RIG_RECORD_SIZE, RIG_RECORD_SIZE + 100);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 20);
    expect_all_but(&killed, "t", 0, 20, 11);
    CHECK_INT(rig_topic_stat(&killed, "t").damaged_count, 1);
    CHECK(killed.report_count[WALRUS_ERROR] + killed.report_count[WALRUS_WARNING] > 0);
    rig_fini(&killed);
}

/* ------------------------------------------------------------------------------ damaged metadata
 * -- */

static void name_path(const struct rig *rig, const char *name, struct place *ret_place)
{
    CHECK((size_t)snprintf(ret_place->path, sizeof(ret_place->path), "%s/%s", rig->dir, name) <
          sizeof(ret_place->path));
    ret_place->off = 0;
}

Test(recovery, any_byte_of_one_copy_of_a_log_file_s_metadata_may_be_wrong)
{
    /* headers at 0 and 61440, tables at 4096 and 32768, four entries of 128 bytes */
    const int64_t offs[] = {0,         8,          32,         61440,      61440 + 40,
                            4096,      4096 + 4,   4096 + 24,  4096 + 200, 32768,
                            32768 + 4, 32768 + 48, 32768 + 200};

    rig_open(&s);
    rig_append_many(&s, "t", 0, 100, 1000);
    rig_expect_many(&s, "t", 0, 10, 1000);
    rig_close(&s);
    for (size_t i = 0; i < sizeof(offs) / sizeof(offs[0]); i++) {
        struct rig hurt;
        struct place place;
        rig_copy(&s, &hurt);
        rig_find(&hurt, "t", 20, 1000, &place);
        place.off = 0;
        place_flip(&place, offs[i]);
        rig_open(&hurt);
        rig_expect_many(&hurt, "t", 10, 90, 1000);
        rig_append(&hurt, "t", 100, 10);
        rig_expect(&hurt, "t", 100, 10);
        rig_reopen(&hurt);
        rig_expect_empty(&hurt, "t");
        rig_fini(&hurt);
    }
}

Test(recovery, one_damaged_copy_of_any_block_entry_costs_no_part_of_a_large_entry)
{
    const size_t sizes[] = {100, 70000, 300, 3 * RIG_BLOCK_SIZE, 300};

    rig_open(&s);
    for (uint64_t seq = 0; seq < 5; seq++)
        rig_append(&s, "t", seq, sizes[seq]);
    rig_close(&s);
    for (unsigned which = 0; which < 4 * RIG_BLOCKS_PER_FILE; which++) {
        unsigned file = which / 2 / RIG_BLOCKS_PER_FILE, block = which / 2 % RIG_BLOCKS_PER_FILE;
        struct rig hurt;
        struct place place;
        rig_copy(&s, &hurt);
        rig_find(&hurt, "t", file == 0 ? 0 : 4, 100, &place);
        place.off = (which % 2 == 0 ? 4096 : 32768) + block * 128u;
        place_flip(&place, 0);
        rig_open(&hurt);
        for (uint64_t seq = 0; seq < 5; seq++)
            rig_expect(&hurt, "t", seq, sizes[seq]);
        rig_expect_empty(&hurt, "t");
        rig_append(&hurt, "t", 5, 300);
        rig_reopen(&hurt);
        rig_expect(&hurt, "t", 5, 300);
        rig_fini(&hurt);
    }
}

Test(recovery, a_block_with_both_entries_damaged_is_set_aside_and_the_others_work)
{
    struct place place;
    uint64_t seq = 0, good = 0;

    rig_open(&s);
    rig_append_many(&s, "other", 0, 10, 100);
    rig_append_many(&s, "t", 0, 500, 1000);
    rig_close(&s);
    rig_find(&s, "t", 250, 1000, &place);
    uint64_t block = (place.off - 65536) / RIG_BLOCK_SIZE;
    place.off = 0;
    place_flip(&place, (int64_t)(4096 + block * 128 + 20));
    place_flip(&place, (int64_t)(32768 + block * 128 + 20));
    rig_open(&s);
    CHECK(rig_reports(&s, WALRUS_ERROR) + rig_reports(&s, WALRUS_WARNING) > 0);
    rig_expect_many(&s, "other", 0, 10, 100);
    for (int rc; (rc = rig_take(&s, "t", &seq)) != WALRUS_EMPTY;) {
        CHECK(rc == 0 || rc == -EBADMSG);
        good += rc == 0;
    }
    CHECK_INT(seq, 499);
    CHECK(good >= 500 - 2 * RIG_BLOCK_SIZE / 1000);
    CHECK(rig_topic_stat(&s, "t").damaged_count > 0);
    rig_append(&s, "t", 500, 100);
    rig_expect(&s, "t", 500, 100);
}

Test(recovery, one_damaged_copy_of_an_offset_costs_at_most_a_step)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    rig_close(&s);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct rig hurt;
        struct place place;
        uint64_t seq;
        rig_copy(&s, &hurt);
        name_path(&hurt, "read_offset_idx_index.db", &place);
        place_flip(&place, copy * 32768 + 32);
        rig_open(&hurt);
        CHECK_INT(rig_take(&hurt, "t", &seq), 0);
        CHECK(seq == 4 || seq == 5);
        rig_fini(&hurt);
    }
}

Test(recovery, an_offset_with_both_copies_damaged_starts_again_and_says_so)
{
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    rig_close(&s);
    name_path(&s, "read_offset_idx_index.db", &place);
    place_flip(&place, 32);
    place_flip(&place, 32768 + 32);
    rig_open(&s);
    CHECK(rig_reports(&s, WALRUS_ERROR) + rig_reports(&s, WALRUS_WARNING) > 0);
    rig_expect_many(&s, "t", 0, 10, 100);
}

Test(recovery, a_topic_whose_record_is_lost_comes_back_under_its_number)
{
    struct place place;
    char name[64];

    rig_open(&s);
    rig_append_many(&s, "first", 0, 5, 100);
    rig_append_many(&s, "vanishing-name", 0, 5, 100);
    rig_append_many(&s, "last", 0, 5, 100);
    uint64_t id = rig_topic_stat(&s, "vanishing-name").id;
    rig_close(&s);
    CHECK(dir_find(s.dir, "vanishing-name", 14, &place));
    place_flip(&place, 3);
    rig_open(&s);
    rig_expect_many(&s, "first", 0, 5, 100);
    rig_expect_many(&s, "last", 0, 5, 100);
    snprintf(name, sizeof(name), "recovered-%llu", (unsigned long long)id);
    struct walrus_topic *topic;
    CHECK_INT(walrus_topic_find(s.walrus, name, &topic), 0);
    CHECK_INT(walrus_topic_rename(topic, "vanishing-name"), 0);
    walrus_topic_unref(topic);
    rig_expect_many(&s, "vanishing-name", 0, 5, 100);
    CHECK(rig_reports(&s, WALRUS_ERROR) + rig_reports(&s, WALRUS_WARNING) > 0);
}

Test(recovery, cut_short_files_are_no_reason_to_die)
{
    const char *names[] = {"read_offset_idx_index.db", "topics.db", "wal_"};
    const int parts[] = {0, 1, 3, 7}; /* eighths that are left */

    rig_open(&s);
    rig_append_many(&s, "t", 0, 100, 1000);
    rig_expect_many(&s, "t", 0, 10, 1000);
    rig_close(&s);
    for (size_t i = 0; i < 12; i++) {
        struct rig hurt;
        struct place place;
        struct walrus_entry entry;
        rig_copy(&s, &hurt);
        if (i / 4 == 2)
            rig_find(&hurt, "t", 90, 1000, &place);
        else
            name_path(&hurt, names[i / 4], &place);
        CHECK_INT(truncate(place.path, (off_t)(disk_size(place.path) / 8 * parts[i % 4])), 0);
        int rc = rig_try_open(&hurt);
        CHECK(rc == 0 || rc == -EBADMSG || rc == -EIO);
        if (rc == 0) {
            CHECK_INT(walrus_append(hurt.walrus, "new", "x", 1), 0);
            CHECK_INT(walrus_read_next(hurt.walrus, "new", &entry), 0);
            free(entry.data);
            for (int turn = 0; turn < 200; turn++) {
                rc = walrus_read_next(hurt.walrus, "t", &entry);
                if (rc == WALRUS_EMPTY)
                    break;
                CHECK(rc == 0 || rc == -EBADMSG || rc == -EIO);
                if (rc == 0)
                    free(entry.data);
            }
        }
        CHECK(rig_reports(&hurt, WALRUS_ERROR) + rig_reports(&hurt, WALRUS_WARNING) > 0);
        struct walrus *walrus = hurt.walrus;
        hurt.walrus = NULL;
        (void)walrus_close(walrus);
        rig_fini(&hurt);
    }
}

/* ----------------------------------------------------------------------- what recovery looks at --
 */

static char active_name[64]; /* the log file with the newest entry */

/* Maps a file; takes away every right to the blocks of a log file whose blocks are all sealed. */
static void *map_without_sealed(int fd, size_t size, int prot)
{
    char link[64], path[PATH_MAX] = "";
    void *addr = os_system.mmap(fd, size, prot);

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    CHECK(readlink(link, path, sizeof(path) - 1) > 0);
    const char *name = strrchr(path, '/') + 1;
    if (addr != MAP_FAILED && strncmp(name, "wal_", 4) == 0 && strcmp(name, active_name) != 0 &&
        size > 65536)
        CHECK_INT(mprotect((char *)addr + 65536, size - 65536, PROT_NONE), 0);
    return addr;
}

Test(recovery, reads_64_kib_of_each_log_file_and_no_sealed_entry)
{
    struct rig killed;
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3000, 1000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_copy(&s, &killed);
    CHECK(dir_file_count(killed.dir, ".log") > 8);
    rig_find(&killed, "t", 2999, 1000, &place);
    snprintf(active_name, sizeof(active_name), "%.60s", strrchr(place.path, '/') + 1);

    faultos_install();
    struct os_ops ops = *os;
    const struct os_ops *before = os;
    ops.mmap = map_without_sealed;
    os = &ops;
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 3000);
    rig_append(&killed, "t", 3000, 100);
    rig_expect_at(&killed, "t", 3000, 100);
    CHECK(faultos_read_bytes("wal_*.log") > 0);
    CHECK(faultos_read_bytes_max("wal_*.log") <= 65536);
    rig_close(&killed);
    os = before;
    faultos_remove();
    rig_open(&killed);
    rig_expect_many(&killed, "t", 0, 3000, 1000);
    rig_fini(&killed);
}

static atomic_uint progress_calls;

static void check_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    CHECK(done <= total);
    atomic_fetch_add(&progress_calls, 1);
}

Test(recovery, tells_its_progress_within_bounds)
{
    struct rig killed;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3000, 1000);
    rig_copy(&s, &killed);
    killed.options.progress = check_progress;
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 3000);
    CHECK(progress_calls > 0);
    rig_fini(&killed);
}
