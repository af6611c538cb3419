/* SPDX-License-Identifier: MIT */
/*
 * test_refusals.c - what opening a store refuses and what that leaves behind; read-only stores;
 * what happens when the system refuses something.
 *
 * Mounts are made in a mount namespace of the test's own process and vanish with it; what needs
 * root says so and is skipped without.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crc32c.h"
#include "format.h"
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

TestSuite(refusals, .init = setup, .fini = teardown, .timeout = 300);

/* A mount namespace of our own; false: not allowed here. */
static bool enter_mount_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        skip_note("needs the right to mount");
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------- refusals -- */

Test(refusals, a_store_in_use_is_ebusy_and_the_report_names_the_process)
{
    int ready[2], done[2];
    char byte = 0, text[32];

    CHECK_INT(pipe(ready) | pipe(done), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct walrus *walrus = NULL;
        struct walrus_options options = {.block_size = RIG_BLOCK_SIZE, .blocks_per_file = 4};
        int rc = walrus_open(s.dir, &options, &walrus);
        byte = rc == 0 && walrus_append(walrus, "t", "x", 1) == 0;
        (void)!write(ready[1], &byte, 1);
        (void)!read(done[0], &byte, 1);
        _exit(walrus_close(walrus) == 0 ? 0 : 1);
    }
    CHECK_INT(read(ready[0], &byte, 1), 1);
    CHECK_INT(byte, 1);
    CHECK_INT(rig_try_open(&s), -EBUSY);
    snprintf(text, sizeof(text), "%d", (int)pid);
    CHECK(rig_reported(&s, text));

    int status;
    CHECK_INT(write(done[1], &byte, 1), 1);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    rig_open(&s);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
    free(entry.data);
}

Test(refusals, a_store_opened_twice_in_one_process_is_ebusy)
{
    struct walrus *second = NULL;

    rig_open(&s);
    CHECK_INT(walrus_open(s.dir, &s.options, &second), -EBUSY);
    CHECK(second == NULL);
    rig_append(&s, "t", 0, 10);
    rig_expect(&s, "t", 0, 10);
}

Test(refusals, a_store_that_is_only_read_is_not_said_to_be_in_use_by_a_writer_that_has_ended)
{
    struct walrus *reader = NULL;
    struct walrus_options options = {.read_only = true};
    char text[32];
    int status;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        struct walrus *walrus = NULL;
        _exit(walrus_open(s.dir, &s.options, &walrus) == 0 && walrus_close(walrus) == 0 ? 0 : 1);
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
    CHECK_INT(walrus_open(s.dir, &options, &reader), 0);
    CHECK_INT(rig_try_open(&s), -EBUSY);
    snprintf(text, sizeof(text), "process %d", (int)pid);
    CHECK(!rig_reported(&s, text));
    CHECK(rig_reported(&s, "a process that only reads it"));
    CHECK_INT(walrus_close(reader), 0);
}

Test(refusals, the_lock_goes_with_the_process_that_held_it)
{
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        struct walrus *walrus = NULL;
        struct walrus_options options = {.block_size = RIG_BLOCK_SIZE, .blocks_per_file = 4};
        if (walrus_open(s.dir, &options, &walrus) != 0 || walrus_append(walrus, "t", "x", 1) != 0)
            _exit(1);
        raise(SIGKILL);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    rig_open(&s);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.size, 1);
    free(entry.data);
}

/* Applies `change` to both copies of the closed store's header and repairs their checksums. */
static void super_change(void (*change)(struct format_super *super))
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/SUPER", s.dir);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct format_super super;
        struct super_info info;
        disk_read(path, copy * 4096u, &super, sizeof(super));
        if (format_super_decode(&super, sizeof(super), &info) != 0)
            continue; /* never written */
        change(&super);
        super.crc = le32_put(0);
        super.crc = le32_put(crc32c(0, &super, sizeof(super)));
        disk_write(path, copy * 4096u, &super, sizeof(super));
    }
}

static void change_incompat(struct format_super *super)
{
    super->incompat = le32_put(1u << 9);
}

static void change_version(struct format_super *super)
{
    super->version = le32_put(FORMAT_VERSION + 1);
}

