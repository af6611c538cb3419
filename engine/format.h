/* SPDX-License-Identifier: MIT */
/*
 * format.h - the only declaration of what lies on disk (docs/disk-format.md), and its encoding.
 *
 * Pure: bytes in, bytes out; no I/O, no locks, no allocation.  Serves store, recover, registry and
 * offsets.  Encoders check what they wrote by decoding it.  Decoders take (pointer, size), load
 * each field once, check it, and trust nothing: 0, -EBADMSG (checksum or a value out of range),
 * -EPROTONOSUPPORT (newer), or a positive outcome where a comment says so.
 *
 * The sizes and offsets below are held to the tables of the document by scripts/check-format.
 */
#ifndef WALRUS_FORMAT_H
#define WALRUS_FORMAT_H

#include "bytes.h"
#include "compiler.h"
#include "offsets.h"
#include "registry.h"

#define FORMAT_VERSION             1
#define FORMAT_INCOMPAT_KNOWN      0u
#define FORMAT_RO_COMPAT_KNOWN     0u
#define FORMAT_PAGE_SIZE           4096u
#define FORMAT_BLOCK_SIZE_MIN      65536u
#define FORMAT_BLOCK_SIZE_MAX      67108864u
#define FORMAT_BLOCK_SIZE_DEFAULT  10485760u
#define FORMAT_FILE_BLOCKS_MAX     224u
#define FORMAT_FILE_BLOCKS_DEFAULT 100u
#define FORMAT_FILE_META_SIZE      65536u /* before block 0 of a log file */
#define FORMAT_TABLE_OFF(copy)     ((copy) == 0 ? 4096u : 32768u)
#define FORMAT_HEADER_OFF(copy)    ((copy) == 0 ? 0u : 61440u)
#define FORMAT_RECORD_SIZE         40u /* header of a record */
#define FORMAT_RECORD_ALIGN        8u

enum { FORMAT_FREE = 0, FORMAT_ACTIVE = 1, FORMAT_SEALED = 2 }; /* state of a block */
enum {
    FORMAT_MORE = 1,
    FORMAT_PART = 2,
    FORMAT_CONT = 4,
    FORMAT_FLAGS = 7
}; /* flags of a record */

/* SUPER's `clean`. */
enum {
    FORMAT_IN_USE = 0, /* or its user died, or a sync failed */
    FORMAT_CLOSED = 1,
    FORMAT_OPENING = 2, /* was closed; since then an opening has begun, and nothing was appended */
};

struct format_super {
    uint8_t magic[8];
    struct le32 crc, version, compat, ro_compat, incompat, block_size, blocks_per_file, clean;
    struct le64 generation;
    uint8_t uuid[16];
    struct le64 created_ns, topic_id_next, digest;
    uint8_t reserved[4008];
};

struct format_file {
    uint8_t magic[8];
    struct le32 crc, version, number, block_size, blocks_per_file, unused;
    uint8_t salt[16];
    uint8_t reserved[4048];
};

struct format_block {
    struct le32 crc, state;
    struct le64 generation, epoch, topic_id, block_seq, first_seq, first_byte;
    struct le32 used, count;
    struct le64 bytes, last_time_ns;
    uint8_t reserved[48];
};

struct format_record {
    struct le16 magic, flags;
    struct le32 size;
    struct le64 seq, time_ns;
    struct le32 total, undurable, data_crc, crc;
};

struct format_registry {
    uint8_t magic[8];
    struct le32 crc, version;
    uint8_t salt[16];
    struct le64 topic_id_next;
    uint8_t reserved[4056];
};

struct format_regrec {
    struct le32 crc;
    struct le16 magic, kind;
    struct le32 size, flags;
    struct le64 topic_id, group_id;
    struct le32 slot, name_size, retention_kind, unused;
    struct le64 retention_value, limit, created_ns;
    uint8_t attr[64];
    uint8_t reserved[48];
};

struct format_range {
    struct le32 start, count;
};

struct format_slot {
    struct le32 crc;
    struct le16 magic, range_count;
    struct le64 generation, topic_id, group_id, offset;
    uint8_t reserved[24];
    struct format_range ranges[OFFSETS_RANGE_COUNT_MAX];
};

/* The same, decoded. */
struct super_info {
    uint32_t compat, ro_compat, incompat, block_size, blocks_per_file, clean;
    uint64_t generation, created_ns, topic_id_next, digest;
    uint8_t uuid[16];
};

