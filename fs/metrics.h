/* SPDX-License-Identifier: MIT */
/* metrics.h - .walrusfs/metrics, in the text format of Prometheus.  Engine calls, no locks. */
#ifndef WALRUSFS_METRICS_H
#define WALRUSFS_METRICS_H

#include <stdio.h>

#include "mount.h"

WALRUS_CHECK int metrics_print(FILE *out, struct mount *mount);

#endif
