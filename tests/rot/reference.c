/* SPDX-License-Identifier: MIT */
/* reference.c - makes, reads and describes the reference store: see reference.h. */
#include "reference.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

#define META FORMAT_FILE_META_SIZE
#define PAGE 4096u

/* ------------------------------------------------------------------------------------ images -- */

static int image_compare(const void *a, const void *b)
{
    const struct ref_image *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void images_read(struct ref_images *images, const char *path)
{
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    images->count = 0;
    for (struct dirent *item; (item = readdir(dir)) != NULL;) {
        if (item->d_name[0] == '.' || strcmp(item->d_name, "LOCK") == 0)
            continue;
        CHECK(images->count < REF_IMAGE_MAX);
        struct ref_image *image = &images->list[images->count++];
        char name[PATH_MAX];
        CHECK((size_t)snprintf(image->name, sizeof(image->name), "%s", item->d_name) <
              sizeof(image->name));
        snprintf(name, sizeof(name), "%s/%s", path, item->d_name);
        image->size = disk_size(name);
        image->data = malloc(image->size + 1);
        CHECK(image->data != NULL);
        disk_read(name, 0, image->data, image->size);
        image->pages = calloc(image->size / PAGE + 1, sizeof(bool));
        CHECK(image->pages != NULL);
        for (size_t off = 0; off < image->size; off++)
            image->pages[off / PAGE] |= image->data[off] != 0;
    }
    closedir(dir);
    qsort(images->list, images->count, sizeof(images->list[0]), image_compare);
}

void images_free(struct ref_images *images)
{
    for (size_t i = 0; i < images->count; i++) {
        free(images->list[i].data);
        free(images->list[i].pages);
    }
    images->count = 0;
}

/* Writes pages that are not zero, into a file of the right length. */
static void image_write(const struct ref_image *image, int dirfd)
{
    int fd = openat(dirfd, image->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, 0), 0);
    CHECK_INT(ftruncate(fd, (off_t)image->size), 0);
    for (size_t off = 0, size; off < image->size; off += size) {
        size = image->size - off < PAGE ? image->size - off : PAGE;
        if (image->pages[off / PAGE])
            CHECK_INT(pwrite(fd, image->data + off, size, (off_t)off), size);
    }
    close(fd);
}

static bool images_have(const struct ref_images *images, const char *name)
{
    for (size_t i = 0; i < images->count; i++)
        if (strcmp(images->list[i].name, name) == 0)
            return true;
    return false;
}

void images_write(const struct ref_images *images, const char *path)
{
    DIR *dir = opendir(path);
    CHECK(dir != NULL);
    for (struct dirent *item; (item = readdir(dir)) != NULL;)
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0 &&
            !images_have(images, item->d_name))
            CHECK_INT(unlinkat(dirfd(dir), item->d_name, 0), 0);
    for (size_t i = 0; i < images->count; i++)
        image_write(&images->list[i], dirfd(dir));
    closedir(dir);
}

/* ------------------------------------------------------------------------------------- store -- */

static const size_t sizes[] = {0, 1, 31, 32, 33, 100, 4064, 4096, 4128, 511, 512, 513, 7, 2000};

static void append_some(struct rig *rig, const char *topic, uint64_t from, uint64_t count)
{
    for (uint64_t i = from; i < from + count; i++)
        rig_append(rig, topic, i, sizes[i % (sizeof(sizes) / sizeof(sizes[0]))]);
}

static void remake_group(struct walrus_topic *topic, const char *name)
{
    struct walrus_group *group;
    CHECK_INT(walrus_group_create(topic, name, NULL, &group), 0);
    CHECK_INT(walrus_group_remove(group), 0);
    walrus_group_unref(group);
}

/* Consumes the second of the next three entries: what is consumed has a gap. */
static void take_second(struct rig *rig, const char *topic)
{
    struct walrus_group *group = rig_group(rig, topic, "default");
    struct walrus_reader *readers[3];
    for (int i = 0; i < 3; i++)
        readers[i] = rig_claim(group, 1);
    rig_finish(rig, topic, readers[1]);
    CHECK_INT(walrus_reader_close(readers[0]), 0);
    CHECK_INT(walrus_reader_close(readers[2]), 0);
    walrus_group_unref(group);
}

