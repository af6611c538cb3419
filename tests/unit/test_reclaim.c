/* SPDX-License-Identifier: MIT */
/*
 * test_reclaim.c - disk space comes back: what is consumed goes, at once and across restarts, what
 * somebody has yet to read stays, and retention keeps what it says.
 *
 * Reclaim works in the background, so most tests wait until the disk says so.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* Blocks that an idle store may hold on to: a few per topic, and a reserve. */
#define FEW_BLOCKS ((uint64_t)12 * RIG_BLOCK_SIZE)
#define FEW_FILES  4u

static struct rig s;

static void setup(void)
{
    rig_init(&s);
    rig_open(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(reclaim, .init = setup, .fini = teardown, .timeout = 300);

static void set_retention(const char *name, enum walrus_retention_kind kind, uint64_t value)
{
    struct walrus_topic *topic = rig_topic(&s, name);
    struct walrus_retention retention = {.kind = kind, .value = value};

    CHECK_INT(walrus_topic_set_retention(topic, &retention), 0);
    walrus_topic_unref(topic);
}

static uint64_t first_seq(const char *topic)
{
    return rig_topic_stat(&s, topic).first_seq;
}

/* ------------------------------------------------------------------------------------ consumed --
 */

Test(reclaim, what_is_consumed_gives_its_disk_space_and_files_back)
{
    rig_append_many(&s, "t", 0, 5000, 1000);
    CHECK(dir_disk_size(s.dir) >= 5000000);
    CHECK(dir_file_count(s.dir, ".log") >= 18);
    rig_expect_many(&s, "t", 0, 5000, 1000);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= FEW_FILES);
    CHECK(rig_stat(&s).reclaimed_bytes >= 4000000);
    CHECK(first_seq("t") > 4800);
    CHECK(rig_topic_stat(&s, "t").disk_bytes <= 2 * RIG_BLOCK_SIZE);
    rig_append(&s, "t", 5000, 100);
    rig_expect(&s, "t", 5000, 100);
}

Test(reclaim, a_topic_that_is_consumed_as_it_comes_stays_small)
{
    uint64_t worst = 0;

    for (uint64_t seq = 0; seq < 8000; seq++) {
        rig_append(&s, "t", seq, 1000);
        rig_expect(&s, "t", seq, 1000);
        if (seq % 500 == 499) {
            uint64_t size = dir_disk_size(s.dir);
            worst = size > worst ? size : worst;
        }
    }
    CHECK(worst <= 2 * FEW_BLOCKS);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
}

Test(reclaim, without_a_schedule_full_blocks_wait_until_they_are_consumed)
{
    rig_close(&s);
    s.options.fsync = WALRUS_FSYNC_NEVER;
    s.options.consistency = WALRUS_AT_LEAST_ONCE;
    s.options.persist_every = 1000000;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 5000, 1000);
    sleep_ms(100);
    CHECK_INT(rig_stat(&s).sync_count, 0);
    rig_expect_many(&s, "t", 0, 5000, 1000);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
}

Test(reclaim, without_a_schedule_a_block_does_not_wait_for_a_sync_of_the_next_one)
{
    const unsigned in_block = RIG_BLOCK_SIZE / (1000 + RIG_RECORD_SIZE);
    rig_close(&s);
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, in_block, 1000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_append_many(&s, "t", in_block, 1, 1000);
    rig_expect_many(&s, "t", 0, in_block, 1000);
    CHECK_SOON(first_seq("t") == in_block);
}

Test(reclaim, what_was_consumed_before_a_restart_goes_after_it)
{
    rig_append_many(&s, "t", 0, 3000, 1000);
    rig_append_many(&s, "u", 0, 3000, 1000);
    rig_reopen(&s);
    rig_expect_many(&s, "t", 0, 3000, 1000);
    rig_reopen(&s);
    rig_expect_many(&s, "u", 0, 3000, 1000);
    rig_reopen(&s);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= FEW_FILES);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 3000);
    CHECK_INT(rig_topic_stat(&s, "u").tail_seq, 3000);
}

