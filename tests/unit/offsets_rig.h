/* SPDX-License-Identifier: MIT */
/* offsets_rig.h - an offset file in a directory of its own: for the programs of tests/unit that test
 * it. */
#ifndef TESTS_UNIT_OFFSETS_RIG_H
#define TESTS_UNIT_OFFSETS_RIG_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "offsets.h"
#include "reopen_rig.h"

#define NAME   "read_offset_idx_index.db"
#define EXTENT 65536u

static const uint8_t uuid[16] = "uuid-of-a-store";

static unsigned report_count;
static struct offsets *offsets;

static inline void note_report(void *arg, const struct walrus_report *event)
{
    report_count++;
}

static inline int try_open(bool read_only)
{
    static const struct reporter reporter = {.report = note_report};

    report_count = 0;
    return offsets_open(dirfd, uuid, read_only, &reporter, &offsets);
}

static inline void close_it(void)
{
    offsets_close(offsets);
    offsets = NULL;
}

static inline struct offset_value at(uint64_t offset)
{
    return (struct offset_value){.topic_id = 3, .group_id = 1, .offset = offset};
}

static inline int store(uint32_t slot, uint64_t offset)
{
    struct offset_value value = at(offset);

    return offsets_store(offsets, slot, &value);
}

static inline uint32_t take(void)
{
    uint32_t slot = UINT32_MAX;

    cr_assert_eq(offsets_take(offsets, &slot), 0);
    return slot;
}

/* The slot that is taken i-th: the first of each page of 8, then the second. */
static inline uint32_t in_turn(uint32_t i)
{
    return i / 64 * 64 + i % 8 * 8 + i % 64 / 8;
}

static inline enum offsets_slot_state state(uint32_t slot)
{
    struct offset_value value;

    return offsets_get(offsets, slot, &value);
}

static inline uint64_t offset_of(uint32_t slot)
{
    struct offset_value value = {.offset = UINT64_MAX};

    cr_assert_neq(offsets_get(offsets, slot, &value), OFFSETS_NONE);
    return value.offset;
}

/* As docs/disk-format.md has it. */
static inline uint64_t place(uint32_t n, uint32_t c)
{
    return (uint64_t)(n / 64) * 65536 + c * 32768 + n % 64 * 512;
}

static inline void poke(uint64_t off, const void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_WRONLY);

    cr_assert_eq(pwrite(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

static inline void peek(uint64_t off, void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_RDONLY);

    cr_assert_eq(pread(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

/* Inverts a bit within one copy of a slot. */
static inline void spoil(uint32_t slot, uint32_t copy, size_t bit)
{
    uint8_t byte;

    peek(place(slot, copy) + bit / 8, &byte, 1);
    byte ^= (uint8_t)(1u << bit % 8);
    poke(place(slot, copy) + bit / 8, &byte, 1);
}

static inline uint64_t file_size(void)
{
    struct stat st;

    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    return (uint64_t)st.st_size;
}

static inline void set_size(uint64_t size)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/" NAME, dir);
    cr_assert_eq(truncate(path, (off_t)size), 0);
}

#endif
