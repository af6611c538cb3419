/* SPDX-License-Identifier: MIT */
/*
 * record.h - the framing of `batch`, the same in both directions, little endian:
 *
 *      0  u32 size of the data     4  u32 flags: 0     8  u64 sequence number (ignored on write)
 *     16  u64 time, ns since the epoch (0 on write: now)      24  data, zero bytes up to 8
 *
 * Pure functions on memory.
 */
#ifndef WALRUSFS_RECORD_H
#define WALRUSFS_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "compiler.h"

#define RECORD_HEADER_SIZE 24

/* Bytes of a record with that much data. */
static inline uint64_t record_size(uint64_t data_size)
{
    return round_up(RECORD_HEADER_SIZE + data_size, 8);
}

/* Writes the header to `to`, and the zero bytes behind the data, which the caller puts between. */
void record_frame(unsigned char *to, uint32_t size, uint64_t seq, uint64_t time_ns);

/* Takes whole records apart: *ret_entries points into `data`; both arrays are from malloc, the
 * caller frees them.  -EINVAL: malformed.  -ENOMEM */
WALRUS_CHECK int record_parse(const unsigned char *data, size_t size, struct iovec **ret_entries,
                              uint64_t **ret_times, size_t *ret_count);

#endif