static void first_half(struct rig *rig)
{
    struct walrus_topic *topic;
    append_some(rig, "a", 0, 30);
    for (uint64_t i = 0; i < 5; i++)
        rig_expect(rig, "a", i, sizes[i]);
    take_second(rig, "a");
    rig_append_many(rig, "c", 0, 40, 4000);
    rig_expect_many(rig, "c", 0, 30, 4000);
    CHECK_INT(rig_try_batch(rig, "batch", 0, 6, 1000), 0);
    topic = rig_topic(rig, "before");
    CHECK_INT(walrus_topic_rename(topic, "renamed"), 0);
    CHECK_INT(walrus_topic_set_retention(
                  topic, &(struct walrus_retention){.kind = WALRUS_KEEP_ALL, .value = 0}),
              0);
    CHECK_INT(walrus_topic_set_limit(topic, 1 << 30), 0);
    walrus_topic_unref(topic);
    append_some(rig, "renamed", 0, 10);
}

static void second_half(struct rig *rig)
{
    struct walrus_topic *topic = rig_topic(rig, "a");
    append_some(rig, "a", 30, 50);
    walrus_group_unref(rig_group(rig, "a", "audit"));
    remake_group(topic, "gone");
    walrus_topic_unref(topic);
    rig_expect_many(rig, "c", 30, 9, 4000);
    rig_append(rig, "big", 0, 140000);
    rig_append(rig, "big", 1, 10);
    rig_append_many(rig, "removed", 0, 3, 100);
    rig_expect_many(rig, "removed", 0, 3, 100);
    topic = rig_topic(rig, "removed");
    CHECK_INT(walrus_topic_remove(topic), 0);
    walrus_topic_unref(topic);
    walrus_topic_unref(rig_topic(rig, "empty"));
    CHECK_INT(rig_try_batch(rig, "batch", 6, 40, 3000), 0); /* more than a block: staged */
    uint8_t attr[WALRUS_ATTR_SIZE] = {1, 2, 3};
    CHECK_INT(walrus_set_attr(rig->walrus, attr), 0);
    for (uint64_t i = 0; i < 3; i++)
        rig_expect(rig, "renamed", i, sizes[i]);
}

/* -------------------------------------------------------------------------------- description -- */

static void describe_groups(struct ref_topic *ref, struct walrus_topic *topic)
{
    struct walrus_group *group;
    for (uint64_t id = 0; walrus_group_after(topic, id, &group) == 0;) {
        struct walrus_group_stat stat;
        char name[WALRUS_NAME_SIZE_MAX + 1];
        CHECK(ref->group_count < REF_GROUP_MAX);
        struct ref_group *to = &ref->groups[ref->group_count++];
        walrus_group_stat(group, &stat);
        walrus_group_name(group, name);
        to->id = id = stat.id;
        to->offset = stat.offset;
        to->pending = stat.pending_count;
        snprintf(to->name, sizeof(to->name), "%.31s", name);
        walrus_group_unref(group);
    }
}

static void describe_topic(struct reference *ref, struct rig *rig, struct walrus_topic *topic)
{
    struct walrus_topic_stat stat;
    char name[WALRUS_NAME_SIZE_MAX + 1];
    CHECK(ref->topic_count < REF_TOPIC_MAX);
    struct ref_topic *to = &ref->topics[ref->topic_count++];
    walrus_topic_stat(topic, &stat);
    walrus_topic_name(topic, name);
    snprintf(to->name, sizeof(to->name), "%.31s", name);
    to->id = stat.id;
    to->first = stat.first_seq;
    to->tail = stat.tail_seq;
    CHECK(to->tail - to->first <= REF_ENTRY_MAX);
    for (uint64_t seq = to->first; seq < to->tail; seq++) {
        struct walrus_entry entry;
        CHECK_INT(walrus_read_at(rig->walrus, name, seq, &entry), 0);
        CHECK(payload_same(ref->seed, name, seq, entry.data, entry.size));
        to->sizes[seq - to->first] = entry.size;
        free(entry.data);
    }
    describe_groups(to, topic);
}

static size_t topic_index(const struct reference *ref, uint64_t id)
{
    for (size_t i = 0; i < ref->topic_count; i++)
        if (ref->topics[i].id == id)
            return i;
    return SIZE_MAX;
}

/* The table entry of a block that counts. */
static bool block_info(const struct super_info *super, const struct file_info *file,
                       const uint8_t *data, uint32_t idx, struct block_info *ret_info)
{
    bool found = false;
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct block_info info;
        uint32_t seed = format_seed_block(super->uuid, file->salt, file->number, idx, copy);
        if (format_block_decode(data + FORMAT_TABLE_OFF(copy) + idx * sizeof(struct format_block),
                                sizeof(struct format_block), seed, super->block_size, &info) != 0)
            continue;
        if (!found || info.generation > ret_info->generation)
            *ret_info = info;
        found = true;
    }
    return found && ret_info->state != FORMAT_FREE;
}

