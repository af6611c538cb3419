/* SPDX-License-Identifier: MIT */
/*
 * fuzz_store.c - a store with hostile bytes: verified, opened, read, used, closed, opened again.
 *
 * The input is not the store but what is changed in the golden image: after a byte of options,
 * edits of eight bytes: which file, where (three bytes), how, and three bytes of value.  An edit may
 * make the checksum of what it hit right again: the target knows the salts, as no client does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crc32c.h"
#include "format.h"
#include "reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EDIT_SIZE      8u
#define ENTRIES_LOOKED 200u /* of a topic, as its tail may be anything */

enum { OPTION_REPAIR = 1, OPTION_READ_ONLY = 2, OPTION_UNCLEAN = 4, OPTION_NO_VERIFY = 8 };

static struct reference ref;
static struct ref_images work; /* the same files, to be changed */
static struct rig rig;
static struct super_info super;

static struct ref_image *image_of(const char *name)
{
    for (size_t i = 0; i < work.count; i++)
        if (strcmp(work.list[i].name, name) == 0)
            return &work.list[i];
    abort();
}

static void tear_down(void)
{
    for (size_t i = 0; i < work.count; i++) {
        free(work.list[i].data);
        free(work.list[i].pages);
    }
    reference_fini(&ref);
    rig_fini(&rig);
}

static void set_up(void)
{
    if (access("/dev/shm", W_OK) == 0)
        CHECK_INT(setenv("TMPDIR", "/dev/shm", 1), 0);
    rig_init(&rig);
    reference_load(&ref, &rig);
    work = ref.images;
    for (size_t i = 0; i < work.count; i++) {
        struct ref_image *image = &work.list[i];
        image->data = malloc(image->size);
        image->pages = malloc(image->size / 4096 + 1);
        CHECK(image->data != NULL && image->pages != NULL);
    }
    CHECK_INT(format_super_decode(ref.images.list[0].data, 4096, &super), 0);
    CHECK_INT(atexit(tear_down), 0);
}

/* --------------------------------------------------------------------------------- checksums -- */

static void fix_at(uint8_t *raw, size_t size, size_t crc_off, uint32_t seed)
{
    struct le32 crc = le32_put(0);
    memcpy(raw + crc_off, &crc, sizeof(crc));
    crc = le32_put(crc32c(seed, raw, size));
    memcpy(raw + crc_off, &crc, sizeof(crc));
}

static void fix_record(struct ref_image *image, const struct file_info *file, uint64_t off)
{
    for (size_t i = 0; i < ref.record_count; i++) {
        const struct ref_record *place = &ref.records[i];
        if (&work.list[place->image] != image || off < place->off || off >= place->end)
            continue;
        uint32_t idx = (uint32_t)((place->off - FORMAT_FILE_META_SIZE) / super.block_size);
        uint32_t in = (uint32_t)((place->off - FORMAT_FILE_META_SIZE) % super.block_size);
        struct format_record raw;
        memcpy(&raw, image->data + place->off, sizeof(raw));
        for (uint32_t copy = 0; copy < 2;
             copy++) { /* the epoch of the newer entry, or the only one */
            struct format_block entry;
            memcpy(&entry, image->data + FORMAT_TABLE_OFF(copy) + idx * sizeof(entry),
                   sizeof(entry));
            raw.crc = le32_put(in);
            raw.crc = le32_put(crc32c(format_seed_record(super.uuid, file->salt, file->number, idx,
                                                         le64_get(entry.epoch)),
                                      &raw, sizeof(raw)));
        }
        memcpy(image->data + place->off, &raw, sizeof(raw));
    }
}

static void fix_log(struct ref_image *image, uint64_t off)
{
    struct file_info file = {0};
    unsigned number;
    CHECK_INT(sscanf(image->name, "wal_%u", &number), 1);
    file.number = number;
    struct format_file head;
    memcpy(&head, image->data, sizeof(head));
    memcpy(file.salt, head.salt, sizeof(file.salt));
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint32_t table = FORMAT_TABLE_OFF(copy);
        if (off >= FORMAT_HEADER_OFF(copy) && off < FORMAT_HEADER_OFF(copy) + sizeof(head))
            fix_at(image->data + FORMAT_HEADER_OFF(copy), sizeof(head),
                   offsetof(struct format_file, crc), format_seed_file(super.uuid, number, copy));
        if (off < table || off >= table + FORMAT_FILE_BLOCKS_MAX * sizeof(struct format_block))
            continue;
        uint32_t idx = (uint32_t)((off - table) / sizeof(struct format_block));
        fix_at(image->data + table + idx * sizeof(struct format_block), sizeof(struct format_block),
               offsetof(struct format_block, crc),
               format_seed_block(super.uuid, file.salt, number, idx, copy));
    }
    if (off >= FORMAT_FILE_META_SIZE)
        fix_record(image, &file, off);
}

