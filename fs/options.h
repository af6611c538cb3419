/* SPDX-License-Identifier: MIT */
/*
 * options.h - the command line.
 */
#ifndef WALRUSFS_OPTIONS_H
#define WALRUSFS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"
#include "walrus.h"

#define OPTIONS_LINE_SIZE_DEFAULT ((size_t)16 << 20)

struct options {
    struct walrus_options walrus; /* report, progress and their argument are set by main.c */
    char *store;                  /* as given; an absolute path once options_resolve() succeeded */
    char *mountpoint;
    char *key;
    char *log_file;
    char *mount_options; /* for the kernel and libfuse: comma-separated, or NULL */
    size_t line_size;    /* the longest line of `lines` */
    enum walrus_level log_level;
    bool foreground, debug, single, uring;
    bool help, version;
    bool autocreate, non_empty, clean_stale, allow_other, allow_root;
    bool fake; /* mount -f: all but the mount */
};

/* Reads argv.  `ret_message` of `room` bytes says what is wrong.  -EINVAL -ENOMEM */
WALRUS_CHECK int options_parse(struct options *ret_options, int argc, char **argv,
                               char *ret_message, size_t room);
void options_fini(struct options *options);
const char *options_usage(void);

#endif
