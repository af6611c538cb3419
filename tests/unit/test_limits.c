/* SPDX-License-Identifier: MIT */
/*
 * test_limits.c - how small, how large, how many: sizes of entries and batches around every edge,
 * limits of a topic, thousands of topics.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>

#include "faultos.h"
#include "os.h"
#include "rig.h"

#define FILE_DATA_SIZE (RIG_BLOCK_SIZE * RIG_BLOCKS_PER_FILE) /* bytes of blocks in a log file */

static struct rig s;

static void setup(void)
{
    rig_init(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(limits, .init = setup, .fini = teardown, .timeout = 300);

/* ------------------------------------------------------------------------------------ entries --
 */

/* Sizes around every edge: of a word, a page, a block, several blocks, a file. */
static const size_t edges[] = {
    0,
    1,
    7,
    8,
    9,
    31,
    32,
    33,
    4055,
    4056,
    4057,
    4095,
    4096,
    4097,
    RIG_ENTRY_EDGE - 41,
    RIG_ENTRY_EDGE - 40,
    RIG_ENTRY_EDGE - 39,
    RIG_ENTRY_EDGE - 8,
    RIG_ENTRY_EDGE - 7,
    RIG_ENTRY_EDGE - 1,
    RIG_ENTRY_EDGE,
    RIG_ENTRY_EDGE + 1,
    RIG_BLOCK_SIZE,
    2 * RIG_ENTRY_EDGE - 1,
    2 * RIG_ENTRY_EDGE,
    2 * RIG_ENTRY_EDGE + 1,
    4 * RIG_ENTRY_EDGE,
    FILE_DATA_SIZE,
    FILE_DATA_SIZE + 1,
    9 * RIG_BLOCK_SIZE + 5,
};
#define EDGE_COUNT (sizeof(edges) / sizeof(edges[0]))

/* Appends an entry of each size from sequence number `first_seq` on. */
static void append_edges(uint64_t first_seq)
{
    for (size_t i = 0; i < EDGE_COUNT; i++)
        rig_append(&s, "t", first_seq + i, edges[i]);
}

static void expect_edges(struct rig *rig, uint64_t first_seq)
{
    for (size_t i = 0; i < EDGE_COUNT; i++) {
        rig_expect_at(rig, "t", first_seq + i, edges[i]);
        rig_expect(rig, "t", first_seq + i, edges[i]);
    }
}

Test(limits, entries_of_every_size_are_stored_and_survive)
{
    struct rig killed;

    rig_open(&s);
    append_edges(0);
    rig_copy(&s, &killed);
    rig_open(&killed);
    expect_edges(&killed, 0);
    rig_expect_empty(&killed, "t");
    rig_fini(&killed);
    rig_reopen(&s);
    append_edges(EDGE_COUNT);
    expect_edges(&s, 0);
    expect_edges(&s, EDGE_COUNT);
    rig_expect_empty(&s, "t");
}

Test(limits, entries_of_every_size_follow_one_of_every_size)
{
    uint64_t seq = 0;

    rig_open(&s);
    for (size_t i = 0; i < EDGE_COUNT; i++)
        for (size_t j = 0; j < EDGE_COUNT; j += 3) {
            rig_append(&s, "t", seq, edges[i]);
            rig_append(&s, "t", seq + 1, edges[j]);
            rig_expect(&s, "t", seq, edges[i]);
            rig_expect(&s, "t", seq + 1, edges[j]);
            seq += 2;
        }
}

Test(limits, a_large_entry_hides_nothing_that_comes_after_it)
{
    rig_open(&s);
    for (uint64_t seq = 0; seq < 12; seq++) {
        rig_append(&s, "t", seq, seq % 3 == 0 ? 2 * FILE_DATA_SIZE : 50);
        rig_append(&s, "u", seq, 70);
    }
    rig_reopen(&s);
    for (uint64_t seq = 0; seq < 12; seq++) {
        rig_expect(&s, "t", seq, seq % 3 == 0 ? 2 * FILE_DATA_SIZE : 50);
        rig_expect(&s, "u", seq, 70);
    }
}

Test(limits, an_entry_over_1_gib_is_emsgsize_and_stores_nothing)
{
    struct walrus_topic *topic;
    struct iovec entries[2] = {{&s, 1}, {&s, WALRUS_ENTRY_SIZE_MAX + 1}};

    rig_open(&s);
    rig_append(&s, "t", 0, 10);
    CHECK_INT(walrus_append(s.walrus, "t", &s, WALRUS_ENTRY_SIZE_MAX + 1), -EMSGSIZE);
    CHECK_INT(walrus_append(s.walrus, "t", &s, SIZE_MAX), -EMSGSIZE);
    CHECK_INT(walrus_batch_append(s.walrus, "t", entries, 2), -EMSGSIZE);
    topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_append(topic, entries, 2, NULL, NULL), -EMSGSIZE);
    walrus_topic_unref(topic);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 1);
    rig_append(&s, "t", 1, 10);
    rig_expect_many(&s, "t", 0, 2, 10);
}

