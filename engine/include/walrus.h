/* SPDX-License-Identifier: MIT */
/*
 * walrus.h - the whole public interface of libwalrus: a write-ahead log with topics, groups of
 * consumers, and read offsets that survive a crash.
 *
 * Words.  A *store* is a directory.  A *topic* is an ordered log of *entries*; an entry is a byte
 * string with a *sequence number* (from 0, per topic, never reused) and a time.  A *group* is a set
 * of consumers that share one read offset; every topic is made with the group "default".  An entry
 * that a consumer holds is *claimed*; once it counts as taken it is *consumed*.  An entry is
 * *durable* when it survives the loss of power; an appended one always survives the death of the
 * process.
 *
 * Results.  Functions return 0, a positive outcome (WALRUS_EMPTY) or a negative errno value.  Any
 * function may return -ENOMEM; the other values are listed with each.  What goes through ret_
 * parameters is left alone unless 0 is returned.  The values that stand for the state of the disk:
 *   -EBADMSG          bytes on disk failed their checksum
 *   -EPROTONOSUPPORT  the store is of a newer format
 *   -EIO              the disk failed, now or earlier: a failed sync is final (see walrus_sync)
 *   -EROFS            the store is open read-only
 *   -ENODEV           the topic or group was removed while it was in use
 *
 * Threads.  Every function may be called from any thread at any time, except that one reader or
 * one blob is used by one thread at a time.  No function calls back into the caller but through the
 * two callbacks in struct walrus_options and walrus_group_watch; they run with no lock of the
 * library held.  Functions that wait for the disk say "blocks".
 *
 * Caveats.  A store must not be opened twice in one process or by two (a lock sees to it).  Do not
 * fork with a store open: its threads do not exist in the child.  The library installs a handler
 * for SIGBUS (a disk that fails under a mapping becomes -EIO) that passes on what is not its own.
 *
 * The on-disk format is in docs/disk-format.md.
 */
#ifndef WALRUS_H
#define WALRUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WALRUS_API   __attribute__((visibility("default")))
#define WALRUS_CHECK __attribute__((warn_unused_result))

#define WALRUS_VERSION         "0.1.0"
#define WALRUS_ENTRY_SIZE_MAX  ((size_t)1 << 30) /* bytes in an entry; from 0 on */
#define WALRUS_NAME_SIZE_MAX   255               /* bytes in a name of a topic or group */
#define WALRUS_BATCH_COUNT_MAX (1u << 20) /* entries in one batch: bounds what one call locks */
#define WALRUS_ATTR_SIZE       64         /* bytes kept for the caller per store, topic, group */
#define WALRUS_EMPTY           1          /* outcome: there is nothing to take */
#define WALRUS_DUE             2          /* outcome: an offset should be stored now */

struct walrus;        /* an open store */
struct walrus_topic;  /* a topic, counted by reference */
struct walrus_group;  /* a group, counted by reference */
struct walrus_reader; /* entries that somebody holds or looks at */
struct walrus_blob;   /* an entry that is being written piece by piece */

/* When an entry counts as consumed. */
enum walrus_consistency {
    WALRUS_STRICT = 0, /* durably before its first byte is handed out: never delivered twice */
    WALRUS_AT_LEAST_ONCE = 1, /* after its last byte was delivered: never skipped */
};

/* When appended entries become durable by themselves. */
enum walrus_fsync {
    WALRUS_FSYNC_MS = 0,    /* within fsync_ms of the append, plus the time that one sync takes */
    WALRUS_FSYNC_EACH = 1,  /* before the append returns */
    WALRUS_FSYNC_NEVER = 2, /* at the next explicit sync, or when the store is closed */
};

enum walrus_level { WALRUS_ERROR, WALRUS_WARNING, WALRUS_INFO, WALRUS_DEBUG };

/* One event worth telling a person: reported once, where it arises. */
struct walrus_report {
    enum walrus_level level;
    int error;         /* a positive errno, or 0 */
    const char *topic; /* its name (any bytes, NUL-terminated), or NULL */
    const char *text;  /* names the file, the offset and the reason; valid during the call only */
};

