/* SPDX-License-Identifier: MIT */
/*
 * oracle.h - what a store must hold: a plain model of topics, entries and groups, and the check of
 * a directory that a crash left against it.
 *
 * A crash falls into a call, or between two.  So a directory is checked against two models, the one
 * before the call and the one after it: what was durable before must be there, and nothing that
 * was not there after.  Entries carry bytes made from their tag, so they are known without having
 * been kept.  Nothing here has locks: it belongs to the thread that runs the program.
 */
#ifndef WALRUS_TESTS_ORACLE_H
#define WALRUS_TESTS_ORACLE_H

#include "powercut.h"
#include "rig.h"

#define ORACLE_SEED 0x0dd5eedu /* of the payloads, with "" for a topic and the tag for a number */

enum { ORACLE_TOPICS = 3, ORACLE_GROUPS = 3, ORACLE_ENTRIES = 1024 };

enum oracle_state {
    ORACLE_PENDING,
    ORACLE_HELD, /* some reader has it */
    ORACLE_CUT,  /* consumed by the call that a kill ended: nobody was told, maybe not stored */
    ORACLE_SOFT, /* consumed; at-least-once: maybe not stored yet */
    ORACLE_DONE, /* consumed, and that is durable */
    ORACLE_GONE, /* was given back before the group was made; a crash may undo the giving back */
};

struct oracle_group {
    bool live;
    char name[16];
    uint64_t id;
    uint64_t seeks; /* so many moves so far */
    uint8_t state[ORACLE_ENTRIES];
};

struct oracle_topic {
    bool live;
    char name[16];
    uint64_t id;
    uint64_t count;     /* entries acknowledged */
    uint64_t durable;   /* of these, known to be durable */
    uint64_t keep_from; /* retention keeps everything from here on; UINT64_MAX: it does not */
    struct walrus_retention retention;
    uint64_t limit;
    uint32_t size[ORACLE_ENTRIES], tag[ORACLE_ENTRIES];
    uint16_t unit_end[ORACLE_ENTRIES]; /* number behind the call that appended the entry */
    struct oracle_group groups[ORACLE_GROUPS];
};

struct oracle {
    bool strict;
    uint32_t persist_every;
    struct oracle_topic topics[ORACLE_TOPICS];
};

uint64_t oracle_offset(const struct oracle_topic *topic, const struct oracle_group *group);
/* Pieces in which consumed entries lie above the offset. */
unsigned oracle_ranges(const struct oracle_topic *topic, const struct oracle_group *group);
bool oracle_consumed(enum oracle_state state);
/* A store of the group's offset has succeeded: what was consumed stays so. */
void oracle_stored(struct oracle_topic *topic, struct oracle_group *group);
/* All groups, all entries. */
void oracle_synced(struct oracle *oracle);

/* The group's numbers, as walrus_group_stat gives them, are those of the model.  What the store
 * says is durable the model takes to be so. */
void oracle_check_group(struct rig *rig, struct oracle_topic *topic,
                        const struct oracle_group *group);
/* Entry `seq` of the topic on disk is that of the model; damaged: reading it says so instead. */
void oracle_check_entry(struct rig *rig, const struct oracle_topic *topic, uint64_t seq,
                        bool damaged);

/*
 * Checks the closed store of `rig` against what it was before and after a crash: opens it, looks,
 * appends, closes, and opens it a second time.  *ret_found: what it held at first.
 */
void oracle_check_crash(struct rig *rig, const struct oracle *before, const struct oracle *after,
                        bool killed, struct oracle *ret_found);

/* Opens it read-only: no byte may change, and every retained entry can be read. */
void oracle_check_read_only(struct rig *rig);

/* Damages an entry of the closed store, which is as the model says: the entry is reported, once to
 * the readers of a group, and all the others are as they were. */
void oracle_check_flip(struct rig *rig, const struct oracle *oracle, uint64_t *random);

#endif
