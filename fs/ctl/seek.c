/* SPDX-License-Identifier: MIT */
/*
 * seek.c - walrusctl seek: moves the position of a group, of a store that is mounted (through the
 * mount's `offset`) or not (through the library).  Either way the move is durable at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../names.h"
#include "survey.h"

struct seek {
    const char *path, *topic, *group, *where;
    uint64_t offset; /* afterwards */
};

static int seek_mounted(const char *mountpoint, struct seek *seek)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s/groups/%s/offset", mountpoint, seek->topic,
                 seek->group) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = write(fd, seek->where, strlen(seek->where)) < 0 ? -errno : 0;
    close(fd);
    if (r < 0)
        return r;
    fd = open(path, O_RDONLY | O_CLOEXEC); /* an open file keeps its text */
    if (fd < 0)
        return -errno;
    char text[32];
    ssize_t n = read(fd, text, sizeof(text) - 1);
    r = n < 0 ? -errno : 0;
    close(fd);
    if (r == 0) {
        text[n] = '\0';
        seek->offset = strtoull(text, NULL, 10);
    }
    return r;
}

static int seek_group(struct walrus *store, struct seek *seek, enum walrus_whence whence,
                      uint64_t value)
{
    struct walrus_topic *topic;
    struct walrus_group *group;
    struct walrus_group_stat stat;

    int r = walrus_topic_find(store, seek->topic, &topic);
    if (r < 0)
        return r;
    r = walrus_group_find(topic, seek->group, &group);
    if (r == 0) {
        r = walrus_group_seek(group, whence, value);
        walrus_group_stat(group, &stat);
        seek->offset = stat.offset;
        walrus_group_unref(group);
    }
    walrus_topic_unref(topic);
    return r;
}

static int seek_store(struct ctl *ctl, struct seek *seek, enum walrus_whence whence, uint64_t value)
{
    const struct walrus_options options = {
        .key = ctl->key, .must_exist = true, .report = ctl_report, .report_arg = ctl};
    struct walrus *store;

    int r = walrus_open(ctl_store(ctl, seek->path), &options, &store);
    if (r < 0)
        return r;
    r = seek_group(store, seek, whence, value);
    int closed = walrus_close(store);
    return r < 0 ? r : closed;
}

static int seek_anywhere(struct ctl *ctl, struct seek *seek, enum walrus_whence whence,
                         uint64_t value)
{
    char *mountpoint;

    int r = survey_find_mount(seek->path, ctl->key, &mountpoint);
    if (r < 0)
        return r;
    if (r == WALRUS_EMPTY)
        return seek_store(ctl, seek, whence, value);
    r = seek_mounted(mountpoint, seek);
    free(mountpoint);
    return r;
}

enum ctl_result command_seek(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {
        CTL_OPTIONS, {"group", required_argument, NULL, 'g'}, {0}};
    struct seek seek = {.group = GROUP_DEFAULT};
    enum walrus_whence whence;
    uint64_t value;
    int option;

    /* "+": -N is a place, so options stand in front. */
    while ((option = getopt_long(argc, argv, "+g:" CTL_LETTERS, known, NULL)) != -1) {
        if (option == 'g')
            seek.group = optarg;
        else if (!ctl_option(ctl, option))
            return ctl_usage(ctl, NULL);
    }
    if (optind + 3 != argc)
        return ctl_usage(ctl, "a store or mountpoint, a topic, and a place are wanted");
    seek.path = argv[optind];
    seek.topic = argv[optind + 1];
    seek.where = argv[optind + 2];
    if (names_parse_seek(seek.where, strlen(seek.where), &whence, &value) < 0)
        return ctl_usage(ctl, "%s is no place: N, begin, end, +N or -N", seek.where);
    if (walrus_name_check(seek.topic, strlen(seek.topic)) < 0 ||
        walrus_name_check(seek.group, strlen(seek.group)) < 0)
        return ctl_usage(ctl, "that is no name of a topic or group");
    int r = seek_anywhere(ctl, &seek, whence, value);
    if (r == -ENOENT)
        return ctl_fail(ctl, 0, "no such store, topic or group");
    if (r == -ERANGE)
        return ctl_fail(ctl, 0, "%s is not retained, or not yet stored", seek.where);
    if (r < 0)
        return ctl_fail(ctl, r, "cannot move to %s", seek.where);
    if (ctl->json) {
        json_begin(NULL, '{');
        json_string("topic", seek.topic);
        json_string("group", seek.group);
        json_number("offset", seek.offset);
        json_end('}');
        json_finish();
    } else {
        printf("%" PRIu64 "\n", seek.offset);
    }
    return CTL_OK;
}
