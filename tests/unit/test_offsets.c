/* SPDX-License-Identifier: MIT */
/* test_offsets.c - a stored offset is there after any crash, at most a step older after damage to
 * one copy, and never somebody else's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "faultos.h"
#include "format.h"
#include "offsets.h"
#include "os.h"
#include "tmpdir.h"

#define NAME   "read_offset_idx_index.db"
#define EXTENT 65536u

static const uint8_t uuid[16] = "uuid-of-a-store";

static unsigned report_count;
static char *dir;
static int dirfd;
static struct offsets *offsets;

static void note_report(void *arg, const struct walrus_report *event)
{
    report_count++;
}

static int try_open(bool read_only)
{
    static const struct reporter reporter = {.report = note_report};

    report_count = 0;
    return offsets_open(dirfd, uuid, read_only, &reporter, &offsets);
}

static void open_it(void)
{
    cr_assert_eq(try_open(false), 0);
}

static void close_it(void)
{
    offsets_close(offsets);
    offsets = NULL;
}

static void reopen(void)
{
    close_it();
    open_it();
}

static void init(void)
{
    dir = tmpdir_create();
    dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    cr_assert_geq(dirfd, 0);
}

static void init_open(void)
{
    init();
    open_it();
}

static void fini(void)
{
    offsets_close(offsets);
    close(dirfd);
    tmpdir_destroy(dir);
}

static struct offset_value at(uint64_t offset)
{
    return (struct offset_value){.topic_id = 3, .group_id = 1, .offset = offset};
}

static int store(uint32_t slot, uint64_t offset)
{
    struct offset_value value = at(offset);

    return offsets_store(offsets, slot, &value);
}

static uint32_t take(void)
{
    uint32_t slot = UINT32_MAX;

    cr_assert_eq(offsets_take(offsets, &slot), 0);
    return slot;
}

static enum offsets_slot_state state(uint32_t slot)
{
    struct offset_value value;

    return offsets_get(offsets, slot, &value);
}

static uint64_t offset_of(uint32_t slot)
{
    struct offset_value value = {.offset = UINT64_MAX};

    cr_assert_neq(offsets_get(offsets, slot, &value), OFFSETS_NONE);
    return value.offset;
}

/* As docs/disk-format.md has it. */
static uint64_t place(uint32_t n, uint32_t c)
{
    return (uint64_t)(n / 64) * 65536 + c * 32768 + n % 64 * 512;
}

