/* SPDX-License-Identifier: MIT */
/*
 * test_suspicions.c - what somebody would try who reads the engine and looks for a way to lose an
 * entry, to invent one, or to do either in silence: two faults that meet, or a fault at the one
 * moment at which it hurts.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faultos.h"
#include "format.h"
#include "powercut.h"
#include "rig.h"

static struct rig s;

static void setup(void)
{
    rig_init(&s);
    s.options.fsync = WALRUS_FSYNC_NEVER;
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(suspicions, .init = setup, .fini = teardown, .timeout = 300);

static void flip_header(const struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    struct place place;

    rig_find(rig, topic, seq, size, &place);
    place_flip(&place, -1); /* the last byte of its checksum */
}

/* A kill, after a batch of three of which the first entry was taken: all of it was durable. */
static void make_half_taken_batch(struct rig *ret_killed)
{
    rig_open(&s);
    CHECK_INT(rig_try_batch(&s, "t", 0, 3, 1000), 0);
    rig_expect(&s, "t", 0, 1000);
    rig_copy(&s, ret_killed);
}

Test(suspicions, a_batch_of_which_an_entry_was_taken_is_damaged_and_not_torn_at_its_end)
{
    struct rig killed;

    make_half_taken_batch(&killed);
    flip_header(&killed, "t", 2, 1000);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").damaged_count, 1);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 3);
    rig_expect(&killed, "t", 1, 1000);
    rig_append(&killed, "t", 3, 500);
    rig_expect_at(&killed, "t", 3, 500);
    rig_fini(&killed);
}

Test(suspicions, a_batch_of_which_an_entry_was_taken_is_damaged_and_not_torn_in_the_middle)
{
    struct rig killed;

    make_half_taken_batch(&killed);
    flip_header(&killed, "t", 1, 1000);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").damaged_count, 1);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 3);
    rig_expect_at(&killed, "t", 2, 1000);
    rig_fini(&killed);
}

Test(suspicions, rotten_data_of_a_batch_of_which_an_entry_was_taken_is_for_its_reader_to_meet)
{
    struct rig killed;
    struct place place;

    make_half_taken_batch(&killed);
    rig_find(&killed, "t", 1, 1000, &place);
    place_flip(&place, 500);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 3);
    rig_expect_at(&killed, "t", 2, 1000);
    rig_fini(&killed);
}

/*
 * A topic whose log has damage (entry 1) and ends in a batch of entries 3 to 5 of which `bad` has a
 * wrong header, or wrong data, is opened, appended to, and opened again after a loss of power.
 */
static void drop_behind_damage(uint64_t bad, bool header)
{
    struct rig torn, cut;
    struct place place;
    uint64_t random = 1;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 1000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_append(&s, "t", 2, 1000);
    CHECK_INT(rig_try_batch(&s, "t", 3, 3, 1000), 0);
    rig_copy(&s, &torn);
    flip_header(&torn, "t", 1, 1000);
    rig_find(&torn, "t", bad, 1000, &place);
    place_flip(&place, header ? -1 : 0);

    powercut_install(torn.dir, NULL);
    rig_open(&torn);
    CHECK_INT(rig_topic_stat(&torn, "t").tail_seq, 3);
    CHECK_INT(rig_topic_stat(&torn, "t").damaged_count, 1);
    torn.seed++; /* so that it is not taken for what was dropped */
    for (uint64_t seq = 3; seq < 6; seq++) {
        rig_append(&torn, "t", seq, 2000);
        CHECK_INT(walrus_sync(torn.walrus), 0);
    }
    rig_init(&cut);
    cut.seed = torn.seed;
    powercut_write(cut.dir, POWERCUT_DURABLE, 0, &random);
    rig_close(&torn);
    powercut_remove();

    rig_open(&cut);
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 6);
    CHECK_INT(rig_topic_stat(&cut, "t").damaged_count, 1);
    for (uint64_t seq = 3; seq < 6; seq++)
        rig_expect_at(&cut, "t", seq, 2000);
    rig_fini(&cut);
    rig_fini(&torn);
    rig_close(&s);
}

Test(suspicions, what_was_dropped_behind_damage_does_not_hide_what_comes_next)
{
    for (uint64_t bad = 3; bad < 6; bad++) {
        drop_behind_damage(bad, false);
        rig_fini(&s);
        setup();
        drop_behind_damage(bad, true);
        rig_fini(&s);
        setup();
    }
}

