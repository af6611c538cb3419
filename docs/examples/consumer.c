/* SPDX-License-Identifier: MIT */
/*
 * consumer.c - groups and readers: two groups with positions of their own, claims that come back when
 * they are not finished, a seek for replay, and a wait for entries to come.
 *
 * usage: consumer STORE
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <walrus.h>

/* Claims what there is, reads it, and says that it was delivered. */
static int consume(struct walrus_group *group, const char *who)
{
    struct walrus_reader *reader;
    struct walrus_entry entry;
    char data[64];
    uint64_t at;

    int r = walrus_group_claim(group, SIZE_MAX, SIZE_MAX, &reader);
    if (r != 0)
        return r; /* WALRUS_EMPTY, or an error */
    for (uint64_t i = 0; (r = walrus_reader_entry(reader, i, &entry, &at)) == 0; i++) {
        size_t size = entry.size < sizeof(data) ? entry.size : sizeof(data);
        ssize_t n = walrus_reader_read(reader, data, size, at, NULL);
        if (n < 0) {
            r = (int)n;
            break;
        }
        printf("%s: %" PRIu64 " %.*s\n", who, entry.seq, (int)n, data);
        r = walrus_reader_delivered(reader, at + entry.size);
        if (r < 0)
            break;
    }
    int closed = walrus_reader_close(reader); /* what was not delivered goes back */
    return r < 0 ? r : closed;
}

/* A claim that is closed without being read gives its entry back. */
static int change_of_mind(struct walrus_group *group)
{
    struct walrus_reader *reader;
    struct walrus_group_stat stat;

    int r = walrus_group_claim(group, 1, SIZE_MAX, &reader);
    if (r != 0)
        return r;
    walrus_group_stat(group, &stat);
    printf("claimed %" PRIu64 ", pending %" PRIu64 "\n", stat.claimed_count, stat.pending_count);
    r = walrus_reader_close(reader);
    walrus_group_stat(group, &stat);
    printf("claimed %" PRIu64 ", pending %" PRIu64 "\n", stat.claimed_count, stat.pending_count);
    return r;
}

struct bell {
    pthread_mutex_t lock;
    pthread_cond_t rung;
    int count;
};

/* From whatever thread appended: no time for more than this. */
static void ring(void *arg)
{
    struct bell *bell = arg;

    pthread_mutex_lock(&bell->lock);
    bell->count++;
    pthread_cond_signal(&bell->rung);
    pthread_mutex_unlock(&bell->lock);
}

static void *append_later(void *arg)
{
    const struct iovec entry = {"late", 4};
    static int result;

    result = walrus_topic_append(arg, &entry, 1, NULL, NULL);
    return &result;
}

static int wait_for_more(struct walrus_topic *topic, struct walrus_group *group)
{
    struct bell bell = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    pthread_t thread;
    void *result;

    /* First the watch, then the claim: nothing can come unseen in between. */
    int r = walrus_group_watch(group, ring, &bell);
    if (r < 0)
        return r;
    if (pthread_create(&thread, NULL, append_later, topic) != 0)
        return -EAGAIN;
    pthread_mutex_lock(&bell.lock);
    while (bell.count == 0)
        pthread_cond_wait(&bell.rung, &bell.lock);
    pthread_mutex_unlock(&bell.lock);
    pthread_join(thread, &result);
    r = *(int *)result;
    if (r == 0)
        r = walrus_group_watch(group, NULL, NULL);
    return r < 0 ? r : consume(group, "default");
}

static int run(struct walrus_topic *topic)
{
    const struct iovec entries[] = {{"a", 1}, {"b", 1}, {"c", 1}};
    struct walrus_group *workers, *audit = NULL;

    int r = walrus_group_find(topic, "default", &workers);
    if (r < 0)
        return r;
    r = walrus_group_create(topic, "audit", NULL, &audit);
    if (r == 0)
        r = walrus_topic_append(topic, entries, 3, NULL, NULL);
    if (r == 0)
        r = change_of_mind(workers);
    if (r == 0)
        r = consume(workers, "default");
    if (r == 0)
        r = walrus_group_seek(workers, WALRUS_SEEK_BY, (uint64_t)-1); /* the last one again */
    if (r == 0)
        r = consume(workers, "default");
    if (r == 0)
        r = consume(audit, "audit");
    if (r == 0)
        r = wait_for_more(topic, workers);
    walrus_group_unref(audit);
    walrus_group_unref(workers);
    return r;
}

int main(int argc, char **argv)
{
    const struct walrus_options options = {.consistency = WALRUS_AT_LEAST_ONCE};
    struct walrus *store;
    struct walrus_topic *topic;

    if (argc != 2) {
        fprintf(stderr, "usage: consumer STORE\n");
        return 1;
    }
    int r = walrus_open(argv[1], &options, &store);
    if (r == 0) {
        r = walrus_topic_create(store, "jobs", NULL, NULL, &topic);
        if (r == 0) {
            r = run(topic);
            walrus_topic_unref(topic);
        }
        int closed = walrus_close(store);
        if (r == 0)
            r = closed;
    }
    if (r < 0)
        fprintf(stderr, "consumer: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
