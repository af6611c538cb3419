/* SPDX-License-Identifier: MIT */
/*
 * lines.c - the file `lines`: each line is an entry.
 *
 * The complete lines of one WRITE become one batch, all or none.  What follows the last newline is
 * held in the handle and precedes the next write; it becomes an entry at fsync and at RELEASE.  All
 * handles together hold at most MOUNT_REST_SIZE_MAX bytes.
 *
 * Failure leaves everything as it was: the entries are handed to the library before the rest that
 * was held is forgotten.  A line that is too long is lost, which must not go untold: when that WRITE
 * may have continued a large write(2), which then only became a short one, the next WRITE, with which
 * the program goes on, fails alike.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "produce.h"

/* Room for `size` bytes of rest, counted over all handles.  -ENOMEM, with nothing changed. */
static int rest_reserve(struct handle *handle, size_t size)
{
    struct lines *lines = &handle->lines;
    if (size <= lines->rest_room)
        return 0;
    size_t room = MAX((size_t)round_up(size, 4096), MIN(lines->rest_room * 2, size + (1 << 20)));
    size_t more = room - lines->rest_room;
    if (atomic_fetch_add(&handle->mount->rest_size, more) + more > MOUNT_REST_SIZE_MAX) {
        atomic_fetch_sub(&handle->mount->rest_size, more);
        return -ENOMEM;
    }
    char *rest = realloc(lines->rest, room);
    if (rest == NULL) {
        atomic_fetch_sub(&handle->mount->rest_size, more);
        return -ENOMEM;
    }
    lines->rest = rest;
    lines->rest_room = room;
    return 0;
}

static void rest_free(struct handle *handle)
{
    struct lines *lines = &handle->lines;
    atomic_fetch_sub(&handle->mount->rest_size, lines->rest_room);
    free(lines->rest);
    lines->rest = NULL;
    lines->rest_size = lines->rest_room = 0;
}

/* Where the lines of a write lie. */
struct split {
    struct iovec few[64];
    struct iovec *lines; /* the complete ones: `few`, or from malloc */
    size_t count, room;
    size_t whole; /* size of them all */
};

static void split_fini(struct split *split)
{
    if (split->lines != split->few)
        free(split->lines);
}

static int split_grow(struct split *split)
{
    struct iovec *before = split->lines == split->few ? NULL : split->lines;
    struct iovec *bigger = reallocarray(before, split->room * 4, sizeof(*bigger));
    if (bigger == NULL)
        return -ENOMEM;
    if (before == NULL)
        memcpy(bigger, split->few, sizeof(split->few));
    split->lines = bigger;
    split->room *= 4;
    return 0;
}

/* Finds the lines; the caller ends *split in any case.  -EMSGSIZE: one is too long; *ret_open tells if
 * it goes on behind the write, and *ret_held if it is the one that begins with the rest. */
static int split_lines(const struct lines *lines, const char *data, size_t size, size_t max,
                       struct split *split, bool *ret_open, bool *ret_held)
{
    size_t held = lines->rest_size;

    split->lines = split->few;
    split->room = ARRAY_COUNT(split->few);
    split->count = split->whole = 0;
    for (size_t at = 0; at < size;) {
        const char *newline = memchr(data + at, '\n', size - at);
        size_t length = newline != NULL ? (size_t)(newline - data) + 1 - at : size - at;
        if (held + length > max) {
            *ret_open = newline == NULL;
            *ret_held = split->count == 0;
            return -EMSGSIZE;
        }
        if (newline == NULL)
            break;
        if (split->count == split->room && split_grow(split) < 0)
            return -ENOMEM;
        split->lines[split->count++] = (struct iovec){(void *)(uintptr_t)(data + at), length};
        at += length;
        split->whole = at;
        held = 0;
    }
    return 0;
}

/* Appends the complete lines; the first one begins with the rest.  The rest's buffer has room. */
static int split_append(struct handle *handle, struct split *split, bool durable)
{
    struct walrus_append_options options = {.durable = durable};
    struct lines *lines = &handle->lines;
    struct iovec *first = &split->lines[0];
    struct walrus_topic *topic;

    if (lines->rest_size > 0) {
        memcpy(lines->rest + lines->rest_size, first->iov_base, first->iov_len);
        *first = (struct iovec){lines->rest, lines->rest_size + first->iov_len};
    }
    int r = produce_topic(handle, &topic);
    if (r == 0) {
        r = walrus_topic_append(topic, split->lines, split->count, &options, NULL);
        walrus_topic_unref(topic);
    }
    return r;
}

/* The end of a line that was too long is not taken: how much of the write it is. */
static size_t drop_measure(const struct lines *lines, const char *data, size_t size, bool *ret_ends)
{
    const char *newline = lines->dropping ? memchr(data, '\n', size) : NULL;
    *ret_ends = newline != NULL;
    return !lines->dropping ? 0 : newline != NULL ? (size_t)(newline - data) + 1 : size;
}

/* Stores the lines of *split, and holds what follows them. */
static int split_store(struct handle *handle, const char *data, size_t size, struct split *split,
                       bool durable)
{
    struct lines *lines = &handle->lines;
    size_t rest = size - split->whole;
    size_t need = split->count == 0       ? lines->rest_size + rest
                  : lines->rest_size == 0 ? rest
                                          : MAX(lines->rest_size + split->lines[0].iov_len, rest);
    int r = need > 0 ? rest_reserve(handle, need) : 0;
    if (r == 0 && split->count > 0)
        r = split_append(handle, split, durable);
    if (r < 0)
        return r;
    if (split->count > 0)
        lines->rest_size = 0;
    if (rest > 0) {
        memcpy(lines->rest + lines->rest_size, data + split->whole, rest);
        lines->rest_size += rest;
    } else if (lines->rest_size == 0 && lines->rest_room > 65536) {
        rest_free(handle);
    }
    return 0;
}

int lines_write(struct handle *handle, const char *data, size_t size, bool durable)
{
    struct lines *lines = &handle->lines;
    struct split split;
    bool open, held, ends, continues = lines->cut;
    size_t dropped = drop_measure(lines, data, size, &ends);

    /* The library would say so, but only once the line ends. */
    struct walrus_topic *topic = produce_known_topic(handle);
    if (topic != NULL && walrus_topic_removed(topic))
        return -ENODEV;
    lines->cut = size > handle->mount->append_size;
    if (lines->again) {
        lines->again = false;
        if (ends)
            lines->dropping = false;
        return -EMSGSIZE;
    }
    data += dropped;
    size -= dropped;
    int r = split_lines(lines, data, size, handle->mount->options->line_size, &split, &open, &held);
    if (r == -EMSGSIZE) {
        lines->dropping = open;
        lines->again = continues;
        if (held)
            rest_free(handle);
    }
    if (r == 0)
        r = split_store(handle, data, size, &split, durable);
    if (r == 0 && ends)
        lines->dropping = false;
    split_fini(&split);
    return r;
}

int lines_commit(struct handle *handle, bool durable)
{
    struct walrus_append_options options = {.durable = durable};
    struct lines *lines = &handle->lines;
    struct iovec entry = {lines->rest, lines->rest_size};
    struct walrus_topic *topic;

    if (lines->rest_size == 0)
        return 0;
    int r = produce_topic(handle, &topic);
    if (r < 0)
        return r;
    r = walrus_topic_append(topic, &entry, 1, &options, NULL);
    walrus_topic_unref(topic);
    if (r == 0)
        rest_free(handle);
    return r;
}

void lines_fini(struct handle *handle)
{
    rest_free(handle);
}
