/* SPDX-License-Identifier: MIT */
/*
 * failing.c - a damaged store is verified, repaired or opened while the n-th system call or the n-th
 * allocation fails, for n = 1, 2, ... until none is left; or all calls from the n-th on, as when the
 * process is killed there; or, in the middle of a repair, the power is cut before its n-th change.
 *
 *     failing [--dense N] [SEED]     n grows by 1 and, by dice, about an N-th of itself; 2: CI
 *     failing SEED STORE ACTION FAULT N      that one, as a failure prints it
 *
 * What failed is told or costs nothing: with all well again the same call finds what it would have
 * found at once, and every entry that could be read still can.  The stores are the golden images with
 * damage in several places, first by a list, then by dice.
 *
 * The program is linked with malloc and its like wrapped.  A store that is open has threads of its
 * own; their calls count too, so that n may mean another call the next time.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compiler.h"
#include "faultos.h"
#include "format.h"
#include "powercut.h"
#include "reference.h"
#include "tmpdir.h"

enum { DICE_STORES = 6, DICE_PLACES = 10, TOPICS_MAX = 64 };

/* ------------------------------------------------------------------------------- allocations -- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);

static atomic_long alloc_left; /* the allocation that brings it to 0 fails; below: none does */
static atomic_bool alloc_hit;

static bool alloc_fails(void)
{
    if (atomic_load(&alloc_left) <= 0 || atomic_fetch_sub(&alloc_left, 1) != 1)
        return false;
    atomic_store(&alloc_hit, true);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return alloc_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return alloc_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return alloc_fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return alloc_fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    return alloc_fails() ? NULL : __real_strndup(text, size);
}

/* ------------------------------------------------------------------------------------ faults -- */

enum fault_kind { FAULT_ALLOC, FAULT_EIO, FAULT_ENOSPC, FAULT_KILL, FAULT_POWER, FAULT_COUNT };

static const int fault_errors[] = {ENOMEM, EIO, ENOSPC, EIO};

static struct fault {
    uint64_t seed;
    size_t store;
    size_t action;
    enum fault_kind kind;
    unsigned nth;
} fault;

static void on_abort(int number)
{
    fprintf(stderr, "replay with: build/tests/rot/failing %llu %zu %zu %d %u\n",
            (unsigned long long)fault.seed, fault.store, fault.action, (int)fault.kind, fault.nth);
    signal(number, SIG_DFL);
    raise(number);
}

static char *cut_dir; /* what the cut leaves; NULL: there was none */

static void cut_power(void *arg)
{
    static const unsigned percents[] = {2, 20, 50, 80, 98};
    uint64_t random = fault.seed * 1000003 + fault.store * 10007 + fault.nth;
    enum powercut_mode mode =
        POWERCUT_DURABLE + powercut_random(&random, POWERCUT_MODE_COUNT - POWERCUT_DURABLE);
    unsigned percent = percents[powercut_random(&random, ARRAY_COUNT(percents))];

    cut_dir = tmpdir_create();
    powercut_write(cut_dir, mode, percent, &random);
}

/* For a store in `dir` that is not open. */
static void fault_arm(const char *dir)
{
    if (fault.nth == 0)
        return;
    atomic_store(&alloc_hit, false);
    if (fault.kind == FAULT_ALLOC) {
        atomic_store(&alloc_left, (long)fault.nth);
    } else if (fault.kind == FAULT_POWER) {
        faultos_remove();
        powercut_install(dir, NULL);
        powercut_arm(fault.nth, cut_power, NULL);
    } else {
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY,
                                           .nth = fault.nth,
                                           .error = fault_errors[fault.kind],
                                           .forever = fault.kind == FAULT_KILL});
    }
}

/* All is well again; after a cut the store is what that left.  True: it had come to the fault. */
static bool fault_disarm(const char *dir)
{
    bool hit = atomic_load(&alloc_hit) || faultos_failed_count() > 0 || cut_dir;
    struct ref_images left;

    if (fault.nth > 0 && fault.kind == FAULT_POWER) {
        powercut_remove();
        faultos_install();
    }
    if (cut_dir) {
        images_read(&left, cut_dir);
        images_write(&left, dir);
        images_free(&left);
        tmpdir_destroy(cut_dir);
        cut_dir = NULL;
    }
    atomic_store(&alloc_left, 0);
    atomic_store(&alloc_hit, false);
    faultos_disarm();
    faultos_forget_counts();
    return hit;
}

/* ------------------------------------------------------------------------------------ stores -- */

enum how { SPOIL, ZERO, CUT, GONE };

