/* SPDX-License-Identifier: MIT */
/*
 * transport.h - how requests come from the kernel to libfuse, and replies back.
 *
 * Two ways: transport_dev.c reads /dev/fuse; transport_uring.c has the kernel put them into memory
 * that both share.  Whoever starts a transport has a mounted fuse_session and no thread in it; from
 * then on the handlers of that session run on the transport's threads, of which there is about one a
 * core, so a handler must not wait.
 *
 * A process has one transport at a time.
 */
#ifndef WALRUSFS_TRANSPORT_H
#define WALRUSFS_TRANSPORT_H

#include <stdbool.h>

#include "compiler.h"

struct fuse_session;
struct transport;

struct transport_options {
    struct fuse_session *fuse;
    bool single; /* one thread */
    bool uring;  /* io_uring, or else a message says why not */
    /* The connection is over (unmounted, or aborted), or a thread could not go on.  Any thread. */
    void (*ended)(void *arg);
    void *arg;
};

/*
 * Answers the kernel's first request, INIT, on the calling thread, and starts the threads.  Returns
 * when the mount can be used.  -ENODEV: it was unmounted meanwhile; or what a system call says.
 */
WALRUS_CHECK int transport_start(const struct transport_options *options,
                                 struct transport **ret_transport);
/* Whether `ended` was called for the last thread. */
bool transport_is_over(const struct transport *transport);
/* No request is taken any more once this returns; replies still go out. */
void transport_stop(struct transport *transport);
/* After transport_stop() and the last reply.  NULL is allowed. */
void transport_destroy(struct transport *transport);

#endif
