/* SPDX-License-Identifier: MIT */
/*
 * byname.c - the calls by topic name, which are all that a simple program needs: append, take, look.
 *
 * usage: byname STORE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <walrus.h>

static int show(const char *what, int r, struct walrus_entry *entry)
{
    if (r == WALRUS_EMPTY)
        printf("%s: nothing\n", what);
    else if (r == 0)
        printf("%s: %llu %.*s\n", what, (unsigned long long)entry->seq, (int)entry->size,
               (const char *)entry->data);
    if (r != 0)
        return r;
    free(entry->data);
    return 0;
}

static int run(struct walrus *store)
{
    struct iovec more[] = {{"two", 3}, {"three", 5}};
    struct walrus_entry entry, *entries;
    size_t count;

    int r = walrus_append(store, "orders", "one", 3); /* makes the topic, too */
    if (r == 0)
        r = walrus_batch_append(store, "orders", more, 2); /* both or none */
    if (r < 0)
        return r;

    r = show("peek", walrus_peek(store, "orders", &entry), &entry);
    if (r == 0)
        r = show("next", walrus_read_next(store, "orders", &entry), &entry);
    if (r < 0)
        return r;

    /* Up to 100 entries of together 1 MiB; one sync for all in strict mode. */
    r = walrus_batch_read(store, "orders", 1 << 20, 100, &entries, &count);
    if (r != 0)
        return r;
    for (size_t i = 0; i < count; i++)
        printf("batch: %.*s\n", (int)entries[i].size, (const char *)entries[i].data);
    walrus_entries_free(entries, count);

    r = show("next", walrus_read_next(store, "orders", &entry), &entry);
    if (r >= 0)
        r = show("entry 1", walrus_read_at(store, "orders", 1, &entry), &entry);
    return r;
}

int main(int argc, char **argv)
{
    struct walrus *store;

    if (argc != 2) {
        fprintf(stderr, "usage: byname STORE\n");
        return 1;
    }
    int r = walrus_open(argv[1], NULL, &store);
    if (r == 0) {
        r = run(store);
        int closed = walrus_close(store);
        if (r >= 0)
            r = closed;
    }
    if (r < 0)
        fprintf(stderr, "byname: %s\n", strerror(-r));
    return r < 0 ? 1 : 0;
}
