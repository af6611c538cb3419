/* SPDX-License-Identifier: MIT */
/*
 * producer.c - appending: a batch that is durable at once, and a large entry piece by piece.
 *
 * usage: producer STORE
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <walrus.h>

/* Two entries with times of their own, both or none, on disk when the call returns. */
static int append_batch(struct walrus_topic *topic)
{
    const struct iovec entries[] = {{"debit 5", 7}, {"credit 5", 8}};
    const uint64_t times[] = {1000000000, 2000000000};
    const struct walrus_append_options options = {.durable = true, .time_ns = times};
    struct walrus_topic_stat stat;
    uint64_t seq;

    int r = walrus_topic_append(topic, entries, 2, &options, &seq);
    if (r < 0)
        return r;
    walrus_topic_stat(topic, &stat);
    printf("batch: from entry %" PRIu64 " on, durable below %" PRIu64 "\n", seq, stat.durable_seq);
    return 0;
}

/* 16 MiB without holding them in memory.  Nobody sees a half of it. */
static int append_blob(struct walrus_topic *topic)
{
    static char piece[1 << 16];
    struct walrus_blob *blob;
    uint64_t seq;

    memset(piece, 'x', sizeof(piece));
    int r = walrus_blob_open(topic, &blob);
    if (r < 0)
        return r;
    for (int i = 0; r == 0 && i < 256; i++)
        r = walrus_blob_write(blob, piece, sizeof(piece));
    if (r < 0) {
        walrus_blob_abort(blob); /* after a failed write there is nothing else to do */
        return r;
    }
    size_t size = walrus_blob_size(blob);
    r = walrus_blob_commit(blob, false, &seq); /* ends the blob, whatever it returns */
    if (r < 0)
        return r;
    printf("blob: entry %" PRIu64 " of %zu bytes\n", seq, size);
    return walrus_topic_sync(topic);
}

int main(int argc, char **argv)
{
    struct walrus *store;
    struct walrus_topic *topic;

    if (argc != 2) {
        fprintf(stderr, "usage: producer STORE\n");
        return 1;
    }
    int r = walrus_open(argv[1], NULL, &store);
    if (r == 0) {
        r = walrus_topic_create(store, "payments", NULL, NULL, &topic);
        if (r == 0) {
            r = append_batch(topic);
            if (r == 0)
                r = append_blob(topic);
            walrus_topic_unref(topic);
        }
        int closed = walrus_close(store);
        if (r == 0)
            r = closed;
    }
    if (r < 0)
        fprintf(stderr, "producer: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