static void describe_records(struct reference *ref, size_t image_idx,
                             const struct super_info *super)
{
    const struct ref_image *image = &ref->images.list[image_idx];
    struct file_info file;
    unsigned number;
    CHECK_INT(sscanf(image->name, "wal_%u.log", &number), 1);
    CHECK_INT(format_file_decode(image->data, image->size, format_seed_file(super->uuid, number, 0),
                                 &file),
              0);
    for (uint32_t idx = 0; idx < super->blocks_per_file; idx++) {
        struct block_info info;
        uint64_t base = META + (uint64_t)idx * super->block_size;
        if (!block_info(super, &file, image->data, idx, &info) ||
            topic_index(ref, info.topic_id) == SIZE_MAX)
            continue;
        uint32_t seed = format_seed_record(super->uuid, file.salt, number, idx, info.epoch);
        for (uint32_t off = 0; off < info.used;) {
            struct record_info record;
            CHECK_INT(format_record_decode(image->data + base + off, super->block_size - off, seed,
                                           off, &record),
                      0);
            uint32_t next = off + (uint32_t)format_record_extent(record.size);
            CHECK(ref->record_count < sizeof(ref->records) / sizeof(ref->records[0]));
            ref->records[ref->record_count++] =
                (struct ref_record){.image = image_idx,
                                    .off = base + off,
                                    .end = base + next,
                                    .topic = topic_index(ref, info.topic_id),
                                    .seq = record.seq};
            off = next;
        }
    }
}

void reference_describe(struct reference *ref, struct rig *rig)
{
    struct super_info super;
    struct walrus_topic *topic;
    ref->seed = rig->seed;
    rig->options.fsync = WALRUS_FSYNC_NEVER;
    images_read(&ref->images, rig->dir);
    rig->options.read_only = true;
    rig_open(rig);
    for (uint64_t id = 0; walrus_topic_after(rig->walrus, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        id = stat.id;
        describe_topic(ref, rig, topic);
        walrus_topic_unref(topic);
    }
    rig_close(rig);
    rig->options.read_only = false;
    for (size_t i = 0; i < ref->images.count; i++)
        if (strcmp(ref->images.list[i].name, "SUPER") == 0)
            CHECK_INT(format_super_decode(ref->images.list[i].data, 4096, &super), 0);
    for (size_t i = 0; i < ref->images.count; i++)
        if (strncmp(ref->images.list[i].name, "wal_", 4) == 0)
            describe_records(ref, i, &super);
}

void reference_make(struct reference *ref, struct rig *rig)
{
    memset(ref, 0, sizeof(*ref));
    rig->options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(rig);
    first_half(rig);
    rig_close(rig);
    images_read(&ref->older, rig->dir);
    rig_open(rig);
    second_half(rig);
    rig_close(rig);
    reference_describe(ref, rig);
}

void golden_unpack(const char *name, const char *dir)
{
    char command[2 * PATH_MAX];
    CHECK((size_t)snprintf(command, sizeof(command), "tar -xJf '%s/%s.tar.xz' -C '%s'", GOLDEN_DIR,
                           name, dir) < sizeof(command));
    CHECK_INT(system(command), 0);
}

void reference_load(struct reference *ref, struct rig *rig)
{
    struct rig older;
    memset(ref, 0, sizeof(*ref));
    rig->seed = 0;
    rig_init(&older);
    golden_unpack("v1-older", older.dir);
    images_read(&ref->older, older.dir);
    rig_fini(&older);
    golden_unpack("v1-closed", rig->dir);
    reference_describe(ref, rig);
}

void reference_fini(struct reference *ref)
{
    images_free(&ref->images);
    images_free(&ref->older);
}

bool reference_means(const struct reference *ref, size_t image_idx, uint64_t off)
{
    const struct ref_image *image = &ref->images.list[image_idx];
    if (strcmp(image->name, "SUPER") == 0)
        return off < 8192;
    if (strcmp(image->name, "topics.db") == 0) {
        uint64_t end = image->size;
        while (end > 0 && image->data[end - 1] == 0)
            end--;
        return off < (end + 7) / 8 * 8;
    }
    if (strncmp(image->name, "wal_", 4) != 0 || off < META)
        return true;
    for (size_t i = 0; i < ref->record_count; i++)
        if (ref->records[i].image == image_idx && off >= ref->records[i].off &&
            off < ref->records[i].end)
            return true;
    return false;
}
