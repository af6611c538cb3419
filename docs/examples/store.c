/* SPDX-License-Identifier: MIT */
/*
 * store.c - opening a store as one wants it: what happens in it is reported, a recovery tells how far
 * it is, and counters tell how it does.
 *
 * usage: store STORE
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <walrus.h>

/* From any thread; the text is valid during the call only. */
static void report(void *arg, const struct walrus_report *event)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};
    FILE *out = arg;

    fprintf(out, "%s: %s%s%s%s%s\n", levels[event->level], event->topic != NULL ? event->topic : "",
            event->topic != NULL ? ": " : "", event->text, event->error != 0 ? ": " : "",
            event->error != 0 ? strerror(event->error) : "");
}

static void progress(void *arg, uint64_t done, uint64_t total)
{
    fprintf(arg, "log file %" PRIu64 " of %" PRIu64 "\n", done, total);
}

int main(int argc, char **argv)
{
    const struct walrus_options options = {
        .consistency = WALRUS_AT_LEAST_ONCE,
        .persist_every = 100,
        .fsync = WALRUS_FSYNC_EACH,
        .block_size = 1 << 20, /* of a new store */
        .report = report,
        .progress = progress,
        .report_arg = stderr,
    };
    struct walrus *store, *second;
    struct walrus_stat stat;

    if (argc != 2) {
        fprintf(stderr, "usage: store STORE\n");
        return 1;
    }
    int r = walrus_open(argv[1], &options, &store);
    if (r < 0) {
        fprintf(stderr, "store: %s: %s\n", argv[1], strerror(-r));
        return 1;
    }
    /* A store is opened once. */
    r = walrus_open(argv[1], NULL, &second);
    printf("a second time: %s\n", r < 0 ? strerror(-r) : "opened");

    r = walrus_append(store, "log", "durable when the call returns", 29);
    if (r == 0)
        r = walrus_sync(store); /* nothing is left to do: each append was synced */
    walrus_stat(store, &stat);
    printf("topics %" PRIu64 ", block size %u, degraded %d\n", stat.topic_count, stat.block_size,
           stat.degraded);
    int closed = walrus_close(store);
    return r < 0 || closed < 0;
}
