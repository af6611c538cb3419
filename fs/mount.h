/* SPDX-License-Identifier: MIT */
/*
 * mount.h - what all files of fs/ share about the one mount of this process.
 *
 * Made by session.c, which also ends it; everybody else finds it through the request
 * (mount_of()).  Fields without an atomic type do not change while the mount lives.
 */
#ifndef WALRUSFS_MOUNT_H
#define WALRUSFS_MOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse3/fuse_lowlevel.h>

#include "list.h"
#include "memory.h"
#include "walrus.h"

struct gate_table;
struct lock;
struct node_table;
struct options;
struct pool;
struct serial;

/* Open files in all.  A parked reader is one; each takes less than a KiB. */
#define MOUNT_HANDLE_COUNT_MAX (128 * 1024)
/* Bytes in unfinished lines of all open files in all. */
#define MOUNT_REST_SIZE_MAX (64ull << 20)
/* Bytes in one WRITE or READ. */
#define MOUNT_REQUEST_SIZE_MAX (1u << 20)

struct mount {
    struct walrus *store;
    struct fuse_session *session;
    const struct options *options;
    struct pool *pool;
    struct node_table *nodes;
    struct gate_table *gates;
    struct serial *changes;    /* changes of attributes, which read what they write, in turn */
    struct lock *handles_lock; /* LOCK_FS_MISC; guards the next ones */
    struct list handles;       /* all open files */
    struct list closings;      /* those producers that are being closed, as the closes came */
    uint64_t closing_next;     /* number of the next such close */
    uid_t uid;                 /* who mounted: owns what has no owner of its own */
    gid_t gid;
    uint64_t start_ns;              /* since the epoch: the time of files that have no other */
    size_t append_size;             /* largest write that is one entry */
    _Atomic uint64_t rest_size;     /* bytes in unfinished lines */
    _Atomic uint32_t handle_count;  /* open files */
    struct burst handle_burst;      /* handles_lock */
    _Atomic uint32_t closing_count; /* of `closings` */
    atomic_bool stopping;           /* nothing may park any more */
};

static inline struct mount *mount_of(fuse_req_t req)
{
    return (struct mount *)fuse_req_userdata(req);
}

#endif
