/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - see metrics.h.
 *
 * The format wants all samples of one metric together, so the numbers of all topics and groups are
 * gathered first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "metrics.h"
#include "names.h"

struct sample {
    char *topic; /* escaped, from malloc */
    char *group; /* the same; NULL: of the topic itself */
    struct walrus_topic_stat topic_stat;
    struct walrus_group_stat group_stat;
    uint64_t waiting;
};

struct samples {
    struct sample *items;
    size_t count, room;
};

static struct sample *samples_add(struct samples *samples)
{
    if (samples->count == samples->room) {
        size_t room = samples->room != 0 ? samples->room * 2 : 16;
        struct sample *items = realloc(samples->items, room * sizeof(*items));
        if (items == NULL)
            return NULL;
        samples->items = items;
        samples->room = room;
    }
    struct sample *sample = &samples->items[samples->count++];
    *sample = (struct sample){.waiting = 0};
    return sample;
}

/* A copy of the name as a label has it, or NULL. */
static char *label_of(const char *name)
{
    char text[NAMES_ESCAPED_SIZE];
    names_escape(name, true, text, sizeof(text));
    return strdup(text);
}

static int gather_groups(struct samples *samples, struct mount *mount, struct walrus_topic *topic,
                         const char *topic_name, uint64_t topic_id)
{
    struct walrus_group *group;
    uint64_t after = 0;
    char name[WALRUS_NAME_SIZE_MAX + 1];

    while (walrus_group_after(topic, after, &group) == 0) {
        struct sample *sample = samples_add(samples);
        bool named = false;
        if (sample != NULL) {
            walrus_group_name(group, name);
            sample->topic = label_of(topic_name);
            sample->group = label_of(name);
            named = sample->topic != NULL && sample->group != NULL;
            walrus_group_stat(group, &sample->group_stat);
            after = sample->group_stat.id;
            sample->waiting = gate_waiting_count(mount, topic_id, after);
        }
        walrus_group_unref(group);
        if (!named)
            return -ENOMEM;
    }
    return 0;
}

static int gather(struct samples *samples, struct mount *mount)
{
    struct walrus_topic *topic;
    uint64_t after = 0;
    char name[WALRUS_NAME_SIZE_MAX + 1];

    while (walrus_topic_after(mount->store, after, &topic) == 0) {
        struct sample *sample = samples_add(samples);
        int r = -ENOMEM;
        if (sample != NULL) {
            walrus_topic_name(topic, name);
            sample->topic = label_of(name);
            walrus_topic_stat(topic, &sample->topic_stat);
            after = sample->topic_stat.id;
            if (sample->topic != NULL) /* `sample` moves from here on */
                r = gather_groups(samples, mount, topic, name, after);
        }
        walrus_topic_unref(topic);
        if (r < 0)
            return r;
    }
    return 0;
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP walrusfs_%s %s\n# TYPE walrusfs_%s %s\n", name, help, name, type);
}

/* One number of each topic or group: at `offset` in struct sample, a uint64_t. */
struct column {
    const char *name, *type, *help;
    size_t offset;
    bool of_group;
};

#define TOPIC_COLUMN(name, type, field, help)                                                      \
    {                                                                                              \
        name, type, help, offsetof(struct sample, topic_stat.field), false                         \
    }
#define GROUP_COLUMN(name, type, field, help)                                                      \
    {                                                                                              \
        name, type, help, offsetof(struct sample, group_stat.field), true                          \
    }

/* "untyped": numbers that only grow, under the names that `status` has for them.  Prometheus wants
 * counters to end in _total. */
static const struct column columns[] = {
    TOPIC_COLUMN("entries", "untyped", tail_seq, "Entries ever stored."),
    TOPIC_COLUMN("bytes", "untyped", bytes, "Bytes of entries ever stored."),
    TOPIC_COLUMN("first", "gauge", first_seq, "Oldest retained sequence number."),
    TOPIC_COLUMN("tail", "gauge", tail_seq, "Next sequence number."),
    TOPIC_COLUMN("durable", "gauge", durable_seq, "All entries below are known to be durable."),
    TOPIC_COLUMN("damaged", "untyped", damaged_count, "Damaged entries met since the mount."),
    TOPIC_COLUMN("limit_bytes", "gauge", limit, "Most disk space of the topic, 0: no limit."),
    TOPIC_COLUMN("disk_bytes", "gauge", disk_bytes, "Disk space of the topic's blocks."),
    GROUP_COLUMN("offset", "gauge", offset, "Lowest sequence number not consumed."),
    GROUP_COLUMN("pending", "gauge", pending_count, "Entries neither consumed nor claimed."),
    GROUP_COLUMN("claimed", "gauge", claimed_count, "Entries in hand."),
    {"waiting", "gauge", "Readers that wait.", offsetof(struct sample, waiting), true},
};

