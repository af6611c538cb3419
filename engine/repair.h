/* SPDX-License-Identifier: MIT */
/* repair.h - what the two files of repair share. */
#ifndef WALRUS_REPAIR_H
#define WALRUS_REPAIR_H

#include "check.h"

struct mender {
    int dirfd, lock_fd;
    int kept_fd;        /* .repair-N, -1: not made yet */
    uint64_t kept_size; /* bytes in it */
    int error;          /* nothing is mended any more */
};

/* Appends bytes of a file, as they are now, to .repair-N, durably. */
WALRUS_CHECK int mender_keep(struct mender *m, const char *file, int fd, uint64_t off,
                             uint64_t size);

/* repair_lost.c: makes lost table entries and records of the registry anew, from what was read. */
WALRUS_CHECK int repair_lost(struct check *c);

#endif
