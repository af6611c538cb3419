/* SPDX-License-Identifier: MIT */
/* test_format.c - what is encoded is decoded, and nothing else is: not in another place, not with a
 * bit changed, not with values out of range, not out of noise. */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "crc32c.h"
#include "format.h"

#define NUMBER_MAX ((uint64_t)1 << 62) /* the highest that there may be */

static const uint8_t uuid[16] = "uuid-of-a-store";
static const uint8_t salt[16] = "salt-of-a-file.";
static const uint8_t attr[WALRUS_ATTR_SIZE] = "attributes";

static const struct super_info super = {
    .compat = 0x11,
    .ro_compat = 0x22,
    .block_size = 1 << 20,
    .blocks_per_file = 100,
    .clean = 1,
    .generation = UINT64_C(0x123456789abcdef0),
    .created_ns = 77,
    .topic_id_next = 12,
    .uuid = "uuid-of-a-store",
};

static const struct file_info file = {
    .number = 7, .block_size = 65536, .blocks_per_file = 4, .salt = "salt-of-a-file."};

static const struct block_info block = {
    .state = FORMAT_ACTIVE,
    .used = 4096,
    .count = 11,
    .generation = 3,
    .epoch = 5,
    .topic_id = 9,
    .block_seq = NUMBER_MAX,
    .first_seq = 1000,
    .first_byte = 50000,
    .bytes = 2222,
    .last_time_ns = 1234567,
};

static const struct record_info record = {
    .flags = FORMAT_MORE,
    .size = 100,
    .total = 100,
    .undurable = 3,
    .data_crc = 0xdeadbeef,
    .seq = 1000,
    .time_ns = UINT64_C(1700000000000000000),
};

static const struct registry_change topic = {
    .kind = REGISTRY_TOPIC,
    .topic_id = 4,
    .retention = {WALRUS_KEEP_AGE, 3600},
    .limit = 1 << 30,
    .created_ns = 99,
    .name = "orders",
    .name_size = 6,
    .attr = attr,
};

static const struct offset_value value = {
    .topic_id = 4,
    .group_id = 2,
    .offset = 1000,
    .range_count = 3,
    .ranges = {{1001, 1002}, {1002, 1010}, {2000, 1000 + (UINT64_C(1) << 32)}},
};

/* Every structure, encoded in `bytes`; decode() gives the result of its decoder. */
struct sample {
    const char *name;
    size_t size;
    int (*decode)(const void *data, size_t size, uint32_t seed);
    uint32_t seed;
    size_t crc_off;
    uint8_t bytes[4096];
};

static int decode_super(const void *data, size_t size, uint32_t seed)
{
    struct super_info info;
    return format_super_decode(data, size, &info);
}

static int decode_file(const void *data, size_t size, uint32_t seed)
{
    struct file_info info;
    return format_file_decode(data, size, seed, &info);
}

static int decode_block(const void *data, size_t size, uint32_t seed)
{
    struct block_info info;
    return format_block_decode(data, size, seed, 65536, &info);
}

/* A record also needs room for its data behind it; `size` is that of the header here. */
static int decode_record(const void *data, size_t size, uint32_t seed)
{
    struct record_info info;
    return format_record_decode(data, size < FORMAT_RECORD_SIZE ? size : 65536 - 4096, seed, 4096,
                                &info);
}

static int decode_registry(const void *data, size_t size, uint32_t seed)
{
    uint8_t got_salt[16];
    uint64_t next;
    return format_registry_decode(data, size, seed, got_salt, &next);
}

static int decode_regrec(const void *data, size_t size, uint32_t seed)
{
    struct registry_change change;
    size_t extent;
    bool more;
    return format_regrec_decode(data, size, seed, &change, &more, &extent);
}

static int decode_slot(const void *data, size_t size, uint32_t seed)
{
    struct offset_value got;
    uint64_t generation;
    return format_slot_decode(data, size, seed, &got, &generation);
}

static struct sample samples[] = {
    {"super", 4096, decode_super, 0, 8, {0}},        {"file", 4096, decode_file, 11, 8, {0}},
    {"block", 128, decode_block, 12, 0, {0}},        {"record", 40, decode_record, 13, 36, {0}},
    {"registry", 4096, decode_registry, 14, 8, {0}}, {"regrec", 192, decode_regrec, 15, 0, {0}},
    {"slot", 512, decode_slot, 16, 0, {0}},
};
enum { SUPER, LOG_FILE, BLOCK, RECORD, REGISTRY, REGREC, SLOT };