Test(reclaim, a_kill_in_the_middle_loses_neither_entries_nor_space)
{
    rig_append_many(&s, "t", 0, 3000, 1000);
    for (uint64_t taken = 0; taken < 3000; taken += 1000) {
        struct rig killed;
        rig_expect_many(&s, "t", taken, 1000, 1000);
        rig_copy(&s, &killed); /* reclaim may be anywhere */
        rig_open(&killed);
        rig_expect_many(&killed, "t", taken + 1000, 3000 - taken - 1000, 1000);
        rig_expect_empty(&killed, "t");
        CHECK_SOON(dir_disk_size(killed.dir) <= FEW_BLOCKS);
        rig_fini(&killed);
    }
}

Test(reclaim, twenty_restarts_add_no_file_and_no_space)
{
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    rig_reopen(&s);
    sleep_ms(50);
    unsigned files = dir_file_count(s.dir, "");
    uint64_t size = dir_disk_size(s.dir);
    for (uint64_t turn = 0; turn < 20; turn++) {
        rig_reopen(&s);
        rig_append(&s, "t", 10 + turn, 100);
        rig_expect(&s, "t", 5 + turn, 100);
    }
    CHECK(dir_file_count(s.dir, "") <= files + 1); /* one that was being made ahead */
    CHECK(dir_disk_size(s.dir) <= size + 2 * RIG_BLOCK_SIZE);
}

Test(reclaim, twenty_kills_add_no_file_and_no_space)
{
    struct rig killed;
    unsigned files = 0;
    uint64_t size = 0;

    rig_append_many(&s, "t", 0, 10, 100);
    for (uint64_t turn = 0; turn < 20; turn++) {
        rig_copy(&s, &killed);
        rig_fini(&s);
        s = killed;
        s.options.report_arg = &s;
        rig_open(&s);
        rig_append(&s, "t", 10 + turn, 100);
        rig_expect(&s, "t", turn, 100);
        if (turn == 1) {
            files = dir_file_count(s.dir, "");
            size = dir_disk_size(s.dir);
        }
    }
    CHECK(dir_file_count(s.dir, "") <= files + 1);
    CHECK(dir_disk_size(s.dir) <= size + 4 * RIG_BLOCK_SIZE);
}

Test(reclaim, a_removed_topic_gives_its_space_back)
{
    struct walrus_topic *topic;

    rig_append_many(&s, "t", 0, 3000, 1000);
    rig_append_many(&s, "u", 0, 10, 1000);
    struct walrus_group *group = rig_group(&s, "t", "default");
    set_retention("t", WALRUS_KEEP_ALL, 0);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
    walrus_group_unref(group);
    topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_remove(topic), 0);
    walrus_topic_unref(topic);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= FEW_FILES);
    rig_reopen(&s);
    rig_expect_many(&s, "u", 0, 10, 1000);
}

Test(reclaim, numbers_go_on_after_everything_was_reclaimed_and_restarted)
{
    for (uint64_t round = 0; round < 5; round++) {
        rig_append_many(&s, "t", round * 200, 200, 1000);
        rig_expect_many(&s, "t", round * 200, 200, 1000);
        rig_reopen(&s);
        CHECK_INT(rig_topic_stat(&s, "t").tail_seq, (round + 1) * 200);
    }
}

/* ------------------------------------------------------------------------------- who still needs
 * it -- */

Test(reclaim, a_slow_group_keeps_what_it_has_yet_to_read)
{
    struct walrus_group *slow = rig_group(&s, "t", "slow");

    rig_append_many(&s, "t", 0, 2000, 1000);
    rig_expect_many(&s, "t", 0, 2000, 1000);
    sleep_ms(100);
    CHECK_INT(first_seq("t"), 0);
    CHECK_INT(walrus_group_seek(slow, WALRUS_SEEK_TO, 1000), 0);
    CHECK_SOON(first_seq("t") > 800);
    CHECK(first_seq("t") <= 1000);
    CHECK_SOON(dir_disk_size(s.dir) <= 1000 * 1100 + FEW_BLOCKS);
    for (uint64_t seq = 1000; seq < 2000; seq++) {
        struct walrus_reader *reader = rig_claim(slow, 1);
        CHECK_INT(walrus_reader_seq(reader), seq);
        rig_finish(&s, "t", reader);
    }
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
    walrus_group_unref(slow);
}

Test(reclaim, removing_the_slow_group_gives_the_space_back)
{
    struct walrus_group *slow = rig_group(&s, "t", "slow");

    rig_append_many(&s, "t", 0, 2000, 1000);
    rig_expect_many(&s, "t", 0, 2000, 1000);
    CHECK_INT(walrus_group_remove(slow), 0);
    walrus_group_unref(slow);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
}

