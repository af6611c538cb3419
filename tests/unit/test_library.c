/* SPDX-License-Identifier: MIT */
/*
 * test_library.c - opening and closing a store: schedules of syncs, options, namespaces, the
 * environment.  What is refused is in test_refusals.c.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"

static struct rig s;

static void setup(void)
{
    unsetenv("WALRUS_DATA_DIR");
    unsetenv("WALRUS_INSTANCE_KEY");
    unsetenv("WALRUS_QUIET");
    rig_init(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(library, .init = setup, .fini = teardown, .timeout = 300);

/* -------------------------------------------------------------------------------- durability -- */

Test(library, zero_options_mean_strict_a_sync_each_second_and_blocks_of_10_mib)
{
    s.options.block_size = 0;
    s.options.blocks_per_file = 0;
    rig_open(&s);
    CHECK_INT(rig_stat(&s).block_size, 10u << 20);
    CHECK_INT(rig_stat(&s).blocks_per_file, 100);
    CHECK(!walrus_fsync_each(s.walrus));

    rig_append_many(&s, "t", 0, 2, 100);
    CHECK_SOON(rig_topic_stat(&s, "t").durable_seq == 2);
    rig_expect(&s, "t", 0, 100);
    struct rig killed;
    rig_copy(&s, &killed);
    rig_open(&killed);
    rig_expect(&killed, "t", 1, 100);
    rig_fini(&killed);
}

Test(library, null_options_are_zero_options)
{
    CHECK_INT(walrus_open(s.dir, NULL, &s.walrus), 0);
    CHECK_INT(rig_stat(&s).block_size, 10u << 20);
}

Test(library, fsync_each_makes_an_entry_durable_before_append_returns)
{
    s.options.fsync = WALRUS_FSYNC_EACH;
    rig_open(&s);
    CHECK(walrus_fsync_each(s.walrus));
    for (uint64_t seq = 0; seq < 20; seq++) {
        rig_append(&s, "t", seq, 100);
        CHECK_INT(rig_topic_stat(&s, "t").durable_seq, seq + 1);
    }
}

Test(library, fsync_ms_makes_an_entry_durable_by_itself)
{
    s.options.fsync_ms = 20;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(rig_topic_stat(&s, "t").durable_seq == 1);
    CHECK(rig_stat(&s).sync_count >= 1);
}

Test(library, fsync_ms_leaves_the_disk_alone_before_its_time)
{
    s.options.fsync_ms = 3600000;
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    sleep_ms(200);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 0);
}

Test(library, fsync_never_waits_for_an_explicit_sync)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    rig_append_many(&s, "u", 0, 3, 100);
    sleep_ms(200);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 0);

    struct walrus_topic *topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_sync(topic), 0);
    walrus_topic_unref(topic);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 3);
    CHECK_INT(walrus_sync(s.walrus), 0);
    CHECK_INT(rig_topic_stat(&s, "u").durable_seq, 3);
}

Test(library, durable_in_one_append_overrides_the_schedule)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_append_options durable = {.durable = true};
    struct iovec entry = {.iov_base = (void *)"x", .iov_len = 1};
    uint64_t seq = 99;
    CHECK_INT(walrus_topic_append(topic, &entry, 1, &durable, &seq), 0);
    CHECK_INT(seq, 0);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 1);
    walrus_topic_unref(topic);
}

Test(library, close_makes_everything_durable_and_reopening_finds_it)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 300, 1000);
    rig_reopen(&s);
    struct walrus_topic_stat stat = rig_topic_stat(&s, "t");
    CHECK_INT(stat.durable_seq, 300);
    CHECK_INT(stat.tail_seq, 300);
    CHECK_INT(stat.bytes, 300 * 1000);
    rig_expect_many(&s, "t", 0, 300, 1000);
    rig_expect_empty(&s, "t");
}

/* ----------------------------------------------------------------------------------- options -- */

