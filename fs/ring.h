/* SPDX-License-Identifier: MIT */
/*
 * ring.h - an io_uring: just what transport_uring.c needs of it.
 *
 * Three system calls and two shared arrays, so that a build needs no liburing: what that library adds
 * (probing, registered buffers, helpers for each operation) has no use here.  Entries of the
 * submission queue have 128 bytes, which FUSE asks for.
 *
 * One thread at a time.
 */
#ifndef WALRUSFS_RING_H
#define WALRUSFS_RING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

struct ring {
    int fd; /* -1: not open */
    void *map, *sqes;
    size_t map_size, sqes_size;
    unsigned *sq_head, *sq_tail, *sq_flags, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask;
    unsigned queued; /* entries filled since the last ring_enter() */
    struct io_uring_cqe *cqes;
};

/* Room for `entry_count` submissions, a power of two.  -ENOSYS, -EPERM: not allowed here; -errno */
WALRUS_CHECK int ring_open(struct ring *ring, unsigned entry_count);
void ring_close(struct ring *ring);
/* The next entry, zeroed; it is submitted by ring_enter().  NULL: full. */
struct io_uring_sqe *ring_next_sqe(struct ring *ring);
/* Submits, and waits for so many completions; fewer when interrupted. */
void ring_enter(struct ring *ring, unsigned wait_count);
/* Submits all that is filled. */
void ring_submit(struct ring *ring);
/* Takes a completion; false: there is none. */
bool ring_take(struct ring *ring, struct io_uring_cqe *ret_cqe);
/* Completions wait for room: the next ring_enter() brings them. */
bool ring_has_more(const struct ring *ring);

#endif
