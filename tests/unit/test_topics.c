/* SPDX-License-Identifier: MIT */
/*
 * test_topics.c - topics: their names, life and death, what is kept with them, appending in every
 * way, and entries written piece by piece.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rig.h"

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

TestSuite(topics, .init = setup, .fini = teardown, .timeout = 300);

/* ------------------------------------------------------------------------------------- names -- */

Test(topics, names_are_1_to_255_bytes_without_slash_and_nul_and_leading_dot)
{
    char longest[300];
    struct walrus_topic *topic = NULL;

    memset(longest, 'n', sizeof(longest));
    const struct {
        const char *name;
        size_t size;
        int code;
    } cases[] = {
        {"a", 1, 0},
        {"a.b", 3, 0},
        {&"..a"[2], 1, 0},
        {"\xff\xfe \n", 4, 0},
        {longest, 255, 0},
        {longest, 256, -ENAMETOOLONG},
        {longest, 300, -ENAMETOOLONG},
        {"", 0, -EINVAL},
        {".", 1, -EINVAL},
        {"..", 2, -EINVAL},
        {".hidden", 7, -EINVAL},
        {"a/b", 3, -EINVAL},
        {"a\0b", 3, -EINVAL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[301] = "";
        memcpy(name, cases[i].name, cases[i].size);
        CHECK_INT(walrus_name_check(cases[i].name, cases[i].size), cases[i].code);
        if (memchr(name, '\0', cases[i].size) != NULL)
            continue;
        CHECK_INT(rig_try_append(&s, name, 0, 10), cases[i].code);
        int rc = walrus_topic_create(s.walrus, name, NULL, NULL, &topic);
        CHECK_INT(rc, cases[i].code == 0 ? -EEXIST : cases[i].code);
    }
    CHECK_INT(rig_stat(&s).topic_count, 4);
}

Test(topics, a_name_of_255_bytes_survives_a_restart)
{
    char name[256], found[WALRUS_NAME_SIZE_MAX + 1];

    memset(name, 'x', 255);
    name[255] = '\0';
    rig_append(&s, name, 0, 10);
    name[0] = 'y';
    rig_append(&s, name, 0, 20);
    rig_reopen(&s);
    rig_expect(&s, name, 0, 20);
    struct walrus_topic *topic = rig_topic(&s, name);
    walrus_topic_name(topic, found);
    CHECK(strcmp(found, name) == 0);
    walrus_topic_unref(topic);
    name[0] = 'x';
    rig_expect(&s, name, 0, 10);
}

/* ------------------------------------------------------------------------------ life and death --
 */

Test(topics, creating_twice_is_eexist_and_finding_what_is_not_there_enoent)
{
    struct walrus_topic *topic = NULL, *second = NULL;
    struct walrus_group *group = NULL;
    struct walrus_entry entry;

    CHECK_INT(walrus_topic_find(s.walrus, "t", &topic), -ENOENT);
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), WALRUS_EMPTY);
    CHECK_INT(walrus_peek(s.walrus, "t", &entry), WALRUS_EMPTY);
    CHECK_INT(walrus_read_at(s.walrus, "t", 0, &entry), -ENOENT);
    CHECK_INT(walrus_topic_create(s.walrus, "t", NULL, NULL, &topic), 0);
    CHECK_INT(walrus_topic_create(s.walrus, "t", NULL, NULL, &second), -EEXIST);
    CHECK(second == NULL);
    CHECK_INT(walrus_group_find(topic, "default", &group), 0);
    CHECK(walrus_group_topic(group) == topic);
    walrus_group_unref(group);
    CHECK_INT(walrus_group_find(topic, "other", &group), -ENOENT);
    CHECK_INT(walrus_read_at(s.walrus, "t", 0, &entry), -ENOENT);
    walrus_topic_unref(topic);
    walrus_topic_unref(NULL);
}