Test(suspicions, a_block_that_could_not_be_freed_does_not_end_the_log)
{
    static uint8_t meta[FORMAT_FILE_META_SIZE];
    struct rig torn, cut;
    struct place place;
    char path[RIG_DIR_SIZE * 2];

    s.options.blocks_per_file = 1;
    rig_open(&s);
    rig_append(&s, "t", 0, 60000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_append_many(&s, "t", 1, 2, 60000); /* in a block each */
    rig_copy(&s, &torn);
    rig_find(&torn, "t", 1, 60000, &place);
    place_flip(&place, 20000);
    rig_find(&torn, "t", 2, 60000, &place);
    cr_assert_str_eq(strrchr(place.path, '/'), "/wal_0003.log");
    disk_read(place.path, 0, meta, sizeof(meta));

    faultos_install(); /* the block of entry 2, which is dropped, cannot be marked free */
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_MSYNC, .nth = 1, .error = EIO, .forever = true, .file = "wal_0003.log"});
    rig_open(&torn);
    CHECK_INT(rig_topic_stat(&torn, "t").tail_seq, 1);
    torn.seed++;
    rig_append(&torn, "t", 1, 50000);
    rig_hold_syncs(true);
    rig_append_many(&torn, "t", 2, 2, 50000);
    rig_copy(&torn, &cut);
    rig_hold_syncs(false);
    (void)walrus_close(torn.walrus);
    torn.walrus = NULL;
    faultos_remove();

    snprintf(path, sizeof(path), "%s/wal_0003.log", cut.dir); /* the sync failed: it is as it was */
    disk_write(path, 0, meta, sizeof(meta));
    rig_open(&cut);
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 4);
    CHECK_INT(rig_topic_stat(&cut, "t").damaged_count, 0);
    for (uint64_t seq = 1; seq < 4; seq++)
        rig_expect_at(&cut, "t", seq, 50000);
    rig_fini(&cut);
    rig_fini(&torn);
}

Test(suspicions, a_sync_that_found_the_disk_full_leaves_two_good_copies_of_a_block_s_entry)
{
    static const uint8_t noise[sizeof(struct format_block)] = {1, 2, 3};

    faultos_install();
    for (unsigned nth = 1; nth <= 3; nth++) {
        struct rig one;
        rig_init(&one);
        one.options.fsync = WALRUS_FSYNC_NEVER;
        rig_open(&one);
        rig_append(&one, "a", 0, 1000); /* has the first block, which is settled at once */
        rig_append(&one, "t", 0, 60000);
        CHECK_INT(walrus_sync(one.walrus), 0);
        rig_append(&one, "t", 1, 60000); /* is in a block that is not */
        struct walrus_topic *topic = rig_topic(&one, "t");
        faultos_arm(&(struct faultos_rule){
            .kind = FAULTOS_WRITE, .nth = nth, .error = ENOSPC, .file = "wal_*.log"});
        int r = walrus_topic_sync(topic);
        CHECK(r == 0 || r == -ENOSPC);
        faultos_disarm();
        CHECK_INT(walrus_topic_sync(topic), 0);
        walrus_topic_unref(topic);
        for (uint32_t copy = 0; copy < 2; copy++)
            for (uint32_t block = 0; block < RIG_BLOCKS_PER_FILE; block++) {
                struct rig cut;
                char path[RIG_DIR_SIZE * 2];
                rig_copy(&one, &cut);
                snprintf(path, sizeof(path), "%s/wal_0001.log", cut.dir);
                disk_write(path, FORMAT_TABLE_OFF(copy) + block * sizeof(noise), noise,
                           sizeof(noise));
                rig_open(&cut);
                CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 2);
                rig_expect_at(&cut, "t", 1, 60000);
                rig_fini(&cut);
            }
        rig_fini(&one);
    }
    faultos_remove();
}

Test(suspicions, a_batch_that_failed_half_written_does_not_come_back_behind_the_next_entry)
{
    struct walrus_append_options durable = {.durable = true};
    struct rig killed;
    uint8_t data[2][1001];

    faultos_install();
    rig_open(&s);
    struct walrus_topic *topic = rig_topic(&s, "t");
    rig_append(&s, "t", 0, 100);
    memset(data, 'x', sizeof(data));
    struct iovec batch[] = {{data[0], sizeof(data[0])}, {data[1], sizeof(data[1])}};
    /* Header, data and zeros go one by one: all but the last zeros get there. */
    faultos_limit_transfer(sizeof(data[0]));
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 6, .error = EIO, .file = "wal_*.log"});
    CHECK_INT(walrus_topic_append(topic, batch, 2, &durable, NULL), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    faultos_limit_transfer(0);
    rig_append(&s, "t", 1, sizeof(data[0]));
    rig_copy(&s, &killed);
    walrus_topic_unref(topic);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 2);
    rig_expect(&killed, "t", 0, 100);
    rig_expect(&killed, "t", 1, sizeof(data[0]));
    rig_expect_empty(&killed, "t");
    rig_fini(&killed);
    rig_close(&s);
    faultos_remove();
}

