/* SPDX-License-Identifier: MIT */
/*
 * survey.h - what the topics and groups of a store count, wherever the store is: read from
 * .walrusfs/metrics of a mount, or from a store that nobody has mounted.
 *
 * Serves status and top.  Taking one changes nothing: a mount is asked, and a store is opened
 * read-only.
 */
#ifndef WALRUSCTL_SURVEY_H
#define WALRUSCTL_SURVEY_H

#include "ctl.h"

struct survey_group {
    char *name; /* as the metrics show it: printable */
    uint64_t offset, pending, claimed, waiting;
    double last_take; /* seconds since the epoch; 0: none since the mount */
};

struct survey_topic {
    char *name; /* the same */
    uint64_t entries, bytes, first, tail, durable, damaged, disk_bytes, limit, degraded;
    double last_append;
    struct survey_group *groups; /* by name */
    size_t group_count;
};

struct survey_index; /* survey.c: topics by name, while they are gathered */

struct survey {
    struct survey_index *index;
    char *mountpoint;            /* NULL: the store is not mounted */
    struct survey_topic *topics; /* by name */
    size_t topic_count;
    uint64_t files, blocks, free_blocks, syncs, reclaimed_bytes;
    double sync_seconds;
    uint64_t taken_ns; /* monotonic_ns() */
};

/* The mountpoint that `path` means: itself, or where the store `path`, of the namespace `key` (NULL:
 * none), is mounted; from malloc.  WALRUS_EMPTY: neither.  -ENOMEM -ENOENT ... */
WALRUS_CHECK int survey_find_mount(const char *path, const char *key, char **ret_mountpoint);

/* Says that `path` cannot be `what` ("read"), why, and the way out where there is one. */
enum ctl_result survey_fail(struct ctl *ctl, int error, const char *path, const char *what);

/* The topic of that name, NULL: there is none. */
const struct survey_topic *survey_find(const struct survey *survey, const char *name);
/* `path` is a mountpoint or a store.  -EBUSY: in use by somebody who has it mounted elsewhere. */
WALRUS_CHECK int survey_take(struct ctl *ctl, const char *path, struct survey *ret_survey);
void survey_fini(struct survey *survey);

/* What is done in seconds between two numbers, seconds apart; 0 where it went back. */
double survey_rate(uint64_t before, uint64_t now, double seconds);

/* 1234567 as "1.2M" (`step` 1000) or in powers of 1024, at most 5 characters. */
#define SURVEY_SIZE_TEXT 8
void survey_format(double value, unsigned step, char *ret_text);

#endif
