/* SPDX-License-Identifier: MIT */
/*
 * test_groups.c - groups of consumers: life and death, where their offset goes, what they count,
 * and how one is told that there is something to take.
 */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

TestSuite(groups, .init = setup, .fini = teardown, .timeout = 300);

/* Takes everything that is pending in a group, one by one, and checks the numbers. */
static void expect_taken(const char *topic, const char *name, uint64_t first, uint64_t end)
{
    struct walrus_group *group = rig_group(&s, topic, name);
    struct walrus_reader *reader;

    for (uint64_t seq = first; seq < end; seq++) {
        reader = rig_claim(group, 1);
        CHECK_INT(walrus_reader_seq(reader), seq);
        rig_finish(&s, topic, reader);
    }
    CHECK_INT(walrus_group_claim(group, 1, SIZE_MAX, &reader), WALRUS_EMPTY);
    walrus_group_unref(group);
}

/* ------------------------------------------------------------------------------ life and death --
 */

Test(groups, each_has_an_offset_of_its_own)
{
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 4, 100);
    expect_taken("t", "audit", 0, 10);
    CHECK_INT(rig_group_stat(&s, "t", "audit").offset, 10);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 4);
    rig_reopen(&s);
    CHECK_INT(rig_group_stat(&s, "t", "audit").offset, 10);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 4);
    rig_expect_many(&s, "t", 4, 6, 100);
}

Test(groups, a_new_one_starts_at_the_oldest_retained_entry)
{
    rig_append_many(&s, "t", 0, 200, 1000);
    rig_expect_many(&s, "t", 0, 200, 1000);
    CHECK_SOON(rig_topic_stat(&s, "t").first_seq > 0);
    sleep_ms(50);
    struct walrus_group *group = rig_group(&s, "t", "new");
    uint64_t first = rig_topic_stat(&s, "t").first_seq;
    CHECK_INT(rig_group_stat(&s, "t", "new").offset, first);
    walrus_group_unref(group);
    expect_taken("t", "new", first, 200);
}

Test(groups, one_is_found_listed_renamed_and_removed)
{
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_group *group, *found;
    char name[WALRUS_NAME_SIZE_MAX + 1], longer[300];

    memset(longer, 'g', sizeof(longer));
    longer[299] = '\0';
    CHECK_INT(walrus_group_create(topic, "a", NULL, &group), 0);
    CHECK_INT(walrus_group_create(topic, "a", NULL, &found), -EEXIST);
    CHECK_INT(walrus_group_create(topic, "a/b", NULL, &found), -EINVAL);
    CHECK_INT(walrus_group_create(topic, longer, NULL, &found), -ENAMETOOLONG);
    CHECK_INT(walrus_group_rename(group, "default"), -EEXIST);
    CHECK_INT(walrus_group_rename(group, ".x"), -EINVAL);
    CHECK_INT(walrus_group_rename(group, "b"), 0);
    CHECK_INT(walrus_group_find(topic, "a", &found), -ENOENT);
    walrus_group_name(group, name);
    CHECK(strcmp(name, "b") == 0);

    CHECK_INT(walrus_group_after(topic, 0, &found), 0);
    walrus_group_name(found, name);
    CHECK(strcmp(name, "default") == 0);
    struct walrus_group_stat stat;
    walrus_group_stat(found, &stat);
    walrus_group_unref(found);
    CHECK_INT(walrus_group_after(topic, stat.id, &found), 0);
    CHECK(found == group);
    walrus_group_stat(found, &stat);
    walrus_group_unref(found);
    CHECK_INT(walrus_group_after(topic, stat.id, &found), WALRUS_EMPTY);

    CHECK_INT(walrus_group_remove(group), 0);
    CHECK(walrus_group_removed(group));
    CHECK_INT(walrus_group_find(topic, "b", &found), -ENOENT);
    walrus_group_unref(group);
    walrus_group_unref(NULL);
    walrus_topic_unref(topic);
    rig_reopen(&s);
    topic = rig_topic(&s, "t");
    CHECK_INT(walrus_group_find(topic, "b", &found), -ENOENT);
    walrus_topic_unref(topic);
}