static void change_ro_compat(struct format_super *super)
{
    super->ro_compat = le32_put(1u << 9);
}

static void change_compat(struct format_super *super)
{
    super->compat = le32_put(1u << 9);
}

/* Opening gives `code` and leaves every byte as it was. */
static void expect_refused_untouched(int code)
{
    struct rig before;

    rig_copy(&s, &before);
    CHECK_INT(rig_try_open(&s), code);
    CHECK(s.walrus == NULL);
    CHECK(dir_same(s.dir, before.dir));
    rig_fini(&before);
}

Test(refusals, unknown_incompatible_features_are_refused_untouched)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    super_change(change_incompat);
    expect_refused_untouched(-EPROTONOSUPPORT);
    s.options.read_only = true;
    expect_refused_untouched(-EPROTONOSUPPORT);
}

Test(refusals, a_newer_version_is_refused_untouched)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    super_change(change_version);
    expect_refused_untouched(-EPROTONOSUPPORT);
}

Test(refusals, unknown_read_only_features_open_the_store_read_only)
{
    struct rig before;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    super_change(change_ro_compat);
    rig_copy(&s, &before);
    for (int asked = 0; asked < 2; asked++) {
        s.options.read_only = asked != 0;
        rig_open(&s);
        CHECK(rig_stat(&s).read_only);
        CHECK_INT(rig_try_append(&s, "t", 1, 100), -EROFS);
        rig_expect_at(&s, "t", 0, 100);
        rig_close(&s);
        CHECK(dir_same(s.dir, before.dir));
    }
    rig_fini(&before);
}

Test(refusals, unknown_compatible_features_are_ignored)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    super_change(change_compat);
    rig_open(&s);
    CHECK(!rig_stat(&s).read_only);
    rig_append(&s, "t", 1, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
}

Test(refusals, one_damaged_header_copy_is_survived_both_are_ebadmsg)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    for (unsigned copy = 0; copy < 2; copy++) {
        struct rig one;
        struct place place;
        rig_copy(&s, &one);
        snprintf(place.path, sizeof(place.path), "%s/SUPER", one.dir);
        place.off = copy * 4096u;
        place_flip(&place, 48);
        rig_open(&one);
        rig_expect(&one, "t", 0, 100);
        rig_fini(&one);
    }
    struct place place = {.off = 0};
    snprintf(place.path, sizeof(place.path), "%s/SUPER", s.dir);
    place_flip(&place, 48);
    place_flip(&place, 4096 + 48);
    expect_refused_untouched(-EBADMSG);
}

Test(refusals, what_is_no_directory_is_enotdir)
{
    char path[PATH_MAX];

    dir_write(s.dir, "file", "x", 1);
    snprintf(path, sizeof(path), "%s/file", s.dir);
    CHECK_INT(walrus_open(path, &s.options, &s.walrus), -ENOTDIR);
}

Test(refusals, a_symbolic_link_to_a_directory_is_refused)
{
    char path[PATH_MAX], target[PATH_MAX];

    dir_make(s.dir, "real");
    snprintf(target, sizeof(target), "%s/real", s.dir);
    snprintf(path, sizeof(path), "%s/link", s.dir);
    CHECK_INT(symlink(target, path), 0);
    int rc = walrus_open(path, &s.options, &s.walrus);
    CHECK(rc == -ELOOP || rc == -ENOTDIR);
    CHECK_INT(dir_file_count(target, ""), 0);
}

Test(refusals, a_file_of_the_store_that_is_a_symbolic_link_or_has_two_names_is_eloop)
{
    const char *names[] = {"SUPER", "topics.db", "read_offset_idx_index.db", "wal_", "LOCK"};

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
        struct rig bad;
        char from[PATH_MAX] = "", to[PATH_MAX];
        rig_copy(&s, &bad);
        DIR *dir = opendir(bad.dir);
        CHECK(dir != NULL);
        for (struct dirent *item; (item = readdir(dir)) != NULL;)
            if (strncmp(item->d_name, names[i / 2], strlen(names[i / 2])) == 0)
                snprintf(from, sizeof(from), "%s/%s", bad.dir, item->d_name);
        closedir(dir);
        CHECK(from[0] != '\0');
        snprintf(to, sizeof(to), "%s.elsewhere", bad.dir);
        if (i % 2 == 0) {
            CHECK_INT(rename(from, to), 0);
            CHECK_INT(symlink(to, from), 0);
        } else {
            CHECK_INT(link(from, to), 0);
        }
        int rc = rig_try_open(&bad);
        if (rc != -ELOOP)
            fprintf(stderr, "%s %s\n", names[i / 2], i % 2 == 0 ? "symlink" : "two names");
        CHECK_INT(rc, -ELOOP);
        CHECK_INT(unlink(to), 0);
        rig_fini(&bad);
    }
}