Test(topics, a_created_topic_survives_the_death_of_the_process)
{
    struct walrus_topic *topic;
    struct rig killed;

    CHECK_INT(walrus_topic_create(s.walrus, "t", NULL, NULL, &topic), 0);
    walrus_topic_unref(topic);
    rig_copy(&s, &killed);
    rig_open(&killed);
    CHECK_INT(walrus_topic_find(killed.walrus, "t", &topic), 0);
    walrus_topic_unref(topic);
    rig_fini(&killed);
}

Test(topics, listing_goes_by_id_and_survives_coming_and_going)
{
    struct walrus_topic *topic;
    struct walrus_topic_stat stat;
    uint64_t after = 0;
    char name[WALRUS_NAME_SIZE_MAX + 1];

    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof(name), "t%d", i);
        topic = rig_topic(&s, name);
        walrus_topic_unref(topic);
    }
    for (int i = 0; i < 10; i++) {
        char expected[16];
        if (i == 5)
            continue; /* removed below */
        CHECK_INT(walrus_topic_after(s.walrus, after, &topic), 0);
        walrus_topic_name(topic, name);
        snprintf(expected, sizeof(expected), "t%d", i);
        CHECK(strcmp(name, expected) == 0);
        walrus_topic_stat(topic, &stat);
        CHECK(stat.id > after);
        after = stat.id;
        walrus_topic_unref(topic);
        if (i == 4) {
            topic = rig_topic(&s, "t5");
            CHECK_INT(walrus_topic_remove(topic), 0);
            walrus_topic_unref(topic);
        }
    }
    CHECK_INT(walrus_topic_after(s.walrus, after, &topic), WALRUS_EMPTY);
    CHECK_INT(rig_stat(&s).topic_count, 9);
}

Test(topics, one_with_unread_or_claimed_entries_is_not_removed)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_topic_remove(topic), -ENOTEMPTY);
    struct walrus_reader *reader = rig_claim(group, 1);
    CHECK_INT(walrus_topic_remove(topic), -ENOTEMPTY);
    rig_finish(&s, "t", reader);
    CHECK(!walrus_topic_removed(topic));
    CHECK_INT(walrus_topic_remove(topic), 0);
    CHECK(walrus_topic_removed(topic));
    walrus_group_unref(group);
    walrus_topic_unref(topic);
}

Test(topics, a_removed_one_is_enodev_for_who_still_refers_to_it)
{
    struct walrus_topic *topic = rig_topic(&s, "t"), *found;
    struct walrus_group *group = rig_group(&s, "t", "default"), *made;
    struct walrus_retention retention = {.kind = WALRUS_KEEP_ALL};
    struct iovec entry = {.iov_base = (void *)"x", .iov_len = 1};
    struct walrus_reader *reader;
    struct walrus_blob *blob, *early;
    uint8_t attr[WALRUS_ATTR_SIZE] = {0};
    uint64_t seq;

    CHECK_INT(walrus_blob_open(topic, &early), 0);
    CHECK_INT(walrus_blob_write(early, "x", 1), 0);
    CHECK_INT(walrus_topic_remove(topic), 0);
    CHECK_INT(walrus_topic_find(s.walrus, "t", &found), -ENOENT);
    CHECK_INT(walrus_topic_append(topic, &entry, 1, NULL, &seq), -ENODEV);
    CHECK_INT(walrus_topic_sync(topic), -ENODEV);
    CHECK_INT(walrus_topic_rename(topic, "u"), -ENODEV);
    CHECK_INT(walrus_topic_set_retention(topic, &retention), -ENODEV);
    CHECK_INT(walrus_topic_set_limit(topic, 1 << 20), -ENODEV);
    CHECK_INT(walrus_topic_set_attr(topic, attr), -ENODEV);
    CHECK_INT(walrus_topic_remove(topic), -ENODEV);
    CHECK_INT(walrus_blob_commit(early, false, &seq), -ENODEV);
    CHECK_INT(walrus_blob_open(topic, &blob), -ENODEV);
    CHECK_INT(walrus_group_create(topic, "g", NULL, &made), -ENODEV);
    CHECK_INT(walrus_group_claim(group, 1, SIZE_MAX, &reader), -ENODEV);
    CHECK_INT(walrus_group_peek(group, &reader), -ENODEV);
    CHECK_INT(walrus_entry_open(topic, 0, &reader), -ENODEV);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), -ENODEV);
    CHECK(walrus_group_removed(group));
    walrus_group_unref(group);
    walrus_topic_unref(topic);
}

