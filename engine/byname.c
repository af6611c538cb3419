/* SPDX-License-Identifier: MIT */
/*
 * byname.c - the seed's calls: append and read by topic name, in the group "default".
 *
 * A thin layer over topics, groups and readers; holds nothing, locks nothing.  Entries are
 * delivered by being returned, so at-least-once counts them as soon as they were copied.
 */
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int topic_obtain(struct walrus *store, const char *name, struct walrus_topic **ret_topic)
{
    int r = walrus_topic_find(store, name, ret_topic);
    while (r == -ENOENT) {
        r = walrus_topic_create(store, name, NULL, NULL, ret_topic);
        if (r == -EEXIST) /* somebody else made it, or made and removed it */
            r = walrus_topic_find(store, name, ret_topic);
    }
    return r;
}

int walrus_append(struct walrus *store, const char *topic, const void *data, size_t size)
{
    struct iovec entry = {(void *)(uintptr_t)data, size};
    return walrus_batch_append(store, topic, &entry, 1);
}

int walrus_batch_append(struct walrus *store, const char *topic, const struct iovec *entries,
                        size_t count)
{
    if (count > WALRUS_BATCH_COUNT_MAX)
        return -EMSGSIZE;
    for (size_t i = 0; i < count; i++)
        if (entries[i].iov_len > WALRUS_ENTRY_SIZE_MAX)
            return -EMSGSIZE; /* before a topic is made for it */
    struct walrus_topic *found;
    int r = topic_obtain(store, topic, &found);
    if (r < 0)
        return r;
    r = walrus_topic_append(found, entries, count, NULL, NULL);
    walrus_topic_unref(found);
    return r;
}

/* Finds the group "default" of a topic.  WALRUS_EMPTY: there is none. */
static int default_group(struct walrus *store, const char *topic, struct walrus_group **ret_group)
{
    struct walrus_topic *found;
    int r = walrus_topic_find(store, topic, &found);
    if (r == 0) {
        r = walrus_group_find(found, "default", ret_group);
        walrus_topic_unref(found);
    }
    return r == -ENOENT || r == -ENODEV ? WALRUS_EMPTY : r;
}

/* Copies the `index`th entry of a reader; consumes nothing. */
static int entry_load(struct walrus_reader *reader, uint64_t index, struct walrus_entry *ret_entry)
{
    struct walrus_entry entry;
    uint64_t offset;
    int r = walrus_reader_entry(reader, index, &entry, &offset);
    if (r != 0)
        return r;
    entry.data = malloc(entry.size ? entry.size : 1);
    if (!entry.data)
        return -ENOMEM;
    r = reader_load(reader, entry.data, entry.size, offset);
    if (r == 0)
        *ret_entry = entry;
    else
        free(entry.data);
    return r;
}

static int reader_finish(struct walrus_reader *reader, int result)
{
    int r = walrus_reader_close(reader);
    return result ? result : r;
}

int walrus_read_next(struct walrus *store, const char *topic, struct walrus_entry *ret_entry)
{
    struct walrus_entry *entries;
    size_t count;
    int r = walrus_batch_read(store, topic, SIZE_MAX, 1, &entries, &count);
    if (r != 0)
        return r;
    *ret_entry = entries[0];
    free(entries);
    return 0;
}

/* Copies what the reader holds, up to damage, and then consumes it: nothing is handed out before.
 * Damage is the result only if nothing lies before it; then it is consumed. */
static int batch_copy(struct walrus_reader *reader, struct walrus_entry *entries, size_t *ret_count)
{
    size_t count = 0;
    uint64_t room = walrus_reader_count(reader);
    int r = 0;
    while (count < room && r == 0) {
        r = entry_load(reader, count, &entries[count]);
        count += r == 0;
    }
    *ret_count = count;
    if (r == -EBADMSG && count == 0) {
        char ignored;
        ssize_t n = walrus_reader_read(reader, &ignored, 1, 0, NULL);
        return n < 0 ? (int)n : -EBADMSG;
    }
    if (r == WALRUS_EMPTY || (r == -EBADMSG && count > 0))
        r = 0;
    return r == 0 ? reader_consume(reader, count) : r;
}

int walrus_batch_read(struct walrus *store, const char *topic, size_t max_bytes, size_t max_count,
                      struct walrus_entry **ret_entries, size_t *ret_count)
{
    struct walrus_group *group;
    int r = default_group(store, topic, &group);
    if (r != 0)
        return r;
    struct walrus_reader *reader;
    r = walrus_group_claim(group, MIN(max_count, WALRUS_BATCH_COUNT_MAX), max_bytes, &reader);
    walrus_group_unref(group);
    if (r != 0)
        return r;
    struct walrus_entry *entries = calloc(walrus_reader_count(reader), sizeof(*entries));
    size_t count = 0;
    r = entries ? batch_copy(reader, entries, &count) : -ENOMEM;
    r = reader_finish(reader, r);
    if (r == 0 && count == 0)
        r = WALRUS_EMPTY;
    if (r != 0) {
        walrus_entries_free(entries, count);
        return r;
    }
    *ret_entries = entries;
    *ret_count = count;
    return 0;
}

void walrus_entries_free(struct walrus_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(entries[i].data);
    free(entries);
}

int walrus_peek(struct walrus *store, const char *topic, struct walrus_entry *ret_entry)
{
    struct walrus_group *group;
    struct walrus_reader *reader;
    int r = default_group(store, topic, &group);
    if (r != 0)
        return r;
    r = walrus_group_peek(group, &reader);
    walrus_group_unref(group);
    return r == 0 ? reader_finish(reader, entry_load(reader, 0, ret_entry)) : r;
}

int walrus_read_at(struct walrus *store, const char *topic, uint64_t seq,
                   struct walrus_entry *ret_entry)
{
    struct walrus_topic *found;
    struct walrus_reader *reader;
    int r = walrus_topic_find(store, topic, &found);
    if (r < 0)
        return r;
    r = walrus_entry_open(found, seq, &reader);
    walrus_topic_unref(found);
    return r == 0 ? reader_finish(reader, entry_load(reader, 0, ret_entry)) : r;
}
