/* SPDX-License-Identifier: MIT */
/* program_parts.h - what program.c and program_data.c have from one another. */
#ifndef WALRUS_TESTS_PROGRAM_PARTS_H
#define WALRUS_TESTS_PROGRAM_PARTS_H

#include "program.h"

extern uint32_t program_tag_next; /* of the next entry's payload */

struct oracle_topic *program_pick_topic(void); /* NULL: there is none */
struct oracle_group *program_pick_group(struct oracle_topic *topic);
struct walrus_topic *program_topic_ref(const struct oracle_topic *topic);
struct walrus_group *program_group_ref(const struct oracle_topic *topic,
                                       const struct oracle_group *group);
struct oracle_group *program_default_group(struct oracle_topic *topic);

/* The call went as expected; else, when calls may fail, the program has failed. */
bool program_result(int rc, int expected);

void program_group_moved(const struct oracle_group *group);
void program_group_gone(struct oracle_group *group);        /* was removed */
void program_blobs_abort(const struct oracle_topic *topic); /* NULL: all */
void program_holds_close(void);

void program_op_append(void);
void program_op_blob(void);
void program_op_claim(void);
void program_op_read(void);
void program_op_delivered(void);
void program_op_close_hold(void);
void program_op_take(void);
void program_op_entry(void);

#endif
