/* SPDX-License-Identifier: MIT */
/*
 * writers.h - threads that write(2) to files of a mount, each to its own or all to one.
 *
 * Serves the benchmarks of the mount: the same load goes to walrusfs and to the null server.  A case
 * has its server for itself, with an empty store.
 */
#ifndef BENCH_WRITERS_H
#define BENCH_WRITERS_H

#include "bench.h"

enum writers_files {
    WRITERS_OWN_TOPIC,  /* a topic each */
    WRITERS_ONE_TOPIC,  /* one topic, each writer with an open(2) of its own */
    WRITERS_SHARE_NODE, /* the same, but all have the inode that the first one was given */
};

struct writers {
    const char *loop;    /* of the null server; NULL: walrusfs */
    const char *options; /* of walrusfs; NULL: none */
    unsigned count;
    size_t size; /* of a write */
    enum writers_files files;
    bool pinned; /* each writer stays on a core */
};

/* A bench_case's `run`; its argument is a struct writers. */
void writers_run(void *arg, const struct bench_options *options, struct bench_result *ret);

#endif
