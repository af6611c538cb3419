/* SPDX-License-Identifier: MIT */
/*
 * json.c - writes JSON on stdout, and tells UTF-8 from other bytes.
 *
 * Serves the commands.  By hand and not by a library: all that is wanted is to print flat objects
 * in lists, piece by piece while a long check runs, with names that may be any bytes, which
 * libraries refuse.  What could not be written is noticed once, at the end of main.
 */
#include "ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool comma; /* something stands before at this level */

static void text_put(const void *data, size_t left)
{
    const char *at = data;
    size_t size;
    putchar('"');
    for (; left > 0; at += size, left -= size) {
        size = utf8_size(at, left);
        if (size == 0)
            printf("\\\\x%02x", (unsigned char)at[0]);
        else if (at[0] == '"' || at[0] == '\\')
            printf("\\%c", at[0]);
        else
            fwrite(at, 1, size, stdout);
        size = MAX(size, 1);
    }
    putchar('"');
}

static void key_put(const char *key)
{
    if (comma)
        putchar(',');
    comma = true;
    if (key) {
        text_put(key, strlen(key));
        putchar(':');
    }
}

void json_begin(const char *key, char bracket)
{
    key_put(key);
    putchar(bracket);
    comma = false;
}

void json_end(char bracket)
{
    putchar(bracket);
    comma = true;
}

void json_finish(void)
{
    putchar('\n');
    comma = false;
}

void json_string(const char *key, const char *value)
{
    key_put(key);
    if (value)
        text_put(value, strlen(value));
    else
        fputs("null", stdout);
}

void json_bytes(const char *key, const void *data, size_t size)
{
    key_put(key);
    text_put(data, size);
}

void json_number(const char *key, uint64_t value)
{
    key_put(key);
    printf("%" PRIu64, value);
}

void json_bool(const char *key, bool value)
{
    key_put(key);
    fputs(value ? "true" : "false", stdout);
}

size_t utf8_size(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80)
        return at[0] >= 0x20 && at[0] != 0x7f ? 1 : 0;
    size_t want = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4 || size < want)
        return 0;
    uint32_t code = at[0] & (0xffu >> (want + 1));
    for (size_t i = 1; i < want; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool good = code >= least[want] && code <= 0x10ffff && !(code >= 0xd800 && code < 0xe000) &&
                code >= 0xa0; /* 0x80 to 0x9f steer terminals */
    return good ? want : 0;
}
