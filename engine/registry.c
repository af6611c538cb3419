/* SPDX-License-Identifier: MIT */
/*
 * registry.c - the journal of topics and groups: replay, append, compaction.
 *
 * Serves topic, group and recover; uses os, format and report.  No locks: LOCK_REGISTRY_CHANGE of
 * the caller covers every call.  What is kept in memory: where the journal ends, and a small table
 * of how many bytes of it are live.
 *
 * The file is two copies of the header, a page each, and then records.  Everything behind the last
 * record reads as zeros.  That is what makes a torn append harmless: it is the only thing in the
 * journal that can be invalid with nothing valid behind it, and before the next append it is
 * overwritten with zeros and synced.  Space is taken in steps, ahead of need, and the last page of
 * it is kept for removals.
 *
 * A group of changes is one write.  Its records are chained: the seed of each but the first goes on
 * over the CRC of the one before, so that the rest of a group whose beginning did not reach the
 * disk does not look like a change of its own.
 *
 * Reading accepts any bytes.  Where no group begins, the next place is eight bytes on; a place
 * costs a checksum only when its fields fit together, and records that overlap contradict each
 * other in those fields, so the work stays proportional to the file.
 *
 * Failure: out of space leaves the journal as it was, to the byte.  Any other failed write or sync
 * makes `error` final, because nobody can know what the next sync would prove.
 */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "census.h"
#include "crc32c.h"
#include "format.h"
#include "os.h"

#define NAME             "topics.db"
#define TMP_NAME         NAME ".tmp"
#define HEADER_COUNT     2u
#define HEADER_SIZE      sizeof(struct format_registry)
#define RECORDS_OFF      (HEADER_COUNT * HEADER_SIZE)
#define RECORD_ALIGN     8u
#define STEP_SIZE        65536u              /* space is taken in multiples of this */
#define RESERVE_SIZE     4096u               /* of the space, for removals on a full disk */
#define FILE_SIZE_MAX    ((uint64_t)1 << 30) /* bounds what opening a hostile file costs */
#define GROUP_COUNT_MAX  4u                  /* changes that take effect together */
#define RECORD_SIZE_MAX  ((sizeof(struct format_regrec) + WALRUS_NAME_SIZE_MAX + 7) / 8 * 8)
#define GROUP_SIZE_MAX   (GROUP_COUNT_MAX * RECORD_SIZE_MAX)
#define WINDOW_SIZE      ((size_t)1 << 18) /* read at once; a multiple of a page */
#define REPORT_COUNT_MAX 16u /* damaged stretches that are reported, all are counted */

uint64_t registry_compact_size = (uint64_t)1 << 20;

/* One generation of the file. */
struct journal {
    int fd; /* -1: read-only and not there */
    uint8_t salt[16];
    uint64_t topic_id_next;
    uint64_t end;      /* where the next record goes */
    uint64_t size;     /* of the file: space that is there */
    uint64_t torn_end; /* above `end`: bytes from there to here may be other than zero */
    bool worn;         /* a copy of the header is damaged */
    struct census census;
};

struct registry {
    int dirfd; /* the store's */
    bool read_only;
    int error; /* 0, or -EIO for good */
    struct reporter reporter;
    uint8_t uuid[16];
    struct journal journal;
};

/* ----------------------------------------------------------------------------------- journal -- */

static void journal_fini(struct journal *journal)
{
    (void)os_close(journal->fd);
    journal->fd = -1;
    census_fini(&journal->census);
}

/* The seed of a record at `off`; `previous`: the record before it in its group, or NULL. */
static uint32_t record_seed(const uint8_t uuid[16], const struct journal *journal, uint64_t off,
                            const void *previous)
{
    uint32_t seed = format_seed_regrec(uuid, journal->salt, off);
    struct format_regrec raw;

    if (previous == NULL)
        return seed;
    memcpy(&raw, previous, sizeof(raw));
    return crc32c(seed, &raw.crc, sizeof(raw.crc));
}

static bool out_of_space(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}

