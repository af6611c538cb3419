/* SPDX-License-Identifier: MIT */
/*
 * text.c - see text.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "log.h"
#include "metrics.h"
#include "options.h"
#include "text.h"

/* A group's counters; zeros for a topic without its default group. */
static void print_group(FILE *out, struct mount *mount, const struct place_key *key)
{
    struct walrus_group_stat stat = {.id = 0};

    if (key->group != NULL)
        walrus_group_stat(key->group, &stat);
    fprintf(out,
            "pending %" PRIu64 "\n"
            "claimed %" PRIu64 "\n"
            "waiting %" PRIu64 "\n",
            stat.pending_count, stat.claimed_count,
            gate_waiting_count(mount, key->topic_id, key->group_id));
}

static int print_status(FILE *out, struct mount *mount, const struct place_key *key)
{
    struct walrus_topic_stat topic;

    if (key->in_group) {
        struct walrus_group_stat group;
        walrus_group_stat(key->group, &group);
        fprintf(out, "offset %" PRIu64 "\n", group.offset);
        print_group(out, mount, key);
        return 0;
    }
    walrus_topic_stat(key->topic, &topic);
    fprintf(out,
            "entries %" PRIu64 "\n"
            "bytes %" PRIu64 "\n"
            "first %" PRIu64 "\n"
            "tail %" PRIu64 "\n",
            topic.tail_seq, topic.bytes, topic.first_seq, topic.tail_seq);
    print_group(out, mount, key);
    fprintf(out,
            "damaged %" PRIu64 "\n"
            "degraded %d\n"
            "disk_bytes %" PRIu64 "\n"
            "append_max %zu\n"
            "line_max %zu\n"
            "durable %" PRIu64 "\n",
            topic.damaged_count, topic.degraded, topic.disk_bytes, mount->append_size,
            mount->options->line_size, topic.durable_seq);
    return 0;
}

static int print_control(FILE *out, const struct place_key *key)
{
    struct walrus_group_stat group;
    struct walrus_topic_stat topic;
    char text[64];

    if (key->kind == KIND_OFFSET) {
        if (key->group == NULL)
            return -ENXIO;
        walrus_group_stat(key->group, &group);
        fprintf(out, "%" PRIu64 "\n", group.offset);
        return 0;
    }
    walrus_topic_stat(key->topic, &topic);
    if (key->kind == KIND_RETENTION) {
        names_format_retention(&topic.retention, text, sizeof(text));
        fprintf(out, "%s\n", text);
    } else if (topic.limit == 0) {
        fprintf(out, "none\n");
    } else {
        fprintf(out, "%" PRIu64 "\n", topic.limit);
    }
    return 0;
}

static void print_config(FILE *out, struct mount *mount)
{
    const struct options *options = mount->options;
    const struct walrus_options *walrus = &options->walrus;
    struct walrus_stat stat;

    walrus_stat(mount->store, &stat);
    fprintf(out, "store %s\nmountpoint %s\n", options->store, options->mountpoint);
    const char *key = walrus->key != NULL ? walrus->key : getenv("WALRUS_INSTANCE_KEY");
    if (key != NULL)
        fprintf(out, "key %s\n", key);
    if (walrus->consistency == WALRUS_STRICT)
        fprintf(out, "consistency strict\n");
    else
        fprintf(out, "consistency at-least-once:%u\n",
                walrus->persist_every != 0 ? walrus->persist_every : 1);
    switch (walrus->fsync) {
    case WALRUS_FSYNC_MS:
        fprintf(out, "fsync %u\n", walrus->fsync_ms != 0 ? walrus->fsync_ms : 1000);
        break;
    case WALRUS_FSYNC_EACH:
        fprintf(out, "fsync each\n");
        break;
    case WALRUS_FSYNC_NEVER:
        fprintf(out, "fsync never\n");
        break;
    }
    fprintf(out,
            "line_max %zu\nappend_max %zu\nautocreate %d\nread_only %d\nblock_size %u\n"
            "blocks_per_file %u\n",
            options->line_size, mount->append_size, options->autocreate, stat.read_only,
            stat.block_size, stat.blocks_per_file);
}

static int text_print(FILE *out, struct mount *mount, const struct place_key *key)
{
    switch (key->kind) {
    case KIND_STATUS:
        return print_status(out, mount, key);
    case KIND_OFFSET:
    case KIND_RETENTION:
    case KIND_LIMIT:
        return print_control(out, key);
    case KIND_VERSION:
        fprintf(out, "%s\n", WALRUS_VERSION);
        return 0;
    case KIND_CONFIG:
        print_config(out, mount);
        return 0;
    case KIND_METRICS:
        return metrics_print(out, mount);
    default:
        return -EINVAL;
    }
}

int text_render(struct mount *mount, const struct place_key *key, char **ret_text, size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0;

    if (key->kind == KIND_ERRORS)
        return log_errors(ret_text, ret_size);
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return -ENOMEM;
    int r = text_print(out, mount, key);
    if (fclose(out) != 0 && r == 0)
        r = -ENOMEM;
    if (r < 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}

int text_size(struct mount *mount, const struct place_key *key, uint64_t *ret_size)
{
    char *text;
    size_t size;

    int r = text_render(mount, key, &text, &size);
    if (r == -ENXIO) {
        *ret_size = 0; /* it is there, and cannot be opened */
        return 0;
    }
    if (r < 0)
        return r;
    free(text);
    *ret_size = size;
    return 0;
}

int text_store(const struct place_key *key, const char *text, size_t size)
{
    struct walrus_retention retention;
    enum walrus_whence whence;
    uint64_t value;
    int r;

    switch (key->kind) {
    case KIND_OFFSET:
        if (key->group == NULL)
            return -ENXIO;
        r = names_parse_seek(text, size, &whence, &value);
        return r < 0 ? r : walrus_group_seek(key->group, whence, value);
    case KIND_RETENTION:
        r = names_parse_retention(text, size, &retention);
        return r < 0 ? r : walrus_topic_set_retention(key->topic, &retention);
    case KIND_LIMIT:
        r = names_parse_limit(text, size, &value);
        return r < 0 ? r : walrus_topic_set_limit(key->topic, value);
    default:
        return -EACCES;
    }
}
