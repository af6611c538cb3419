/* SPDX-License-Identifier: MIT */
/*
 * status.c - walrusctl status: what a store, mounted or not, holds: topics, groups, what is pending.
 *
 * The exit code says whether something needs a person: damage that was met, or a sync that failed.
 */
#include "survey.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static void print_ago(double when)
{
    double ago = when > 0 ? (double)time(NULL) - when : -1;

    if (when <= 0)
        printf("never");
    else if (ago < 120)
        printf("%.0f s ago", ago > 0 ? ago : 0);
    else if (ago < 7200)
        printf("%.0f min ago", ago / 60);
    else if (ago < 172800)
        printf("%.0f h ago", ago / 3600);
    else
        printf("%.0f days ago", ago / 86400);
}

static void topic_text(const struct survey_topic *topic, bool mounted)
{
    char disk[SURVEY_SIZE_TEXT], limit[SURVEY_SIZE_TEXT];

    survey_format((double)topic->disk_bytes, 1024, disk);
    printf("%s: ", topic->name);
    ctl_print_count(topic->entries, "entry", "entries");
    printf(" stored, retained from %" PRIu64 ", last ", topic->first);
    print_ago(topic->last_append);
    printf("; %s on disk", disk);
    if (topic->limit != 0) {
        survey_format((double)topic->limit, 1024, limit);
        printf(" of %s", limit);
    }
    if (topic->damaged != 0)
        printf("; %" PRIu64 " DAMAGED", topic->damaged);
    if (topic->degraded)
        printf("; DEGRADED: a sync failed, appends are refused until it is mounted anew");
    putchar('\n');
    for (size_t i = 0; i < topic->group_count; i++) {
        const struct survey_group *group = &topic->groups[i];
        printf("  %s: %" PRIu64 " pending, %" PRIu64 " in hand, offset %" PRIu64, group->name,
               group->pending, group->claimed, group->offset);
        if (mounted) {
            printf(", ");
            ctl_print_count(group->waiting, "reader waits", "readers wait");
            printf(", last taken ");
            print_ago(group->last_take);
        }
        putchar('\n');
    }
}

static void topic_json(const struct survey_topic *topic)
{
    json_begin(NULL, '{');
    json_string("topic", topic->name);
    json_number("entries", topic->entries);
    json_number("bytes", topic->bytes);
    json_number("first", topic->first);
    json_number("tail", topic->tail);
    json_number("durable", topic->durable);
    json_number("damaged", topic->damaged);
    json_bool("degraded", topic->degraded != 0);
    json_number("disk_bytes", topic->disk_bytes);
    json_number("limit", topic->limit);
    json_number("last_append", (uint64_t)topic->last_append);
    json_begin("groups", '[');
    for (size_t i = 0; i < topic->group_count; i++) {
        const struct survey_group *group = &topic->groups[i];
        json_begin(NULL, '{');
        json_string("group", group->name);
        json_number("offset", group->offset);
        json_number("pending", group->pending);
        json_number("claimed", group->claimed);
        json_number("waiting", group->waiting);
        json_number("last_take", (uint64_t)group->last_take);
        json_end('}');
    }
    json_end(']');
    json_end('}');
}

static void survey_json(const struct survey *survey, const char *path)
{
    json_begin(NULL, '{');
    json_string("store", path);
    json_string("mountpoint", survey->mountpoint);
    json_number("files", survey->files);
    json_number("blocks", survey->blocks);
    json_number("free_blocks", survey->free_blocks);
    json_begin("topics", '[');
    for (size_t i = 0; i < survey->topic_count; i++)
        topic_json(&survey->topics[i]);
    json_end(']');
    json_end('}');
    json_finish();
}

static void survey_text(const struct survey *survey)
{
    if (survey->mountpoint != NULL)
        printf("mounted at %s; ", survey->mountpoint);
    else
        printf("not mounted; ");
    ctl_print_count(survey->topic_count, "topic, ", "topics, ");
    ctl_print_count(survey->files, "log file, ", "log files, ");
    printf("%" PRIu64 " of ", survey->blocks - survey->free_blocks);
    ctl_print_count(survey->blocks, "block in use\n", "blocks in use\n");
    for (size_t i = 0; i < survey->topic_count; i++)
        topic_text(&survey->topics[i], survey->mountpoint != NULL);
}

enum ctl_result command_status(struct ctl *ctl, int argc, char **argv)
{
    struct survey survey;
    const char *path = ctl_operand(ctl, argc, argv, "one store or mountpoint is wanted");

    if (path == NULL)
        return CTL_USAGE;
    int r = survey_take(ctl, path, &survey);
    if (r < 0)
        return survey_fail(ctl, r, path, "read");
    if (ctl->json)
        survey_json(&survey, path);
    else
        survey_text(&survey);
    bool bad = false;
    for (size_t i = 0; i < survey.topic_count; i++)
        bad = bad || survey.topics[i].damaged != 0 || survey.topics[i].degraded != 0;
    survey_fini(&survey);
    return bad ? CTL_DAMAGE : CTL_OK;
}
