/* SPDX-License-Identifier: MIT */
/*
 * test_weaknesses.c - what the Rust engine of the same name was found to get wrong, a test each,
 * named after the right behaviour.  The number before a test is its row in the list of findings,
 * the letter that of the field report.  Rows 19 to 34 are in test_weaknesses_life.c; names,
 * durability and damage have more in the other files.
 */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "faultos.h"
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

TestSuite(weaknesses, .init = setup, .fini = teardown, .timeout = 300);

/* --------------------------------------------------------------------------- positions (1 to 5) --
 */

/* 1 */
Test(weaknesses, polling_an_empty_topic_writes_nothing_and_moves_nothing)
{
    struct walrus_entry *entries;
    size_t count;

    faultos_install();
    s.options.fsync_ms = 3600000;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    uint64_t calls = faultos_count(FAULTOS_WRITE) + faultos_count(FAULTOS_WRITE_DURABLE) +
                     faultos_count(FAULTOS_ANY_SYNC);
    for (int i = 0; i < 5; i++) {
        rig_expect_empty(&s, "t");
        CHECK_INT(walrus_batch_read(s.walrus, "t", 100, 10, &entries, &count), WALRUS_EMPTY);
    }
    CHECK_INT(faultos_count(FAULTOS_WRITE) + faultos_count(FAULTOS_WRITE_DURABLE) +
                  faultos_count(FAULTOS_ANY_SYNC),
              calls);
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
    rig_kill(&s);
    rig_expect_empty(&s, "t");
    rig_close(&s);
    faultos_remove();
}

/* 2 */
Test(weaknesses, sealing_a_block_delivers_nothing_again)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, 1000);
    rig_expect_many(&s, "t", 0, 2, 1000);
    rig_append_many(&s, "t", 4, 300, 1000);
    rig_expect_many(&s, "t", 2, 302, 1000);
    rig_expect_empty(&s, "t");
}

struct taker {
    pthread_t thread;
    atomic_uchar *seen;
};

static void *take_all(void *arg)
{
    struct taker *taker = arg;
    uint64_t seq = 0;

    for (int rc; (rc = rig_take(&s, "t", &seq)) != WALRUS_EMPTY;) {
        if (rc == -EBUSY)
            continue; /* somebody else holds the gap */
        CHECK_INT(rc, 0);
        atomic_fetch_add(&taker->seen[seq], 1);
    }
    return NULL;
}

/* 3 */
Test(weaknesses, concurrent_readers_never_get_the_same_entry)
{
    static atomic_uchar seen[2000];
    struct taker takers[4];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2000, 200);
    for (size_t i = 0; i < 4; i++) {
        takers[i].seen = seen;
        CHECK_INT(pthread_create(&takers[i].thread, NULL, take_all, &takers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(pthread_join(takers[i].thread, NULL), 0);
    for (size_t i = 0; i < 2000; i++)
        CHECK_INT(atomic_load(&seen[i]), 1);
}

/* 4 */
Test(weaknesses, unread_entries_are_not_skipped_by_a_restart)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_expect(&s, "t", 0, 100);
    rig_append_many(&s, "t", 1, 4, 60000); /* each in a block of its own */
    rig_reopen(&s);
    rig_expect_many(&s, "t", 1, 2, 60000);
    rig_kill(&s);
    rig_expect_many(&s, "t", 3, 2, 60000);
    rig_expect_empty(&s, "t");
}

/* 5 */
Test(weaknesses, a_position_survives_the_removal_of_files_before_it)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3000, 1000);
    for (uint64_t taken = 0; taken < 3000; taken += 500) {
        rig_expect_many(&s, "t", taken, 500, 1000);
        CHECK_SOON(rig_topic_stat(&s, "t").first_seq + 200 >= taken + 500);
        if (taken % 1000 == 0)
            rig_kill(&s);
        else
            rig_reopen(&s);
    }
    rig_expect_empty(&s, "t");
}

/* --------------------------------------------------------------------------- appending (6 to 12)
 * -- */

/* 6 */
Test(weaknesses, a_refused_name_costs_nobody_anything)
{
    char name[400];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    rig_open(&s);
    rig_append(&s, "good", 0, 100);
    CHECK_INT(rig_try_append(&s, name, 0, 100), -ENAMETOOLONG);
    rig_append_many(&s, "good", 1, 2, 60000);
    rig_kill(&s);
    rig_expect(&s, "good", 0, 100);
    rig_expect_many(&s, "good", 1, 2, 60000);
}