Test(groups, the_only_one_of_a_topic_is_not_removed)
{
    struct walrus_group *only = rig_group(&s, "t", "default");

    CHECK_INT(walrus_group_remove(only), -EBUSY);
    struct walrus_group *other = rig_group(&s, "t", "other");
    CHECK_INT(walrus_group_remove(only), 0);
    CHECK_INT(walrus_group_remove(other), -EBUSY);
    walrus_group_unref(only);
    walrus_group_unref(other);
}

Test(groups, one_with_unread_entries_can_be_removed_and_holders_get_enodev)
{
    struct walrus_group *group = rig_group(&s, "t", "other");
    struct walrus_reader *held, *reader;
    uint8_t attr[WALRUS_ATTR_SIZE] = {0};

    rig_append_many(&s, "t", 0, 3, 100);
    held = rig_claim(group, 1);
    CHECK_INT(walrus_group_remove(group), 0);
    CHECK_INT(walrus_group_claim(group, 1, SIZE_MAX, &reader), -ENODEV);
    CHECK_INT(walrus_group_peek(group, &reader), -ENODEV);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), -ENODEV);
    CHECK_INT(walrus_group_rename(group, "x"), -ENODEV);
    CHECK_INT(walrus_group_set_attr(group, attr), -ENODEV);
    CHECK_INT(walrus_group_remove(group), -ENODEV);
    (void)walrus_reader_close(held);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 0, 3, 100);
}

static void *change_until_gone(void *arg)
{
    unsigned char attr[WALRUS_ATTR_SIZE] = {1};
    int r;

    while ((r = walrus_group_set_attr(arg, attr)) == 0)
        ;
    CHECK_INT(r, -ENODEV);
    return NULL;
}

static void *remove_group(void *arg)
{
    int r = walrus_group_remove(arg);

    CHECK(r == 0 || r == -ENODEV);
    return NULL;
}

/* Topics that are removed while a thread of its own does something with a group of each. */
static void race_with_removal(void *(*run)(void *arg), unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct walrus_topic *topic = rig_topic(&s, "t");
        struct walrus_group *group = rig_group(&s, "t", "g");
        pthread_t thread;

        CHECK_INT(pthread_create(&thread, NULL, run, group), 0);
        if (i % 2 == 0)
            sleep_ms(1);
        CHECK_INT(walrus_topic_remove(topic), 0);
        CHECK_INT(pthread_join(thread, NULL), 0);
        walrus_group_unref(group);
        walrus_topic_unref(topic);
    }
    rig_reopen(&s);
    CHECK_INT(rig_stat(&s).topic_count, 0);
    CHECK_INT(rig_reports(&s, WALRUS_WARNING), 0);
}

Test(groups, a_change_of_one_does_not_bring_a_topic_back_that_is_being_removed)
{
    race_with_removal(change_until_gone, 40);
}

Test(groups, one_can_be_removed_while_its_topic_is)
{
    race_with_removal(remove_group, 200);
}

Test(groups, one_made_again_does_not_inherit_the_offset)
{
    struct walrus_group *keeper = rig_group(&s, "t", "keeper");

    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 5, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_remove(group), 0);
    walrus_group_unref(group);
    walrus_group_unref(keeper);
    group = rig_group(&s, "t", "default");
    walrus_group_unref(group);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
    rig_reopen(&s);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
    rig_expect_many(&s, "t", 0, 5, 100);
}

Test(groups, hundreds_keep_their_offsets_across_restarts)
{
    char name[16];

    rig_append_many(&s, "t", 0, 3, 100);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "g%u", i);
        struct walrus_group *group = rig_group(&s, "t", name);
        CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, i % 4), 0);
        walrus_group_unref(group);
    }
    rig_reopen(&s);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "g%u", i);
        CHECK_INT(rig_group_stat(&s, "t", name).offset, i % 4);
    }
}