/* How to open a store.  All zero: strict, a sync each 1000 ms, made if it is not there. */
struct walrus_options {
    enum walrus_consistency consistency;
    uint32_t persist_every; /* at-least-once: entries between two stores of the offset; 0 is 1 */
    enum walrus_fsync fsync;
    uint32_t fsync_ms;   /* 1 to 3600000; 0 is 1000; 100 to 5000 are sensible */
    const char *key;     /* namespace: a store of its own in a sub-directory; NULL: none */
    uint32_t block_size; /* of a new store: a multiple of 4096, 64 KiB to 64 MiB; 0 is 10 MiB */
    uint32_t blocks_per_file; /* of a new store: 1 to 224; 0 is 100 */
    bool read_only;           /* take no lock for writing, change nothing */
    bool must_exist;          /* -ENOENT instead of a new store */
    bool force;               /* open on a filesystem that is known to be unsafe */
    /* Called for each event, from any thread.  NULL: events are dropped. */
    void (*report)(void *report_arg, const struct walrus_report *report);
    void *report_arg;
    /* Called while a long recovery runs: `done` of `total` log files.  NULL: not called. */
    void (*progress)(void *report_arg, uint64_t done, uint64_t total);
};

/* What is kept of a topic after every group consumed it. */
enum walrus_retention_kind {
    WALRUS_KEEP_CONSUMED = 0, /* nothing: consumed blocks go */
    WALRUS_KEEP_ALL = 1,
    WALRUS_KEEP_SIZE = 2, /* the newest `value` bytes of disk */
    WALRUS_KEEP_AGE = 3,  /* what was appended in the last `value` seconds */
};

struct walrus_retention {
    enum walrus_retention_kind kind;
    uint64_t value;
};

struct walrus_entry {
    uint64_t seq;
    uint64_t time_ns; /* since the epoch, by the clock of the machine: informative only */
    size_t size;      /* bytes */
    void *data;       /* from malloc; the caller frees it.  NULL where a function says so */
};

/* Of the times that syncs took: bucket i counts those that took no longer than
 * WALRUS_SYNC_BUCKET_NS << i and longer than the bucket before; the last one counts all others. */
#define WALRUS_SYNC_BUCKET_COUNT 16
#define WALRUS_SYNC_BUCKET_NS    100000ull

struct walrus_stat {
    uint64_t topic_count;
    uint64_t file_count;  /* log files */
    uint64_t block_count; /* blocks in those */
    uint64_t free_block_count;
    uint64_t damaged_count; /* damaged entries met since the store was opened */
    uint64_t sync_count;    /* syncs of data since the store was opened */
    uint64_t sync_ns;       /* time spent in them */
    uint64_t sync_buckets[WALRUS_SYNC_BUCKET_COUNT];
    uint64_t reclaimed_bytes; /* given back since the store was opened */
    uint32_t block_size;
    uint32_t blocks_per_file;
    bool degraded; /* a sync failed: something refuses appends */
    bool read_only;
};

struct walrus_topic_stat {
    uint64_t id;            /* never used again for another topic */
    uint64_t first_seq;     /* the oldest retained entry */
    uint64_t tail_seq;      /* the next sequence number to be given = entries ever stored */
    uint64_t bytes;         /* payload bytes ever stored */
    uint64_t durable_seq;   /* all entries below are known to be durable */
    uint64_t last_time_ns;  /* time of the last append, 0: none */
    uint64_t disk_bytes;    /* disk space that its blocks hold */
    uint64_t damaged_count; /* damaged entries met since the store was opened */
    uint64_t limit;         /* most disk space, 0: no limit */
    struct walrus_retention retention;
    bool degraded; /* a sync failed: appends are refused with -EIO */
};

struct walrus_group_stat {
    uint64_t id;            /* unique in its topic, never used again */
    uint64_t offset;        /* the lowest sequence number that is not consumed */
    uint64_t pending_count; /* neither consumed nor claimed */
    uint64_t pending_bytes;
    uint64_t claimed_count;
    uint64_t head_size;    /* bytes of the entry that the next claim would get; 0: none */
    uint64_t last_take_ns; /* time of the last take since the store was opened, 0: none */
    bool head;             /* there is such an entry */
};

/* ------------------------------------------------------------------------------------ store -- */

