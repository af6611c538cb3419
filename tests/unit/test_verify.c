/* SPDX-License-Identifier: MIT */
/* test_verify.c - walrus_verify: what it finds in a store, and what it says that costs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "rig.h"

/* What verify told. */
struct found {
    unsigned count;
    struct walrus_damage last;
    char file[64], topic[64], text[512];
};

static void note(void *arg, const struct walrus_damage *damage)
{
    struct found *found = arg;
    found->count++;
    found->last = *damage;
    snprintf(found->file, sizeof(found->file), "%s", damage->file);
    snprintf(found->topic, sizeof(found->topic), "%s", damage->topic ? damage->topic : "");
    snprintf(found->text, sizeof(found->text), "%s", damage->text);
}

static struct walrus_verify_result verify(const char *dir, struct found *found)
{
    struct walrus_verify_options options = {.damage = note, .arg = found};
    struct walrus_verify_result result;
    memset(found, 0, sizeof(*found));
    CHECK_INT(walrus_verify(dir, &options, &result), 0);
    CHECK_INT(result.damage_count, found->count);
    return result;
}

/* A closed store: topic "t" with 40 entries of 5000 bytes, in several blocks, ten of them taken. */
static void make(struct rig *rig)
{
    rig_init(rig);
    rig_open(rig);
    rig_append_many(rig, "t", 0, 40, 5000);
    rig_append(rig, "large", 0, 200000);
    rig_expect_many(rig, "t", 0, 10, 5000);
    rig_close(rig);
}

static void flip(const struct rig *rig, const char *name, uint64_t off)
{
    struct place place = {.off = off};
    snprintf(place.path, sizeof(place.path), "%s/%s", rig->dir, name);
    place_flip(&place, 0);
}

Test(verify, finds_nothing_in_a_whole_store_and_counts_what_is_there)
{
    struct rig rig;
    struct found found;
    make(&rig);
    struct walrus_verify_result result = verify(rig.dir, &found);
    cr_assert_eq(found.count, 0, "%s: %s", found.file, found.text);
    CHECK(result.clean && !result.in_use);
    CHECK_INT(result.topic_count, 2);
    CHECK_INT(result.group_count, 2);
    CHECK_INT(result.entry_count, 41);
    CHECK_INT(result.entry_bytes, 40 * 5000 + 200000);
    rig_fini(&rig);
}

Test(verify, names_the_entry_whose_data_is_damaged)
{
    struct rig rig;
    struct found found;
    struct place place;
    make(&rig);
    rig_find(&rig, "t", 23, 5000, &place);
    place_flip(&place, 100);
    struct walrus_verify_result result = verify(rig.dir, &found);
    CHECK_INT(found.count, 1);
    CHECK_INT(found.last.cost, WALRUS_COST_ENTRIES);
    CHECK_INT(found.last.first_seq, 23);
    CHECK_INT(found.last.end_seq, 24);
    CHECK_INT(found.last.off, place.off);
    CHECK(strcmp(found.topic, "t") == 0 && strcmp(found.file, strrchr(place.path, '/') + 1) == 0);
    CHECK_INT(result.lost_count, 1);
    CHECK_INT(result.entry_count, 40);
    rig_fini(&rig);
}

Test(verify, names_the_entries_behind_a_damaged_header)
{
    struct rig rig;
    struct found found;
    struct place place;
    make(&rig);
    rig_find(&rig, "t", 23, 5000, &place);
    place_flip(&place, -8);
    verify(rig.dir, &found);
    CHECK_INT(found.count, 1);
    CHECK_INT(found.last.first_seq, 23);
    CHECK_INT(found.last.end_seq, 24);
    rig_fini(&rig);
}

Test(verify, tells_of_each_bad_copy_of_what_has_two)
{
    static const struct {
        const char *name;
        uint64_t off;
    } places[] = {
        {"SUPER", 300},
        {"SUPER", 4096 + 60},
        {"topics.db", 20},
        {"topics.db", 4096 + 2000},
        {"wal_0001.log", 100},
        {"wal_0001.log", 61440 + 20},
        {"wal_0001.log", 4096 + 10},
        {"wal_0001.log", 32768 + 10},
        {"wal_0001.log", 4096 + 100 * 128}, /* no block has this entry */
        {"read_offset_idx_index.db", 7},
        {"read_offset_idx_index.db", 32768 + 9},
        {"read_offset_idx_index.db", 512 * 40}, /* no group has this slot */
    };
    struct rig rig;
    struct found found;
    make(&rig);
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        flip(&rig, places[i].name, places[i].off);
        verify(rig.dir, &found);
        cr_assert_eq(found.count, 1, "%s at %u: %u", places[i].name, (unsigned)places[i].off,
                     found.count);
        CHECK(strcmp(found.file, places[i].name) == 0);
        CHECK(found.last.cost <= WALRUS_COST_OFFSET);
        CHECK(found.last.off <= places[i].off);
        CHECK(found.last.off + found.last.size > places[i].off);
        flip(&rig, places[i].name, places[i].off);
    }
    verify(rig.dir, &found);
    CHECK_INT(found.count, 0);
    rig_fini(&rig);
}