/* The keeper looked at every topic that it was told of: it takes them in turn. */
static void wait_for_keeper(void)
{
    struct walrus_topic *topic = rig_topic(&s, "keeper");

    rig_append_many(&s, "keeper", 0, 2, 60000);
    CHECK_INT(walrus_topic_sync(topic), 0);
    rig_expect(&s, "keeper", 0, 60000);
    CHECK_SOON(rig_topic_stat(&s, "keeper").first_seq == 1);
    walrus_topic_unref(topic);
}

struct removal {
    struct walrus_reader *kept, *other;
    bool looked;
};

/* While the record of the removal is not durable yet: has the keeper begun? */
static void look_at_removal(void *arg, const char *file)
{
    struct removal *removal = arg;
    struct place place;

    if (removal->looked || strcmp(file, "topics.db") != 0)
        return;
    removal->looked = true;
    CHECK_INT(walrus_reader_close(removal->kept), 0);  /* tells the keeper of the one topic, */
    CHECK_INT(walrus_reader_close(removal->other), 0); /* and then of the other */
    CHECK_SOON(rig_topic_stat(&s, "other").first_seq == 1);
    rig_find(&s, "kept", 0, 40000, &place);
}

Test(suspicions, nothing_of_a_topic_goes_before_its_removal_is_durable)
{
    struct removal removal = {.looked = false};
    struct walrus_retention all = {.kind = WALRUS_KEEP_SIZE, .value = UINT64_MAX / 2};
    char byte;

    faultos_install();
    rig_open(&s);
    struct walrus_group *kept = rig_group(&s, "kept", "default");
    struct walrus_group *other = rig_group(&s, "other", "default");
    struct walrus_topic *topic = walrus_group_topic(kept);
    CHECK_INT(walrus_topic_set_retention(topic, &all), 0);
    rig_append_many(&s, "kept", 0, 2, 40000);
    rig_append(&s, "other", 0, 40000);
    rig_expect(&s, "kept", 0, 40000);
    removal.kept = rig_claim(kept, 1);
    removal.other = rig_claim(other, 1);
    CHECK_INT(walrus_reader_read(removal.kept, &byte, 1, 0, NULL), 1);
    CHECK_INT(walrus_reader_read(removal.other, &byte, 1, 0, NULL), 1);
    CHECK_INT(walrus_sync(s.walrus), 0);
    wait_for_keeper(); /* a turn that it owes the other would come before that of the one */
    faultos_on_sync(look_at_removal, &removal);
    CHECK_INT(walrus_topic_remove(topic), 0);
    CHECK(removal.looked);
    faultos_on_sync(NULL, NULL);
    walrus_group_unref(kept);
    walrus_group_unref(other);
    rig_close(&s);
    faultos_remove();
}

Test(suspicions, a_store_whose_directory_could_not_be_synced_is_not_opened)
{
    struct walrus_options options = {.fsync = WALRUS_FSYNC_NEVER};
    struct walrus *store;
    char path[RIG_DIR_SIZE * 2];

    snprintf(path, sizeof(path), "%s/below", s.dir);
    faultos_install();
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_FSYNC, .nth = 1, .error = EIO, .file = strrchr(s.dir, '/') + 1});
    CHECK_INT(walrus_open(path, &options, &store), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    faultos_remove();
}

/*
 * The entry in the table of the block that entries 0 to 9 went into never reached the disk, but
 * their data did; later the place is used again, and the zeros put there then do not reach it.
 */