static void encode_all(void)
{
    format_super_encode((void *)samples[SUPER].bytes, &super);
    format_file_encode((void *)samples[LOG_FILE].bytes, &file, samples[LOG_FILE].seed);
    format_block_encode((void *)samples[BLOCK].bytes, &block, samples[BLOCK].seed);
    format_record_encode((void *)samples[RECORD].bytes, &record, samples[RECORD].seed, 4096);
    format_registry_encode((void *)samples[REGISTRY].bytes, salt, 9, samples[REGISTRY].seed);
    cr_assert_eq(format_regrec_extent(&topic), samples[REGREC].size);
    format_regrec_encode(samples[REGREC].bytes, &topic, true, samples[REGREC].seed);
    format_slot_encode((void *)samples[SLOT].bytes, &value, 6, samples[SLOT].seed);
}

/* Puts a number of `size` bytes into a sample and makes its CRC right again. */
static void patch(struct sample *sample, size_t off, uint64_t number, size_t size)
{
    struct le64 raw = le64_put(number);
    struct le32 crc = le32_put(sample == &samples[RECORD] ? 4096 : 0);

    memcpy(sample->bytes + off, &raw, size);
    memcpy(sample->bytes + sample->crc_off, &crc, sizeof(crc));
    crc = le32_put(crc32c(sample->seed, sample->bytes, sample->size));
    memcpy(sample->bytes + sample->crc_off, &crc, sizeof(crc));
}

Test(format, accepts_every_structure_that_it_encoded, .init = encode_all)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct sample *s = &samples[i];

        cr_assert_eq(s->decode(s->bytes, s->size, s->seed), 0, "%s", s->name);
        patch(s, s->size - 1, s->bytes[s->size - 1], 1);
        cr_assert_eq(s->decode(s->bytes, s->size, s->seed), 0, "%s, patched", s->name);
    }
}

Test(format, detects_every_single_bit_that_changes, .init = encode_all)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct sample *s = &samples[i];

        for (size_t bit = 0; bit < s->size * 8; bit++) {
            s->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            cr_assert_eq(s->decode(s->bytes, s->size, s->seed), -EBADMSG, "%s, bit %zu", s->name,
                         bit);
            s->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

Test(format, refuses_a_structure_in_another_place, .init = encode_all)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct sample *s = &samples[i];

        if (i != SUPER)
            cr_assert_eq(s->decode(s->bytes, s->size, s->seed + 1), -EBADMSG, "%s", s->name);
    }
    struct record_info info;

    cr_assert_eq(
        format_record_decode(samples[RECORD].bytes, 4096, samples[RECORD].seed, 4096 + 8, &info),
        -EBADMSG);
}

Test(format, refuses_a_structure_that_is_cut_short, .init = encode_all)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct sample *s = &samples[i];

        for (size_t size = 0; size < s->size; size++) {
            uint8_t *exact = malloc(size + 1); /* a read behind `size` + 1 is for the sanitizer */

            memcpy(exact, s->bytes, size);
            cr_assert_eq(s->decode(exact, size, s->seed), -EBADMSG, "%s, %zu bytes", s->name, size);
            free(exact);
        }
    }
}

Test(format, never_accepts_noise_even_with_the_right_magic, .init = encode_all)
{
    unsigned seed = (unsigned)getpid();

    printf("# seed=%u\n", seed);
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        struct sample *s = &samples[i];
        uint8_t noise[4096];
        unsigned accepted = 0;

        for (unsigned round = 0; round < 3000; round++) {
            for (size_t at = 0; at < sizeof(noise); at++)
                noise[at] = (uint8_t)(rand_r(&seed) >> 8);
            memcpy(noise, s->bytes, round % 3 == 0 ? 0 : round % 3 == 1 ? 8 : s->size / 2);
            accepted += s->decode(noise, s->size, s->seed) >= 0;
        }
        cr_assert_eq(accepted, 0, "%s: %u", s->name, accepted);
    }
}

