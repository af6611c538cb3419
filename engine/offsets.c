/* SPDX-License-Identifier: MIT */
/*
 * offsets.c - the slots that hold the read offsets: reading them at the start, storing, growing.
 *
 * Serves group and recover; uses os, format and durable.
 *
 * In memory a slot costs 16 bytes: the generation of its newest copy, which copy that is, and
 * whether a group has it.  A store writes the other copy, so the newest one stays whole whatever
 * happens to the write.  What the slots held at the start lies packed in one array until
 * offsets_loaded().
 *
 * Locks: LOCK_SLOTS guards the table of slots and is never held across a write.  A thread that
 * grows the file says so in `growing`, and others that need space wait for it.  The numbers of one
 * slot only change under the thread that writes it, and `durable` decides among threads whether a
 * sync counts.
 *
 * Failure: out of space while growing changes nothing.  Any other failed write or sync is final for
 * the file.  A slot of which one copy is good and belongs to nobody, or was never written, while
 * the other is bad, counts as bad: the bad one may have held the only value that was ever stored.
 */
#include "offsets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "durable.h"
#include "format.h"
#include "os.h"

#define NAME           "read_offset_idx_index.db"
#define TMP_NAME       NAME ".tmp"
#define EXTENT_SIZE    65536u
#define EXTENT_SLOTS   64u
#define PAGE_SLOTS     8u     /* of 4096 bytes; an extent has as many pages for each copy */
#define COPY_OFF       32768u /* from a slot's first copy to its second */
#define FILE_SIZE_MAX  ((uint64_t)1 << 30) /* bounds what opening a hostile file costs */
#define SLOT_COUNT_MAX ((uint32_t)(FILE_SIZE_MAX / EXTENT_SIZE * EXTENT_SLOTS))
#define WINDOW_SIZE    (16u * EXTENT_SIZE)    /* read at once */
#define CLAIM_GROW_MAX (1024u * EXTENT_SLOTS) /* slots that a claim beyond the end may add */

struct slot {
    uint64_t generation; /* of the newest good copy, 0: there is none */
    uint8_t newest;      /* that copy; the next store goes into the other */
    bool used;           /* a group has it */
    bool stale;          /* a copy holds something that a new owner must not meet */
    bool both;           /* both copies hold a value of the owner */
};

/* A slot as it was read: these numbers, and a packed range each from `ranges` on. */
struct loaded {
    uint64_t topic_id, group_id, offset;
    uint32_t state; /* enum offsets_slot_state */
    uint32_t range_count;
};
#define LOADED_WORDS (sizeof(struct loaded) / sizeof(uint64_t))

struct offsets {
    int fd; /* -1: read-only and not there */
    bool read_only;
    bool any_bad; /* a copy of a slot was damaged or could not be read */
    struct reporter reporter;
    uint8_t uuid[16];
    struct durable durable;

    struct lock lock; /* LOCK_SLOTS */
    struct cond grown;
    struct slot *slots;  /* GUARDED */
    uint32_t slot_count; /* GUARDED; a multiple of EXTENT_SLOTS */
    uint32_t free_hint;  /* GUARDED: place in turn; every slot in one before it is used */
    bool growing;        /* GUARDED: a thread makes the file longer */

    /* What was read: not guarded, nobody writes it between offsets_open and offsets_loaded. */
    uint32_t *where; /* of each slot: its place in `words`, plus 1; 0: OFFSETS_NONE */
    uint32_t where_count;
    uint64_t *words;
    size_t word_count, word_capacity;
};

/* For what is tried while something else has failed already. */
static void no_matter(int result)
{
    (void)result;
}

static uint64_t slot_off(uint32_t slot, uint32_t copy)
{
    return (uint64_t)(slot / EXTENT_SLOTS) * EXTENT_SIZE + copy * COPY_OFF +
           slot % EXTENT_SLOTS * sizeof(struct format_slot);
}

