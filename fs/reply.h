/* SPDX-License-Identifier: MIT */
/*
 * reply.h - the only callers of libfuse's reply functions.
 *
 * Each function ends the request, which must not be used afterwards, and asserts that this thread
 * holds no lock: after a reply the kernel may release what a lock would protect.  Here, and nowhere
 * else, the engine's negative results become the positive errno that libfuse wants.  Those that
 * hand something out tell whether it arrived: 0, or -ENOENT when the request was aborted.
 */
#ifndef WALRUSFS_REPLY_H
#define WALRUSFS_REPLY_H

#include <sys/statvfs.h>

#include "mount.h"
#include "names.h"

/* How long the kernel may use the name of a directory, and attributes, without asking, in seconds.
 */
#define REPLY_DIR_TIMEOUT  60.0
#define REPLY_ATTR_TIMEOUT 1.0

/* 0 or a negative errno. */
void reply_error(fuse_req_t req, int error);
void reply_none(fuse_req_t req);
WALRUS_CHECK int reply_entry(fuse_req_t req, fuse_ino_t ino, const struct stat *attr,
                             double entry_timeout, double attr_timeout);
void reply_attr(fuse_req_t req, const struct stat *attr, double timeout);
WALRUS_CHECK int reply_open(fuse_req_t req, const void *handle, enum kind kind);
void reply_written(fuse_req_t req, size_t size);
WALRUS_CHECK int reply_data(fuse_req_t req, const void *data, size_t size);
/* The same for data that counts as delivered once this returns 0: a daemon that is killed then has given
 * it. */
WALRUS_CHECK int reply_data_arrived(fuse_req_t req, const void *data, size_t size);
void reply_statfs(fuse_req_t req, const struct statvfs *stat);
void reply_poll(fuse_req_t req, unsigned events);

#endif