Test(library, options_out_of_range_are_einval)
{
    const struct {
        const char *name;
        struct walrus_options options;
    } cases[] = {
        {"consistency", {.consistency = (enum walrus_consistency)7}},
        {"fsync", {.fsync = (enum walrus_fsync)9}},
        {"fsync_ms", {.fsync_ms = 3600001}},
        {"block_size under 64 KiB", {.block_size = 61440}},
        {"block_size not of pages", {.block_size = 65536 + 512}},
        {"block_size over 64 MiB", {.block_size = (64u << 20) + 4096}},
        {"blocks_per_file", {.blocks_per_file = 225}},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct walrus *walrus = NULL;
        int rc = walrus_open(s.dir, &cases[i].options, &walrus);
        if (rc != -EINVAL)
            fprintf(stderr, "%s\n", cases[i].name);
        CHECK_INT(rc, -EINVAL);
        CHECK(walrus == NULL);
    }
    CHECK_INT(dir_file_count(s.dir, ""), 0);
}

Test(library, sizes_of_an_existing_store_win_over_the_options)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    s.options.block_size = 131072;
    s.options.blocks_per_file = 9;
    rig_open(&s);
    CHECK_INT(rig_stat(&s).block_size, RIG_BLOCK_SIZE);
    CHECK_INT(rig_stat(&s).blocks_per_file, RIG_BLOCKS_PER_FILE);
    rig_expect(&s, "t", 0, 100);
}

Test(library, a_key_is_a_namespace_of_its_own)
{
    struct rig other = s;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    other.options.key = "orders-2.x_y";
    other.options.report = NULL;
    rig_open(&other);
    rig_expect_empty(&other, "t");
    rig_append(&other, "t", 0, 200);
    rig_expect(&s, "t", 0, 100);
    rig_reopen(&other);
    rig_expect(&other, "t", 0, 200);
    rig_close(&other);

    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/orders-2.x_y/SUPER", s.dir);
    CHECK_INT(access(path, F_OK), 0);
}

Test(library, bytes_that_a_key_may_not_hold_become_underscores)
{
    char path[PATH_MAX];

    s.options.key = "a/b c\xc3\xa9";
    rig_open(&s);
    snprintf(path, sizeof(path), "%s/a_b_c__/SUPER", s.dir);
    CHECK_INT(access(path, F_OK), 0);
}

Test(library, a_key_never_leads_out_of_the_directory)
{
    const char *keys[] = {"..", ".", "../x", "../../tmp/x"};
    char inner[PATH_MAX];

    dir_make(s.dir, "inner");
    snprintf(inner, sizeof(inner), "%s/inner", s.dir);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct walrus_options options = s.options;
        struct walrus *walrus = NULL;
        options.key = keys[i];
        if (walrus_open(inner, &options, &walrus) == 0)
            CHECK_INT(walrus_close(walrus), 0);
        CHECK_INT(dir_file_count(s.dir, ""), 0); /* nothing beside inner */
        CHECK_INT(dir_file_count(inner, "SUPER"), 0);
    }
}

Test(library, says_what_is_wrong_with_the_name_of_a_store)
{
    static char longest[PATH_MAX + 100];
    struct walrus_options options = s.options;
    struct walrus *walrus;
    char path[PATH_MAX];

    memset(longest, 'x', sizeof(longest) - 1);
    CHECK_INT(walrus_open(longest, &options, &walrus), -ENAMETOOLONG);
    CHECK_INT(walrus_open("", &options, &walrus), -ENOENT);
    snprintf(path, sizeof(path), "%s/none/store", s.dir);
    CHECK_INT(walrus_open(path, &options, &walrus), -ENOENT); /* only the last part is made */
    options.key = "";
    CHECK_INT(walrus_open(s.dir, &options, &walrus), -EINVAL);
    options.key = longest;
    CHECK_INT(walrus_open(s.dir, &options, &walrus), -ENAMETOOLONG);
    snprintf(path, sizeof(path), "%s//", s.dir);
    CHECK_INT(walrus_open(path, &s.options, &s.walrus), 0);
}