/* ----------------------------------------------------------------------------------- seeking -- */

Test(groups, seeking_goes_anywhere_in_what_is_retained_and_nowhere_else)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append_many(&s, "t", 0, 10, 100);
    const struct {
        enum walrus_whence whence;
        int64_t value;
        int code;
        uint64_t offset; /* afterwards */
    } moves[] = {
        {WALRUS_SEEK_TO, 7, 0, 7},
        {WALRUS_SEEK_TO, 11, -ERANGE, 7},
        {WALRUS_SEEK_BY, -3, 0, 4},
        {WALRUS_SEEK_BY, -5, -ERANGE, 4},
        {WALRUS_SEEK_BY, 2, 0, 6},
        {WALRUS_SEEK_BY, 5, -ERANGE, 6},
        {WALRUS_SEEK_BEGIN, 0, 0, 0},
        {WALRUS_SEEK_END, 0, 0, 10},
        {WALRUS_SEEK_BY, 0, 0, 10},
        {WALRUS_SEEK_BY, INT64_MIN, -ERANGE, 10},
        {WALRUS_SEEK_BY, INT64_MAX, -ERANGE, 10},
        {WALRUS_SEEK_TO, -1, -ERANGE, 10},
        {WALRUS_SEEK_TO, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
        CHECK_INT(walrus_group_seek(group, moves[i].whence, (uint64_t)moves[i].value),
                  moves[i].code);
        CHECK_INT(rig_group_stat(&s, "t", "default").offset, moves[i].offset);
        CHECK_INT(rig_group_stat(&s, "t", "default").pending_count, 10 - moves[i].offset);
        CHECK_INT(rig_group_stat(&s, "t", "default").pending_bytes, 100 * (10 - moves[i].offset));
    }
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 0, 10, 100);
}

Test(groups, a_seek_is_durable_and_delivers_again)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct rig killed;

    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 10, 100);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 3), 0);
    rig_copy(&s, &killed);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 3, 7, 100);
    rig_expect_empty(&s, "t");
    rig_open(&killed);
    rig_expect_many(&killed, "t", 3, 7, 100);
    rig_fini(&killed);
}

Test(groups, what_a_seek_forward_passed_does_not_come_back)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append_many(&s, "t", 0, 10, 100);
    struct walrus_reader *held = rig_claim(group, 2);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 5), 0);
    CHECK_INT(walrus_reader_close(held), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 5);
    CHECK_INT(rig_group_stat(&s, "t", "default").pending_count, 5);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 5, 5, 100);
    rig_expect_empty(&s, "t");
}

Test(groups, what_is_consumed_after_a_seek_back_no_longer_counts)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append_many(&s, "t", 0, 4, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
    struct walrus_reader *held = rig_claim(group, 1);
    CHECK_INT(walrus_reader_seq(held), 2);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), 0);
    rig_finish(&s, "t", held);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 0, 4, 100); /* 2 again: it was taken before the move */
    rig_expect_empty(&s, "t");
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
}

/* ---------------------------------------------------------------------------------- counting -- */