/* 7, A */
Test(weaknesses, a_first_entry_larger_than_a_block_hides_nothing)
{
    size_t large = RIG_BLOCK_SIZE + RIG_BLOCK_SIZE / 10;

    rig_open(&s);
    rig_append(&s, "t", 0, large);
    rig_append(&s, "z", 0, 100);
    rig_append(&s, "t", 1, 100);
    rig_append(&s, "t", 2, 2 * large);
    rig_append(&s, "z", 1, 100);
    rig_kill(&s);
    rig_append(&s, "t", 3, 100);
    rig_reopen(&s);
    rig_expect(&s, "t", 0, large);
    rig_expect(&s, "t", 1, 100);
    rig_expect(&s, "t", 2, 2 * large);
    rig_expect(&s, "t", 3, 100);
    rig_expect_many(&s, "z", 0, 2, 100);
}

/* 8, D */
Test(weaknesses, every_length_of_name_up_to_255_is_kept)
{
    char name[257] = "";

    rig_open(&s);
    for (size_t size = 1; size <= 256; size++) {
        name[size - 1] = 'a';
        CHECK_INT(rig_try_append(&s, name, 0, 10), size <= 255 ? 0 : -ENAMETOOLONG);
    }
    rig_reopen(&s);
    for (size_t size = 255; size >= 1; size--) {
        name[size] = '\0';
        rig_expect(&s, name, 0, 10);
    }
}

/* 9 */
Test(weaknesses, an_entry_larger_than_a_log_file_overwrites_nobody)
{
    size_t larger = (RIG_BLOCKS_PER_FILE + 1) * RIG_BLOCK_SIZE;

    rig_open(&s);
    rig_append_many(&s, "before", 0, 200, 1000);
    rig_append(&s, "t", 0, larger);
    rig_append_many(&s, "after", 0, 200, 1000);
    rig_append(&s, "t", 1, larger + 8);
    rig_kill(&s);
    rig_expect_many(&s, "before", 0, 200, 1000);
    rig_expect_many(&s, "after", 0, 200, 1000);
    rig_expect(&s, "t", 0, larger);
    rig_expect(&s, "t", 1, larger + 8);
}

/* 10 */
Test(weaknesses, payloads_that_look_like_records_forge_nothing)
{
    static uint8_t stolen[RIG_BLOCK_SIZE], data[30000];
    struct place place;

    rig_open(&s);
    rig_append_many(&s, "victim", 0, 60, 1000);
    rig_find(&s, "victim", 0, 1000, &place);
    disk_read(place.path, place.off - RIG_RECORD_SIZE, stolen, sizeof(stolen));
    for (uint64_t i = 0; i < 8; i++) { /* the stolen records lie differently in each */
        payload_fill(s.seed, "mark", i, data, 16 + 8 * i);
        memcpy(data + 16 + 8 * i, stolen, sizeof(data) - 16 - 8 * i);
        CHECK_INT(walrus_append(s.walrus, "victim", data, sizeof(data)), 0);
    }
    CHECK_INT(walrus_append(s.walrus, "evil", stolen, sizeof(stolen)), 0);
    rig_append(&s, "victim", 68, 1000);
    rig_close(&s);

    /* one record around stolen ones is damaged, so that who walks looks for the next valid one */
    rig_find(&s, "mark", 3, 16, &place);
    place_flip(&place, -1);
    rig_open(&s);
    CHECK_INT(rig_topic_stat(&s, "victim").tail_seq, 69);
    CHECK_INT(rig_topic_stat(&s, "evil").tail_seq, 1);
    rig_expect_many(&s, "victim", 0, 60, 1000);
    for (uint64_t i = 0; i < 8; i++) {
        struct walrus_entry entry;
        CHECK_INT(walrus_read_next(s.walrus, "victim", &entry), i == 3 ? -EBADMSG : 0);
        if (i == 3)
            continue;
        CHECK_INT(entry.seq, 60 + i);
        CHECK_INT(entry.size, sizeof(data));
        CHECK(memcmp((uint8_t *)entry.data + 16 + 8 * i, stolen, sizeof(data) - 16 - 8 * i) == 0);
        free(entry.data);
    }
    rig_expect(&s, "victim", 68, 1000);
    rig_expect_empty(&s, "victim");
}

