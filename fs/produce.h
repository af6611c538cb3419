/* SPDX-License-Identifier: MIT */
/*
 * produce.h - files that make entries: append, lines, blob, and the writing side of batch.
 *
 * All functions answer their request unless they return something.
 */
#ifndef WALRUSFS_PRODUCE_H
#define WALRUSFS_PRODUCE_H

#include "handle.h"

void produce_open(struct handle *handle, fuse_req_t req);
void produce_write(struct handle *handle, fuse_req_t req, const char *data, size_t size,
                   uint64_t offset, int flags);
/* At a close(2) of a blob or of lines, which may or may not be the last. */
void produce_flush(struct handle *handle, fuse_req_t req);
/* Makes entries of what is held, and all entries of the topic durable. */
void produce_fsync(struct handle *handle, fuse_req_t req);

/* As owner of the handle, when it goes: makes an entry of what is held; may block.  A blob whose
 * writer has not `ended` is dropped. */
int produce_fini(struct handle *handle, bool ended);
/* There is something for produce_fini() to do. */
bool produce_close_blocks(const struct handle *handle);

/* The parts of lines.c and blob.c; owner of the serial, on any thread unless said otherwise. */
WALRUS_CHECK int lines_write(struct handle *handle, const char *data, size_t size, bool durable);
WALRUS_CHECK int lines_commit(struct handle *handle, bool durable);
void lines_fini(struct handle *handle);
WALRUS_CHECK int blob_write(struct handle *handle, const char *data, size_t size, uint64_t offset,
                            bool durable);
/* Blocks. */
WALRUS_CHECK int blob_commit(struct handle *handle, bool durable);
/* What a close(2) by the thread `tid` means for the blob; blocks. */
WALRUS_CHECK int blob_flush(struct handle *handle, pid_t tid, bool durable);
void blob_open(struct handle *handle, pid_t tid);
void blob_fini(struct handle *handle);

/* The topic of a producer; NULL: a write is yet to find or make it. */
struct walrus_topic *produce_known_topic(const struct handle *handle);
/* The same, made now if the mount makes topics at the first write (blocks then); a
 * reference.  -ENOENT */
WALRUS_CHECK int produce_topic(struct handle *handle, struct walrus_topic **ret_topic);

#endif
