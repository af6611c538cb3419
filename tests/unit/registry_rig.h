/* SPDX-License-Identifier: MIT */
/* registry_rig.h - a registry in a directory of its own, and what its last replay handed out: for the
 * programs of tests/unit that test it. */
#ifndef TESTS_UNIT_REGISTRY_RIG_H
#define TESTS_UNIT_REGISTRY_RIG_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "registry.h"
#include "reopen_rig.h"

#define NAME        "topics.db"
#define RECORDS_OFF 8192u
#define SEEN_MAX    8192

static const uint8_t uuid[16] = "uuid-of-a-store";
static const uint8_t attr[WALRUS_ATTR_SIZE] = "attributes";

/* What the last replay handed out. */
struct seen {
    enum registry_kind kind;
    uint64_t topic_id, group_id;
    char name[WALRUS_NAME_SIZE_MAX + 1];
};
static struct seen seen[SEEN_MAX];
static size_t seen_count;
static uint64_t next_id, damaged;
static unsigned warning_count, error_count;

static struct registry *registry;

static inline void note_report(void *arg, const struct walrus_report *event)
{
    warning_count += event->level == WALRUS_WARNING;
    error_count += event->level == WALRUS_ERROR;
}

static const struct reporter reporter = {.report = note_report};

static inline int note_change(void *arg, const struct registry_change *change)
{
    struct seen *s = &seen[seen_count];

    cr_assert_lt(seen_count, (size_t)SEEN_MAX);
    seen_count++;
    s->kind = change->kind;
    s->topic_id = change->topic_id;
    s->group_id = change->group_id;
    memset(s->name, 0, sizeof(s->name));
    if (change->name_size > 0)
        memcpy(s->name, change->name, change->name_size);
    return 0;
}

static inline int try_open(bool read_only)
{
    seen_count = 0;
    warning_count = error_count = 0;
    return registry_open(dirfd, uuid, read_only, &reporter, note_change, NULL, &next_id, &damaged,
                         &registry);
}

static inline void close_it(void)
{
    registry_close(registry);
    registry = NULL;
}

static inline struct registry_change topic(uint64_t id, const char *name)
{
    return (struct registry_change){.kind = REGISTRY_TOPIC,
                                    .topic_id = id,
                                    .name = name,
                                    .name_size = strlen(name),
                                    .attr = attr};
}

static inline struct registry_change group(uint64_t topic_id, uint64_t id, const char *name)
{
    struct registry_change change = topic(topic_id, name);

    change.kind = REGISTRY_GROUP;
    change.group_id = id;
    return change;
}

static inline int add(struct registry_change change)
{
    return registry_append(registry, &change, 1);
}

static inline int remove_topic(uint64_t id)
{
    return add((struct registry_change){.kind = REGISTRY_TOPIC_REMOVED, .topic_id = id});
}

/* A topic with its first group, in one change. */
static inline int add_pair(uint64_t id, const char *name)
{
    struct registry_change changes[2] = {topic(id, name), group(id, 1, "default")};

    return registry_append(registry, changes, 2);
}

static inline uint64_t file_size(void)
{
    struct stat st;

    cr_assert_eq(fstatat(dirfd, NAME, &st, 0), 0);
    return (uint64_t)st.st_size;
}

/* The whole file, to be freed. */
static inline uint8_t *slurp(size_t *ret_size)
{
    int fd = openat(dirfd, NAME, O_RDONLY);
    uint8_t *bytes;

    *ret_size = file_size();
    bytes = malloc(*ret_size + 1);
    cr_assert_eq(read(fd, bytes, *ret_size), (ssize_t)*ret_size);
    close(fd);
    return bytes;
}

static inline void spill(const char *name, const void *bytes, size_t size)
{
    int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

static inline void poke(uint64_t off, const void *bytes, size_t size)
{
    int fd = openat(dirfd, NAME, O_WRONLY);

    cr_assert_eq(pwrite(fd, bytes, size, (off_t)off), (ssize_t)size);
    close(fd);
}

/* One past the last byte that is not zero, rounded up to where a record may end. */
static inline uint64_t used_end(void)
{
    size_t size;
    uint8_t *bytes = slurp(&size);

    while (size > 0 && bytes[size - 1] == 0)
        size--;
    free(bytes);
    return (size + 7) / 8 * 8;
}

static inline bool was_seen(const char *name)
{
    for (size_t i = 0; i < seen_count; i++) {
        if (strcmp(seen[i].name, name) == 0)
            return true;
    }
    return false;
}

#endif