Test(topics, one_made_again_under_the_same_name_is_a_new_one)
{
    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    struct walrus_topic *topic = rig_topic(&s, "t");
    uint64_t id = rig_topic_stat(&s, "t").id;
    CHECK_INT(walrus_topic_remove(topic), 0);
    walrus_topic_unref(topic);
    rig_append(&s, "t", 0, 200);
    CHECK(rig_topic_stat(&s, "t").id > id);
    rig_reopen(&s);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 1);
    CHECK(rig_topic_stat(&s, "t").id > id);
    rig_expect(&s, "t", 0, 200);
}

Test(topics, ids_are_not_used_again_after_a_restart)
{
    uint64_t highest = 0;

    for (int round = 0; round < 3; round++) {
        struct walrus_topic *topic = rig_topic(&s, "t");
        uint64_t id = rig_topic_stat(&s, "t").id;
        CHECK(id > highest);
        highest = id;
        CHECK_INT(walrus_topic_remove(topic), 0);
        walrus_topic_unref(topic);
        rig_reopen(&s);
        CHECK_INT(rig_stat(&s).topic_count, 0);
    }
}

Test(topics, renaming_keeps_entries_and_offsets_and_is_durable)
{
    struct rig killed;
    struct walrus_topic *topic, *other;
    struct walrus_entry entry;
    char name[WALRUS_NAME_SIZE_MAX + 1];

    rig_append_many(&s, "t", 0, 3, 100);
    rig_expect(&s, "t", 0, 100);
    topic = rig_topic(&s, "t");
    other = rig_topic(&s, "other");
    CHECK_INT(walrus_topic_rename(topic, "other"), -EEXIST);
    CHECK_INT(walrus_topic_rename(topic, "a/b"), -EINVAL);
    memset(name, 'n', sizeof(name));
    char longer[300];
    memset(longer, 'n', sizeof(longer));
    longer[299] = '\0';
    CHECK_INT(walrus_topic_rename(topic, longer), -ENAMETOOLONG);
    CHECK_INT(walrus_topic_rename(topic, "u"), 0);
    walrus_topic_name(topic, name);
    CHECK(strcmp(name, "u") == 0);
    walrus_topic_unref(topic);
    walrus_topic_unref(other);
    CHECK_INT(walrus_topic_find(s.walrus, "t", &topic), -ENOENT);

    rig_copy(&s, &killed);
    rig_open(&killed);
    CHECK_INT(walrus_topic_find(killed.walrus, "t", &topic), -ENOENT);
    CHECK_INT(walrus_read_next(killed.walrus, "u", &entry), 0);
    CHECK_INT(entry.seq, 1);
    CHECK(payload_same(s.seed, "t", 1, entry.data, entry.size));
    free(entry.data);
    rig_fini(&killed);
}