/* A new journal on its way to the disk, under its temporary name. */
struct registry_making {
    const uint8_t *uuid;
    struct journal journal;
    size_t filled; /* bytes in `buffer`, which belong before journal.end */
    uint8_t buffer[STEP_SIZE];
};

static int making_flush(struct registry_making *making)
{
    int r = os_write(making->journal.fd, making->buffer, making->filled,
                     making->journal.end - making->filled, false);

    if (r == 0)
        making->filled = 0;
    return r;
}

int registry_add(struct registry_making *making, const struct registry_change *change)
{
    struct journal *journal = &making->journal;
    size_t extent = format_regrec_extent(change);
    int r;

    if (making->filled + extent > sizeof(making->buffer)) {
        r = making_flush(making);
        if (r < 0)
            return r;
    }
    if (journal->end + extent + RESERVE_SIZE > FILE_SIZE_MAX)
        return -ENOSPC;
    r = census_reserve(&journal->census, 2);
    if (r < 0)
        return r;
    format_regrec_encode(making->buffer + making->filled, change, false,
                         record_seed(making->uuid, journal, journal->end, NULL));
    making->filled += extent;
    journal->end += extent;
    census_count(&journal->census, change);
    return 0;
}

/* Writes the whole of a new journal and syncs it; the file is open under its temporary name. */
static int making_write(struct registry_making *making, registry_fill *fill, void *arg)
{
    struct journal *journal = &making->journal;
    int r;

    if (getentropy(journal->salt, sizeof(journal->salt)) != 0 ||
        getentropy(&journal->census.secret, sizeof(journal->census.secret)) != 0)
        return -errno;
    for (unsigned copy = 0; copy < HEADER_COUNT; copy++) {
        struct format_registry *header = (struct format_registry *)making->buffer + copy;

        format_registry_encode(header, journal->salt, journal->topic_id_next,
                               format_seed_registry(making->uuid));
    }
    making->filled = journal->end = RECORDS_OFF;
    r = fill != NULL ? fill(arg, making) : 0;
    if (r < 0)
        return r;
    r = making_flush(making);
    if (r < 0)
        return r;
    journal->size = round_up(journal->end + RESERVE_SIZE, STEP_SIZE);
    r = os_allocate(journal->fd, journal->end, journal->size - journal->end);
    if (r < 0)
        return r;
    return os_fsync(journal->fd);
}

/* 0 also if the file is not there. */
static int remove_tmp(int dirfd)
{
    int r = os_unlink(dirfd, TMP_NAME);

    return r == -ENOENT ? 0 : r;
}

