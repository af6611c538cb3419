/* SPDX-License-Identifier: MIT */
/*
 * store.h - the objects of an open store and what guards them.
 *
 * Used by every file of the engine above format and os; nothing outside of engine/ sees it.
 *
 *     walrus ──< file ──< block            space.c: which blocks there are, and who has them
 *        └────< topic ──< block            append.c writes, walk.c reads, reclaim.c frees
 *                  └────< group            group.c: what is consumed; reader.c: who holds what
 *
 * Lock order: enum lock_rank in base/sync.h.  No lock that an append or a take needs is held across
 * a sync: only LOCK_REGISTRY_CHANGE, which exists for that, and LOCK_SPACE while a log file is made
 * that could not be made ahead.
 *
 * Lifetimes.  Topics, groups and blocks are counted by reference.  The table of topics holds a
 * topic, the topic its groups, and the topic's list its blocks.  A block leaves the list oldest
 * first and only while nobody else refers to it; so whoever refers to a block may follow `next`.
 */
#ifndef WALRUS_STORE_H
#define WALRUS_STORE_H

#include <pthread.h>
#include <stdatomic.h>
#define HASH_NONFATAL_OOM 1 /* or a table that cannot grow ends the process */
#include <uthash.h>

#include "compiler.h"
#include "durable.h"
#include "format.h"
#include "list.h"
#include "offsets.h"
#include "registry.h"
#include "report.h"
#include "sync.h"
#include "walrus.h"

#define CHUNK_SIZE_MIN    16384u  /* blocks are written with zeros ahead in chunks, from this */
#define CHUNK_SIZE_MAX    262144u /* to this, doubling while a topic is busy */
#define SPACE_STEP_CHUNKS 4u /* a busy topic takes its disk space in steps of so many chunks, */
#define SPACE_STEP_MAX    4194304u /* and of this at full rate */
#define CACHE_LINE_SIZE   64u      /* what a prefetch fetches, on nearly every processor */
#define KNOWN_DAMAGE_MAX  1024u    /* damaged places of a topic that are told apart */
#define HINT_STEP_BYTES   1048576u /* a synced block's entry is refreshed each so many bytes */
/* A wholly consumed block with at least this much in it is left behind, so that it can go. */
#define ROLL_SIZE_MIN(store) ((store)->super.block_size / 8)

enum cell_use { CELL_FREE, CELL_USED, CELL_QUARANTINED };

/* What is known of a place for a block, whoever has it. */
struct cell {
    uint64_t epoch;       /* of its last use */
    uint64_t generation;  /* of the newest entry written */
    uint8_t durable_copy; /* copy of the block table that is known to be durable */
    uint8_t use;          /* enum cell_use; LOCK_SPACE */
};

struct file {
    struct list node; /* LOCK_SPACE: in space.files, ascending by number */
    struct walrus *store;
    uint32_t number;
    int fd;
    uint8_t *map;
    uint8_t salt[16];
    uint32_t free_count;    /* LOCK_SPACE */
    struct durable durable; /* syncs of this file */
    struct lock table_lock; /* LOCK_TABLE: entries of the block table, cells' generations */
    struct cell cells[];    /* blocks_per_file of them */
};

struct block {
    struct list node; /* LOCK_BLOCKS of the topic: in topic->blocks, oldest first */
    struct file *file;
    uint8_t *base; /* where it is mapped */
    uint32_t idx;  /* in the file */
    uint32_t seed; /* of its records */
    _Atomic uint32_t refs;
    _Atomic uint32_t end;         /* bytes of published records: stored after them */
    _Atomic(struct block *) next; /* set when nothing more goes in here */
    uint64_t epoch;
    uint64_t topic_id;
    uint64_t block_seq;
    uint64_t first_seq;  /* first entry that begins here */
    uint64_t first_byte; /* payload bytes of the topic before it */
    /* LOCK_APPEND until `next` is set, constant from then on */
    uint64_t bytes; /* payload bytes of entries that begin here */
    uint64_t last_time_ns;
    uint32_t count;     /* entries that begin here */
    uint32_t alloc_end; /* written, and zero behind `end`, up to here */
    uint32_t space_end; /* disk space is there up to here, at least alloc_end */
    bool trim; /* what recovery or a failed append left behind `end` goes before an append */
    /* LOCK_TABLE */
    bool entered;              /* an entry of it was written, or may have been */
    atomic_bool table_durable; /* its active entry is; the keeper reads it too */
    bool sealed;               /* its sealed entry was written */
    uint32_t hint_used;        /* `used` in the newest entry written */
    /* LOCK_SYNC */
    uint32_t synced_end; /* bytes of records known to be durable */
};

