/* SPDX-License-Identifier: MIT */
/*
 * test_regressions.c - faults that the random programs of stress/model.c once found, each as the
 * shortest story that shows it.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faultos.h"
#include "os.h"
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

TestSuite(regressions, .init = setup, .fini = teardown, .timeout = 300);

/* A store whose last batch, entries `first` and `first` + 1, is torn: its second half is bad. */
static void make_torn_batch(uint64_t first, struct rig *ret_torn)
{
    struct place place;

    CHECK_INT(rig_try_batch(&s, "t", first, 2, 1000), 0);
    rig_copy(&s, ret_torn);
    rig_find(ret_torn, "t", first + 1, 1000, &place);
    place_flip(&place, 0);
}

/* Opens the store that a torn batch at `seq` was dropped from, appends another entry with that
 * number, durably, and expects it to survive a loss of power that takes all that may go. */
static void expect_to_survive(struct rig *torn, uint64_t seq, size_t size)
{
    struct rig cut;
    uint64_t random = 1;

    powercut_install(torn->dir, NULL);
    rig_open(torn);
    CHECK_INT(rig_topic_stat(torn, "t").tail_seq, seq);
    torn->seed++; /* so that it is not taken for what was dropped */
    rig_append(torn, "t", seq, size);
    CHECK_INT(walrus_sync(torn->walrus), 0);
    rig_init(&cut);
    cut.seed = torn->seed;
    powercut_write(cut.dir, POWERCUT_DURABLE, 0, &random);
    rig_close(torn);
    powercut_remove();

    rig_open(&cut);
    CHECK_INT(rig_topic_stat(&cut, "t").tail_seq, seq + 1);
    rig_expect_at(&cut, "t", seq, size);
    CHECK_INT(rig_topic_stat(&cut, "t").damaged_count, 0);
    rig_fini(&cut);
}

Test(regressions, a_dropped_batch_does_not_come_back_before_an_entry_of_several_blocks)
{
    struct rig torn;

    rig_open(&s);
    make_torn_batch(0, &torn);
    expect_to_survive(&torn, 0, 2 * RIG_BLOCK_SIZE);
    rig_fini(&torn);
}

Test(regressions, a_dropped_batch_does_not_come_back_before_an_entry_in_the_next_block)
{
    struct rig torn;

    rig_open(&s);
    rig_append(&s, "t", 0, 40000);
    make_torn_batch(1, &torn);
    expect_to_survive(&torn, 1, 30000);
    rig_fini(&torn);
}

Test(regressions, an_entry_of_several_blocks_that_lacks_a_middle_part_is_dropped)
{
    struct rig killed;
    struct place place;
    size_t size = 4 * RIG_BLOCK_SIZE;

    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_MSYNC, .nth = 1, .error = EIO, .forever = true});
    rig_append(&s, "t", 1, size); /* so that it is never known to be durable */
    rig_copy(&s, &killed);
    CHECK_INT(walrus_close(s.walrus), -EIO);
    s.walrus = NULL;
    faultos_remove();
    uint8_t *data = payload_make(&s, "t", 1, size);
    CHECK(dir_find(killed.dir, data + 2 * RIG_ENTRY_EDGE, 64, &place));
    free(data);
    place_flip(&place, 0);
    rig_open(&killed);
    CHECK_INT(rig_topic_stat(&killed, "t").tail_seq, 1);
    CHECK_INT(rig_topic_stat(&killed, "t").damaged_count, 0);
    rig_expect(&killed, "t", 0, 100);
    rig_append(&killed, "t", 1, 200);
    rig_expect(&killed, "t", 1, 200);
    rig_fini(&killed);
}

struct images {
    struct rig killed, durable;
    bool made;
};

static void make_images(void *arg)
{
    struct images *images = arg;
    uint64_t random = 1;

    powercut_write(images->killed.dir, POWERCUT_KILL, 0, &random);
    powercut_write(images->durable.dir, POWERCUT_DURABLE, 0, &random);
    images->made = true;
}

/* Two entries in a block each, in a file each; at the nth change after the first append the power
 * goes, and takes from the first file all that it may, from the second nothing.  False: there were
 * fewer changes. */
