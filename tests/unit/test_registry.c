/* SPDX-License-Identifier: MIT */
/* test_registry.c - the journal of topics and groups says after any fault what was confirmed, whole
 * changes only, and becomes smaller without losing any. */
#include "registry_rig.h"

#include <errno.h>
#include <stdio.h>

#include "faultos.h"
#include "os.h"

static void arm(enum faultos_kind kind, int error)
{
    faultos_arm(&(struct faultos_rule){.kind = kind, .nth = 1, .error = error});
}

Test(registry, is_made_where_it_is_missing_and_empty_when_read_again, .init = init, .fini = fini)
{
    struct stat st;

    open_it();
    cr_assert_eq(next_id, 1);
    cr_assert_eq(damaged, 0);
    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(st.st_size % 65536, 0);
    reopen();
    cr_assert_eq(seen_count, 0);
    cr_assert_eq(next_id, 1);
    cr_assert_eq(warning_count + error_count, 0);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
}

Test(registry, is_synced_before_and_after_it_gets_its_name, .init = init, .fini = fini)
{
    faultos_install();
    open_it();
    cr_assert_eq(faultos_count(FAULTOS_FSYNC), 2); /* the file, then the directory */
    cr_assert_eq(faultos_count(FAULTOS_RENAME), 1);
    close_it();
    for (unsigned nth = 1; nth <= 2; nth++) {
        cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = nth, .error = EIO});
        cr_assert_eq(try_open(false), -EIO);
        faultos_disarm();
        /* Only what was synced has the name. */
        cr_assert_eq(faccessat(dirfd, NAME, F_OK, 0), nth == 1 ? -1 : 0);
        if (nth == 1)
            spill(NAME, "", 0);
    }
    faultos_remove();
}

Test(registry, hands_out_every_change_in_order, .init = init_open, .fini = fini)
{
    cr_assert_eq(add_pair(1, "one"), 0);
    cr_assert_eq(add(group(1, 2, "second")), 0);
    cr_assert_eq(add_pair(7, "seven"), 0);
    cr_assert_eq(remove_topic(1), 0);
    cr_assert_eq(add((struct registry_change){.kind = REGISTRY_STORE, .attr = attr}), 0);
    reopen();
    cr_assert_eq(seen_count, 7);
    cr_assert_eq(next_id, 8);
    cr_assert_eq(damaged, 0);
    cr_assert_str_eq(seen[0].name, "one");
    cr_assert_str_eq(seen[1].name, "default");
    cr_assert_eq(seen[2].group_id, 2);
    cr_assert_eq(seen[3].topic_id, 7);
    cr_assert_eq(seen[5].kind, REGISTRY_TOPIC_REMOVED);
    cr_assert_eq(seen[6].kind, REGISTRY_STORE);
    cr_assert_eq(warning_count + error_count, 0);
}

Test(registry, never_gives_an_id_again_after_the_topic_was_removed, .init = init_open, .fini = fini)
{
    cr_assert_eq(add(topic(41, "gone")), 0);
    cr_assert_eq(remove_topic(41), 0);
    reopen();
    cr_assert_eq(next_id, 42);
}

static int stop_at_second(void *arg, const struct registry_change *change)
{
    return ++*(int *)arg == 2 ? -ENOMEM : 0;
}

Test(registry, stops_the_replay_when_the_visitor_says_so, .init = init_open, .fini = fini)
{
    int count = 0;
    struct registry *none = NULL;

    for (uint64_t id = 1; id <= 3; id++)
        cr_assert_eq(add(topic(id, "t")), 0);
    close_it();
    cr_assert_eq(registry_open(dirfd, uuid, false, &reporter, stop_at_second, &count, &next_id,
                               &damaged, &none),
                 -ENOMEM);
    cr_assert_eq(count, 2);
    cr_assert_null(none);
}

Test(registry, grows_in_steps_and_reads_as_zeros_behind_the_end, .init = init_open, .fini = fini)
{
    for (uint64_t id = 1; id <= 1500; id++)
        cr_assert_eq(add(topic(id, "a-name-of-some-length")), 0);
    cr_assert_eq(file_size() % 65536, 0);
    cr_assert_geq(file_size(), used_end() + 4096);
    reopen();
    cr_assert_eq(seen_count, 1500);
    cr_assert_eq(next_id, 1501);
}

/* -------------------------------------------------------------------------------------- files --
 */