struct space {
    struct lock lock;     /* LOCK_SPACE */
    struct list files;    /* GUARDED */
    uint32_t file_count;  /* GUARDED */
    uint32_t number_next; /* GUARDED: number of the next file */
    uint64_t free_count;  /* GUARDED: free blocks in all files */
};

/* Where a topic ends, as one consistent picture: written under LOCK_APPEND, read by anybody. */
struct tail {
    _Atomic uint32_t version;      /* odd: being written */
    _Atomic uint32_t off;          /* in the block */
    _Atomic uint64_t seq;          /* the next number to be given */
    _Atomic uint64_t bytes;        /* payload bytes before it */
    _Atomic(struct block *) block; /* where it will go, NULL before the first entry */
    _Atomic(const uint8_t *) at;   /* the same as an address, to be prefetched: may be stale */
};

struct tail_snap {
    uint64_t seq, bytes;
    struct block *block; /* borrowed, or with a reference: see the function */
    uint32_t off;
};

/* A place between entries, with a reference to its block. */
struct pos {
    struct block *block; /* NULL: not looked up yet, or the topic has no blocks */
    uint32_t off;
    uint64_t seq;   /* of the entry at `off` */
    uint64_t bytes; /* payload bytes of the topic before it */
};

struct walrus_topic {
    /* What every append looks at, in 88 bytes: two cache lines, but for a rare flag. */
    struct walrus *store;
    struct lock append_lock;      /* LOCK_APPEND: one writer */
    struct tail tail;             /* written under it */
    _Atomic uint64_t durable_seq; /* written under LOCK_SYNC */
    _Atomic uint64_t last_time_ns;
    _Atomic uint32_t watch_count; /* groups with an armed watch */
    _Atomic int error;            /* 0, or -EIO after a sync failed */
    atomic_bool removed;          /* refuses everything */
    atomic_bool dirty;            /* on the syncer's list */
    bool roll;                    /* LOCK_APPEND: begin a new block at the next append */
    atomic_bool
        squeezed; /* an append found no room: the last block goes as soon as it is consumed */
    uint32_t chunk_size; /* LOCK_APPEND: how much to take next */

    /* And these when it takes space. */
    uint64_t chunk_time_ns;  /* LOCK_APPEND: when space was last taken */
    uint64_t block_seq_next; /* LOCK_APPEND */
    _Atomic uint64_t limit;  /* of disk_bytes, 0: none; written under LOCK_GROUPS */
    _Atomic uint64_t disk_bytes;
    _Atomic int keep_now; /* retention.kind, for those who cannot take LOCK_GROUPS */

    _Atomic uint32_t refs;
    atomic_bool gone;                  /* removed, and that is durable: its blocks may go */
    atomic_bool reclaim;               /* on the keeper's list */
    atomic_bool pinned;                /* reclaim stopped at a block that somebody reads */
    bool stuck;                        /* keeper: a block could not be marked free */
    bool syncing;                      /* LOCK_SYNC: a thread flushes for all */
    uint32_t known_damage_count;       /* LOCK_BLOCKS */
    struct offset_range *known_damage; /* LOCK_BLOCKS: already counted and reported */
    _Atomic uint64_t damaged_count;

    uint64_t id;
    union {                      /* LOCK_TOPICS */
        UT_hash_handle by_name;  /* in the table */
        struct list zombie_node; /* removed: out of the table, blocks not all free yet */
    };
    char *name; /* LOCK_TOPICS */
    uint64_t created_ns;