/*
 * Opens the store in directory `dir`, made with its parents' last part if missing, and recovers it.
 * NULL: the directory that WALRUS_DATA_DIR names, or "wal_files".  A NULL options->key takes
 * WALRUS_INSTANCE_KEY.  A key may hold letters, digits, '-', '_' and '.'; other bytes become '_'.
 * With WALRUS_QUIET set in the environment, WALRUS_INFO and WALRUS_DEBUG are not reported.
 * Blocks, in proportion to log files and to what was not synced before.
 *   -EBUSY            in use: the report names the process
 *   -EPROTONOSUPPORT  written by a newer version; nothing was changed
 *   -EBADMSG          both copies of the store's header are damaged
 *   -ENOTDIR -ELOOP   not a directory; a symbolic link, or a file in it with a second name
 *   -ENOTEMPTY        the directory holds something else than a store (the Rust engine's, say)
 *   -EMEDIUMTYPE      a network or FUSE filesystem, refused without options->force
 *   -EINVAL           an option out of range
 *   -ENOENT -EACCES -EROFS -ENOSPC -EMFILE -EIO as the system has them
 */
WALRUS_API WALRUS_CHECK int walrus_open(const char *dir, const struct walrus_options *options,
                                        struct walrus **ret_store);

/*
 * Makes everything durable, stores every offset and closes.  All references, readers and blobs must
 * have been given back before.  NULL is allowed.  Blocks.  The store is closed whatever is returned:
 *   -EIO  something could not be made durable; it was reported
 */
WALRUS_API int walrus_close(struct walrus *store);

/* Makes all that was acknowledged in all topics durable, and stores all offsets.  One topic that
 * fails keeps no other from being synced.  Blocks.
 * A read-only store has nothing to sync: 0.
 *   -EIO  something could not be made durable, as walrus_topic_sync; it was reported */
WALRUS_API WALRUS_CHECK int walrus_sync(struct walrus *store);

/* Counters of the store as they are; those that change meanwhile may not be of one moment.  Does
 * not block for the disk. */
WALRUS_API void walrus_stat(struct walrus *store, struct walrus_stat *ret_stat);

/* WALRUS_ATTR_SIZE bytes that the library keeps for the caller; zero at first.  Setting blocks, and
 * is durable on return.  -EROFS -ENOSPC -EIO */
WALRUS_API void walrus_attr(struct walrus *store, void *ret_attr);
WALRUS_API WALRUS_CHECK int walrus_set_attr(struct walrus *store, const void *attr);

/* A descriptor of the store's directory, owned by the store: for fstatvfs and messages. */
WALRUS_API int walrus_dirfd(struct walrus *store);

/* ------------------------------------------------------------------------------ by topic name -- */
/* `topic` is NUL-terminated, 1 to 255 bytes, without '/' and not starting with '.'. */

/*
 * Appends one entry of `size` bytes (0 to WALRUS_ENTRY_SIZE_MAX); makes the topic if needed.
 * Survives the death of the process on return, and the loss of power as options->fsync says.
 * Blocks only under WALRUS_FSYNC_EACH or to make a topic or a log file.
 *   -EMSGSIZE      too large
 *   -ENAMETOOLONG -EINVAL  not a name
 *   -ENOSPC -EDQUOT  no room on the disk, or within the topic's limit; nothing changed, try again
 *   -EIO           a sync of this topic failed earlier, or the disk fails now
 *   -EROFS
 */
WALRUS_API WALRUS_CHECK int walrus_append(struct walrus *store, const char *topic, const void *data,
                                          size_t size);

/* Appends `count` entries in their order, all or none, a crash included; 0 of them do nothing but
 * make the topic.  -EMSGSIZE also when count is over WALRUS_BATCH_COUNT_MAX; else as walrus_append.
 */
WALRUS_API WALRUS_CHECK int walrus_batch_append(struct walrus *store, const char *topic,
                                                const struct iovec *entries, size_t count);

/*
 * Takes the next entry of the group "default".  Blocks for the offset in strict mode.
 * ret_entry->data is the caller's to free, never NULL.
 *   WALRUS_EMPTY  nothing to take, or no such topic
 *   -EBADMSG      the entry is damaged: it was counted and reported, and is consumed by this call
 *   -EBUSY        consumed entries lie too scattered above an unconsumed one: finish that first
 *   -EIO -EROFS   the offset cannot be stored: nothing was taken
 */
