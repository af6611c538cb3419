/* SPDX-License-Identifier: MIT */
/*
 * top.c - walrusctl top: a table of topics and groups, made anew every few seconds, with what came
 * and went meanwhile.
 *
 * A line is at most 79 columns wide, and on a terminal there are no more lines than it has.  The
 * groups that are furthest behind stand on top.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "survey.h"

#define NAME_WIDTH  19
#define GROUP_WIDTH 12

struct row {
    const struct survey_topic *topic;
    const struct survey_group *group; /* NULL: a topic without groups */
    double in, out;                   /* entries a second; -1: not known yet */
    uint64_t lag;                     /* entries between the offset and the tail */
};

static const struct survey_group *find_group(const struct survey_topic *topic, const char *name)
{
    for (size_t i = 0; topic != NULL && i < topic->group_count; i++)
        if (strcmp(topic->groups[i].name, name) == 0)
            return &topic->groups[i];
    return NULL;
}

/* Entries that are neither pending nor in hand any more. */
static uint64_t taken(const struct survey_topic *topic, const struct survey_group *group)
{
    uint64_t left = group->pending + group->claimed;
    return topic->tail > left ? topic->tail - left : 0;
}

static struct row make_row(const struct survey *before, const struct survey *now,
                           const struct survey_topic *topic, const struct survey_group *group)
{
    struct row row = {topic, group, -1, -1, 0};
    double seconds = (double)(now->taken_ns - before->taken_ns) / 1e9;

    if (group != NULL && topic->tail > group->offset)
        row.lag = topic->tail - group->offset;
    if (before->taken_ns == 0)
        return row;
    const struct survey_topic *old = survey_find(before, topic->name);
    row.in = old != NULL ? survey_rate(old->entries, topic->entries, seconds) : 0;
    const struct survey_group *old_group = group != NULL ? find_group(old, group->name) : NULL;
    row.out =
        old_group != NULL ? survey_rate(taken(old, old_group), taken(topic, group), seconds) : 0;
    return row;
}

static int by_lag(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->lag != y->lag)
        return x->lag < y->lag ? 1 : -1;
    int r = strcmp(x->topic->name, y->topic->name);
    return r != 0 || x->group == NULL || y->group == NULL ? r
                                                          : strcmp(x->group->name, y->group->name);
}

/* NULL: no memory, or no topics. */
static struct row *make_rows(const struct survey *before, const struct survey *now,
                             size_t *ret_count)
{
    size_t count = 0, at = 0;

    for (size_t i = 0; i < now->topic_count; i++)
        count += now->topics[i].group_count != 0 ? now->topics[i].group_count : 1;
    struct row *rows = count > 0 ? calloc(count, sizeof(*rows)) : NULL;
    if (rows == NULL)
        count = 0;
    for (size_t i = 0; rows != NULL && i < now->topic_count; i++) {
        const struct survey_topic *topic = &now->topics[i];
        if (topic->group_count == 0)
            rows[at++] = make_row(before, now, topic, NULL);
        for (size_t j = 0; j < topic->group_count; j++)
            rows[at++] = make_row(before, now, topic, &topic->groups[j]);
    }
    if (count > 0)
        qsort(rows, count, sizeof(*rows), by_lag);
    *ret_count = count;
    return rows;
}

/* The name in `width` columns: a character is one. */
static void put_name(const char *name, unsigned width)
{
    unsigned used = 0;

    for (; *name != '\0' && used < width; used++) {
        size_t size = utf8_size(name, strlen(name));
        size = MAX(size, 1);
        fwrite(name, 1, size, stdout);
        name += size;
    }
    printf("%*s", (int)(width - used), "");
}

static void put_number(double value, unsigned step, int width)
{
    char text[SURVEY_SIZE_TEXT] = "-";

    if (value >= 0)
        survey_format(value, step, text);
    printf(" %*s", width, text);
}

static void put_row(const struct row *row)
{
    bool bad = row->topic->degraded != 0 || row->topic->damaged != 0;

    putchar(bad ? '!' : ' ');
    put_name(row->topic->name, NAME_WIDTH - 1);
    putchar(' ');
    put_name(row->group != NULL ? row->group->name : "-", GROUP_WIDTH);
    put_number(row->in, 1000, 6);
    put_number(row->out, 1000, 6);
    put_number(row->group != NULL ? (double)row->group->pending : -1, 1000, 7);
    put_number(row->group != NULL ? (double)row->lag : -1, 1000, 6);
    put_number(row->group != NULL ? (double)row->group->claimed : -1, 1000, 5);
    put_number(row->group != NULL ? (double)row->group->waiting : -1, 1000, 5);
    put_number((double)row->topic->disk_bytes, 1024, 5);
    putchar('\n');
}

