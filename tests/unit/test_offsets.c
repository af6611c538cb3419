/* SPDX-License-Identifier: MIT */
/* test_offsets.c - a stored offset is there after any fault, and never somebody else's. */
#include "offsets_rig.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "faultos.h"
#include "format.h"
#include "os.h"

Test(offsets, are_made_where_they_are_missing_and_hold_nothing, .init = init, .fini = fini)
{
    struct stat st;

    open_it();
    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(st.st_size, EXTENT);
    reopen();
    for (uint32_t slot = 0; slot < 70; slot++)
        cr_assert_eq(state(slot), OFFSETS_NONE);
    cr_assert_eq(state(UINT32_MAX), OFFSETS_NONE);
    cr_assert_eq(report_count, 0);
    cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
}

Test(offsets, are_synced_before_and_after_the_file_gets_its_name, .init = init, .fini = fini)
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
            close(openat(dirfd, NAME, O_WRONLY | O_CREAT, 0600));
    }
    faultos_remove();
}

Test(offsets, give_back_what_was_stored_last, .init = init_open, .fini = fini)
{
    struct offset_value value = at(1000), got;

    value.range_count = OFFSETS_RANGE_COUNT_MAX;
    for (uint32_t i = 0; i < value.range_count; i++)
        value.ranges[i] = (struct offset_range){1001 + 10 * i, 1005 + 10 * i};
    value.ranges[55].end = value.ranges[55].first + UINT32_MAX;
    cr_assert_eq(take(), 0);
    cr_assert_eq(take(), 8);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(store(0, i), 0);
    cr_assert_eq(offsets_store(offsets, 8, &value), 0);
    reopen();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(offset_of(0), 4);
    cr_assert_eq(offsets_get(offsets, 8, &got), OFFSETS_GOOD);
    cr_assert_eq(got.topic_id, 3);
    cr_assert_eq(got.group_id, 1);
    cr_assert_eq(got.offset, 1000);
    cr_assert_eq(memcmp(got.ranges, value.ranges, sizeof(got.ranges)), 0);
}

Test(offsets, are_stored_with_one_durable_write_and_nothing_else, .init = init_open, .fini = fini)
{
    uint32_t slot = take();

    faultos_install();
    cr_assert_eq(store(slot, 1), 0); /* the first goes into both copies */
    cr_assert_eq(faultos_count(FAULTOS_WRITE_DURABLE), 2);
    cr_assert_eq(store(slot, 2), 0);
    cr_assert_eq(faultos_count(FAULTOS_WRITE_DURABLE), 3);
    cr_assert_eq(faultos_count(FAULTOS_ANY), 3);
    faultos_remove();
}

Test(offsets, go_into_the_two_copies_in_turn_across_openings, .init = init_open, .fini = fini)
{
    struct format_slot raw;

    take();
    cr_assert_eq(store(0, 0), 0); /* into both */
    for (uint64_t i = 1; i <= 6; i++) {
        cr_assert_eq(store(0, i), 0);
        peek(place(0, (i - 1) % 2), &raw, sizeof(raw));
        cr_assert_eq(le64_get(raw.offset), i);
        cr_assert_eq(le64_get(raw.generation), i + 2);
        if (i % 3 == 0) {
            reopen();
            cr_assert_eq(offsets_claim(offsets, 0), 0);
        }
    }
}

Test(offsets, lie_where_the_document_says, .init = init_open, .fini = fini)
{
    static const uint32_t slots[] = {0, 1, 63, 64, 130};
    struct format_slot raw;
    struct offset_value got;
    uint64_t generation;

    cr_assert_eq(offsets_claim(offsets, 130), 0);
    for (size_t i = 0; i < ARRAY_COUNT(slots); i++) {
        if (slots[i] != 130)
            cr_assert_eq(offsets_claim(offsets, slots[i]), 0);
        cr_assert_eq(store(slots[i], 1), 0); /* the first goes into both copies */
        for (uint32_t copy = 0; copy < 2; copy++) {
            cr_assert_eq(store(slots[i], 100 * slots[i] + copy), 0);
            peek(place(slots[i], copy), &raw, sizeof(raw));
            cr_assert_eq(format_slot_decode(&raw, sizeof(raw),
                                            format_seed_slot(uuid, slots[i], copy), &got,
                                            &generation),
                         0);
            cr_assert_eq(got.offset, 100 * slots[i] + copy);
        }
    }
}

