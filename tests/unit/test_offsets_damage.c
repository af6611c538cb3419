/* SPDX-License-Identifier: MIT */
/* test_offsets_damage.c - a stored offset is at most a step older after damage to one copy, or a store
 * that was cut short, and damage to both is told. */
#include "offsets_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "faultos.h"
#include "format.h"

Test(offsets_damage, are_a_step_older_at_most_whatever_bit_of_a_copy_is_wrong, .init = init_open,
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

Test(offsets_damage, are_mended_by_the_next_store_when_a_copy_is_bad, .init = init_open,
     .fini = fini)
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

Test(offsets_damage, say_when_both_copies_are_bad_and_can_be_stored_again, .init = init_open,
     .fini = fini)
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

Test(offsets_damage, survive_the_damage_of_one_copy_even_when_stored_only_once, .init = init_open,
     .fini = fini)
{
    for (uint32_t copy = 0; copy < 2; copy++) {
        const uint32_t slot = take(); /* the second one belonged to somebody before */
        if (copy == 1) {
            cr_assert_eq(store(slot, 4), 0);
            cr_assert_eq(offsets_give_back(offsets, slot), 0);
            cr_assert_eq(take(), slot);
        }
        cr_assert_eq(store(slot, 5), 0);
        close_it();
        spoil(slot, copy, 300);
        open_it();
        cr_assert_eq(state(slot), OFFSETS_ONE_BAD);
        cr_assert_eq(offset_of(slot), 5);
        cr_assert_eq(offsets_claim(offsets, 0), 0);
    }
}

Test(offsets_damage, tell_a_first_store_that_was_cut_short_from_damage, .init = init_open,
     .fini = fini)
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

Test(offsets_damage, hold_the_older_value_when_a_store_is_torn_at_any_byte, .init = init_open,
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

Test(offsets_damage, do_not_validate_in_another_slot_or_copy, .init = init_open, .fini = fini)
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

Test(offsets_damage, survive_any_bytes_in_the_file, .init = init_open, .fini = fini)
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

Test(offsets_damage, accept_any_length_of_the_file_and_report_it, .init = init_open, .fini = fini)
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

Test(offsets_damage, read_around_a_page_that_the_disk_cannot_give_back, .init = init_open,
     .fini = fini)
{
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(offsets_claim(offsets, i), 0);
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
