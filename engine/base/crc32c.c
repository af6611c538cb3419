/* SPDX-License-Identifier: MIT */
/*
 * crc32c.c - the checksum, by ISA-L's fastest routine for the machine at hand.
 *
 * Serves format, guard and the readers.  Pure: no state, any thread, cannot fail.
 *
 * ISA-L's crc32_iscsi inverts neither at the start nor at the end, so both are done here; with both
 * in place a finished CRC is itself the seed of what follows.  It also takes its length as an int,
 * hence the pieces.
 */
#include "crc32c.h"

#include <isa-l/crc.h>

#include "compiler.h"

#define PIECE_SIZE ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, const void *data, size_t size)
{
    unsigned char *at = (unsigned char *)data; /* ISA-L forgot a const; it only reads */
    uint32_t crc = ~seed;

    while (size > 0) {
        size_t piece = MIN(size, PIECE_SIZE);
        crc = crc32_iscsi(at, (int)piece, crc);
        at += piece;
        size -= piece;
    }
    return ~crc;
}

#define POLYNOMIAL 0x82f63b78u /* of CRC32C, reflected */

/* A step of the CRC's register for eight zero bits, and back: the polynomial's top bit tells for each
 * step whether it was added. */
static uint32_t step_back(uint32_t state)
{
    for (int bit = 0; bit < 8; bit++)
        state = state & 0x80000000u ? (state ^ POLYNOMIAL) << 1 | 1 : state << 1;
    return state;
}

uint32_t crc32c_before(uint32_t crc, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    uint32_t state = ~crc;

    while (size > 0)
        state = step_back(state) ^ bytes[--size];
    return ~state;
}
