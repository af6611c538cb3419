/* SPDX-License-Identifier: MIT */
/* test_registry_damage.c - the journal of topics and groups drops what a crash tore, works around what
 * was damaged, and reports it. */
#include "registry_rig.h"

#include <errno.h>
#include <stdio.h>

#include "crc32c.h"
#include "faultos.h"
#include "format.h"

/* A change of two records is cut short at every byte, the rest zeros or what a step of the same
 * length could have left. */
static void tear_everywhere(uint8_t rest)
{
    uint64_t from, to;
    uint8_t *whole;
    size_t size;

    cr_assert_eq(add_pair(1, "kept"), 0);
    from = used_end();
    cr_assert_eq(add_pair(2, "torn"), 0);
    to = used_end();
    close_it();
    whole = slurp(&size);
    for (uint64_t cut = from; cut < to; cut++) {
        uint8_t *torn = malloc(size);
        bool whole_again = true, any = false; /* a checksum may begin with zeros: nothing to see */

        memcpy(torn, whole, size);
        for (uint64_t i = cut; i < to; i++) {
            torn[i] = rest;
            whole_again = whole_again && whole[i] == rest;
        }
        for (uint64_t i = from; i < to; i++)
            any = any || torn[i] != 0;
        spill(NAME, torn, size);
        free(torn);
        open_it();
        cr_assert_eq(damaged, 0, "cut at %zu", (size_t)cut);
        cr_assert_eq(seen_count, whole_again ? 4 : 2, "cut at %zu", (size_t)cut);
        cr_assert_eq(warning_count, !whole_again && any, "cut at %zu", (size_t)cut);
        cr_assert_eq(add(topic(3, "after")), 0);
        reopen();
        cr_assert_eq(seen_count, whole_again ? 5 : 3);
        cr_assert(was_seen("after"));
        cr_assert(was_seen("kept"));
        cr_assert_eq(warning_count + error_count, 0);
        close_it();
    }
    free(whole);
}

Test(registry_damage, drops_a_change_that_is_torn_at_any_byte, .init = init_open, .fini = fini)
{
    tear_everywhere(0);
}

Test(registry_damage, drops_a_change_that_ends_in_garbage_at_any_byte, .init = init_open,
     .fini = fini)
{
    tear_everywhere(0xa5);
}

Test(registry_damage, drops_the_end_of_a_change_whose_beginning_is_missing, .init = init_open,
     .fini = fini)
{
    uint64_t from;
    uint8_t zeros[8] = {0};

    cr_assert_eq(add_pair(1, "kept"), 0);
    from = used_end();
    cr_assert_eq(add_pair(2, "torn"), 0);
    close_it();
    poke(from + 40, zeros, sizeof(zeros)); /* the second record is whole */
    poke(from, zeros, sizeof(zeros));
    open_it();
    cr_assert_eq(seen_count, 2);
    cr_assert_eq(damaged, 0);
    cr_assert_eq(warning_count, 1);
}

Test(registry_damage, zeroes_a_torn_tail_before_it_appends, .init = init_open, .fini = fini)
{
    uint64_t end, torn_end;

    cr_assert_eq(add(topic(1, "kept")), 0);
    end = used_end();
    for (uint64_t id = 2; id < 12; id++)
        cr_assert_eq(add(topic(id, "stale")), 0);
    torn_end = used_end();
    close_it();
    /* All ten invalid: the next append would fit over the first, and the others could come back if
     * their bytes were repaired by a later write of the same ones. */
    for (uint64_t off = end; off < torn_end; off += (torn_end - end) / 10)
        poke(off + 16, "\xff", 1);
    open_it();
    cr_assert_eq(seen_count, 1);
    cr_assert_eq(warning_count, 1);
    cr_assert_eq(used_end(), torn_end);
    faultos_install();
    cr_assert_eq(add(topic(20, "new")), 0);
    cr_assert_eq(faultos_count(FAULTOS_FDATASYNC), 2); /* of the zeros, of the change */
    faultos_remove();
    cr_assert_eq(used_end(), end + (torn_end - end) / 10);
}