Test(suspicions, records_in_a_place_whose_use_was_never_recorded_are_never_taken_for_others)
{
    enum { SIZE = 4096 - RIG_RECORD_SIZE, STALE = 9 * 4096 };
    static uint8_t stale[STALE];
    static const uint8_t nothing[2 * FORMAT_PAGE_SIZE];
    struct rig lost, cut;
    struct place place;

    rig_open(&s);
    walrus_topic_unref(rig_topic(&s, "t"));
    rig_append_many(&s, "t", 0, 10, SIZE);
    rig_copy(&s, &lost);
    rig_find(&lost, "t", 1, SIZE, &place);
    disk_read(place.path, place.off - RIG_RECORD_SIZE, stale, sizeof(stale));
    disk_write(place.path, FORMAT_TABLE_OFF(0), nothing, sizeof(nothing));
    disk_write(place.path, FORMAT_TABLE_OFF(1), nothing, sizeof(nothing));

    rig_open(&lost);
    CHECK_INT(rig_topic_stat(&lost, "t").tail_seq, 0);
    lost.seed++;
    rig_append(&lost, "t", 0, SIZE);
    CHECK_INT(walrus_sync(lost.walrus), 0);
    rig_copy(&lost, &cut);
    rig_find(&cut, "t", 0, SIZE, &place);
    disk_write(place.path, place.off - RIG_RECORD_SIZE + 4096, stale, sizeof(stale));
    rig_open(&cut);
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, 1);
    rig_expect(&cut, "t", 0, SIZE);
    rig_expect_empty(&cut, "t");
    rig_fini(&cut);
    rig_fini(&lost);
}

Test(suspicions, a_damaged_block_entry_of_a_clean_store_does_not_make_damaged_entries_its_end)
{
    static const uint8_t noise[sizeof(struct format_block)] = {1, 2, 3};
    struct walrus_entry entry;
    char path[RIG_DIR_SIZE * 2];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, 1000);
    rig_close(&s);
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct rig rotten;
        rig_copy(&s, &rotten);
        flip_header(&rotten, "t", 1, 1000);
        snprintf(path, sizeof(path), "%s/wal_0001.log", rotten.dir);
        disk_write(path, FORMAT_TABLE_OFF(copy), noise, sizeof(noise));
        rig_open(&rotten);
        CHECK_INT(rig_topic_stat(&rotten, "t").tail_seq, 4);
        rig_expect(&rotten, "t", 0, 1000);
        CHECK_INT(walrus_read_at(rotten.walrus, "t", 1, &entry), -EBADMSG);
        rig_expect_at(&rotten, "t", 2, 1000);
        rig_expect_at(&rotten, "t", 3, 1000);
        rig_fini(&rotten);
    }
}

/* The first three files that a new store syncs. */
struct first_syncs {
    char names[3][64];
    unsigned count;
};

static void note_sync(void *arg, const char *file)
{
    struct first_syncs *first = arg;

    if (first->count < 3)
        snprintf(first->names[first->count++], sizeof(first->names[0]), "%s", file);
}

Test(suspicions, super_is_whole_and_has_its_name_durably_before_there_is_another_file)
{
    struct first_syncs first = {.count = 0};

    faultos_install();
    faultos_on_sync(note_sync, &first);
    rig_open(&s);
    faultos_on_sync(NULL, NULL);
    cr_assert_str_eq(first.names[0], "SUPER.tmp");
    cr_assert_str_eq(first.names[1], strrchr(s.dir, '/') + 1);
    cr_assert_str_eq(first.names[2], "SUPER");
    rig_close(&s);
    faultos_remove();
}

Test(suspicions, a_new_log_file_is_a_new_file_whatever_has_its_temporary_name)
{
    static const char text[] = "not to be written to";
    char from[RIG_DIR_SIZE * 2], to[RIG_DIR_SIZE * 2], back[sizeof(text)];

    s.options.blocks_per_file = 1;
    rig_open(&s);
    dir_write(s.dir, "other", text, sizeof(text));
    snprintf(from, sizeof(from), "%s/other", s.dir);
    for (unsigned number = 1; number < 10; number++) {
        snprintf(to, sizeof(to), "%s/wal_%04u.log.tmp", s.dir, number);
        CHECK_INT(link(from, to), 0);
    }
    rig_append_many(&s, "t", 0, 3, 60000);
    disk_read(from, 0, back, sizeof(back));
    cr_assert_arr_eq(back, text, sizeof(text));
    CHECK_INT(disk_size(from), sizeof(text));
}

Test(suspicions, a_place_that_could_not_be_marked_free_is_not_used_again)
{
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 60000); /* in a block each */
    CHECK_INT(walrus_sync(s.walrus), 0);
    uint64_t free_count = rig_stat(&s).free_block_count;
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 1, .error = EIO, .file = "wal_*.log"});
    rig_expect(&s, "t", 0, 60000);
    CHECK_SOON(rig_reported(&s, "cannot be marked free"));
    faultos_disarm();
    CHECK_INT(rig_stat(&s).free_block_count, free_count);
    rig_close(&s);
    faultos_remove();
}

