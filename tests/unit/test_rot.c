/* SPDX-License-Identifier: MIT */
/*
 * test_rot.c - what tests/rot found in stores with one damaged place, each as the shortest story:
 * bytes that are wiped, and bytes that are valid but of an earlier time.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "format.h"
#include "rig.h"

#define OFFSETS "read_offset_idx_index.db"

static struct rig s;

static void setup(void)
{
    rig_init(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(rot, .init = setup, .fini = teardown, .timeout = 300);

static void path_of(const char *name, char *ret_path, size_t size)
{
    CHECK((size_t)snprintf(ret_path, size, "%s/%s", s.dir, name) < size);
}

static void peek(const char *name, uint64_t off, void *ret_data, size_t size)
{
    char path[PATH_MAX];
    path_of(name, path, sizeof(path));
    disk_read(path, off, ret_data, size);
}

static void poke(const char *name, uint64_t off, const void *data, size_t size)
{
    char path[PATH_MAX];
    path_of(name, path, sizeof(path));
    disk_write(path, off, data, size);
}

/* A closed store in which "t" has 20 entries, ten of them taken, one by one. */
static void make(void)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 20, 1000);
    rig_expect_many(&s, "t", 0, 10, 1000);
    rig_close(&s);
}

/* Which copy of slot 0 is the newer one. */
static uint32_t newest_slot(void)
{
    struct format_slot copies[2];
    peek(OFFSETS, 0, &copies[0], sizeof(copies[0]));
    peek(OFFSETS, 32768, &copies[1], sizeof(copies[1]));
    return le64_get(copies[1].generation) > le64_get(copies[0].generation);
}

Test(rot, a_wiped_copy_of_an_offset_is_reported_and_costs_one_step)
{
    static const struct format_slot zero;
    make();
    poke(OFFSETS, newest_slot() * 32768, &zero, sizeof(zero));
    rig_open(&s);
    CHECK(rig_reported(&s, "one copy of the offset of group \"default\" is damaged"));
    rig_expect(&s, "t", 9, 1000);
    rig_expect(&s, "t", 10, 1000);
}

Test(rot, an_offset_that_is_older_than_the_store_is_reported)
{
    struct format_slot copies[2];
    rig_open(&s);
    rig_append_many(&s, "t", 0, 20, 1000);
    rig_expect_many(&s, "t", 0, 5, 1000);
    rig_close(&s);
    peek(OFFSETS, 0, &copies[0], sizeof(copies[0]));
    peek(OFFSETS, 32768, &copies[1], sizeof(copies[1]));
    rig_open(&s);
    rig_expect_many(&s, "t", 5, 5, 1000);
    rig_close(&s);
    poke(OFFSETS, newest_slot() * 32768, &copies[newest_slot()], sizeof(copies[0]));
    rig_open(&s);
    CHECK(rig_reported(&s, "the metadata is not what it was when the store was closed"));
}

/* The table entry in force of block 0 becomes one of before the last entries were there. */
Test(rot, entries_behind_an_older_table_entry_are_found_again)
{
    struct format_block copies[2], now[2];
    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 1000);
    rig_close(&s);
    peek("wal_0001.log", FORMAT_TABLE_OFF(0), &copies[0], sizeof(copies[0]));
    peek("wal_0001.log", FORMAT_TABLE_OFF(1), &copies[1], sizeof(copies[1]));
    rig_open(&s);
    rig_append_many(&s, "t", 5, 5, 1000);
    rig_close(&s);
    peek("wal_0001.log", FORMAT_TABLE_OFF(0), &now[0], sizeof(now[0]));
    peek("wal_0001.log", FORMAT_TABLE_OFF(1), &now[1], sizeof(now[1]));
    uint32_t newest = le64_get(now[1].generation) > le64_get(now[0].generation);
    poke("wal_0001.log", FORMAT_TABLE_OFF(newest), &copies[newest], sizeof(copies[0]));
    rig_open(&s);
    CHECK(rig_reported(&s, "the metadata is not what it was when the store was closed"));
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 10);
    rig_expect_many(&s, "t", 0, 10, 1000);
}

Test(rot, entries_behind_a_wiped_table_entry_are_found_again)
{
    static const struct format_block zero;
    struct format_block now[2];
    make();
    peek("wal_0001.log", FORMAT_TABLE_OFF(0), &now[0], sizeof(now[0]));
    peek("wal_0001.log", FORMAT_TABLE_OFF(1), &now[1], sizeof(now[1]));
    uint32_t newest = le64_get(now[1].generation) > le64_get(now[0].generation);
    poke("wal_0001.log", FORMAT_TABLE_OFF(newest), &zero, sizeof(zero));
    rig_open(&s);
    CHECK(rig_reported(&s, "one entry of block 0 is damaged"));
    rig_expect_many(&s, "t", 10, 10, 1000);
}

Test(rot, a_lost_end_of_the_registry_is_reported)
{
    uint8_t zero[4096] = {0};
    make();
    rig_open(&s);
    uint64_t end = 8192;
    walrus_topic_unref(rig_topic(&s, "a topic without entries"));
    rig_close(&s);
    /* Two records a topic; the first topic's have names of 1 and 7 bytes, a multiple of 8 each. */
    end += 184 + 8 + 184 + 8;
    poke("topics.db", end, zero, sizeof(zero));
    rig_open(&s);
    CHECK(rig_reported(&s, "the metadata is not what it was when the store was closed"));
    rig_expect(&s, "t", 10, 1000);
}

Test(rot, the_entry_behind_the_damaged_end_of_a_large_one_is_read)
{
    struct place place;
    rig_open(&s);
    rig_append(&s, "t", 0, RIG_ENTRY_EDGE + 1000); /* its last part begins a block */
    rig_append(&s, "t", 1, 500);
    rig_close(&s);
    rig_find(&s, "t", 1, 500, &place);
    place_flip(&place,
               -(int64_t)(RIG_RECORD_SIZE + 1000 + RIG_RECORD_SIZE)); /* that part's magic */
    rig_open(&s);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EBADMSG);
    rig_expect(&s, "t", 1, 500);
    rig_expect_at(&s, "t", 1, 500);
}

Test(rot, a_group_that_is_behind_what_is_there_is_told)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 40, 5000);
    rig_expect_many(&s, "t", 0, 3, 5000);
    rig_close(&s);
    static const struct format_block zero[RIG_BLOCKS_PER_FILE];
    for (uint32_t copy = 0; copy < 2; copy++)
        poke("wal_0001.log", FORMAT_TABLE_OFF(copy), zero, sizeof(zero[0]));
    rig_open(&s);
    CHECK(rig_reported(&s, "group \"default\" was at entry 3"));
    rig_take(&s, "t", &(uint64_t){0});
}