Test(topics, attributes_retention_and_limit_are_kept)
{
    uint8_t ours[WALRUS_ATTR_SIZE], groups[WALRUS_ATTR_SIZE], found[WALRUS_ATTR_SIZE];
    struct walrus_retention retention = {.kind = WALRUS_KEEP_SIZE, .value = 1234567};
    struct walrus_topic *topic;
    struct rig killed;

    payload_fill(1, "attr", 0, ours, sizeof(ours));
    payload_fill(1, "attr", 1, groups, sizeof(groups));
    CHECK_INT(walrus_topic_create(s.walrus, "t", ours, groups, &topic), 0);
    CHECK_INT(walrus_topic_set_retention(topic, &retention), 0);
    CHECK_INT(walrus_topic_set_limit(topic, 7654321), 0);
    walrus_topic_unref(topic);
    rig_copy(&s, &killed);
    rig_open(&killed);
    topic = rig_topic(&killed, "t");
    walrus_topic_attr(topic, found);
    CHECK(memcmp(found, ours, sizeof(ours)) == 0);
    CHECK_INT(rig_topic_stat(&killed, "t").retention.kind, WALRUS_KEEP_SIZE);
    CHECK_INT(rig_topic_stat(&killed, "t").retention.value, 1234567);
    CHECK_INT(rig_topic_stat(&killed, "t").limit, 7654321);
    struct walrus_group *group = rig_group(&killed, "t", "default");
    walrus_group_attr(group, found);
    CHECK(memcmp(found, groups, sizeof(groups)) == 0);
    walrus_group_unref(group);

    ours[0] ^= 1;
    CHECK_INT(walrus_topic_set_attr(topic, ours), 0);
    walrus_topic_unref(topic);
    rig_reopen(&killed);
    topic = rig_topic(&killed, "t");
    walrus_topic_attr(topic, found);
    CHECK(memcmp(found, ours, sizeof(ours)) == 0);
    retention.kind = (enum walrus_retention_kind)9;
    CHECK_INT(walrus_topic_set_retention(topic, &retention), -EINVAL);
    walrus_topic_unref(topic);
    rig_fini(&killed);
}

Test(topics, thousands_of_changes_do_not_wear_the_registry_out)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    uint8_t attr[WALRUS_ATTR_SIZE] = {0}, found[WALRUS_ATTR_SIZE];
    char path[PATH_MAX];

    for (unsigned i = 0; i < 8000; i++) {
        memcpy(attr, &i, sizeof(i));
        CHECK_INT(walrus_topic_set_attr(topic, attr), 0);
    }
    walrus_topic_unref(topic);
    snprintf(path, sizeof(path), "%s/topics.db", s.dir);
    CHECK(disk_size(path) < 3u << 20);
    rig_reopen(&s);
    topic = rig_topic(&s, "t");
    walrus_topic_attr(topic, found);
    CHECK(memcmp(found, attr, sizeof(attr)) == 0);
    walrus_topic_unref(topic);
}

/* --------------------------------------------------------------------------------- appending -- */

Test(topics, counters_tell_what_was_stored)
{
    struct timespec now;

    CHECK_INT(clock_gettime(CLOCK_REALTIME, &now), 0);
    rig_append_many(&s, "t", 0, 4, 100);
    struct walrus_topic_stat stat = rig_topic_stat(&s, "t");
    CHECK_INT(stat.first_seq, 0);
    CHECK_INT(stat.tail_seq, 4);
    CHECK_INT(stat.bytes, 400);
    CHECK_INT(stat.damaged_count, 0);
    CHECK_INT(stat.limit, 0);
    CHECK_INT(stat.retention.kind, WALRUS_KEEP_CONSUMED);
    CHECK(stat.disk_bytes >= 400 && stat.disk_bytes <= RIG_BLOCK_SIZE);
    CHECK(stat.last_time_ns >= (uint64_t)now.tv_sec * 1000000000u);
    CHECK(stat.last_time_ns < ((uint64_t)now.tv_sec + 60) * 1000000000u);
    struct walrus_stat all = rig_stat(&s);
    CHECK_INT(all.topic_count, 1);
    CHECK(all.file_count >= 1);
    CHECK(all.block_count >= RIG_BLOCKS_PER_FILE);
    CHECK(all.free_block_count < all.block_count);
    CHECK(!all.degraded && !all.read_only);
}