Test(suspicions, a_block_that_could_not_be_marked_free_keeps_those_behind_it)
{
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, 60000); /* in a block each */
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 1, .error = EIO, .file = "wal_*.log"});
    rig_expect(&s, "t", 0, 60000);
    CHECK_SOON(rig_reported(&s, "cannot be marked free"));
    faultos_disarm();
    rig_expect(&s, "t", 1, 60000);
    rig_expect(&s, "t", 2, 60000);
    (void)walrus_close(s.walrus);
    s.walrus = NULL;
    faultos_remove();
    /* The first one is there again; had the second gone, its entry would count as lost. */
    rig_open(&s);
    CHECK_INT(rig_topic_stat(&s, "t").damaged_count, 0);
    rig_expect(&s, "t", 3, 60000);
    rig_close(&s);
}

/* A copy that a disk gives back as it was before must not make the store look closed. */
Test(suspicions, neither_copy_of_super_says_closed_while_the_store_is_in_use)
{
    char path[PATH_MAX];

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    rig_open(&s);
    rig_append(&s, "t", 1, 100);
    snprintf(path, sizeof(path), "%s/SUPER", s.dir);
    for (size_t copy = 0; copy < 2; copy++) {
        struct format_super raw;
        struct super_info info;
        disk_read(path, copy * sizeof(raw), &raw, sizeof(raw));
        CHECK_INT(format_super_decode(&raw, sizeof(raw), &info), 0);
        CHECK_INT(info.clean, FORMAT_IN_USE);
    }
    rig_close(&s);
}

Test(suspicions, a_claimed_entry_whose_offset_cannot_be_stored_is_not_handed_out)
{
    char byte;

    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_WRITE_DURABLE, .nth = 1, .error = EIO, .file = "read_offset_idx_index.db"});
    CHECK_INT(walrus_reader_read(reader, &byte, 1, 0, NULL), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    (void)walrus_reader_close(reader);
    walrus_group_unref(group);
    (void)walrus_close(s.walrus);
    s.walrus = NULL;
    faultos_remove();
}

Test(suspicions, an_entry_that_is_being_read_keeps_its_block)
{
    static uint8_t data[60000];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, sizeof(data));
    CHECK_INT(walrus_sync(s.walrus), 0);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    CHECK_INT(walrus_reader_read(reader, data, 100, 0, NULL), 100); /* which consumes it */
    wait_for_keeper();
    CHECK_INT(walrus_reader_read(reader, data + 100, sizeof(data) - 100, 100, NULL),
              sizeof(data) - 100);
    CHECK(payload_same(s.seed, "t", 0, data, sizeof(data)));
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
}

static void hold_second_file(void *arg, const char *file)
{
    atomic_bool *held = arg;

    while (strcmp(file, "wal_0002.log") == 0 && atomic_load(held))
        sleep_ms(1);
}

Test(suspicions, a_block_goes_free_after_the_entry_of_the_next_is_durable)
{
    static atomic_bool held;

    atomic_store(&held, true);
    s.options.blocks_per_file = 1;
    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 60000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_on_sync(hold_second_file, &held);
    rig_append(&s, "t", 1, 10000); /* its block has an entry that does not become durable yet */
    rig_expect(&s, "t", 0, 60000);
    wait_for_keeper();
    CHECK_INT(rig_topic_stat(&s, "t").first_seq, 0);
    atomic_store(&held, false);
    CHECK_SOON(rig_topic_stat(&s, "t").first_seq == 1);
    faultos_on_sync(NULL, NULL);
    rig_close(&s);
    faultos_remove();
}

/* At-least-once: the last entry that was taken cannot be synced, so the offset cannot be stored. */
Test(suspicions, a_block_goes_free_after_an_offset_behind_it_is_durable)
{
    static uint8_t data[3 * 60000];

    s.options.blocks_per_file = 1;
    s.options.consistency = WALRUS_AT_LEAST_ONCE;
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 60000); /* in a file each */
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .forever = true, .file = "wal_0003.log"});
    rig_append(&s, "t", 2, 60000);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 3);
    CHECK_INT(walrus_reader_read(reader, data, sizeof(data), 0, NULL), sizeof(data));
    CHECK(walrus_reader_delivered(reader, sizeof(data)) < 0);
    (void)walrus_reader_close(reader);
    struct walrus_topic *topic = walrus_group_topic(group);
    struct walrus_retention consumed = {.kind = WALRUS_KEEP_CONSUMED};
    CHECK_INT(walrus_topic_set_retention(topic, &consumed), 0); /* tells the keeper */
    walrus_group_unref(group);
    rig_close_degraded(&s); /* after the keeper looked */
    faultos_remove();

    rig_open(&s);
    CHECK_INT(rig_topic_stat(&s, "t").damaged_count, 0);
    rig_expect_many(&s, "t", 0, 2, 60000);
}