static void poke(uint64_t off, const void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_WRONLY);

    cr_assert_eq(pwrite(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

static void peek(uint64_t off, void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_RDONLY);

    cr_assert_eq(pread(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

/* Inverts a bit within one copy of a slot. */
static void spoil(uint32_t slot, uint32_t copy, size_t bit)
{
    uint8_t byte;

    peek(place(slot, copy) + bit / 8, &byte, 1);
    byte ^= (uint8_t)(1u << bit % 8);
    poke(place(slot, copy) + bit / 8, &byte, 1);
}

static uint64_t file_size(void)
{
    struct stat st;

    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    return (uint64_t)st.st_size;
}

static void set_size(uint64_t size)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/" NAME, dir);
    cr_assert_eq(truncate(path, (off_t)size), 0);
}

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
    cr_assert_eq(take(), 1);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(store(0, i), 0);
    cr_assert_eq(offsets_store(offsets, 1, &value), 0);
    reopen();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(offset_of(0), 4);
    cr_assert_eq(offsets_get(offsets, 1, &got), OFFSETS_GOOD);
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

/* ------------------------------------------------------------------------------------- damage --
 */

Test(offsets, are_a_step_older_at_most_whatever_bit_of_a_copy_is_wrong, .init = init_open,
     .fini = fini)
{
    take();
    for (uint64_t i = 1; i <= 4; i++)
        cr_assert_eq(store(0, i), 0);
    close_it();
    for (uint32_t copy = 0; copy < 2; copy++) {
        for (size_t bit = 0; bit < 512 * 8; bit++) {
            spoil(0, copy, bit);
            open_it();
            cr_assert_eq(state(0), OFFSETS_ONE_BAD, "copy %u, bit %zu", copy, bit);
            cr_assert_eq(offset_of(0), copy == 0 ? 3 : 4);
            close_it();
            spoil(0, copy, bit);
        }
    }
    open_it();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(offset_of(0), 4);
}

Test(offsets, are_mended_by_the_next_store_when_a_copy_is_bad, .init = init_open, .fini = fini)
{
    take();
    for (uint64_t i = 1; i <= 4; i++)
        cr_assert_eq(store(0, i), 0);
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint64_t kept;

        close_it();
        spoil(0, copy, 300);
        open_it();
        kept = offset_of(0);
        cr_assert_eq(offsets_claim(offsets, 0), 0);
        cr_assert_eq(store(0, kept + 10), 0);
        reopen();
        cr_assert_eq(state(0), OFFSETS_GOOD);
        cr_assert_eq(offset_of(0), kept + 10);
        cr_assert_eq(offsets_claim(offsets, 0), 0);
        cr_assert_eq(store(0, kept + 11), 0);
        reopen();
        cr_assert_eq(offset_of(0), kept + 11);
        cr_assert_eq(offsets_claim(offsets, 0), 0);
    }
}

Test(offsets, say_when_both_copies_are_bad_and_can_be_stored_again, .init = init_open, .fini = fini)
{
    take();
    for (uint64_t i = 1; i <= 4; i++)
        cr_assert_eq(store(0, i), 0);
    close_it();
    spoil(0, 0, 300);
    spoil(0, 1, 300);
    open_it();
    cr_assert_eq(state(0), OFFSETS_BAD);
    cr_assert_eq(state(1), OFFSETS_NONE);
    cr_assert_eq(offsets_claim(offsets, 0), 0);
    cr_assert_eq(store(0, 70), 0);
    reopen();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(offset_of(0), 70);
}

Test(offsets, survive_the_damage_of_one_copy_even_when_stored_only_once, .init = init_open,
     .fini = fini)
{
    for (uint32_t copy = 0; copy < 2; copy++) {
        take(); /* slot 0, then slot 1, which belonged to somebody before */
        if (copy == 1) {
            cr_assert_eq(store(1, 4), 0);
            cr_assert_eq(offsets_give_back(offsets, 1), 0);
            take();
        }
        cr_assert_eq(store(copy, 5), 0);
        close_it();
        spoil(copy, copy, 300);
        open_it();
        cr_assert_eq(state(copy), OFFSETS_ONE_BAD);
        cr_assert_eq(offset_of(copy), 5);
        cr_assert_eq(offsets_claim(offsets, 0), 0);
    }
}

Test(offsets, tell_a_first_store_that_was_cut_short_from_damage, .init = init_open, .fini = fini)
{
    uint8_t zeros[512] = {0};

    take();
    cr_assert_eq(store(0, 1), 0);
    close_it();
    spoil(0, 0, 300);
    poke(place(0, 1), zeros, sizeof(zeros));
    open_it();
    cr_assert_eq(state(0), OFFSETS_FIRST_TORN);
    cr_assert_eq(offsets_claim(offsets, 0), 0);
    cr_assert_eq(store(0, 2), 0);
    reopen();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(offset_of(0), 2);
}

Test(offsets, hold_the_older_value_when_a_store_is_torn_at_any_byte, .init = init_open,
     .fini = fini)
{
    uint8_t before[512], after[512], torn[512];

    take();
    for (uint64_t i = 1; i <= 3; i++)
        cr_assert_eq(store(0, i), 0);
    peek(place(0, 0), before, 512);
    cr_assert_eq(store(0, 4), 0);
    peek(place(0, 0), after, 512);
    close_it();
    for (size_t cut = 0; cut <= 512; cut++) {
        memcpy(torn, after, cut);
        memcpy(torn + cut, before + cut, 512 - cut);
        poke(place(0, 0), torn, 512);
        open_it();
        cr_assert_neq(state(0), OFFSETS_BAD, "cut at %zu", cut);
        cr_assert_eq(offset_of(0), memcmp(torn, after, 512) == 0 ? 4 : 3, "cut at %zu", cut);
        close_it();
    }
}

Test(offsets, do_not_validate_in_another_slot_or_copy, .init = init_open, .fini = fini)
{
    struct format_slot raw;

    take();
    cr_assert_eq(store(0, 1), 0);
    peek(place(0, 0), &raw, sizeof(raw));
    close_it();
    poke(place(1, 0), &raw, sizeof(raw));
    poke(place(2, 0), &raw, sizeof(raw));
    poke(place(2, 1), &raw, sizeof(raw));
    open_it();
    cr_assert_eq(state(0), OFFSETS_GOOD);
    cr_assert_eq(state(1), OFFSETS_FIRST_TORN);
    cr_assert_eq(state(2), OFFSETS_BAD);
}

Test(offsets, survive_any_bytes_in_the_file, .init = init_open, .fini = fini)
{
    unsigned seed = (unsigned)getpid();
    struct format_slot raw;
    struct offset_value value = at(5);
    uint8_t *noise = malloc(3 * EXTENT);

    printf("# seed=%u\n", seed);
    close_it();
    for (size_t i = 0; i < 3 * EXTENT; i++)
        noise[i] = (uint8_t)(rand_r(&seed) >> 8);
    poke(0, noise, 3 * EXTENT);
    free(noise);
    /* One that nothing can follow. */
    format_slot_encode(&raw, &value, UINT64_MAX, format_seed_slot(uuid, 9, 0));
    poke(place(9, 0), &raw, sizeof(raw));
    open_it();
    cr_assert_eq(offsets_slot_count(offsets), 192);
    for (uint32_t slot = 0; slot < 192; slot++)
        cr_assert_eq(state(slot), OFFSETS_BAD);
    for (uint32_t slot = 0; slot < 192; slot++) {
        cr_assert_eq(offsets_claim(offsets, slot), 0);
        cr_assert_eq(store(slot, slot), 0);
    }
    reopen();
    for (uint32_t slot = 0; slot < 192; slot++)
        cr_assert_eq(offset_of(slot), slot);
}

Test(offsets, accept_any_length_of_the_file_and_report_it, .init = init_open, .fini = fini)
{
    static const uint64_t sizes[] = {0, 1, 511, 512, 32768, 65535, 65536, 65537, 100000};

    cr_assert_eq(offsets_claim(offsets, 64), 0);
    close_it();
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        set_size(sizes[i]);
        open_it();
        cr_assert_eq(file_size(), round_up(sizes[i], EXTENT));
        cr_assert_eq(offsets_slot_count(offsets), file_size() / 1024);
        cr_assert_eq(report_count, sizes[i] % EXTENT != 0);
        cr_assert_neq(state(0), OFFSETS_GOOD);
        cr_assert_eq(take(), 0);
        cr_assert_eq(store(0, 8), 0);
        cr_assert_eq(offsets_give_back(offsets, 0), 0);
        close_it();
    }
    set_size(((uint64_t)1 << 30) + 1);
    cr_assert_eq(try_open(false), -EBADMSG);
}

Test(offsets, read_around_a_page_that_the_disk_cannot_give_back, .init = init_open, .fini = fini)
{
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(take(), i);
        cr_assert_eq(store(i, i), 0);
        cr_assert_eq(store(i, i), 0);
    }
    close_it();
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_READ, .nth = 1, .error = EIO});
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_READ, .nth = 2, .error = EIO});
    cr_assert_eq(try_open(false), 0);
    faultos_remove();
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(state(i), i < 8 ? OFFSETS_ONE_BAD : OFFSETS_GOOD);
        cr_assert_eq(offset_of(i), i);
    }
}

