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

/* A random call, from those that do not open or close the store. */
void program_call(void);
void program_check_groups(void);
/* Gives back all claims and blobs, as has to be before the store is closed. */
void program_give_back(void);
/* Moves all groups to the end: then next to no disk space may be in use. */
void program_drain(void);

#endif
