/* SPDX-License-Identifier: MIT */
/*
 * sim.h - a machine for the engine to run on: a directory in memory, threads of which one runs at
 * a time, a clock that moves when it is told to, and random bytes from a seed.  What the engine
 * does there is the same each time, costs no system call, and can be recorded.
 *
 *     sim_clear();                      an empty directory
 *     sim_threads(SIM_SCHEDULED, seed);
 *     sim_record(&log);                 from now on every change is written down
 *     ... open a store, use it, close it ...
 *     sim_record(NULL);
 *
 * The engine is linked with its calls of threads, futexes, clock and directory led here
 * (meson.build); its table of calls on files is sim_ops.  Tests themselves use the real ones.
 *
 * Stores through mappings do not pass by any call: they are found by comparing, at each change and
 * at sim_mark().
 */
#ifndef WALRUS_TESTS_SIM_H
#define WALRUS_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIM_PAGE = 4096,
    SIM_SECTOR = 512,
    SIM_ROOM = 65536 + 4 * 65536, /* bytes that a file can have */
    SIM_PAGES = SIM_ROOM / SIM_PAGE,
    SIM_FILES = 512, /* files in all, those without a name included */
    SIM_NAMES = 160,
    SIM_NAME_SIZE = 40,
};

/* A file.  It stays when its name goes, as long as the directory is not cleared. */
struct sim_file {
    uint8_t *data;
    uint64_t size;
    uint8_t touched[SIM_PAGES];   /* pages that may hold something else than zeros */
    uint8_t allocated[SIM_PAGES]; /* pages that a mapping may be stored to */
    unsigned mapped;              /* how often */
};

struct sim_names {
    struct {
        char text[SIM_NAME_SIZE];
        unsigned file;
    } at[SIM_NAMES];
    unsigned count;
};

enum sim_kind {
    SIM_WRITE,  /* bytes of a file, by a call */
    SIM_STORE,  /* the same, through a mapping */
    SIM_ZERO,   /* a hole was punched */
    SIM_RESIZE, /* to `off` bytes */
    SIM_SYNC,   /* bytes of a file are durable; size UINT64_MAX: all, and its length */
    SIM_NAME,   /* a new name; that of a new file, mostly */
    SIM_RENAME, /* `name` is now `to` */
    SIM_UNLINK,
    SIM_SYNC_DIR,
    SIM_MARK, /* nothing: a call of the library ended */
};

struct sim_event {
    enum sim_kind kind;
    unsigned file;
    uint64_t off, size;
    size_t data; /* in the log's bytes */
    unsigned call;
    bool inside;  /* of that call; else between it and the next */
    bool outside; /* a store where no space was allocated */
    char name[SIM_NAME_SIZE], to[SIM_NAME_SIZE];
};

struct sim_log {
    struct sim_event *events;
    size_t count, room;
    uint8_t *bytes;
    size_t size, bytes_room;
};

enum sim_mode {
    SIM_LAZY,      /* a thread runs when it is joined, to its end */
    SIM_SCHEDULED, /* threads take turns at changes of files and where they wait */
};

extern const struct os_ops sim_ops;

void sim_clear(void);
/* A new file with a name, or without where it is NULL; as file number `number`. */
struct sim_file *sim_make(unsigned number, const char *name);
struct sim_file *sim_file_at(unsigned number); /* NULL: there is none */
const struct sim_names *sim_directory(void);
unsigned sim_open_count(void); /* descriptors and mappings */

void sim_record(struct sim_log *log);
void sim_call(unsigned call, bool inside); /* what follows belongs to it */
void sim_mark(void);
void sim_log_free(struct sim_log *log);

/* While no thread of the engine runs. */
void sim_threads(enum sim_mode mode, uint64_t seed);
/* Lets the others run until all wait. */
void sim_settle(void);
/* Moves the monotonic clock on, and the other one by as much and the jump. */
void sim_clock(uint64_t ns, int64_t jump_ns);
/* Of what the engine gets for random bytes. */
void sim_entropy(uint64_t seed);

/* The n-th call on a file from now on fails and is not made (0: none), and with `forever` all after
 * it; how many there were since. */
void sim_fail(uint64_t nth, int error, bool forever);
uint64_t sim_call_count(void);
/* The n-th allocation of the engine from now on fails (0: none), and with `forever` all after it;
 * how many there were since. */
void sim_alloc_fail(uint64_t nth, bool forever);
uint64_t sim_alloc_count(void);

/* Called by the calls on files. */
void sim_turn(void);

#endif