    struct lock groups_lock;           /* LOCK_GROUPS */
    struct list groups;                /* GUARDED: ascending by id */
    uint64_t group_id_next;            /* GUARDED */
    struct walrus_retention retention; /* GUARDED */
    uint8_t attr[WALRUS_ATTR_SIZE];    /* GUARDED */

    struct lock sync_lock; /* LOCK_SYNC */
    struct cond sync_cond;
    struct block *sync_block; /* GUARDED, with a reference: the first not wholly durable; NULL */

    struct lock blocks_lock; /* LOCK_BLOCKS */
    struct list blocks;      /* GUARDED */
    struct pos sought;       /* GUARDED: where a look-up by number came to; borrowed */
    _Atomic uint64_t
        oldest_end_seq; /* numbers that begin in the oldest block end here: for reclaim */

    struct list dirty_node;   /* LOCK_DIRTY */
    struct list reclaim_node; /* LOCK_KEEPER */
};

/* A run of entries that follow one another. */
struct run {
    struct list node;
    struct pos pos;   /* its first entry */
    uint64_t end_seq; /* behind its last */
    uint64_t bytes;   /* payload bytes in it */
    bool damaged;     /* these numbers are lost */
};

struct walrus_group {
    struct walrus_topic *topic; /* borrowed from the reference that whoever refers to this holds */
    struct list node;           /* LOCK_GROUPS: in topic->groups */
    uint64_t id;
    uint32_t slot;
    _Atomic uint32_t refs;
    int error; /* LOCK_GROUP: 0, or -EIO for ever */
    atomic_bool removed;
    atomic_bool behind;             /* the last store failed; written under LOCK_GROUP */
    bool storing;                   /* LOCK_GROUP: a thread stores for all */
    char *name;                     /* LOCK_GROUPS */
    uint8_t attr[WALRUS_ATTR_SIZE]; /* LOCK_GROUPS */
    uint64_t created_ns;

    struct lock lock; /* LOCK_GROUP */
    struct cond cond;
    uint64_t low;              /* GUARDED: everything below is consumed */
    struct offset_range *done; /* GUARDED: consumed ranges above low, ascending, not touching */
    uint32_t done_count;       /* GUARDED */
    uint32_t done_room;        /* GUARDED */
    struct pos cur;            /* GUARDED: the first entry never claimed */
    struct list back;          /* GUARDED: runs given back, ascending, all below cur */
    uint64_t back_count;       /* GUARDED */
    uint64_t back_bytes;       /* GUARDED */
    uint64_t held_count;       /* GUARDED: entries claimed and not consumed */
    uint64_t seek_count;       /* GUARDED: claims of before a seek do not count any more */
    uint64_t change;           /* GUARDED: number of the last change of what is consumed */
    uint64_t stored_change;    /* GUARDED: the last that is durable */
    _Atomic uint64_t unstored_count; /* consumed and not durably stored; written under LOCK_GROUP */
    _Atomic uint64_t stored_low;     /* durable: blocks below may go */
    _Atomic uint64_t last_take_ns;

    void (*ready)(void *arg); /* LOCK_WATCH */
    void *ready_arg;          /* LOCK_WATCH */
};

struct walrus {
    struct reporter reporter;
    struct walrus_options options; /* strings are not kept */
    int dirfd, lock_fd, super_fd;
    struct super_info super;
    struct lock super_lock;         /* LOCK_LEAF; the file is written by open and close only */
    uint8_t attr[WALRUS_ATTR_SIZE]; /* LOCK_TOPICS */
    bool read_only;

    struct lock change_lock; /* LOCK_REGISTRY_CHANGE */
    struct registry *registry;
    struct offsets *offsets;
    struct space space;

    struct lock topics_lock;             /* LOCK_TOPICS */
    struct walrus_topic *topics_by_name; /* GUARDED */
    struct walrus_topic *topics_anchor;  /* constant: in the table, so that it never is empty */
    struct walrus_topic **topics_sorted; /* GUARDED: by id, for listing */
    size_t topics_count, topics_room;    /* GUARDED */
    uint64_t topic_id_next;              /* GUARDED */
    struct list zombies;                 /* GUARDED */