Test(registry, refuses_links_and_what_is_not_a_file, .init = init_open, .fini = fini)
{
    close_it();
    cr_assert_eq(linkat(dirfd, NAME, dirfd, "second-name", 0), 0);
    cr_assert_eq(try_open(false), -ELOOP);
    cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
    cr_assert_eq(symlinkat("second-name", dirfd, NAME), 0);
    cr_assert_eq(try_open(false), -ELOOP);
    cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
    cr_assert_eq(mkfifoat(dirfd, NAME, 0600), 0);
    cr_assert_eq(try_open(false), -ELOOP);
    cr_assert_eq(try_open(true), -ELOOP);
    cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
    cr_assert_eq(mkdirat(dirfd, NAME, 0700), 0);
    cr_assert_eq(try_open(true), -ELOOP);
    cr_assert_eq(try_open(false), -EISDIR);
}

Test(registry, removes_what_a_crash_left_under_the_temporary_name, .init = init_open, .fini = fini)
{
    cr_assert_eq(add(topic(1, "one")), 0);
    close_it();
    spill(NAME ".tmp", "half of a header", 16);
    open_it();
    cr_assert_eq(seen_count, 1);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
    close_it();
    /* The crash before the very first rename. */
    cr_assert_eq(renameat(dirfd, NAME, dirfd, NAME ".tmp"), 0);
    open_it();
    cr_assert_eq(seen_count, 0);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
}

Test(registry, writes_nothing_when_it_is_read_only, .init = init, .fini = fini)
{
    uint8_t *before, *after;
    size_t before_size, after_size;

    cr_assert_eq(try_open(true), 0);
    cr_assert_eq(next_id, 1);
    cr_assert_eq(add(topic(1, "no")), -EROFS);
    cr_assert_eq(registry_compact(registry, NULL, NULL, 1), -EROFS);
    cr_assert_not(registry_compact_due(registry));
    cr_assert_eq(faccessat(dirfd, NAME, F_OK, 0), -1);
    reopen();
    cr_assert_eq(add(topic(1, "one")), 0);
    close_it();
    poke(used_end(), "garbage", 7);
    spill(NAME ".tmp", "x", 1);
    before = slurp(&before_size);
    cr_assert_eq(try_open(true), 0);
    cr_assert_eq(seen_count, 1);
    cr_assert_eq(add(topic(2, "no")), -EROFS);
    after = slurp(&after_size);
    cr_assert_eq(before_size, after_size);
    cr_assert_eq(memcmp(before, after, after_size), 0);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), 0);
    free(before);
    free(after);
}

/* ------------------------------------------------------------------------------------- faults --
 */

Test(registry, is_durable_with_one_write_and_one_sync, .init = init_open, .fini = fini)
{
    faultos_install();
    cr_assert_eq(add_pair(1, "one"), 0);
    cr_assert_eq(faultos_count(FAULTOS_WRITE), 1);
    cr_assert_eq(faultos_count(FAULTOS_FDATASYNC), 1);
    cr_assert_eq(faultos_count(FAULTOS_ANY), 2);
    faultos_remove();
}

Test(registry, is_unchanged_after_a_write_that_met_a_full_disk, .init = init_open, .fini = fini)
{
    uint8_t *before, *after;
    size_t size;

    cr_assert_eq(add(topic(1, "one")), 0);
    before = slurp(&size);
    faultos_install();
    /* 185 bytes of 192 reach the disk: all of the record but zeros at its end. */
    for (size_t piece = 1; piece < 192; piece += piece == 1 ? 184 : 1) {
        faultos_limit_transfer(piece);
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 2, .error = ENOSPC});
        cr_assert_eq(add(topic(2, "a")), -ENOSPC);
        faultos_disarm();
        faultos_limit_transfer(0);
        after = slurp(&size);
        cr_assert_eq(memcmp(before, after, size), 0, "%zu bytes written", piece);
        free(after);
    }
    cr_assert_eq(add(topic(3, "three")), 0);
    faultos_remove();
    free(before);
    reopen();
    cr_assert_eq(seen_count, 2);
    cr_assert_eq(warning_count + error_count, 0);
}

Test(registry, keeps_space_for_removals_when_the_disk_is_full, .init = init_open, .fini = fini)
{
    uint64_t id = 0;
    unsigned removed = 0;
    int r = 0;

    faultos_install();
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ALLOCATE, .nth = 1, .error = ENOSPC, .forever = true});
    while (r == 0)
        r = add(topic(++id, "filler"));
    cr_assert_eq(r, -ENOSPC);
    cr_assert_eq(file_size(), 65536);
    cr_assert_leq(used_end(), 65536 - 4096);
    while (remove_topic(removed + 1) == 0)
        removed++;
    cr_assert_geq(removed, 4096 / 184);
    cr_assert_eq(file_size(), 65536);
    faultos_disarm();
    cr_assert_eq(add(topic(id, "fits again")), 0);
    faultos_remove();
    reopen();
    cr_assert_eq(seen_count, id + removed);
}

