/* SPDX-License-Identifier: MIT */
/*
 * preflight.h - what can be known to be wrong before anything is begun: the paths, a dead mount, the
 * rights, the device.
 */
#ifndef WALRUSFS_PREFLIGHT_H
#define WALRUSFS_PREFLIGHT_H

#include "options.h"
#include "session.h"

/* Makes both paths absolute, and says what is in the way of the mount.  While the process still has
 * its directory and its terminal, and one thread. */
WALRUS_CHECK enum session_result preflight_check(struct options *options);

#endif
