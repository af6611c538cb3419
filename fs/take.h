/* SPDX-License-Identifier: MIT */
/*
 * take.h - files that show entries and are seekable: next, wait, peek, drain, and entries/N.
 *
 * All functions answer their request.
 */
#ifndef WALRUSFS_TAKE_H
#define WALRUSFS_TAKE_H

#include "handle.h"

void take_open(struct handle *handle, fuse_req_t req);
void take_read(struct handle *handle, fuse_req_t req, size_t size, uint64_t offset, int flags);
/* As owner of the handle of any consumer file, when it goes: gives back what was not consumed. */
int take_fini(struct handle *handle);
/* Closing may wait for the disk. */
bool take_close_blocks(const struct handle *handle);

#endif
