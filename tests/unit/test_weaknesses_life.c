/* SPDX-License-Identifier: MIT */
/*
 * test_weaknesses_life.c - goes on where test_weaknesses.c ends, with the files, the life and the
 * threads of a store: what the Rust engine got wrong, a test each, named after the right behaviour.
 * The number before a test is its row in the list of findings, the letter that of the field report.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fnmatch.h>
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

TestSuite(weaknesses_life, .init = setup, .fini = teardown, .timeout = 300);

/* ------------------------------------------------------------------- files and offsets (19 to 25)
 * -- */

#define SYNC_LOG_MAX 64

static char sync_log[SYNC_LOG_MAX][64];
static atomic_uint sync_log_count;

static void note_sync(void *arg, const char *file)
{
    unsigned at = atomic_fetch_add(&sync_log_count, 1);

    (void)arg;
    if (at < SYNC_LOG_MAX)
        snprintf(sync_log[at], sizeof(sync_log[at]), "%s", file);
}

/* The first sync from `from` on of a file whose name matches; -1: none. */
static int sync_find(const char *pattern, int from)
{
    for (int i = from; i < (int)atomic_load(&sync_log_count) && i < SYNC_LOG_MAX; i++)
        if (fnmatch(pattern, sync_log[i], 0) == 0)
            return i;
    return -1;
}

/* 19 */
Test(weaknesses_life, a_new_file_and_its_directory_are_synced_before_it_is_used)
{
    faultos_install();
    faultos_on_sync(note_sync, NULL);
    s.options.fsync = WALRUS_FSYNC_EACH;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    int made = sync_find("wal_*", 0); /* with its metadata, before it has its name */
    CHECK(made >= 0);
    CHECK(fnmatch("*.tmp", sync_log[made], 0) == 0);
    int named = sync_find(strrchr(s.dir, '/') + 1, made + 1);
    CHECK(named > made);
    CHECK(sync_find("wal_*", named + 1) > named);
    rig_close(&s);
    faultos_remove();
}

/* 20 */
Test(weaknesses_life, a_failed_rewrite_of_metadata_leaves_the_old_in_use)
{
    uint8_t attr[WALRUS_ATTR_SIZE] = {0}, found[WALRUS_ATTR_SIZE];

    faultos_install();
    rig_open(&s);
    rig_append(&s, "kept", 0, 100);
    struct walrus_topic *topic = rig_topic(&s, "t");
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY_SYNC,
                                       .nth = 1,
                                       .error = EIO,
                                       .forever = true,
                                       .file = "topics.db.tmp"});
    for (unsigned i = 0; i < 7000; i++) {
        memcpy(attr, &i, sizeof(i));
        CHECK_INT(walrus_topic_set_attr(topic, attr), 0);
    }
    CHECK(faultos_failed_count() > 0);
    walrus_topic_unref(topic);
    faultos_disarm();
    rig_kill(&s);
    topic = rig_topic(&s, "t");
    walrus_topic_attr(topic, found);
    CHECK(memcmp(attr, found, sizeof(attr)) == 0);
    walrus_topic_unref(topic);
    rig_expect(&s, "kept", 0, 100);
    rig_close(&s);
    faultos_remove();
}

/* 21 */
Test(weaknesses_life, left_over_temporary_files_are_no_obstacle)
{
    const char *names[] = {"wal_00000001.log.tmp", "wal_1.log.tmp",
                           "wal_7.log.tmp",        "SUPER.tmp",
                           "topics.db.tmp",        "read_offset_idx_index.db.tmp",
                           "read_offset.tmp"};

    rig_open(&s);
    rig_append_many(&s, "t", 0, 100, 1000);
    rig_close(&s);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        dir_write(s.dir, names[i], "0123456789abcdef", 16);
    rig_open(&s);
    rig_append_many(&s, "t", 100, 1000, 1000);
    rig_expect_many(&s, "t", 0, 1100, 1000);
}