    struct lock dirty_lock; /* LOCK_DIRTY */
    struct cond dirty_cond;
    struct list dirty;     /* GUARDED: topics to sync, each with a reference */
    uint64_t dirty_due_ns; /* GUARDED: when the first of them wants it */
    bool syncer_stop;      /* GUARDED */
    pthread_t syncer;

    struct lock keeper_lock; /* LOCK_KEEPER */
    struct cond keeper_cond;
    struct list keeper_topics; /* GUARDED: topics to look at, each with a reference */
    bool keeper_space;         /* GUARDED: blocks were freed, or the last one was taken */
    bool keeper_stop;          /* GUARDED */
    bool keeper_ages;          /* GUARDED: some topic keeps its entries by age */
    pthread_t keeper;
    bool threads; /* both run */

    struct lock watch_lock; /* LOCK_WATCH */
    struct cond watch_cond;
    uint32_t watch_running; /* GUARDED: calls of `ready` under way */

    _Atomic uint64_t damaged_count, sync_count, sync_ns, reclaimed_bytes;
    _Atomic uint64_t sync_buckets[WALRUS_SYNC_BUCKET_COUNT];
    atomic_bool degraded;
    atomic_bool blurred; /* metadata may not be on disk as it is here: do not close as clean */
};

/* space.c: log files, and which of their blocks are free. */
void space_init(struct space *space);
/* Opens one log file into the space, reading its metadata (FORMAT_FILE_META_SIZE bytes).
 * -EBADMSG: reported, and left alone */
WALRUS_CHECK int space_file_open(struct walrus *store, uint32_t number, uint8_t *ret_meta,
                                 struct file **ret_file);
void space_fini(struct walrus *store);
/* A free block for a topic, with one reference; its epoch is new.  -ENOSPC -EMFILE ... */
WALRUS_CHECK int space_take(struct walrus *store, struct block **ret_block);
/* Removes files that hold no block in use, but for the last free ones; with `ahead`, makes a file
 * when no free block is left. */
void space_tend(struct walrus *store, bool ahead);
/* Ends the last reference: the place goes free (durably, if it ever had an entry) and its disk
 * space is given back.  False, reported: the place stays unused, and its block a part of its topic
 * on disk, until the store is opened anew. */
bool space_free(struct walrus *store, struct block *block);
/* The block at a place, for recovery, with one reference.  NULL: no memory */
struct block *space_adopt(struct file *file, uint32_t idx, const struct block_info *info);
uint32_t block_seed(const struct walrus *store, const struct file *file, uint32_t idx,
                    uint64_t epoch);
uint64_t block_file_off(const struct block *block); /* of its first byte in the file */
/* Fills a block of the topic with zeros up to byte `upto`; takes disk space for it up to `space`
 * where there is none yet.  -ENOSPC -EDQUOT: also the topic's limit; what was taken stays */
WALRUS_CHECK int block_allocate(struct walrus_topic *topic, struct block *block, uint64_t upto,
                                uint64_t space);
/* Stores bytes of records, where space was taken, that nobody reads yet.  -EIO -ENOSPC ...
 * A store into the mapping needs more than a write: for the whole of the large page that the cache
 * may have made of what has space and what has none, or for what a snapshot shares.  Close to full it
 * faults then, and does not say why; so whoever met a fault writes, unless the file was cut short. */
bool block_may_write(const struct block *block);
WALRUS_CHECK int block_store(const struct block *block, uint32_t off, const void *data,
                             size_t size);
/* Writes the block's first entry, not durably yet. */
WALRUS_CHECK int block_table_activate(struct block *block);
/* Makes the active entries of blocks of one file durable, in both copies.  Their topics are being
 * flushed by this thread, so nobody else writes these entries. */
WALRUS_CHECK int block_table_settle(struct file *file, struct block **blocks, size_t count);
/* Notes in the table what is durable of the block, when that is worth a write. */
void block_table_note(struct block *block, const struct block_info *info, bool always);
static inline struct block *block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
    return block;
}
static inline void block_unref(struct block *block) /* never the last: the list has one */
{
    if (block)
        atomic_fetch_sub_explicit(&block->refs, 1, memory_order_release);
}
/* Numbers that begin in the block end here; the block must be followed by another. */
static inline uint64_t block_end_seq(const struct block *block)
{
    return block->first_seq + block->count;
}

