/* SPDX-License-Identifier: MIT */
/* test_repair.c - walrus_repair: what it mends, what it keeps, and what it leaves alone. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "faultos.h"
#include "format.h"
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

TestSuite(repair, .init = setup, .fini = teardown, .timeout = 300);

static void path_of(const char *name, char *ret_path)
{
    CHECK(snprintf(ret_path, PATH_MAX, "%s/%s", s.dir, name) < PATH_MAX);
}

static void poke(const char *name, uint64_t off, const void *data, size_t size)
{
    char path[PATH_MAX];
    path_of(name, path);
    disk_write(path, off, data, size);
}

static void spoil(const char *name, uint64_t off, size_t size)
{
    uint8_t garbage[8192];
    memset(garbage, 0x5a, sizeof(garbage));
    poke(name, off, garbage, size);
}

static struct walrus_verify_result repair(void)
{
    struct walrus_verify_result result, after;
    CHECK_INT(walrus_repair(s.dir, NULL, &result), 0);
    CHECK_INT(walrus_verify(s.dir, NULL, &after), 0);
    CHECK_INT(after.damage_count, result.damage_count - result.mended_count);
    return result;
}

/* "t" has 40 entries of 5000 bytes in several blocks, the first ten taken; "u" has one entry. */
static void make(void)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 40, 5000);
    rig_append(&s, "u", 0, 70);
    rig_expect_many(&s, "t", 0, 10, 5000);
    rig_close(&s);
}

static void expect_all(const char *topic, unsigned errors)
{
    rig_open(&s);
    for (uint64_t seq = 10; seq < 40; seq++) {
        struct walrus_entry entry;
        CHECK_INT(walrus_read_at(s.walrus, topic, seq, &entry), 0);
        CHECK(entry.size == 5000 && payload_same(s.seed, "t", seq, entry.data, entry.size));
        free(entry.data);
    }
    CHECK_INT(rig_reports(&s, WALRUS_ERROR), errors);
}

Test(repair, leaves_a_whole_store_alone)
{
    struct rig copy;
    make();
    rig_copy(&s, &copy);
    CHECK_INT(repair().damage_count, 0);
    CHECK(dir_same(s.dir, copy.dir));
    rig_fini(&copy);
}

Test(repair, writes_bad_copies_again_from_good_ones)
{
    make();
    spoil("SUPER", 0, 4096);
    spoil("topics.db", 4096, 4096);
    spoil("wal_0001.log", 0, 4096);
    spoil("wal_0001.log", FORMAT_TABLE_OFF(0), 4 * 128);
    spoil("read_offset_idx_index.db", 32768, 512);
    struct walrus_verify_result result = repair();
    CHECK(result.damage_count >= 8);
    CHECK_INT(result.mended_count, result.damage_count);
    expect_all("t", 0);
}

Test(repair, keeps_the_bytes_that_it_changes)
{
    char path[PATH_MAX], head[] = "topics.db 4096 4096\n", found[sizeof(head)];
    uint8_t kept[4096];
    make();
    spoil("topics.db", 4096, 4096);
    repair();
    path_of(".repair-1", path);
    CHECK_INT(disk_size(path), strlen(head) + sizeof(kept));
    disk_read(path, 0, found, strlen(head));
    CHECK(memcmp(found, head, strlen(head)) == 0);
    disk_read(path, strlen(head), kept, sizeof(kept));
    for (size_t i = 0; i < sizeof(kept); i++)
        CHECK_INT(kept[i], 0x5a);
    spoil("topics.db", 0, 4096); /* another repair has a file of its own */
    repair();
    path_of(".repair-2", path);
    CHECK(disk_size(path) > 0);
    rig_open(&s); /* and an opening has nothing to say about them */
    CHECK(!rig_reported(&s, ".repair-"));
}

Test(repair, mends_a_wrong_bit_in_the_header_of_a_record)
{
    struct place place;
    make();
    rig_find(&s, "t", 23, 5000, &place);
    place_flip(&place, -20);
    struct walrus_verify_result result = repair();
    CHECK_INT(result.damage_count, 1);
    CHECK_INT(result.mended_count, 1);
    expect_all("t", 0);
}