Test(refusals, a_directory_of_something_else_is_enotempty_and_untouched)
{
    dir_write(s.dir, "thesis.tex", "words", 5);
    expect_refused_untouched(-ENOTEMPTY);
}

Test(refusals, a_directory_of_the_rust_engine_is_enotempty_and_untouched)
{
    char zeros[8192] = {0};

    dir_write(s.dir, "1700000000000", zeros, sizeof(zeros));
    dir_write(s.dir, "1700000000001", zeros, sizeof(zeros));
    dir_write(s.dir, "read_offset_idx_index.db", "not ours", 8);
    expect_refused_untouched(-ENOTEMPTY);
}

Test(refusals, what_does_not_belong_to_a_store_is_left_alone)
{
    char path[PATH_MAX];

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    dir_write(s.dir, "notes.txt", "words", 5);
    dir_write(s.dir, "wal_x.log", "words", 5);
    dir_make(s.dir, "lost+found");
    rig_open(&s);
    rig_expect(&s, "t", 0, 100);
    CHECK(rig_reported(&s, "notes.txt"));
    rig_close(&s);
    snprintf(path, sizeof(path), "%s/notes.txt", s.dir);
    CHECK_INT(disk_size(path), 5);
    snprintf(path, sizeof(path), "%s/wal_x.log", s.dir);
    CHECK_INT(disk_size(path), 5);
}

Test(refusals, a_missing_store_is_made_or_enoent)
{
    char path[PATH_MAX];
    struct walrus *walrus = NULL;

    snprintf(path, sizeof(path), "%s/new", s.dir);
    s.options.must_exist = true;
    CHECK_INT(walrus_open(path, &s.options, &walrus), -ENOENT);
    CHECK_INT(access(path, F_OK), -1);
    CHECK_INT(walrus_open(s.dir, &s.options, &walrus), -ENOENT);
    s.options.must_exist = false;
    CHECK_INT(walrus_open(path, &s.options, &walrus), 0);
    CHECK_INT(walrus_close(walrus), 0);
    s.options.must_exist = true;
    CHECK_INT(walrus_open(path, &s.options, &walrus), 0);
    CHECK_INT(walrus_close(walrus), 0);
    snprintf(path, sizeof(path), "%s/no/such", s.dir);
    s.options.must_exist = false;
    CHECK_INT(walrus_open(path, &s.options, &walrus), -ENOENT);
}

Test(refusals, a_directory_of_somebody_else_is_eacces)
{
    if (geteuid() != 0) {
        skip_note("needs root to become somebody else");
        return;
    }
    rig_open(&s);
    rig_close(&s);
    CHECK_INT(chmod(s.dir, 0700), 0);
    CHECK_INT(seteuid(65534), 0);
    int rc = rig_try_open(&s);
    CHECK_INT(seteuid(0), 0);
    CHECK_INT(rc, -EACCES);
}

Test(refusals, running_out_of_descriptors_is_emfile_and_passes)
{
    struct rlimit old, low;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    rig_close(&s);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &old), 0);
    int fd = dup(0);
    CHECK(fd >= 0);
    CHECK_INT(close(fd), 0);
    for (int more = 0; more < 64; more++) {
        low = old;
        low.rlim_cur = (rlim_t)(fd + more);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &low), 0);
        int rc = rig_try_open(&s);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &old), 0);
        if (rc == 0)
            break;
        CHECK_INT(rc, -EMFILE);
        CHECK(more < 63);
        int again = dup(0);
        CHECK_INT(again, fd); /* nothing leaked */
        CHECK_INT(close(again), 0);
    }
    rig_expect(&s, "t", 0, 100);
}