/* --------------------------------------------------------------------------------- at the start --
 */

/* Keeps a slot for offsets_get.  Ranges are packed as on disk: start in the upper half. */
static int loaded_add(struct offsets *offsets, uint32_t slot, enum offsets_slot_state state,
                      const struct offset_value *value)
{
    struct loaded head = {
        .topic_id = value->topic_id,
        .group_id = value->group_id,
        .offset = value->offset,
        .state = state,
        .range_count = value->range_count,
    };
    size_t need = offsets->word_count + LOADED_WORDS + value->range_count;
    uint64_t *word;

    if (need > offsets->word_capacity) {
        size_t capacity = MAX(need, offsets->word_capacity + offsets->word_capacity / 2 + 1024);

        word = realloc(offsets->words, capacity * sizeof(*word));
        if (word == NULL)
            return -ENOMEM;
        offsets->words = word;
        offsets->word_capacity = capacity;
    }
    word = offsets->words + offsets->word_count;
    memcpy(word, &head, sizeof(head));
    word += LOADED_WORDS;
    for (uint32_t i = 0; i < value->range_count; i++) {
        const struct offset_range *range = &value->ranges[i];

        *word++ = (range->first - value->offset) << 32 | (range->end - range->first);
    }
    offsets->where[slot] = (uint32_t)offsets->word_count + 1;
    offsets->word_count = need;
    return 0;
}

/* What both copies of a slot say together. */
static int load_slot(struct offsets *offsets, uint32_t slot_idx, const uint8_t *const data[2])
{
    struct slot *slot = &offsets->slots[slot_idx];
    struct offset_value values[2] = {0};
    uint64_t generations[2] = {0};
    int results[2];
    bool any_good, any_bad;

    for (uint32_t copy = 0; copy < 2; copy++) {
        results[copy] = format_slot_decode(data[copy], sizeof(struct format_slot),
                                           format_seed_slot(offsets->uuid, slot_idx, copy),
                                           &values[copy], &generations[copy]);
        /* There must be a higher one for the next store. */
        if (results[copy] == 0 && generations[copy] == UINT64_MAX)
            results[copy] = -EBADMSG;
        if (results[copy] < 0 || (results[copy] == 0 && values[copy].topic_id != 0))
            slot->stale = true;
    }
    /* The second step of a slot goes into the copy that is still zero: one that is zero beside a
     * later step was wiped. */
    for (uint32_t copy = 0; copy < 2; copy++)
        if (results[copy] == WALRUS_EMPTY && results[!copy] == 0 && generations[!copy] > 1)
            results[copy] = -EBADMSG;
    any_good = results[0] == 0 || results[1] == 0;
    any_bad = results[0] < 0 || results[1] < 0;
    offsets->any_bad |= any_bad;
    slot->both = results[0] == 0 && results[1] == 0 && values[0].topic_id != 0 &&
                 values[1].topic_id == values[0].topic_id &&
                 values[1].group_id == values[0].group_id;
    if (results[0] == 0 && results[1] == 0)
        slot->newest = generations[1] > generations[0];
    else if (any_good)
        slot->newest = results[1] == 0;
    else
        slot->newest = results[1] >= 0; /* so that the next store mends a bad copy */
    if (!any_good && !any_bad)
        return 0;
    if (any_good) {
        slot->generation = generations[slot->newest];
        if (values[slot->newest].topic_id != 0)
            return loaded_add(offsets, slot_idx, any_bad ? OFFSETS_ONE_BAD : OFFSETS_GOOD,
                              &values[slot->newest]);
        if (!any_bad)
            return 0;
    }
    bool torn = results[0] >= 0 || results[1] >= 0;
    return loaded_add(offsets, slot_idx, torn ? OFFSETS_FIRST_TORN : OFFSETS_BAD,
                      &(struct offset_value){0});
}

