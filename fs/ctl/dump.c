/* SPDX-License-Identifier: MIT */
/*
 * dump.c - walrusctl dump: what is retained in the topics of a store that is not mounted.
 *
 * Opens the store read-only, so it changes nothing and takes nothing.  Entries are read one by one;
 * one that is damaged has a line that says so, and makes the exit status 2.
 */
#include "survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct dump {
    struct ctl *ctl;
    struct walrus *store;
    bool raw; /* the bytes of the entries and nothing else */
    bool damaged;
};

/* Data as text: what is not printable UTF-8 stands as \xNN, a backslash is doubled. */
static void print_data(const char *data, size_t left)
{
    for (size_t size; left > 0; data += size, left -= size) {
        size = utf8_size(data, left);
        if (size == 0)
            printf("\\x%02x", (unsigned char)data[0]);
        else if (data[0] == '\\')
            fputs("\\\\", stdout);
        else
            fwrite(data, 1, size, stdout);
        size = MAX(size, 1);
    }
}

static void base64(const uint8_t *data, size_t size, char *to)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t three = (uint32_t)data[i] << 16;
        three |= i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0;
        three |= i + 2 < size ? data[i + 2] : 0;
        *to++ = letters[three >> 18];
        *to++ = letters[three >> 12 & 63];
        *to++ = i + 1 < size ? letters[three >> 6 & 63] : '=';
        *to++ = i + 2 < size ? letters[three & 63] : '=';
    }
    *to = 0;
}

static enum ctl_result entry_json(const char *topic, const struct walrus_entry *entry)
{
    char *text = malloc(entry->size / 3 * 4 + 5);
    if (!text)
        return CTL_CANNOT;
    base64(entry->data, entry->size, text);
    json_begin(NULL, '{');
    json_string("topic", topic);
    json_number("seq", entry->seq);
    json_number("time_ns", entry->time_ns);
    json_number("size", entry->size);
    json_string("base64", text);
    json_end('}');
    putchar('\n');
    free(text);
    return CTL_OK;
}

static void entry_damaged(struct dump *d, const char *topic, uint64_t seq)
{
    d->damaged = true;
    if (d->ctl->json) {
        json_begin(NULL, '{');
        json_string("topic", topic);
        json_number("seq", seq);
        json_bool("damaged", true);
        json_end('}');
        putchar('\n');
    } else if (d->raw) {
        fprintf(stderr, "walrusctl dump: entry %" PRIu64 " is damaged\n", seq);
    } else {
        ctl_print_name(stdout, topic);
        printf(" %" PRIu64 " damaged\n", seq);
    }
}

static enum ctl_result dump_entry(struct dump *d, const char *topic, uint64_t seq)
{
    struct walrus_entry entry;
    enum ctl_result result = CTL_OK;
    int r = walrus_read_at(d->store, topic, seq, &entry);
    if (r == -EBADMSG || r == -ENOENT) {
        entry_damaged(d, topic, seq);
        return CTL_OK;
    }
    if (r < 0)
        return ctl_fail(d->ctl, r, "entry %" PRIu64 " cannot be read", seq);
    if (d->ctl->json) {
        result = entry_json(topic, &entry);
    } else if (d->raw) {
        fwrite(entry.data, 1, entry.size, stdout);
    } else {
        ctl_print_name(stdout, topic);
        printf(" %" PRIu64 " %" PRIu64 ".%09" PRIu64 " %zu ", entry.seq, entry.time_ns / 1000000000,
               entry.time_ns % 1000000000, entry.size);
        print_data(entry.data, entry.size);
        putchar('\n');
    }
    free(entry.data);
    return result;
}

static enum ctl_result dump_topic(struct dump *d, struct walrus_topic *topic)
{
    char name[WALRUS_NAME_SIZE_MAX + 1];
    struct walrus_topic_stat stat;
    enum ctl_result result = CTL_OK;
    walrus_topic_name(topic, name);
    walrus_topic_stat(topic, &stat);
    for (uint64_t seq = stat.first_seq; result == CTL_OK && seq < stat.tail_seq; seq++) {
        result = dump_entry(d, name, seq);
        if (ferror(stdout))
            return CTL_CANNOT; /* main says so */
    }
    return result;
}

static enum ctl_result dump_store(struct dump *d, const char *only)
{
    struct walrus_topic *topic;
    enum ctl_result result = CTL_OK;
    if (only) {
        int r = walrus_topic_find(d->store, only, &topic);
        if (r < 0)
            return ctl_fail(d->ctl, r, "topic %s", only);
        result = dump_topic(d, topic);
        walrus_topic_unref(topic);
        return result;
    }
    for (uint64_t id = 0; result == CTL_OK && walrus_topic_after(d->store, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        walrus_topic_stat(topic, &stat);
        id = stat.id;
        result = dump_topic(d, topic);
        walrus_topic_unref(topic);
    }
    return result;
}

enum ctl_result command_dump(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {CTL_OPTIONS, {"raw", no_argument, NULL, 'r'}, {0}};
    struct dump d = {.ctl = ctl};
    int option;
    while ((option = getopt_long(argc, argv, CTL_LETTERS "r", known, NULL)) != -1) {
        if (option == 'r')
            d.raw = true;
        else if (!ctl_option(ctl, option))
            return ctl_usage(ctl, NULL);
    }
    if (optind + 1 != argc && optind + 2 != argc)
        return ctl_usage(ctl, "a store is wanted, and at most one topic");
    if (d.raw && ctl->json)
        return ctl_usage(ctl, "--raw and --json exclude each other");
    struct walrus_options options = {.key = ctl->key,
                                     .read_only = true,
                                     .must_exist = true,
                                     .force = true,
                                     .report = ctl_report,
                                     .report_arg = ctl};
    int r = walrus_open(ctl_store(ctl, argv[optind]), &options, &d.store);
    if (r < 0)
        return survey_fail(ctl, r, argv[optind], "opened");
    if (ctl->json) {
        json_begin(NULL, '[');
        putchar('\n');
    }
    enum ctl_result result = dump_store(&d, optind + 2 == argc ? argv[optind + 1] : NULL);
    if (ctl->json) {
        json_end(']');
        putchar('\n');
    }
    walrus_close(d.store);
    return result == CTL_OK && d.damaged ? CTL_DAMAGE : result;
}