/* Records of the registry from the first on, chained as they are. */
static void fix_registry(struct ref_image *image, uint64_t off)
{
    struct format_registry head;
    struct format_regrec raw;
    bool more = false;
    struct le32 before = {0};
    for (uint32_t copy = 0; copy < 2 && off < 2 * sizeof(head); copy++)
        fix_at(image->data + copy * sizeof(head), sizeof(head),
               offsetof(struct format_registry, crc), format_seed_registry(super.uuid));
    memcpy(&head, image->data, sizeof(head));
    for (uint64_t at = 2 * sizeof(head); at + sizeof(raw) <= image->size;) {
        memcpy(&raw, image->data + at, sizeof(raw));
        uint64_t size = le32_get(raw.size);
        if (size < sizeof(raw) || size > image->size - at || size % 8)
            return;
        uint32_t seed = format_seed_regrec(super.uuid, head.salt, at);
        if (more)
            seed = crc32c(seed, &before, sizeof(before));
        fix_at(image->data + at, size, offsetof(struct format_regrec, crc), seed);
        memcpy(&before, image->data + at, sizeof(before));
        more = le32_get(raw.flags) & 1;
        at += size;
    }
}

static void fix(struct ref_image *image, uint64_t off)
{
    if (strcmp(image->name, "SUPER") == 0) {
        for (uint32_t copy = 0; copy < 2; copy++)
            fix_at(image->data + copy * 4096, 4096, offsetof(struct format_super, crc), 0);
    } else if (strcmp(image->name, "topics.db") == 0) {
        fix_registry(image, off);
    } else if (strncmp(image->name, "wal_", 4) == 0) {
        fix_log(image, off);
    } else {
        uint32_t copy = off % 65536 >= 32768;
        uint32_t slot = (uint32_t)(off / 65536 * 64 + off % 32768 / 512);
        fix_at(image->data + off / 512 * 512, 512, offsetof(struct format_slot, crc),
               format_seed_slot(super.uuid, slot, copy));
    }
}

/* ------------------------------------------------------------------------------------- edits -- */

/* Where an edit lands: mostly in what means something. */
static uint64_t place_of(const struct ref_image *image, uint32_t where)
{
    if (strncmp(image->name, "wal_", 4) != 0 || where % 4 == 0)
        return where % image->size;
    if (where % 4 == 1) /* an entry in force */
        return (FORMAT_TABLE_OFF(where >> 2 & 1) + (where >> 3) % (4 * 128)) % image->size;
    const struct ref_record *record = &ref.records[(where >> 2) % ref.record_count];
    return (record->off + (where >> 12) % FORMAT_RECORD_SIZE) % image->size;
}

static void edit(const uint8_t *op)
{
    struct ref_image *image = &work.list[op[0] % work.count];
    uint32_t where = op[1] | (uint32_t)op[2] << 8 | (uint32_t)op[3] << 16;
    uint32_t value = op[5] | (uint32_t)op[6] << 8 | (uint32_t)op[7] << 16;
    uint8_t how = op[4] & 0x7f;
    if (how % 8 == 7) {
        image->size = value % (ref.images.list[op[0] % work.count].size + 1);
        return;
    }
    if (image->size < 8192)
        return; /* an edit before cut it short */
    uint64_t off = place_of(image, where);
    if (off + 8 > image->size)
        return;
    struct le64 word;
    memcpy(&word, image->data + off, sizeof(word));
    switch (how % 8) {
    case 0:
        image->data[off] = (uint8_t)value;
        break;
    case 1:
        image->data[off] ^= (uint8_t)(1u << (value & 7));
        break;
    case 2:
        word = le64_put(le64_get(word) + value);
        break;
    case 3:
        word = le64_put(le64_get(word) - value);
        break;
    case 4:
        word = le64_put(value & 1 ? UINT64_MAX : UINT64_MAX >> (value & 63));
        break;
    case 5:
        memset(image->data + off, (uint8_t)value, MIN(image->size - off, value >> 8 & 1023));
        break;
    default:
        word = le64_put(value);
    }
    if (how % 8 >= 2 && how % 8 != 5)
        memcpy(image->data + off, &word, sizeof(word));
    image->pages[off / 4096] = image->pages[(off + 1032) / 4096 % (image->size / 4096)] = true;
    if (op[4] & 0x80)
        fix(image, off);
}