static int load_all(struct offsets *offsets)
{
    uint64_t size = (uint64_t)offsets->slot_count / EXTENT_SLOTS * EXTENT_SIZE;
    uint8_t *window = malloc(WINDOW_SIZE);
    int r = window == NULL ? -ENOMEM : 0;

    for (uint64_t off = 0; r == 0 && off < size; off += WINDOW_SIZE) {
        size_t piece = (size_t)MIN(size - off, WINDOW_SIZE);

        r = os_read_salvaging(offsets->fd, window, piece, off);
        for (size_t i = 0; r == 0 && i < piece / EXTENT_SIZE * EXTENT_SLOTS; i++) {
            uint32_t slot = (uint32_t)(off / EXTENT_SIZE * EXTENT_SLOTS + i);
            const uint8_t *data[2] = {window + (slot_off(slot, 0) - off),
                                      window + (slot_off(slot, 1) - off)};

            r = load_slot(offsets, slot, data);
        }
    }
    free(window);
    /* A slot is a part of a page, and a page that cannot be read takes no part of it: written as a
     * whole it does, and a disk then gives it another place. */
    if (r == 0 && offsets->any_bad && !offsets->read_only)
        r = os_rewrite(offsets->fd);
    return r;
}

/* Opens the file; it must be a regular one with a single name.  Whole extents are what counts. */
static int file_open(struct offsets *offsets, int dirfd)
{
    int flags = (offsets->read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    uint64_t size, whole;
    struct stat st;
    int r = os_open(dirfd, NAME, flags, 0);

    if (r < 0)
        return r;
    offsets->fd = r;
    r = os_fstat(offsets->fd, &st);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return -ELOOP;
    size = (uint64_t)st.st_size;
    if (size > FILE_SIZE_MAX)
        return -EBADMSG;
    whole = round_up(size, EXTENT_SIZE);
    offsets->slot_count = (uint32_t)(whole / EXTENT_SIZE * EXTENT_SLOTS);
    if (whole == size)
        return 0;
    report(&offsets->reporter, WALRUS_WARNING, -EBADMSG, NULL,
           NAME ": %" PRIu64 " bytes long, which ends within an extent", size);
    if (offsets->read_only)
        return 0;
    r = os_zero(offsets->fd, size, whole - size);
    if (r == -ENOSPC || r == -EDQUOT) /* the slots that there are can be used all the same */
        r = os_truncate(offsets->fd, whole);
    return r < 0 ? r : os_fdatasync(offsets->fd);
}

/* Makes the file with its first extent under a temporary name and renames it. */
static int file_make(struct offsets *offsets, int dirfd)
{
    int r = os_open(dirfd, TMP_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);

    if (r < 0)
        return r;
    offsets->fd = r;
    offsets->slot_count = EXTENT_SLOTS;
    r = os_zero(offsets->fd, 0, EXTENT_SIZE);
    if (r == 0)
        r = os_fsync(offsets->fd);
    if (r == 0)
        r = os_rename(dirfd, TMP_NAME, NAME);
    if (r < 0) {
        no_matter(os_unlink(dirfd, TMP_NAME)); /* the next start removes it otherwise */
        return r;
    }
    return os_fsync(dirfd);
}

static int offsets_start(struct offsets *offsets, int dirfd)
{
    int r = 0;

    if (!offsets->read_only) {
        r = os_unlink(dirfd, TMP_NAME);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    r = file_open(offsets, dirfd);
    if (r == -ENOENT)
        r = offsets->read_only ? 0 : file_make(offsets, dirfd);
    if (r == 0 && offsets->fd >= 0)
        durable_attach(&offsets->durable, dirfd, NAME, offsets->fd, NULL, 0);
    if (r < 0 || offsets->slot_count == 0)
        return r;
    offsets->slots = calloc(offsets->slot_count, sizeof(*offsets->slots));
    offsets->where = calloc(offsets->slot_count, sizeof(*offsets->where));
    if (offsets->slots == NULL || offsets->where == NULL)
        return -ENOMEM;
    offsets->where_count = offsets->slot_count;
    return load_all(offsets);
}

int offsets_open(int dirfd, const uint8_t uuid[16], bool read_only, const struct reporter *reporter,
                 struct offsets **ret_offsets)
{
    struct offsets *offsets = calloc(1, sizeof(*offsets));
    int r;

    if (offsets == NULL)
        return -ENOMEM;
    offsets->fd = -1;
    offsets->read_only = read_only;
    offsets->reporter = *reporter;
    memcpy(offsets->uuid, uuid, sizeof(offsets->uuid));
    durable_init(&offsets->durable);
    lock_init(&offsets->lock, LOCK_SLOTS);
    cond_init(&offsets->grown);
    r = offsets_start(offsets, dirfd);
    if (r < 0) {
        offsets_close(offsets);
        return r;
    }
    *ret_offsets = offsets;
    return 0;
}

int offsets_barrier(struct offsets *offsets)
{
    return offsets->fd < 0 ? 0 : os_rewrite(offsets->fd);
}

void offsets_close(struct offsets *offsets)
{
    if (offsets == NULL)
        return;
    durable_fini(&offsets->durable);
    (void)os_close(offsets->fd);
    offsets_loaded(offsets);
    free(offsets->slots);
    lock_fini(&offsets->lock);
    free(offsets);
}

enum offsets_slot_state offsets_get(const struct offsets *offsets, uint32_t slot,
                                    struct offset_value *ret_value)
{
    const uint64_t *word;
    struct loaded head;

    if (slot >= offsets->where_count || offsets->where[slot] == 0)
        return OFFSETS_NONE;
    word = offsets->words + (offsets->where[slot] - 1);
    memcpy(&head, word, sizeof(head));
    word += LOADED_WORDS;
    if (head.state == OFFSETS_BAD || head.state == OFFSETS_FIRST_TORN)
        return (enum offsets_slot_state)head.state;
    ret_value->topic_id = head.topic_id;
    ret_value->group_id = head.group_id;
    ret_value->offset = head.offset;
    ret_value->range_count = head.range_count;
    for (uint32_t i = 0; i < head.range_count; i++) {
        struct offset_range *range = &ret_value->ranges[i];

        range->first = head.offset + (word[i] >> 32);
        range->end = range->first + (uint32_t)word[i];
    }
    return (enum offsets_slot_state)head.state;
}

uint64_t offsets_digest(const struct offsets *offsets)
{
    struct lock *lock = (struct lock *)&offsets->lock;
    uint64_t sum = 0;

    lock_acquire(lock);
    for (uint32_t i = 0; i < offsets->slot_count; i++)
        sum += format_digest(FORMAT_DIGEST_SLOT, i, offsets->slots[i].generation);
    lock_release(lock);
    return sum;
}

uint32_t offsets_slot_count(const struct offsets *offsets)
{
    struct lock *lock = (struct lock *)&offsets->lock;
    uint32_t count;

    lock_acquire(lock);
    count = offsets->slot_count;
    lock_release(lock);
    return count;
}

void offsets_loaded(struct offsets *offsets)
{
    free(offsets->where);
    free(offsets->words);
    offsets->where = NULL;
    offsets->where_count = 0;
    offsets->words = NULL;
    offsets->word_count = offsets->word_capacity = 0;
}

/* ------------------------------------------------------------------------------------ writing --
 */

/* Tells `durable` how a write and its sync went, and reports the failure where it arose. */
static int sync_end(struct offsets *offsets, const struct durable_view *view, int result,
                    const char *what)
{
    if (result < 0)
        report(&offsets->reporter, WALRUS_ERROR, result, NULL,
               NAME ": %s failed; no offset can be stored until the store is opened anew", what);
    return durable_end(&offsets->durable, view, result);
}

/* Writes the copy that is not the newest one, and makes it the newest.  An owner's first value goes
 * into both: from then on one bad sector never costs more than the last step. */
static int slot_write(struct offsets *offsets, uint32_t slot_idx, const struct offset_value *value)
{
    const struct durable_view *view;
    struct format_slot raw;
    struct slot slot;
    int r = offsets_error(offsets);

    if (r < 0)
        return r;
    lock_acquire(&offsets->lock);
    WALRUS_ASSERT(slot_idx < offsets->slot_count && offsets->slots[slot_idx].used);
    slot = offsets->slots[slot_idx];
    lock_release(&offsets->lock);

    slot.newest = !slot.newest;
    slot.generation++;
    format_slot_encode(&raw, value, slot.generation,
                       format_seed_slot(offsets->uuid, slot_idx, slot.newest));
    view = durable_begin(&offsets->durable);
    r = os_write(view->fd, &raw, sizeof(raw), slot_off(slot_idx, slot.newest), true);
    r = sync_end(offsets, view, r, "storing an offset");
    if (r < 0)
        return r;

    bool again = value->topic_id != 0 && !slot.both;
    slot.both = value->topic_id != 0;
    lock_acquire(&offsets->lock);
    offsets->slots[slot_idx] = slot;
    lock_release(&offsets->lock);
    return again ? slot_write(offsets, slot_idx, value) : 0;
}

int offsets_store(struct offsets *offsets, uint32_t slot, const struct offset_value *value)
{
    uint64_t floor = value->offset;

    if (offsets->read_only)
        return -EROFS;
    WALRUS_ASSERT(value->topic_id != 0);
    if (value->range_count > OFFSETS_RANGE_COUNT_MAX)
        return -EOVERFLOW;
    for (uint32_t i = 0; i < value->range_count; i++) {
        const struct offset_range *range = &value->ranges[i];

        WALRUS_ASSERT(range->first >= floor && range->first > value->offset);
        WALRUS_ASSERT(range->end > range->first);
        if (range->first - value->offset > UINT32_MAX || range->end - range->first > UINT32_MAX)
            return -EOVERFLOW;
        floor = range->end;
    }
    return slot_write(offsets, slot, value);
}

/* Both copies become nobody's.  The slot is used. */
static int slot_clear(struct offsets *offsets, uint32_t slot)
{
    const struct offset_value nobody = {0};
    int r = slot_write(offsets, slot, &nobody);

    return r < 0 ? r : slot_write(offsets, slot, &nobody);
}

/* Adds zeros from the present end to `count` slots, durably; the caller has said `growing`. */
static int file_grow(struct offsets *offsets, uint32_t from, uint32_t count)
{
    uint64_t off = (uint64_t)from / EXTENT_SLOTS * EXTENT_SIZE;
    uint64_t size = (uint64_t)count / EXTENT_SLOTS * EXTENT_SIZE;
    const struct durable_view *view;
    int r;

    /* Written, not merely allocated: a store into space that was never written is half as fast. */
    r = os_zero(offsets->fd, off, size - off);
    if (r == -ENOSPC || r == -EDQUOT) {
        no_matter(os_truncate(offsets->fd, off)); /* a rest is rounded up at the next start */
        return r;
    }
    view = durable_begin(&offsets->durable);
    if (r == 0)
        r = os_fdatasync(view->fd);
    return sync_end(offsets, view, r, "growing the file");
}

/* Makes the file at least `count` slots long.  Gives the lock up meanwhile. */
static int grow_locked(struct offsets *offsets, uint32_t count)
{
    uint32_t from = offsets->slot_count;
    struct slot *slots;
    int r;

    if (count > SLOT_COUNT_MAX)
        return -ENOSPC;
    count = (uint32_t)round_up(count, EXTENT_SLOTS);
    offsets->growing = true;
    lock_release(&offsets->lock);
    r = file_grow(offsets, from, count);
    lock_acquire(&offsets->lock);
    offsets->growing = false;
    cond_broadcast(&offsets->grown);
    if (r < 0)
        return r;
    /* The file may be longer than the table for a while if this fails: nobody minds zeros. */
    slots = realloc(offsets->slots, count * sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    memset(slots + from, 0, (count - from) * sizeof(*slots));
    for (uint32_t i = from; i < count; i++)
        slots[i].newest = 1;
    offsets->slots = slots;
    offsets->slot_count = count;
    return 0;
}

int offsets_claim(struct offsets *offsets, uint32_t slot)
{
    int r = offsets_error(offsets);

    if (r < 0)
        return r;
    lock_acquire(&offsets->lock);
    while (r == 0 && slot >= offsets->slot_count) {
        if (offsets->read_only)
            break;
        if (offsets->growing)
            cond_wait(&offsets->grown, &offsets->lock);
        else if (slot - offsets->slot_count >= CLAIM_GROW_MAX)
            r = -ENOSPC;
        else
            r = grow_locked(offsets, slot + 1);
    }
    if (r == 0 && slot < offsets->slot_count) {
        if (offsets->slots[slot].used)
            r = -EEXIST;
        offsets->slots[slot].used = true;
    }
    lock_release(&offsets->lock);
    return r;
}

/*
 * The i-th slot in the order in which they are taken: the first of each page, then the second.  The
 * kernel writes a page once at a time, so groups whose slots share one wait for each other's syncs.
 * Its own inverse.
 */
static uint32_t slot_in_turn(uint32_t i)
{
    uint32_t in_extent = i % EXTENT_SLOTS;

    return i - in_extent + in_extent % PAGE_SLOTS * PAGE_SLOTS + in_extent / PAGE_SLOTS;
}

/* Finds a free slot and marks it. */
static int take_locked(struct offsets *offsets, uint32_t *ret_slot, bool *ret_stale)
{
    for (;;) {
        int r;

        for (uint32_t i = offsets->free_hint; i < offsets->slot_count; i++) {
            uint32_t idx = slot_in_turn(i);
            struct slot *slot = &offsets->slots[idx];

            if (slot->used)
                continue;
            slot->used = true;
            offsets->free_hint = i + 1;
            *ret_slot = idx;
            *ret_stale = slot->stale;
            return 0;
        }
        offsets->free_hint = offsets->slot_count;
        if (offsets->growing) {
            cond_wait(&offsets->grown, &offsets->lock);
            continue;
        }
        r = grow_locked(offsets, offsets->slot_count + 1);
        if (r < 0)
            return r;
    }
}

static void slot_free(struct offsets *offsets, uint32_t slot, bool stale)
{
    lock_acquire(&offsets->lock);
    offsets->slots[slot].used = false;
    offsets->slots[slot].stale = stale;
    offsets->free_hint = MIN(offsets->free_hint, slot_in_turn(slot));
    lock_release(&offsets->lock);
}

int offsets_take(struct offsets *offsets, uint32_t *ret_slot)
{
    uint32_t slot;
    bool stale;
    int r = offsets->read_only ? -EROFS : offsets_error(offsets);

    if (r < 0)
        return r;
    lock_acquire(&offsets->lock);
    r = take_locked(offsets, &slot, &stale);
    lock_release(&offsets->lock);
    if (r < 0)
        return r;
    /* A group was removed and the store ended before its slot was cleared. */
    if (stale) {
        r = slot_clear(offsets, slot);
        if (r < 0) {
            slot_free(offsets, slot, true);
            return r;
        }
    }
    *ret_slot = slot;
    return 0;
}

int offsets_give_back(struct offsets *offsets, uint32_t slot)
{
    int r = offsets->read_only ? -EROFS : slot_clear(offsets, slot);

    if (r == 0)
        slot_free(offsets, slot, false);
    return r;
}

void offsets_trim(struct offsets *offsets)
{
    durable_trim(&offsets->durable);
}

int offsets_error(const struct offsets *offsets)
{
    return durable_error(&offsets->durable);
}