Test(format, leaves_the_output_alone_when_it_refuses, .init = encode_all)
{
    struct record_info info = {.seq = 5}, before = info;
    struct offset_value got = {.offset = 6};
    uint8_t zeros[512] = {0};
    uint64_t generation = 7;

    samples[RECORD].bytes[9] ^= 1;
    cr_assert_eq(format_record_decode(samples[RECORD].bytes, 4096, 13, 4096, &info), -EBADMSG);
    cr_assert_eq(memcmp(&info, &before, sizeof(info)), 0);
    cr_assert_eq(format_slot_decode(zeros, sizeof(zeros), 16, &got, &generation), WALRUS_EMPTY);
    cr_assert_eq(got.offset, 6);
    cr_assert_eq(generation, 7);
}

Test(format, tells_zeros_from_damage_in_blocks_and_slots)
{
    uint8_t bytes[512] = {0};

    cr_assert_eq(decode_block(bytes, 128, 12), WALRUS_EMPTY);
    cr_assert_eq(decode_slot(bytes, 512, 16), WALRUS_EMPTY);
    for (size_t at = 0; at < sizeof(bytes); at++) {
        bytes[at] = 1;
        if (at < 128)
            cr_assert_eq(decode_block(bytes, 128, 12), -EBADMSG, "at %zu", at);
        cr_assert_eq(decode_slot(bytes, 512, 16), -EBADMSG, "at %zu", at);
        bytes[at] = 0;
    }
}

Test(format, says_newer_only_when_the_checksum_holds, .init = encode_all)
{
    patch(&samples[SUPER], offsetof(struct format_super, version), 2, 4);
    cr_assert_eq(decode_super(samples[SUPER].bytes, 4096, 0), -EPROTONOSUPPORT);
    samples[SUPER].bytes[4000] ^= 1;
    cr_assert_eq(decode_super(samples[SUPER].bytes, 4096, 0), -EBADMSG);
    encode_all();
    patch(&samples[SUPER], offsetof(struct format_super, incompat), 1u << 31, 4);
    cr_assert_eq(decode_super(samples[SUPER].bytes, 4096, 0), -EPROTONOSUPPORT);
    patch(&samples[LOG_FILE], offsetof(struct format_file, version), 2, 4);
    cr_assert_eq(decode_file(samples[LOG_FILE].bytes, 4096, 11), -EPROTONOSUPPORT);
    patch(&samples[REGISTRY], offsetof(struct format_registry, version), 2, 4);
    cr_assert_eq(decode_registry(samples[REGISTRY].bytes, 4096, 14), -EPROTONOSUPPORT);
}