WALRUS_API WALRUS_CHECK int walrus_read_next(struct walrus *store, const char *topic,
                                             struct walrus_entry *ret_entry);

/*
 * Copies the entry that walrus_read_next would take, and takes nothing.  ret_entry->data is the
 * caller's to free, never NULL.
 *   WALRUS_EMPTY  nothing to take, or no such topic
 *   -EBADMSG      the entry is damaged; it stays where it is until it is taken
 *   -EIO          the disk fails
 */
WALRUS_API WALRUS_CHECK int walrus_peek(struct walrus *store, const char *topic,
                                        struct walrus_entry *ret_entry);

/*
 * Takes up to `max_count` entries of together at most `max_bytes` payload bytes, but at least one;
 * one sync for all in strict mode.  *ret_entries is an array of *ret_count from malloc;
 * walrus_entries_free frees it, the data too.  A damaged entry ends the batch before it, or is the
 * result: as walrus_read_next.
 *   -EINVAL  max_count is 0; else as walrus_read_next
 */
WALRUS_API WALRUS_CHECK int walrus_batch_read(struct walrus *store, const char *topic,
                                              size_t max_bytes, size_t max_count,
                                              struct walrus_entry **ret_entries, size_t *ret_count);
WALRUS_API void walrus_entries_free(struct walrus_entry *entries, size_t count);

/* Copies the retained entry `seq`; takes nothing.  ret_entry->data is the caller's to free.
 *   -ENOENT   no such topic, or the entry is not retained, or not yet stored
 *   -EBADMSG  it is damaged
 *   -EIO      the disk fails */
WALRUS_API WALRUS_CHECK int walrus_read_at(struct walrus *store, const char *topic, uint64_t seq,
                                           struct walrus_entry *ret_entry);

/* ----------------------------------------------------------------------------------- topics -- */

/* 0, or why `name` of `size` bytes cannot be a name: -ENAMETOOLONG, -EINVAL. */
WALRUS_API WALRUS_CHECK int walrus_name_check(const char *name, size_t size);

/* Makes a topic with the group "default"; attributes (WALRUS_ATTR_SIZE bytes each; NULL: zero) are
 * kept with them.  Durable on return; blocks.  The caller gets a reference.
 *   -EEXIST                there is one of that name
 *   -ENAMETOOLONG -EINVAL  not a name
 *   -ENOSPC                no room for its record; nothing changed
 *   -EIO -EROFS */
WALRUS_API WALRUS_CHECK int walrus_topic_create(struct walrus *store, const char *name,
                                                const void *topic_attr, const void *group_attr,
                                                struct walrus_topic **ret_topic);

/* Finds a topic; the caller gets a reference.  Does not block.  -ENOENT: there is none. */
WALRUS_API WALRUS_CHECK int walrus_topic_find(struct walrus *store, const char *name,
                                              struct walrus_topic **ret_topic);

/* The topic with the lowest id above `after_id` (0: the first), with a reference; for listing while
 * topics come and go.  WALRUS_EMPTY: no more. */
WALRUS_API WALRUS_CHECK int walrus_topic_after(struct walrus *store, uint64_t after_id,
                                               struct walrus_topic **ret_topic);

/* One reference more, and one less.  A topic that is held stays valid after its removal, but is of
 * no use then.  All references are given back before the store is closed. */
WALRUS_API struct walrus_topic *walrus_topic_ref(struct walrus_topic *topic);
WALRUS_API void walrus_topic_unref(struct walrus_topic *topic); /* NULL is allowed */

/* Copies the present name, NUL-terminated, into WALRUS_NAME_SIZE_MAX + 1 bytes. */
WALRUS_API void walrus_topic_name(struct walrus_topic *topic, char *ret_name);
/* Whether it was removed: by the time of the answer it may be. */
WALRUS_API bool walrus_topic_removed(struct walrus_topic *topic);
/* Counters as they are, of a removed topic too.  Does not block for the disk. */
WALRUS_API void walrus_topic_stat(struct walrus_topic *topic, struct walrus_topic_stat *ret_stat);

/* Gives the topic another name; references stay valid.  Atomic, and durable on return; blocks.
 * -EEXIST: there is one of that name, be it this one.  -ENODEV; else as walrus_topic_create. */
