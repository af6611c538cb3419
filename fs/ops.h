/* SPDX-License-Identifier: MIT */
/* ops.h - the FUSE operations, for session.c. */
#ifndef WALRUSFS_OPS_H
#define WALRUSFS_OPS_H

#include "mount.h"

struct handle;

extern const struct fuse_lowlevel_ops ops_table;

/* Ends an open file: its last close came (`ended`), or the mount goes, and its writer is in the
 * middle of something.  Blocks. */
void ops_close_handle(struct handle *handle, bool ended);

#endif