/* --------------------------------------------------------------------------------------- use -- */

static void drain_group(struct walrus_group *group)
{
    struct walrus_reader *reader;
    static uint8_t data[65536];
    for (int i = 0; i < 3; i++) {
        uint64_t next = 0;
        int r = walrus_group_claim(group, 1 + (size_t)i * 20, SIZE_MAX, &reader);
        if (r != 0)
            return;
        for (int k = 0; k < 50; k++) {
            uint64_t at = next;
            ssize_t n = walrus_reader_read(reader, data, sizeof(data), at, &next);
            if (n > 0)
                next = at + (uint64_t)n;
            else if (n != -EBADMSG || next < at)
                break;
        }
        (void)walrus_reader_close(reader);
    }
}

static void use_topic(struct walrus_topic *topic)
{
    char name[WALRUS_NAME_SIZE_MAX + 1];
    struct walrus_topic_stat stat;
    struct walrus_group *group;
    walrus_topic_name(topic, name);
    walrus_topic_stat(topic, &stat);
    for (uint64_t i = 0; i < ENTRIES_LOOKED && i < stat.tail_seq - stat.first_seq; i++) {
        struct walrus_entry entry;
        if (walrus_read_at(rig.walrus, name, stat.first_seq + i, &entry) == 0)
            free(entry.data);
    }
    for (uint64_t id = 0; walrus_group_after(topic, id, &group) == 0;) {
        struct walrus_group_stat group_stat;
        walrus_group_stat(group, &group_stat);
        CHECK(group_stat.id > id);
        id = group_stat.id;
        drain_group(group);
        walrus_group_unref(group);
    }
    struct iovec vec = {.iov_base = name, .iov_len = strlen(name)};
    uint64_t seq;
    int r = walrus_topic_append(topic, &vec, 1, NULL, &seq);
    if (r == 0) { /* what was accepted is there */
        struct walrus_entry entry;
        CHECK_INT(walrus_read_at(rig.walrus, name, seq, &entry), 0);
        CHECK(entry.size == vec.iov_len && memcmp(entry.data, name, entry.size) == 0);
        free(entry.data);
    }
}

static void use(void)
{
    struct walrus_topic *topic;
    int count = 0;
    for (uint64_t id = 0; count++ < 30 && walrus_topic_after(rig.walrus, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        CHECK(stat.id > id);
        id = stat.id;
        use_topic(topic);
        walrus_topic_unref(topic);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct walrus_verify_result result;
    if (!rig.dir_made)
        set_up();
    if (size == 0)
        return 0;
    for (size_t i = 0; i < work.count; i++) {
        struct ref_image *image = &work.list[i];
        image->size = ref.images.list[i].size;
        memcpy(image->data, ref.images.list[i].data, image->size);
        memcpy(image->pages, ref.images.list[i].pages, image->size / 4096 + 1);
    }
    if (data[0] & OPTION_UNCLEAN) {
        struct ref_image *image = image_of("SUPER");
        for (uint32_t copy = 0; copy < 2; copy++)
            memset(image->data + copy * 4096 + offsetof(struct format_super, clean), 0, 4);
        fix(image, 0);
    }
    for (size_t at = 1; at + EDIT_SIZE <= size && at < 1 + 64 * EDIT_SIZE; at += EDIT_SIZE)
        edit(data + at);
    images_write(&work, rig.dir);
    if (!(data[0] & OPTION_NO_VERIFY))
        (void)!walrus_verify(rig.dir, NULL, &result);
    if (data[0] & OPTION_REPAIR)
        (void)!walrus_repair(rig.dir, NULL, &result);
    for (int i = 0; i < 2; i++) {
        rig.options.read_only = i == 0 && data[0] & OPTION_READ_ONLY;
        if (walrus_open(rig.dir, &rig.options, &rig.walrus) < 0)
            return 0;
        use();
        (void)walrus_close(rig.walrus);
        rig.walrus = NULL;
    }
    return 0;
}
