/* SPDX-License-Identifier: MIT */
/*
 * format.c - encodes and decodes what lies on disk; docs/disk-format.md says what the bytes mean.
 *
 * Serves store, recover, registry and offsets; uses crc32c.  Pure functions: any thread, no locks,
 * no I/O, no allocation.  A decoder copies the structure into a local before it looks at it, so
 * what was checked is what is used even when somebody else can write to the source.  It never fails
 * in any other way than by its result.  An encoder that was handed values which its own decoder
 * would refuse is our mistake and stops the process, before the bytes can reach a disk; only the
 * header of a record, which is made for every entry, goes without that check.
 *
 * The checksum is compared before any field but the magic is believed, except where a length
 * decides how many bytes it covers.  Reserved bytes are covered by it but not otherwise looked at,
 * so that a later version can give them a meaning that this one may ignore.
 */
#include "format.h"

#include <assert.h>
#include <errno.h>

#include "crc32c.h"

#define RECORD_MAGIC 0x57a1u
#define REGREC_MAGIC 0x57a2u
#define SLOT_MAGIC   0x57a3u
#define REGREC_MORE  1u /* flag of a record of the registry */
#define REGREC_ALIGN 8u
#define UUID_SIZE    16u
#define SALT_SIZE    16u
#define MAGIC_SIZE   8u
/* Greater ones, with which the sums of a store could wrap around, are in none that was written. */
#define NUMBER_MAX ((uint64_t)1 << 62)
#define EPOCH_MAX  (UINT64_MAX - NUMBER_MAX)

static const uint8_t super_magic[MAGIC_SIZE] = {'W', 'A', 'L', 'R', 'U', 'S', 'F', 'S'};
static const uint8_t file_magic[MAGIC_SIZE] = {'W', 'A', 'L', 'R', 'U', 'S', 'L', 'F'};
static const uint8_t registry_magic[MAGIC_SIZE] = {'W', 'A', 'L', 'R', 'U', 'S', 'T', 'P'};

static_assert(sizeof(struct format_record) == FORMAT_RECORD_SIZE, "header of a record");
static_assert(sizeof(((struct format_regrec *)0)->attr) == WALRUS_ATTR_SIZE, "attributes");
static_assert(offsetof(struct format_record, crc) == FORMAT_RECORD_SIZE - sizeof(struct le32),
              "the offset of a record takes the place of its CRC, at the end");

/* ------------------------------------------------------------------------- checksums and seeds --
 */

static uint32_t seed_u32(uint32_t seed, uint32_t value)
{
    struct le32 raw = le32_put(value);

    return crc32c(seed, &raw, sizeof(raw));
}

static uint32_t seed_u64(uint32_t seed, uint64_t value)
{
    struct le64 raw = le64_put(value);

    return crc32c(seed, &raw, sizeof(raw));
}

/* The CRC of a structure whose CRC field, at `crc_off`, counts as zero. */
static uint32_t checksum(uint32_t seed, const void *data, size_t size, size_t crc_off)
{
    const uint8_t *bytes = data;
    size_t rest_off = crc_off + sizeof(struct le32);

    seed = crc32c(seed, bytes, crc_off);
    seed = seed_u32(seed, 0);
    return crc32c(seed, bytes + rest_off, size - rest_off);
}