WALRUS_API WALRUS_CHECK int walrus_topic_rename(struct walrus_topic *topic, const char *name);

/* Removes a topic with its groups and frees its blocks.  -ENOTEMPTY: a group has entries that are
 * not consumed.  Durable on return; blocks.  Later calls with it give -ENODEV, and so do those of
 * its groups and readers.  -ENODEV -ENOSPC -EIO -EROFS */
WALRUS_API WALRUS_CHECK int walrus_topic_remove(struct walrus_topic *topic);

/* As walrus_attr and walrus_set_attr, and -ENODEV. */
WALRUS_API void walrus_topic_attr(struct walrus_topic *topic, void *ret_attr);
WALRUS_API WALRUS_CHECK int walrus_topic_set_attr(struct walrus_topic *topic, const void *attr);

/* What is kept of the topic when all groups have consumed it; and how many bytes of disk space it
 * may take (0: no limit), beyond which appends give -EDQUOT until some is consumed.  Both hold for
 * what is stored already, too.  Durable on return; block.
 * -EINVAL: no such kind of retention.  -ENODEV -ENOSPC -EIO -EROFS */
WALRUS_API WALRUS_CHECK int walrus_topic_set_retention(struct walrus_topic *topic,
                                                       const struct walrus_retention *retention);
WALRUS_API WALRUS_CHECK int walrus_topic_set_limit(struct walrus_topic *topic, uint64_t limit);

/* ---------------------------------------------------------------------------------- appending -- */

struct walrus_append_options {
    bool durable;            /* durable before the call returns, whatever the store's schedule */
    const uint64_t *time_ns; /* a time for each entry; NULL, or an element of 0: now */
};

/*
 * Appends `count` entries as one batch, all or none, in order, at consecutive sequence numbers; the
 * first goes to *ret_seq (NULL is allowed).  `options` may be NULL.
 * Never waits for a reader or for another topic.  Results as walrus_batch_append, and -ENODEV.
 * With durable, -EIO can also mean: appended, but not durable; walrus_topic_sync tells if it can
 * still become so.
 */
WALRUS_API WALRUS_CHECK int walrus_topic_append(struct walrus_topic *topic,
                                                const struct iovec *entries, size_t count,
                                                const struct walrus_append_options *options,
                                                uint64_t *ret_seq);

/* Makes all acknowledged entries of the topic durable.  Blocks; concurrent calls share a flush.
 * -EIO: failed now or earlier; final until the store is opened anew (what the disk holds is then
 * recovered).  -ENODEV */
WALRUS_API WALRUS_CHECK int walrus_topic_sync(struct walrus_topic *topic);

/* The store's own schedule asks for each append to be durable (options->fsync is each). */
WALRUS_API bool walrus_fsync_each(struct walrus *store);

/*
 * An entry written piece by piece into blocks of its own, up to WALRUS_ENTRY_SIZE_MAX bytes, with no
 * more memory than a small buffer.  It is no entry, and has no number, until it is committed.
 * The death of the process leaves nothing of it.
 *
 * walrus_blob_open: -ENODEV -EROFS.  The blob holds a reference to the topic.
 * walrus_blob_write: -EFBIG  the entry would be larger than one may be: nothing was added;
 * -ENOSPC -EDQUOT -EIO -ENODEV: the blob can only be aborted.  Blocks where its buffer is full.
 * walrus_blob_commit appends what was written as one entry (also when nothing was written), durable
 * as the store's schedule says, or with `durable` before it returns; its number goes to *ret_seq
 * (NULL is allowed).  It ends the blob whatever is returned; results as walrus_topic_append, and
 * -EIO after a write that failed.  walrus_blob_abort ends it and leaves no entry.
 */
WALRUS_API WALRUS_CHECK int walrus_blob_open(struct walrus_topic *topic,
                                             struct walrus_blob **ret_blob);
WALRUS_API WALRUS_CHECK int walrus_blob_write(struct walrus_blob *blob, const void *data,
                                              size_t size);
WALRUS_API size_t walrus_blob_size(const struct walrus_blob *blob);
WALRUS_API WALRUS_CHECK int walrus_blob_commit(struct walrus_blob *blob, bool durable,
                                               uint64_t *ret_seq);
WALRUS_API void walrus_blob_abort(struct walrus_blob *blob); /* NULL is allowed */