Test(registry, takes_a_failed_sync_for_final, .init = init_open, .fini = fini)
{
    faultos_install();
    arm(FAULTOS_FDATASYNC, EIO);
    cr_assert_eq(add(topic(1, "one")), -EIO);
    cr_assert_eq(error_count, 1);
    uint64_t calls = faultos_count(FAULTOS_ANY);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    cr_assert_eq(registry_compact(registry, NULL, NULL, 1), -EIO);
    cr_assert_not(registry_compact_due(registry));
    cr_assert_eq(faultos_count(FAULTOS_ANY), calls);
    cr_assert_eq(error_count, 1);
    faultos_remove();
    reopen();
    cr_assert_eq(add(topic(2, "two")), 0);
}

Test(registry, takes_a_sync_that_found_no_space_for_final_too, .init = init_open, .fini = fini)
{
    faultos_install();
    arm(FAULTOS_FDATASYNC, ENOSPC);
    cr_assert_eq(add(topic(1, "one")), -EIO);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    faultos_remove();
}

Test(registry, takes_a_failed_write_for_final_unless_it_was_for_space, .init = init_open,
     .fini = fini)
{
    faultos_install();
    arm(FAULTOS_WRITE, EDQUOT);
    cr_assert_eq(add(topic(1, "one")), -EDQUOT);
    faultos_disarm();
    cr_assert_eq(add(topic(1, "one")), 0);
    arm(FAULTOS_WRITE, EIO);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    faultos_remove();
    reopen();
    cr_assert_eq(seen_count, 1);
}

Test(registry, is_made_whole_or_not_at_all_whatever_call_fails, .init = init, .fini = fini)
{
    for (unsigned nth = 1;; nth++) {
        int r;

        faultos_install();
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY, .nth = nth, .error = EIO});
        r = try_open(false);
        bool failed = faultos_failed_count() > 0;
        if (r == 0)
            close_it();
        faultos_remove();
        open_it();
        cr_assert_eq(seen_count, 0);
        cr_assert_eq(warning_count + error_count, 0, "after call %u failed", nth);
        close_it();
        cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
        if (!failed)
            break;
    }
}

Test(registry, reads_around_a_page_that_the_disk_cannot_give_back, .init = init_open, .fini = fini)
{
    cr_assert_eq(add(topic(1, "one")), 0);
    close_it();
    faultos_install();
    /* The read of both headers, and then that of the first alone. */
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_READ, .nth = 2, .error = EIO});
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_READ, .nth = 1, .error = EIO});
    cr_assert_eq(try_open(false), 0);
    cr_assert_eq(damaged, 1);
    cr_assert_eq(seen_count, 1);
    faultos_remove();
}

/* --------------------------------------------------------------------------------- compaction --
 */

struct source {
    uint64_t id, end;
    int result; /* when the end is reached */
};

static int fill_topics(void *arg, struct registry_making *making)
{
    const struct source *source = arg;
    int r = 0;

    for (uint64_t id = source->id; r == 0 && id < source->end; id++) {
        struct registry_change change = topic(id, "compact");
        r = registry_add(making, &change);
    }
    return r < 0 ? r : source->result;
}

/* A journal of over 1 MiB in which next to nothing is live. */
static void fill_with_dead(void)
{
    for (unsigned i = 0; i < 6000; i++)
        cr_assert_eq(add(topic(5, "again-and-again")), 0);
}

/* Syncs would take most of the time of a test that needs a long journal. */
static int no_sync(int fd)
{
    return 0;
}

static struct os_ops quick;

static void init_quick(void)
{
    quick = os_system;
    quick.fdatasync = quick.fsync = no_sync;
    os = &quick;
    init_open();
}

static void fini_quick(void)
{
    fini();
    os = &os_system;
}