Test(library, the_environment_names_the_namespace_unless_options_do)
{
    setenv("WALRUS_INSTANCE_KEY", "from-env", 1);
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    s.options.key = "from-options";
    rig_open(&s);
    rig_expect_empty(&s, "t");
    rig_close(&s);
    unsetenv("WALRUS_INSTANCE_KEY");
    s.options.key = "from-env";
    rig_open(&s);
    rig_expect(&s, "t", 0, 100);
}

Test(library, a_directory_with_namespaces_can_become_a_store_itself)
{
    s.options.key = "a";
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    s.options.key = NULL;
    rig_open(&s);
    rig_expect_empty(&s, "t");
}

Test(library, the_environment_names_the_directory_when_the_caller_does_not)
{
    setenv("WALRUS_DATA_DIR", s.dir, 1);
    CHECK_INT(walrus_open(NULL, &s.options, &s.walrus), 0);
    CHECK_INT(dir_file_count(s.dir, "SUPER"), 1);
    rig_append(&s, "t", 0, 10);
    rig_expect(&s, "t", 0, 10);
}

Test(library, the_default_directory_is_wal_files)
{
    CHECK_INT(chdir(s.dir), 0);
    CHECK_INT(walrus_open(NULL, &s.options, &s.walrus), 0);
    CHECK_INT(access("wal_files/SUPER", F_OK), 0);
    rig_close(&s);
    CHECK_INT(chdir("/"), 0);
}

Test(library, quiet_drops_information_but_not_warnings)
{
    struct place place;

    setenv("WALRUS_QUIET", "1", 1);
    s.options.fsync = WALRUS_FSYNC_EACH;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_close(&s);
    rig_find(&s, "t", 3, 100, &place);
    place_flip(&place, 50);
    rig_open(&s);
    uint64_t seq;
    for (int i = 0; i < 10; i++)
        CHECK_INT(rig_take(&s, "t", &seq), i == 3 ? -EBADMSG : 0);
    CHECK_INT(rig_reports(&s, WALRUS_INFO) + rig_reports(&s, WALRUS_DEBUG), 0);
    CHECK(rig_reports(&s, WALRUS_WARNING) + rig_reports(&s, WALRUS_ERROR) > 0);
}

Test(library, the_descriptor_of_the_directory_is_that_of_the_store)
{
    struct stat a, b;

    rig_open(&s);
    CHECK_INT(fstat(walrus_dirfd(s.walrus), &a), 0);
    CHECK_INT(stat(s.dir, &b), 0);
    CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
}

Test(library, files_and_directories_are_private)
{
    char path[PATH_MAX];
    struct stat st;

    umask(0);
    snprintf(path, sizeof(path), "%s/store", s.dir);
    struct walrus *walrus;
    CHECK_INT(walrus_open(path, &s.options, &walrus), 0);
    CHECK_INT(walrus_append(walrus, "t", "x", 1), 0);
    CHECK_INT(stat(path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0700);
    DIR *dir = fdopendir(dup(walrus_dirfd(walrus)));
    CHECK(dir != NULL);
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        CHECK_INT(fstatat(walrus_dirfd(walrus), item->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        if (S_ISREG(st.st_mode))
            CHECK_INT(st.st_mode & 0777, 0600);
    }
    closedir(dir);
    CHECK_INT(walrus_close(walrus), 0);
}

Test(library, attributes_of_the_store_are_kept)
{
    uint8_t attr[WALRUS_ATTR_SIZE], found[WALRUS_ATTR_SIZE], zero[WALRUS_ATTR_SIZE] = {0};
    struct rig killed;

    rig_open(&s);
    walrus_attr(s.walrus, found);
    CHECK(memcmp(found, zero, sizeof(zero)) == 0);
    payload_fill(1, "attr", 0, attr, sizeof(attr));
    CHECK_INT(walrus_set_attr(s.walrus, attr), 0);
    rig_copy(&s, &killed);
    rig_open(&killed);
    walrus_attr(killed.walrus, found);
    CHECK(memcmp(found, attr, sizeof(attr)) == 0);
    rig_fini(&killed);
}

Test(library, closing_nothing_is_allowed)
{
    CHECK_INT(walrus_close(NULL), 0);
}
