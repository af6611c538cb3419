/* SPDX-License-Identifier: MIT */
/*
 * dir.c - see dir.h, and the dir_*() of rig.h.
 *
 * Log files are sparse: what copies files goes from one stretch of data to the next.
 */
#include "dir.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rig.h"

void dir_open(struct dir_reader *reader, const char *dir)
{
    reader->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(reader->fd >= 0);
    reader->size = reader->at = 0;
}

const char *dir_next(struct dir_reader *reader)
{
    for (;;) {
        if (reader->at == reader->size) {
            reader->size = getdents64(reader->fd, reader->buffer, sizeof(reader->buffer));
            CHECK(reader->size >= 0);
            reader->at = 0;
            if (reader->size == 0) {
                close(reader->fd);
                return NULL;
            }
        }
        const struct dirent64 *item = (const void *)&reader->buffer[reader->at];
        reader->at += item->d_reclen;
        if (strcmp(item->d_name, ".") != 0 && strcmp(item->d_name, "..") != 0)
            return item->d_name;
    }
}

static void path_join(char *ret_path, const char *dir, const char *name)
{
    int size = snprintf(ret_path, PATH_MAX, "%s/%s", dir, name);

    CHECK(size > 0 && size < PATH_MAX);
}

/* Calls visit for every file and directory in `dir`, not for those further down. */
static void dir_visit(const char *dir,
                      void (*visit)(void *arg, const char *path, const char *name,
                                    const struct stat *st),
                      void *arg)
{
    struct dir_reader reader;

    dir_open(&reader, dir);
    for (const char *name; (name = dir_next(&reader)) != NULL;) {
        char path[PATH_MAX];
        struct stat st;
        path_join(path, dir, name);
        if (lstat(path, &st) == 0)
            visit(arg, path, name, &st);
    }
}

static void visit_disk_size(void *arg, const char *path, const char *name, const struct stat *st)
{
    (void)name;
    *(uint64_t *)arg += (uint64_t)st->st_blocks * 512;
    if (S_ISDIR(st->st_mode))
        dir_visit(path, visit_disk_size, arg);
}

uint64_t dir_disk_size(const char *dir)
{
    uint64_t size = 0;

    dir_visit(dir, visit_disk_size, &size);
    return size;
}

struct count_state {
    const char *suffix;
    unsigned count;
};

static void visit_count(void *arg, const char *path, const char *name, const struct stat *st)
{
    struct count_state *state = arg;
    size_t size = strlen(name), suffix_size = strlen(state->suffix);

    (void)path;
    if (S_ISREG(st->st_mode) && size >= suffix_size &&
        strcmp(name + size - suffix_size, state->suffix) == 0)
        state->count++;
}

unsigned dir_file_count(const char *dir, const char *suffix)
{
    struct count_state state = {.suffix = suffix};

    dir_visit(dir, visit_count, &state);
    return state.count;
}

/* The next stretch of data of an open file from *off on; false: none. */
static bool data_next(int fd, off_t *off, off_t *ret_end)
{
    off_t start = lseek(fd, *off, SEEK_DATA);

    if (start < 0)
        return false;
    *off = start;
    *ret_end = lseek(fd, start, SEEK_HOLE);
    CHECK(*ret_end > start);
    return true;
}

static void file_copy(const char *from, const char *to, const struct stat *st)
{
    static _Thread_local char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st->st_mode & 0777);

    CHECK(in >= 0 && out >= 0);
    CHECK_INT(ftruncate(out, st->st_size), 0);
    for (off_t off = 0, end; data_next(in, &off, &end);) {
        while (off < end) {
            size_t part =
                (size_t)(end - off) < sizeof(buffer) ? (size_t)(end - off) : sizeof(buffer);
            ssize_t got = pread(in, buffer, part, off);
            CHECK(got > 0);
            CHECK_INT(pwrite(out, buffer, (size_t)got, off), got);
            off += got;
        }
    }
    CHECK_INT(close(in), 0);
    CHECK_INT(close(out), 0);
}

static void visit_copy(void *arg, const char *path, const char *name, const struct stat *st)
{
    char to[PATH_MAX];

    path_join(to, arg, name);
    if (S_ISDIR(st->st_mode)) {
        CHECK_INT(mkdir(to, st->st_mode & 0777), 0);
        dir_copy(path, to);
    } else {
        CHECK(S_ISREG(st->st_mode));
        file_copy(path, to, st);
    }
}

void dir_copy(const char *from, const char *to)
{
    dir_visit(from, visit_copy, (void *)to);
}

struct same_state {
    const char *other;
    bool same;
};

static void visit_same(void *arg, const char *path, const char *name, const struct stat *st)
{
    static _Thread_local char ours[65536], theirs[65536];
    struct same_state *state = arg;
    char other[PATH_MAX];
    struct stat other_st;

    path_join(other, state->other, name);
    if (!S_ISREG(st->st_mode) || lstat(other, &other_st) != 0 || other_st.st_size != st->st_size) {
        state->same = false;
        return;
    }
    int a = open(path, O_RDONLY | O_CLOEXEC), b = open(other, O_RDONLY | O_CLOEXEC);
    CHECK(a >= 0 && b >= 0);
    for (;;) {
        ssize_t a_size = read(a, ours, sizeof(ours)), b_size = read(b, theirs, sizeof(theirs));
        CHECK(a_size >= 0);
        if (a_size != b_size || memcmp(ours, theirs, (size_t)a_size) != 0)
            state->same = false;
        if (a_size == 0 || !state->same)
            break;
    }
    CHECK_INT(close(a), 0);
    CHECK_INT(close(b), 0);
}

bool dir_same(const char *a, const char *b)
{
    struct same_state state = {.other = b, .same = true};

    dir_visit(a, visit_same, &state);
    return state.same && dir_file_count(a, "") == dir_file_count(b, "");
}

void dir_make(const char *dir, const char *name)
{
    char path[PATH_MAX];

    path_join(path, dir, name);
    CHECK_INT(mkdir(path, 0700), 0);
}

void dir_write(const char *dir, const char *name, const void *data, size_t size)
{
    char path[PATH_MAX];

    path_join(path, dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(write(fd, data, size), size);
    CHECK_INT(close(fd), 0);
}

struct find_state {
    const void *data;
    size_t size;
    struct place *place;
    bool found;
};

static void visit_find(void *arg, const char *path, const char *name, const struct stat *st)
{
    struct find_state *state = arg;

    (void)name;
    if (!S_ISREG(st->st_mode) || state->found)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    for (off_t off = 0, end; !state->found && data_next(fd, &off, &end); off = end) {
        size_t size = (size_t)(end - off);
        char *data = malloc(size);
        CHECK(data != NULL);
        CHECK_INT(pread(fd, data, size, off), size);
        char *hit = memmem(data, size, state->data, state->size);
        if (hit != NULL) {
            state->found = true;
            strcpy(state->place->path, path);
            state->place->off = (uint64_t)off + (uint64_t)(hit - data);
        }
        free(data);
    }
    CHECK_INT(close(fd), 0);
}

bool dir_find(const char *dir, const void *data, size_t size, struct place *ret_place)
{
    struct find_state state = {.data = data, .size = size, .place = ret_place};

    dir_visit(dir, visit_find, &state);
    return state.found;
}