Test(groups, counters_tell_pending_claimed_and_the_head)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_group_stat stat;

    walrus_group_stat(group, &stat);
    CHECK(!stat.head);
    CHECK_INT(stat.pending_count + stat.claimed_count, 0);
    CHECK_INT(stat.last_take_ns, 0);
    rig_append(&s, "t", 0, 0);
    walrus_group_stat(group, &stat);
    CHECK(stat.head);
    CHECK_INT(stat.head_size, 0);
    for (uint64_t seq = 1; seq < 6; seq++)
        rig_append(&s, "t", seq, 100 * seq);

    struct walrus_reader *empty = rig_claim(group, 1), *first = rig_claim(group, 1);
    walrus_group_stat(group, &stat);
    CHECK_INT(stat.offset, 0);
    CHECK_INT(stat.pending_count, 4);
    CHECK_INT(stat.pending_bytes, 200 + 300 + 400 + 500);
    CHECK_INT(stat.claimed_count, 2);
    CHECK_INT(stat.head_size, 200);
    struct walrus_reader *second = rig_claim(group, 1);
    rig_finish(&s, "t", second);
    walrus_group_stat(group, &stat);
    CHECK_INT(stat.offset, 0);
    CHECK_INT(stat.pending_count, 3);
    CHECK_INT(stat.claimed_count, 2);
    CHECK_INT(stat.head_size, 300);
    CHECK(stat.last_take_ns > 1500000000ull * 1000000000u);

    struct walrus_reader *shown;
    CHECK_INT(walrus_group_peek(group, &shown), 0);
    CHECK_INT(walrus_reader_seq(shown), 3);
    CHECK_INT(walrus_reader_size(shown), 300);
    CHECK_INT(walrus_reader_close(shown), 0);
    CHECK_INT(walrus_reader_close(first), 0);
    CHECK_INT(walrus_reader_close(empty), 0); /* which takes an entry without bytes */
    walrus_group_stat(group, &stat);
    CHECK_INT(stat.offset, 1);
    CHECK_INT(stat.pending_count, 4);
    CHECK_INT(stat.pending_bytes, 100 + 300 + 400 + 500);
    CHECK_INT(stat.claimed_count, 0);
    CHECK_INT(stat.head_size, 100);
    walrus_group_unref(group);
    rig_reopen(&s);
    stat = rig_group_stat(&s, "t", "default");
    CHECK_INT(stat.offset, 1);
    CHECK_INT(stat.pending_count, 4);
    CHECK_INT(stat.pending_bytes, 100 + 300 + 400 + 500);
    rig_expect(&s, "t", 1, 100);
    rig_expect(&s, "t", 3, 300);
}

/* ---------------------------------------------------------------------------------- watching -- */

static void count_call(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* Arms a watch on an exhausted group, has `cause` happen, and expects exactly one call. */
static void expect_one_call(struct walrus_group *group, void (*cause)(void *arg), void *arg)
{
    static atomic_int calls;

    atomic_store(&calls, 0);
    CHECK_INT(walrus_group_watch(group, count_call, &calls), WALRUS_EMPTY);
    sleep_ms(20);
    CHECK_INT(atomic_load(&calls), 0);
    cause(arg);
    CHECK_SOON(atomic_load(&calls) == 1);
    rig_append(&s, "elsewhere", 0, 10);
    sleep_ms(30);
    CHECK_INT(atomic_load(&calls), 1);
}

static uint64_t append_seq;

static void cause_append(void *arg)
{
    (void)arg;
    rig_append(&s, "t", append_seq++, 100);
    rig_append(&s, "t", append_seq++, 100); /* the watch is spent */
}

static void cause_give_back(void *arg)
{
    CHECK_INT(walrus_reader_close(arg), 0);
}

static void cause_seek(void *arg)
{
    CHECK_INT(walrus_group_seek(arg, WALRUS_SEEK_BY, (uint64_t)-1), 0);
}

static void cause_removal(void *arg)
{
    CHECK_INT(walrus_group_remove(arg), 0);
}

static void cause_topic_removal(void *arg)
{
    CHECK_INT(walrus_topic_remove(arg), 0);
}

Test(groups, a_watch_fires_once_after_an_append)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    expect_one_call(group, cause_append, NULL);
    rig_expect_many(&s, "t", 0, 2, 100);
    expect_one_call(group, cause_append, NULL);
    walrus_group_unref(group);
}

static void cause_batch(void *arg)
{
    (void)arg;
    CHECK_INT(rig_try_batch(&s, "t", 0, 10, 100), 0);
}

static void cause_blob(void *arg)
{
    struct walrus_blob *blob = arg;
    CHECK_INT(walrus_blob_write(blob, "x", 1), 0);
    CHECK_INT(walrus_blob_commit(blob, false, NULL), 0);
}

