/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages for people: stderr in front, syslog in the background, or a file; and the last
 * ones of them for .walrusfs/errors.
 *
 * One log a process.  Any thread, also under locks of the engine: the one lock in here is a leaf.
 */
#ifndef WALRUSFS_LOG_H
#define WALRUSFS_LOG_H

#include <stdbool.h>

#include "compiler.h"
#include "walrus.h"

/* Messages go to the file `path` (NULL: stderr while in front, else syslog).  -errno: it cannot be opened.
 */
WALRUS_CHECK int log_open(const char *path, enum walrus_level level);
/* Opens the file anew, for it may have been moved away (logrotate).  -errno: the old one stays. */
WALRUS_CHECK int log_reopen(void);
/* From the level of log_open() to debug, or back.  The main thread's alone. */
enum walrus_level log_toggle_debug(void);
/* Whether such a line would be shown: for those that cost something to make. */
WALRUS_CHECK bool log_shows(enum walrus_level level);
const char *log_level_name(enum walrus_level level);
/* The process is in the background now: no terminal. */
void log_detach(void);
void log_close(void);

/* One line: level, topic, text, errno.  `error` is a positive errno or 0; `topic` may be NULL. */
PRINTF(4, 5)
void log_write(enum walrus_level level, int error, const char *topic, const char *format, ...);

/* For struct walrus_options. */
void log_report(void *arg, const struct walrus_report *report);

/* The last errors and warnings, oldest first, a line each; from malloc.  -ENOMEM */
WALRUS_CHECK int log_errors(char **ret_text, size_t *ret_size);

#endif