/* ----------------------------------------------------------------------------- taking and giving
 * -- */

Test(offsets, are_given_back_as_nobodys_and_taken_again, .init = init_open, .fini = fini)
{
    for (uint32_t i = 0; i < 10; i++) {
        uint32_t slot = take();
        cr_assert_eq(slot, in_turn(i));
        cr_assert_eq(store(slot, i), 0);
    }
    cr_assert_eq(offsets_give_back(offsets, in_turn(7)), 0);
    cr_assert_eq(offsets_give_back(offsets, in_turn(3)), 0);
    cr_assert_eq(take(), in_turn(3));
    cr_assert_eq(take(), in_turn(7));
    cr_assert_eq(take(), in_turn(10));
    reopen();
    cr_assert_eq(state(in_turn(3)), OFFSETS_NONE);
    cr_assert_eq(state(in_turn(7)), OFFSETS_NONE);
    cr_assert_eq(state(in_turn(8)), OFFSETS_GOOD);
    /* Neither copy of a slot that was given back still holds the old group's offset. */
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct format_slot raw;

        peek(place(in_turn(3), copy), &raw, sizeof(raw));
        cr_assert_eq(le64_get(raw.topic_id), 0);
        cr_assert_gt(le64_get(raw.generation), 1);
    }
}

Test(offsets, of_a_new_owner_win_over_those_of_the_old_one, .init = init_open, .fini = fini)
{
    struct offset_value value = {.topic_id = 8, .group_id = 2, .offset = 1}, got;

    take();
    for (uint64_t i = 1; i <= 5; i++)
        cr_assert_eq(store(0, 1000 + i), 0);
    cr_assert_eq(offsets_give_back(offsets, 0), 0);
    cr_assert_eq(take(), 0);
    cr_assert_eq(offsets_store(offsets, 0, &value), 0);
    reopen();
    cr_assert_eq(offsets_get(offsets, 0, &got), OFFSETS_GOOD);
    cr_assert_eq(got.topic_id, 8);
    cr_assert_eq(got.offset, 1);
}

Test(offsets, left_by_a_group_that_is_gone_are_cleared_before_another_gets_the_slot,
     .init = init_open, .fini = fini)
{
    struct format_slot raw;

    take();
    cr_assert_eq(store(0, 1), 0);
    cr_assert_eq(store(0, 2), 0);
    reopen(); /* nobody claims it: its group was removed, the crash came before give_back */
    cr_assert_eq(take(), 0);
    for (uint32_t copy = 0; copy < 2; copy++) {
        peek(place(0, copy), &raw, sizeof(raw));
        cr_assert_eq(le64_get(raw.topic_id), 0);
    }
    reopen();
    cr_assert_eq(state(0), OFFSETS_NONE);
}

Test(offsets, are_claimed_once, .init = init_open, .fini = fini)
{
    const uint32_t fifth = in_turn(5), sixth = in_turn(6);

    cr_assert_eq(offsets_claim(offsets, fifth), 0);
    cr_assert_eq(offsets_claim(offsets, fifth), -EEXIST);
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(take(), in_turn(i));
    cr_assert_eq(take(), sixth);
    cr_assert_eq(offsets_claim(offsets, sixth), -EEXIST);
    cr_assert_eq(offsets_give_back(offsets, fifth), 0);
    cr_assert_eq(offsets_claim(offsets, fifth), 0);
}

Test(offsets, can_be_claimed_behind_the_end_of_a_file_that_was_cut, .init = init_open, .fini = fini)
{
    cr_assert_eq(offsets_claim(offsets, 200), 0);
    cr_assert_eq(offsets_slot_count(offsets), 256);
    cr_assert_eq(file_size(), 4 * EXTENT);
    cr_assert_eq(store(200, 9), 0);
    /* Not at any price: the number comes from the disk. */
    cr_assert_eq(offsets_claim(offsets, UINT32_MAX), -ENOSPC);
    cr_assert_eq(offsets_claim(offsets, 1 << 20), -ENOSPC);
    cr_assert_eq(file_size(), 4 * EXTENT);
    reopen();
    cr_assert_eq(offset_of(200), 9);
}