static void print_column(FILE *out, const struct samples *samples, const struct column *column)
{
    head(out, column->name, column->type, column->help);
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->items[i];
        const uint64_t *value = (const void *)((const char *)sample + column->offset);
        if (column->of_group != (sample->group != NULL))
            continue;
        if (column->of_group)
            fprintf(out, "walrusfs_%s{topic=\"%s\",group=\"%s\"} %" PRIu64 "\n", column->name,
                    sample->topic, sample->group, *value);
        else
            fprintf(out, "walrusfs_%s{topic=\"%s\"} %" PRIu64 "\n", column->name, sample->topic,
                    *value);
    }
}

static void print_times(FILE *out, const struct samples *samples)
{
    head(out, "degraded", "gauge", "1: a sync failed, and the topic refuses appends.");
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].group == NULL)
            fprintf(out, "walrusfs_degraded{topic=\"%s\"} %d\n", samples->items[i].topic,
                    samples->items[i].topic_stat.degraded);
    }
    head(out, "last_append_seconds", "gauge", "Time of the last append, since the epoch.");
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].group == NULL)
            fprintf(out, "walrusfs_last_append_seconds{topic=\"%s\"} %.3f\n",
                    samples->items[i].topic,
                    (double)samples->items[i].topic_stat.last_time_ns / 1e9);
    }
    head(out, "last_take_seconds", "gauge", "Time of the last take, since the epoch.");
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].group != NULL)
            fprintf(out, "walrusfs_last_take_seconds{topic=\"%s\",group=\"%s\"} %.3f\n",
                    samples->items[i].topic, samples->items[i].group,
                    (double)samples->items[i].group_stat.last_take_ns / 1e9);
    }
}

static void print_syncs(FILE *out, const struct walrus_stat *stat)
{
    uint64_t sum = 0;

    head(out, "sync_seconds", "histogram", "Syncs of data since the mount, by the time they took.");
    for (size_t i = 0; i < WALRUS_SYNC_BUCKET_COUNT - 1; i++) {
        sum += stat->sync_buckets[i];
        fprintf(out, "walrusfs_sync_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
                (double)(WALRUS_SYNC_BUCKET_NS << i) / 1e9, sum);
    }
    /* The sum of the buckets, not sync_count, which may be a sync ahead. */
    sum += stat->sync_buckets[WALRUS_SYNC_BUCKET_COUNT - 1];
    fprintf(out,
            "walrusfs_sync_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
            "walrusfs_sync_seconds_sum %.6f\n"
            "walrusfs_sync_seconds_count %" PRIu64 "\n",
            sum, (double)stat->sync_ns / 1e9, sum);
}

static void print_store(FILE *out, struct mount *mount)
{
    struct walrus_stat stat;

    walrus_stat(mount->store, &stat);
    const struct {
        const char *name, *type, *help;
        uint64_t value;
    } numbers[] = {
        {"topics", "gauge", "Topics.", stat.topic_count},
        {"files", "gauge", "Log files.", stat.file_count},
        {"blocks", "gauge", "Blocks in log files.", stat.block_count},
        {"free_blocks", "gauge", "Blocks that belong to no topic.", stat.free_block_count},
        {"reclaimed_bytes_total", "counter", "Disk space given back since the mount.",
         stat.reclaimed_bytes},
        {"open_files", "gauge", "Open files of the mount.", atomic_load(&mount->handle_count)},
        {"held_bytes", "gauge", "Memory for lines that were not ended.",
         atomic_load(&mount->rest_size)},
    };
    for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
        head(out, numbers[i].name, numbers[i].type, numbers[i].help);
        fprintf(out, "walrusfs_%s %" PRIu64 "\n", numbers[i].name, numbers[i].value);
    }
    print_syncs(out, &stat);
}

int metrics_print(FILE *out, struct mount *mount)
{
    struct samples samples = {NULL, 0, 0};

    int r = gather(&samples, mount);
    if (r == 0) {
        for (size_t i = 0; i < ARRAY_COUNT(columns); i++)
            print_column(out, &samples, &columns[i]);
        print_times(out, &samples);
        print_store(out, mount);
    }
    for (size_t i = 0; i < samples.count; i++) {
        free(samples.items[i].topic);
        free(samples.items[i].group);
    }
    free(samples.items);
    return r;
}
