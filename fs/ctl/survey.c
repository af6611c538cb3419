/* SPDX-License-Identifier: MIT */
/*
 * survey.c - see survey.h.
 *
 * The metrics are read by the names of their samples; what is not known is passed over, so that an
 * older tool works with a newer daemon.
 */
#include "survey.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <mntent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "sync.h"

#define METRICS  ".walrusfs/metrics"
#define FUSETYPE "fuse.walrusfs"

/* Whether the mount serves the namespace `key` of its store. */
static bool has_key(const char *mountpoint, const char *key)
{
    char path[PATH_MAX], *line = NULL;
    size_t room = 0;
    bool same = key == NULL;

    if (snprintf(path, sizeof(path), "%s/.walrusfs/config", mountpoint) >= (int)sizeof(path))
        return false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false; /* dead, or not ours to look at */
    while (getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "key ", 4) == 0)
            same = key != NULL && strcmp(line + 4, key) == 0;
    }
    free(line);
    fclose(file);
    return same;
}

int survey_find_mount(const char *path, const char *key, char **ret_mountpoint)
{
    char real[PATH_MAX], metrics[PATH_MAX];
    struct mntent *entry;

    if (realpath(path, real) == NULL)
        return -errno;
    if (snprintf(metrics, sizeof(metrics), "%s/" METRICS, real) < (int)sizeof(metrics) &&
        access(metrics, F_OK) == 0) {
        *ret_mountpoint = strdup(real);
        return *ret_mountpoint != NULL ? 0 : -ENOMEM;
    }
    FILE *table = setmntent("/proc/self/mounts", "re");
    if (table == NULL)
        return WALRUS_EMPTY; /* then nothing is known to be mounted */
    char *found = NULL;
    int r = WALRUS_EMPTY;
    while (r == WALRUS_EMPTY && (entry = getmntent(table)) != NULL) {
        if (strcmp(entry->mnt_type, FUSETYPE) != 0 || strcmp(entry->mnt_fsname, real) != 0 ||
            !has_key(entry->mnt_dir, key))
            continue;
        found = strdup(entry->mnt_dir);
        r = found != NULL ? 0 : -ENOMEM;
    }
    endmntent(table);
    if (r == 0)
        *ret_mountpoint = found;
    return r;
}

/* The store that is mounted at `mountpoint`; from malloc.  NULL: it is not known. */
static char *store_at(const char *mountpoint)
{
    FILE *table = setmntent("/proc/self/mounts", "re");
    struct mntent *entry;
    char *store = NULL;

    if (table == NULL)
        return NULL;
    while (store == NULL && (entry = getmntent(table)) != NULL)
        if (strcmp(entry->mnt_type, FUSETYPE) == 0 && strcmp(entry->mnt_dir, mountpoint) == 0)
            store = strdup(entry->mnt_fsname);
    endmntent(table);
    return store;
}

enum ctl_result survey_fail(struct ctl *ctl, int error, const char *path, const char *what)
{
    char *mountpoint = NULL, *store = NULL, real[PATH_MAX];

    if (realpath(path, real) == NULL)
        return ctl_fail(ctl, error, "%s cannot be %s", path, what);
    if (survey_find_mount(path, ctl->key, &mountpoint) == 0)
        store = store_at(mountpoint);
    if (store != NULL && strcmp(mountpoint, real) == 0)
        ctl_fail(ctl, 0, "%s is a mountpoint: give the store that is mounted there, %s", path,
                 store);
    else if (error == -EBUSY && mountpoint != NULL)
        ctl_fail(ctl, 0, "%s is mounted: unmount it first, with fusermount3 -u -- %s", path,
                 mountpoint);
    else if (error == -ENOENT)
        ctl_fail(ctl, 0, "there is no store in %s%s%s", path,
                 ctl->key != NULL ? " for the key " : "", ctl->key != NULL ? ctl->key : "");
    else
        ctl_fail(ctl, error, "%s cannot be %s", path, what);
    free(mountpoint);
    free(store);
    return CTL_CANNOT;
}

/* ------------------------------------------------------------------------------------ the parts */

struct survey_index {
    UT_hash_handle hh;
    size_t at; /* in survey.topics */
};

