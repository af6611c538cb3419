/* SPDX-License-Identifier: MIT */
/*
 * daemon.h - going to the background without losing the news of a failure.
 *
 * The parent stays until the child says that the mount is ready, or ends with an exit code; the
 * child's messages go to the terminal until then.
 */
#ifndef WALRUSFS_DAEMON_H
#define WALRUSFS_DAEMON_H

#include "compiler.h"

/* Forks, before any thread is made.  Returns in the child only; the parent waits and exits with the
 * child's code.  Until daemon_ready() the end of the parent is a SIGTERM.  -errno: no child was made. */
WALRUS_CHECK int daemon_fork(void);
/* The child is ready: the parent exits with 0.  Nothing is written to the terminal any more. */
void daemon_ready(void);
/* Tells systemd, if it waits for that (Type=notify). */
void daemon_notify(const char *state);

#endif