/* topic.c */
WALRUS_CHECK int topic_new(struct walrus *store, uint64_t id, const char *name, size_t name_size,
                           struct walrus_topic **ret_topic);
WALRUS_CHECK int topic_insert_locked(struct walrus *store, struct walrus_topic *topic);
/* Enters a topic under its name; cannot fail. */
void topic_name_insert_locked(struct walrus *store, struct walrus_topic *topic);
WALRUS_CHECK int topics_init(struct walrus *store);
struct walrus_topic *topic_by_id_locked(const struct walrus *store, uint64_t id); /* or NULL */
void topic_free(struct walrus_topic *topic);
void topics_fini(struct walrus *store);
struct tail_snap topic_tail(
    const struct walrus_topic *topic);                       /* block borrowed: do not follow it */
struct tail_snap topic_tail_ref(struct walrus_topic *topic); /* block with a reference */
void topic_tail_publish(struct walrus_topic *topic, uint64_t seq, uint64_t bytes,
                        struct block *block, uint32_t off); /* under LOCK_APPEND */
uint64_t topic_first_seq(struct walrus_topic *topic);
uint64_t topic_first_seq_locked(const struct walrus_topic *topic); /* under LOCK_BLOCKS */
/* Counts entries first to end - 1 as damaged and reports it, once however many meet them. */
void topic_damage(struct walrus_topic *topic, uint64_t first, uint64_t end, const char *format, ...)
    PRINTF(4, 5);
void topic_name_copy(struct walrus_topic *topic, char *ret_name);
/* Takes a topic that nobody refers to out of the tables and frees it; not for a store with threads.
 */
void topic_forget(struct walrus *store, struct walrus_topic *topic);
struct registry_change topic_change(const struct walrus_topic *topic);
/* Takes LOCK_REGISTRY_CHANGE for a change; makes the journal shorter first when that is due. */
void registry_change_begin(struct walrus *store);
/* Appends changes durably; the caller holds LOCK_REGISTRY_CHANGE, and makes them in memory next. */
WALRUS_CHECK int registry_change_locked(struct walrus *store, const struct registry_change *changes,
                                        size_t count);

/* append.c */
WALRUS_CHECK int append_check_locked(struct walrus_topic *topic);
WALRUS_CHECK int append_roll_locked(struct walrus_topic *topic, uint32_t want);
WALRUS_CHECK int append_allocate_locked(struct walrus_topic *topic, struct block *block,
                                        uint64_t upto, uint64_t now_ns);
void append_link_locked(struct walrus_topic *topic, struct block *block, bool tail);
WALRUS_CHECK int append_enter_locked(struct block *block);
WALRUS_CHECK int append_leave_locked(struct walrus_topic *topic);
WALRUS_CHECK int append_trim(struct walrus_topic *topic, struct block *block);
WALRUS_CHECK int append_done(struct walrus_topic *topic, uint64_t end_seq, bool durable);
uint32_t append_undurable(const struct walrus_topic *topic, uint64_t seq);

/* stage.c: what is too large for one block */
WALRUS_CHECK int stage_append(struct walrus_topic *topic, const struct iovec *entries, size_t count,
                              const uint64_t *time_ns, uint64_t now_ns, uint64_t *ret_seq);

/* syncer.c */
WALRUS_CHECK int syncer_start(struct walrus *store);
void syncer_stop(struct walrus *store);
enum sync_when {
    SYNC_SCHEDULED, /* as the options say, if they do */
    SYNC_FULL,      /* there are full blocks to seal: before long in any mode */
    SYNC_NOW,       /* something waits for it */
};
/* Puts the topic on the list to be synced. */
void syncer_mark(struct walrus_topic *topic, enum sync_when when);
/* Everything below seq is durable on return; with `settle` the entries of all blocks are too, and
 * the table was told how far they go. */
WALRUS_CHECK int topic_sync_to(struct walrus_topic *topic, uint64_t seq, bool settle);
void sync_file_failed(struct walrus *store, struct file *file, int error);

