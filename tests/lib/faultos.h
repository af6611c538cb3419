/* SPDX-License-Identifier: MIT */
/*
 * faultos.h - a struct os_ops that counts the engine's calls and makes chosen ones fail.
 *
 *     faultos_install();
 *     faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = 2, .error = EIO});
 *     ... open a store, use it, close it ...
 *     cr_assert(eq(faultos_failed_count(), 1));
 *     faultos_remove();
 *
 * To walk through every error path: arm {FAULTOS_ANY, nth, error} with nth = 1, 2, ... until a run
 * ends with faultos_failed_count() == 0.
 *
 * A call that fails is not made, except that close closes.  Stores through a mapping and their
 * SIGBUS do not come by here.  Install and remove while no store is open; all else from any thread.
 */
#ifndef WALRUS_TESTS_FAULTOS_H
#define WALRUS_TESTS_FAULTOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum faultos_kind {
    FAULTOS_OPEN,
    FAULTOS_CLOSE,
    FAULTOS_STAT,
    FAULTOS_TRUNCATE,
    FAULTOS_ALLOCATE, /* fallocate without a mode */
    FAULTOS_PUNCH,    /* fallocate with one */
    FAULTOS_READ,
    FAULTOS_WRITE,
    FAULTOS_WRITE_DURABLE, /* with RWF_DSYNC */
    FAULTOS_MAP,
    FAULTOS_UNMAP,
    FAULTOS_MSYNC,
    FAULTOS_FSYNC,
    FAULTOS_FDATASYNC,
    FAULTOS_RENAME,
    FAULTOS_UNLINK,
    FAULTOS_MKDIR,
    FAULTOS_SEEK,
    FAULTOS_KIND_COUNT,
    FAULTOS_ANY = FAULTOS_KIND_COUNT, /* in rules and counts: every kind */
    FAULTOS_ANY_SYNC,                 /* the four kinds that make something durable */
};

struct faultos_rule {
    enum faultos_kind kind;
    unsigned nth;     /* the n-th matching call from now on; from 1 */
    int error;        /* the errno it fails with, positive */
    bool forever;     /* and so does every matching call after it */
    const char *file; /* fnmatch(3) pattern for the last component of the name; NULL: any file.
                       * The string must live as long as the rule. */
};

/* Puts the table in place, with counts of zero, no rules and no hook. */
void faultos_install(void);
void faultos_remove(void);

/* Adds a rule; the first that matches and is due decides.  At most 8 at a time. */
void faultos_arm(const struct faultos_rule *rule);
void faultos_disarm(void); /* drops all rules; the counts stay */

/* Reads and writes transfer at most this many bytes a call; 0: no limit. */
void faultos_limit_transfer(size_t size);

/* Calls `hook` before each sync (FAULTOS_ANY_SYNC), without locks, in the thread that syncs: to
 * delay it, or to look at the disk at that moment.  `file` is the last component of its name. */
void faultos_on_sync(void (*hook)(void *arg, const char *file), void *arg);

uint64_t faultos_count(enum faultos_kind kind); /* calls made, failed ones included */
uint64_t faultos_failed_count(void);            /* calls that a rule made fail */

/* Bytes that reads returned, of the files whose present name matches the pattern: of all together,
 * and of the one with the most.  What is loaded through a mapping is not counted. */
uint64_t faultos_read_bytes(const char *pattern);
uint64_t faultos_read_bytes_max(const char *pattern);

void faultos_forget_counts(void); /* all counts back to zero */

#endif