Test(verify, says_so_when_the_store_cannot_be_opened_at_all)
{
    struct rig rig;
    struct found found;
    make(&rig);
    flip(&rig, "SUPER", 300);
    flip(&rig, "SUPER", 4096 + 300);
    verify(rig.dir, &found);
    CHECK_INT(found.count, 2);
    CHECK_INT(found.last.cost, WALRUS_COST_STORE);
    rig_fini(&rig);
}

Test(verify, says_which_name_is_lost)
{
    struct rig rig;
    struct found found;
    make(&rig);
    flip(&rig, "topics.db", 8192 + 30);
    verify(rig.dir, &found);
    CHECK_INT(found.last.cost, WALRUS_COST_NAME);
    CHECK(strstr(found.text, "recovered-1") != NULL);
    rig_fini(&rig);
}

Test(verify, takes_the_torn_end_of_a_killed_store_for_no_damage)
{
    struct rig rig, copy;
    struct found found;
    rig_init(&rig);
    rig_open(&rig);
    rig_append_many(&rig, "t", 0, 20, 5000);
    rig_copy(&rig, &copy);
    rig_close(&rig);
    struct walrus_verify_result result = verify(copy.dir, &found);
    cr_assert_eq(found.count, 0, "%s: %s", found.file, found.text);
    CHECK(!result.clean);
    CHECK_INT(result.entry_count, 20);
    rig_fini(&copy);
    rig_fini(&rig);
}

Test(verify, reads_beside_the_one_who_has_the_store_open)
{
    struct rig rig;
    struct found found;
    rig_init(&rig);
    rig_open(&rig);
    rig_append_many(&rig, "t", 0, 40, 5000);
    CHECK_INT(walrus_sync(rig.walrus), 0);
    struct walrus_verify_result result = verify(rig.dir, &found);
    cr_assert_eq(found.count, 0, "%s: %s", found.file, found.text);
    CHECK(result.in_use);
    rig_append(&rig, "t", 40, 100);
    rig_close(&rig);
    rig_fini(&rig);
}

Test(verify, changes_nothing_and_refuses_what_is_no_store)
{
    struct rig rig, copy;
    struct found found;
    struct walrus_verify_result result;
    make(&rig);
    rig_init(&copy);
    dir_copy(rig.dir, copy.dir);
    flip(&copy, "topics.db", 8192 + 30);
    flip(&rig, "topics.db", 8192 + 30);
    verify(copy.dir, &found);
    CHECK(dir_same(rig.dir, copy.dir));
    dir_make(rig.dir, "empty");
    CHECK_INT(walrus_verify("/nonexistent/store", NULL, &result), -ENOENT);
    rig_fini(&copy);
    rig_fini(&rig);
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    uint64_t *last = arg;
    CHECK(done >= *last && done <= total);
    *last = done;
}

Test(verify, tells_how_far_it_is)
{
    struct rig rig;
    uint64_t done = 0;
    struct walrus_verify_options options = {.progress = progress, .arg = &done};
    struct walrus_verify_result result;
    make(&rig);
    CHECK_INT(walrus_verify(rig.dir, &options, &result), 0);
    CHECK(done > 0);
    rig_fini(&rig);
}

/* What is no file of one name is damage, and what it leads to is left as it is, by repair too. */
Test(verify, does_not_follow_a_file_that_is_not_its_own)
{
    static const char *const names[] = {"SUPER", "topics.db", "read_offset_idx_index.db",
                                        "wal_0001.log"};
    static uint8_t before[1 << 20], after[1 << 20];
    struct walrus_verify_result result;
    struct rig rig;
    struct found found;
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        for (int how = 0; how < 3; how++) {
            char path[PATH_MAX], away[PATH_MAX];
            make(&rig);
            snprintf(path, sizeof(path), "%s/%s", rig.dir, names[i]);
            uint64_t size = disk_size(path);
            CHECK(size <= sizeof(before));
            disk_read(path, 0, before, size);
            snprintf(away, sizeof(away), "%s/.away", rig.dir);
            if (how == 0)
                CHECK(rename(path, away) == 0 && symlink(away, path) == 0);
            else if (how == 1)
                CHECK(rename(path, away) == 0 && mkfifo(path, 0600) == 0);
            else
                CHECK_INT(link(path, away), 0);
            verify(rig.dir, &found);
            CHECK(found.count > 0);
            int r = walrus_repair(rig.dir, NULL, &result);
            CHECK(r == 0 || r == -ELOOP);
            if (how != 1) {
                CHECK(disk_size(away) == size && size <= sizeof(after));
                disk_read(away, 0, after, size);
                CHECK(memcmp(before, after, size) == 0);
            }
            rig_fini(&rig);
        }
    }
}

/* Nobody finds damage in a store only because it is written meanwhile. */
Test(verify, of_a_store_in_use_names_what_is_damaged_in_it)
{
    struct rig rig;
    struct found found;
    struct place place;
    make(&rig);
    rig_open(&rig);
    rig_find(&rig, "t", 23, 5000, &place);
    place_flip(&place, 100);
    flip(&rig, "topics.db", 4096 + 20);
    flip(&rig, "wal_0001.log", 61440 + 20);
    struct walrus_verify_result result = verify(rig.dir, &found);
    CHECK(result.in_use);
    CHECK_INT(found.count, 3);
    CHECK_INT(result.lost_count, 1);
    rig_close_degraded(&rig);
    rig_fini(&rig);
}
