/* SPDX-License-Identifier: MIT */
/* crc32c.h - the project's one checksum, CRC32C (Castagnoli), from ISA-L. */
#ifndef WALRUS_BASE_CRC32C_H
#define WALRUS_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of `size` bytes (any size), continuing from `seed`: crc32c(crc32c(0, a), b) is that of a
 * and b laid end to end, and crc32c(0, "123456789", 9) is 0xe3069283. */
uint32_t crc32c(uint32_t seed, const void *data, size_t size);

/* The other way round: the seed with which `size` bytes have the CRC `crc`.  Slow: for repair. */
uint32_t crc32c_before(uint32_t crc, const void *data, size_t size);

#endif