/* ------------------------------------------------------------------------------------- groups -- */

/* As the functions of topics, in effect, results, durability and references; -ENODEV also when it
 * is the topic that was removed.  A new group starts at the oldest retained entry.  A removed one
 * loses its offset, and what only it had yet to consume may go.
 * walrus_group_remove: -EBUSY  it is the only group of its topic.
 * walrus_group_topic: borrowed, valid for as long as the group is held. */
WALRUS_API WALRUS_CHECK int walrus_group_create(struct walrus_topic *topic, const char *name,
                                                const void *attr, struct walrus_group **ret_group);
WALRUS_API WALRUS_CHECK int walrus_group_find(struct walrus_topic *topic, const char *name,
                                              struct walrus_group **ret_group);
WALRUS_API WALRUS_CHECK int walrus_group_after(struct walrus_topic *topic, uint64_t after_id,
                                               struct walrus_group **ret_group);
WALRUS_API struct walrus_group *walrus_group_ref(struct walrus_group *group);
WALRUS_API void walrus_group_unref(struct walrus_group *group);
WALRUS_API void walrus_group_name(struct walrus_group *group, char *ret_name);
WALRUS_API struct walrus_topic *walrus_group_topic(struct walrus_group *group); /* borrowed */
WALRUS_API bool walrus_group_removed(struct walrus_group *group);
WALRUS_API void walrus_group_stat(struct walrus_group *group, struct walrus_group_stat *ret_stat);
WALRUS_API WALRUS_CHECK int walrus_group_rename(struct walrus_group *group, const char *name);
WALRUS_API WALRUS_CHECK int walrus_group_remove(struct walrus_group *group);
WALRUS_API void walrus_group_attr(struct walrus_group *group, void *ret_attr);
WALRUS_API WALRUS_CHECK int walrus_group_set_attr(struct walrus_group *group, const void *attr);

/* Where a seek goes. */
enum walrus_whence {
    WALRUS_SEEK_TO,    /* to entry `value` */
    WALRUS_SEEK_BEGIN, /* to the oldest retained entry */
    WALRUS_SEEK_END,   /* behind the last entry */
    WALRUS_SEEK_BY,    /* `value` entries forward, or back where it is negative (as int64_t) */
};

/*
 * Moves the group's offset; entries in hand stay with their holders, what they consume after a move
 * no longer counts, and a move back may deliver them again.  Durable on return; blocks.
 *   -ERANGE  outside of what is retained; nothing was moved
 *   -EINVAL  no such whence
 *   -EIO     it could not be stored: nothing was moved, though where storing itself failed (then the
 *            group takes nothing any more) the next opening may find it moved
 *   -ENODEV -EROFS
 */
WALRUS_API WALRUS_CHECK int walrus_group_seek(struct walrus_group *group, enum walrus_whence whence,
                                              uint64_t value);

/* Stores the group's offset durably (at-least-once; in strict mode it always is).  Blocks.
 * -EIO: it could not be stored.  -ENODEV.  A read-only store has nothing to store: 0. */
WALRUS_API WALRUS_CHECK int walrus_group_sync(struct walrus_group *group);

/*
 * Asks to be told, once, when a claim may succeed that finds nothing now: `ready` runs from any
 * thread with no lock of the library held, after an append, an entry that came back, a seek, a gap
 * that closed, or a removal.  WALRUS_EMPTY: armed.  0: there is something already (or the group
 * was removed); not armed.  A watch is armed once at a time per group: a second call replaces the
 * first.  `ready` NULL disarms; when that returns no call is running.
 */
WALRUS_API WALRUS_CHECK int walrus_group_watch(struct walrus_group *group, void (*ready)(void *arg),
                                               void *arg);

/* ------------------------------------------------------------------------------------ readers -- */

/*
 * Claims the next entries of a group: up to `max_count` entries and `max_bytes` payload bytes, but
 * at least one, and nothing appended after the call.  (SIZE_MAX, SIZE_MAX) claims all that is
 * pending.  No other claim gets them until the reader is closed, which gives back what was not
 * consumed, at its old place in the order.
 *   WALRUS_EMPTY  nothing to claim
 *   -EINVAL       max_count is 0
 *   -EBUSY        consumed entries lie in too many pieces above an unconsumed one
 *   -EROFS        the store is read-only (walrus_group_peek and walrus_entry_open work)
 *   -ENODEV -EIO
 */
