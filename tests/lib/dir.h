/* SPDX-License-Identifier: MIT */
/*
 * dir.h - the names in a directory, for those who may not call malloc(3).  What tests ask about
 * directories otherwise, the dir_*() of rig.h, is made of it.
 */
#ifndef WALRUS_TEST_DIR_H
#define WALRUS_TEST_DIR_H

#include <dirent.h>
#include <sys/types.h>

/* As opendir(3) and readdir(3), but without malloc(3): after fork(2) in a process with threads, the
 * child may find the heap of a sanitizer locked for ever. */
struct dir_reader {
    int fd;
    ssize_t size, at; /* bytes in the buffer, and of these passed */
    _Alignas(struct dirent64) char buffer[4096];
};

void dir_open(struct dir_reader *reader, const char *dir);
/* The next name, "." and ".." left out; NULL: the end, and the reader is closed. */
const char *dir_next(struct dir_reader *reader);

#endif