Test(registry_damage, reports_damage_in_the_middle_and_goes_on_behind_it, .init = init_open,
     .fini = fini)
{
    uint64_t from, to, extent;
    uint8_t *whole;
    size_t size;

    cr_assert_eq(add(topic(1, "first")), 0);
    from = used_end();
    cr_assert_eq(add(topic(2, "middle")), 0);
    to = used_end();
    cr_assert_eq(add(topic(3, "third")), 0);
    close_it();
    extent = to - from;
    whole = slurp(&size);
    for (uint64_t bit = 0; bit < extent * 8; bit++) {
        uint8_t byte = whole[from + bit / 8] ^ (uint8_t)(1u << bit % 8);

        poke(from + bit / 8, &byte, 1);
        open_it();
        cr_assert_eq(seen_count, 2, "bit %zu", (size_t)bit);
        cr_assert_eq(damaged, 1);
        cr_assert_eq(error_count, 1);
        cr_assert(was_seen("first") && was_seen("third"));
        close_it();
        poke(from + bit / 8, &whole[from + bit / 8], 1);
    }
    free(whole);
    open_it();
    cr_assert_eq(seen_count, 3);
}

Test(registry_damage, drops_all_of_a_change_when_one_record_of_it_is_damaged, .init = init_open,
     .fini = fini)
{
    struct registry_change changes[4] = {topic(2, "a"), group(2, 1, "b"), group(2, 2, "c"),
                                         group(2, 3, "d")};
    uint64_t from, extent = format_regrec_extent(&changes[0]);

    cr_assert_eq(add(topic(1, "first")), 0);
    from = used_end();
    cr_assert_eq(registry_append(registry, changes, 4), 0);
    cr_assert_eq(add(topic(3, "third")), 0);
    close_it();
    for (unsigned i = 0; i < 4; i++) {
        poke(from + i * extent + 30, "\x01", 1);
        open_it();
        cr_assert_eq(seen_count, 2, "record %u", i);
        cr_assert_eq(damaged, 1);
        close_it();
        poke(from + i * extent + 30, "\x00", 1);
    }
    open_it();
    cr_assert_eq(seen_count, 6);
}

Test(registry_damage, survives_damage_to_either_copy_of_its_header, .init = init_open, .fini = fini)
{
    cr_assert_eq(add(topic(1, "one")), 0);
    close_it();
    for (unsigned copy = 0; copy < 2; copy++) {
        uint8_t byte = 'x', good;
        size_t size;
        uint8_t *bytes = slurp(&size);

        for (unsigned at = 0; at < 4096; at += at < 64 ? 1 : 61) {
            good = bytes[copy * 4096 + at];
            byte = good ^ 0x40;
            poke(copy * 4096 + at, &byte, 1);
            open_it();
            cr_assert_eq(seen_count, 1);
            cr_assert_eq(damaged, 1);
            cr_assert_eq(error_count, 1);
            cr_assert(registry_compact_due(registry)); /* which writes both anew */
            close_it();
            poke(copy * 4096 + at, &good, 1);
        }
        free(bytes);
    }
    poke(0, "x", 1);
    poke(4096, "x", 1);
    cr_assert_eq(try_open(false), -EBADMSG);
}

Test(registry_damage, refuses_a_newer_format, .init = init_open, .fini = fini)
{
    struct format_registry raw;
    size_t size;
    uint8_t *bytes;

    close_it();
    bytes = slurp(&size);
    memcpy(&raw, bytes, sizeof(raw));
    free(bytes);
    raw.version = le32_put(2);
    raw.crc = le32_put(0);
    raw.crc = le32_put(crc32c(format_seed_registry(uuid), &raw, sizeof(raw)));
    poke(0, &raw, sizeof(raw));
    cr_assert_eq(try_open(false), -EPROTONOSUPPORT);
}

