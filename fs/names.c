/* SPDX-License-Identifier: MIT */
/*
 * names.c - see names.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "names.h"

#define CONSUMER (KIND_CONSUMES | KIND_HAS_GROUP | KIND_IN_TOPIC | KIND_IN_GROUP)
#define HOLDER   (CONSUMER | KIND_OWN_NODE | KIND_EXCLUSIVE)
#define PRODUCER (KIND_PRODUCES | KIND_OWN_NODE | KIND_IN_TOPIC)
#define TEXT     (KIND_IS_TEXT | KIND_OWN_NODE)

/* In the order in which directories list them. */
static const struct kind_info kinds[KIND_COUNT] = {
    [KIND_ROOT] = {NULL, KIND_IS_DIR},
    [KIND_META] = {".walrusfs", KIND_IS_DIR},
    [KIND_TOPIC] = {NULL, KIND_IS_DIR},
    [KIND_GROUPS] = {"groups", KIND_IS_DIR | KIND_IN_TOPIC},
    [KIND_ENTRIES] = {"entries", KIND_IS_DIR | KIND_IN_TOPIC},
    [KIND_GROUP] = {NULL, KIND_IS_DIR},
    [KIND_APPEND] = {"append", PRODUCER},
    [KIND_LINES] = {"lines", PRODUCER},
    [KIND_BLOB] = {"blob", PRODUCER | KIND_EXCLUSIVE},
    [KIND_BATCH] = {"batch",
                    CONSUMER | KIND_OWN_NODE | KIND_PRODUCES | KIND_MAY_PARK | KIND_STREAM},
    [KIND_NEXT] = {"next", HOLDER},
    [KIND_WAIT] = {"wait", HOLDER | KIND_MAY_PARK},
    [KIND_DRAIN] = {"drain", HOLDER},
    [KIND_FOLLOW] = {"follow", CONSUMER | KIND_MAY_PARK | KIND_STREAM},
    [KIND_PEEK] = {"peek", HOLDER},
    [KIND_OFFSET] = {"offset", TEXT | KIND_HAS_GROUP | KIND_IN_TOPIC | KIND_IN_GROUP},
    [KIND_STATUS] = {"status", TEXT | KIND_HAS_GROUP | KIND_IN_TOPIC | KIND_IN_GROUP},
    [KIND_RETENTION] = {"retention", TEXT | KIND_IN_TOPIC},
    [KIND_LIMIT] = {"limit", TEXT | KIND_IN_TOPIC},
    [KIND_ENTRY] = {NULL, 0},
    [KIND_VERSION] = {"version", TEXT | KIND_IN_META},
    [KIND_CONFIG] = {"config", TEXT | KIND_IN_META},
    [KIND_METRICS] = {"metrics", TEXT | KIND_IN_META},
    [KIND_ERRORS] = {"errors", TEXT | KIND_IN_META},
};

const struct kind_info *kind_info(enum kind kind)
{
    WALRUS_ASSERT(kind < KIND_COUNT);
    return &kinds[kind];
}

static unsigned dir_flag(enum kind dir)
{
    switch (dir) {
    case KIND_TOPIC:
        return KIND_IN_TOPIC;
    case KIND_GROUP:
        return KIND_IN_GROUP;
    case KIND_META:
        return KIND_IN_META;
    default:
        return 0;
    }
}

bool names_find_fixed(enum kind dir, const char *name, enum kind *ret_kind)
{
    unsigned flag = dir_flag(dir);
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        if ((kinds[i].flags & flag) != 0 && strcmp(kinds[i].name, name) == 0) {
            *ret_kind = (enum kind)i;
            return true;
        }
    }
    return false;
}

bool names_list_fixed(enum kind dir, unsigned index, enum kind *ret_kind)
{
    unsigned flag = dir_flag(dir);
    for (unsigned i = 0; i < KIND_COUNT; i++) {
        if ((kinds[i].flags & flag) == 0)
            continue;
        if (index == 0) {
            *ret_kind = (enum kind)i;
            return true;
        }
        index--;
    }
    return false;
}

/* Reads digits; leading zeros are fine here.  -EINVAL: something else; -ERANGE: too large. */
static int parse_digits(const char *text, size_t size, uint64_t *ret_value)
{
    uint64_t value = 0;
    int r = size > 0 ? 0 : -EINVAL;

    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            r = -ERANGE;
    }
    if (r == 0)
        *ret_value = value;
    return r;
}

bool names_parse_number(const char *text, size_t size, uint64_t *ret_value)
{
    if (size > 1 && text[0] == '0')
        return false;
    return parse_digits(text, size, ret_value) == 0;
}

/* The text without what `echo` and editors put around it. */
static void trim(const char **text, size_t *size)
{
    while (*size > 0 && ((*text)[0] == ' ' || (*text)[0] == '\t')) {
        (*text)++;
        (*size)--;
    }
    while (*size > 0 && strchr(" \t\r\n", (*text)[*size - 1]) != NULL && (*text)[*size - 1] != '\0')
        (*size)--;
}

static bool text_is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && memcmp(text, word, size) == 0;
}

