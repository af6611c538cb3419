/* SPDX-License-Identifier: MIT */
/*
 * crc32c.c - the checksum, by ISA-L's fastest routine for the machine at hand; that of a header or of
 * a line by the processor's own instruction, because ISA-L takes 16 to 40 ns for less than 256 bytes,
 * of which the instruction needs a third.
 *
 * Serves format, guard and the readers.  Pure: no state, any thread, cannot fail.
 *
 * ISA-L's crc32_iscsi inverts neither at the start nor at the end, so both are done here; with both
 * in place a finished CRC is itself the seed of what follows.  It also takes its length as an int,
 * hence the pieces.
 */
#include "crc32c.h"

#include <isa-l/crc.h>
#include <string.h>
#ifdef __x86_64__
#include <nmmintrin.h>
#endif

#include "compiler.h"

#define PIECE_SIZE ((size_t)1 << 30)

#ifdef __x86_64__
#define SHORT_SIZE 240u

__attribute__((target("sse4.2"))) static uint32_t crc_short(uint32_t crc, const uint8_t *at,
                                                            size_t size)
{
    uint64_t wide = crc, eight;

    for (; size >= sizeof(eight); size -= sizeof(eight), at += sizeof(eight)) {
        memcpy(&eight, at, sizeof(eight));
        wide = _mm_crc32_u64(wide, eight);
    }
    crc = (uint32_t)wide;
    while (size-- > 0)
        crc = _mm_crc32_u8(crc, *at++);
    return crc;
}
#endif

uint32_t crc32c(uint32_t seed, const void *data, size_t size)
{
#ifdef __x86_64__
    if (size < SHORT_SIZE && __builtin_cpu_supports("sse4.2"))
        return ~crc_short(~seed, data, size);
#endif
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