Test(reclaim, a_slow_topic_in_the_middle_of_files_keeps_its_own_blocks_only)
{
    uint64_t slow = 0;

    for (uint64_t seq = 0; seq < 3000; seq++) {
        rig_append(&s, "fast", seq, 1000);
        if (seq % 300 == 150)
            rig_append(&s, "slow", slow++, 1000);
    }
    rig_expect_many(&s, "fast", 0, 3000, 1000);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
    rig_expect_many(&s, "slow", 0, slow, 1000);
}

Test(reclaim, freed_blocks_are_used_again_before_new_files_are_made)
{
    rig_append_many(&s, "slow", 0, 10, 1000);
    for (uint64_t round = 0; round < 10; round++) {
        rig_append_many(&s, "t", round * 300, 300, 1000);
        rig_expect_many(&s, "t", round * 300, 300, 1000);
        CHECK_SOON(first_seq("t") >= round * 300 + 200);
    }
    CHECK(dir_file_count(s.dir, ".log") <= 6);
    rig_expect_many(&s, "slow", 0, 10, 1000);
}

Test(reclaim, files_that_leaving_the_last_block_empties_go_too)
{
    enum { TOPICS = 8 };
    char name[TOPICS][8];

    /* each log file has a block of one topic, and else only those of "fast" */
    for (uint64_t i = 0; i < TOPICS; i++) {
        snprintf(name[i], sizeof(name[i]), "t%u", (unsigned)i);
        for (uint64_t k = 0; k < RIG_BLOCKS_PER_FILE - 1; k++)
            rig_append(&s, "fast", i * (RIG_BLOCKS_PER_FILE - 1) + k, 60000);
        rig_append(&s, name[i], 0, 20000);
    }
    struct walrus_group *group = rig_group(&s, "fast", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
    walrus_group_unref(group);
    CHECK_SOON(rig_stat(&s).block_count - rig_stat(&s).free_block_count == TOPICS + 1);
    CHECK(dir_file_count(s.dir, ".log") >= TOPICS);
    /* with its entry consumed each topic goes to a free block elsewhere */
    for (uint64_t i = 0; i < TOPICS; i++)
        rig_expect(&s, name[i], 0, 20000);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= FEW_FILES);
}

Test(reclaim, an_entry_in_hand_is_not_reclaimed)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *held;

    rig_append_many(&s, "t", 0, 1000, 1000);
    held = rig_claim(group, 1);
    rig_expect_many(&s, "t", 1, 999, 1000);
    sleep_ms(100);
    CHECK_INT(first_seq("t"), 0);
    rig_finish(&s, "t", held);
    walrus_group_unref(group);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
}

/* ----------------------------------------------------------------------------------- retention --
 */

Test(reclaim, keep_all_keeps_all_for_replay)
{
    set_retention("t", WALRUS_KEEP_ALL, 0);
    rig_append_many(&s, "t", 0, 1000, 1000);
    rig_expect_many(&s, "t", 0, 1000, 1000);
    rig_reopen(&s);
    sleep_ms(100);
    CHECK_INT(first_seq("t"), 0);
    rig_expect_at(&s, "t", 0, 1000);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 0, 1000, 1000);
    set_retention("t", WALRUS_KEEP_CONSUMED, 0);
    CHECK_SOON(dir_disk_size(s.dir) <= FEW_BLOCKS);
}

Test(reclaim, entries_are_found_by_number_in_any_order_also_after_blocks_went)
{
    const uint64_t count = 300;
    struct walrus_entry entry;
    uint64_t last = 0;

    set_retention("t", WALRUS_KEEP_ALL, 0);
    for (uint64_t seq = 0; seq < count; seq++) /* each twentieth over three blocks */
        rig_append(&s, "t", seq, seq % 20 == 7 ? 150000 : seq * 7 % 3000);
    for (uint64_t i = 0; i < 10 * count; i++) {
        last = i % 3 == 0 ? i * 7919 % count : (last + 1) % count; /* a jump, and two steps on */
        rig_expect_at(&s, "t", last, last % 20 == 7 ? 150000 : last * 7 % 3000);
    }
    rig_expect_at(&s, "t", 3, 21);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 250), 0);
    walrus_group_unref(group);
    set_retention("t", WALRUS_KEEP_CONSUMED, 0);
    CHECK_SOON(first_seq("t") > 200);
    CHECK_INT(walrus_read_at(s.walrus, "t", 4, &entry), -ENOENT);
    for (uint64_t seq = 250; seq < count; seq++)
        rig_expect_at(&s, "t", seq, seq % 20 == 7 ? 150000 : seq * 7 % 3000);
}