/* 11 */
Test(weaknesses, a_failed_file_creation_does_not_stop_the_next_append)
{
    const enum faultos_kind kinds[] = {FAULTOS_OPEN, FAULTOS_TRUNCATE, FAULTOS_ALLOCATE,
                                       FAULTOS_RENAME, FAULTOS_MAP};

    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 60000);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int rc = 0;
        faultos_arm(&(struct faultos_rule){
            .kind = kinds[i], .nth = 1, .error = EMFILE, .forever = true, .file = "wal_*"});
        for (int tries = 0; rc == 0 && tries < 20; tries++)
            rc = rig_try_append(&s, "t", rig_topic_stat(&s, "t").tail_seq, 60000);
        faultos_disarm();
        CHECK_SOON(rig_try_append(&s, "t", rig_topic_stat(&s, "t").tail_seq, 60000) == 0);
        rig_append(&s, "u", i, 100);
    }
    CHECK_INT(dir_file_count(s.dir, ".tmp"), 0);
    uint64_t tail = rig_topic_stat(&s, "t").tail_seq;
    rig_reopen(&s);
    rig_expect_many(&s, "t", 0, tail, 60000);
    rig_expect_many(&s, "u", 0, 5, 100);
    rig_close(&s);
    faultos_remove();
}

/* 12 */
Test(weaknesses, a_refused_append_leaves_no_duplicate)
{
    rig_open(&s);
    for (uint64_t seq = 0; seq < 10; seq++) {
        rig_append(&s, "t", seq, 100);
        CHECK_INT(walrus_append(s.walrus, "t", "", WALRUS_ENTRY_SIZE_MAX + 1), -EMSGSIZE);
    }
    rig_expect_many(&s, "t", 0, 10, 100);
    rig_expect_empty(&s, "t");
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
}

/* ------------------------------------------------------------------------------ damage (13, 14) --
 */

/* 13, E */
Test(weaknesses, one_flipped_byte_costs_one_entry_and_is_told)
{
    struct place place;
    uint64_t seq = 0;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_find(&s, "t", 2, 100, &place);
    place_flip(&place, 40); /* under the open store */
    for (uint64_t next = 0; next < 5; next++)
        CHECK_INT(rig_take(&s, "t", &seq), next == 2 ? -EBADMSG : 0);
    rig_close(&s);
    rig_find(&s, "t", 7, 100, &place);
    place_flip(&place, 40); /* and under a closed one */
    rig_open(&s);
    for (uint64_t next = 5; next < 10; next++)
        CHECK_INT(rig_take(&s, "t", &seq), next == 7 ? -EBADMSG : 0);
    CHECK_INT(seq, 9);
    rig_expect_empty(&s, "t");
    CHECK(rig_reports(&s, WALRUS_ERROR) + rig_reports(&s, WALRUS_WARNING) >= 2);
}

/* 14 */
Test(weaknesses, a_length_from_the_disk_is_not_believed)
{
    const uint32_t lengths[] = {0, 99, 101, 65536, 0x7fffffff, 0xfffffff0, 0xffffffff};

    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_close(&s);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (uint64_t at = 4; at <= 24; at += 20) { /* size of the record, of the entry */
            struct rig hurt;
            struct place place;
            uint64_t seq = 0;
            rig_copy(&s, &hurt);
            rig_find(&hurt, "t", 2, 100, &place);
            disk_write(place.path, place.off - RIG_RECORD_SIZE + at, &lengths[i], 4);
            rig_open(&hurt);
            for (uint64_t next = 0; next < 5; next++) {
                CHECK_INT(rig_take(&hurt, "t", &seq), next == 2 ? -EBADMSG : 0);
                if (next != 2)
                    CHECK_INT(seq, next);
            }
            rig_fini(&hurt);
        }
    }
}

/* ----------------------------------------------------------------- errors of the system (15 to 18)
 * -- */

