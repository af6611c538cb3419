/* SPDX-License-Identifier: MIT */
/* trace.h - at loglevel=debug each request of the kernel is a line in the log: who asks for what.  No
 * locks; costs one load when the level is another. */
#ifndef WALRUSFS_TRACE_H
#define WALRUSFS_TRACE_H

#include <stddef.h>

/* A request as it was read from /dev/fuse. */
void trace_request(const void *buffer, size_t size);

#endif