static bool cut_second_append(uint64_t nth)
{
    struct images images = {.made = false};
    char from[RIG_DIR_SIZE * 2], to[RIG_DIR_SIZE * 2];

    rig_init(&images.killed);
    rig_init(&images.durable);
    images.killed.options.blocks_per_file = s.options.blocks_per_file = 1;
    powercut_install(s.dir, NULL);
    rig_open(&s);
    rig_append(&s, "t", 0, 60000);
    powercut_arm(nth, make_images, &images);
    rig_append(&s, "t", 1, 60000);
    rig_close(&s);
    powercut_remove();
    if (images.made) {
        snprintf(from, sizeof(from), "%s/wal_0001.log", images.durable.dir);
        snprintf(to, sizeof(to), "%s/wal_0001.log", images.killed.dir);
        CHECK_INT(rename(from, to), 0);
        rig_open(&images.killed);
        CHECK_INT(rig_topic_stat(&images.killed, "t").first_seq, 0);
        if (rig_topic_stat(&images.killed, "t").tail_seq > 0)
            rig_expect(&images.killed, "t", 0, 60000);
    }
    rig_fini(&images.killed);
    rig_fini(&images.durable);
    return images.made;
}

Test(regressions, entries_never_survive_without_those_before_them)
{
    for (uint64_t nth = 1; nth < 20 && cut_second_append(nth); nth++) {
        rig_fini(&s);
        setup();
    }
}

Test(regressions, an_empty_entry_is_consumed_with_its_bytes_whatever_was_read_before)
{
    uint8_t data[10];

    rig_open(&s);
    rig_append(&s, "t", 0, 0);
    rig_append(&s, "t", 1, 10);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 2);
    CHECK_INT(walrus_reader_read(reader, data, 2, 5, NULL), 2);
    CHECK_INT(walrus_reader_read(reader, data, 10, 0, NULL), 10);
    CHECK_INT(walrus_reader_close(reader), 0);
    rig_expect_empty(&s, "t");
    walrus_group_unref(group);
}

Test(regressions, a_claimed_empty_entry_can_be_closed_after_its_group_was_removed)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 0);
    walrus_group_unref(rig_group(&s, "t", "other"));
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    CHECK_INT(walrus_group_remove(group), 0);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
}

Test(regressions, a_log_file_whose_name_was_never_synced_is_not_used_before_it_is)
{
    struct rig cut;
    uint64_t random = 1;
    char path[RIG_DIR_SIZE * 2];

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    struct rig killed, durable;
    rig_copy(&s, &killed);
    rig_copy(&s, &durable); /* as the first, but for the name of the log file */
    snprintf(path, sizeof(path), "%s/wal_0001.log", durable.dir);
    CHECK_INT(unlink(path), 0);

    powercut_install(killed.dir, durable.dir);
    rig_open(&killed);
    CHECK_INT(walrus_sync(killed.walrus), 0);
    rig_init(&cut);
    powercut_write(cut.dir, POWERCUT_DURABLE, 0, &random);
    rig_close(&killed);
    powercut_remove();
    rig_open(&cut);
    rig_expect_at(&cut, "t", 0, 100);
    rig_fini(&cut);
    rig_fini(&killed);
    rig_fini(&durable);
}

/* A crash between the syncs of the two copies, or a bad sector, leaves one.  What is durable in the
 * block from the next opening on must not hang on that one alone. */
Test(regressions, a_block_with_one_copy_of_its_entry_left_has_two_after_the_next_opening)
{
    static const uint8_t zeros[128];
    char path[PATH_MAX];

    for (uint32_t lost = 0; lost < 2; lost++) {
        struct rig rig, copy;
        rig_init(&rig);
        rig_open(&rig);
        rig_append_many(&rig, "t", 0, 3, 100);
        rig_close(&rig);
        snprintf(path, sizeof(path), "%s/wal_0001.log", rig.dir);
        disk_write(path, lost == 0 ? 4096 : 32768, zeros, sizeof(zeros));
        rig_open(&rig);
        rig_copy(&rig, &copy);
        snprintf(path, sizeof(path), "%s/wal_0001.log", copy.dir);
        disk_write(path, lost == 0 ? 32768 : 4096, zeros, sizeof(zeros));
        rig_open(&copy);
        rig_expect_many(&copy, "t", 0, 3, 100);
        rig_fini(&copy);
        rig_fini(&rig);
    }
}

/* SUPER then said that all was durable, and vouched for what may not have been on the disk. */
Test(regressions, a_store_whose_registry_could_not_be_synced_is_not_closed_as_clean)
{
    struct walrus_topic *topic = NULL;

    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .file = "topics.db"});
    CHECK_INT(walrus_topic_create(s.walrus, "u", NULL, NULL, &topic), -EIO);
    struct walrus *walrus = s.walrus;
    s.walrus = NULL;
    CHECK_INT(walrus_close(walrus), -EIO);
    faultos_remove();
    unsigned errors = rig_reports(&s, WALRUS_ERROR);
    rig_open(&s);
    CHECK_INT(rig_reports(&s, WALRUS_ERROR), errors); /* nothing is wrong with what is there */
    rig_expect(&s, "t", 0, 100);
}