Test(topics, a_batch_gets_consecutive_numbers_and_the_times_given)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct iovec entries[3] = {{(void *)"a", 1}, {(void *)"", 0}, {(void *)"ccc", 3}};
    uint64_t times[3] = {1000000007, 0, 3000000009}, seq = 99;
    struct walrus_append_options options = {.time_ns = times};
    struct walrus_entry entry;

    CHECK_INT(walrus_topic_append(topic, entries, 3, &options, &seq), 0);
    CHECK_INT(seq, 0);
    CHECK_INT(walrus_topic_append(topic, entries, 3, NULL, NULL), 0);
    CHECK_INT(walrus_topic_append(topic, entries, 1, NULL, &seq), 0);
    CHECK_INT(seq, 6);
    walrus_topic_unref(topic);
    rig_reopen(&s);
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.time_ns, 1000000007);
    free(entry.data);
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.size, 0);
    CHECK(entry.data != NULL);
    CHECK(entry.time_ns > 1500000000ull * 1000000000u);
    free(entry.data);
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.time_ns, 3000000009);
    CHECK(memcmp(entry.data, "ccc", 3) == 0);
    free(entry.data);
}

Test(topics, an_empty_batch_stores_nothing)
{
    struct walrus_topic *topic = rig_topic(&s, "t");

    CHECK_INT(walrus_topic_append(topic, NULL, 0, NULL, NULL), 0);
    walrus_topic_unref(topic);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 0);
    rig_append(&s, "t", 0, 10);
    rig_expect(&s, "t", 0, 10);
}

Test(topics, batch_read_is_bounded_by_bytes_and_count_but_gives_at_least_one)
{
    struct walrus_entry *entries;
    size_t count;
    uint64_t next = 0;

    const struct {
        size_t max_bytes, max_count, expected;
    } cases[] = {
        {1, 10, 1}, {0, 10, 1}, {250, 10, 2}, {300, 10, 3}, {SIZE_MAX, 4, 4}, {SIZE_MAX, 100, 9},
    };

    rig_append_many(&s, "t", 0, 20, 100);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_INT(walrus_batch_read(s.walrus, "t", cases[i].max_bytes, cases[i].max_count, &entries,
                                    &count),
                  0);
        CHECK_INT(count, cases[i].expected);
        for (size_t j = 0; j < count; j++) {
            CHECK_INT(entries[j].seq, next++);
            CHECK(payload_same(s.seed, "t", entries[j].seq, entries[j].data, entries[j].size));
        }
        walrus_entries_free(entries, count);
    }
    CHECK_INT(walrus_batch_read(s.walrus, "t", SIZE_MAX, 1, &entries, &count), WALRUS_EMPTY);
}

Test(topics, peek_shows_what_read_next_takes)
{
    struct walrus_entry entry;

    rig_append_many(&s, "t", 0, 2, 100);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(walrus_peek(s.walrus, "t", &entry), 0);
        CHECK_INT(entry.seq, 0);
        CHECK(payload_same(s.seed, "t", 0, entry.data, entry.size));
        free(entry.data);
    }
    rig_expect_many(&s, "t", 0, 2, 100);
    CHECK_INT(walrus_peek(s.walrus, "t", &entry), WALRUS_EMPTY);
}

Test(topics, a_retained_entry_is_read_by_its_number)
{
    struct walrus_entry entry;

    rig_append_many(&s, "t", 0, 300, 500);
    for (uint64_t seq = 300; seq-- > 0;)
        rig_expect_at(&s, "t", seq, 500);
    CHECK_INT(walrus_read_at(s.walrus, "t", 300, &entry), -ENOENT);
    CHECK_INT(walrus_read_at(s.walrus, "t", UINT64_MAX, &entry), -ENOENT);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
}

/* ------------------------------------------------------------------------------------- blobs -- */