/* --------------------------------------------------------------------------------- read-only -- */

/* What a read-only store refuses and what works; it holds entries 0 and 1 of topic t. */
static void expect_read_only(void)
{
    struct walrus_topic *topic = rig_topic(&s, "t"), *made;
    struct walrus_group *group = rig_group(&s, "t", "default"), *made_group;
    struct walrus_retention retention = {.kind = WALRUS_KEEP_ALL};
    struct walrus_reader *reader;
    struct walrus_entry entry;
    struct walrus_blob *blob;
    uint8_t attr[WALRUS_ATTR_SIZE] = {1};

    CHECK(rig_stat(&s).read_only);
    CHECK_INT(rig_try_append(&s, "t", 2, 10), -EROFS);
    CHECK_INT(rig_try_append(&s, "new", 0, 10), -EROFS);
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EROFS);
    CHECK_INT(walrus_set_attr(s.walrus, attr), -EROFS);
    CHECK_INT(walrus_topic_create(s.walrus, "new", NULL, NULL, &made), -EROFS);
    CHECK_INT(walrus_topic_rename(topic, "u"), -EROFS);
    CHECK_INT(walrus_topic_set_attr(topic, attr), -EROFS);
    CHECK_INT(walrus_topic_set_retention(topic, &retention), -EROFS);
    CHECK_INT(walrus_topic_set_limit(topic, 1 << 20), -EROFS);
    CHECK_INT(walrus_blob_open(topic, &blob), -EROFS);
    CHECK_INT(walrus_group_create(topic, "g", NULL, &made_group), -EROFS);
    CHECK_INT(walrus_group_rename(group, "g"), -EROFS);
    CHECK_INT(walrus_group_set_attr(group, attr), -EROFS);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), -EROFS);
    CHECK_INT(walrus_group_claim(group, 1, SIZE_MAX, &reader), -EROFS);

    CHECK_INT(walrus_peek(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.seq, 0);
    free(entry.data);
    rig_expect_at(&s, "t", 1, 100);
    CHECK_INT(walrus_group_peek(group, &reader), 0);
    rig_finish(&s, "t", reader);
    CHECK_INT(walrus_entry_open(topic, 1, &reader), 0);
    rig_finish(&s, "t", reader);
    walrus_group_unref(group);
    walrus_topic_unref(topic);
}

Test(refusals, a_store_opened_read_only_shows_everything_and_changes_nothing)
{
    struct rig before;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 100);
    rig_close(&s);
    rig_copy(&s, &before);
    s.options.read_only = true;
    rig_open(&s);
    expect_read_only();
    rig_close(&s);
    CHECK(dir_same(s.dir, before.dir));
    rig_fini(&before);
}

Test(refusals, a_crashed_store_opened_read_only_shows_what_is_there_and_changes_nothing)
{
    struct rig killed, before;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 100);
    rig_copy(&s, &killed);
    rig_copy(&s, &before);
    rig_close(&s);
    killed.options.read_only = true;
    rig_open(&killed);
    rig_expect_at(&killed, "t", 0, 100);
    rig_expect_at(&killed, "t", 1, 100);
    rig_close(&killed);
    CHECK(dir_same(killed.dir, before.dir));
    rig_fini(&killed);
    rig_fini(&before);
}

Test(refusals, opening_what_is_not_there_read_only_makes_nothing)
{
    s.options.read_only = true;
    int rc = rig_try_open(&s);
    CHECK(rc == -ENOENT || rc == -EROFS);
    CHECK_INT(dir_file_count(s.dir, ""), 0);
}

Test(refusals, a_read_only_medium_is_erofs_and_opens_read_only)
{
    if (!enter_mount_namespace())
        return;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 100);
    rig_close(&s);
    CHECK_INT(mount(s.dir, s.dir, NULL, MS_BIND, NULL), 0);
    CHECK_INT(mount(NULL, s.dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
    CHECK_INT(rig_try_open(&s), -EROFS);
    s.options.read_only = true;
    rig_open(&s);
    expect_read_only();
    rig_close(&s);
    CHECK_INT(umount2(s.dir, MNT_DETACH), 0);
}