Test(offsets, grow_by_extents_that_are_durable_before_a_slot_is_taken, .init = init_open,
     .fini = fini)
{
    uint32_t slot = 99;

    for (uint32_t i = 0; i < 64; i++)
        cr_assert_eq(take(), in_turn(i));
    cr_assert_eq(file_size(), EXTENT);
    faultos_install();
    cr_assert_eq(take(), 64);
    cr_assert_eq(faultos_count(FAULTOS_FDATASYNC), 1);
    faultos_remove();
    cr_assert_eq(file_size(), 2 * EXTENT);
    cr_assert_eq(offsets_slot_count(offsets), 128);
    for (uint32_t i = 65; i < 128; i++)
        cr_assert_eq(take(), in_turn(i));
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 2, .error = ENOSPC});
    faultos_limit_transfer(5000); /* part of the extent gets there */
    cr_assert_eq(offsets_take(offsets, &slot), -ENOSPC);
    faultos_remove();
    cr_assert_eq(slot, 99);
    cr_assert_eq(file_size(), 2 * EXTENT);
    cr_assert_eq(report_count, 0);
    cr_assert_eq(offsets_error(offsets), 0);
    cr_assert_eq(store(5, 5), 0);
    cr_assert_eq(take(), 128);
}

Test(offsets, cost_little_memory_once_they_are_loaded, .init = init_open, .fini = fini)
{
    const uint32_t count = 60000;
    struct mallinfo2 before = mallinfo2();
    size_t bytes;

    cr_assert_eq(offsets_claim(offsets, count), 0);
    cr_assert_eq(store(count, 1), 0);
    reopen();
    cr_assert_eq(offset_of(count), 1);
    offsets_loaded(offsets);
    bytes = mallinfo2().uordblks + mallinfo2().hblkhd - before.uordblks - before.hblkhd;
    cr_assert_lt(bytes / count, 32, "%zu bytes a slot", bytes / count);
    cr_assert_eq(offsets_claim(offsets, count), 0);
    cr_assert_eq(store(count, 2), 0);
    reopen();
    cr_assert_eq(offset_of(count), 2);
}

/* ------------------------------------------------------------------------------- refusals, faults
 * -- */

Test(offsets, refuse_ranges_that_do_not_fit_and_store_nothing, .init = init_open, .fini = fini)
{
    struct offset_value value = at(10);

    take();
    cr_assert_eq(store(0, 10), 0);
    faultos_install();
    value.range_count = 1;
    value.ranges[0] = (struct offset_range){10 + (UINT64_C(1) << 32), 11 + (UINT64_C(1) << 32)};
    cr_assert_eq(offsets_store(offsets, 0, &value), -EOVERFLOW);
    value.ranges[0] = (struct offset_range){11, 11 + (UINT64_C(1) << 32)};
    cr_assert_eq(offsets_store(offsets, 0, &value), -EOVERFLOW);
    value.range_count = OFFSETS_RANGE_COUNT_MAX + 1;
    cr_assert_eq(offsets_store(offsets, 0, &value), -EOVERFLOW);
    cr_assert_eq(faultos_count(FAULTOS_ANY), 0);
    faultos_remove();
    value.range_count = 1;
    value.ranges[0] = (struct offset_range){9 + (UINT64_C(1) << 32), 11 + (UINT64_C(1) << 32)};
    cr_assert_eq(offsets_store(offsets, 0, &value), 0);
}

Test(offsets, take_a_failed_store_for_final, .init = init_open, .fini = fini)
{
    uint32_t slot = 99;
    uint64_t calls;

    take();
    const uint32_t other = take();
    cr_assert_eq(store(0, 1), 0);
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE_DURABLE, .nth = 1, .error = EIO});
    cr_assert_eq(store(0, 2), -EIO);
    cr_assert_eq(offsets_error(offsets), -EIO);
    cr_assert_eq(report_count, 1);
    calls = faultos_count(FAULTOS_ANY);
    cr_assert_eq(store(0, 3), -EIO);
    cr_assert_eq(store(other, 1), -EIO);
    cr_assert_eq(offsets_take(offsets, &slot), -EIO);
    cr_assert_eq(offsets_give_back(offsets, 0), -EIO);
    cr_assert_eq(faultos_count(FAULTOS_ANY), calls);
    cr_assert_eq(report_count, 1);
    faultos_remove();
    reopen();
    cr_assert_eq(offset_of(0), 1);
}