static void put_head(const struct survey *before, const struct survey *now)
{
    char stamp[32], disk[SURVEY_SIZE_TEXT], syncs[SURVEY_SIZE_TEXT];
    double seconds = (double)(now->taken_ns - before->taken_ns) / 1e9;
    double rate = before->taken_ns != 0 ? survey_rate(before->syncs, now->syncs, seconds) : 0;
    double each = now->syncs > before->syncs ? (now->sync_seconds - before->sync_seconds) * 1e3 /
                                                   (double)(now->syncs - before->syncs)
                                             : 0;
    uint64_t total = 0;
    struct tm broken;
    time_t clock = time(NULL);

    for (size_t i = 0; i < now->topic_count; i++)
        total += now->topics[i].disk_bytes;
    survey_format((double)total, 1024, disk);
    survey_format(rate, 1000, syncs);
    if (localtime_r(&clock, &broken) == NULL ||
        strftime(stamp, sizeof(stamp), "%H:%M:%S", &broken) == 0)
        stamp[0] = '\0';
    printf("%s  ", stamp);
    ctl_print_count(now->topic_count, "topic", "topics");
    printf(", %s on disk; %s syncs/s", disk, syncs);
    if (rate > 0)
        printf(" of %.1f ms", each);
    printf("\n%-*s %-*s %6s %6s %7s %6s %5s %5s %5s\n", NAME_WIDTH, " TOPIC", GROUP_WIDTH, "GROUP",
           "IN/s", "OUT/s", "PENDING", "LAG", "HELD", "WAIT", "DISK");
}

static void show_text(const struct survey *before, const struct survey *now)
{
    struct winsize window;
    size_t count, shown;
    struct row *rows = make_rows(before, now, &count);
    bool terminal = isatty(STDOUT_FILENO);

    shown = count;
    if (terminal) {
        fputs("\33[H\33[J", stdout);
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_row > 4 &&
            count > window.ws_row - 4u)
            shown = window.ws_row - 4u;
    }
    put_head(before, now);
    for (size_t i = 0; i < shown; i++)
        put_row(&rows[i]);
    if (shown < count)
        printf("and %zu more\n", count - shown);
    if (!terminal)
        putchar('\n');
    free(rows);
}

static void show_json(const struct survey *before, const struct survey *now)
{
    size_t count;
    struct row *rows = make_rows(before, now, &count);

    json_begin(NULL, '[');
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        json_begin(NULL, '{');
        json_string("topic", row->topic->name);
        json_string("group", row->group != NULL ? row->group->name : NULL);
        json_number("in_per_second", row->in > 0 ? (uint64_t)row->in : 0);
        json_number("out_per_second", row->out > 0 ? (uint64_t)row->out : 0);
        json_number("pending", row->group != NULL ? row->group->pending : 0);
        json_number("lag", row->lag);
        json_number("claimed", row->group != NULL ? row->group->claimed : 0);
        json_number("waiting", row->group != NULL ? row->group->waiting : 0);
        json_number("disk_bytes", row->topic->disk_bytes);
        json_end('}');
    }
    json_end(']');
    json_finish();
    free(rows);
}

static int run(struct ctl *ctl, const char *path, double interval, unsigned long count)
{
    struct survey before = {.topics = NULL}, now;
    struct timespec pause = {.tv_sec = (time_t)interval,
                             .tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9)};
    int r = 0;

    for (unsigned long i = 0; count == 0 || i < count; i++) {
        if (i > 0)
            (void)nanosleep(&pause, NULL);
        r = survey_take(ctl, path, &now);
        if (r < 0)
            break;
        if (ctl->json)
            show_json(&before, &now);
        else
            show_text(&before, &now);
        survey_fini(&before);
        before = now;
        if (fflush(stdout) != 0) /* whoever read it is gone */
            break;
    }
    survey_fini(&before);
    return r;
}

enum ctl_result command_top(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {CTL_OPTIONS,
                                          {"count", required_argument, NULL, 'n'},
                                          {"interval", required_argument, NULL, 'i'},
                                          {0}};
    double interval = 2;
    unsigned long count = 0;
    char *end;
    int option;

    while ((option = getopt_long(argc, argv, "i:n:" CTL_LETTERS, known, NULL)) != -1) {
        if (option == 'i') {
            interval = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(interval >= 0.05 && interval <= 86400))
                return ctl_usage(ctl, "--interval %s: must be 0.05 to 86400 seconds", optarg);
        } else if (option == 'n') {
            errno = 0;
            count = strtoul(optarg, &end, 10);
            if (end == optarg || *end != '\0' || errno != 0 || optarg[0] == '-')
                return ctl_usage(ctl, "--count %s: must be a number", optarg);
        } else if (!ctl_option(ctl, option)) {
            return ctl_usage(ctl, NULL);
        }
    }
    if (optind + 1 != argc)
        return ctl_usage(ctl, "one store or mountpoint is wanted");
    int r = run(ctl, argv[optind], interval, count);
    return r < 0 ? survey_fail(ctl, r, argv[optind], "read") : CTL_OK;
}
