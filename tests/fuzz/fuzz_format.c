/* SPDX-License-Identifier: MIT */
/*
 * fuzz_format.c - the decoders of format.h, the requests of the mount and the texts of its files, with
 * any bytes.
 *
 * The first byte chooses; with its top bit set the checksum is made right first, so that what lies
 * behind it is reached.  What a decoder accepts its encoder must write back the same.
 */
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "format.h"
#include "names.h"
#include "record.h"
#include "rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t uuid[16] = {1}, salt[16] = {2};

/* The bytes as a structure of `want` bytes, zero where they end; its CRC at `crc_off` made right. */
static void take(const uint8_t *data, size_t size, void *ret_raw, size_t want, bool fix,
                 size_t crc_off, uint32_t seed)
{
    uint8_t *raw = ret_raw;
    static const struct le32 zero;
    memset(raw, 0, want);
    memcpy(raw, data, size < want ? size : want);
    if (!fix)
        return;
    memcpy(raw + crc_off, &zero, sizeof(zero));
    struct le32 crc = le32_put(crc32c(seed, raw, want));
    memcpy(raw + crc_off, &crc, sizeof(crc));
}

static void super(const uint8_t *data, size_t size, bool fix)
{
    struct format_super raw, again;
    struct super_info info;
    take(data, size, &raw, sizeof(raw), fix, offsetof(struct format_super, crc), 0);
    memcpy(raw.magic, "WALRUSFS", 8);
    if (fix)
        take((uint8_t *)&raw, sizeof(raw), &again, sizeof(again), true,
             offsetof(struct format_super, crc), 0);
    if (format_super_decode(fix ? &again : &raw, sizeof(raw), &info) == 0)
        format_super_encode(&raw, &info); /* which decodes it and compares */
}

static void block(const uint8_t *data, size_t size, bool fix)
{
    struct format_block raw;
    struct block_info info;
    take(data, size, &raw, sizeof(raw), fix, offsetof(struct format_block, crc), 7);
    if (format_block_decode(&raw, sizeof(raw), 7, 65536, &info) == 0)
        format_block_encode(&raw, &info, 7);
}

static void slot(const uint8_t *data, size_t size, bool fix)
{
    struct format_slot raw;
    struct offset_value value;
    uint64_t generation;
    take(data, size, &raw, sizeof(raw), fix, offsetof(struct format_slot, crc), 7);
    if (format_slot_decode(&raw, sizeof(raw), 7, &value, &generation) == 0)
        format_slot_encode(&raw, &value, generation, 7);
}

static void record(const uint8_t *data, size_t size, bool fix)
{
    struct format_record raw, again;
    struct record_info info;
    take(data, size, &raw, sizeof(raw), false, 0, 0);
    if (fix) {
        raw.crc = le32_put(64);
        raw.crc = le32_put(crc32c(7, &raw, sizeof(raw)));
    }
    if (format_record_decode(&raw, 65536, 7, 64, &info) < 0)
        return;
    CHECK(format_record_extent(info.size) <= 65536);
    format_record_encode(&again, &info, 7, 64);
    CHECK(memcmp(&raw, &again, sizeof(raw)) == 0);
}

static void registry_record(const uint8_t *data, size_t size, bool fix)
{
    uint8_t *raw = malloc(size + 1), back[512];
    struct registry_change change;
    size_t extent;
    bool more;
    CHECK(raw != NULL);
    memcpy(raw, data, size);
    uint32_t seed = format_seed_regrec(uuid, salt, 8192);
    struct format_regrec head;
    if (fix && size >= sizeof(head)) {
        memcpy(&head, raw, sizeof(head));
        uint32_t whole = le32_get(head.size);
        if (whole >= sizeof(head) && whole <= size) {
            head.crc = le32_put(0);
            memcpy(raw, &head, sizeof(head));
            head.crc = le32_put(crc32c(seed, raw, whole));
            memcpy(raw, &head, sizeof(head));
        }
    }
    if (format_regrec_decode(raw, size, seed, &change, &more, &extent) == 0) {
        CHECK(extent <= size && extent <= sizeof(back));
        CHECK(!change.name || memchr(change.name, 0, change.name_size) == NULL);
        format_regrec_encode(back, &change, more, seed);
    }
    free(raw);
}

static void batch(const uint8_t *data, size_t size)
{
    struct iovec *entries;
    uint64_t *times;
    size_t count, total = 0;
    if (record_parse(data, size, &entries, &times, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        CHECK((uint8_t *)entries[i].iov_base >= data &&
              (uint8_t *)entries[i].iov_base + entries[i].iov_len <= data + size);
        total += record_size(entries[i].iov_len);
    }
    CHECK_INT(total, size);
    free(entries);
    free(times);
}

static void texts(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    enum walrus_whence whence;
    struct walrus_retention retention, again;
    uint64_t value;
    char out[64], name[64] = "", escaped[NAMES_ESCAPED_SIZE];
    enum kind kind;
    (void)!names_parse_number(text, size, &value);
    (void)!names_parse_size(text, size, &value);
    (void)!names_parse_limit(text, size, &value);
    (void)!names_parse_seek(text, size, &whence, &value);
    if (names_parse_retention(text, size, &retention) == 0) {
        names_format_retention(&retention, out, sizeof(out));
        CHECK_INT(names_parse_retention(out, strlen(out), &again), 0);
        CHECK(again.kind == retention.kind && again.value == retention.value);
    }
    memcpy(name, data, size < 63 ? size : 63);
    names_escape(name, size % 2, escaped, sizeof(escaped));
    for (kind = KIND_ROOT; kind < KIND_COUNT; kind++)
        (void)!names_find_fixed(kind, name, &(enum kind){0});
    (void)!walrus_name_check(text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t choice = data[0] & 0x7f;
    bool fix = data[0] & 0x80;
    data++;
    size--;
    switch (choice % 7) {
    case 0:
        super(data, size, fix);
        break;
    case 1:
        block(data, size, fix);
        break;
    case 2:
        slot(data, size, fix);
        break;
    case 3:
        record(data, size, fix);
        break;
    case 4:
        registry_record(data, size, fix);
        break;
    case 5:
        batch(data, size);
        break;
    default:
        texts(data, size);
    }
    return 0;
}
