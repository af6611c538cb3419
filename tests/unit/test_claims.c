/* SPDX-License-Identifier: MIT */
/*
 * test_claims.c - who holds an entry, when it counts as consumed, what comes back and where, and
 * what each mode promises when the process dies in between.
 *
 * A kill is a copy of the open store's files: what the next process would find.
 */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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

TestSuite(claims, .init = setup, .fini = teardown, .timeout = 300);

static void open_at_least_once(uint32_t persist_every)
{
    s.options.consistency = WALRUS_AT_LEAST_ONCE;
    s.options.persist_every = persist_every;
    rig_open(&s);
}

/* Reads `size` bytes at `offset` of a reader over entries of 100 bytes from `first_seq` on. */
static void expect_bytes(struct walrus_reader *reader, uint64_t first_seq, uint64_t offset,
                         size_t size)
{
    uint8_t expected[100], *data = malloc(size);

    CHECK(data != NULL);
    CHECK_INT(walrus_reader_read(reader, data, size, offset, NULL), size);
    for (size_t i = 0; i < size; i++) {
        uint64_t at = offset + i;
        if (i == 0 || at % 100 == 0)
            payload_fill(s.seed, "t", first_seq + at / 100, expected, 100);
        CHECK_INT(data[i], expected[at % 100]);
    }
    free(data);
}

static void expect_no_claim(struct walrus_group *group, int code)
{
    struct walrus_reader *reader = NULL;

    CHECK_INT(walrus_group_claim(group, 1, SIZE_MAX, &reader), code);
    CHECK(reader == NULL);
}

/* ---------------------------------------------------------------------------- order and return --
 */

Test(claims, no_two_hold_the_same_entry)
{
    struct walrus_reader *readers[5];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    for (uint64_t seq = 0; seq < 5; seq++) {
        readers[seq] = rig_claim(group, 1);
        CHECK_INT(walrus_reader_seq(readers[seq]), seq);
    }
    expect_no_claim(group, WALRUS_EMPTY);
    for (uint64_t seq = 0; seq < 5; seq++)
        rig_finish(&s, "t", readers[seq]);
    walrus_group_unref(group);
    rig_expect_empty(&s, "t");
}

Test(claims, what_comes_back_is_delivered_at_its_old_place)
{
    struct walrus_reader *readers[6];

    rig_open(&s);
    rig_append_many(&s, "t", 0, 8, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    for (size_t i = 0; i < 6; i++)
        readers[i] = rig_claim(group, 1);
    const size_t back[] = {4, 1, 3, 0};
    for (size_t i = 0; i < 4; i++)
        CHECK_INT(walrus_reader_close(readers[back[i]]), 0);
    const uint64_t order[] = {0, 1, 3, 4, 6, 7};
    for (size_t i = 0; i < 6; i++)
        rig_expect(&s, "t", order[i], 100);
    expect_no_claim(group, WALRUS_EMPTY);
    rig_finish(&s, "t", readers[2]);
    CHECK_INT(walrus_reader_close(readers[5]), 0);
    rig_expect(&s, "t", 5, 100);
    walrus_group_unref(group);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 8);
}

Test(claims, entries_may_be_finished_out_of_order_and_a_kill_gives_back_just_the_others)
{
    struct walrus_reader *readers[8];
    struct rig killed;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    for (size_t i = 0; i < 8; i++)
        readers[i] = rig_claim(group, 1);
    const size_t finished[] = {7, 2, 0, 5, 4};
    for (size_t i = 0; i < 5; i++)
        rig_finish(&s, "t", readers[finished[i]]);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 1);
    rig_copy(&s, &killed);
    const size_t held[] = {1, 3, 6};
    for (size_t i = 0; i < 3; i++)
        CHECK_INT(walrus_reader_close(readers[held[i]]), 0);
    walrus_group_unref(group);

    struct rig *rigs[] = {&s, &killed};
    rig_open(&killed);
    rig_reopen(&s);
    for (size_t i = 0; i < 2; i++) {
        const uint64_t left[] = {1, 3, 6, 8, 9};
        CHECK_INT(rig_group_stat(rigs[i], "t", "default").pending_count, 5);
        for (size_t j = 0; j < 5; j++)
            rig_expect(rigs[i], "t", left[j], 100);
        rig_expect_empty(rigs[i], "t");
        CHECK_INT(rig_group_stat(rigs[i], "t", "default").offset, 10);
    }
    rig_fini(&killed);
}

