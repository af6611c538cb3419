/* SPDX-License-Identifier: MIT */
/*
 * names.h - the files of the tree by kind, and the small texts that people write to control files.
 *
 * Serves every file of fs/.  Pure functions on constant tables: no locks, no state.
 */
#ifndef WALRUSFS_NAMES_H
#define WALRUSFS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "compiler.h"
#include "walrus.h"

#define GROUP_DEFAULT "default"

/* What a file of the tree is. */
enum kind {
    /* directories */
    KIND_ROOT,
    KIND_META, /* .walrusfs */
    KIND_TOPIC,
    KIND_GROUPS,
    KIND_ENTRIES,
    KIND_GROUP,
    /* producers of a topic */
    KIND_APPEND,
    KIND_LINES,
    KIND_BLOB,
    /* consumers, of a topic's default group and of each group; the topic's batch is written, too */
    KIND_BATCH,
    KIND_NEXT,
    KIND_WAIT,
    KIND_DRAIN,
    KIND_FOLLOW,
    KIND_PEEK,
    /* control */
    KIND_OFFSET,
    KIND_STATUS,
    KIND_RETENTION,
    KIND_LIMIT,
    KIND_ENTRY, /* entries/N */
    KIND_VERSION,
    KIND_CONFIG,
    KIND_METRICS,
    KIND_ERRORS,
    KIND_COUNT
};

enum kind_flag {
    KIND_IS_DIR = 1 << 0,
    KIND_IN_TOPIC = 1 << 1, /* appears in a topic's directory */
    KIND_IN_GROUP = 1 << 2, /* appears in a group's directory */
    KIND_IN_META = 1 << 3,
    KIND_PRODUCES = 1 << 4,
    KIND_CONSUMES = 1 << 5,
    KIND_IS_TEXT = 1 << 6,
    KIND_HAS_GROUP = 1 << 7, /* belongs to a group, the default one in a topic's directory */
    KIND_OWN_NODE = 1 << 8,  /* a look-up that finds the node open gives another one */
    KIND_EXCLUSIVE = 1 << 9, /* one open handle a node: ESTALE, see node.h */
    KIND_MAY_PARK = 1 << 10, /* waits for entries */
    KIND_STREAM = 1 << 11,   /* not seekable */
};

struct kind_info {
    const char *name; /* NULL: its name is not fixed */
    unsigned flags;   /* enum kind_flag */
};

const struct kind_info *kind_info(enum kind kind);

static inline bool kind_is(enum kind kind, unsigned flags)
{
    return (kind_info(kind)->flags & flags) != 0;
}

/* The fixed file `name` of a directory of kind `dir`; false if there is none. */
bool names_find_fixed(enum kind dir, const char *name, enum kind *ret_kind);

/* The `index`-th fixed file of a directory; false behind the last. */
bool names_list_fixed(enum kind dir, unsigned index, enum kind *ret_kind);

/* A decimal number with no sign, no leading zeros and nothing around it. */
bool names_parse_number(const char *text, size_t size, uint64_t *ret_value);

/* What is written to `offset`: begin, end, N, +N, -N; a newline may follow.  -EINVAL
 * -ERANGE: a number that is none of an entry, as it is too large. */
WALRUS_CHECK int names_parse_seek(const char *text, size_t size, enum walrus_whence *ret_whence,
                                  uint64_t *ret_value);

/* What is written to `retention`: consumed, all, a size, an age.  -EINVAL */
WALRUS_CHECK int names_parse_retention(const char *text, size_t size,
                                       struct walrus_retention *ret_retention);

/* A size as 4096, 64K, 10M, 1G, 2T.  -EINVAL */
WALRUS_CHECK int names_parse_size(const char *text, size_t size, uint64_t *ret_value);

/* What is written to `limit`: none, or a size over 0.  -EINVAL */
WALRUS_CHECK int names_parse_limit(const char *text, size_t size, uint64_t *ret_limit);

/* Writes `retention` as names_parse_retention reads it. */
void names_format_retention(const struct walrus_retention *retention, char *ret_text, size_t room);

/* Copies a name into texts: what is not printable UTF-8 stands as \xNN.  `quote`: for a quoted
 * label of the metrics, where \ and " are escaped by a \ (so that \\xNN reads as \xNN there).  With
 * `room` of NAMES_ESCAPED_SIZE nothing is cut. */
#define NAMES_ESCAPED_SIZE (5 * WALRUS_NAME_SIZE_MAX + 6)
void names_escape(const char *name, bool quote, char *ret_text, size_t room);

#endif
