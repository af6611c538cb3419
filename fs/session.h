/* SPDX-License-Identifier: MIT */
/*
 * session.h - the life of the mount, from opening the store to closing it.
 */
#ifndef WALRUSFS_SESSION_H
#define WALRUSFS_SESSION_H

#include "options.h"

/* Exit codes of the daemon. */
enum session_result {
    SESSION_OK = 0,
    SESSION_USAGE = 1,
    SESSION_STORE = 2, /* the store cannot be opened, or could not be closed properly */
    SESSION_MOUNT = 3,
    SESSION_OTHER = 4,
};

/* Mounts, calls `ready` once the kernel talks to us, serves until the mount or the daemon is to
 * end, and closes.  Logs what goes wrong.  The caller is the process's only thread. */
enum session_result session_run(const struct options *options, void (*ready)(void));

/* Detaches what is mounted at the path, also while files are open.  0 or a negative errno. */
WALRUS_CHECK int session_detach(const char *mountpoint);

#endif