Test(repair, leaves_a_damaged_payload_and_tells_of_it)
{
    struct place place;
    make();
    rig_find(&s, "t", 23, 5000, &place);
    place_flip(&place, 20);
    struct walrus_verify_result result = repair();
    CHECK_INT(result.damage_count, 1);
    CHECK_INT(result.mended_count, 0);
    CHECK_INT(result.lost_count, 1);
}

/* Spoils both table entries of each block in turn. */
Test(repair, makes_a_block_s_table_entry_from_its_records)
{
    make();
    for (uint32_t idx = 0; idx < RIG_BLOCKS_PER_FILE; idx++) {
        struct rig copy;
        rig_copy(&s, &copy);
        spoil("wal_0001.log", FORMAT_TABLE_OFF(0) + idx * 128, 128);
        spoil("wal_0001.log", FORMAT_TABLE_OFF(1) + idx * 128, 128);
        struct walrus_verify_result result = repair();
        CHECK(result.mended_count > 0);
        CHECK_INT(result.lost_count, 0);
        rig_open(&s);
        for (uint64_t seq = 13; seq < 40; seq++)
            rig_expect_at(&s, "t", seq, 5000);
        rig_expect_at(&s, "u", 0, 70);
        rig_append(&s, "t", 40, 100);
        rig_close(&s);
        dir_copy(copy.dir, s.dir);
        rig_fini(&copy);
    }
}

Test(repair, gives_topics_and_groups_records_again_whose_names_are_lost)
{
    make();
    spoil("topics.db", 8192, 700);
    struct walrus_verify_result result = repair();
    CHECK(result.mended_count >= 2);
    CHECK_INT(result.mended_count, result.damage_count);
    expect_all("recovered-1", 0);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_at(s.walrus, "recovered-2", 0, &entry), 0);
    CHECK(entry.size == 70 && payload_same(s.seed, "u", 0, entry.data, entry.size));
    free(entry.data);
    CHECK_INT(rig_group_stat(&s, "recovered-1", "default").offset, 10);
}

Test(repair, makes_a_registry_anew_whose_header_is_lost)
{
    make();
    spoil("topics.db", 0, 8192);
    CHECK_INT(rig_try_open(&s), -EBADMSG);
    memset(s.report_count, 0, sizeof(s.report_count));
    struct walrus_verify_result result = repair();
    CHECK_INT(result.mended_count, result.damage_count);
    expect_all("recovered-1", 0);
}

/* The second topic has its record, the first lost it: nothing of the second changes. */
Test(repair, keeps_what_a_damaged_registry_still_says)
{
    struct walrus_topic *topic;
    struct walrus_topic_stat stat;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    topic = rig_topic(&s, "u");
    CHECK_INT(walrus_topic_set_retention(
                  topic, &(struct walrus_retention){.kind = WALRUS_KEEP_SIZE, .value = 1 << 20}),
              0);
    CHECK_INT(walrus_topic_set_limit(topic, 1 << 30), 0);
    walrus_topic_unref(topic);
    walrus_group_unref(rig_group(&s, "u", "audit"));
    rig_append(&s, "u", 0, 70);
    rig_close(&s);
    spoil("topics.db", 8192, 100);
    repair();
    memset(s.report_count, 0, sizeof(s.report_count));
    rig_open(&s);
    CHECK_INT(rig_reports(&s, WALRUS_ERROR), 0);
    topic = rig_topic(&s, "u");
    walrus_topic_stat(topic, &stat);
    walrus_topic_unref(topic);
    CHECK_INT(stat.retention.kind, WALRUS_KEEP_SIZE);
    CHECK_INT(stat.retention.value, 1 << 20);
    CHECK_INT(stat.limit, 1 << 30);
    CHECK_INT(rig_group_stat(&s, "u", "audit").pending_count, 1);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_at(s.walrus, "recovered-1", 0, &entry), 0);
    CHECK(entry.size == 100 && payload_same(s.seed, "t", 0, entry.data, entry.size));
    free(entry.data);
}

