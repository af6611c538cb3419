/* SPDX-License-Identifier: MIT */
/*
 * check.h - what the files of verify share: a store as it is read without being opened.
 *
 * verify.c has the frame and SUPER, verify_registry.c, verify_offsets.c and verify_table.c the other
 * metadata, verify_walk.c the records; repair.c and repair_lost.c mend what these find.  They read with the decoders of format.h alone and share nothing with
 * recovery, so that each can be held against the other.
 *
 * One thread, no locks.
 */
#ifndef WALRUS_CHECK_H
#define WALRUS_CHECK_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "compiler.h"
#include "format.h"
#include "walrus.h"

#define CHECK_NAME_SIZE 32 /* of a log file's name */

/* A group as the registry has it. */
struct check_group {
    struct check_group *next;
    uint64_t id;
    uint32_t slot;
    char *name;
    bool removed;
};

struct mender; /* repair.c */

struct check_topic {
    UT_hash_handle hh; /* by id */
    uint64_t id;
    char *name; /* NULL: the registry does not say */
    bool removed;
    struct check_group *groups;
    uint64_t bound;    /* numbers below were consumed by some group */
    size_t last_place; /* plus 1, of its blocks; 0: it has none */
    uint64_t end_seq;  /* where its records end */
};

/* An offset of a group that the registry does not know. */
struct check_stray {
    uint64_t topic_id, group_id;
    uint32_t slot;
};

struct check_file {
    uint32_t number;
    int fd;
    char name[CHECK_NAME_SIZE];
    uint8_t salt[16];
};

/* A block in use. */
struct check_place {
    struct block_info info;
    size_t file; /* index in check.files */
    uint32_t idx;
    bool exact; /* the table entry says where the records end */
};

struct check {
    const struct walrus_verify_options *options;
    struct mender *mender; /* repair: mends what is found, and tells of that alone; else NULL */
    struct walrus_verify_result result;
    int dirfd, lock_fd;
    bool live; /* somebody has the store open for writing */
    struct super_info super;
    struct check_topic *topics; /* by id */
    bool registry_damaged;
    bool registry_lost;     /* there is none that can be used */
    uint64_t topic_id_next; /* identities below were given away */
    struct check_stray *strays;
    size_t stray_count, stray_room;
    struct check_place *orphans; /* blocks both of whose table entries are bad */
    size_t orphan_count, orphan_room;
    struct check_file *files;
    size_t file_count, file_room;
    struct check_place *places; /* by topic, then block_seq */
    size_t place_count, place_room;
    uint64_t digest;      /* of the metadata as it was read: disk-format.md, section 3 */
    bool digest_wrong;    /* SUPER has another one */
    uint64_t done, total; /* bytes, for progress */
};

/* Counts a damaged place and tells it. */
PRINTF(3, 4)
void check_damage(struct check *c, struct walrus_damage damage, const char *format, ...);
/* What a writer is changing is whole a moment later: true when it is worth another look. */
bool check_again(const struct check *c, unsigned *tries);
void check_progress(struct check *c, uint64_t bytes);
/* Opens a file of the store for reading, -1 in *ret_fd when it is not there.  What is no regular
 * file with one name is damage: -ELOOP, and told. */
WALRUS_CHECK int check_open(struct check *c, const char *name, int *ret_fd, uint64_t *ret_size);
bool check_zero(const void *data, size_t size);
/* Everything, into c->result. */
WALRUS_CHECK int check_all(struct check *c);
void check_free(struct check *c); /* not the directory and the lock */

/* repair.c: these do nothing and give false where nothing is to be mended.  True: it is done,
 * durably, and what was there is kept. */
bool check_mend(struct check *c, const char *file, uint64_t off, const void *data, size_t size);
bool check_mend_zero(struct check *c, const char *file, uint64_t off, uint64_t size);
bool check_mend_size(struct check *c, const char *file, uint64_t size); /* makes it longer */
/* Finds the one bit of `data` without which `valid` says no.  True: it is flipped, in `data`. */
bool check_mend_bit(const struct check *c, void *data, size_t size,
                    bool (*valid)(void *arg, const void *data), void *arg);

WALRUS_CHECK int check_topic(struct check *c, uint64_t id, struct check_topic **ret_topic);

/* verify_registry.c, verify_offsets.c, verify_table.c */
WALRUS_CHECK int check_registry(struct check *c);
WALRUS_CHECK int check_offsets(struct check *c);
WALRUS_CHECK int check_file_meta(struct check *c, size_t file);
/* Reads the two table entries of a block; *ret_info is the one that counts.  -EBADMSG: neither */
WALRUS_CHECK int check_entry(struct check *c, size_t file, uint32_t idx,
                             struct block_info *ret_info);

/* verify_walk.c: the records of one topic's blocks. */
WALRUS_CHECK int check_blocks(struct check *c, struct check_topic *topic,
                              const struct check_place *places, size_t count);

#endif