Test(claims, fifty_six_pieces_above_a_gap_are_kept_then_claims_are_ebusy_until_it_closes)
{
    struct walrus_reader *first, *held[100];
    struct rig killed;
    size_t held_count = 0, piece_count = 0;
    uint8_t byte;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 300, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    first = rig_claim(group, 1);
    for (;;) {
        struct walrus_reader *reader = NULL;
        int rc = walrus_group_claim(group, 1, SIZE_MAX, &reader);
        if (rc == 0) {
            ssize_t got = walrus_reader_read(reader, &byte, 1, 0, NULL);
            CHECK_INT(walrus_reader_close(reader), 0);
            rc = got < 0 ? (int)got : 0;
        }
        if (rc != 0) {
            CHECK_INT(rc, -EBUSY);
            break;
        }
        CHECK(++piece_count < 100);
        rc = walrus_group_claim(group, 1, SIZE_MAX, &held[held_count]);
        if (rc == 0)
            held_count++;
        else
            CHECK_INT(rc, -EBUSY);
    }
    CHECK_INT(piece_count, 56);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EBUSY);
    rig_copy(&s, &killed);

    rig_finish(&s, "t", first); /* the gap closes */
    uint64_t seq;
    CHECK_INT(rig_take(&s, "t", &seq), 0);
    for (size_t i = 0; i < held_count; i++)
        rig_finish(&s, "t", held[i]);
    while (rig_take(&s, "t", &seq) == 0)
        ;
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 300);
    walrus_group_unref(group);

    rig_open(&killed);
    CHECK_INT(rig_group_stat(&killed, "t", "default").pending_count, 300 - 56);
    rig_expect(&killed, "t", 0, 100);
    rig_expect(&killed, "t", 2, 100);
    rig_fini(&killed);
}

Test(claims, are_bounded_by_count_and_bytes_but_give_at_least_one)
{
    const struct {
        size_t max_count, max_bytes, expected;
    } cases[] = {{1, SIZE_MAX, 1}, {5, SIZE_MAX, 5}, {10, 1, 1}, {10, 299, 2}, {10, 300, 3}};
    uint64_t next = 0;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 20, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct walrus_reader *reader;
        CHECK_INT(walrus_group_claim(group, cases[i].max_count, cases[i].max_bytes, &reader), 0);
        CHECK_INT(walrus_reader_count(reader), cases[i].expected);
        CHECK_INT(walrus_reader_size(reader), cases[i].expected * 100);
        CHECK_INT(walrus_reader_seq(reader), next);
        expect_bytes(reader, next, 0, cases[i].expected * 100);
        next += cases[i].expected;
        CHECK_INT(walrus_reader_close(reader), 0);
    }
    walrus_group_unref(group);
}

/* ------------------------------------------------------------------------------------- strict --
 */

Test(claims, strict_consumes_durably_before_the_first_byte_is_handed_out)
{
    struct rig before, after;
    uint8_t byte;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    rig_copy(&s, &before);
    CHECK_INT(walrus_reader_read(reader, &byte, 1, 0, NULL), 1);
    rig_copy(&s, &after);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect(&s, "t", 1, 100);

    rig_open(&before);
    rig_expect_many(&before, "t", 0, 2, 100);
    rig_fini(&before);
    rig_open(&after);
    rig_expect(&after, "t", 1, 100);
    rig_expect_empty(&after, "t");
    rig_fini(&after);
}