Test(format, refuses_values_out_of_range_under_a_good_checksum)
{
    static const struct {
        int sample;
        size_t off, size;
        uint64_t number;
    } cases[] = {
        {SUPER, offsetof(struct format_super, block_size), 4, 0},
        {SUPER, offsetof(struct format_super, block_size), 4, 65536 - 4096},
        {SUPER, offsetof(struct format_super, block_size), 4, 65536 + 512},
        {SUPER, offsetof(struct format_super, block_size), 4, 67108864 + 4096},
        {SUPER, offsetof(struct format_super, blocks_per_file), 4, 0},
        {SUPER, offsetof(struct format_super, blocks_per_file), 4, 225},
        {SUPER, offsetof(struct format_super, clean), 4, 3},
        {LOG_FILE, offsetof(struct format_file, number), 4, 0},
        {LOG_FILE, offsetof(struct format_file, block_size), 4, UINT32_MAX},
        {LOG_FILE, offsetof(struct format_file, blocks_per_file), 4, UINT32_MAX},
        {BLOCK, offsetof(struct format_block, state), 4, 3},
        {BLOCK, offsetof(struct format_block, used), 4, 65536 + 8},
        {BLOCK, offsetof(struct format_block, used), 4, 44},
        {RECORD, offsetof(struct format_record, flags), 2, 8},
        {RECORD, offsetof(struct format_record, size), 4, 65536 - 4096 - 40 + 1},
        {RECORD, offsetof(struct format_record, size), 4, UINT32_MAX},
        {RECORD, offsetof(struct format_record, size), 4, 101}, /* more than `total` */
        {RECORD, offsetof(struct format_record, size), 4, 99},  /* less, in one piece */
        {RECORD, offsetof(struct format_record, total), 4, 101},
        {RECORD, offsetof(struct format_record, undurable), 4, 1001},
        {REGREC, offsetof(struct format_regrec, kind), 2, 0},
        {REGREC, offsetof(struct format_regrec, kind), 2, 6},
        {REGREC, offsetof(struct format_regrec, kind), 2, REGISTRY_STORE}, /* with a name */
        {REGREC, offsetof(struct format_regrec, kind), 2, REGISTRY_GROUP}, /* without a number */
        {REGREC, offsetof(struct format_regrec, size), 4, 184},
        {REGREC, offsetof(struct format_regrec, size), 4, 200},
        {REGREC, offsetof(struct format_regrec, size), 4, UINT32_MAX},
        {REGREC, offsetof(struct format_regrec, flags), 4, 2},
        {REGREC, offsetof(struct format_regrec, topic_id), 8, 0},
        {REGREC, offsetof(struct format_regrec, topic_id), 8, UINT64_MAX},
        {REGREC, offsetof(struct format_regrec, name_size), 4, 0},
        {REGREC, offsetof(struct format_regrec, name_size), 4, 256},
        {REGREC, offsetof(struct format_regrec, name_size), 4, UINT32_MAX - 7},
        {REGREC, offsetof(struct format_regrec, retention_kind), 4, 4},
        {REGREC, sizeof(struct format_regrec) + 2, 1, '/'},
        {REGREC, sizeof(struct format_regrec) + 2, 1, 0},
        {SLOT, offsetof(struct format_slot, range_count), 2, 57},
        {SLOT, offsetof(struct format_slot, range_count), 2, 4}, /* a fourth of zeros */
        {SLOT, offsetof(struct format_slot, ranges), 4, 0},
        {SLOT, offsetof(struct format_slot, ranges), 4, 3}, /* begins within the second */
        {SLOT, offsetof(struct format_slot, ranges) + 4, 4, 2},
        {SLOT, offsetof(struct format_slot, ranges) + 4, 4, 0},
        {SLOT, offsetof(struct format_slot, offset), 8, UINT64_MAX - 5},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct sample *s = &samples[cases[i].sample];

        encode_all();
        patch(s, cases[i].off, cases[i].number, cases[i].size);
        cr_assert_eq(s->decode(s->bytes, s->size, s->seed), -EBADMSG, "case %zu: %s at %zu", i,
                     s->name, cases[i].off);
    }
}

Test(format, gives_back_what_a_super_says, .init = encode_all)
{
    struct super_info got;

    cr_assert_eq(format_super_decode(samples[SUPER].bytes, 4096, &got), 0);
    cr_assert_eq(got.compat, super.compat);
    cr_assert_eq(got.ro_compat, super.ro_compat);
    cr_assert_eq(got.incompat, 0);
    cr_assert_eq(got.block_size, super.block_size);
    cr_assert_eq(got.blocks_per_file, super.blocks_per_file);
    cr_assert_eq(got.clean, 1);
    cr_assert_eq(got.generation, super.generation);
    cr_assert_eq(got.created_ns, super.created_ns);
    cr_assert_eq(got.topic_id_next, super.topic_id_next);
    cr_assert_eq(memcmp(got.uuid, uuid, 16), 0);
}

Test(format, gives_back_what_a_file_and_its_blocks_say, .init = encode_all)
{
    struct file_info got_file;
    struct block_info got;

    cr_assert_eq(format_file_decode(samples[LOG_FILE].bytes, 4096, 11, &got_file), 0);
    cr_assert_eq(memcmp(&got_file, &file, sizeof(file)), 0);
    cr_assert_eq(format_block_decode(samples[BLOCK].bytes, 128, 12, 65536, &got), 0);
    cr_assert_eq(got.state, FORMAT_ACTIVE);
    cr_assert_eq(got.used, block.used);
    cr_assert_eq(got.count, block.count);
    cr_assert_eq(got.generation, block.generation);
    cr_assert_eq(got.epoch, block.epoch);
    cr_assert_eq(got.topic_id, block.topic_id);
    cr_assert_eq(got.block_seq, block.block_seq);
    cr_assert_eq(got.first_seq, block.first_seq);
    cr_assert_eq(got.first_byte, block.first_byte);
    cr_assert_eq(got.bytes, block.bytes);
    cr_assert_eq(got.last_time_ns, block.last_time_ns);
}