struct place_of {
    size_t store;
    const char *file;
    uint64_t off; /* CUT: the new size */
    size_t size;
    enum how how;
};

#define INDEX "read_offset_idx_index.db"

/* The damage of the stores that are damaged by a list.  One of them is of a killed process. */
static const struct place_of places[] = {
    {0, "SUPER", 0, 4096, SPOIL}, /* one copy of everything */
    {0, "topics.db", 4096, 4096, SPOIL},
    {0, "wal_0001.log", 0, 4096, SPOIL},
    {0, "wal_0001.log", 4096, 512, SPOIL},
    {0, INDEX, 32768, 512, SPOIL},
    {1, "topics.db", 8192, 600, SPOIL}, /* names */
    {1, "wal_0001.log", 65536 + 30, 1, SPOIL},
    {2, "topics.db", 0, 8192, SPOIL},      /* the whole registry */
    {3, "wal_0001.log", 4096, 384, SPOIL}, /* both entries of blocks */
    {3, "wal_0001.log", 32768, 384, SPOIL},
    {3, "topics.db", 9000, 64, SPOIL},
    {4, INDEX, 0, 32768, SPOIL}, /* all offsets */
    {4, INDEX, 32768, 32768, ZERO},
    {4, "SUPER", 4096, 4096, ZERO},
    {5, "wal_0001.log", 0, 1024, SPOIL}, /* both headers of a file */
    {5, "wal_0001.log", 61440, 1024, SPOIL},
    {5, "wal_0002.log", 65536 + 70000, 512, SPOIL},
    {6, "topics.db", 8300, 0, CUT},
    {6, INDEX, 5000, 0, CUT},
    {6, "wal_0002.log", 100000, 0, CUT},
    {7, "wal_0001.log", 0, 0, GONE},
    {7, INDEX, 0, 0, GONE},
    {8, "SUPER", 0, 8192, SPOIL}, /* no way in */
    {9, "topics.db", 8192 + 200, 8, SPOIL},
    {10, "topics.db", 10872, 1520, SPOIL}, /* names, the last ones: as if torn */
};

enum { LISTED = 11, KILLED = 9 };

static struct reference ref;
static struct ref_images killed, work;
static uint64_t dice;

static uint64_t random_next(uint64_t below)
{
    return powercut_random(&dice, below);
}

static void images_copy(const struct ref_images *from)
{
    images_free(&work);
    work = *from;
    for (size_t i = 0; i < work.count; i++) {
        struct ref_image *to = &work.list[i];
        const struct ref_image *image = &from->list[i];
        size_t pages = image->size / 4096 + 1;
        to->data = malloc(image->size + 1);
        to->pages = calloc(pages, sizeof(bool));
        CHECK(to->data && to->pages);
        memcpy(to->data, image->data, image->size);
        memcpy(to->pages, image->pages, pages * sizeof(bool));
    }
}

static void image_damage(struct ref_image *image, enum how how, uint64_t off, size_t size)
{
    if (how == CUT && off < image->size)
        image->size = off;
    for (uint64_t at = off; how != CUT && at < off + size && at < image->size; at++) {
        image->data[at] = how == SPOIL ? (uint8_t)(image->data[at] ^ 0x5a) : 0;
        image->pages[at / 4096] = true;
    }
}

static void damage_listed(size_t store)
{
    for (size_t i = 0; i < ARRAY_COUNT(places); i++)
        for (size_t k = 0; k < work.count && places[i].store == store; k++) {
            if (strcmp(work.list[k].name, places[i].file) != 0)
                continue;
            if (places[i].how != GONE) {
                image_damage(&work.list[k], places[i].how, places[i].off, places[i].size);
                continue;
            }
            free(work.list[k].data);
            free(work.list[k].pages);
            work.list[k] = work.list[--work.count];
        }
}

static void damage_by_dice(size_t store)
{
    dice = fault.seed * 1000003 + store;
    for (int i = 0; i < DICE_PLACES; i++) {
        size_t image = random_next(work.count);
        uint64_t size = work.list[image].size;
        uint64_t off = random_next(size);
        if (random_next(2) == 0)
            off = random_next(size < 16384 ? size : 16384); /* where the metadata lies */
        if (strcmp(work.list[image].name, "SUPER") != 0 || i == 0)
            image_damage(&work.list[image], random_next(3) ? SPOIL : ZERO, off,
                         random_next(2) ? 1 : 512);
    }
}