Test(reclaim, keep_size_keeps_the_newest_bytes)
{
    struct walrus_entry entry;
    uint64_t keep = 20 * RIG_BLOCK_SIZE;

    set_retention("t", WALRUS_KEEP_SIZE, keep);
    rig_append_many(&s, "t", 0, 5000, 1000);
    CHECK_INT(first_seq("t"), 0); /* nobody has read it */
    rig_expect_many(&s, "t", 0, 5000, 1000);
    CHECK_SOON(rig_topic_stat(&s, "t").disk_bytes <= keep + 2 * RIG_BLOCK_SIZE);
    sleep_ms(100);
    CHECK(rig_topic_stat(&s, "t").disk_bytes >= keep - 2 * RIG_BLOCK_SIZE);
    uint64_t first = first_seq("t");
    CHECK(first > 3000 && first < 4000);
    CHECK_INT(walrus_read_at(s.walrus, "t", first - 1, &entry), -ENOENT);
    for (uint64_t seq = first; seq < 5000; seq += 50)
        rig_expect_at(&s, "t", seq, 1000);
    rig_reopen(&s);
    CHECK(first_seq("t") >= first && first_seq("t") < 4000);
    rig_expect_at(&s, "t", first_seq("t"), 1000);
}

Test(reclaim, keep_age_keeps_what_is_young)
{
    struct walrus_group *group;

    set_retention("old", WALRUS_KEEP_AGE, 1);
    set_retention("young", WALRUS_KEEP_AGE, 3600);
    rig_append_many(&s, "old", 0, 1000, 1000);
    rig_append_many(&s, "young", 0, 1000, 1000);
    rig_append_many(&s, "unread", 0, 10, 1000);
    set_retention("unread", WALRUS_KEEP_AGE, 1);
    rig_expect_many(&s, "old", 0, 1000, 1000);
    rig_expect_many(&s, "young", 0, 1000, 1000);
    sleep_ms(1200);
    for (uint64_t seq = 1000; first_seq("old") <= 900; seq++) {
        CHECK(seq < 1100);
        rig_append(&s, "old", seq, 10);
        rig_expect(&s, "old", seq, 10);
        sleep_ms(50);
    }
    CHECK_INT(first_seq("young"), 0);
    CHECK_INT(first_seq("unread"), 0);
    rig_expect_many(&s, "unread", 0, 10, 1000);
    group = rig_group(&s, "young", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "young", 0, 1000, 1000);
}

Test(reclaim, an_age_or_a_size_beyond_all_numbers_keeps_everything)
{
    const struct {
        const char *topic;
        enum walrus_retention_kind kind;
        uint64_t value;
    } cases[] = {{"age", WALRUS_KEEP_AGE, UINT64_MAX / 1000000000u + 1}, /* in ns: 0.3 s too many */
                 {"ages", WALRUS_KEEP_AGE, UINT64_MAX / 1000000000u},    /* with a time added */
                 {"size", WALRUS_KEEP_SIZE, UINT64_MAX}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_retention(cases[i].topic, cases[i].kind, cases[i].value);
        rig_append_many(&s, cases[i].topic, 0, 300, 1000);
        rig_expect_many(&s, cases[i].topic, 0, 300, 1000);
    }
    sleep_ms(600);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        set_retention(cases[i].topic, cases[i].kind, cases[i].value); /* tells the keeper */
    sleep_ms(200);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT(first_seq(cases[i].topic), 0);
        rig_expect_at(&s, cases[i].topic, 0, 1000);
    }
}

Test(reclaim, seeking_below_what_is_retained_is_erange)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_reader *reader;

    rig_append_many(&s, "t", 0, 1000, 1000);
    rig_expect_many(&s, "t", 0, 1000, 1000);
    CHECK_SOON(first_seq("t") > 800);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 0), -ERANGE);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BY, (uint64_t)-1000), -ERANGE);
    CHECK_INT(walrus_entry_open(topic, 0, &reader), -ENOENT);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, first_seq("t"));
    walrus_topic_unref(topic);
    walrus_group_unref(group);
}
