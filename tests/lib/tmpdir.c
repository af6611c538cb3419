/* SPDX-License-Identifier: MIT */
/* tmpdir.c - see tmpdir.h.  Any thread. */
#include "tmpdir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#define TREE_FD_COUNT 16 /* descriptors that a walk may use at once */

static void die(const char *what, const char *path)
{
    fprintf(stderr, "tmpdir: %s %s: %m\n", what, path);
    abort();
}

char *tmpdir_create(void)
{
    const char *parent = getenv("TMPDIR");
    char *path = NULL;

    if (!parent || *parent == '\0')
        parent = "/tmp";
    if (asprintf(&path, "%s/walrus-test-XXXXXX", parent) < 0)
        die("asprintf", parent);
    if (!mkdtemp(path))
        die("mkdtemp", path);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

void tmpdir_destroy(char *path)
{
    if (!path)
        return;
    if (nftw(path, remove_one, TREE_FD_COUNT, FTW_DEPTH | FTW_PHYS) != 0)
        die("remove", path);
    free(path);
}