static struct survey_topic *topic_of(struct survey *survey, const char *name)
{
    struct survey_index *index = NULL;
    HASH_FIND_STR(survey->index, name, index);
    if (index != NULL)
        return &survey->topics[index->at];
    struct survey_topic *topics =
        reallocarray(survey->topics, survey->topic_count + 1, sizeof(*topics));
    char *copy = strdup(name);
    if (topics != NULL)
        survey->topics = topics;
    index = calloc(1, sizeof(*index));
    if (index != NULL && copy != NULL)
        HASH_ADD_KEYPTR(hh, survey->index, copy, strlen(copy), index);
    if (topics == NULL || index == NULL || index->hh.tbl == NULL) {
        if (index != NULL && index->hh.tbl != NULL)
            HASH_DEL(survey->index, index);
        free(index);
        free(copy);
        return NULL;
    }
    index->at = survey->topic_count++;
    topics[index->at] = (struct survey_topic){.name = copy};
    return &topics[index->at];
}

static void index_free(struct survey *survey)
{
    struct survey_index *index = survey->index, *next;
    HASH_CLEAR(hh, survey->index);
    for (; index != NULL; index = next) {
        next = index->hh.next;
        free(index);
    }
}

static struct survey_group *group_of(struct survey_topic *topic, const char *name)
{
    for (size_t i = 0; i < topic->group_count; i++)
        if (strcmp(topic->groups[i].name, name) == 0)
            return &topic->groups[i];
    struct survey_group *groups =
        reallocarray(topic->groups, topic->group_count + 1, sizeof(*groups));
    char *copy = strdup(name);
    if (groups != NULL)
        topic->groups = groups;
    if (groups == NULL || copy == NULL) {
        free(copy);
        return NULL;
    }
    groups[topic->group_count] = (struct survey_group){.name = copy};
    return &groups[topic->group_count++];
}

static int by_topic(const void *a, const void *b)
{
    return strcmp(((const struct survey_topic *)a)->name, ((const struct survey_topic *)b)->name);
}

static int by_group(const void *a, const void *b)
{
    return strcmp(((const struct survey_group *)a)->name, ((const struct survey_group *)b)->name);
}

static void survey_sort(struct survey *survey)
{
    index_free(survey); /* topics go to other places */
    if (survey->topic_count > 0)
        qsort(survey->topics, survey->topic_count, sizeof(*survey->topics), by_topic);
    for (size_t i = 0; i < survey->topic_count; i++)
        if (survey->topics[i].group_count > 0)
            qsort(survey->topics[i].groups, survey->topics[i].group_count,
                  sizeof(struct survey_group), by_group);
}

const struct survey_topic *survey_find(const struct survey *survey, const char *name)
{
    const struct survey_topic key = {.name = (char *)(uintptr_t)name};
    if (survey->topic_count == 0)
        return NULL;
    return bsearch(&key, survey->topics, survey->topic_count, sizeof(key), by_topic);
}

void survey_fini(struct survey *survey)
{
    index_free(survey);
    for (size_t i = 0; i < survey->topic_count; i++) {
        for (size_t j = 0; j < survey->topics[i].group_count; j++)
            free(survey->topics[i].groups[j].name);
        free(survey->topics[i].groups);
        free(survey->topics[i].name);
    }
    free(survey->topics);
    free(survey->mountpoint);
    *survey = (struct survey){.topics = NULL};
}

/* --------------------------------------------------------------------------------- from a mount */

/* Takes the value of label `key` out of `labels`, the escapes undone; false: it is not there. */
static bool take_label(const char *labels, const char *key, char *ret_value, size_t room)
{
    char start[32];
    snprintf(start, sizeof(start), "%s=\"", key);
    const char *at = strstr(labels, start);
    size_t used = 0;

    if (at == NULL)
        return false;
    for (at += strlen(start); *at != '"' && *at != '\0' && used + 1 < room; at++) {
        if (*at == '\\' && at[1] != '\0')
            at++;
        ret_value[used++] = *at;
    }
    ret_value[used] = '\0';
    return true;
}

struct sample {
    const char *name;
    size_t offset;
    bool is_time; /* a double */
};

#define TOPIC_NUMBER(name)                                                                         \
    {                                                                                              \
#name, offsetof(struct survey_topic, name), false                                          \
    }