Test(claims, strict_never_delivers_twice_wherever_the_process_dies)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 300, 1000);
    for (uint64_t taken = 0; taken < 300; taken += 25) {
        struct rig killed;
        rig_expect_many(&s, "t", taken, 25, 1000);
        rig_copy(&s, &killed);
        rig_open(&killed);
        if (taken + 25 < 300)
            rig_expect(&killed, "t", taken + 25, 1000);
        else
            rig_expect_empty(&killed, "t");
        rig_fini(&killed);
    }
}

Test(claims, strict_makes_the_data_durable_before_the_offset_that_counts_it)
{
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 0);
    rig_expect(&s, "t", 0, 100);
    CHECK(rig_topic_stat(&s, "t").durable_seq >= 1);
}

Test(claims, a_batch_read_in_strict_mode_syncs_once)
{
    struct walrus_entry *entries;
    struct rig killed;
    size_t count;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 50, 100);
    CHECK_INT(walrus_batch_read(s.walrus, "t", SIZE_MAX, 30, &entries, &count), 0);
    CHECK_INT(count, 30);
    walrus_entries_free(entries, count);
    rig_copy(&s, &killed);
    rig_open(&killed);
    rig_expect_many(&killed, "t", 30, 20, 100);
    rig_fini(&killed);
}

/* ------------------------------------------------------------------------------- at least once --
 */

Test(claims, at_least_once_delivers_at_most_n_again_and_skips_none)
{
    const uint32_t every[] = {0, 1, 3, 10};

    for (size_t i = 0; i < 4; i++) {
        open_at_least_once(every[i]);
        rig_append_many(&s, "t", 0, 60, 100);
        for (uint64_t taken = 1; taken <= 47; taken++) {
            rig_expect(&s, "t", taken - 1, 100);
            if (taken % 9 != 0)
                continue;
            struct rig killed;
            uint64_t seq = 0;
            rig_copy(&s, &killed);
            rig_open(&killed);
            CHECK_INT(rig_take(&killed, "t", &seq), 0);
            CHECK(seq <= taken);
            CHECK(seq + (every[i] == 0 ? 1 : every[i]) >= taken);
            rig_expect_many(&killed, "t", seq + 1, 59 - seq, 100);
            rig_fini(&killed);
        }
        rig_reopen(&s); /* a clean end stores the offset */
        rig_expect_many(&s, "t", 47, 13, 100);
        rig_close(&s);
        rig_fini(&s);
        rig_init(&s);
    }
}

static atomic_uint taken_count;
static atomic_bool offsets_held;

static void *take_ten(void *arg)
{
    struct walrus_group *group = arg;

    for (int i = 0; i < 10; i++) {
        rig_finish(&s, "t", rig_claim(group, 1));
        atomic_fetch_add(&taken_count, 1);
    }
    return NULL;
}

static void hold_offsets(void *arg, const char *file)
{
    while (strcmp(file, "read_offset_idx_index.db") == 0 && atomic_load(&offsets_held))
        sleep_ms(1);
}

Test(claims, at_least_once_what_is_taken_while_the_offset_is_stored_counts_too)
{
    enum { EVERY = 5, THREADS = 3 };
    pthread_t threads[THREADS];
    struct rig killed;
    uint64_t seq;

    faultos_install();
    open_at_least_once(EVERY);
    rig_append_many(&s, "t", 0, 60, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    struct walrus_group *group = rig_group(&s, "t", "default");
    atomic_store(&offsets_held, true);
    faultos_on_sync(hold_offsets, NULL);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, take_ten, group), 0);
    sleep_ms(200); /* for those that ought to wait and do not */
    unsigned finished = atomic_load(&taken_count);
    rig_copy(&s, &killed);
    atomic_store(&offsets_held, false);
    for (int i = 0; i < THREADS; i++)
        CHECK_INT(pthread_join(threads[i], NULL), 0);
    faultos_on_sync(NULL, NULL);
    rig_expect_many(&s, "t", 10 * THREADS, 30, 100);
    walrus_group_unref(group);
    rig_close(&s);
    faultos_remove();

    rig_open(&killed);
    CHECK_INT(rig_take(&killed, "t", &seq), 0);
    CHECK(seq + EVERY >= finished); /* the others were in hand */
    rig_fini(&killed);
}

