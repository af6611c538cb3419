/* SPDX-License-Identifier: MIT */
/* ops.h - the FUSE operations, for session.c. */
#ifndef WALRUSFS_OPS_H
#define WALRUSFS_OPS_H

#include "mount.h"

struct handle;

extern const struct fuse_lowlevel_ops ops_table;

/* Ends an open file without a request, when the mount goes: as if it was closed.  Blocks. */
void ops_close_handle(struct handle *handle);

#endif