Test(format, gives_back_what_a_record_says_with_each_set_of_flags)
{
    for (uint16_t flags = 0; flags <= FORMAT_FLAGS; flags++) {
        struct record_info in = record, got;
        struct format_record raw;

        in.flags = flags;
        if (flags & (FORMAT_PART | FORMAT_CONT))
            in.total = (uint32_t)WALRUS_ENTRY_SIZE_MAX;
        format_record_encode(&raw, &in, 3, 64);
        /* 100 bytes of data and 40 of header, rounded up to 144. */
        cr_assert_eq(format_record_decode(&raw, 144, 3, 64, &got), 0);
        cr_assert_eq(format_record_decode(&raw, 143, 3, 64, &got), -EBADMSG);
        cr_assert_eq(got.flags, flags);
        cr_assert_eq(got.size, in.size);
        cr_assert_eq(got.total, in.total);
        cr_assert_eq(got.undurable, in.undurable);
        cr_assert_eq(got.data_crc, in.data_crc);
        cr_assert_eq(got.seq, in.seq);
        cr_assert_eq(got.time_ns, in.time_ns);
    }
}

Test(format, takes_the_crc_of_a_record_over_its_header_and_its_offset)
{
    struct format_record raw;
    struct le32 off = le32_put(4096);
    uint32_t crc;

    format_record_encode(&raw, &record, 13, 4096);
    crc = crc32c(crc32c(13, &raw, 36), &off, sizeof(off));
    cr_assert_eq(le32_get(raw.crc), crc);
}

Test(format, takes_seeds_over_the_fields_in_the_order_of_the_document)
{
    uint8_t all[64];
    const struct le32 number = le32_put(0x01020304), one = le32_put(1), at = le32_put(77);
    const struct le64 wide = le64_put(UINT64_C(0x1122334455667788));

    memcpy(all, uuid, 16);
    memcpy(all + 16, &number, 4);
    memcpy(all + 20, &one, 4);
    cr_assert_eq(format_seed_file(uuid, 0x01020304, 1), crc32c(0, all, 24));
    cr_assert_eq(format_seed_slot(uuid, 0x01020304, 1), crc32c(0, all, 24));
    cr_assert_eq(format_seed_registry(uuid), crc32c(0, uuid, 16));
    memcpy(all + 16, salt, 16);
    memcpy(all + 32, &number, 4);
    memcpy(all + 36, &at, 4);
    memcpy(all + 40, &one, 4);
    cr_assert_eq(format_seed_block(uuid, salt, 0x01020304, 77, 1), crc32c(0, all, 44));
    memcpy(all + 40, &wide, 8);
    cr_assert_eq(format_seed_record(uuid, salt, 0x01020304, 77, UINT64_C(0x1122334455667788)),
                 crc32c(0, all, 48));
    memcpy(all + 32, &wide, 8);
    cr_assert_eq(format_seed_regrec(uuid, salt, UINT64_C(0x1122334455667788)), crc32c(0, all, 40));
}

