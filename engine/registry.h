/* SPDX-License-Identifier: MIT */
/*
 * registry.h - topics.db: which topics and groups there are (docs/disk-format.md, section 5).
 *
 * Serves topic.c and group.c, which hold LOCK_REGISTRY_CHANGE around every change; uses os and
 * format.  Holds no state of a topic: it turns changes into durable records and, at the start,
 * records into calls of a visitor.  A change costs one write and one sync however many topics
 * there are; a compaction is due when most of a large journal is dead.
 *
 * Failure: a change that fails with -ENOSPC leaves the journal as it was.  A failed write or sync
 * of another kind is final: every later change gives -EIO until the store is opened anew.
 */
#ifndef WALRUS_REGISTRY_H
#define WALRUS_REGISTRY_H

#include "compiler.h"
#include "report.h"
#include "walrus.h"

struct registry;

enum registry_kind {
    REGISTRY_TOPIC = 1,
    REGISTRY_TOPIC_REMOVED = 2,
    REGISTRY_GROUP = 3,
    REGISTRY_GROUP_REMOVED = 4,
    REGISTRY_STORE = 5,
};

/* One record: the whole state of one thing. */
struct registry_change {
    enum registry_kind kind;
    uint64_t topic_id;
    uint64_t group_id;                 /* kinds 3 and 4 */
    uint32_t slot;                     /* kind 3 */
    struct walrus_retention retention; /* kind 1 */
    uint64_t limit;                    /* kind 1 */
    uint64_t created_ns;
    const char *name; /* kinds 1 and 3 */
    size_t name_size;
    const void *attr; /* WALRUS_ATTR_SIZE bytes; kinds 1, 3 and 5 */
};

/* Called for every record in order.  Non-zero stops the reading and is returned. */
typedef int registry_visit(void *arg, const struct registry_change *change);

/*
 * Opens dirfd/topics.db, making it (durably, under .tmp and renamed) where it is missing, and
 * replays it.  *ret_topic_id_next is at least 1, and above every topic id ever seen in it.
 * read_only: never writes, a missing file is an empty one.
 * -EBADMSG header unreadable (the caller reports the store damaged), -EPROTONOSUPPORT newer.
 * Damaged stretches inside are reported, counted in *ret_damaged, and skipped.
 */
WALRUS_CHECK int registry_open(int dirfd, const uint8_t uuid[16], bool read_only,
                               const struct reporter *reporter, registry_visit *visit, void *arg,
                               uint64_t *ret_topic_id_next, uint64_t *ret_damaged,
                               struct registry **ret_registry);
/* Makes what was read durable, before anything is changed after an unclean end.  -EIO -ENOSPC */
WALRUS_CHECK int registry_barrier(struct registry *registry);
/* 0, or -EIO after a write or a sync failed. */
int registry_error(const struct registry *registry);
/* Where the journal ends, for format_digest()'s sum. */
uint64_t registry_digest(const struct registry *registry);
void registry_close(struct registry *registry); /* NULL is allowed */

/* Appends `count` (1 to 4) changes that take effect together; durable on return.
 * -ENOSPC -EDQUOT -EIO -EROFS */
WALRUS_CHECK int registry_append(struct registry *registry, const struct registry_change *changes,
                                 size_t count);

/* Bytes up to which a journal is not worth a compaction; 1 MiB.  Tests want it sooner. */
extern uint64_t registry_compact_size;

/* True when a compaction is worth it; `live_size` is kept by the registry itself. */
bool registry_compact_due(const struct registry *registry);

/* A journal that is being written; `fill` adds all that it is to say. */
struct registry_making;
typedef int registry_fill(void *arg, struct registry_making *making);
/* -ENOSPC -ENOMEM -EIO */
WALRUS_CHECK int registry_add(struct registry_making *making, const struct registry_change *change);

/* Writes a new journal and renames it over the old one.  On failure the old journal stays in use.
 * -ENOSPC -EIO -EROFS, or what `fill` returned */
WALRUS_CHECK int registry_compact(struct registry *registry, registry_fill *fill, void *arg,
                                  uint64_t topic_id_next);

/* The same where nobody has the registry open, whatever is there or is not.  On failure that is still
 * there, or the new one is and might not survive a loss of power. */
WALRUS_CHECK int registry_make(int dirfd, const uint8_t uuid[16], registry_fill *fill, void *arg,
                               uint64_t topic_id_next);

#endif