int names_parse_seek(const char *text, size_t size, enum walrus_whence *ret_whence,
                     uint64_t *ret_value)
{
    uint64_t value;

    trim(&text, &size);
    if (text_is(text, size, "begin")) {
        *ret_whence = WALRUS_SEEK_BEGIN;
        *ret_value = 0;
        return 0;
    }
    if (text_is(text, size, "end")) {
        *ret_whence = WALRUS_SEEK_END;
        *ret_value = 0;
        return 0;
    }
    bool relative = size > 0 && (text[0] == '+' || text[0] == '-');
    int r = parse_digits(text + relative, size - relative, &value);
    if (r == 0 && relative && value > INT64_MAX)
        r = -ERANGE;
    if (r < 0)
        return r;
    *ret_whence = relative ? WALRUS_SEEK_BY : WALRUS_SEEK_TO;
    *ret_value = relative && text[0] == '-' ? -value : value;
    return 0;
}

int names_parse_size(const char *text, size_t size, uint64_t *ret_value)
{
    static const char units[] = "KMGT";
    uint64_t value, unit = 1;

    trim(&text, &size);
    if (size == 0)
        return -EINVAL;
    const char *at = strchr(units, text[size - 1]);
    if (at != NULL && *at != '\0') {
        unit = 1ull << (10 * (at - units + 1));
        size--;
    }
    if (parse_digits(text, size, &value) < 0 || __builtin_mul_overflow(value, unit, &value))
        return -EINVAL;
    *ret_value = value;
    return 0;
}

int names_parse_limit(const char *text, size_t size, uint64_t *ret_limit)
{
    uint64_t value;

    trim(&text, &size);
    if (text_is(text, size, "none")) {
        *ret_limit = 0;
        return 0;
    }
    int r = names_parse_size(text, size, &value);
    if (r < 0)
        return r;
    if (value == 0)
        return -EINVAL;
    *ret_limit = value;
    return 0;
}

static bool parse_age(const char *text, size_t size, uint64_t *ret_seconds)
{
    static const struct {
        char unit;
        uint32_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    uint64_t value;

    for (size_t i = 0; size > 0 && i < ARRAY_COUNT(units); i++) {
        if (text[size - 1] != units[i].unit)
            continue;
        if (parse_digits(text, size - 1, &value) < 0 ||
            __builtin_mul_overflow(value, units[i].seconds, &value))
            return false;
        *ret_seconds = value;
        return true;
    }
    return false;
}

int names_parse_retention(const char *text, size_t size, struct walrus_retention *ret_retention)
{
    struct walrus_retention retention = {.kind = WALRUS_KEEP_CONSUMED};

    trim(&text, &size);
    if (text_is(text, size, "all")) {
        retention.kind = WALRUS_KEEP_ALL;
    } else if (text_is(text, size, "consumed")) {
        retention.kind = WALRUS_KEEP_CONSUMED;
    } else if (parse_age(text, size, &retention.value)) {
        retention.kind = WALRUS_KEEP_AGE;
    } else if (names_parse_size(text, size, &retention.value) == 0) {
        retention.kind = WALRUS_KEEP_SIZE;
    } else {
        return -EINVAL;
    }
    *ret_retention = retention;
    return 0;
}

static void format_scaled(uint64_t value, const char *units, const uint64_t *factors, size_t count,
                          char *ret_text, size_t room)
{
    for (size_t i = 0; i < count; i++) {
        if (value != 0 && value % factors[i] == 0) {
            snprintf(ret_text, room, "%" PRIu64 "%c", value / factors[i], units[i]);
            return;
        }
    }
    snprintf(ret_text, room, "%" PRIu64, value);
}

void names_format_retention(const struct walrus_retention *retention, char *ret_text, size_t room)
{
    static const uint64_t sizes[] = {1ull << 40, 1 << 30, 1 << 20, 1 << 10};
    static const uint64_t ages[] = {86400, 3600, 60, 1};

    switch (retention->kind) {
    case WALRUS_KEEP_CONSUMED:
        snprintf(ret_text, room, "consumed");
        break;
    case WALRUS_KEEP_ALL:
        snprintf(ret_text, room, "all");
        break;
    case WALRUS_KEEP_SIZE:
        format_scaled(retention->value, "TGMK", sizes, ARRAY_COUNT(sizes), ret_text, room);
        break;
    case WALRUS_KEEP_AGE:
        if (retention->value == 0)
            snprintf(ret_text, room, "0s");
        else
            format_scaled(retention->value, "dhms", ages, ARRAY_COUNT(ages), ret_text, room);
        break;
    }
}

/* Bytes of the UTF-8 sequence at `text`, 0 if it is none. */
static size_t utf8_size(const unsigned char *text)
{
    size_t size = text[0] < 0x80                       ? 1
                  : text[0] >= 0xc2 && text[0] <= 0xdf ? 2
                  : text[0] >= 0xe0 && text[0] <= 0xef ? 3
                  : text[0] >= 0xf0 && text[0] <= 0xf4 ? 4
                                                       : 0;
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    /* overlong forms, surrogates, and what lies behind U+10FFFF */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return size;
}

void names_escape(const char *name, bool quote, char *ret_text, size_t room)
{
    const unsigned char *from = (const unsigned char *)name;
    char *to = ret_text;

    while (*from != '\0' && (size_t)(to - ret_text) + 6 <= room) {
        size_t size = utf8_size(from);
        bool plain = size > 1 || (size == 1 && *from >= 0x20 && *from != 0x7f);
        if (plain && quote && (*from == '"' || *from == '\\')) {
            *to++ = '\\';
            *to++ = (char)*from++;
        } else if (plain) {
            memcpy(to, from, size);
            to += size;
            from += size;
        } else {
            to += snprintf(to, 6, quote ? "\\\\x%02x" : "\\x%02x", *from);
            from++;
        }
    }
    *to = '\0';
}