/* As who must not wait for the disk: the offsets are for somebody else to store. */
static void *take_and_note(void *arg)
{
    uint8_t data[100];

    for (int i = 0; i < 10; i++) {
        struct walrus_reader *reader = rig_claim(arg, 1);
        bool due = walrus_reader_due(reader);
        CHECK_INT(due, atomic_load(&taken_count) == 3);
        CHECK_INT(walrus_reader_read(reader, data, sizeof(data), 0, NULL), sizeof(data));
        int r = walrus_reader_note_delivered(reader, sizeof(data));
        CHECK(r == 0 || r == WALRUS_DUE);
        CHECK_INT(walrus_reader_close(reader), 0);
        if (atomic_fetch_add(&taken_count, 1) == 3)
            return NULL;
    }
    return NULL;
}

Test(claims, at_least_once_nothing_more_is_handed_out_before_what_is_due_was_stored)
{
    pthread_t thread;
    struct rig killed;

    faultos_install();
    open_at_least_once(3);
    rig_append_many(&s, "t", 0, 10, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    struct walrus_group *group = rig_group(&s, "t", "default");
    atomic_store(&taken_count, 0);
    atomic_store(&offsets_held, true);
    faultos_on_sync(hold_offsets, NULL);
    CHECK_INT(pthread_create(&thread, NULL, take_and_note, group), 0);
    CHECK_SOON(atomic_load(&taken_count) >= 3);
    sleep_ms(200); /* for one that ought to wait and does not */
    CHECK_INT(atomic_load(&taken_count), 3);
    rig_copy(&s, &killed);
    atomic_store(&offsets_held, false);
    CHECK_INT(pthread_join(thread, NULL), 0);
    faultos_on_sync(NULL, NULL);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 4, 6, 100);
    rig_close(&s);
    faultos_remove();

    rig_open(&killed);
    rig_expect_many(&killed, "t", 0, 10, 100);
    rig_fini(&killed);
}

Test(claims, what_was_delivered_behind_damage_does_not_consume_the_damage)
{
    struct place place;
    uint8_t data[100];

    open_at_least_once(1);
    rig_append_many(&s, "t", 0, 4, 100);
    rig_find(&s, "t", 1, 100, &place);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 4);
    place_flip(&place, -20);                                        /* in its header */
    CHECK_INT(walrus_reader_read(reader, data, 50, 150, NULL), 50); /* nobody looked at entry 1 */
    CHECK_INT(walrus_reader_delivered(reader, 200), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 1);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    CHECK_INT(rig_topic_stat(&s, "t").damaged_count, 0);
    struct walrus_entry entry;
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EBADMSG);
    rig_expect_many(&s, "t", 2, 2, 100);
}

Test(claims, what_is_noted_as_delivered_is_stored_by_whoever_may_wait)
{
    uint8_t data[400];
    struct rig before, after;

    open_at_least_once(2);
    rig_append_many(&s, "t", 0, 4, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 4);
    CHECK_INT(walrus_reader_read(reader, data, 400, 0, NULL), 400);
    CHECK_INT(walrus_reader_note_delivered(reader, 100), 0);
    CHECK_INT(walrus_reader_note_delivered(reader, 250), WALRUS_DUE);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 2);
    rig_copy(&s, &before);
    CHECK_INT(walrus_group_sync(group), 0);
    CHECK_INT(walrus_reader_note_delivered(reader, 300), 0);
    rig_copy(&s, &after);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 3, 1, 100);

    rig_open(&before);
    rig_expect_many(&before, "t", 0, 4, 100);
    rig_fini(&before);
    rig_open(&after);
    rig_expect_many(&after, "t", 2, 2, 100);
    rig_fini(&after);
}