/* Writes the payload of entry `seq` into a blob in pieces of growing size. */
static void blob_fill(struct walrus_blob *blob, uint64_t seq, size_t size)
{
    uint8_t *data = payload_make(&s, "t", seq, size);

    for (size_t done = 0, part = 1; done < size; part = part * 2 + 1) {
        size_t now = size - done < part ? size - done : part;
        CHECK_INT(walrus_blob_write(blob, data + done, now), 0);
        done += now;
        CHECK_INT(walrus_blob_size(blob), done);
    }
    free(data);
}

Test(topics, a_blob_is_one_entry_once_it_is_committed)
{
    const size_t sizes[] = {0,
                            1,
                            4096,
                            RIG_ENTRY_EDGE - 1,
                            RIG_ENTRY_EDGE,
                            RIG_ENTRY_EDGE + 1,
                            5 * RIG_BLOCK_SIZE + 77};
    struct walrus_topic *topic = rig_topic(&s, "t");
    uint64_t seq = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct walrus_blob *blob;
        uint64_t got = 99;
        CHECK_INT(walrus_blob_open(topic, &blob), 0);
        blob_fill(blob, seq + 1, sizes[i]);
        rig_append(&s, "t", seq, 64); /* others go on meanwhile */
        CHECK_INT(rig_topic_stat(&s, "t").tail_seq, seq + 1);
        CHECK_INT(walrus_blob_commit(blob, i % 2 != 0, &got), 0);
        CHECK_INT(got, seq + 1);
        seq += 2;
    }
    walrus_topic_unref(topic);
    rig_reopen(&s);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        rig_expect(&s, "t", 2 * i, 64);
        rig_expect(&s, "t", 2 * i + 1, sizes[i]);
    }
    rig_expect_empty(&s, "t");
}

Test(topics, an_aborted_blob_leaves_no_entry_and_takes_no_space)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_blob *blob;

    rig_append(&s, "t", 0, 100);
    rig_expect(&s, "t", 0, 100);
    uint64_t before = dir_disk_size(s.dir);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    blob_fill(blob, 1, 40 * RIG_BLOCK_SIZE);
    CHECK(dir_disk_size(s.dir) > before + 30 * RIG_BLOCK_SIZE);
    walrus_blob_abort(blob);
    walrus_blob_abort(NULL);
    walrus_topic_unref(topic);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 1);
    CHECK_SOON(dir_disk_size(s.dir) <= before + 8 * RIG_BLOCK_SIZE);
    rig_append(&s, "t", 1, 100);
    rig_expect(&s, "t", 1, 100);
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
    CHECK(dir_disk_size(s.dir) <= before + 8 * RIG_BLOCK_SIZE);
}

Test(topics, a_blob_that_was_not_committed_dies_with_the_process)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_blob *blob;
    struct rig killed;

    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    blob_fill(blob, 1, 20 * RIG_BLOCK_SIZE);
    rig_copy(&s, &killed);
    walrus_blob_abort(blob);
    walrus_topic_unref(topic);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 1);
    rig_expect(&killed, "t", 0, 100);
    CHECK_SOON(dir_disk_size(killed.dir) <= 12 * RIG_BLOCK_SIZE);
    CHECK_SOON(dir_file_count(killed.dir, ".log") <= 3); /* the topic's, a free one, a spare one */
    rig_append(&killed, "t", 1, 100);
    rig_expect(&killed, "t", 1, 100);
    rig_fini(&killed);
}

Test(topics, many_blobs_of_one_topic_are_written_side_by_side)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_blob *blobs[5];

    for (size_t i = 0; i < 5; i++)
        CHECK_INT(walrus_blob_open(topic, &blobs[i]), 0);
    for (size_t i = 0; i < 5; i++)
        blob_fill(blobs[i], 4 - i, 100000 + i);
    for (size_t i = 5; i-- > 0;) /* the last opened is committed first */
        CHECK_INT(walrus_blob_commit(blobs[i], false, NULL), 0);
    walrus_topic_unref(topic);
    for (size_t i = 0; i < 5; i++)
        rig_expect(&s, "t", i, 100004 - i);
}