/* Enough disk and memory for an entry of 1 GiB and a copy of it? */
static bool have_room_for_the_largest(void)
{
    struct statvfs fs;

    if (statvfs(s.dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize > 4ull << 30)
        return true;
    skip_note("needs 4 GiB of free disk");
    return false;
}

Test(limits, an_entry_of_1_gib_is_stored_whole, .timeout = 300)
{
    struct walrus_reader *reader;
    size_t size = WALRUS_ENTRY_SIZE_MAX, part = 1 << 20;

    if (!have_room_for_the_largest())
        return;
    s.options.block_size = 0;
    s.options.blocks_per_file = 0;
    rig_open(&s);
    uint8_t *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(data != MAP_FAILED);
    for (size_t off = 0; off < size; off += 1 << 16)
        payload_fill(s.seed, "large", off, data + off, 64);
    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_append(s.walrus, "t", data, size), 0);
    rig_append(&s, "t", 2, 100);
    CHECK_INT(munmap(data, size), 0);
    rig_reopen(&s);
    rig_expect(&s, "t", 0, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    reader = rig_claim(group, 1);
    CHECK_INT(walrus_reader_size(reader), size);
    data = malloc(part);
    CHECK(data != NULL);
    for (size_t off = 0; off < size; off += part) {
        CHECK_INT(walrus_reader_read(reader, data, part, off, NULL), part);
        for (size_t in = 0; in < part; in += 1 << 16) {
            CHECK(payload_same(s.seed, "large", off + in, data + in, 64));
            CHECK_INT(data[in + 64], 0);
        }
    }
    free(data);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect(&s, "t", 2, 100);
}

Test(limits, a_blob_over_1_gib_is_efbig_and_can_only_be_aborted, .timeout = 300)
{
    struct walrus_topic *topic;
    struct walrus_blob *blob;
    size_t part = 64 << 20;

    if (!have_room_for_the_largest())
        return;
    s.options.block_size = 0;
    s.options.blocks_per_file = 0;
    rig_open(&s);
    topic = rig_topic(&s, "t");
    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    uint8_t *data = calloc(1, part);
    CHECK(data != NULL);
    for (size_t done = 0; done < WALRUS_ENTRY_SIZE_MAX; done += part)
        CHECK_INT(walrus_blob_write(blob, data, part), 0);
    CHECK_INT(walrus_blob_write(blob, data, 1), -EFBIG);
    free(data);
    walrus_blob_abort(blob);
    walrus_topic_unref(topic);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 1);
    CHECK_SOON(dir_disk_size(s.dir) < 64u << 20);
    rig_append(&s, "t", 1, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
}

/* ------------------------------------------------------------------------------------ batches --
 */

Test(limits, a_batch_of_more_than_2_to_the_20_entries_is_emsgsize)
{
    size_t count = WALRUS_BATCH_COUNT_MAX + 1;
    struct iovec *entries = calloc(count, sizeof(*entries));

    CHECK(entries != NULL);
    rig_open(&s);
    rig_append(&s, "t", 0, 10);
    CHECK_INT(walrus_batch_append(s.walrus, "t", entries, count), -EMSGSIZE);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 1);
    CHECK_INT(walrus_batch_append(s.walrus, "t", entries, 100000), 0);
    free(entries);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, 100001);
    rig_expect(&s, "t", 0, 10);
    rig_expect(&s, "t", 1, 0);
}