Test(claims, at_least_once_consumes_when_the_last_byte_was_delivered)
{
    uint8_t data[300];
    struct rig killed;

    open_at_least_once(1);
    rig_append_many(&s, "t", 0, 4, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 3);
    CHECK_INT(walrus_reader_read(reader, data, 300, 0, NULL), 300);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
    CHECK_INT(walrus_reader_delivered(reader, 99), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
    CHECK_INT(walrus_reader_delivered(reader, 100), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 1);
    CHECK_INT(walrus_reader_delivered(reader, 250), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 2);
    rig_copy(&s, &killed);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 2, 2, 100);

    rig_open(&killed);
    rig_expect_many(&killed, "t", 2, 2, 100);
    rig_fini(&killed);
}

Test(claims, a_group_sync_stores_the_offset_at_once)
{
    struct rig killed;

    open_at_least_once(1000);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 7, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_sync(group), 0);
    walrus_group_unref(group);
    rig_copy(&s, &killed);
    rig_open(&killed);
    rig_expect_many(&killed, "t", 7, 3, 100);
    rig_fini(&killed);
}

Test(claims, a_store_sync_stores_all_offsets)
{
    struct rig killed;

    open_at_least_once(1000);
    rig_append_many(&s, "t", 0, 10, 100);
    rig_append_many(&s, "u", 0, 10, 100);
    rig_expect_many(&s, "t", 0, 7, 100);
    rig_expect_many(&s, "u", 0, 3, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_copy(&s, &killed);
    rig_open(&killed);
    rig_expect_many(&killed, "t", 7, 3, 100);
    rig_expect_many(&killed, "u", 3, 7, 100);
    rig_fini(&killed);
}

/* ------------------------------------------------------------------------------------ draining --
 */

Test(claims, a_drain_holds_all_that_is_pending_and_nothing_that_comes_later)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 2000, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    CHECK_INT(walrus_reader_count(reader), 2000);
    CHECK_INT(walrus_reader_size(reader), 200000);
    expect_no_claim(group, WALRUS_EMPTY);
    rig_append(&s, "t", 2000, 100);
    CHECK_INT(walrus_reader_size(reader), 200000);
    for (uint64_t off = 0; off < 200000; off += 4096)
        expect_bytes(reader, 0, off, 200000 - off < 4096 ? 200000 - off : 4096);
    uint8_t byte;
    CHECK_INT(walrus_reader_read(reader, &byte, 1, 200000, NULL), 0);
    CHECK_INT(walrus_reader_read(reader, &byte, 1, 999999, NULL), 0);
    expect_bytes(reader, 0, 199900, 100);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect(&s, "t", 2000, 100);
    rig_expect_empty(&s, "t");
}

Test(claims, a_drain_skips_what_others_hold)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 6, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *first = rig_claim(group, 1), *second = rig_claim(group, 1);
    struct walrus_reader *third = rig_claim(group, 1);
    rig_finish(&s, "t", second);
    CHECK_INT(walrus_reader_close(first), 0);
    struct walrus_reader *all = rig_claim(group, SIZE_MAX);
    CHECK_INT(walrus_reader_count(all), 4);
    uint8_t data[400], expected[400];
    CHECK_INT(walrus_reader_read(all, data, 400, 0, NULL), 400);
    const uint64_t seqs[] = {0, 3, 4, 5};
    for (size_t i = 0; i < 4; i++)
        payload_fill(s.seed, "t", seqs[i], expected + 100 * i, 100);
    CHECK(memcmp(data, expected, 400) == 0);
    CHECK_INT(walrus_reader_close(all), 0);
    CHECK_INT(walrus_reader_close(third), 0);
    walrus_group_unref(group);
    rig_expect(&s, "t", 2, 100);
    rig_expect_empty(&s, "t");
}