/* A seek back to the start, whose store of the offset waits. */
struct seek_back {
    struct walrus_group *group;
    int result;
    atomic_bool stores, go_on;
};

static void *seek_back_main(void *arg)
{
    struct seek_back *back = arg;
    back->result = walrus_group_seek(back->group, WALRUS_SEEK_TO, 0);
    return NULL;
}

static void seek_back_on_sync(void *arg, const char *file)
{
    struct seek_back *back = arg;
    if (strcmp(file, "read_offset_idx_index.db") != 0)
        return;
    atomic_store(&back->stores, true);
    CHECK_SOON(atomic_load(&back->go_on));
}

Test(suspicions, what_a_seek_goes_back_to_stays_while_it_is_being_stored)
{
    struct seek_back back = {.result = 1};
    pthread_t thread;

    faultos_install();
    rig_open(&s);
    struct walrus_topic *topic = rig_topic(&s, "t");
    CHECK_INT(
        walrus_topic_set_retention(topic, &(struct walrus_retention){.kind = WALRUS_KEEP_ALL}), 0);
    rig_append_many(&s, "t", 0, 300, 1000); /* five blocks */
    rig_expect_many(&s, "t", 0, 300, 1000);
    back.group = rig_group(&s, "t", "default");
    faultos_on_sync(seek_back_on_sync, &back);
    CHECK_INT(pthread_create(&thread, NULL, seek_back_main, &back), 0);
    CHECK_SOON(atomic_load(&back.stores));
    CHECK_INT(
        walrus_topic_set_retention(topic, &(struct walrus_retention){.kind = WALRUS_KEEP_CONSUMED}),
        0);
    sleep_ms(300); /* reclaim has its chance */
    CHECK_INT(rig_topic_stat(&s, "t").first_seq, 0);
    atomic_store(&back.go_on, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(back.result, 0);
    rig_expect_many(&s, "t", 0, 300, 1000);
    walrus_topic_unref(topic);
    walrus_group_unref(back.group);
    rig_close(&s);
    faultos_remove();
}

Test(suspicions, a_rewind_is_in_both_copies_of_the_offset)
{
    static const uint8_t noise[512] = {1, 2, 3};
    char path[RIG_DIR_SIZE * 2];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    rig_expect_many(&s, "t", 0, 3, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 1), 0);
    walrus_group_unref(group);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct rig cut;
        rig_copy(&s, &cut);
        snprintf(path, sizeof(path), "%s/read_offset_idx_index.db", cut.dir);
        disk_write(path, copy * 32768, noise, sizeof(noise));
        rig_open(&cut);
        CHECK_INT(rig_group_stat(&cut, "t", "default").offset, 1);
        rig_fini(&cut);
    }
}

Test(suspicions, a_log_file_whose_header_is_lost_hides_no_entry_of_the_files_behind_it)
{
    static const uint8_t noise[2 * FORMAT_PAGE_SIZE] = {1, 2, 3};
    char path[RIG_DIR_SIZE * 2];

    s.options.blocks_per_file = 1;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, 60000); /* in a file each */
    rig_close(&s);
    snprintf(path, sizeof(path), "%s/wal_0002.log", s.dir);
    for (uint32_t copy = 0; copy < 2; copy++)
        disk_write(path, FORMAT_HEADER_OFF(copy), noise, sizeof(struct format_file));
    rig_open(&s);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 4);
    rig_expect_at(&s, "t", 0, 60000);
    rig_expect_at(&s, "t", 2, 60000);
    rig_expect_at(&s, "t", 3, 60000);
}

Test(suspicions, every_log_file_has_a_salt_of_its_own)
{
    static const uint8_t none[16];
    uint8_t salts[2][16];
    char path[RIG_DIR_SIZE * 2];

    s.options.blocks_per_file = 1;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 60000);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/wal_%04u.log", s.dir, i + 1);
        disk_read(path, offsetof(struct format_file, salt), salts[i], sizeof(salts[i]));
        CHECK(memcmp(salts[i], none, sizeof(none)) != 0);
    }
    CHECK(memcmp(salts[0], salts[1], sizeof(none)) != 0);
}