/* Makes a complete journal under the temporary name.  The buffer is why this is on the heap. */
static int journal_make(int dirfd, const uint8_t uuid[16], uint64_t topic_id_next,
                        registry_fill *fill, void *arg, struct journal *ret_journal)
{
    struct registry_making *making;
    int r = remove_tmp(dirfd);

    if (r < 0)
        return r;
    making = calloc(1, sizeof(*making));
    if (making == NULL)
        return -ENOMEM;
    making->uuid = uuid;
    making->journal.topic_id_next = topic_id_next;
    r = os_open(dirfd, TMP_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (r < 0)
        goto out;
    making->journal.fd = r;
    r = making_write(making, fill, arg);
    if (r < 0) {
        journal_fini(&making->journal);
        (void)remove_tmp(dirfd); /* the next start removes it otherwise */
        goto out;
    }
    *ret_journal = making->journal;
out:
    free(making);
    return r;
}

/* Puts a complete journal in the place of what is there; durable with the next sync of the directory. */
static int journal_name(int dirfd, struct journal *journal)
{
    int r = os_rename(dirfd, TMP_NAME, NAME);

    if (r < 0) {
        journal_fini(journal);
        (void)remove_tmp(dirfd);
        return r;
    }
    journal->torn_end = journal->end;
    return 0;
}

int registry_make(int dirfd, const uint8_t uuid[16], registry_fill *fill, void *arg,
                  uint64_t topic_id_next)
{
    struct journal journal;
    int r = journal_make(dirfd, uuid, topic_id_next, fill, arg, &journal);

    if (r == 0)
        r = journal_name(dirfd, &journal);
    if (r < 0)
        return r;
    journal_fini(&journal);
    return os_fsync(dirfd);
}

/* ------------------------------------------------------------------------------------ replay -- */

/* A window that moves over the file. */
struct scan {
    struct registry *registry;
    registry_visit *visit;
    void *arg;
    uint64_t damaged;  /* stretches */
    struct le16 magic; /* of every record */
    uint64_t window_off;
    size_t window_size;
    uint8_t window[WINDOW_SIZE];
};

/* Shows the bytes at `off`: GROUP_SIZE_MAX of them, or those up to the end of the file. */
static int scan_look(struct scan *scan, uint64_t off, const uint8_t **ret_data, size_t *ret_size)
{
    const struct journal *journal = &scan->registry->journal;
    size_t size = (size_t)MIN(journal->size - off, GROUP_SIZE_MAX);
    int r;

    if (off < scan->window_off || off + size > scan->window_off + scan->window_size) {
        scan->window_off = round_down(off, FORMAT_PAGE_SIZE);
        scan->window_size = (size_t)MIN(journal->size - scan->window_off, WINDOW_SIZE);
        r = os_read_salvaging(journal->fd, scan->window, scan->window_size, scan->window_off);
        if (r < 0) {
            scan->window_size = 0;
            return r;
        }
    }
    *ret_data = scan->window + (off - scan->window_off);
    *ret_size = size;
    return 0;
}

/* Decodes the changes that take effect together from `off` on.  -EBADMSG: not all are there. */
static int group_decode(const struct registry *registry, const uint8_t *data, size_t size,
                        uint64_t off, struct registry_change *changes, size_t *ret_count,
                        size_t *ret_extent)
{
    const uint8_t *previous = NULL;
    size_t at = 0, extent;
    bool more;

    for (size_t count = 0; count < GROUP_COUNT_MAX; count++) {
        uint32_t seed = record_seed(registry->uuid, &registry->journal, off + at, previous);
        int r = format_regrec_decode(data + at, size - at, seed, &changes[count], &more, &extent);

        if (r < 0)
            return r;
        previous = data + at;
        at += extent;
        if (!more) {
            *ret_count = count + 1;
            *ret_extent = at;
            return 0;
        }
    }
    return -EBADMSG;
}

static void scan_damage(struct scan *scan, uint64_t from, uint64_t to)
{
    scan->damaged++;
    if (scan->damaged <= REPORT_COUNT_MAX)
        report(&scan->registry->reporter, WALRUS_ERROR, -EBADMSG, NULL,
               NAME ": bytes %" PRIu64 " to %" PRIu64 " are damaged and were skipped", from, to);
}

static int scan_apply(struct scan *scan, const struct registry_change *changes, size_t count)
{
    struct journal *journal = &scan->registry->journal;
    int r = census_reserve(&journal->census, 2 * count);

    for (size_t i = 0; r == 0 && i < count; i++) {
        if (changes[i].kind != REGISTRY_STORE)
            journal->topic_id_next = MAX(journal->topic_id_next, changes[i].topic_id + 1);
        census_count(&journal->census, &changes[i]);
        r = scan->visit(scan->arg, &changes[i]);
    }
    return r;
}

/* Learns the magic from a record, so that places without it cost next to nothing. */
static void scan_learn_magic(struct scan *scan)
{
    static const uint8_t attr[WALRUS_ATTR_SIZE];
    const struct registry_change change = {.kind = REGISTRY_STORE, .attr = attr};
    struct format_regrec raw;

    format_regrec_encode(&raw, &change, false, 0);
    scan->magic = raw.magic;
}

/* Hands out every group of changes, and finds the end of the last one. */
static int scan_records(struct scan *scan)
{
    struct journal *journal = &scan->registry->journal;
    struct registry_change changes[GROUP_COUNT_MAX];
    size_t size, count, extent;
    const uint8_t *data;
    uint64_t off = RECORDS_OFF;
    int r;

    journal->end = off;
    while (off + sizeof(struct format_regrec) <= journal->size) {
        r = scan_look(scan, off, &data, &size);
        if (r < 0)
            return r;
        if (memcmp(data + offsetof(struct format_regrec, magic), &scan->magic,
                   sizeof(scan->magic)) != 0 ||
            group_decode(scan->registry, data, size, off, changes, &count, &extent) < 0) {
            off += RECORD_ALIGN;
            continue;
        }
        if (off != journal->end)
            scan_damage(scan, journal->end, off);
        r = scan_apply(scan, changes, count);
        if (r != 0)
            return r;
        off += extent;
        journal->end = off;
    }
    return 0;
}

/* Finds what a torn append left behind the end. */
static int scan_tail(struct scan *scan)
{
    struct journal *journal = &scan->registry->journal;
    const uint8_t *data;
    size_t size;
    int r;

    journal->torn_end = journal->end;
    for (uint64_t off = journal->end; off < journal->size; off += size) {
        r = scan_look(scan, off, &data, &size);
        if (r < 0)
            return r;
        for (size_t i = 0; i < size; i++) {
            if (data[i] != 0)
                journal->torn_end = off + i + 1;
        }
    }
    if (journal->torn_end > journal->end)
        report(&scan->registry->reporter, WALRUS_WARNING, -EBADMSG, NULL,
               NAME ": an unfinished change at byte %" PRIu64 " was dropped", journal->end);
    return 0;
}

static int scan_headers(struct scan *scan)
{
    struct journal *journal = &scan->registry->journal;
    uint32_t seed = format_seed_registry(scan->registry->uuid);
    int results[HEADER_COUNT], r;

    if (journal->size < RECORDS_OFF || journal->size > FILE_SIZE_MAX)
        return -EBADMSG;
    r = os_read_salvaging(journal->fd, scan->window, RECORDS_OFF, 0);
    if (r < 0)
        return r;
    for (unsigned copy = 0; copy < HEADER_COUNT; copy++) {
        results[copy] = format_registry_decode(scan->window + copy * HEADER_SIZE, HEADER_SIZE, seed,
                                               journal->salt, &journal->topic_id_next);
        if (results[copy] == -EPROTONOSUPPORT)
            return -EPROTONOSUPPORT;
    }
    if (results[0] < 0 && results[1] < 0)
        return -EBADMSG;
    if (results[0] < 0 || results[1] < 0) {
        journal->worn = true;
        scan->damaged++;
        report(&scan->registry->reporter, WALRUS_ERROR, -EBADMSG, NULL,
               NAME ": copy %d of the header is damaged, the other one is used",
               results[0] < 0 ? 0 : 1);
    }
    journal->topic_id_next = MAX(journal->topic_id_next, 1);
    return 0;
}

/* ---------------------------------------------------------------------------- open and close -- */

/* Opens the file and finds its length; it must be a regular one with a single name. */
static int journal_open(struct registry *registry)
{
    int flags = (registry->read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    struct stat st;
    int r = os_open(registry->dirfd, NAME, flags, 0);

    if (r < 0)
        return r;
    registry->journal.fd = r;
    r = os_fstat(registry->journal.fd, &st);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return -ELOOP;
    registry->journal.size = (uint64_t)st.st_size;
    if (registry->journal.size % STEP_SIZE != 0) {
        uint64_t size = round_up(registry->journal.size, STEP_SIZE);
        report(&registry->reporter, WALRUS_WARNING, -EBADMSG, NULL,
               "topics.db: cut short to %llu bytes; what lay behind, if anything, is missing",
               (unsigned long long)registry->journal.size);
        if (!registry->read_only && registry->journal.size >= 2 * FORMAT_PAGE_SIZE &&
            os_allocate(registry->journal.fd, registry->journal.size,
                        size - registry->journal.size) == 0)
            registry->journal.size = size;
    }
    if (getentropy(&registry->journal.census.secret, sizeof(uint64_t)) != 0)
        return -errno;
    return 0;
}

static int journal_replay(struct registry *registry, registry_visit *visit, void *arg,
                          uint64_t *ret_damaged)
{
    struct scan *scan = calloc(1, sizeof(*scan));
    int r;

    if (scan == NULL)
        return -ENOMEM;
    scan->registry = registry;
    scan->visit = visit;
    scan->arg = arg;
    scan_learn_magic(scan);
    r = scan_headers(scan);
    if (r == 0)
        r = scan_records(scan);
    if (r == 0)
        r = scan_tail(scan);
    if (r == 0)
        *ret_damaged = scan->damaged;
    free(scan);
    return r;
}

/* The file is not there: makes an empty one, or does without. */
static int journal_begin(struct registry *registry)
{
    struct journal *journal = &registry->journal;
    int r;

    if (registry->read_only) {
        journal->topic_id_next = 1;
        return 0;
    }
    r = journal_make(registry->dirfd, registry->uuid, 1, NULL, NULL, journal);
    if (r < 0)
        return r;
    r = journal_name(registry->dirfd, journal);
    return r < 0 ? r : os_fsync(registry->dirfd);
}

int registry_open(int dirfd, const uint8_t uuid[16], bool read_only,
                  const struct reporter *reporter, registry_visit *visit, void *arg,
                  uint64_t *ret_topic_id_next, uint64_t *ret_damaged,
                  struct registry **ret_registry)
{
    struct registry *registry = calloc(1, sizeof(*registry));
    uint64_t damaged = 0;
    int r = 0;

    if (registry == NULL)
        return -ENOMEM;
    registry->dirfd = dirfd;
    registry->read_only = read_only;
    registry->reporter = *reporter;
    memcpy(registry->uuid, uuid, sizeof(registry->uuid));
    registry->journal.fd = -1;

    if (!read_only)
        r = remove_tmp(dirfd);
    if (r == 0) {
        r = journal_open(registry);
        if (r == 0)
            r = journal_replay(registry, visit, arg, &damaged);
        else if (r == -ENOENT)
            r = journal_begin(registry);
    }
    if (r != 0) {
        registry_close(registry);
        return r;
    }
    *ret_topic_id_next = registry->journal.topic_id_next;
    *ret_damaged = damaged;
    *ret_registry = registry;
    return 0;
}

int registry_error(const struct registry *registry)
{
    return registry->error;
}

int registry_barrier(struct registry *registry)
{
    return registry->journal.fd < 0 ? 0 : os_rewrite(registry->journal.fd);
}

uint64_t registry_digest(const struct registry *registry)
{
    const struct journal *journal = &registry->journal;
    uint64_t salt = crc32c(0, journal->salt, sizeof(journal->salt));

    return format_digest(FORMAT_DIGEST_REGISTRY, salt, journal->fd < 0 ? 0 : journal->end);
}

void registry_close(struct registry *registry)
{
    if (registry == NULL)
        return;
    journal_fini(&registry->journal);
    free(registry);
}

/* ------------------------------------------------------------------------------------ append -- */

/* The journal cannot be trusted to take anything from here on. */
static int registry_poison(struct registry *registry, int error, const char *what)
{
    registry->error = -EIO;
    report(&registry->reporter, WALRUS_ERROR, error, NULL,
           NAME ": %s failed; topics and groups cannot be changed until the store is opened anew",
           what);
    return -EIO;
}

static int registry_fail(struct registry *registry, int error, const char *what)
{
    return out_of_space(error) ? error : registry_poison(registry, error, what);
}

/* Makes what lies behind the end zeros again, durably. */
static int registry_clear_tail(struct registry *registry)
{
    struct journal *journal = &registry->journal;
    int r;

    if (journal->torn_end <= journal->end)
        return 0;
    r = os_zero(journal->fd, journal->end, journal->torn_end - journal->end);
    if (r < 0)
        return registry_fail(registry, r, "clearing an unfinished change");
    r = os_fdatasync(journal->fd);
    if (r < 0)
        return registry_poison(registry, r, "a sync");
    journal->torn_end = journal->end;
    return 0;
}

/* Sees to it that there is space for `size` bytes of records, and that what is kept for removals
 * stays unless this is one. */
static int registry_take_space(struct registry *registry, size_t size, bool removal)
{
    struct journal *journal = &registry->journal;
    uint64_t need = journal->end + size + (removal ? 0 : RESERVE_SIZE);
    uint64_t target = round_up(journal->end + size + RESERVE_SIZE, STEP_SIZE);
    int r;

    if (need <= journal->size)
        return 0;
    if (target > FILE_SIZE_MAX)
        return -ENOSPC;
    r = os_allocate(journal->fd, journal->size, target - journal->size);
    if (r < 0)
        return registry_fail(registry, r, "taking space");
    journal->size = target;
    return 0;
}

/* A write failed part of the way.  What it left can be a valid record that only lacks zeros at its
 * end, so it must go now, not before the next append: a crash would bring it back. */
static int registry_undo(struct registry *registry, int error)
{
    int r = registry_clear_tail(registry);

    if (r < 0 && registry->error == 0)
        return registry_poison(registry, r, "taking back a change");
    return r < 0 ? r : error;
}

static bool is_removal(const struct registry_change *change)
{
    return change->kind == REGISTRY_TOPIC_REMOVED || change->kind == REGISTRY_GROUP_REMOVED;
}

int registry_append(struct registry *registry, const struct registry_change *changes, size_t count)
{
    struct journal *journal = &registry->journal;
    uint8_t buffer[GROUP_SIZE_MAX];
    const uint8_t *previous = NULL;
    bool removal = true;
    size_t size = 0;
    int r;

    WALRUS_ASSERT(count >= 1 && count <= GROUP_COUNT_MAX);
    if (registry->read_only)
        return -EROFS;
    if (registry->error != 0)
        return registry->error;
    for (size_t i = 0; i < count; i++) {
        size += format_regrec_extent(&changes[i]);
        removal = removal && is_removal(&changes[i]);
    }
    r = census_reserve(&journal->census, 2 * count);
    if (r == 0)
        r = registry_clear_tail(registry);
    if (r == 0)
        r = registry_take_space(registry, size, removal);
    if (r < 0)
        return r;

    for (size_t i = 0, at = 0; i < count; i++) {
        format_regrec_encode(buffer + at, &changes[i], i + 1 < count,
                             record_seed(registry->uuid, journal, journal->end + at, previous));
        previous = buffer + at;
        at += format_regrec_extent(&changes[i]);
    }
    journal->torn_end = journal->end + size;
    r = os_write(journal->fd, buffer, size, journal->end, false);
    if (out_of_space(r))
        return registry_undo(registry, r);
    if (r < 0)
        return registry_poison(registry, r, "a write");
    r = os_fdatasync(journal->fd);
    if (r < 0)
        return registry_poison(registry, r, "a sync");

    journal->end = journal->torn_end;
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind != REGISTRY_STORE)
            journal->topic_id_next = MAX(journal->topic_id_next, changes[i].topic_id + 1);
        census_count(&journal->census, &changes[i]);
    }
    return 0;
}

/* -------------------------------------------------------------------------------- compaction -- */

bool registry_compact_due(const struct registry *registry)
{
    const struct journal *journal = &registry->journal;

    if (registry->read_only || registry->error != 0)
        return false;
    return journal->worn || (journal->end > registry_compact_size &&
                             journal->census.live_size < (journal->end - RECORDS_OFF) / 4);
}

int registry_compact(struct registry *registry, registry_fill *fill, void *arg,
                     uint64_t topic_id_next)
{
    struct journal fresh;
    int r;

    if (registry->read_only)
        return -EROFS;
    if (registry->error != 0)
        return registry->error;
    r = journal_make(registry->dirfd, registry->uuid,
                     MAX(topic_id_next, registry->journal.topic_id_next), fill, arg, &fresh);
    if (r == 0)
        r = journal_name(registry->dirfd, &fresh);
    if (r < 0)
        return r;
    journal_fini(&registry->journal);
    registry->journal = fresh;
    /* After a crash the name may lead to the old file still, which would lack what is appended. */
    r = os_fsync(registry->dirfd);
    return r < 0 ? registry_poison(registry, r, "a sync of the directory") : 0;
}
