/* SPDX-License-Identifier: MIT */
/*
 * test_unsynced.c - what a killed process left can be read, and is not on the disk: what the next
 * opening believes it makes durable first.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "faultos.h"
#include "powercut.h"
#include "rig.h"

static struct rig s, empty, killed, cut;

static void setup(void)
{
    rig_init(&s);
    s.options.fsync = WALRUS_FSYNC_NEVER;
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(unsynced, .init = setup, .fini = teardown, .timeout = 300);

/* A store that was killed with three entries of "t", one of them taken; the disk has what was there
 * before: another topic, and with it the log file. */
static void open_killed(void)
{
    rig_open(&s);
    rig_append(&s, "before", 0, 1000);
    rig_close(&s);
    rig_copy(&s, &empty);
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 1000);
    rig_expect(&s, "t", 0, 1000);
    rig_copy(&s, &killed);
    powercut_install(killed.dir, empty.dir);
    rig_open(&killed);
}

/* What a loss of power leaves now, opened. */
static void lose_power(void)
{
    uint64_t random = 1;

    rig_init(&cut);
    cut.seed = killed.seed;
    powercut_write(cut.dir, POWERCUT_DURABLE, 0, &random);
    rig_close(&killed);
    powercut_remove();
    rig_open(&cut);
}

static void end(void)
{
    rig_fini(&cut);
    rig_fini(&killed);
    rig_fini(&empty);
}

Test(unsynced, names_and_offsets_that_a_killed_process_left_are_durable_when_the_store_is_open)
{
    open_killed();
    lose_power();
    CHECK_INT(rig_stat(&cut).topic_count, 2);
    CHECK_INT(rig_group_stat(&cut, "t", "default").offset, 1);
    end();
}

Test(unsynced, blocks_that_a_killed_process_left_are_durable_with_the_next_sync)
{
    open_killed();
    CHECK_INT(walrus_sync(killed.walrus), 0);
    lose_power();
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 3);
    CHECK_INT(rig_topic_stat(&cut, "t").damaged_count, 0);
    rig_expect(&cut, "t", 1, 1000);
    rig_expect(&cut, "t", 2, 1000);
    end();
}

Test(unsynced, entries_that_a_killed_process_left_are_durable_before_they_are_taken)
{
    open_killed();
    rig_expect(&killed, "t", 1, 1000);
    lose_power();
    CHECK_INT(rig_topic_stat(&cut, "t").damaged_count, 0);
    CHECK_INT(rig_group_stat(&cut, "t", "default").offset, 2);
    rig_expect_at(&cut, "t", 1, 1000);
    end();
}

Test(unsynced, entries_that_a_killed_process_left_are_written_once_more)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 1000);
    rig_copy(&s, &killed);
    faultos_install();
    /* The metadata of the file is written first, then the entries. */
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 2, .error = EIO, .file = "wal_*.log"});
    CHECK_INT(rig_try_open(&killed), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    faultos_remove();
    rig_fini(&killed);
}

Test(unsynced, an_entry_that_a_killed_process_left_is_not_taken_when_it_cannot_be_synced)
{
    uint64_t seq;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 1000);
    rig_copy(&s, &killed);
    faultos_install();
    faultos_arm(&(struct faultos_rule){/* of data: metadata is synced in another way */
                                       .kind = FAULTOS_MSYNC,
                                       .nth = 1,
                                       .error = EIO,
                                       .forever = true,
                                       .file = "wal_*.log"});
    rig_open(&killed);
    CHECK_INT(rig_take(&killed, "t", &seq), -EIO);
    CHECK(faultos_failed_count() > 0);
    rig_close_degraded(&killed);
    faultos_remove();
    rig_open(&killed);
    rig_expect(&killed, "t", 0, 1000);
    rig_fini(&killed);
}

Test(unsynced, what_was_dropped_is_zeroed_durably_before_the_next_entry_is)
{
    enum { SIZE = 4096 - RIG_RECORD_SIZE };
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, SIZE);
    rig_copy(&s, &killed);
    rig_find(&killed, "t", 1, SIZE, &place);
    place_flip(&place, 0);
    powercut_install(killed.dir, NULL);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 1);
    killed.seed++;
    rig_append(&killed, "t", 1, SIZE); /* entries 2 and 3 of before would follow */
    CHECK_INT(walrus_sync(killed.walrus), 0);
    lose_power();
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 2);
    rig_expect_at(&cut, "t", 1, SIZE);
    rig_fini(&cut);
    rig_fini(&killed);
}
