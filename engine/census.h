/* SPDX-License-Identifier: MIT */
/*
 * census.h - how many bytes of the registry's journal still count, so that it is known when a smaller
 * one pays.
 *
 * Serves registry.c, whose caller's lock covers every call; keeps no names, only a hash and two sizes
 * of each topic and group.
 *
 * Failure: only census_reserve can fail; what it made room for is then counted without.
 */
#ifndef WALRUS_CENSUS_H
#define WALRUS_CENSUS_H

#include <stddef.h>
#include <stdint.h>

#include "compiler.h"
#include "registry.h"

struct live;

struct census {
    struct live *places;   /* a hash table by keyed hash */
    size_t capacity, used; /* a power of two, or 0 */
    uint64_t secret;       /* random, set before the first call */
    uint64_t live_size;    /* bytes of records that count */
};

/* Makes room for `count` more things, so that counting cannot fail.  -ENOMEM */
WALRUS_CHECK int census_reserve(struct census *census, size_t count);
/* Counts a record, for which there is room: up to two things. */
void census_count(struct census *census, const struct registry_change *change);
void census_fini(struct census *census); /* it can be used anew */

#endif
