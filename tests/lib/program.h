/* SPDX-License-Identifier: MIT */
/*
 * program.h - the calls that random programs over walrus.h are made of: each changes the store and
 * the model alike, and compares what both say.  See stress/model.c, which strings them together.
 *
 * There is one program at a time, in one thread: what it has is in variables.
 */
#ifndef WALRUS_TESTS_PROGRAM_H
#define WALRUS_TESTS_PROGRAM_H

#include "oracle.h"

extern struct rig program_rig;
extern struct oracle program_now;                     /* what the store must hold */
extern uint64_t program_random;                       /* state of the dice */
extern uint32_t program_append_max, program_blob_max; /* bytes in an entry */

/* A fresh directory, a model without topics; opens nothing. */
void program_init(uint64_t seed);

uint64_t program_dice(uint64_t limit);
bool program_chance(unsigned percent);
/* The last lines are printed by program_print_notes; with program_verbose all are, at once. */
extern bool program_verbose;
__attribute__((format(printf, 1, 2))) void program_note(const char *format, ...);
void program_print_notes(void);

/* Consistency, schedule and the like of the store that is to be opened, by dice. */
void program_choose_options(void);
void program_open(void);
void program_close(void); /* gives back all claims and blobs before */
void program_reopen(void);

/*
 * With program_fallible calls may fail with an errno value.  The first that does is kept in
 * program_failure, and leaves the model as it was; the program should end there.  program_unsure:
 * what the call was to do may have been done in part.
 */
extern bool program_fallible, program_unsure;
extern int program_failure;

/* The calls one by one.  A topic or group that is to be made is not live yet. */
enum { PROGRAM_BATCH_MAX = 40 };
void program_append(struct oracle_topic *topic, const uint32_t *sizes, size_t count, bool durable);
/* From the group "default", which is live. */
void program_take(struct oracle_topic *topic, size_t max_count, size_t max_bytes, bool peek);
void program_seek(struct oracle_topic *topic, struct oracle_group *group, enum walrus_whence whence,
                  uint64_t target);
void program_sync(struct oracle_topic *topic, struct oracle_group *group); /* NULL: all */
void program_topic_make(struct oracle_topic *topic);
void program_topic_rename(struct oracle_topic *topic);
void program_topic_remove(struct oracle_topic *topic);
void program_group_make(struct oracle_topic *topic, struct oracle_group *group);
void program_group_rename(struct oracle_topic *topic, struct oracle_group *group);
void program_group_remove(struct oracle_topic *topic, struct oracle_group *group);

/* A random call, from those that do not open or close the store. */
void program_call(void);
void program_check_groups(void);
/* Gives back all claims and blobs, as has to be before the store is closed. */
void program_give_back(void);
/* Moves all groups to the end: then next to no disk space may be in use. */
void program_drain(void);

#endif
