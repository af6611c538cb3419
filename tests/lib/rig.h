/* SPDX-License-Identifier: MIT */
/*
 * rig.h - what the tests of the library have in common: a store in a directory of its own with
 * small blocks, payloads that can be checked without having been kept, and views of what lies on
 * the disk.
 *
 * Uses walrus.h and tmpdir; knows nothing of any test framework, so that plain mains under
 * ThreadSanitizer can use it.  A check that fails prints what was found and aborts: a helper
 * returns only when all went as it says.
 *
 * Threads: one struct rig may be used by many, except while it is opened or closed.
 */
#ifndef TESTS_LIB_RIG_H
#define TESTS_LIB_RIG_H

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "walrus.h"

#define RIG_BLOCK_SIZE      65536u /* bytes: the smallest that there is */
#define RIG_BLOCKS_PER_FILE 4u
#define RIG_DIR_SIZE        256u /* longest path of a directory for tests */
#define RIG_RECORD_SIZE     40u  /* header of a record */
#define RIG_ENTRY_EDGE      (RIG_BLOCK_SIZE - RIG_RECORD_SIZE) /* largest entry in one block */

/* Aborts with a message unless `expr` holds. */
#define CHECK(expr) ((expr) ? (void)0 : check_fail(__FILE__, __LINE__, #expr))

