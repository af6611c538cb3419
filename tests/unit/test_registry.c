/* SPDX-License-Identifier: MIT */
/* test_registry.c - the journal of topics and groups says after any crash, fault or damage what was
 * confirmed, whole changes only, and reports the rest. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "faultos.h"
#include "format.h"
#include "os.h"
#include "registry.h"
#include "tmpdir.h"

#define NAME        "topics.db"
#define RECORDS_OFF 8192u
#define SEEN_MAX    8192

static const uint8_t uuid[16] = "uuid-of-a-store";
static const uint8_t attr[WALRUS_ATTR_SIZE] = "attributes";

/* What the last replay handed out. */
struct seen {
    enum registry_kind kind;
    uint64_t topic_id, group_id;
    char name[WALRUS_NAME_SIZE_MAX + 1];
};
static struct seen seen[SEEN_MAX];
static size_t seen_count;
static uint64_t next_id, damaged;
static unsigned warning_count, error_count;

static char *dir;
static int dirfd;
static struct registry *registry;

static void note_report(void *arg, const struct walrus_report *event)
{
    warning_count += event->level == WALRUS_WARNING;
    error_count += event->level == WALRUS_ERROR;
}

static const struct reporter reporter = {.report = note_report};

static int note_change(void *arg, const struct registry_change *change)
{
    struct seen *s = &seen[seen_count];

    cr_assert_lt(seen_count, (size_t)SEEN_MAX);
    seen_count++;
    s->kind = change->kind;
    s->topic_id = change->topic_id;
    s->group_id = change->group_id;
    memset(s->name, 0, sizeof(s->name));
    if (change->name_size > 0)
        memcpy(s->name, change->name, change->name_size);
    return 0;
}

static int try_open(bool read_only)
{
    seen_count = 0;
    warning_count = error_count = 0;
    return registry_open(dirfd, uuid, read_only, &reporter, note_change, NULL, &next_id, &damaged,
                         &registry);
}

static void open_it(void)
{
    cr_assert_eq(try_open(false), 0);
}

static void close_it(void)
{
    registry_close(registry);
    registry = NULL;
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
    registry_close(registry);
    close(dirfd);
    tmpdir_destroy(dir);
}

static struct registry_change topic(uint64_t id, const char *name)
{
    return (struct registry_change){.kind = REGISTRY_TOPIC,
                                    .topic_id = id,
                                    .name = name,
                                    .name_size = strlen(name),
                                    .attr = attr};
}

static struct registry_change group(uint64_t topic_id, uint64_t id, const char *name)
{
    struct registry_change change = topic(topic_id, name);

    change.kind = REGISTRY_GROUP;
    change.group_id = id;
    return change;
}

static int add(struct registry_change change)
{
    return registry_append(registry, &change, 1);
}

static int remove_topic(uint64_t id)
{
    return add((struct registry_change){.kind = REGISTRY_TOPIC_REMOVED, .topic_id = id});
}

/* A topic with its first group, in one change. */
static int add_pair(uint64_t id, const char *name)
{
    struct registry_change changes[2] = {topic(id, name), group(id, 1, "default")};

    return registry_append(registry, changes, 2);
}

static uint64_t file_size(void)
{
    struct stat st;

    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    return (uint64_t)st.st_size;
}

/* The whole file, to be freed. */
static uint8_t *slurp(size_t *ret_size)
{
    int fd = openat(dirfd, NAME, O_RDONLY);
    uint8_t *bytes;

    *ret_size = file_size();
    bytes = malloc(*ret_size + 1);
    cr_assert_eq(read(fd, bytes, *ret_size), (ssize_t)*ret_size);
    close(fd);
    return bytes;
}

static void spill(const char *name, const void *bytes, size_t size)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