Test(registry, is_due_for_compaction_when_most_of_it_is_dead, .init = init_quick,
     .fini = fini_quick)
{
    struct source source = {5, 6, 0};

    cr_assert_not(registry_compact_due(registry));
    fill_with_dead();
    cr_assert(registry_compact_due(registry));
    reopen();
    cr_assert(registry_compact_due(registry));
    cr_assert_eq(registry_compact(registry, fill_topics, &source, 77), 0);
    cr_assert_not(registry_compact_due(registry));
    cr_assert_eq(file_size(), 65536);
    cr_assert_eq(add(topic(6, "after")), 0);
    reopen();
    cr_assert_eq(seen_count, 2);
    cr_assert_str_eq(seen[0].name, "compact");
    cr_assert_str_eq(seen[1].name, "after");
    cr_assert_eq(next_id, 77);
}

Test(registry, is_not_due_while_a_quarter_is_live, .init = init_quick, .fini = fini_quick)
{
    for (uint64_t id = 1; id <= 6000; id++)
        cr_assert_eq(add(topic(id, "alive")), 0);
    cr_assert_not(registry_compact_due(registry));
    for (uint64_t id = 1; id <= 6000; id++) {
        struct registry_change gone = {.kind = REGISTRY_TOPIC_REMOVED, .topic_id = id};

        cr_assert_eq(registry_append(registry, &gone, 1), 0);
    }
    cr_assert(registry_compact_due(registry));
}

Test(registry, counts_groups_as_dead_with_their_topic, .init = init_quick, .fini = fini_quick)
{
    for (uint64_t id = 1; id <= 6000; id++)
        cr_assert_eq(add(group(1, id, "alive")), 0);
    cr_assert_not(registry_compact_due(registry));
    cr_assert_eq(remove_topic(1), 0);
    cr_assert(registry_compact_due(registry));
}

Test(registry, keeps_the_highest_id_through_a_compaction, .init = init_open, .fini = fini)
{
    struct source source = {1, 2, 0};

    cr_assert_eq(add(topic(50, "gone")), 0);
    cr_assert_eq(remove_topic(50), 0);
    cr_assert_eq(registry_compact(registry, fill_topics, &source, 3), 0);
    reopen();
    cr_assert_eq(seen_count, 1);
    cr_assert_eq(next_id, 51);
}

Test(registry, compacts_many_more_records_than_its_buffer_holds, .init = init_quick,
     .fini = fini_quick)
{
    struct source source = {1, 5001, 0};

    cr_assert_eq(registry_compact(registry, fill_topics, &source, 5001), 0);
    reopen();
    cr_assert_eq(seen_count, 5000);
    cr_assert_eq(seen[4999].topic_id, 5000);
    cr_assert_eq(damaged + warning_count, 0);
}

Test(registry, goes_on_with_the_old_journal_when_the_source_fails, .init = init_open, .fini = fini)
{
    struct source source = {1, 3, -ENOMEM};

    cr_assert_eq(add(topic(9, "old")), 0);
    cr_assert_eq(registry_compact(registry, fill_topics, &source, 1), -ENOMEM);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
    cr_assert_eq(add(topic(10, "on")), 0);
    reopen();
    cr_assert_eq(seen_count, 2);
    cr_assert(was_seen("old") && was_seen("on"));
}

/* Whatever call of a compaction fails: nothing that was confirmed is lost, and either the journal
 * goes on or it says -EIO for good. */
static void fail_everywhere(int error)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        struct source source = {1, 2, 0};
        int r, after;

        cr_assert_eq(add(topic(1, "compact")), 0);
        faultos_install();
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY, .nth = nth, .error = error});
        r = registry_compact(registry, fill_topics, &source, 2);
        failed = faultos_failed_count() > 0;
        faultos_disarm();
        after = add(topic(nth + 1, "after"));
        cr_assert(after == 0 || (r == -EIO && after == -EIO), "call %u: %d, %d", nth, r, after);
        faultos_remove();
        reopen();
        cr_assert(was_seen("compact"));
        cr_assert_eq(was_seen("after"), after == 0, "call %u: %d, %d", nth, r, after);
        cr_assert_eq(warning_count + error_count, 0);
        cr_assert_eq(registry_compact(registry, fill_topics, &source, 2), 0);
    }
}

Test(registry, loses_nothing_when_any_call_of_a_compaction_finds_no_space, .init = init_open,
     .fini = fini)
{
    fail_everywhere(ENOSPC);
}

Test(registry, loses_nothing_when_any_call_of_a_compaction_fails, .init = init_open, .fini = fini)
{
    fail_everywhere(EIO);
}

Test(registry, refuses_changes_when_the_new_name_may_not_be_durable, .init = init_open,
     .fini = fini)
{
    struct source source = {1, 2, 0};

    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = 2, .error = EIO});
    cr_assert_eq(registry_compact(registry, fill_topics, &source, 2), -EIO);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    faultos_remove();
}