Test(weaknesses_life, a_left_over_file_that_cannot_be_removed_is_no_obstacle_either)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 1000);
    rig_close(&s);
    dir_write(s.dir, "wal_0007.log.tmp", "0123456789abcdef", 16);
    faultos_install();
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_UNLINK, .nth = 1, .error = EPERM, .file = "wal_0007.log.tmp"});
    rig_open(&s);
    CHECK_INT(faultos_failed_count(), 1);
    CHECK(rig_reported(&s, "wal_0007.log.tmp: cannot be removed"));
    rig_expect(&s, "t", 0, 1000);
    rig_close(&s);
    faultos_remove();
}

/* 22 */
Test(weaknesses_life, an_entry_whose_offset_cannot_be_stored_is_not_handed_out)
{
    struct walrus_entry entry;

    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 100);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY_SYNC,
                                       .nth = 1,
                                       .error = EIO,
                                       .forever = true,
                                       .file = "read_offset_idx_index.db"});
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EIO);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = NULL;
    int rc = walrus_group_claim(group, 1, SIZE_MAX, &reader);
    if (rc == 0) {
        uint8_t byte;
        CHECK_INT(walrus_reader_read(reader, &byte, 1, 0, NULL), -EIO);
        (void)walrus_reader_close(reader);
    } else {
        CHECK_INT(rc, -EIO);
    }
    walrus_group_unref(group);
    rig_close_degraded(&s);
    faultos_remove();
}

/* 23, G */
Test(weaknesses_life, taking_an_entry_costs_one_small_sync_however_many_topics_there_are)
{
    char name[16];

    faultos_install();
    s.options.fsync_ms = 3600000;
    rig_open(&s);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(name, sizeof(name), "t%u", i);
        rig_append_many(&s, name, 0, 2, 100);
        rig_expect(&s, name, 0, 100);
    }
    rig_append_many(&s, "t7", 2, 50, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    uint64_t syncs = faultos_count(FAULTOS_ANY_SYNC);
    rig_expect_many(&s, "t7", 1, 51, 100);
    syncs = faultos_count(FAULTOS_ANY_SYNC) - syncs;
    CHECK(syncs >= 51 && syncs <= 51 + 4);
    rig_close(&s);
    faultos_remove();
}

/* 24 */
Test(weaknesses_life, offsets_that_cannot_be_read_are_not_taken_for_none)
{
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 3, 100);
    rig_close(&s);
    const char *files[] = {"read_offset_idx_index.db", "topics.db", "SUPER"};
    for (size_t i = 0; i < 3; i++) {
        faultos_arm(&(struct faultos_rule){
            .kind = FAULTOS_READ, .nth = 1, .error = EIO, .forever = true, .file = files[i]});
        CHECK_INT(rig_try_open(&s), -EIO);
        faultos_disarm();
    }
    rig_open(&s);
    rig_expect_many(&s, "t", 3, 2, 100);
    rig_close(&s);
    faultos_remove();
}

/* 25 */
Test(weaknesses_life, opening_reads_a_fraction_of_the_data)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2000, 4000);
    rig_close(&s);
    faultos_install();
    rig_open(&s);
    CHECK(faultos_read_bytes("*") < 2000 * 4000 / 3);
    CHECK(faultos_read_bytes_max("wal_*.log") <= 65536);
    rig_expect(&s, "t", 0, 4000);
    rig_close(&s);
    faultos_remove();
}

/* -------------------------------------------------------------------------------- life (26 to 31)
 * -- */

/* 26, C */
Test(weaknesses_life, restarts_add_no_log_file)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    unsigned files = dir_file_count(s.dir, ".log");
    for (uint64_t turn = 1; turn < 8; turn++) {
        if (turn % 2 != 0)
            rig_reopen(&s);
        else
            rig_kill(&s);
        rig_append(&s, "t", turn, 100);
    }
    CHECK(dir_file_count(s.dir, ".log") <= files + 1);
    rig_expect_many(&s, "t", 0, 8, 100);
}

/* 27 */
Test(weaknesses_life, two_stores_in_one_process_do_not_touch_each_other)
{
    struct rig other;

    rig_open(&s);
    rig_init(&other);
    rig_open(&other);
    for (uint64_t seq = 0; seq < 1000; seq++) {
        rig_append(&s, "t", seq, 1000);
        rig_append(&other, "t", seq, 1000);
    }
    rig_expect_many(&s, "t", 0, 1000, 1000);
    CHECK_SOON(rig_topic_stat(&s, "t").first_seq > 800);
    CHECK_INT(rig_topic_stat(&other, "t").first_seq, 0);
    rig_reopen(&other);
    rig_close(&s);
    rig_expect_many(&other, "t", 0, 1000, 1000);
    rig_fini(&other);
}