Test(registry_damage, refuses_the_journal_of_another_store, .init = init_open, .fini = fini)
{
    const uint8_t other[16] = "another-store..";

    close_it();
    cr_assert_eq(registry_open(dirfd, other, false, &reporter, note_change, NULL, &next_id,
                               &damaged, &registry),
                 -EBADMSG);
}

Test(registry_damage, does_not_take_records_of_an_earlier_journal_for_its_own, .init = init_open,
     .fini = fini)
{
    size_t size;
    uint8_t *old;

    cr_assert_eq(add(topic(1, "old")), 0);
    close_it();
    old = slurp(&size);
    cr_assert_eq(unlinkat(dirfd, NAME, 0), 0);
    open_it();
    close_it();
    poke(RECORDS_OFF, old + RECORDS_OFF, size - RECORDS_OFF);
    free(old);
    open_it();
    cr_assert_eq(seen_count, 0);
    cr_assert_eq(warning_count, 1);
}

Test(registry_damage, accepts_or_refuses_any_length_of_the_file, .init = init_open, .fini = fini)
{
    char path[512];

    for (uint64_t id = 1; id <= 5; id++)
        cr_assert_eq(add_pair(id, "topic"), 0);
    close_it();
    snprintf(path, sizeof(path), "%s/" NAME, dir);
    for (int64_t size = (int64_t)used_end() + 8; size >= 0; size -= size > 8192 ? 1 : 509) {
        cr_assert_eq(truncate(path, size), 0);
        cr_assert_eq(try_open(false), size < 8192 ? -EBADMSG : 0, "%zu bytes", (size_t)size);
        if (size == 9000) {
            cr_assert_eq(add(topic(9, "after")), 0);
            reopen();
            cr_assert(was_seen("after"));
            cr_assert_eq(warning_count + error_count, 0);
        }
        close_it();
    }
}

Test(registry_damage, refuses_a_file_that_is_too_large_without_reading_it, .init = init_open,
     .fini = fini)
{
    char path[512];

    close_it();
    snprintf(path, sizeof(path), "%s/" NAME, dir);
    cr_assert_eq(truncate(path, ((off_t)1 << 30) + 1), 0);
    cr_assert_eq(try_open(false), -EBADMSG);
}

Test(registry_damage, survives_noise_behind_its_header, .init = init_open, .fini = fini)
{
    unsigned seed = (unsigned)getpid();
    size_t size = 4 << 20;
    uint8_t *noise = malloc(size);

    printf("# seed=%u\n", seed);
    cr_assert_eq(add(topic(1, "first")), 0);
    close_it();
    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < size; i++)
            noise[i] = (uint8_t)(rand_r(&seed) >> 8);
        for (size_t i = 4; round > 0 && i + 4 < size; i += round == 1 ? 8 : 40)
            memcpy(noise + i, "\xa2\x57\x02\x00\xb8\x00\x00\x00\x00\x00\x00\x00", 12);
        poke(RECORDS_OFF + 192, noise, size);
        open_it();
        cr_assert_eq(seen_count, 1);
        cr_assert_geq(warning_count, 1); /* its length may be told as well */
        close_it();
    }
    free(noise);
    open_it();
    cr_assert_eq(add(topic(2, "second")), 0);
    reopen();
    cr_assert_eq(seen_count, 2);
    cr_assert_eq(warning_count, 0);
}

Test(registry_damage, limits_the_number_of_reports_about_damage, .init = init_open, .fini = fini)
{
    uint64_t from = RECORDS_OFF, extent;

    for (uint64_t id = 1; id <= 100; id++)
        cr_assert_eq(add(topic(id, "t")), 0);
    close_it();
    extent = (used_end() - from) / 100;
    for (unsigned i = 0; i < 99; i += 2)
        poke(from + i * extent + 20, "\xff", 1);
    open_it();
    cr_assert_eq(seen_count, 50);
    cr_assert_eq(damaged, 50);
    cr_assert_lt(error_count, 20);
}