Test(offsets, take_a_failed_sync_of_a_longer_file_for_final, .init = init_open, .fini = fini)
{
    uint32_t slot;

    for (uint32_t i = 0; i < 64; i++)
        take();
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FDATASYNC, .nth = 1, .error = EIO});
    cr_assert_eq(offsets_take(offsets, &slot), -EIO);
    cr_assert_eq(store(0, 1), -EIO);
    faultos_remove();
}

Test(offsets, keep_a_slot_taken_when_it_cannot_be_cleared, .init = init_open, .fini = fini)
{
    take();
    cr_assert_eq(store(0, 1), 0);
    cr_assert_eq(store(0, 2), 0);
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE_DURABLE, .nth = 2, .error = EIO});
    cr_assert_eq(offsets_give_back(offsets, 0), -EIO);
    faultos_remove();
    cr_assert_eq(offsets_error(offsets), -EIO);
    reopen();
    /* One copy says nobody already. */
    cr_assert_eq(state(0), OFFSETS_NONE);
}

Test(offsets, are_made_whole_or_not_at_all_whatever_call_fails, .init = init, .fini = fini)
{
    bool failed = true;

    for (unsigned nth = 1; failed; nth++) {
        faultos_install();
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY, .nth = nth, .error = EIO});
        if (try_open(false) == 0)
            close_it();
        failed = faultos_failed_count() > 0;
        faultos_remove();
        open_it();
        cr_assert_eq(report_count, 0, "after call %u failed", nth);
        cr_assert_eq(file_size(), EXTENT);
        close_it();
        cr_assert_eq(faccessat(dirfd, NAME ".tmp", F_OK, 0), -1);
        cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
    }
}

Test(offsets, refuse_links_and_what_is_not_a_file, .init = init_open, .fini = fini)
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
}

Test(offsets, write_nothing_when_they_are_read_only, .init = init, .fini = fini)
{
    uint32_t slot = 99;

    cr_assert_eq(try_open(true), 0);
    cr_assert_eq(offsets_slot_count(offsets), 0);
    cr_assert_eq(offsets_claim(offsets, 3), 0);
    cr_assert_eq(faccessat(dirfd, NAME, F_OK, 0), -1);
    reopen();
    cr_assert_eq(take(), 0);
    cr_assert_eq(store(0, 1), 0);
    close_it();
    set_size(EXTENT + 600);
    faultos_install();
    cr_assert_eq(try_open(true), 0);
    cr_assert_eq(offset_of(0), 1);
    cr_assert_eq(offsets_claim(offsets, 0), 0);
    cr_assert_eq(store(0, 2), -EROFS);
    cr_assert_eq(offsets_take(offsets, &slot), -EROFS);
    cr_assert_eq(offsets_give_back(offsets, 0), -EROFS);
    cr_assert_eq(faultos_count(FAULTOS_WRITE) + faultos_count(FAULTOS_WRITE_DURABLE) +
                     faultos_count(FAULTOS_ANY_SYNC) + faultos_count(FAULTOS_TRUNCATE),
                 0);
    faultos_remove();
    cr_assert_eq(file_size(), EXTENT + 600);
}

/* ------------------------------------------------------------------------------------ threads --
 */

/* Takes slots, while the file grows under all of them, and stores into each. */
static void *take_and_store(void *arg)
{
    for (unsigned i = 0; i < 100; i++) {
        uint32_t slot;
        struct offset_value value = {.topic_id = 1, .group_id = 1, .offset = 0};

        if (offsets_take(offsets, &slot) < 0)
            return "take";
        value.group_id = slot + 1;
        for (value.offset = 1; value.offset <= 3; value.offset++) {
            if (offsets_store(offsets, slot, &value) < 0)
                return "store";
        }
    }
    return NULL;
}

Test(offsets, can_be_stored_side_by_side_while_the_file_grows, .init = init_open, .fini = fini)
{
    pthread_t threads[4];
    struct offset_value got;

    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, take_and_store, NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        void *failed;

        cr_assert_eq(pthread_join(threads[i], &failed), 0);
        cr_assert_null(failed);
    }
    reopen();
    for (uint32_t i = 0; i < 400; i++) {
        const uint32_t slot = in_turn(i);
        cr_assert_eq(offsets_get(offsets, slot, &got), OFFSETS_GOOD);
        cr_assert_eq(got.group_id, slot + 1);
        cr_assert_eq(got.offset, 3);
    }
}