static void poke(uint64_t off, const void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_WRONLY);

    cr_assert_eq(pwrite(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

/* One past the last byte that is not zero, rounded up to where a record may end. */
static uint64_t used_end(void)
{
    size_t size;
    uint8_t *bytes = slurp(&size);

    while (size > 0 && bytes[size - 1] == 0)
        size--;
    free(bytes);
    return (size + 7) / 8 * 8;
}

static bool was_seen(const char *name)
{
    for (size_t i = 0; i < seen_count; i++) {
        if (strcmp(seen[i].name, name) == 0)
            return true;
    }
    return false;
}

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

/* ------------------------------------------------------------------------------- torn, damaged --
 */

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

Test(registry, drops_a_change_that_is_torn_at_any_byte, .init = init_open, .fini = fini)
{
    tear_everywhere(0);
}

Test(registry, drops_a_change_that_ends_in_garbage_at_any_byte, .init = init_open, .fini = fini)
{
    tear_everywhere(0xa5);
}

Test(registry, drops_the_end_of_a_change_whose_beginning_is_missing, .init = init_open,
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

Test(registry, zeroes_a_torn_tail_before_it_appends, .init = init_open, .fini = fini)
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

Test(registry, reports_damage_in_the_middle_and_goes_on_behind_it, .init = init_open, .fini = fini)
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

Test(registry, drops_all_of_a_change_when_one_record_of_it_is_damaged, .init = init_open,
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

Test(registry, survives_damage_to_either_copy_of_its_header, .init = init_open, .fini = fini)
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

Test(registry, refuses_a_newer_format, .init = init_open, .fini = fini)
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

Test(registry, refuses_the_journal_of_another_store, .init = init_open, .fini = fini)
{
    const uint8_t other[16] = "another-store..";

    close_it();
    cr_assert_eq(registry_open(dirfd, other, false, &reporter, note_change, NULL, &next_id,
                               &damaged, &registry),
                 -EBADMSG);
}

Test(registry, does_not_take_records_of_an_earlier_journal_for_its_own, .init = init_open,
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

Test(registry, accepts_or_refuses_any_length_of_the_file, .init = init_open, .fini = fini)
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

Test(registry, refuses_a_file_that_is_too_large_without_reading_it, .init = init_open, .fini = fini)
{
    char path[512];

    close_it();
    snprintf(path, sizeof(path), "%s/" NAME, dir);
    cr_assert_eq(truncate(path, ((off_t)1 << 30) + 1), 0);
    cr_assert_eq(try_open(false), -EBADMSG);
}

Test(registry, survives_noise_behind_its_header, .init = init_open, .fini = fini)
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

Test(registry, limits_the_number_of_reports_about_damage, .init = init_open, .fini = fini)
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

static int next_topic(void *arg, struct registry_change *ret_change)
{
    struct source *source = arg;

    if (source->id == source->end)
        return source->result;
    *ret_change = topic(source->id++, "compact");
    return 0;
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
    struct source source = {5, 6, WALRUS_EMPTY};

    cr_assert_not(registry_compact_due(registry));
    fill_with_dead();
    cr_assert(registry_compact_due(registry));
    reopen();
    cr_assert(registry_compact_due(registry));
    cr_assert_eq(registry_compact(registry, next_topic, &source, 77), 0);
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
    struct source source = {1, 2, WALRUS_EMPTY};

    cr_assert_eq(add(topic(50, "gone")), 0);
    cr_assert_eq(remove_topic(50), 0);
    cr_assert_eq(registry_compact(registry, next_topic, &source, 3), 0);
    reopen();
    cr_assert_eq(seen_count, 1);
    cr_assert_eq(next_id, 51);
}

Test(registry, compacts_many_more_records_than_its_buffer_holds, .init = init_quick,
     .fini = fini_quick)
{
    struct source source = {1, 5001, WALRUS_EMPTY};

    cr_assert_eq(registry_compact(registry, next_topic, &source, 5001), 0);
    reopen();
    cr_assert_eq(seen_count, 5000);
    cr_assert_eq(seen[4999].topic_id, 5000);
    cr_assert_eq(damaged + warning_count, 0);
}

Test(registry, goes_on_with_the_old_journal_when_the_source_fails, .init = init_open, .fini = fini)
{
    struct source source = {1, 3, -ENOMEM};

    cr_assert_eq(add(topic(9, "old")), 0);
    cr_assert_eq(registry_compact(registry, next_topic, &source, 1), -ENOMEM);
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
        struct source source = {1, 2, WALRUS_EMPTY};
        int r, after;

        cr_assert_eq(add(topic(1, "compact")), 0);
        faultos_install();
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY, .nth = nth, .error = error});
        r = registry_compact(registry, next_topic, &source, 2);
        failed = faultos_failed_count() > 0;
        faultos_disarm();
        after = add(topic(nth + 1, "after"));
        cr_assert(after == 0 || (r == -EIO && after == -EIO), "call %u: %d, %d", nth, r, after);
        faultos_remove();
        reopen();
        cr_assert(was_seen("compact"));
        cr_assert_eq(was_seen("after"), after == 0, "call %u: %d, %d", nth, r, after);
        cr_assert_eq(warning_count + error_count, 0);
        source = (struct source){1, 2, WALRUS_EMPTY};
        cr_assert_eq(registry_compact(registry, next_topic, &source, 2), 0);
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
    struct source source = {1, 2, WALRUS_EMPTY};

    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = 2, .error = EIO});
    cr_assert_eq(registry_compact(registry, next_topic, &source, 2), -EIO);
    cr_assert_eq(add(topic(2, "two")), -EIO);
    faultos_remove();
}