Test(claims, a_drain_that_was_read_in_part_gives_the_rest_back)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    expect_bytes(reader, 0, 0, 250); /* begins entry 2 */
    expect_bytes(reader, 0, 50, 120);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 3);
    CHECK_INT(rig_group_stat(&s, "t", "default").claimed_count, 7);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 3, 7, 100);
}

Test(claims, a_drain_may_be_read_from_its_end_backwards)
{
    rig_open(&s);
    rig_append_many(&s, "t", 0, 10, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    expect_bytes(reader, 0, 850, 150);
    expect_bytes(reader, 0, 400, 100);
    expect_bytes(reader, 0, 450, 20);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    const uint64_t left[] = {0, 1, 2, 3, 5, 6, 7};
    for (size_t i = 0; i < 7; i++)
        rig_expect(&s, "t", left[i], 100);
    rig_expect_empty(&s, "t");
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
}

Test(claims, a_drain_at_least_once_gives_back_what_was_not_delivered_in_full)
{
    open_at_least_once(1);
    rig_append_many(&s, "t", 0, 10, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    expect_bytes(reader, 0, 0, 1000);
    CHECK_INT(walrus_reader_delivered(reader, 450), 0);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_many(&s, "t", 4, 6, 100);
}

Test(claims, a_drain_tells_its_entries_one_by_one)
{
    struct walrus_entry entry;
    uint64_t offset = 99, total = 0;

    rig_open(&s);
    for (uint64_t seq = 0; seq < 50; seq++)
        rig_append(&s, "t", seq, seq * 40 % 300);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, SIZE_MAX);
    for (uint64_t seq = 0; seq < 50; seq++) {
        CHECK_INT(walrus_reader_entry(reader, seq, &entry, &offset), 0);
        CHECK_INT(entry.seq, seq);
        CHECK_INT(entry.size, seq * 40 % 300);
        CHECK(entry.data == NULL);
        CHECK(entry.time_ns > 1500000000ull * 1000000000u);
        CHECK_INT(offset, total);
        total += entry.size;
    }
    CHECK_INT(walrus_reader_entry(reader, 50, &entry, &offset), WALRUS_EMPTY);
    CHECK_INT(walrus_reader_entry(reader, 0, &entry, &offset), 0);
    CHECK_INT(entry.seq, 0);
    CHECK_INT(total, walrus_reader_size(reader));
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    CHECK(rig_group_stat(&s, "t", "default").offset <= 1); /* entry 0 has no bytes */
}

/* --------------------------------------------------------------------------- zero-length entries
 * -- */

Test(claims, a_zero_length_entry_is_consumed_when_its_holder_closes)
{
    for (int mode = 0; mode < 2; mode++) {
        s.options.consistency = mode == 0 ? WALRUS_STRICT : WALRUS_AT_LEAST_ONCE;
        rig_open(&s);
        rig_append(&s, "t", 0, 0);
        rig_append(&s, "t", 1, 100);
        struct walrus_group *group = rig_group(&s, "t", "default");
        struct walrus_reader *reader = rig_claim(group, 1);
        uint8_t byte;
        CHECK_INT(walrus_reader_size(reader), 0);
        CHECK_INT(walrus_reader_read(reader, &byte, 1, 0, NULL), 0);
        CHECK_INT(walrus_reader_close(reader), 0);
        walrus_group_unref(group);
        rig_expect(&s, "t", 1, 100);
        rig_expect_empty(&s, "t");
        rig_reopen(&s);
        rig_expect_empty(&s, "t");
        rig_fini(&s);
        rig_init(&s);
    }
}

Test(claims, an_entry_goes_back_when_its_reader_is_aborted_even_one_without_bytes)
{
    for (size_t size = 0; size <= 100; size += 100) {
        rig_open(&s);
        rig_append(&s, "t", 0, size);
        struct walrus_group *group = rig_group(&s, "t", "default");
        walrus_reader_abort(rig_claim(group, 1));
        walrus_reader_abort(NULL);
        walrus_group_unref(group);
        rig_expect(&s, "t", 0, size);
        rig_expect_empty(&s, "t");
        rig_fini(&s);
        rig_init(&s);
    }
}

Test(claims, zero_length_entries_are_delivered_by_every_call)
{
    struct walrus_entry *entries;
    struct walrus_entry entry;
    size_t count;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 6, 0);
    CHECK_INT(walrus_peek(s.walrus, "t", &entry), 0);
    CHECK_INT(entry.size, 0);
    CHECK(entry.data != NULL);
    free(entry.data);
    rig_expect(&s, "t", 0, 0);
    rig_expect_at(&s, "t", 3, 0);
    CHECK_INT(walrus_batch_read(s.walrus, "t", 0, 3, &entries, &count), 0);
    CHECK_INT(count, 3);
    walrus_entries_free(entries, count);
    rig_expect_many(&s, "t", 4, 2, 0);
    rig_expect_empty(&s, "t");
}