/* Lines of a file in /proc/self that mention a log file that was deleted. */
static unsigned count_deleted_maps(void)
{
    char line[PATH_MAX + 128];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");

    CHECK(maps != NULL);
    while (fgets(line, sizeof(line), maps) != NULL)
        count += strstr(line, "wal_") != NULL && strstr(line, "(deleted)") != NULL;
    CHECK_INT(fclose(maps), 0);
    return count;
}

/* Entries of a directory. */
static unsigned count_names(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    CHECK_INT(closedir(dir), 0);
    return count;
}

/* 28 */
Test(weaknesses_life, a_removed_file_is_neither_mapped_nor_open)
{
    rig_open(&s);
    unsigned fds = count_names("/proc/self/fd");
    rig_append_many(&s, "t", 0, 3000, 1000);
    rig_expect_many(&s, "t", 0, 3000, 1000);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= 4);
    CHECK_SOON(count_deleted_maps() == 0);
    CHECK(count_names("/proc/self/fd") <= fds + 4);
}

/* 29 */
Test(weaknesses_life, the_clock_decides_neither_names_nor_order)
{
    struct walrus_topic *topic;
    const uint64_t times[] = {4000000000000000000, 1, 2000000000000000000, 5};

    rig_open(&s);
    topic = rig_topic(&s, "t");
    for (uint64_t seq = 0; seq < 2000; seq++) {
        uint8_t data[1000];
        struct iovec entry = {data, sizeof(data)};
        struct walrus_append_options options = {.time_ns = &times[seq % 4]};
        payload_fill(s.seed, "t", seq, data, sizeof(data));
        CHECK_INT(walrus_topic_append(topic, &entry, 1, &options, NULL), 0);
    }
    walrus_topic_unref(topic);
    DIR *dir = opendir(s.dir);
    CHECK(dir != NULL);
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        unsigned number;
        if (sscanf(item->d_name, "wal_%u.log", &number) == 1)
            CHECK(number >= 1 && number < 50);
    }
    CHECK_INT(closedir(dir), 0);
    rig_kill(&s);
    rig_expect_many(&s, "t", 0, 2000, 1000);
}

/* 30, I */
Test(weaknesses_life, a_second_opener_is_refused_and_the_first_unharmed)
{
    struct walrus *second = NULL;
    struct walrus_options options;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    options = s.options;
    CHECK_INT(walrus_open(s.dir, &options, &second), -EBUSY);
    rig_append(&s, "t", 1, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
}

/* 31 */
Test(weaknesses_life, closing_ends_all_threads_and_flushes_what_was_not_synced)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    unsigned threads = count_names("/proc/self/task"), fds = count_names("/proc/self/fd");
    for (uint64_t turn = 0; turn < 5; turn++) {
        rig_open(&s);
        CHECK_INT(rig_topic_stat(&s, "t").durable_seq, turn);
        rig_append(&s, "t", turn, 100);
        rig_close(&s);
        CHECK_INT(count_names("/proc/self/task"), threads);
        CHECK_INT(count_names("/proc/self/fd"), fds);
    }
}

/* -------------------------------------------------------------------------- concurrency (32 to 34)
 * -- */

static atomic_bool creation_is_held, creation_may_go_on;

static void hold_creation(void *arg, const char *file)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", (const char *)arg, file);
    if (fnmatch("wal_*.tmp", file, 0) == 0 && access(path, F_OK) == 0) {
        atomic_store(&creation_is_held, true);
        while (!atomic_load(&creation_may_go_on))
            sleep_ms(1);
    }
}

static void *append_a_lot(void *arg)
{
    (void)arg;
    rig_append_many(&s, "busy", 0, 12, 60000);
    return NULL;
}