Test(format, gives_back_registry_records_of_every_kind_and_length_of_name)
{
    uint8_t bytes[512], name[WALRUS_NAME_SIZE_MAX];
    struct registry_change got;
    size_t extent;
    bool more;

    memset(name, 'n', sizeof(name));
    for (int kind = REGISTRY_TOPIC; kind <= REGISTRY_STORE; kind++) {
        for (size_t size = 1; size <= sizeof(name); size++) {
            bool named = kind == REGISTRY_TOPIC || kind == REGISTRY_GROUP;
            struct registry_change in = {
                .kind = (enum registry_kind)kind,
                .topic_id = kind == REGISTRY_STORE ? 0 : size,
                .group_id = 8,
                .slot = 1000,
                .retention = {WALRUS_KEEP_SIZE, 5},
                .limit = 6,
                .created_ns = 7,
                .name = named ? (const char *)name : NULL,
                .name_size = named ? size : 0,
                .attr = attr,
            };

            format_regrec_encode(bytes, &in, size % 2 == 0, 21);
            cr_assert_eq(format_regrec_decode(bytes, sizeof(bytes), 21, &got, &more, &extent), 0);
            cr_assert_eq(extent, format_regrec_extent(&in));
            cr_assert_eq(extent % 8, 0);
            cr_assert_eq(more, size % 2 == 0);
            cr_assert_eq(got.kind, in.kind);
            cr_assert_eq(got.topic_id, in.topic_id);
            cr_assert_eq(got.name_size, in.name_size);
            if (named) {
                cr_assert_eq(got.created_ns, 7);
                cr_assert_eq(memcmp(got.name, name, size), 0);
                cr_assert_eq(memcmp(got.attr, attr, sizeof(attr)), 0);
            } else {
                cr_assert_null(got.name);
            }
            if (kind == REGISTRY_GROUP)
                cr_assert_eq(got.slot, 1000);
            if (kind == REGISTRY_GROUP || kind == REGISTRY_GROUP_REMOVED)
                cr_assert_eq(got.group_id, 8);
            if (kind == REGISTRY_TOPIC) {
                cr_assert_eq(got.limit, 6);
                cr_assert_eq(got.retention.kind, WALRUS_KEEP_SIZE);
                cr_assert_eq(got.retention.value, 5);
            }
        }
    }
}

Test(format, gives_back_slots_with_every_count_of_ranges)
{
    struct offset_value in = {.topic_id = 1, .group_id = 2, .offset = NUMBER_MAX}, got;
    struct format_slot raw;
    uint64_t generation;

    for (uint32_t count = 0; count <= OFFSETS_RANGE_COUNT_MAX; count++) {
        in.range_count = count;
        for (uint32_t i = 0; i < count; i++) {
            in.ranges[i].first = in.offset + 2 * i + 1;
            in.ranges[i].end = in.ranges[i].first + 1;
        }
        format_slot_encode(&raw, &in, count, 5);
        cr_assert_eq(format_slot_decode(&raw, sizeof(raw), 5, &got, &generation), 0);
        cr_assert_eq(generation, count);
        cr_assert_eq(got.topic_id, 1);
        cr_assert_eq(got.group_id, 2);
        cr_assert_eq(got.offset, in.offset);
        cr_assert_eq(got.range_count, count);
        cr_assert_eq(memcmp(got.ranges, in.ranges, count * sizeof(in.ranges[0])), 0);
    }
}

Test(format, refuses_numbers_with_which_sums_could_wrap_around_and_still_encodes_them)
{
    struct offset_value in = {.topic_id = 1, .group_id = 2, .offset = NUMBER_MAX + 1}, got;
    struct record_info far = {.seq = NUMBER_MAX + 1}, got_record;
    struct block_info wrong = block, got_block;
    struct format_slot slot;
    struct format_record raw_record;
    struct format_block raw;
    uint64_t generation;

    /* A store that was forged to stand at the end goes beyond it with its next entry. */
    format_slot_encode(&slot, &in, 1, 5);
    cr_assert_eq(format_slot_decode(&slot, sizeof(slot), 5, &got, &generation), -EBADMSG);
    in.offset = 1;
    format_slot_encode(&slot, &in, NUMBER_MAX + 1, 5);
    cr_assert_eq(format_slot_decode(&slot, sizeof(slot), 5, &got, &generation), -EBADMSG);
    wrong.first_seq = NUMBER_MAX + 1;
    format_block_encode(&raw, &wrong, 1);
    cr_assert_eq(format_block_decode(&raw, sizeof(raw), 1, FORMAT_BLOCK_SIZE_MAX, &got_block),
                 -EBADMSG);
    format_record_encode(&raw_record, &far, 1, 0);
    cr_assert_eq(format_record_decode(&raw_record, sizeof(raw_record), 1, 0, &got_record),
                 -EBADMSG);
    far.seq = NUMBER_MAX;
    format_record_encode(&raw_record, &far, 1, 0);
    cr_assert_eq(format_record_decode(&raw_record, sizeof(raw_record), 1, 0, &got_record), 0);
}

Test(format, stops_the_process_rather_than_encode_what_it_would_refuse, .signal = SIGABRT)
{
    struct block_info wrong = block;
    struct format_block raw;

    wrong.state = 9;
    format_block_encode(&raw, &wrong, 1);
}