Test(limits, a_batch_crosses_blocks_and_files)
{
    const struct {
        size_t count, size;
    } batches[] = {
        {10, 100}, {100, 1000}, {3, RIG_ENTRY_EDGE}, {7, 60000}, {2, 200000}, {1000, 700}, {5, 0},
    };
    struct rig killed;
    uint64_t seq = 0;

    rig_open(&s);
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        CHECK_INT(rig_try_batch(&s, "t", seq, batches[i].count, batches[i].size), 0);
        seq += batches[i].count;
        rig_append(&s, "t", seq++, 33);
    }
    rig_copy(&s, &killed);
    rig_open(&killed);
    seq = 0;
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        rig_expect_many(&killed, "t", seq, batches[i].count, batches[i].size);
        seq += batches[i].count;
        rig_expect(&killed, "t", seq++, 33);
    }
    rig_expect_empty(&killed, "t");
    rig_fini(&killed);
}

Test(limits, a_batch_of_which_anything_is_missing_is_not_there_at_all)
{
    faultos_install();
    /* the last record of the batch is wiped from what a kill left: nothing of it may be seen */
    const struct {
        size_t count, size;
    } batches[] = {{10, 100}, {40, 3000}, {12, 60000}, {2, 200000}};

    s.options.fsync = WALRUS_FSYNC_NEVER;
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        struct rig killed;
        struct place place;
        size_t last = batches[i].count;
        rig_open(&s);
        rig_append(&s, "t", 0, 100);
        rig_hold_syncs(true);
        CHECK_INT(rig_try_batch(&s, "t", 1, batches[i].count, batches[i].size), 0);
        rig_copy(&s, &killed);
        rig_hold_syncs(false);
        rig_find(&killed, "t", last, batches[i].size, &place);
        place_zero(&place, -(int64_t)RIG_RECORD_SIZE, RIG_RECORD_SIZE + 64);
        rig_open(&killed);
        CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 1);
        rig_expect(&killed, "t", 0, 100);
        rig_expect_empty(&killed, "t");
        rig_append(&killed, "t", 1, 100);
        rig_reopen(&killed);
        rig_expect(&killed, "t", 1, 100);
        rig_expect_empty(&killed, "t");
        rig_fini(&killed);
        rig_fini(&s);
        rig_init(&s);
        s.options.fsync = WALRUS_FSYNC_NEVER;
    }
    faultos_remove();
}

Test(limits, a_batch_that_finds_no_room_stores_nothing)
{
    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    for (unsigned nth = 1;; nth++) {
        faultos_forget_counts();
        faultos_arm(&(struct faultos_rule){
            .kind = FAULTOS_WRITE, .nth = nth, .error = ENOSPC, .file = "wal_*.log"});
        uint64_t tail = rig_topic_stat(&s, "t").tail_seq;
        int rc = rig_try_batch(&s, "t", tail, 30, 30000);
        faultos_disarm();
        if (rc == 0) {
            CHECK(nth > 3);
            break;
        }
        CHECK_INT(rc, -ENOSPC);
        CHECK_INT(rig_topic_stat(&s, "t").tail_seq, tail);
        rig_append(&s, "t", tail, 100);
    }
    uint64_t seq = 0, tail = rig_topic_stat(&s, "t").tail_seq;
    rig_reopen(&s);
    rig_expect_many(&s, "t", 0, tail - 30, 100);
    rig_expect_many(&s, "t", tail - 30, 30, 30000);
    CHECK_INT(rig_take(&s, "t", &seq), WALRUS_EMPTY);
    rig_close(&s);
    faultos_remove();
}

/* ------------------------------------------------------------------------------ limit of a topic
 * -- */

Test(limits, a_topic_at_its_limit_is_enospc_alone_and_goes_on_after_taking)
{
    struct walrus_topic *topic;
    uint64_t count = 0;
    int rc;

    rig_open(&s);
    topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_set_limit(topic, 8 * RIG_BLOCK_SIZE), 0);
    while ((rc = rig_try_append(&s, "t", count, 5000)) == 0)
        CHECK(++count < 1000);
    CHECK_INT(rc, -ENOSPC);
    CHECK(count * 5000 > 4 * RIG_BLOCK_SIZE);
    CHECK(rig_topic_stat(&s, "t").disk_bytes <= 8 * RIG_BLOCK_SIZE);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, count);
    CHECK_INT(rig_try_batch(&s, "t", count, 100, 5000), -ENOSPC);
    rig_append_many(&s, "u", 0, 300, 5000); /* the others do not notice */

    rig_expect_many(&s, "t", 0, count, 5000);
    CHECK_SOON(rig_try_append(&s, "t", count, 5000) == 0);
    rig_expect(&s, "t", count, 5000);
    CHECK_INT(walrus_topic_set_limit(topic, 0), 0);
    rig_append_many(&s, "t", count + 1, 300, 5000);
    rig_expect_many(&s, "t", count + 1, 300, 5000);
    walrus_topic_unref(topic);
}