/* 15 */
Test(weaknesses, a_sync_error_is_not_forgotten)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .file = "wal_*"});
    CHECK_INT(walrus_sync(s.walrus), -EIO);
    CHECK_INT(walrus_sync(s.walrus), -EIO);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 0);
    CHECK_INT(rig_try_append(&s, "t", 1, 100), -EIO);
    rig_close_degraded(&s);
    faultos_remove();
}

/* 16 */
Test(weaknesses, short_reads_and_writes_are_carried_on)
{
    faultos_install();
    faultos_limit_transfer(700);
    rig_open(&s);
    rig_append_many(&s, "t", 0, 100, 3000);
    rig_expect_many(&s, "t", 0, 50, 3000);
    rig_reopen(&s);
    rig_kill(&s);
    rig_expect_many(&s, "t", 50, 50, 3000);
    rig_close(&s);
    faultos_remove();
}

/* 17 */
Test(weaknesses, a_background_sync_that_fails_is_seen_by_all)
{
    faultos_install();
    s.options.fsync_ms = 20;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .forever = true, .file = "wal_*"});
    rig_append(&s, "t", 1, 100);
    CHECK_SOON(rig_topic_stat(&s, "t").degraded);
    CHECK(rig_stat(&s).degraded);
    CHECK_INT(rig_try_append(&s, "t", 2, 100), -EIO);
    CHECK(rig_reports(&s, WALRUS_ERROR) > 0);
    rig_expect_at(&s, "t", 0, 100);
    rig_close_degraded(&s);
    faultos_remove();
}

/* 18 */
Test(weaknesses, a_log_file_cut_short_under_the_store_is_eio_and_not_the_end)
{
    struct place place;
    struct walrus_entry entry;

    rig_open(&s);
    rig_append_many(&s, "other", 0, 2, 1000);
    rig_append_many(&s, "t", 0, 1500, 1000);
    rig_find(&s, "t", 1200, 1000, &place);
    CHECK_INT(truncate(place.path, 65536), 0);
    int rc = walrus_read_at(s.walrus, "t", 1200, &entry);
    CHECK(rc == -EIO || rc == -EBADMSG);
    rig_expect_at(&s, "t", 1, 1000);
    rig_expect_many(&s, "other", 0, 2, 1000);
    rig_close_degraded(&s);
}

/* ------------------------------------------------------------------------------- the field's own
 * -- */

/* B */
Test(weaknesses, garbage_in_the_offsets_is_survived_and_told)
{
    const size_t sizes[] = {0, 1, 511, 512, 4096, 65535};
    static uint8_t garbage[65536];
    char path[PATH_MAX];

    payload_fill(1, "garbage", 0, garbage, sizeof(garbage));
    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 3, 100);
    rig_close(&s);
    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct rig hurt;
        uint64_t seq;
        rig_copy(&s, &hurt);
        if (i % 2 != 0)
            dir_write(hurt.dir, "read_offset_idx_index.db", garbage, sizes[i / 2]);
        else {
            snprintf(path, sizeof(path), "%s/read_offset_idx_index.db", hurt.dir);
            CHECK_INT(truncate(path, (off_t)sizes[i / 2]), 0);
        }
        rig_open(&hurt);
        CHECK_INT(rig_take(&hurt, "t", &seq), 0);
        CHECK(seq <= 3);
        CHECK(seq == 3 ||
              rig_reports(&hurt, WALRUS_ERROR) + rig_reports(&hurt, WALRUS_WARNING) > 0);
        for (uint64_t next = seq + 1; next < 5; next++)
            rig_expect(&hurt, "t", next, 100);
        rig_fini(&hurt);
    }
}

/* F */
Test(weaknesses, small_and_empty_entries_are_read_from_any_position)
{
    struct walrus_entry *entries;
    size_t count, total = 0;

    rig_open(&s);
    for (uint64_t seq = 0; seq < 60; seq++)
        rig_append(&s, "t", seq, seq % 3 * 40);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 0), 0);
    walrus_group_unref(group);
    while (walrus_batch_read(s.walrus, "t", 200, 7, &entries, &count) == 0) {
        for (size_t i = 0; i < count; i++, total++) {
            CHECK_INT(entries[i].seq, total);
            CHECK_INT(entries[i].size, total % 3 * 40);
            CHECK(payload_same(s.seed, "t", total, entries[i].data, entries[i].size));
        }
        walrus_entries_free(entries, count);
    }
    CHECK_INT(total, 60);
}