/* reclaim.c */
WALRUS_CHECK int keeper_start(struct walrus *store);
void keeper_stop(struct walrus *store);
void keeper_mark(struct walrus_topic *topic);
void keeper_mark_space(struct walrus *store);
void keeper_watch_ages(struct walrus *store);

/* walk.c: from entry to entry */
void pos_set(struct pos *pos, struct block *block, uint32_t off, uint64_t seq, uint64_t bytes);
void pos_copy(struct pos *to, const struct pos *from);
void pos_clear(struct pos *pos);
struct walk_entry {
    uint64_t seq, end_seq; /* end_seq is seq + 1 unless numbers were lost */
    uint64_t time_ns;
    uint64_t size;                  /* payload bytes; 0 of lost ones */
    uint32_t record_size, data_crc; /* of its first record */
    bool damaged;                   /* the header is: numbers seq to end_seq are lost */
};
/* The header of the record at `off`, of records up to `end`.  -EBADMSG -EIO */
WALRUS_CHECK int walk_header(const struct block *block, uint32_t off, uint32_t end,
                             struct record_info *ret_info);
/* The entry at *pos; moves it to a later block first where its own has ended.  WALRUS_EMPTY: the
 * tail.  -EIO */
WALRUS_CHECK int walk_peek(struct walrus_topic *topic, struct pos *pos, struct walk_entry *ret);
/* Moves behind the entry that walk_peek described. */
WALRUS_CHECK int walk_next(struct walrus_topic *topic, struct pos *pos,
                           const struct walk_entry *entry);
/* Sets *pos to the retained entry `seq`, the next retained one, or the tail. */
WALRUS_CHECK int walk_seek(struct walrus_topic *topic, uint64_t seq, struct pos *pos);

/* group.c */
WALRUS_CHECK int group_new(struct walrus_topic *topic, uint64_t id, uint32_t slot, const char *name,
                           size_t name_size, struct walrus_group **ret_group);
void group_free(struct walrus_group *group);
void group_insert_locked(struct walrus_topic *topic, struct walrus_group *group);
WALRUS_CHECK int group_restore(struct walrus_group *group, const struct offset_value *value);
WALRUS_CHECK int group_store(struct walrus_group *group); /* all that is consumed now, durably */
WALRUS_CHECK int group_consume(struct walrus_group *group, uint64_t seek_count, uint64_t first,
                               uint64_t end, bool strict, uint64_t *ret_counted);
void group_fire(struct walrus_group *group);
void topic_fire(struct walrus_topic *topic); /* all groups with an armed watch */
void group_remove_detach(struct walrus_group *group);
void group_remove_finish(struct walrus_group *group);
/* Reclaim may have something to do once the group has consumed everything below `low`. */
bool group_frees_blocks(const struct walrus_group *group, uint64_t low);
/* It may have, once the group's offset was stored as it is; and nothing before that. */
bool group_holds_blocks_locked(const struct walrus_group *group);
struct registry_change group_change(const struct walrus_group *group);
/* claim.c */
void group_give_back(struct walrus_group *group, uint64_t seek_count, struct run *run);
/* Moves the group's own position off a block that has ended. */
void group_settle_cur(struct walrus_group *group);
WALRUS_CHECK int group_wait_stored(struct walrus_group *group, uint64_t change);
void run_free(struct run *run);

/* walrus.c: the directory that a path and a key stand for, as walrus_open has them. */
WALRUS_CHECK int store_directory(const char *dir, const char *key, bool make, int *ret_fd);

/* refuse.c: 0, or why the store is refused, with nothing changed.  -ELOOP -EBADMSG
 * -EPROTONOSUPPORT ... */
WALRUS_CHECK int refuse_check(struct walrus *store);

/* recover.c */
WALRUS_CHECK int recover(struct walrus *store);
/* Names in the directory that a store could not begin beside: their count, or -errno.  *ret_rust:
 * they look like those of the Rust engine. */
WALRUS_CHECK int recover_strangers(struct walrus *store, bool *ret_rust);
/* Whether `name` is that of a log file; *ret_tmp: of one that is being made. */
bool recover_log_number(const char *name, uint32_t *ret_number, bool *ret_tmp);

#endif