struct file_info {
    uint32_t number, block_size, blocks_per_file;
    uint8_t salt[16];
};

struct block_info {
    uint32_t state, used, count;
    uint64_t generation, epoch, topic_id, block_seq, first_seq, first_byte, bytes, last_time_ns;
};

struct record_info {
    uint16_t flags;
    uint32_t size, total, undurable, data_crc;
    uint64_t seq, time_ns;
};

uint32_t format_seed_file(const uint8_t uuid[16], uint32_t number, uint32_t copy);
uint32_t format_seed_block(const uint8_t uuid[16], const uint8_t salt[16], uint32_t number,
                           uint32_t block, uint32_t copy);
uint32_t format_seed_record(const uint8_t uuid[16], const uint8_t salt[16], uint32_t number,
                            uint32_t block, uint64_t epoch);
uint32_t format_seed_registry(const uint8_t uuid[16]);
uint32_t format_seed_regrec(const uint8_t uuid[16], const uint8_t salt[16], uint64_t off);
uint32_t format_seed_slot(const uint8_t uuid[16], uint32_t slot, uint32_t copy);

/* What goes into the digest of SUPER, a sum over the metadata: `value` is how far thing number
 * `which` of its kind has come; 0 adds nothing. */
enum format_digest_kind { FORMAT_DIGEST_BLOCK, FORMAT_DIGEST_SLOT, FORMAT_DIGEST_REGISTRY };
uint64_t format_digest(enum format_digest_kind kind, uint64_t which, uint64_t value);

void format_super_encode(struct format_super *out, const struct super_info *info);
/* Also -EPROTONOSUPPORT for a version or incompat bits that are not known, when the CRC holds. */
WALRUS_CHECK int format_super_decode(const void *data, size_t size, struct super_info *ret_info);

void format_file_encode(struct format_file *out, const struct file_info *info, uint32_t seed);
WALRUS_CHECK int format_file_decode(const void *data, size_t size, uint32_t seed,
                                    struct file_info *ret_info);

void format_block_encode(struct format_block *out, const struct block_info *info, uint32_t seed);
/* WALRUS_EMPTY: all bytes are zero.  `block_size` bounds `used`. */
WALRUS_CHECK int format_block_decode(const void *data, size_t size, uint32_t seed,
                                     uint32_t block_size, struct block_info *ret_info);

/* `off`: of the record in its block. */
void format_record_encode(struct format_record *out, const struct record_info *info, uint32_t seed,
                          uint32_t off);
/* `size`: bytes from the record to the end of its block; the header's own size is checked against
 * it, flags and total too (total >= size; without PART and CONT they are equal). */
WALRUS_CHECK int format_record_decode(const void *data, size_t size, uint32_t seed, uint32_t off,
                                      struct record_info *ret_info);

/* Bytes that a record with `size` bytes of data takes. */
static inline uint64_t format_record_extent(uint64_t size)
{
    return round_up(FORMAT_RECORD_SIZE + size, FORMAT_RECORD_ALIGN);
}

void format_registry_encode(struct format_registry *out, const uint8_t salt[16],
                            uint64_t topic_id_next, uint32_t seed);
WALRUS_CHECK int format_registry_decode(const void *data, size_t size, uint32_t seed,
                                        uint8_t ret_salt[16], uint64_t *ret_topic_id_next);

/* Bytes that a record of the registry takes. */
size_t format_regrec_extent(const struct registry_change *change);
/* Writes format_regrec_extent(change) bytes. */
void format_regrec_encode(void *out, const struct registry_change *change, bool more,
                          uint32_t seed);
/* The name and attr of *ret_change point into `data`. */
WALRUS_CHECK int format_regrec_decode(const void *data, size_t size, uint32_t seed,
                                      struct registry_change *ret_change, bool *ret_more,
                                      size_t *ret_extent);

/* The value must fit (offsets_store checks it). */
void format_slot_encode(struct format_slot *out, const struct offset_value *value,
                        uint64_t generation, uint32_t seed);
/* WALRUS_EMPTY: all bytes are zero. */
WALRUS_CHECK int format_slot_decode(const void *data, size_t size, uint32_t seed,
                                    struct offset_value *ret_value, uint64_t *ret_generation);

#endif
