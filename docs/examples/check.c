/* SPDX-License-Identifier: MIT */
/*
 * check.c - a store that is not open is looked through, and mended: a copy of its metadata is spoilt
 * on purpose, walrus_verify finds it, walrus_repair writes it again from the other copy.
 *
 * usage: check STORE
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <walrus.h>

/* Called for each damaged place, in the thread that called; strings are valid during the call. */
static void damage(void *arg, const struct walrus_damage *damage)
{
    FILE *out = arg;

    fprintf(out, "%s, byte %" PRIu64 ": %s%s\n", damage->file, damage->off, damage->text,
            damage->mended ? "; mended" : "");
}

static int fill(const char *dir)
{
    struct walrus *store;

    int r = walrus_open(dir, NULL, &store);
    if (r < 0)
        return r;
    r = walrus_append(store, "bills", "ten apples", 10);
    int closed = walrus_close(store);
    return r < 0 ? r : closed;
}

/* As a bad sector would. */
static int spoil(const char *dir)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/topics.db", dir);
    int fd = open(path, O_WRONLY);
    if (fd < 0)
        return -1;
    ssize_t n = pwrite(fd, "?", 1, 100);
    close(fd);
    return n == 1 ? 0 : -1;
}

static void summary(const char *what, const struct walrus_verify_result *result)
{
    printf("%s: %" PRIu64 " entries whole, %" PRIu64 " lost; %" PRIu64 " damaged places, %" PRIu64
           " mended\n",
           what, result->entry_count, result->lost_count, result->damage_count,
           result->mended_count);
}

int main(int argc, char **argv)
{
    const struct walrus_verify_options options = {.damage = damage, .arg = stdout};
    struct walrus_verify_result result;

    if (argc != 2) {
        fprintf(stderr, "usage: check STORE\n");
        return 1;
    }
    int r = fill(argv[1]);
    if (r == 0 && spoil(argv[1]) < 0)
        return 1;
    /* 0 says that all was looked at: what was found is in the result. */
    if (r == 0)
        r = walrus_verify(argv[1], &options, &result);
    if (r == 0) {
        summary("verify", &result);
        r = walrus_repair(argv[1], &options, &result);
    }
    if (r == 0) {
        summary("repair", &result);
        r = walrus_verify(argv[1], &options, &result);
    }
    if (r == 0)
        summary("verify", &result);
    if (r < 0)
        fprintf(stderr, "check: %s\n", strerror(-r));
    return r < 0 || result.damage_count > result.mended_count;
}
