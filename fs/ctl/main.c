/* SPDX-License-Identifier: MIT */
/*
 * main.c - walrusctl: finds the command in a table, and what all commands share: messages and the
 * progress bar.
 *
 * The result of a command is the exit code, unless its output could not be written.
 */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../stdfds.h"

#define BAR_SIZE 40

static const struct ctl_command commands[] = {
    {"status", "STORE|MOUNT", "what is stored and pending, topic by topic", command_status},
    {"top", "[-i SECONDS] [-n COUNT] STORE|MOUNT", "the same as a live table with rates",
     command_top},
    {"seek", "[-g GROUP] STORE|MOUNT TOPIC N|begin|end|+N|-N", "moves a group, for replay",
     command_seek},
    {"bench", "[-s SIZE] [-n COUNT] [-t THREADS] [-d] STORE|MOUNT", "how fast it appends and takes",
     command_bench},
    {"dump", "[-r] STORE [TOPIC]", "prints the entries that are retained", command_dump},
    {"repair", "STORE", "mends what can be mended, and keeps what was there", command_repair},
    {"verify", "STORE", "reads everything and tells what is damaged", command_verify},
};

bool ctl_option(struct ctl *ctl, int option)
{
    switch (option) {
    case 'j':
        ctl->json = true;
        return true;
    case 'k':
        ctl->key = optarg;
        return true;
    case 'q':
        ctl->quiet = true;
        return true;
    default:
        return false;
    }
}

const char *ctl_operand(struct ctl *ctl, int argc, char **argv, const char *wanted)
{
    static const struct option known[] = {CTL_OPTIONS, {0}};
    int option;

    while ((option = getopt_long(argc, argv, CTL_LETTERS, known, NULL)) != -1) {
        if (ctl_option(ctl, option))
            continue;
        ctl_usage(ctl, NULL);
        return NULL;
    }
    if (optind + 1 == argc)
        return argv[optind];
    ctl_usage(ctl, "%s", wanted);
    return NULL;
}

enum ctl_result ctl_usage(const struct ctl *ctl, const char *format, ...)
{
    va_list args;
    if (format) {
        fprintf(stderr, "walrusctl %s: ", ctl->command->name);
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fputc('\n', stderr);
    }
    fprintf(stderr, "usage: walrusctl %s %s\n", ctl->command->name, ctl->command->arguments);
    return CTL_USAGE;
}

enum ctl_result ctl_fail(struct ctl *ctl, int error, const char *format, ...)
{
    va_list args;
    ctl_progress_end(ctl);
    fprintf(stderr, "walrusctl %s: ", ctl->command->name);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (error == -EPROTONOSUPPORT)
        fputs(": it was written by a newer version", stderr);
    else if (error == -EMEDIUMTYPE)
        fputs(": it lies on a network or FUSE filesystem", stderr);
    else if (error == -ENOTCONN)
        fputs(": a dead daemon left its mount there; remove it with fusermount3 -u", stderr);
    else if (error)
        fprintf(stderr, ": %s", strerrordesc_np(-error));
    fputc('\n', stderr);
    return CTL_CANNOT;
}

const char *ctl_store(struct ctl *ctl, const char *path)
{
    return realpath(path, ctl->store) != NULL ? ctl->store
                                              : path; /* the library says what is wrong */
}

void ctl_report(void *arg, const struct walrus_report *event)
{
    struct ctl *ctl = arg;
    /* Where a store lies is of interest if it cannot be opened there, and ctl_fail() says it then. */
    if (event->level > WALRUS_WARNING || event->error == EMEDIUMTYPE)
        return;
    ctl_progress_end(ctl);
    fprintf(stderr, "walrusctl %s: ", ctl->command->name);
    if (event->topic) {
        ctl_print_name(stderr, event->topic);
        fputs(": ", stderr);
    }
    ctl_print_name(stderr, event->text); /* names of groups stand in there */
    fputc('\n', stderr);
}

void ctl_progress(void *arg, uint64_t done, uint64_t total)
{
    struct ctl *ctl = arg;
    char bar[BAR_SIZE + 1];
    static int shown = -1;
    int percent = total ? (int)(100.0 * (double)done / (double)total) : 100;
    if (ctl->quiet || !isatty(STDERR_FILENO) || (ctl->bar && percent == shown))
        return;
    shown = percent;
    memset(bar, ' ', BAR_SIZE);
    memset(bar, '#', (size_t)percent * BAR_SIZE / 100);
    bar[BAR_SIZE] = 0;
    fprintf(stderr, "\r%s [%s] %3d%%", ctl->command->name, bar, percent);
    ctl->bar = true;
}

void ctl_progress_end(struct ctl *ctl)
{
    if (ctl->bar)
        fputs("\r\33[K", stderr);
    ctl->bar = false;
}

void ctl_print_count(uint64_t count, const char *one, const char *more)
{
    printf("%" PRIu64 " %s", count, count == 1 ? one : more);
}

void ctl_print_name(FILE *out, const char *name)
{
    size_t left = strlen(name), size;
    for (; left > 0; name += size, left -= size) {
        size = utf8_size(name, left);
        if (size > 0)
            fwrite(name, 1, size, out);
        else
            fprintf(out, "\\x%02x", (unsigned char)name[0]);
        size = MAX(size, 1);
    }
}

static void help(FILE *out)
{
    fputs("usage: walrusctl COMMAND [--json] [--quiet] [--key KEY] ...\n\n", out);
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(out, "  %s %s\n      %s\n", commands[i].name, commands[i].arguments,
                commands[i].summary);
    fputs("\nExit codes: 0 all is well, 1 usage, 2 damage was found, 3 it could not be done.\n"
          "walrusctl(1) has the details.\n",
          out);
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.json = false};
    if (stdfds_open() < 0)
        return CTL_CANNOT;
    if (argc < 2) {
        help(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        help(stdout);
        return fflush(stdout) == 0 ? CTL_OK : CTL_CANNOT;
    }
    if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0) {
        printf("walrusctl %s\n", WALRUS_VERSION);
        return fflush(stdout) == 0 ? CTL_OK : CTL_CANNOT;
    }
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            ctl.command = &commands[i];
    if (!ctl.command) {
        fprintf(stderr, "walrusctl: no such command: %s\n", argv[1]);
        help(stderr);
        return CTL_USAGE;
    }
    if (argc > 2 && (strcmp(argv[2], "-h") == 0 || strcmp(argv[2], "--help") == 0)) {
        printf("usage: walrusctl %s %s\n       %s\n", ctl.command->name, ctl.command->arguments,
               ctl.command->summary);
        return fflush(stdout) == 0 ? CTL_OK : CTL_CANNOT;
    }
    enum ctl_result result = ctl.command->run(&ctl, argc - 1, argv + 1);
    ctl_progress_end(&ctl);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "walrusctl: the output cannot be written\n");
        return CTL_CANNOT;
    }
    return (int)result;
}
