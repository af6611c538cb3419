/* SPDX-License-Identifier: MIT */
/*
 * topics.c - topics by reference: made, listed, limited, renamed, removed.
 *
 * usage: topics STORE
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <walrus.h>

static int list(struct walrus *store)
{
    struct walrus_topic *topic;
    struct walrus_topic_stat stat;
    char name[WALRUS_NAME_SIZE_MAX + 1];
    uint64_t after = 0;

    /* By id: topics may come and go meanwhile. */
    while (walrus_topic_after(store, after, &topic) == 0) {
        walrus_topic_name(topic, name);
        walrus_topic_stat(topic, &stat);
        printf("%s: %" PRIu64 " entries, limit %" PRIu64 "\n", name, stat.tail_seq, stat.limit);
        after = stat.id;
        walrus_topic_unref(topic);
    }
    return 0;
}

static int run(struct walrus *store)
{
    const struct walrus_retention week = {.kind = WALRUS_KEEP_AGE, .value = 7 * 24 * 3600};
    const struct iovec entry = {"hello", 5};
    struct walrus_topic *topic;

    int r = walrus_topic_create(store, "mails", NULL, NULL, &topic);
    if (r < 0)
        return r;
    r = walrus_topic_set_retention(topic, &week);
    if (r == 0)
        r = walrus_topic_set_limit(topic, 1ull << 30);
    if (r == 0)
        r = walrus_topic_append(topic, &entry, 1, NULL, NULL);
    if (r == 0)
        r = walrus_topic_rename(topic, "letters");
    if (r == 0)
        r = list(store);
    if (r == 0) {
        /* Nothing that somebody has yet to read is removed. */
        r = walrus_topic_remove(topic);
        printf("remove: %s\n", r == -ENOTEMPTY ? "it has entries that were not read" : "?");
        r = r == -ENOTEMPTY ? 0 : -EPROTO;
    }
    if (r == 0) {
        struct walrus_group *group;
        r = walrus_group_find(topic, "default", &group);
        if (r == 0) {
            r = walrus_group_seek(group, WALRUS_SEEK_END, 0);
            walrus_group_unref(group);
        }
    }
    if (r == 0)
        r = walrus_topic_remove(topic);
    if (r == 0)
        printf("removed: %s\n", walrus_topic_removed(topic) ? "yes" : "no");
    walrus_topic_unref(topic); /* also of a removed one */
    return r;
}

int main(int argc, char **argv)
{
    struct walrus *store;

    if (argc != 2) {
        fprintf(stderr, "usage: topics STORE\n");
        return 1;
    }
    int r = walrus_open(argv[1], NULL, &store);
    if (r == 0) {
        r = run(store);
        int closed = walrus_close(store);
        if (r == 0)
            r = closed;
    }
    if (r < 0)
        fprintf(stderr, "topics: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
