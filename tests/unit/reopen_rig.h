/* SPDX-License-Identifier: MIT */
/* reopen_rig.h - a directory of its own for each test, and a file of a store in it that is opened, closed
 * and opened again.  Whoever includes it has try_open and close_it for its kind of file. */
#ifndef TESTS_UNIT_REOPEN_RIG_H
#define TESTS_UNIT_REOPEN_RIG_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "tmpdir.h"

static char *dir;
static int dirfd;

static inline int try_open(bool read_only);
static inline void close_it(void); /* also when it is not open */

static inline void open_it(void)
{
    cr_assert_eq(try_open(false), 0);
}

static inline void reopen(void)
{
    close_it();
    open_it();
}

static inline void init(void)
{
    dir = tmpdir_create();
    dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    cr_assert_geq(dirfd, 0);
}

static inline void init_open(void)
{
    init();
    open_it();
}

static inline void fini(void)
{
    close_it();
    close(dirfd);
    tmpdir_destroy(dir);
}

#endif