/* 32 */
Test(weaknesses_life, making_a_file_does_not_hold_up_other_topics)
{
    pthread_t thread;

    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_expect(&s, "t", 0, 100);
    faultos_on_sync(hold_creation, s.dir);
    CHECK_INT(pthread_create(&thread, NULL, append_a_lot, NULL), 0);
    CHECK_SOON(atomic_load(&creation_is_held));
    rig_append_many(&s, "t", 1, 10, 100); /* for ever, if they wait for the creation */
    rig_expect_many(&s, "t", 1, 10, 100);
    atomic_store(&creation_may_go_on, true);
    CHECK_INT(pthread_join(thread, NULL), 0);
    faultos_on_sync(NULL, NULL);
    rig_close(&s);
    faultos_remove();
}

static atomic_bool removal_is_held, removal_may_go_on;

static void hold_removal(void *arg, const char *file)
{
    if (strcmp(file, arg) == 0) {
        atomic_store(&removal_is_held, true);
        while (!atomic_load(&removal_may_go_on))
            sleep_ms(1);
    }
}

Test(weaknesses_life, removing_files_holds_up_nobody_who_needs_a_block)
{
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4 * RIG_BLOCKS_PER_FILE, 60000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_on_sync(hold_removal, strrchr(s.dir, '/') + 1);
    rig_expect_many(&s, "t", 0, 4 * RIG_BLOCKS_PER_FILE, 60000);
    CHECK_SOON(atomic_load(&removal_is_held));
    CHECK(rig_stat(&s).free_block_count > 0); /* for ever, if they wait for the removal */
    rig_append(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 60000);
    atomic_store(&removal_may_go_on, true);
    rig_expect(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 60000);
    faultos_on_sync(NULL, NULL);
    rig_close(&s);
    faultos_remove();
}

static atomic_bool batches_done;

static void *append_batches(void *arg)
{
    (void)arg;
    for (uint64_t batch = 0; batch < 60; batch++)
        CHECK_INT(rig_try_batch(&s, "t", batch * 10, 10, 9000), 0);
    atomic_store(&batches_done, true);
    return NULL;
}

/* 33 */
Test(weaknesses_life, a_batch_is_seen_whole_or_not_at_all)
{
    pthread_t thread;

    rig_open(&s);
    struct walrus_topic *topic = rig_topic(&s, "t");
    CHECK_INT(pthread_create(&thread, NULL, append_batches, NULL), 0);
    while (!atomic_load(&batches_done)) {
        struct walrus_topic_stat stat;
        struct walrus_entry entry;
        walrus_topic_stat(topic, &stat);
        CHECK_INT(stat.tail_seq % 10, 0);
        CHECK_INT(stat.bytes, stat.tail_seq * 9000);
        if (stat.tail_seq > 0) {
            CHECK_INT(walrus_read_at(s.walrus, "t", stat.tail_seq - 1, &entry), 0);
            CHECK(payload_same(s.seed, "t", entry.seq, entry.data, entry.size));
            free(entry.data);
        }
    }
    CHECK_INT(pthread_join(thread, NULL), 0);
    walrus_topic_unref(topic);
    rig_expect_many(&s, "t", 0, 600, 9000);
}

/* 34 */
Test(weaknesses_life, an_offset_is_never_ahead_of_the_data_that_it_counts)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    faultos_on_sync(note_sync, NULL);
    rig_expect(&s, "t", 0, 100);
    int data = sync_find("wal_*", 0), offset = sync_find("read_offset_idx_index.db", 0);
    CHECK(data >= 0);
    CHECK(offset > data);
    CHECK(rig_topic_stat(&s, "t").durable_seq >= 1);
    rig_close(&s);
    faultos_remove();
}

/* 34, of offsets that are stored later than what they count was read */
Test(weaknesses_life, an_offset_at_least_once_is_not_ahead_of_the_data_either)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    s.options.consistency = WALRUS_AT_LEAST_ONCE;
    s.options.persist_every = 1000;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 4, 100);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 0);
    struct walrus_group *group = rig_group(&s, "t", "default");
    faultos_on_sync(note_sync, NULL);
    CHECK_INT(walrus_group_sync(group), 0);
    int data = sync_find("wal_*", 0), offset = sync_find("read_offset_idx_index.db", 0);
    CHECK(data >= 0);
    CHECK(offset > data);
    CHECK(rig_topic_stat(&s, "t").durable_seq >= 4);
    walrus_group_unref(group);
    rig_close(&s);
    faultos_remove();
}
