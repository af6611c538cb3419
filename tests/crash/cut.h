/* SPDX-License-Identifier: MIT */
/*
 * cut.h - what a loss of power can leave, from the record of a run (sim.h).
 *
 * A disk is followed event by event.  It knows of each file the bytes that are durable and, of each
 * sector that is not, every version that it had since it was: a disk may have written any of them.
 * Likewise lengths, and the changes of the directory.  cut_write makes the directory of the
 * simulated machine what the loss of power could leave at this moment.
 */
#ifndef WALRUS_TESTS_CUT_H
#define WALRUS_TESTS_CUT_H

#include "sim.h"

enum cut_mode {
    CUT_ALL,          /* everything: also what the death of the process leaves */
    CUT_NONE,         /* only what is durable */
    CUT_ONLY_LAST,    /* of what is not, only what was written last */
    CUT_ALL_BUT_LAST, /* all but that */
    CUT_SOME,         /* a part of the sectors, lengths and names, chosen by dice */
    CUT_OLD,          /* a part, and of each one of its versions since it was durable */
    CUT_TORN,         /* a part, of which some are torn: new and old within a sector */
    CUT_SINGLE,       /* the n-th sector, name or length alone: see cut_single_count */
    CUT_MODE_COUNT,
};

extern const char *const cut_mode_names[CUT_MODE_COUNT];

struct cut_version {
    uint32_t next;  /* the one before it, as index + 1; 0: none */
    uint32_t event; /* when it was written */
    uint8_t data[SIM_SECTOR];
};

struct cut_file {
    uint8_t *now, *durable;
    uint64_t size, durable_size;
    uint64_t sizes[16]; /* lengths since it was durable */
    unsigned size_count;
    uint8_t there[SIM_PAGES];                 /* pages that have durable bytes */
    uint32_t versions[SIM_ROOM / SIM_SECTOR]; /* the newest of each sector, as index + 1 */
    uint16_t pending[SIM_ROOM / SIM_SECTOR];  /* sectors that have some */
    unsigned pending_count;
};

struct cut_change { /* of the directory */
    char drop[SIM_NAME_SIZE], add[SIM_NAME_SIZE];
    unsigned file;
    uint32_t event;
};

struct cut_disk {
    struct cut_file *files[SIM_FILES];
    unsigned file_count;
    struct sim_names names; /* durable */
    struct cut_change changes[64];
    unsigned change_count;
    struct cut_version *versions;
    uint32_t version_count, version_room;
    uint32_t event_count; /* applied so far */
};

/* A disk that holds what the simulated directory holds now, all of it durable. */
void cut_init(struct cut_disk *disk);
void cut_clone(struct cut_disk *disk, const struct cut_disk *from);
void cut_fini(struct cut_disk *disk);
void cut_apply(struct cut_disk *disk, const struct sim_log *log, const struct sim_event *event);
bool cut_pending(const struct cut_disk *disk); /* something is not durable */
unsigned cut_single_count(const struct cut_disk *disk);
/* Replaces the simulated directory.  `single` is for CUT_SINGLE. */
void cut_write(const struct cut_disk *disk, enum cut_mode mode, unsigned single, uint64_t *dice);

#endif