#define GROUP_NUMBER(name)                                                                         \
    {                                                                                              \
#name, offsetof(struct survey_group, name), false                                          \
    }
#define STORE_NUMBER(name, field)                                                                  \
    {                                                                                              \
        name, offsetof(struct survey, field), false                                                \
    }

static const struct sample topic_samples[] = {
    TOPIC_NUMBER(entries),
    TOPIC_NUMBER(bytes),
    TOPIC_NUMBER(first),
    TOPIC_NUMBER(tail),
    TOPIC_NUMBER(durable),
    TOPIC_NUMBER(damaged),
    TOPIC_NUMBER(disk_bytes),
    TOPIC_NUMBER(degraded),
    {"limit_bytes", offsetof(struct survey_topic, limit), false},
    {"last_append_seconds", offsetof(struct survey_topic, last_append), true},
};

static const struct sample group_samples[] = {
    GROUP_NUMBER(offset),
    GROUP_NUMBER(pending),
    GROUP_NUMBER(claimed),
    GROUP_NUMBER(waiting),
    {"last_take_seconds", offsetof(struct survey_group, last_take), true},
};

static const struct sample store_samples[] = {
    STORE_NUMBER("files", files),
    STORE_NUMBER("blocks", blocks),
    STORE_NUMBER("free_blocks", free_blocks),
    STORE_NUMBER("sync_seconds_count", syncs),
    STORE_NUMBER("reclaimed_bytes_total", reclaimed_bytes),
    {"sync_seconds_sum", offsetof(struct survey, sync_seconds), true},
};

static void store_sample(const struct sample *samples, size_t count, void *object, const char *name,
                         const char *value)
{
    for (size_t i = 0; i < count; i++) {
        void *field = (char *)object + samples[i].offset;
        if (strcmp(samples[i].name, name) != 0)
            continue;
        if (samples[i].is_time)
            *(double *)field = strtod(value, NULL);
        else
            *(uint64_t *)field = strtoull(value, NULL, 10);
    }
}

/* One line of the metrics: walrusfs_NAME{LABELS} VALUE */
static int read_line(struct survey *survey, char *line)
{
    static const char prefix[] = "walrusfs_";
    char topic_name[NAME_MAX * 5 + 8], group_name[NAME_MAX * 5 + 8];
    char *value = strrchr(line, ' ');

    if (strncmp(line, prefix, strlen(prefix)) != 0 || value == NULL)
        return 0;
    *value++ = '\0';
    char *name = line + strlen(prefix), *labels = strchr(name, '{');
    if (labels != NULL)
        *labels++ = '\0';
    if (labels == NULL || !take_label(labels, "topic", topic_name, sizeof(topic_name))) {
        store_sample(store_samples, ARRAY_COUNT(store_samples), survey, name, value);
        return 0;
    }
    struct survey_topic *topic = topic_of(survey, topic_name);
    if (topic == NULL)
        return -ENOMEM;
    const char *group_labels = strstr(labels, "\",group=\"");
    if (group_labels == NULL) {
        store_sample(topic_samples, ARRAY_COUNT(topic_samples), topic, name, value);
        return 0;
    }
    if (!take_label(group_labels + 2, "group", group_name, sizeof(group_name)))
        return 0;
    struct survey_group *group = group_of(topic, group_name);
    if (group == NULL)
        return -ENOMEM;
    store_sample(group_samples, ARRAY_COUNT(group_samples), group, name, value);
    return 0;
}