WALRUS_API WALRUS_CHECK int walrus_group_claim(struct walrus_group *group, size_t max_count,
                                               size_t max_bytes, struct walrus_reader **ret_reader);

/* Opens the entry that a claim would get, without claiming it: others may claim it meanwhile.
 * Reading consumes nothing; walrus_reader_close ends it.
 * WALRUS_EMPTY: nothing to claim.  -ENODEV -EIO */
WALRUS_API WALRUS_CHECK int walrus_group_peek(struct walrus_group *group,
                                              struct walrus_reader **ret_reader);

/* Opens a retained entry, as walrus_group_peek does.
 * -ENOENT: not retained, or not yet stored.  -ENODEV -EIO */
WALRUS_API WALRUS_CHECK int walrus_entry_open(struct walrus_topic *topic, uint64_t seq,
                                              struct walrus_reader **ret_reader);

/* What the reader holds: payload bytes and entries in all.  A damaged entry counts with the size
 * that its header gives, or with 0. */
WALRUS_API uint64_t walrus_reader_size(const struct walrus_reader *reader);
WALRUS_API uint64_t walrus_reader_count(const struct walrus_reader *reader);
/* The sequence number and time of the first entry. */
WALRUS_API uint64_t walrus_reader_seq(const struct walrus_reader *reader);
WALRUS_API uint64_t walrus_reader_time(const struct walrus_reader *reader);

/*
 * Reads up to `size` bytes at byte `offset` of the entries laid end to end; checks the checksum of
 * every entry that it touches for the first time.  Returns the bytes copied: all that were asked
 * for, unless the end or a damaged entry comes first; 0 at the end.  Strict mode: consumes what it
 * touches, durably, before it copies; blocks.  At-least-once: consumes nothing, see
 * walrus_reader_delivered; blocks while walrus_reader_due, as no more is handed out than may come
 * again.
 *   -EBADMSG  the entry at `offset` is damaged (or the lost entries there): reported, counted, and
 *             consumed; *ret_next (NULL is allowed) is where the entry behind it begins
 *   -EBUSY    as walrus_group_claim: nothing was handed out, and a retry can work
 *   -EIO      the offset cannot be stored (at-least-once: and persist_every entries were consumed
 *             since it last was), or the disk fails
 *   -ENODEV
 */
WALRUS_API WALRUS_CHECK ssize_t walrus_reader_read(struct walrus_reader *reader, void *buffer,
                                                   size_t size, uint64_t offset,
                                                   uint64_t *ret_next);

/* At-least-once: whether persist_every entries or more are consumed and their offset is not stored,
 * so that reading on stores it first, or waits for who does.  Strict mode: false. */
WALRUS_API bool walrus_reader_due(const struct walrus_reader *reader);

/* At-least-once: the bytes up to `offset` have reached the consumer.  Every entry that ends there
 * or before is consumed, and so is a zero-length one at `offset`; the group's offset is stored each
 * persist_every entries (blocks then).  Strict mode: does nothing.  -EIO: it cannot be stored */
WALRUS_API WALRUS_CHECK int walrus_reader_delivered(struct walrus_reader *reader, uint64_t offset);

/* The same for a thread that must not wait for the disk.  WALRUS_DUE: everything was consumed, and
 * walrus_group_sync is to be called where waiting is allowed; until then a crash repeats it.
 * -EIO: it cannot be stored */
WALRUS_API WALRUS_CHECK int walrus_reader_note_delivered(struct walrus_reader *reader,
                                                         uint64_t offset);

/* Sizes, numbers and times of the entries in the reader one by one: describes entry `index` (from
 * 0, only the first or the one after the last asked for) in *ret_entry (data is NULL), and where
 * it begins in *ret_offset.  WALRUS_EMPTY: no such entry.  -EBADMSG: damaged; size as known. */
WALRUS_API WALRUS_CHECK int walrus_reader_entry(struct walrus_reader *reader, uint64_t index,
                                                struct walrus_entry *ret_entry,
                                                uint64_t *ret_offset);

/* Ends the reader.  A claim of just one entry without bytes is consumed by this.  What was not
 * consumed goes back.  NULL is allowed.  May block to store an offset; -EIO when that fails. */
