/* SPDX-License-Identifier: MIT */
/*
 * tmpdir.h - a fresh directory for each test, under $TMPDIR or /tmp.
 *
 * Tests run side by side, so none may use a fixed path.  A failure here ends the test program: no
 * test can go on without its directory.
 */
#ifndef WALRUS_TESTS_TMPDIR_H
#define WALRUS_TESTS_TMPDIR_H

/* Makes an empty directory.  Its path is from malloc; tmpdir_destroy frees it. */
char *tmpdir_create(void);

/* Removes the directory with everything in it (symbolic links are not followed).  NULL is allowed.
 */
void tmpdir_destroy(char *path);

#endif