static bool all_zero(const void *data, size_t size)
{
    const uint8_t *bytes = data;

    /* Every byte equals the one before it, and the first is zero. */
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

uint32_t format_seed_file(const uint8_t uuid[16], uint32_t number, uint32_t copy)
{
    return seed_u32(seed_u32(crc32c(0, uuid, UUID_SIZE), number), copy);
}

uint32_t format_seed_block(const uint8_t uuid[16], const uint8_t salt[16], uint32_t number,
                           uint32_t block, uint32_t copy)
{
    uint32_t seed = crc32c(crc32c(0, uuid, UUID_SIZE), salt, SALT_SIZE);

    return seed_u32(seed_u32(seed_u32(seed, number), block), copy);
}

uint32_t format_seed_record(const uint8_t uuid[16], const uint8_t salt[16], uint32_t number,
                            uint32_t block, uint64_t epoch)
{
    uint32_t seed = crc32c(crc32c(0, uuid, UUID_SIZE), salt, SALT_SIZE);

    return seed_u64(seed_u32(seed_u32(seed, number), block), epoch);
}

uint32_t format_seed_registry(const uint8_t uuid[16])
{
    return crc32c(0, uuid, UUID_SIZE);
}

uint32_t format_seed_regrec(const uint8_t uuid[16], const uint8_t salt[16], uint64_t off)
{
    return seed_u64(crc32c(crc32c(0, uuid, UUID_SIZE), salt, SALT_SIZE), off);
}

uint32_t format_seed_slot(const uint8_t uuid[16], uint32_t slot, uint32_t copy)
{
    return seed_u32(seed_u32(crc32c(0, uuid, UUID_SIZE), slot), copy);
}

uint64_t format_digest(enum format_digest_kind kind, uint64_t which, uint64_t value)
{
    const struct le64 fields[] = {le64_put(which), le64_put(value)};
    uint32_t low, high;

    if (value == 0)
        return 0;
    /* Two CRCs of different seeds, mixed: a CRC alone is linear, and sums of it would be too. */
    low = crc32c((uint32_t)kind, fields, sizeof(fields));
    high = crc32c(~(uint32_t)kind, fields, sizeof(fields));
    return ((uint64_t)high << 32 | low) * 0x9e3779b97f4a7c15u ^ (value + which);
}

/* ------------------------------------------------------------------------------------- SUPER -- */

static bool geometry_ok(uint32_t block_size, uint32_t blocks_per_file)
{
    return block_size >= FORMAT_BLOCK_SIZE_MIN && block_size <= FORMAT_BLOCK_SIZE_MAX &&
           block_size % FORMAT_PAGE_SIZE == 0 && blocks_per_file >= 1 &&
           blocks_per_file <= FORMAT_FILE_BLOCKS_MAX;
}

void format_super_encode(struct format_super *out, const struct super_info *info)
{
    struct super_info back;

    memset(out, 0, sizeof(*out));
    memcpy(out->magic, super_magic, sizeof(out->magic));
    out->version = le32_put(FORMAT_VERSION);
    out->compat = le32_put(info->compat);
    out->ro_compat = le32_put(info->ro_compat);
    out->incompat = le32_put(info->incompat);
    out->block_size = le32_put(info->block_size);
    out->blocks_per_file = le32_put(info->blocks_per_file);
    out->clean = le32_put(info->clean);
    out->generation = le64_put(info->generation);
    memcpy(out->uuid, info->uuid, sizeof(out->uuid));
    out->created_ns = le64_put(info->created_ns);
    out->topic_id_next = le64_put(info->topic_id_next);
    out->digest = le64_put(info->digest);
    out->crc = le32_put(checksum(0, out, sizeof(*out), offsetof(struct format_super, crc)));

    WALRUS_ASSERT(format_super_decode(out, sizeof(*out), &back) == 0);
    WALRUS_ASSERT(back.compat == info->compat && back.ro_compat == info->ro_compat);
    WALRUS_ASSERT(back.incompat == info->incompat && back.block_size == info->block_size);
    WALRUS_ASSERT(back.blocks_per_file == info->blocks_per_file && back.clean == info->clean);
    WALRUS_ASSERT(back.generation == info->generation && back.created_ns == info->created_ns);
    WALRUS_ASSERT(back.topic_id_next == info->topic_id_next && back.digest == info->digest);
    WALRUS_ASSERT(memcmp(back.uuid, info->uuid, sizeof(back.uuid)) == 0);
}

int format_super_decode(const void *data, size_t size, struct super_info *ret_info)
{
    struct format_super raw;
    struct super_info info;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (memcmp(raw.magic, super_magic, sizeof(raw.magic)) != 0)
        return -EBADMSG;
    if (checksum(0, &raw, sizeof(raw), offsetof(struct format_super, crc)) != le32_get(raw.crc))
        return -EBADMSG;
    if (le32_get(raw.version) != FORMAT_VERSION ||
        (le32_get(raw.incompat) & ~FORMAT_INCOMPAT_KNOWN) != 0)
        return -EPROTONOSUPPORT;

    info.compat = le32_get(raw.compat);
    info.ro_compat = le32_get(raw.ro_compat);
    info.incompat = le32_get(raw.incompat);
    info.block_size = le32_get(raw.block_size);
    info.blocks_per_file = le32_get(raw.blocks_per_file);
    info.clean = le32_get(raw.clean);
    info.generation = le64_get(raw.generation);
    info.created_ns = le64_get(raw.created_ns);
    info.topic_id_next = le64_get(raw.topic_id_next);
    info.digest = le64_get(raw.digest);
    memcpy(info.uuid, raw.uuid, sizeof(info.uuid));
    if (!geometry_ok(info.block_size, info.blocks_per_file) || info.clean > FORMAT_OPENING)
        return -EBADMSG;
    *ret_info = info;
    return 0;
}

/* --------------------------------------------------------------------------------- log files -- */

void format_file_encode(struct format_file *out, const struct file_info *info, uint32_t seed)
{
    struct file_info back;

    memset(out, 0, sizeof(*out));
    memcpy(out->magic, file_magic, sizeof(out->magic));
    out->version = le32_put(FORMAT_VERSION);
    out->number = le32_put(info->number);
    out->block_size = le32_put(info->block_size);
    out->blocks_per_file = le32_put(info->blocks_per_file);
    memcpy(out->salt, info->salt, sizeof(out->salt));
    out->crc = le32_put(checksum(seed, out, sizeof(*out), offsetof(struct format_file, crc)));

    WALRUS_ASSERT(format_file_decode(out, sizeof(*out), seed, &back) == 0);
    WALRUS_ASSERT(back.number == info->number && back.block_size == info->block_size);
    WALRUS_ASSERT(back.blocks_per_file == info->blocks_per_file);
    WALRUS_ASSERT(memcmp(back.salt, info->salt, sizeof(back.salt)) == 0);
}

int format_file_decode(const void *data, size_t size, uint32_t seed, struct file_info *ret_info)
{
    struct format_file raw;
    struct file_info info;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (memcmp(raw.magic, file_magic, sizeof(raw.magic)) != 0)
        return -EBADMSG;
    if (checksum(seed, &raw, sizeof(raw), offsetof(struct format_file, crc)) != le32_get(raw.crc))
        return -EBADMSG;
    if (le32_get(raw.version) != FORMAT_VERSION)
        return -EPROTONOSUPPORT;

    info.number = le32_get(raw.number);
    info.block_size = le32_get(raw.block_size);
    info.blocks_per_file = le32_get(raw.blocks_per_file);
    memcpy(info.salt, raw.salt, sizeof(info.salt));
    if (!geometry_ok(info.block_size, info.blocks_per_file) || info.number == 0)
        return -EBADMSG;
    *ret_info = info;
    return 0;
}

static int block_parse(const void *data, size_t size, uint32_t seed, uint32_t block_size,
                       struct block_info *ret_info)
{
    struct format_block raw;
    struct block_info info;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (all_zero(&raw, sizeof(raw)))
        return WALRUS_EMPTY;
    if (checksum(seed, &raw, sizeof(raw), offsetof(struct format_block, crc)) != le32_get(raw.crc))
        return -EBADMSG;

    info.state = le32_get(raw.state);
    info.used = le32_get(raw.used);
    info.count = le32_get(raw.count);
    info.generation = le64_get(raw.generation);
    info.epoch = le64_get(raw.epoch);
    info.topic_id = le64_get(raw.topic_id);
    info.block_seq = le64_get(raw.block_seq);
    info.first_seq = le64_get(raw.first_seq);
    info.first_byte = le64_get(raw.first_byte);
    info.bytes = le64_get(raw.bytes);
    info.last_time_ns = le64_get(raw.last_time_ns);
    if (info.state > FORMAT_SEALED || info.used > block_size ||
        info.used % FORMAT_RECORD_ALIGN != 0)
        return -EBADMSG;
    *ret_info = info;
    return 0;
}

void format_block_encode(struct format_block *out, const struct block_info *info, uint32_t seed)
{
    struct block_info back;

    memset(out, 0, sizeof(*out));
    out->state = le32_put(info->state);
    out->generation = le64_put(info->generation);
    out->epoch = le64_put(info->epoch);
    out->topic_id = le64_put(info->topic_id);
    out->block_seq = le64_put(info->block_seq);
    out->first_seq = le64_put(info->first_seq);
    out->first_byte = le64_put(info->first_byte);
    out->used = le32_put(info->used);
    out->count = le32_put(info->count);
    out->bytes = le64_put(info->bytes);
    out->last_time_ns = le64_put(info->last_time_ns);
    out->crc = le32_put(checksum(seed, out, sizeof(*out), offsetof(struct format_block, crc)));

    WALRUS_ASSERT(block_parse(out, sizeof(*out), seed, FORMAT_BLOCK_SIZE_MAX, &back) == 0);
    WALRUS_ASSERT(back.state == info->state && back.generation == info->generation);
    WALRUS_ASSERT(back.epoch == info->epoch && back.topic_id == info->topic_id);
    WALRUS_ASSERT(back.block_seq == info->block_seq && back.first_seq == info->first_seq);
    WALRUS_ASSERT(back.first_byte == info->first_byte && back.used == info->used);
    WALRUS_ASSERT(back.count == info->count && back.bytes == info->bytes);
    WALRUS_ASSERT(back.last_time_ns == info->last_time_ns);
}

/* Against NUMBER_MAX only what was read is held: a store that was forged to stand just below it can be
 * written to, and does not end the process that does. */
static bool block_plausible(const struct block_info *info)
{
    if (info->epoch > EPOCH_MAX || info->generation > NUMBER_MAX)
        return false;
    if (info->state == FORMAT_FREE)
        return true;
    return info->topic_id != 0 && info->topic_id != UINT64_MAX && info->block_seq <= NUMBER_MAX &&
           info->first_seq <= NUMBER_MAX && info->first_byte <= NUMBER_MAX &&
           info->bytes <= NUMBER_MAX;
}

int format_block_decode(const void *data, size_t size, uint32_t seed, uint32_t block_size,
                        struct block_info *ret_info)
{
    struct block_info info;
    int r = block_parse(data, size, seed, block_size, &info);

    if (r != 0)
        return r;
    if (!block_plausible(&info))
        return -EBADMSG;
    *ret_info = info;
    return 0;
}

/* ----------------------------------------------------------------------------------- records -- */

void format_record_encode(struct format_record *out, const struct record_info *info, uint32_t seed,
                          uint32_t off)
{
    *out = (struct format_record){
        .magic = le16_put(RECORD_MAGIC),
        .flags = le16_put(info->flags),
        .size = le32_put(info->size),
        .seq = le64_put(info->seq),
        .time_ns = le64_put(info->time_ns),
        .total = le32_put(info->total),
        .undurable = le32_put(info->undurable),
        .data_crc = le32_put(info->data_crc),
        .crc = le32_put(off), /* stands in for the CRC while that is taken */
    };

    out->crc = le32_put(crc32c(seed, out, sizeof(*out)));
}

int format_record_decode(const void *data, size_t size, uint32_t seed, uint32_t off,
                         struct record_info *ret_info)
{
    struct format_record raw;
    struct record_info info;
    uint32_t crc;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (le16_get(raw.magic) != RECORD_MAGIC)
        return -EBADMSG;
    info.flags = le16_get(raw.flags);
    info.size = le32_get(raw.size);
    info.total = le32_get(raw.total);
    if (info.flags > FORMAT_FLAGS || info.total < info.size || info.total > WALRUS_ENTRY_SIZE_MAX ||
        format_record_extent(info.size) > size)
        return -EBADMSG;
    if ((info.flags & (FORMAT_PART | FORMAT_CONT)) == 0 && info.total != info.size)
        return -EBADMSG;
    crc = le32_get(raw.crc);
    raw.crc = le32_put(off);
    if (crc32c(seed, &raw, sizeof(raw)) != crc)
        return -EBADMSG;

    info.seq = le64_get(raw.seq);
    info.time_ns = le64_get(raw.time_ns);
    info.undurable = le32_get(raw.undurable);
    info.data_crc = le32_get(raw.data_crc);
    if (info.undurable > info.seq || info.seq > NUMBER_MAX)
        return -EBADMSG;
    *ret_info = info;
    return 0;
}

/* ---------------------------------------------------------------------------------- registry -- */

void format_registry_encode(struct format_registry *out, const uint8_t salt[16],
                            uint64_t topic_id_next, uint32_t seed)
{
    uint64_t back_next;
    uint8_t back_salt[SALT_SIZE];

    memset(out, 0, sizeof(*out));
    memcpy(out->magic, registry_magic, sizeof(out->magic));
    out->version = le32_put(FORMAT_VERSION);
    memcpy(out->salt, salt, sizeof(out->salt));
    out->topic_id_next = le64_put(topic_id_next);
    out->crc = le32_put(checksum(seed, out, sizeof(*out), offsetof(struct format_registry, crc)));

    WALRUS_ASSERT(format_registry_decode(out, sizeof(*out), seed, back_salt, &back_next) == 0);
    WALRUS_ASSERT(memcmp(back_salt, salt, sizeof(back_salt)) == 0);
    WALRUS_ASSERT(back_next == topic_id_next);
}

int format_registry_decode(const void *data, size_t size, uint32_t seed, uint8_t ret_salt[16],
                           uint64_t *ret_topic_id_next)
{
    struct format_registry raw;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (memcmp(raw.magic, registry_magic, sizeof(raw.magic)) != 0)
        return -EBADMSG;
    if (checksum(seed, &raw, sizeof(raw), offsetof(struct format_registry, crc)) !=
        le32_get(raw.crc))
        return -EBADMSG;
    if (le32_get(raw.version) != FORMAT_VERSION)
        return -EPROTONOSUPPORT;
    memcpy(ret_salt, raw.salt, sizeof(raw.salt));
    *ret_topic_id_next = le64_get(raw.topic_id_next);
    return 0;
}

static bool kind_has_name(uint32_t kind)
{
    return kind == REGISTRY_TOPIC || kind == REGISTRY_GROUP;
}

static bool kind_has_group(uint32_t kind)
{
    return kind == REGISTRY_GROUP || kind == REGISTRY_GROUP_REMOVED;
}

static bool kind_has_attr(uint32_t kind)
{
    return kind_has_name(kind) || kind == REGISTRY_STORE;
}

static size_t regrec_extent(size_t name_size)
{
    return (size_t)round_up(sizeof(struct format_regrec) + name_size, REGREC_ALIGN);
}

size_t format_regrec_extent(const struct registry_change *change)
{
    return regrec_extent(kind_has_name(change->kind) ? change->name_size : 0);
}

void format_regrec_encode(void *out, const struct registry_change *change, bool more, uint32_t seed)
{
    size_t extent = format_regrec_extent(change), back_extent;
    struct format_regrec raw = {
        .magic = le16_put(REGREC_MAGIC),
        .kind = le16_put((uint16_t)change->kind),
        .size = le32_put((uint32_t)extent),
        .flags = le32_put(more ? REGREC_MORE : 0),
    };
    struct registry_change back;
    bool back_more;

    if (change->kind != REGISTRY_STORE)
        raw.topic_id = le64_put(change->topic_id);
    if (kind_has_group(change->kind))
        raw.group_id = le64_put(change->group_id);
    if (change->kind == REGISTRY_GROUP)
        raw.slot = le32_put(change->slot);
    if (change->kind == REGISTRY_TOPIC) {
        raw.retention_kind = le32_put((uint32_t)change->retention.kind);
        raw.retention_value = le64_put(change->retention.value);
        raw.limit = le64_put(change->limit);
    }
    if (kind_has_name(change->kind)) {
        raw.name_size = le32_put((uint32_t)change->name_size);
        raw.created_ns = le64_put(change->created_ns);
    }
    if (kind_has_attr(change->kind))
        memcpy(raw.attr, change->attr, sizeof(raw.attr));
    memset(out, 0, extent);
    memcpy(out, &raw, sizeof(raw));
    if (kind_has_name(change->kind))
        memcpy((uint8_t *)out + sizeof(raw), change->name, change->name_size);
    raw.crc = le32_put(checksum(seed, out, extent, offsetof(struct format_regrec, crc)));
    memcpy(out, &raw, sizeof(raw));

    WALRUS_ASSERT(format_regrec_decode(out, extent, seed, &back, &back_more, &back_extent) == 0);
    WALRUS_ASSERT(back.kind == change->kind && back_more == more && back_extent == extent);
}

/* Whether the fields of a record fit together; its checksum has not been looked at yet. */
static bool regrec_plausible(const struct format_regrec *raw, size_t size)
{
    uint32_t kind = le16_get(raw->kind), name_size = le32_get(raw->name_size);
    uint64_t topic_id = le64_get(raw->topic_id);

    if (le16_get(raw->magic) != REGREC_MAGIC || kind < REGISTRY_TOPIC || kind > REGISTRY_STORE)
        return false;
    if (kind_has_name(kind) ? (name_size < 1 || name_size > WALRUS_NAME_SIZE_MAX) : name_size != 0)
        return false;
    if (le32_get(raw->size) != regrec_extent(name_size) || le32_get(raw->size) > size)
        return false;
    if ((le32_get(raw->flags) & ~REGREC_MORE) != 0)
        return false;
    /* No topic has the last number, so that there is always a next one. */
    if (kind != REGISTRY_STORE && (topic_id == 0 || topic_id == UINT64_MAX))
        return false;
    if (kind_has_group(kind) && le64_get(raw->group_id) == 0)
        return false;
    return le32_get(raw->retention_kind) <= WALRUS_KEEP_AGE;
}

int format_regrec_decode(const void *data, size_t size, uint32_t seed,
                         struct registry_change *ret_change, bool *ret_more, size_t *ret_extent)
{
    const uint8_t *bytes = data;
    struct format_regrec raw;
    struct registry_change change = {0};
    size_t extent;

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (!regrec_plausible(&raw, size))
        return -EBADMSG;
    extent = le32_get(raw.size);
    if (checksum(seed, data, extent, offsetof(struct format_regrec, crc)) != le32_get(raw.crc))
        return -EBADMSG;

    change.kind = (enum registry_kind)le16_get(raw.kind);
    change.topic_id = le64_get(raw.topic_id);
    change.group_id = le64_get(raw.group_id);
    change.slot = le32_get(raw.slot);
    change.retention.kind = (enum walrus_retention_kind)le32_get(raw.retention_kind);
    change.retention.value = le64_get(raw.retention_value);
    change.limit = le64_get(raw.limit);
    change.created_ns = le64_get(raw.created_ns);
    change.name_size = le32_get(raw.name_size);
    if (kind_has_name(change.kind))
        change.name = (const char *)bytes + sizeof(raw);
    if (kind_has_attr(change.kind))
        change.attr = bytes + offsetof(struct format_regrec, attr);
    if (change.name != NULL && (memchr(change.name, '\0', change.name_size) != NULL ||
                                memchr(change.name, '/', change.name_size) != NULL))
        return -EBADMSG;
    *ret_change = change;
    *ret_more = (le32_get(raw.flags) & REGREC_MORE) != 0;
    *ret_extent = extent;
    return 0;
}

/* ------------------------------------------------------------------------------------- slots -- */

static int slot_parse(const void *data, size_t size, uint32_t seed, struct offset_value *ret_value,
                      uint64_t *ret_generation)
{
    struct format_slot raw;
    struct offset_value value = {0};
    uint64_t floor; /* where the next range may begin */

    if (size < sizeof(raw))
        return -EBADMSG;
    memcpy(&raw, data, sizeof(raw));
    if (all_zero(&raw, sizeof(raw)))
        return WALRUS_EMPTY;
    if (le16_get(raw.magic) != SLOT_MAGIC)
        return -EBADMSG;
    if (checksum(seed, &raw, sizeof(raw), offsetof(struct format_slot, crc)) != le32_get(raw.crc))
        return -EBADMSG;

    value.topic_id = le64_get(raw.topic_id);
    value.group_id = le64_get(raw.group_id);
    value.offset = le64_get(raw.offset);
    value.range_count = le16_get(raw.range_count);
    if (value.range_count > OFFSETS_RANGE_COUNT_MAX)
        return -EBADMSG;
    floor = value.offset;
    for (uint32_t i = 0; i < value.range_count; i++) {
        struct offset_range *range = &value.ranges[i];
        uint32_t start = le32_get(raw.ranges[i].start), count = le32_get(raw.ranges[i].count);

        /* The offset itself is not consumed, so the first range begins above it. */
        if (start == 0 || count == 0 ||
            __builtin_add_overflow(value.offset, start, &range->first) ||
            __builtin_add_overflow(range->first, count, &range->end) || range->first < floor)
            return -EBADMSG;
        floor = range->end;
    }
    *ret_value = value;
    *ret_generation = le64_get(raw.generation);
    return 0;
}

void format_slot_encode(struct format_slot *out, const struct offset_value *value,
                        uint64_t generation, uint32_t seed)
{
    struct offset_value back;
    uint64_t back_generation;

    WALRUS_ASSERT(value->range_count <= OFFSETS_RANGE_COUNT_MAX);
    memset(out, 0, sizeof(*out));
    out->magic = le16_put(SLOT_MAGIC);
    out->range_count = le16_put((uint16_t)value->range_count);
    out->generation = le64_put(generation);
    out->topic_id = le64_put(value->topic_id);
    out->group_id = le64_put(value->group_id);
    out->offset = le64_put(value->offset);
    for (uint32_t i = 0; i < value->range_count; i++) {
        const struct offset_range *range = &value->ranges[i];

        out->ranges[i].start = le32_put((uint32_t)(range->first - value->offset));
        out->ranges[i].count = le32_put((uint32_t)(range->end - range->first));
    }
    out->crc = le32_put(checksum(seed, out, sizeof(*out), offsetof(struct format_slot, crc)));

    WALRUS_ASSERT(slot_parse(out, sizeof(*out), seed, &back, &back_generation) == 0);
    WALRUS_ASSERT(back_generation == generation && back.topic_id == value->topic_id);
    WALRUS_ASSERT(back.group_id == value->group_id && back.offset == value->offset);
    WALRUS_ASSERT(back.range_count == value->range_count);
    WALRUS_ASSERT(
        memcmp(back.ranges, value->ranges, value->range_count * sizeof(value->ranges[0])) == 0);
}

int format_slot_decode(const void *data, size_t size, uint32_t seed, struct offset_value *ret_value,
                       uint64_t *ret_generation)
{
    struct offset_value value;
    uint64_t generation;
    int r = slot_parse(data, size, seed, &value, &generation);

    if (r != 0)
        return r;
    if (generation > NUMBER_MAX || value.offset > NUMBER_MAX)
        return -EBADMSG;
    *ret_value = value;
    *ret_generation = generation;
    return 0;
}
