/* SPDX-License-Identifier: MIT */
/*
 * transport_uring.h - requests and replies through io_uring, used by transport_dev.c.
 *
 * The calls come in this order, on one thread: uring_open(), then INIT is answered, uring_start(),
 * uring_stop(), the last reply, uring_close().
 */
#ifndef WALRUSFS_TRANSPORT_URING_H
#define WALRUSFS_TRANSPORT_URING_H

#include <stddef.h>

#include "compiler.h"

struct fuse_session;
struct uring;

/* Makes all that is needed; from now on replies go out through here, and the answer to `init`, the
 * kernel's INIT request, accepts io_uring.  Negative: it cannot be had, and *ret_why, a constant,
 * says why; nothing has changed. */
WALRUS_CHECK int uring_open(struct fuse_session *fuse, const void *init, size_t init_size,
                            bool single, struct uring **ret_uring, const char **ret_why);
/* INIT was answered: requests may come. */
void uring_start(struct uring *uring);
/* Returns when the kernel has the reply that this thread gave last.  On a thread of the transport, or
 * one that may wait for them. */
void uring_reply_arrive(void);
/* An INTERRUPT was read from /dev/fuse.  Any thread. */
void uring_interrupt(struct uring *uring, const void *request, size_t size);
/* No request is handled any more once this returns; replies still go out. */
void uring_stop(struct uring *uring);
void uring_close(struct uring *uring); /* NULL is allowed */

#endif
