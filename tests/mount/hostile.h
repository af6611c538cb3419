/* SPDX-License-Identifier: MIT */
/*
 * hostile.h - what hostile.c (the processes) and hostile_calls.c (what they call) share.
 */
#ifndef WALRUSFS_TEST_HOSTILE_H
#define WALRUSFS_TEST_HOSTILE_H

#include <linux/aio_abi.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACTOR_COUNT  8
#define SLOT_COUNT   24
#define BULK_MAX     1500         /* handles that one call of op_bulk opens */
#define BUFFER_SIZE  (3u << 20)   /* bytes that an actor may write in one call, and more */
#define WITNESS_ROOM (192u << 20) /* bytes that actors put into the witness's topic in all */
#define OTHER_ROOM   (3ull << 30) /* and into all others within one sweep of hostile.py */
#define HANG_SECONDS 60
#define HEADER_SIZE  20

/* Shared by all processes. */
struct share {
    _Atomic uint64_t calls;
    _Atomic uint64_t progress[ACTOR_COUNT]; /* calls of each actor */
    _Atomic int call[ACTOR_COUNT];          /* which one it is in */
    _Atomic int held[ACTOR_COUNT];          /* it has come to its end */
    _Atomic uint64_t witness_used;
    _Atomic uint64_t witness_count;
    _Atomic int witness_failed;
    _Atomic int stop;
};

struct slot {
    int fd;          /* -1: none */
    bool of_witness; /* a file of the witness's topic */
    bool is_append;  /* one write is one entry */
};

struct actor {
    uint64_t random;
    int place;
    struct slot slots[SLOT_COUNT];
    unsigned char *out; /* BUFFER_SIZE bytes, then a page that cannot be touched */
    unsigned char *in;
    aio_context_t aio;
    int pair[2]; /* sockets, both ends */
    int pipe[2];
};

extern struct share *share;

uint64_t next_random(uint64_t *state);
/* 0 ... count - 1 */
uint32_t below(struct actor *actor, uint32_t count);
/* Makes `size` bytes, at least HEADER_SIZE, an entry that can be recognised by `mark`. */
void fill_entry(unsigned char *to, const char *mark, uint32_t number, size_t size,
                uint64_t *random);
/* Makes so many random calls, fewer when the end has come. */
void run_calls(struct actor *actor, uint64_t count);
const char *call_name(int call);

#endif