/* ----------------------------------------------------------------------------- taking and giving
 * -- */

Test(offsets, are_given_back_as_nobodys_and_taken_again, .init = init_open, .fini = fini)
{
    for (uint32_t i = 0; i < 10; i++) {
        cr_assert_eq(take(), i);
        cr_assert_eq(store(i, i), 0);
    }
    cr_assert_eq(offsets_give_back(offsets, 7), 0);
    cr_assert_eq(offsets_give_back(offsets, 3), 0);
    cr_assert_eq(take(), 3);
    cr_assert_eq(take(), 7);
    cr_assert_eq(take(), 10);
    reopen();
    cr_assert_eq(state(3), OFFSETS_NONE);
    cr_assert_eq(state(7), OFFSETS_NONE);
    cr_assert_eq(state(8), OFFSETS_GOOD);
    /* Neither copy of a slot that was given back still holds the old group's offset. */
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct format_slot raw;

        peek(place(3, copy), &raw, sizeof(raw));
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
    cr_assert_eq(offsets_claim(offsets, 5), 0);
    cr_assert_eq(offsets_claim(offsets, 5), -EEXIST);
    for (uint32_t i = 0; i < 5; i++)
        cr_assert_eq(take(), i);
    cr_assert_eq(take(), 6);
    cr_assert_eq(offsets_claim(offsets, 6), -EEXIST);
    cr_assert_eq(offsets_give_back(offsets, 5), 0);
    cr_assert_eq(offsets_claim(offsets, 5), 0);
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
        cr_assert_eq(take(), i);
    cr_assert_eq(file_size(), EXTENT);
    faultos_install();
    cr_assert_eq(take(), 64);
    cr_assert_eq(faultos_count(FAULTOS_FDATASYNC), 1);
    faultos_remove();
    cr_assert_eq(file_size(), 2 * EXTENT);
    cr_assert_eq(offsets_slot_count(offsets), 128);
    for (uint32_t i = 65; i < 128; i++)
        cr_assert_eq(take(), i);
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
    take();
    cr_assert_eq(store(0, 1), 0);
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE_DURABLE, .nth = 1, .error = EIO});
    cr_assert_eq(store(0, 2), -EIO);
    cr_assert_eq(offsets_error(offsets), -EIO);
    cr_assert_eq(report_count, 1);
    calls = faultos_count(FAULTOS_ANY);
    cr_assert_eq(store(0, 3), -EIO);
    cr_assert_eq(store(1, 1), -EIO);
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
    for (uint32_t slot = 0; slot < 400; slot++) {
        cr_assert_eq(offsets_get(offsets, slot, &got), OFFSETS_GOOD);
        cr_assert_eq(got.group_id, slot + 1);
        cr_assert_eq(got.offset, 3);
    }
}
