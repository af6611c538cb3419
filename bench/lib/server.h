/* SPDX-License-Identifier: MIT */
/*
 * server.h - a FUSE server, walrusfs or the null server, mounted for as long as a case runs.
 *
 * Serves the benchmarks of the mount; fails by ending the program.  What is mounted when the program
 * ends before its time is taken away, and a server whose program was killed takes itself away.
 */
#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

#include <sys/types.h>

#include "bench.h"

struct server {
    pid_t pid;
    char *scratch; /* what is below is in here */
    char *mount;   /* the mountpoint */
    char *store;   /* of walrusfs */
};

/* walrusfs, with mount options ("fsync=never"), or NULL for none, and an empty store. */
void server_start_walrusfs(struct server *ret_server, const struct bench_options *options,
                           const char *mount_options);
/* The null server with one of its loops; each of its files reads as `size` bytes. */
void server_start_null(struct server *ret_server, const struct bench_options *options,
                       const char *loop, uint64_t size);
void server_stop(struct server *server);

/* Processor time of the server so far. */
double server_cpu_seconds(const struct server *server);

/* A path below the mountpoint, which the caller frees. */
char *server_path(const struct server *server, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Opens such a path. */
int server_open(const struct server *server, int flags, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void server_make_topic(const struct server *server, const char *name);

/* Whether the kernel offers FUSE over io_uring here. */
bool server_has_uring(void);

/* Keeps the calling thread on one core, idx modulo their number. */
void server_pin(unsigned idx);

#endif