Test(groups, a_watch_fires_once_after_a_batch_and_after_a_blob)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_blob *blob;

    expect_one_call(group, cause_batch, NULL);
    rig_expect_many(&s, "t", 0, 10, 100);
    CHECK_INT(walrus_blob_open(topic, &blob), 0);
    expect_one_call(group, cause_blob, blob);
    walrus_topic_unref(topic);
    walrus_group_unref(group);
}

Test(groups, a_watch_fires_once_when_an_entry_comes_back)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append(&s, "t", 0, 100);
    expect_one_call(group, cause_give_back, rig_claim(group, 1));
    walrus_group_unref(group);
    rig_expect(&s, "t", 0, 100);
}

Test(groups, a_watch_fires_once_after_a_seek_back)
{
    struct walrus_group *group = rig_group(&s, "t", "default");

    rig_append(&s, "t", 0, 100);
    rig_expect(&s, "t", 0, 100);
    expect_one_call(group, cause_seek, group);
    walrus_group_unref(group);
    rig_expect(&s, "t", 0, 100);
}

Test(groups, a_watch_fires_once_when_its_group_or_topic_is_removed)
{
    struct walrus_group *group = rig_group(&s, "t", "default"), *other = rig_group(&s, "t", "o");
    struct walrus_topic *topic = rig_topic(&s, "u");

    expect_one_call(other, cause_removal, other);
    CHECK_INT(walrus_group_watch(other, count_call, NULL), 0);
    walrus_group_unref(other);
    other = rig_group(&s, "u", "default");
    expect_one_call(other, cause_topic_removal, topic);
    walrus_group_unref(other);
    walrus_topic_unref(topic);
    walrus_group_unref(group);
}

Test(groups, a_watch_is_not_armed_when_there_is_something_already)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    static atomic_int calls;

    rig_append(&s, "t", 0, 100);
    CHECK_INT(walrus_group_watch(group, count_call, &calls), 0);
    rig_append(&s, "t", 1, 100);
    sleep_ms(30);
    CHECK_INT(atomic_load(&calls), 0);
    walrus_group_unref(group);
}

Test(groups, a_watch_that_was_disarmed_or_replaced_does_not_fire)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    static atomic_int first, second;

    CHECK_INT(walrus_group_watch(group, count_call, &first), WALRUS_EMPTY);
    CHECK_INT(walrus_group_watch(group, count_call, &second), WALRUS_EMPTY);
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(atomic_load(&second) == 1);
    rig_expect(&s, "t", 0, 100);
    CHECK_INT(walrus_group_watch(group, count_call, &first), WALRUS_EMPTY);
    (void)!walrus_group_watch(group, NULL, NULL);
    rig_append(&s, "t", 1, 100);
    sleep_ms(30);
    CHECK_INT(atomic_load(&first), 0);
    CHECK_INT(atomic_load(&second), 1);
    walrus_group_unref(group);
}

static void append_from_watch(void *arg)
{
    /* no lock of the library is held: everything may be called */
    rig_append(&s, "t", 1, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
    atomic_store((atomic_int *)arg, 1);
}

Test(groups, a_watch_may_call_the_library)
{
    struct walrus_group *group = rig_group(&s, "t", "default");
    static atomic_int done;

    CHECK_INT(walrus_group_watch(group, append_from_watch, &done), WALRUS_EMPTY);
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(atomic_load(&done) == 1);
    walrus_group_unref(group);
    rig_expect_empty(&s, "t");
}

Test(groups, watches_of_different_groups_do_not_disturb_each_other)
{
    struct walrus_group *a = rig_group(&s, "t", "default"), *b = rig_group(&s, "t", "b");
    static atomic_int a_calls, b_calls;

    CHECK_INT(walrus_group_watch(a, count_call, &a_calls), WALRUS_EMPTY);
    CHECK_INT(walrus_group_watch(b, count_call, &b_calls), WALRUS_EMPTY);
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(atomic_load(&a_calls) == 1 && atomic_load(&b_calls) == 1);
    walrus_group_unref(a);
    walrus_group_unref(b);
}