/* An older copy of an offset is valid, and only the digest tells. */
Test(repair, settles_that_metadata_is_older_than_the_closing)
{
    uint8_t old[65536];
    char path[PATH_MAX];
    path_of("read_offset_idx_index.db", path);
    make();
    disk_read(path, 0, old, sizeof(old));
    rig_open(&s);
    rig_expect_many(&s, "t", 10, 2, 5000); /* which leaves all blocks where they are */
    rig_close(&s);
    disk_write(path, 0, old, sizeof(old));
    struct walrus_verify_result result = repair();
    CHECK_INT(result.damage_count, 1);
    CHECK_INT(result.mended_count, 1);
    expect_all("t", 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 10);
}

/* The n-th system call fails, and all from there on, as when the process is killed. */
Test(repair, that_failed_anywhere_is_finished_by_the_next_one)
{
    struct rig lost;
    make();
    spoil("topics.db", 0, 8192);
    rig_copy(&s, &lost);
    bool failed = true;
    for (unsigned nth = 1; failed; nth++) {
        struct walrus_verify_result result;
        for (int forever = 0; forever < 2; forever++) {
            rig_fini(&s);
            rig_copy(&lost, &s);
            faultos_install();
            faultos_arm(&(struct faultos_rule){
                .kind = FAULTOS_ANY, .nth = nth, .error = EIO, .forever = forever});
            (void)!walrus_repair(s.dir, NULL, &result);
            failed = faultos_failed_count() > 0;
            faultos_remove();
            CHECK_INT(walrus_repair(s.dir, NULL, &result), 0);
            CHECK_INT(result.damage_count, result.mended_count);
            CHECK_INT(result.topic_count, 2);
            CHECK_INT(result.group_count, 1); /* the other one never consumed anything */
            CHECK_INT(walrus_verify(s.dir, NULL, &result), 0);
            CHECK_INT(result.damage_count, 0);
        }
    }
    expect_all("recovered-1", 0);
    rig_fini(&lost);
}

Test(repair, refuses_a_store_that_is_in_use_and_what_is_none)
{
    struct walrus_verify_result result;
    struct stat st;
    char path[PATH_MAX];
    CHECK_INT(walrus_repair(s.dir, NULL, &result), -ENOENT);
    path_of("LOCK", path);
    CHECK(stat(path, &st) < 0);
    rig_open(&s);
    CHECK_INT(walrus_repair(s.dir, NULL, &result), -EBUSY);
}

Test(repair, takes_no_lock_that_leads_elsewhere)
{
    struct walrus_verify_result result;
    char lock[PATH_MAX], away[PATH_MAX];
    make();
    path_of("LOCK", lock);
    path_of(".away", away);
    CHECK_INT(link(lock, away), 0);
    CHECK_INT(walrus_repair(s.dir, NULL, &result), -ELOOP);
    CHECK_INT(unlink(lock), 0);
    CHECK_INT(symlink(away, lock), 0);
    CHECK_INT(walrus_repair(s.dir, NULL, &result), -ELOOP);
}

Test(repair, makes_the_only_block_of_a_topic_its_own_again)
{
    make();
    struct place place;
    rig_find(&s, "u", 0, 70, &place);
    uint64_t idx = (place.off - FORMAT_FILE_META_SIZE) / RIG_BLOCK_SIZE;
    const char *name = strrchr(place.path, '/') + 1;
    spoil(name, FORMAT_TABLE_OFF(0) + idx * 128, 128);
    spoil(name, FORMAT_TABLE_OFF(1) + idx * 128, 128);
    struct walrus_verify_result result = repair();
    CHECK(result.mended_count > 0);
    rig_open(&s);
    rig_expect_at(&s, "u", 0, 70);
}

Test(repair, a_checksum_can_be_run_backwards)
{
    static const char text[] = "the walrus and the carpenter";
    for (uint32_t seed = 0; seed < 100; seed++)
        CHECK_INT(crc32c_before(crc32c(seed * 77777, text, sizeof(text)), text, sizeof(text)),
                  seed * 77777);
}