Test(regressions, a_log_file_that_was_removed_under_the_store_is_told_when_it_is_closed)
{
    char path[RIG_DIR_SIZE * 2];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    snprintf(path, sizeof(path), "%s/wal_0001.log", s.dir);
    CHECK_INT(unlink(path), 0);
    rig_append_many(&s, "t", 3, 3, 100);
    rig_expect_many(&s, "t", 0, 6, 100);
    struct walrus *walrus = s.walrus;
    s.walrus = NULL;
    CHECK_INT(walrus_close(walrus), -EIO);
    CHECK(rig_reported(&s, "wal_0001.log was removed while the store was open"));
}

/* ------------------------------------------------------------------ registry, made shorter -- */

static void change_topic_create(struct walrus_topic *topic)
{
    (void)topic;
    rig_append(&s, "new", 0, 100);
}

static void check_topic_create(void)
{
    rig_expect(&s, "new", 0, 100);
}

static void change_topic_remove(struct walrus_topic *topic)
{
    rig_expect_many(&s, "t", 0, 3, 100);
    CHECK_INT(walrus_topic_remove(topic), 0);
}

static void check_topic_remove(void)
{
    struct walrus_topic *topic;
    CHECK_INT(walrus_topic_find(s.walrus, "t", &topic), -ENOENT);
}

static void change_topic_rename(struct walrus_topic *topic)
{
    CHECK_INT(walrus_topic_rename(topic, "new"), 0);
}

static void check_topic_rename(void)
{
    CHECK_INT(rig_topic_stat(&s, "new").tail_seq, 3);
    check_topic_remove();
}

static void change_limit(struct walrus_topic *topic)
{
    CHECK_INT(walrus_topic_set_limit(topic, 7654321), 0);
}

static void check_limit(void)
{
    CHECK_INT(rig_topic_stat(&s, "t").limit, 7654321);
}

static void change_group_create(struct walrus_topic *topic)
{
    struct walrus_group *group;
    CHECK_INT(walrus_group_create(topic, "new", NULL, &group), 0);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 2), 0);
    walrus_group_unref(group);
}

static void check_group_create(void)
{
    CHECK_INT(rig_group_stat(&s, "t", "new").offset, 2);
}

static void change_group_rename(struct walrus_topic *topic)
{
    struct walrus_group *group = rig_group(&s, "t", "more");
    (void)topic;
    CHECK_INT(walrus_group_rename(group, "new"), 0);
    walrus_group_unref(group);
}

static void check_group_gone(void)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_group *group;
    CHECK_INT(walrus_group_find(topic, "more", &group), -ENOENT);
    walrus_topic_unref(topic);
}

static void check_group_rename(void)
{
    CHECK_INT(rig_group_stat(&s, "t", "new").offset, 0);
    check_group_gone();
}

static void change_group_remove(struct walrus_topic *topic)
{
    struct walrus_group *group = rig_group(&s, "t", "more");
    (void)topic;
    CHECK_INT(walrus_group_remove(group), 0);
    walrus_group_unref(group);
}

static void change_attr(struct walrus_topic *topic)
{
    static const uint8_t attr[WALRUS_ATTR_SIZE] = {7};
    (void)topic;
    CHECK_INT(walrus_set_attr(s.walrus, attr), 0);
}

static void check_attr(void)
{
    uint8_t attr[WALRUS_ATTR_SIZE];
    walrus_attr(s.walrus, attr);
    CHECK_INT(attr[0], 7);
}

/* The change after which it was rewritten was not in what was written: a topic was gone at the next
 * start, or back.  One with a damaged header is rewritten at once; else it takes a MiB. */