static int survey_mount(struct survey *survey)
{
    char path[PATH_MAX], *line = NULL;
    size_t room = 0;
    int r = 0;

    if (snprintf(path, sizeof(path), "%s/" METRICS, survey->mountpoint) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -errno;
    while (r == 0 && getline(&line, &room, file) > 0)
        r = read_line(survey, line);
    if (r == 0 && ferror(file))
        r = -EIO;
    free(line);
    fclose(file);
    return r;
}

/* --------------------------------------------------------------------------------- from a store */

/* A copy of a name as the metrics show it. */
static void printable(const char *name, char *ret_text)
{
    for (size_t left = strlen(name), size; left > 0; name += size, left -= size) {
        size = utf8_size(name, left);
        if (size > 0) {
            memcpy(ret_text, name, size);
            ret_text += size;
        } else {
            size = 1;
            ret_text += sprintf(ret_text, "\\x%02x", (unsigned char)name[0]);
        }
    }
    *ret_text = '\0';
}

static int survey_groups(struct walrus_topic *from, struct survey_topic *topic)
{
    char name[WALRUS_NAME_SIZE_MAX + 1], text[4 * WALRUS_NAME_SIZE_MAX + 1];
    struct walrus_group *group;
    struct walrus_group_stat stat;
    uint64_t after = 0;

    while (walrus_group_after(from, after, &group) == 0) {
        walrus_group_name(group, name);
        walrus_group_stat(group, &stat);
        walrus_group_unref(group);
        after = stat.id;
        printable(name, text);
        struct survey_group *to = group_of(topic, text);
        if (to == NULL)
            return -ENOMEM;
        to->offset = stat.offset;
        to->pending = stat.pending_count;
        to->claimed = stat.claimed_count;
    }
    return 0;
}

static int survey_topics(struct walrus *store, struct survey *survey)
{
    char name[WALRUS_NAME_SIZE_MAX + 1], text[4 * WALRUS_NAME_SIZE_MAX + 1];
    struct walrus_topic *from;
    struct walrus_topic_stat stat;
    uint64_t after = 0;
    int r = 0;

    while (r == 0 && walrus_topic_after(store, after, &from) == 0) {
        walrus_topic_name(from, name);
        walrus_topic_stat(from, &stat);
        after = stat.id;
        printable(name, text);
        struct survey_topic *to = topic_of(survey, text);
        r = to != NULL ? 0 : -ENOMEM;
        if (r == 0) {
            to->entries = to->tail = stat.tail_seq;
            to->bytes = stat.bytes;
            to->first = stat.first_seq;
            to->durable = stat.durable_seq;
            to->damaged = stat.damaged_count;
            to->disk_bytes = stat.disk_bytes;
            to->limit = stat.limit;
            to->degraded = stat.degraded;
            to->last_append = (double)stat.last_time_ns / 1e9;
            r = survey_groups(from, to);
        }
        walrus_topic_unref(from);
    }
    return r;
}

static int survey_store(struct ctl *ctl, const char *path, struct survey *survey)
{
    const struct walrus_options options = {.key = ctl->key,
                                           .read_only = true,
                                           .must_exist = true,
                                           .force = true,
                                           .report = ctl_report,
                                           .report_arg = ctl};
    struct walrus *store;
    struct walrus_stat stat;

    int r = walrus_open(ctl_store(ctl, path), &options, &store);
    if (r < 0)
        return r;
    r = survey_topics(store, survey);
    walrus_stat(store, &stat);
    survey->files = stat.file_count;
    survey->blocks = stat.block_count;
    survey->free_blocks = stat.free_block_count;
    int closed = walrus_close(store);
    return r < 0 ? r : closed;
}

int survey_take(struct ctl *ctl, const char *path, struct survey *ret_survey)
{
    struct survey survey = {.topics = NULL};

    int r = survey_find_mount(path, ctl->key, &survey.mountpoint);
    if (r == 0)
        r = survey_mount(&survey);
    else if (r == WALRUS_EMPTY)
        r = survey_store(ctl, path, &survey);
    if (r < 0) {
        survey_fini(&survey);
        return r;
    }
    survey_sort(&survey);
    survey.taken_ns = monotonic_ns();
    *ret_survey = survey;
    return 0;
}

double survey_rate(uint64_t before, uint64_t now, double seconds)
{
    return now > before && seconds > 0 ? (double)(now - before) / seconds : 0;
}

void survey_format(double value, unsigned step, char *ret_text)
{
    static const char units[] = " KMGTPE";
    size_t unit = 0;

    for (; value >= (step == 1024 ? 1023.5 : 9999.5) && unit + 1 < sizeof(units) - 1; unit++)
        value /= step;
    if (unit == 0)
        snprintf(ret_text, SURVEY_SIZE_TEXT,
                 value > 0 && value < 9.95 && value != floor(value) ? "%.1f" : "%.0f", value);
    else
        snprintf(ret_text, SURVEY_SIZE_TEXT, value < 9.95 ? "%.1f%c" : "%.0f%c", value,
                 units[unit]);
}
