/* SPDX-License-Identifier: MIT */
/*
 * stream.h - files that go on for ever: follow, and the reading side of batch.
 *
 * All functions answer their request.  What a handle of theirs holds goes with take_fini().
 */
#ifndef WALRUSFS_STREAM_H
#define WALRUSFS_STREAM_H

#include "handle.h"

void stream_open(struct handle *handle, fuse_req_t req);
void stream_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset, int flags);

#endif