WALRUS_API int walrus_reader_close(struct walrus_reader *reader);

/* The same, but what was not consumed goes back even if it is one entry without bytes: for who
 * could not hand it out.  Does not block for the disk. */
WALRUS_API void walrus_reader_abort(struct walrus_reader *reader);

/* ------------------------------------------------------------------------------------- verify -- */

/* What a damaged place costs whoever opens the store; rising. */
enum walrus_cost {
    WALRUS_COST_NOTHING, /* there is another copy, or nothing uses these bytes */
    WALRUS_COST_OFFSET,  /* a group may be given entries again */
    WALRUS_COST_NAME,    /* a name or settings; a topic or group may come back as recovered-ID */
    WALRUS_COST_ENTRIES, /* entries first_seq to end_seq - 1 of a topic */
    WALRUS_COST_BLOCK,   /* what a block or a log file holds */
    WALRUS_COST_STORE,   /* the store cannot be opened */
};

/* One damaged place.  Strings are valid during the call only. */
struct walrus_damage {
    enum walrus_cost cost;
    bool mended;        /* by walrus_repair: it costs nothing more from now on */
    const char *file;   /* its name in the store */
    const char *topic;  /* whose it is (any bytes), NULL: nobody's, or not known */
    int64_t block;      /* in the log file, -1: none */
    uint64_t off, size; /* bytes of the file; size 0: up to where is not known */
    uint64_t first_seq; /* WALRUS_COST_ENTRIES: the first entry that is lost */
    uint64_t end_seq;   /* and the first behind those that are */
    const char *text;   /* what is wrong, in words */
};

struct walrus_verify_options {
    const char *key; /* namespace, as in struct walrus_options */
    /* Called for each damaged place, in the calling thread.  NULL: they are only counted. */
    void (*damage)(void *arg, const struct walrus_damage *damage);
    /* Called now and then with bytes read and to be read.  NULL: not called. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

struct walrus_verify_result {
    uint64_t file_count; /* log files */
    uint64_t topic_count;
    uint64_t group_count;
    uint64_t block_count;  /* in use */
    uint64_t entry_count;  /* whole ones */
    uint64_t entry_bytes;  /* payload bytes in them */
    uint64_t lost_count;   /* entries that are lost */
    uint64_t damage_count; /* damaged places, the mended ones too */
    uint64_t mended_count;
    bool
        in_use; /* somebody has the store open for writing: what is not durable was not looked at */
    bool clean; /* it was closed cleanly */
};

/*
 * Reads everything in a store that the format gives a meaning: every copy of all metadata, every
 * record with its data.  Changes nothing.  A store that nobody has open is kept from being opened
 * for writing meanwhile.  One that is in use is read beside its user: what the user is changing is
 * looked at again, and of blocks that are being filled only what is durable is read; lost names and
 * missing blocks are not looked for.
 * 0: everything was looked at; ret_result->damage_count says what was found.  Blocks.
 *   -EPROTONOSUPPORT  written by a newer version
 *   -ENOENT -ENOTDIR -ELOOP -EACCES -EIO ... it cannot be read
 */
WALRUS_API WALRUS_CHECK int walrus_verify(const char *dir,
                                          const struct walrus_verify_options *options,
                                          struct walrus_verify_result *ret_result);

/*
 * Mends what can be mended without guessing, then verifies.  A bad copy is written again from the
 * good one; where there is none, and where there never was one, a single wrong bit is found by the
 * checksum; a block's lost table entry is made from its records, lost records of topics.db from
 * blocks and offsets (under the names recovered-ID): that file is made anew in one step.  Payloads
 * are left as they are, and no whole entry is dropped.  Every byte that is changed is kept first,
 * durably, in a new file .repair-N of the store (docs/disk-format.md, section 9).  A repair that
 * failed, or was killed, is finished by the next one.
 * ->damage is called with `mended` for what was mended, and without for what is left.
 * Results as walrus_verify, and -EBUSY: the store is in use; -EROFS -ENOSPC ...
 */
WALRUS_API WALRUS_CHECK int walrus_repair(const char *dir,
                                          const struct walrus_verify_options *options,
                                          struct walrus_verify_result *ret_result);

#ifdef __cplusplus
}
#endif

#endif