static void store_make(size_t store)
{
    images_copy(store == KILLED || (store >= LISTED && store % 2) ? &killed : &ref.images);
    if (store < LISTED)
        damage_listed(store);
    else
        damage_by_dice(store);
}

/* ----------------------------------------------------------------------------------- actions -- */

/* What there is to be read. */
struct contents {
    int opened; /* as walrus_open */
    size_t count;
    struct {
        uint64_t id, tail, whole;
    } topics[TOPICS_MAX];
};

struct found {
    int r;
    struct walrus_verify_result verified;
    struct contents contents;
};

static void look(struct rig *rig, struct contents *ret)
{
    struct walrus_topic *topic;

    memset(ret, 0, sizeof(*ret));
    ret->opened = rig_try_open(rig);
    for (uint64_t id = 0; ret->opened == 0 && walrus_topic_after(rig->walrus, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        CHECK(ret->count < TOPICS_MAX);
        size_t i = ret->count++;
        ret->topics[i].id = id = stat.id;
        ret->topics[i].tail = stat.tail_seq;
        for (uint64_t seq = stat.first_seq; seq < stat.tail_seq; seq++) {
            struct walrus_reader *reader;
            uint8_t data[4096];
            int r = walrus_entry_open(topic, seq, &reader);
            if (r < 0)
                continue;
            ret->topics[i].whole += walrus_reader_read(reader, data, sizeof(data), 0, NULL) >= 0;
            CHECK_INT(walrus_reader_close(reader), 0);
        }
        walrus_topic_unref(topic);
    }
    if (ret->opened == 0)
        rig_close(rig);
}

/* Nothing of `before` is missing in `after`, and nothing is numbered again. */
static void check_kept(const struct contents *before, const struct contents *after)
{
    CHECK_INT(after->opened, before->opened);
    for (size_t i = 0, k = 0; i < before->count; i++) {
        while (k < after->count && after->topics[k].id < before->topics[i].id)
            k++;
        CHECK(k < after->count && after->topics[k].id == before->topics[i].id);
        CHECK(after->topics[k].whole >= before->topics[i].whole);
        CHECK(after->topics[k].tail >= before->topics[i].tail);
    }
}

static bool act_verify(struct rig *rig, struct found *ret, const struct found *want)
{
    fault_arm(rig->dir);
    ret->r = walrus_verify(rig->dir, NULL, &ret->verified);
    bool hit = fault_disarm(rig->dir);
    if (want && ret->r == 0 && fault.kind == FAULT_ALLOC)
        CHECK_INT(ret->verified.damage_count, want->verified.damage_count);
    if (want && ret->r == 0)
        CHECK(ret->verified.damage_count > 0 || want->verified.damage_count == 0);
    if (want && ret->r < 0 && want->r == 0)
        CHECK(hit);
    return hit;
}

static bool act_repair(struct rig *rig, struct found *ret, const struct found *want)
{
    struct walrus_verify_result ignored;

    fault_arm(rig->dir);
    ret->r = walrus_repair(rig->dir, NULL, &ignored);
    bool hit = fault_disarm(rig->dir);
    if (want) /* the next one mends the rest, and maybe more: what was mended leads on */
        CHECK_INT(walrus_repair(rig->dir, NULL, &ignored), want->r);
    CHECK_INT(walrus_verify(rig->dir, NULL, &ret->verified), 0);
    look(rig, &ret->contents);
    if (want) {
        CHECK(ret->verified.entry_count >= want->verified.entry_count);
        CHECK(ret->verified.damage_count <= want->verified.damage_count);
        CHECK_INT(ret->verified.topic_count, want->verified.topic_count);
        CHECK_INT(ret->verified.group_count, want->verified.group_count);
        check_kept(&want->contents, &ret->contents);
    }
    return hit;
}

/* Calls on one topic, none of which consumes; what fails is told. */
static void use_topic(struct walrus_topic *topic)
{
    static uint8_t data[80000];
    struct iovec vec = {.iov_base = data, .iov_len = sizeof(data)};
    struct walrus_group *group;
    struct walrus_reader *reader;
    uint64_t seq;

    CHECK(walrus_topic_append(topic, &vec, 1, NULL, &seq) <= 0);
    vec.iov_len = 100;
    CHECK(walrus_topic_append(topic, &vec, 1, NULL, &seq) <= 0);
    if (walrus_group_create(topic, "more", NULL, &group) == 0) {
        if (walrus_group_claim(group, 4, 100000, &reader) == 0) {
            CHECK(walrus_reader_read(reader, data, sizeof(data), 0, NULL) >= -EIO * 1000);
            walrus_reader_abort(reader);
        }
        CHECK(walrus_group_rename(group, "most") <= 0);
        CHECK(walrus_group_remove(group) <= 0);
        walrus_group_unref(group);
    }
}

static bool act_open(struct rig *rig, struct found *ret, const struct found *want)
{
    struct walrus_topic *topic;

    fault_arm(rig->dir);
    ret->r = rig_try_open(rig);
    for (uint64_t id = 0; ret->r == 0 && walrus_topic_after(rig->walrus, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        id = stat.id;
        use_topic(topic);
        walrus_topic_unref(topic);
    }
    if (ret->r == 0)
        rig_close_degraded(rig);
    bool hit = fault_disarm(rig->dir);
    if (want && want->r == 0 && ret->r < 0)
        CHECK(hit);
    look(rig, &ret->contents);
    return hit;
}

static bool (*const actions[])(struct rig *rig, struct found *ret,
                               const struct found *want) = {act_verify, act_repair, act_open};

/* Kinds of faults, the first ones.  A verify takes no space; who opens is killed, and has the power
 * cut, in tests/crash. */
static const enum fault_kind fault_counts[] = {FAULT_ENOSPC, FAULT_COUNT, FAULT_KILL};

/* -------------------------------------------------------------------------------------- runs -- */

static uint64_t run_count, hit_count;

/* True: it came to the fault. */
static bool run(struct rig *rig, const struct found *want, const struct contents *kept)
{
    static struct found found;

    memset(&found, 0, sizeof(found));
    memset(rig->report_count, 0, sizeof(rig->report_count));
    rig->report_text[0] = 0;
    images_write(&work, rig->dir);
    bool hit = actions[fault.action](rig, &found, want);
    if (actions[fault.action] == act_open)
        check_kept(kept, &found.contents);
    run_count++;
    hit_count += hit;
    return hit;
}

/* The n of one fault, or one of them. */
static void sweep(struct rig *rig, unsigned dense, unsigned one)
{
    static struct found want;
    static struct contents kept;

    memset(&want, 0, sizeof(want));
    fault.nth = 0;
    images_write(&work, rig->dir);
    look(rig, &kept);
    images_write(&work, rig->dir);
    actions[fault.action](rig, &want, NULL);
    fault.nth = one > 0 ? one : 1;
    while (run(rig, &want, &kept) && one == 0)
        fault.nth += 1 + (unsigned)random_next(fault.nth / dense * 2 + 1);
}

int main(int argc, char **argv)
{
    struct rig rig, other;
    unsigned dense = argc > 2 && strcmp(argv[1], "--dense") == 0 ? (unsigned)atoi(argv[2]) : 0;
    char **rest = argv + (dense > 0 ? 3 : 1);
    bool one = argc == 6 && dense == 0;

    fault.seed = *rest ? strtoull(*rest, NULL, 0) : (uint64_t)getpid() ^ now_ms();
    if (access("/dev/shm", W_OK) == 0)
        CHECK_INT(setenv("TMPDIR", "/dev/shm", 1), 0);
    rig_init(&rig);
    reference_load(&ref, &rig);
    rig_init(&other);
    golden_unpack("v1-killed", other.dir);
    images_read(&killed, other.dir);
    rig_fini(&other);
    rig.options.consistency = WALRUS_AT_LEAST_ONCE;
    faultos_install();
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    printf("failing: seed %llu\n", (unsigned long long)fault.seed);
    fflush(stdout);
    if (one) {
        fault.store = strtoul(argv[2], NULL, 10);
        fault.action = strtoul(argv[3], NULL, 10) % ARRAY_COUNT(actions);
        fault.kind = (enum fault_kind)(strtoul(argv[4], NULL, 10) % FAULT_COUNT);
        store_make(fault.store);
        sweep(&rig, 1, (unsigned)strtoul(argv[5], NULL, 10));
        fputs(rig.report_text, stdout);
    }
    for (fault.store = 0; !one && fault.store < LISTED + DICE_STORES; fault.store++) {
        store_make(fault.store);
        for (fault.action = 0; fault.action < ARRAY_COUNT(actions); fault.action++)
            for (fault.kind = 0; fault.kind < fault_counts[fault.action]; fault.kind++)
                sweep(&rig, dense > 0 ? dense : 2, 0);
    }
    printf("failing: %llu runs, of which %llu came to their fault\n", (unsigned long long)run_count,
           (unsigned long long)hit_count);
    faultos_remove();
    images_free(&work);
    images_free(&killed);
    reference_fini(&ref);
    rig_fini(&rig);
    return 0;
}
