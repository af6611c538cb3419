/* SPDX-License-Identifier: MIT */
/*
 * ctl.h - what the commands of walrusctl share.
 *
 * A command is one function in a file of its own, and a line in the table of main.c.  It reads its
 * options with getopt_long: CTL_OPTIONS among them, which ctl_option() takes.  Results go to
 * stdout, as text or, with --json, as one JSON value; messages and the progress bar to stderr.
 *
 * Uses walrus.h and engine/base, nothing else of the engine.  One thread.
 */
#ifndef WALRUSCTL_CTL_H
#define WALRUSCTL_CTL_H

#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "compiler.h"
#include "walrus.h"

/* Exit codes, for scripts: docs/walrusctl.1.scd. */
enum ctl_result {
    CTL_OK = 0,
    CTL_USAGE = 1,  /* the command line is wrong */
    CTL_DAMAGE = 2, /* damage was found, and not all of it was mended */
    CTL_CANNOT = 3, /* it could not be done: no such store, in use, no permission ... */
};

struct ctl;

struct ctl_command {
    const char *name;
    const char *arguments;                                          /* as the usage shows them */
    const char *summary;                                            /* one line */
    enum ctl_result (*run)(struct ctl *ctl, int argc, char **argv); /* argv[0]: the name */
};

struct ctl {
    const struct ctl_command *command;
    bool json;
    bool quiet;           /* no progress bar, also on a terminal */
    const char *key;      /* namespace, or NULL */
    bool bar;             /* a progress bar is on the screen */
    char store[PATH_MAX]; /* ctl_store() */
};

/* What every command takes: for the array of long options, and for the short ones. */
#define CTL_OPTIONS                                                                                \
    {"json", no_argument, NULL, 'j'}, {"key", required_argument, NULL, 'k'},                       \
        {"quiet", no_argument, NULL, 'q'},                                                         \
    {                                                                                              \
        "help", no_argument, NULL, 'h'                                                             \
    }
#define CTL_LETTERS "hk:q"

/* For commands without options of their own: takes those that all have, and gives the one operand.
 * NULL: usage was said, with what is `wanted`. */
const char *ctl_operand(struct ctl *ctl, int argc, char **argv, const char *wanted);
/* Takes one of CTL_OPTIONS, as getopt_long returned it.  False: it is none; say ctl_usage(). */
bool ctl_option(struct ctl *ctl, int option);
/* A message on stderr, and how the command is called; `format` NULL: getopt said it. */
PRINTF(2, 3) enum ctl_result ctl_usage(const struct ctl *ctl, const char *format, ...);
/* "walrusctl COMMAND: ..." on stderr; `error` (negative or 0) is put into words behind it. */
PRINTF(3, 4) enum ctl_result ctl_fail(struct ctl *ctl, int error, const char *format, ...);

/* The directory that `path` leads to, until the next call: the library refuses a symbolic link, the
 * daemon follows it, and so do we. */
const char *ctl_store(struct ctl *ctl, const char *path);

/* For walrus_options: messages of the library go to stderr. */
void ctl_report(void *ctl, const struct walrus_report *report);
/* A progress bar, when stderr is a terminal; `ctl` as the first argument of the callbacks. */
void ctl_progress(void *ctl, uint64_t done, uint64_t total);
void ctl_progress_end(struct ctl *ctl);

/* Prints how many there are of something, with its name for one and for all other numbers. */
void ctl_print_count(uint64_t count, const char *one, const char *more);
/* Prints a name of any bytes: what is not printable UTF-8 stands as \xNN. */
void ctl_print_name(FILE *out, const char *name);

/* json.c: a JSON value on stdout, piece by piece.  `key` is NULL in arrays, and for the outermost.
 * Bytes that are not UTF-8 stand as \xNN, as they do in the texts of the mount. */
void json_begin(const char *key, char bracket); /* '{' or '[' */
void json_end(char bracket);                    /* '}' or ']' */
void json_finish(void); /* the outermost value is over: a newline; another may follow */
void json_string(const char *key, const char *value); /* NULL: null */
void json_bytes(const char *key, const void *data, size_t size);
void json_number(const char *key, uint64_t value);
void json_bool(const char *key, bool value);
/* Bytes of `text`, at most `size`, that make one printable UTF-8 character; 0: none. */
size_t utf8_size(const char *text, size_t size);

enum ctl_result command_bench(struct ctl *ctl, int argc, char **argv);
enum ctl_result command_seek(struct ctl *ctl, int argc, char **argv);
enum ctl_result command_status(struct ctl *ctl, int argc, char **argv);
enum ctl_result command_top(struct ctl *ctl, int argc, char **argv);
/* verify.c: runs one of the library's two checkers of whole stores, and shows what it finds. */
typedef int ctl_checker(const char *dir, const struct walrus_verify_options *options,
                        struct walrus_verify_result *ret_result);
enum ctl_result ctl_check(struct ctl *ctl, int argc, char **argv, ctl_checker *check);

enum ctl_result command_dump(struct ctl *ctl, int argc, char **argv);
enum ctl_result command_repair(struct ctl *ctl, int argc, char **argv);
enum ctl_result command_verify(struct ctl *ctl, int argc, char **argv);

#endif