/* Aborts unless both numbers are the same; shows them, by name where they are error codes. */
#define CHECK_INT(actual, expected)                                                                \
    check_int(__FILE__, __LINE__, #actual, (int64_t)(actual), (int64_t)(expected))

/* Waits until `expr` holds; aborts when it does not within a minute. */
#define CHECK_SOON(expr)                                                                           \
    do {                                                                                           \
        for (int tries_ = 0; !(expr); tries_++) {                                                  \
            if (tries_ == 12000)                                                                   \
                check_fail(__FILE__, __LINE__, "in 60 s: " #expr);                                 \
            sleep_ms(5);                                                                           \
        }                                                                                          \
    } while (0)

_Noreturn void check_fail(const char *file, int line, const char *text);
void check_int(const char *file, int line, const char *text, int64_t actual, int64_t expected);
/* Ends a child of fork(2): as _exit, but what it covered is counted. */
_Noreturn void child_exit(int status);
void sleep_ms(unsigned ms);
uint64_t now_ms(void); /* monotonic */

/* Says on stderr why a test does nothing here. */
void skip_note(const char *reason);

struct rig {
    char dir[RIG_DIR_SIZE];
    char *dir_made;                /* the same, as tmpdir made it */
    struct walrus_options options; /* of the next open; report and report_arg are set */
    struct walrus *walrus;         /* NULL: closed */
    uint64_t seed;                 /* of the payloads */
    pthread_mutex_t lock;          /* guards what follows */
    unsigned report_count[WALRUS_DEBUG + 1];
    char report_text[32768]; /* all reports so far, a line each, cut off when full */
};

/* A fresh directory, with small blocks and otherwise default options; opens nothing. */
void rig_init(struct rig *rig);
/* Closes, and removes the directory. */
void rig_fini(struct rig *rig);

int rig_try_open(struct rig *rig); /* as walrus_open */
void rig_open(struct rig *rig);
void rig_close(struct rig *rig);          /* expects 0; nothing if it is closed */
void rig_close_degraded(struct rig *rig); /* whatever it returns */
void rig_reopen(struct rig *rig);

/* Makes *copy a closed store with the bytes that the files of *rig have now, seen through the page
 * cache: what is left when the process that has it open is killed.  An open store is copied by a
 * child, with all threads of this process stopped, so that the copy is of one moment. */
void rig_copy(const struct rig *rig, struct rig *copy);
/* A kill: goes on, open, with what the files of the open store hold now. */
void rig_kill(struct rig *rig);

unsigned rig_reports(struct rig *rig, enum walrus_level level);
bool rig_reported(struct rig *rig, const char *text); /* some report contains it */

/* ----------------------------------------------------------------------------------- payload -- */

/* The bytes of entry `seq` of a topic.  With seed 0 they compress well. */
void payload_fill(uint64_t seed, const char *topic, uint64_t seq, void *ret_data, size_t size);
bool payload_same(uint64_t seed, const char *topic, uint64_t seq, const void *data, size_t size);
/* From malloc. */
void *payload_make(const struct rig *rig, const char *topic, uint64_t seq, size_t size);

/* ----------------------------------------------------------------------- appending and taking --
 */

/* Appends the payload of `seq`; as walrus_append. */
int rig_try_append(struct rig *rig, const char *topic, uint64_t seq, size_t size);
void rig_append(struct rig *rig, const char *topic, uint64_t seq, size_t size);
/* `count` entries of `size` bytes from `first_seq` on, one call each. */
void rig_append_many(struct rig *rig, const char *topic, uint64_t first_seq, uint64_t count,
                     size_t size);
/* The same in one batch; as walrus_batch_append. */
int rig_try_batch(struct rig *rig, const char *topic, uint64_t first_seq, size_t count,
                  size_t size);

/* Takes an entry, checks its payload by its sequence number; as walrus_read_next. */
int rig_take(struct rig *rig, const char *topic, uint64_t *ret_seq);
/* Takes exactly entry `seq`. */
void rig_expect(struct rig *rig, const char *topic, uint64_t seq, size_t size);
void rig_expect_many(struct rig *rig, const char *topic, uint64_t first_seq, uint64_t count,
                     size_t size);
void rig_expect_empty(struct rig *rig, const char *topic);
/* Reads entry `seq` without taking it, and checks it. */
void rig_expect_at(struct rig *rig, const char *topic, uint64_t seq, size_t size);

/* References; the topic is made where it is missing. */
struct walrus_topic *rig_topic(struct rig *rig, const char *topic);
struct walrus_group *rig_group(struct rig *rig, const char *topic, const char *group);
struct walrus_topic_stat rig_topic_stat(struct rig *rig, const char *topic);
struct walrus_group_stat rig_group_stat(struct rig *rig, const char *topic, const char *group);
struct walrus_stat rig_stat(struct rig *rig);

/* Claims; as walrus_group_claim. */
struct walrus_reader *rig_claim(struct walrus_group *group, size_t max_count);
/* Reads a claimed single entry to its end, checks it, tells that it was delivered, closes. */
void rig_finish(struct rig *rig, const char *topic, struct walrus_reader *reader);

/* ----------------------------------------------------------------------------- what is on disk --
 */

struct place {
    char path[PATH_MAX];
    uint64_t off; /* bytes from the start of the file */
};

uint64_t dir_disk_size(const char *dir);                      /* bytes allocated to all its files */
unsigned dir_file_count(const char *dir, const char *suffix); /* files whose name ends so */
void dir_copy(const char *from, const char *to);              /* `to` exists; keeps holes */
bool dir_same(const char *a, const char *b);                  /* the same names and bytes */
void dir_make(const char *dir, const char *name);
void dir_write(const char *dir, const char *name, const void *data, size_t size);
/* Where in the files of `dir` the bytes are; false: nowhere. */
bool dir_find(const char *dir, const void *data, size_t size, struct place *ret_place);
/* Where the data of an entry (of at least 16 bytes) lies. */
void rig_find(const struct rig *rig, const char *topic, uint64_t seq, size_t size,
              struct place *ret_place);
void place_flip(const struct place *place, int64_t delta); /* one byte, `delta` from there */
void place_zero(const struct place *place, int64_t delta, size_t size);
void disk_read(const char *path, uint64_t off, void *ret_data, size_t size);
void disk_write(const char *path, uint64_t off, const void *data, size_t size);
uint64_t disk_size(const char *path);

/*
 * Keeps every sync of a log file waiting, or lets them go again; between faultos_install() and
 * faultos_remove().  For tests of what a kill leaves of entries that are not durable: full blocks
 * are synced in the background in every mode, and what is durable is never torn but damaged.
 */
void rig_hold_syncs(bool hold);

#endif
