/* SPDX-License-Identifier: MIT */
/*
 * compiler.c - what a failed WALRUS_ASSERT does: one line on the standard error, and the end.
 *
 * Serves every file.  Any thread, any locks held, signal handlers too: it allocates nothing, and
 * the line leaves in one write so that those of two threads do not mix.
 */
#include "compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void walrus_assert_fail(const char *expr, const char *file, int line)
{
    char text[512];
    int size =
        snprintf(text, sizeof(text), "walrus: %s:%d: broken invariant: %s\n", file, line, expr);
    if (size >= (int)sizeof(text)) {
        size = (int)sizeof(text) - 1;
        text[size - 1] = '\n';
    }
    /* Nobody is left to tell when this fails; the abort says enough. */
    if (size > 0 && write(STDERR_FILENO, text, (size_t)size) < 0)
        abort();
    abort();
}