Test(limits, a_limit_holds_for_blobs_and_large_entries)
{
    struct walrus_topic *topic;
    struct walrus_blob *blob;
    uint8_t data[RIG_BLOCK_SIZE] = {0};
    int rc = 0;

    rig_open(&s);
    topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_set_limit(topic, 4 * RIG_BLOCK_SIZE), 0);
    CHECK_INT(rig_try_append(&s, "t", 0, 8 * RIG_BLOCK_SIZE), -ENOSPC);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    for (int i = 0; i < 8 && rc == 0; i++)
        rc = walrus_blob_write(blob, data, sizeof(data));
    if (rc == 0) /* a small blob meets the limit when it is committed */
        rc = walrus_blob_commit(blob, false, NULL);
    else
        walrus_blob_abort(blob);
    CHECK_INT(rc, -ENOSPC);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    for (rc = 0; rc == 0;)
        rc = walrus_blob_write(blob, data, sizeof(data));
    CHECK_INT(rc, -ENOSPC);
    walrus_blob_abort(blob);
    CHECK_SOON(rig_try_append(&s, "t", 0, RIG_BLOCK_SIZE) == 0);
    rig_expect(&s, "t", 0, RIG_BLOCK_SIZE);
    walrus_topic_unref(topic);
}

/* ------------------------------------------------------------------------------------ how many --
 */

static int sync_nothing(int fd)
{
    (void)fd;
    return 0;
}

static int msync_nothing(void *addr, size_t size)
{
    (void)addr;
    (void)size;
    return 0;
}

static ssize_t write_without_sync(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    (void)flags;
    return os_system.pwritev2(fd, iov, count, off, 0);
}

Test(limits, ten_thousand_topics_of_one_small_entry_take_at_most_64_kib_each)
{
    /* Some 30,000 syncs would take minutes where the disk is slow, and show nothing here. */
    struct os_ops ops = os_system;
    char name[16];

    ops.fsync = ops.fdatasync = sync_nothing;
    ops.msync = msync_nothing;
    ops.pwritev2 = write_without_sync;
    os = &ops;
    rig_open(&s);
    rig_close(&s);
    uint64_t empty = dir_disk_size(s.dir);
    rig_fini(&s);
    rig_init(&s);
    s.options.block_size = 0; /* as in use: 10 MiB a block would be 100 GB */
    s.options.blocks_per_file = 0;
    rig_open(&s);
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "topic-%u", i);
        rig_append(&s, name, 0, 100);
    }
    CHECK(dir_disk_size(s.dir) - empty <= 10000ull * 65536);
    rig_reopen(&s);
    CHECK_INT(rig_stat(&s).topic_count, 10000);
    for (unsigned i = 0; i < 10000; i += 7) {
        snprintf(name, sizeof(name), "topic-%u", i);
        rig_expect(&s, name, 0, 100);
    }
    rig_close(&s);
    CHECK(dir_disk_size(s.dir) - empty <= 10000ull * 65536);
    os = &os_system;
}

Test(limits, a_hundred_thousand_entries_come_back_in_order)
{
    struct walrus_entry *entries;
    uint64_t next = 0;
    size_t count;

    rig_open(&s);
    for (uint64_t seq = 0; seq < 100000; seq++)
        rig_append(&s, "t", seq, seq % 50);
    rig_reopen(&s);
    while (walrus_batch_read(s.walrus, "t", SIZE_MAX, 1000, &entries, &count) == 0) {
        for (size_t i = 0; i < count; i++, next++) {
            CHECK_INT(entries[i].seq, next);
            CHECK_INT(entries[i].size, next % 50);
            CHECK(payload_same(s.seed, "t", next, entries[i].data, entries[i].size));
        }
        walrus_entries_free(entries, count);
    }
    CHECK_INT(next, 100000);
}
