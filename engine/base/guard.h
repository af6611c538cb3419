/* SPDX-License-Identifier: MIT */
/*
 * guard.h - access to mapped files that survives SIGBUS.
 *
 * A load or store through a mapping raises SIGBUS when the disk fails under it or the file was cut
 * short by somebody else.  Every such access in the engine goes through these functions, which turn
 * the signal into -EIO for that one call.  A SIGBUS outside of a guard is not ours: it goes to the
 * handler that was there before, or ends the process.
 */
#ifndef WALRUS_BASE_GUARD_H
#define WALRUS_BASE_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

/* Installs the handler, once per process; safe to call often. */
void guard_install(void);

/* Copies between memory and a mapping.  0, or -EIO. */
WALRUS_CHECK int guard_copy(void *to, const void *from, size_t size);

/* CRC of bytes in a mapping.  0, or -EIO. */
WALRUS_CHECK int guard_crc(uint32_t *ret_crc, uint32_t seed, const void *from, size_t size);

/* Stores a record: `data` at to + header_size, then `header` at to, in that order for every
 * observer.  0, or -EIO with the bytes in any state.
 *
 * Page by page, for btrfs: making a page writable takes space once more there, and when that is
 * short all dirty pages are written first, which makes them unwritable.  An instruction that stores
 * across two pages would go on for ever, each of them taking the other away. */
WALRUS_CHECK int guard_store(void *to, const void *header, size_t header_size, const void *data,
                             size_t size);

#endif