Test(regressions, the_change_at_which_the_registry_is_made_shorter_is_kept)
{
    static const struct {
        void (*change)(struct walrus_topic *topic);
        void (*check)(void);
    } changes[] = {
        {change_topic_create, check_topic_create}, {change_topic_remove, check_topic_remove},
        {change_topic_rename, check_topic_rename}, {change_limit, check_limit},
        {change_group_create, check_group_create}, {change_group_rename, check_group_rename},
        {change_group_remove, check_group_gone},   {change_attr, check_attr},
    };
    char path[RIG_DIR_SIZE * 2];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct walrus_group *group;
        struct stat before, after;
        rig_open(&s);
        rig_append_many(&s, "t", 0, 3, 100);
        struct walrus_topic *topic = rig_topic(&s, "t");
        CHECK_INT(walrus_group_create(topic, "more", NULL, &group), 0);
        if (changes[i].change == change_topic_remove)
            CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
        walrus_group_unref(group);
        walrus_topic_unref(topic);
        rig_close(&s);
        snprintf(path, sizeof(path), "%s/topics.db", s.dir);
        disk_write(path, 100, "damaged!", 8);
        rig_open(&s);
        CHECK_INT(stat(path, &before), 0);
        topic = rig_topic(&s, "t");
        changes[i].change(topic);
        walrus_topic_unref(topic);
        CHECK_INT(stat(path, &after), 0);
        CHECK(before.st_ino != after.st_ino);
        unsigned errors = rig_reports(&s, WALRUS_ERROR);
        CHECK_INT(errors, 1); /* the header */
        rig_reopen(&s);
        CHECK_INT(rig_reports(&s, WALRUS_ERROR), errors);
        changes[i].check();
        rig_fini(&s);
        setup();
    }
}

/* ------------------------------------------------------------------------- two at one time -- */

static const char
    *overtaken_at; /* the name at whose opening somebody else is quicker; NULL: none */

/* Somebody makes the store, stores an entry and closes it, just before the file is opened here. */
static int overtaken_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    if (overtaken_at != NULL && strcmp(name, overtaken_at) == 0) {
        struct walrus *other;
        overtaken_at = NULL;
        CHECK_INT(walrus_open(s.dir, &s.options, &other), 0);
        CHECK_INT(walrus_append(other, "t", "theirs", 6), 0);
        CHECK_INT(walrus_close(other), 0);
    }
    return os_system.openat(dirfd, name, flags, mode);
}

Test(regressions, who_is_overtaken_while_making_a_store_uses_the_one_that_was_made)
{
    static const char *const names[] = {".", "LOCK"};
    struct os_ops ops = os_system;
    struct walrus_entry entry;

    ops.openat = overtaken_openat;
    os = &ops;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        overtaken_at = names[i];
        rig_open(&s);
        CHECK(overtaken_at == NULL);
        CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
        CHECK(entry.size == 6 && memcmp(entry.data, "theirs", 6) == 0);
        free(entry.data);
        CHECK_INT(rig_reports(&s, WALRUS_ERROR), 0);
        rig_fini(&s);
        setup();
    }
    os = &os_system;
}

/* ------------------------------------------------------------------------------- a full disk -- */

/* Where the process has the file of that name mapped. */
static char *mapping_of(const char *name)
{
    char line[1024];
    void *start = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");

    CHECK(maps != NULL);
    while (start == NULL && fgets(line, sizeof(line), maps) != NULL)
        if (strstr(line, name) != NULL)
            CHECK_INT(sscanf(line, "%p", &start), 1);
    fclose(maps);
    CHECK(start != NULL);
    return start;
}

Test(regressions, a_store_that_faults_although_its_space_is_there_is_made_by_a_write)
{
    char path[RIG_DIR_SIZE * 2];

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    snprintf(path, sizeof(path), "%s/wal_0001.log", s.dir);
    char *page = mapping_of(path) + 65536;
    int file = open(path, O_RDWR | O_CLOEXEC), empty = memfd_create("empty", MFD_CLOEXEC);
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
    CHECK(mmap(page, 4096, prot, flags, empty, 0) == page); /* any touch of it is SIGBUS */
    rig_append(&s, "t", 1, 100);
    CHECK_INT(rig_try_batch(&s, "t", 2, 3, 100), 0);
    CHECK(mmap(page, 4096, prot, flags, file, 65536) == page);
    close(empty);
    close(file);
    rig_expect_many(&s, "t", 0, 5, 100);
}

Test(regressions, a_full_disk_does_not_keep_a_store_from_being_opened_for_the_number_in_its_lock)
{
    char path[RIG_DIR_SIZE * 2];
    struct stat before, after;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    snprintf(path, sizeof(path), "%s/LOCK", s.dir);
    CHECK_INT(stat(path, &before), 0);
    faultos_install();
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 1, .error = EIO, .file = "LOCK"});
    CHECK_INT(rig_try_open(&s), -EIO);
    CHECK_INT(stat(path, &after), 0);
    CHECK_INT(after.st_size, before.st_size); /* its place was not given up before */
    faultos_disarm();
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 1, .error = ENOSPC, .file = "LOCK"});
    rig_open(&s);
    rig_expect(&s, "t", 0, 100);
    rig_close(&s);
    faultos_remove();
}
