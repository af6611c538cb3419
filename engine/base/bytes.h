/* SPDX-License-Identifier: MIT */
/*
 * bytes.h - little endian numbers as they lie on disk.
 *
 * A struct with one byte array each: alignment 1, so structs of them need no `packed`, and a
 * conversion that was forgotten does not compile.  (The idea is systemd-journald's le64_t.)
 */
#ifndef WALRUS_BASE_BYTES_H
#define WALRUS_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

struct le16 {
    uint8_t b[2];
};
struct le32 {
    uint8_t b[4];
};
struct le64 {
    uint8_t b[8];
};

#define DEFINE_LE(bits)                                                                            \
    static inline uint##bits##_t le##bits##_get(struct le##bits v)                                 \
    {                                                                                              \
        uint##bits##_t raw;                                                                        \
        memcpy(&raw, v.b, sizeof(raw));                                                            \
        return le##bits##toh(raw);                                                                 \
    }                                                                                              \
    static inline struct le##bits le##bits##_put(uint##bits##_t value)                             \
    {                                                                                              \
        struct le##bits v;                                                                         \
        uint##bits##_t raw = htole##bits(value);                                                   \
        memcpy(v.b, &raw, sizeof(raw));                                                            \
        return v;                                                                                  \
    }

DEFINE_LE(16)
DEFINE_LE(32)
DEFINE_LE(64)
#undef DEFINE_LE

#endif