/* -------------------------------------------------------------------------- looking without taking
 * -- */

Test(claims, peeking_and_opening_an_entry_take_nothing)
{
    struct walrus_reader *reader;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *held = rig_claim(group, 1);
    CHECK_INT(walrus_group_peek(group, &reader), 0);
    CHECK_INT(walrus_reader_seq(reader), 1);
    CHECK(walrus_reader_time(reader) > 1500000000ull * 1000000000u);
    rig_finish(&s, "t", reader);
    CHECK_INT(walrus_entry_open(topic, 4, &reader), 0);
    rig_finish(&s, "t", reader);
    CHECK_INT(walrus_entry_open(topic, 5, &reader), -ENOENT);
    CHECK_INT(walrus_reader_close(held), 0);
    CHECK_INT(walrus_reader_close(NULL), 0);
    rig_expect_many(&s, "t", 0, 5, 100);
    CHECK_INT(walrus_group_peek(group, &reader), WALRUS_EMPTY);
    walrus_group_unref(group);
    walrus_topic_unref(topic);
}

Test(claims, an_open_reader_keeps_its_block_while_the_rest_is_reclaimed)
{
    struct walrus_reader *shown;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 2000, 1000);
    struct walrus_topic *topic = rig_topic(&s, "t");
    CHECK_INT(walrus_entry_open(topic, 1, &shown), 0);
    rig_expect_many(&s, "t", 0, 2000, 1000);
    rig_append_many(&s, "u", 0, 1000, 1000); /* would reuse the block */
    sleep_ms(200);
    rig_finish(&s, "t", shown);
    walrus_topic_unref(topic);
    CHECK_SOON(rig_topic_stat(&s, "t").first_seq > 1000);
    rig_expect_many(&s, "u", 0, 1000, 1000);
}

Test(claims, the_same_bytes_can_be_read_again_through_one_reader)
{
    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    for (int i = 0; i < 3; i++)
        expect_bytes(reader, 0, 0, 100);
    expect_bytes(reader, 0, 60, 40);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
    rig_expect_empty(&s, "t");
}

Test(claims, reading_no_bytes_writes_none)
{
    uint8_t guard = 0xa5;

    rig_open(&s);
    rig_append(&s, "t", 0, 100);
    struct walrus_group *group = rig_group(&s, "t", "default");
    struct walrus_reader *reader = rig_claim(group, 1);
    CHECK_INT(walrus_reader_read(reader, &guard, 0, 0, NULL), 0);
    CHECK_INT(walrus_reader_read(reader, &guard, 0, 50, NULL), 0);
    CHECK_INT(guard, 0xa5);
    CHECK_INT(walrus_reader_close(reader), 0);
    walrus_group_unref(group);
}
