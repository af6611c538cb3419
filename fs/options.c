/* SPDX-License-Identifier: MIT */
/*
 * options.c - see options.h.
 *
 * Options may stand before and after the operands, and several behind one -o.  What fstab lines
 * carry for others (noauto, _netdev, x-systemd...) is dropped; what is the kernel's goes to the
 * mount.  Under a name that begins with "mount." the program is a helper of mount(8), whose words it
 * then takes.
 */
#include <errno.h>
#include <fuse3/fuse_opt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"
#include "options.h"

struct parser {
    struct options *options;
    char *message;
    size_t room;
};

PRINTF(2, 3)
static int complain(const struct parser *parser, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(parser->message, parser->room, format, args);
    va_end(args);
    return -EINVAL;
}

static int set_text(char **ret_text, const char *value)
{
    char *text = strdup(value);
    if (text == NULL)
        return -ENOMEM;
    free(*ret_text);
    *ret_text = text;
    return 0;
}

static int set_consistency(const struct parser *parser, const char *value)
{
    static const char prefix[] = "at-least-once";
    struct walrus_options *walrus = &parser->options->walrus;
    uint64_t every = 1;

    if (strcmp(value, "strict") == 0) {
        walrus->consistency = WALRUS_STRICT;
        return 0;
    }
    if (strncmp(value, prefix, strlen(prefix)) == 0) {
        const char *number = value + strlen(prefix);
        if (*number == '\0' ||
            (*number == ':' && names_parse_number(number + 1, strlen(number + 1), &every) &&
             every <= UINT32_MAX)) {
            walrus->consistency = WALRUS_AT_LEAST_ONCE;
            walrus->persist_every = every != 0 ? (uint32_t)every : 1;
            return 0;
        }
    }
    return complain(parser, "consistency=%s: must be strict or at-least-once:N", value);
}

static int set_fsync(const struct parser *parser, const char *value)
{
    struct walrus_options *walrus = &parser->options->walrus;
    uint64_t ms;

    if (strcmp(value, "each") == 0) {
        walrus->fsync = WALRUS_FSYNC_EACH;
    } else if (strcmp(value, "never") == 0) {
        walrus->fsync = WALRUS_FSYNC_NEVER;
    } else if (names_parse_number(value, strlen(value), &ms) && ms >= 1 && ms <= 3600000) {
        walrus->fsync = WALRUS_FSYNC_MS;
        walrus->fsync_ms = (uint32_t)ms;
    } else {
        return complain(parser, "fsync=%s: must be each, never, or 1 to 3600000 milliseconds",
                        value);
    }
    return 0;
}

static int set_level(const struct parser *parser, const char *value)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strcmp(value, names[i]) == 0) {
            parser->options->log_level = (enum walrus_level)i;
            return 0;
        }
    }
    return complain(parser, "loglevel=%s: must be error, warning, info or debug", value);
}

static int set_number(const struct parser *parser, const char *name, const char *value,
                      uint64_t least, uint64_t most, uint64_t *ret_value)
{
    uint64_t number = 0;
    if (names_parse_size(value, strlen(value), &number) < 0 || number < least || number > most)
        return complain(parser, "%s=%s: must be %llu to %llu", name, value,
                        (unsigned long long)least, (unsigned long long)most);
    *ret_value = number;
    return 0;
}

/* Options with a value.  1: `name` is none of them. */
static int set_value(const struct parser *parser, const char *name, const char *value)
{
    struct options *options = parser->options;
    uint64_t number = 0;
    int r;

    if (strcmp(name, "consistency") == 0)
        return set_consistency(parser, value);
    if (strcmp(name, "fsync") == 0)
        return set_fsync(parser, value);
    if (strcmp(name, "loglevel") == 0)
        return set_level(parser, value);
    if (strcmp(name, "logfile") == 0)
        return set_text(&options->log_file, value);
    if (strcmp(name, "key") == 0) {
        r = set_text(&options->key, value);
        options->walrus.key = options->key;
        return r;
    }
    if (strcmp(name, "line_max") == 0) {
        r = set_number(parser, name, value, 1, MIN(WALRUS_ENTRY_SIZE_MAX, (size_t)64 << 20),
                       &number);
        if (r == 0)
            options->line_size = number;
        return r;
    }
    if (strcmp(name, "block_size") == 0) {
        r = set_number(parser, name, value, 64 << 10, 64 << 20, &number);
        if (r == 0 && number % 4096 != 0)
            return complain(parser, "block_size=%s: must be a multiple of 4096", value);
        if (r == 0)
            options->walrus.block_size = (uint32_t)number;
        return r;
    }
    if (strcmp(name, "blocks_per_file") == 0) {
        r = set_number(parser, name, value, 1, 224, &number);
        if (r == 0)
            options->walrus.blocks_per_file = (uint32_t)number;
        return r;
    }
    return 1;
}

static bool is_one_of(const char *name, const char *const *names)
{
    while (*names != NULL && strcmp(name, *names) != 0)
        names++;
    return *names != NULL;
}

/* For others, or always on. */
static bool is_noise(const char *name)
{
    static const char *const noise[] = {
        "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail",
        "_netdev", "rw", "nosuid", "nodev", "default_permissions", "auto_cache", "loud", "silent",
        "dev", "suid", /* what mount(8) adds for root; the mount has neither */
        /* times are the daemon's; libfuse would refuse these */
        "relatime", "norelatime", "strictatime", "lazytime", "diratime", "nodiratime", NULL};
    return is_one_of(name, noise) || strncmp(name, "x-", 2) == 0 ||
           strncmp(name, "comment=", 8) == 0;
}

static bool is_for_mount(const char *name)
{
    static const char *const known[] = {"noexec", "exec",    "noatime",    "atime",        "sync",
                                        "async",  "dirsync", "allow_root", "auto_unmount", NULL};
    return is_one_of(name, known);
}

static int set_for_mount(struct options *options, const char *name)
{
    if (strcmp(name, "allow_root") == 0)
        options->allow_root = true;
    return fuse_opt_add_opt(&options->mount_options, name) < 0 ? -ENOMEM : 0;
}

static int set_flag(const struct parser *parser, const char *name)
{
    struct options *options = parser->options;

    if (strcmp(name, "autocreate") == 0)
        options->autocreate = true;
    else if (strcmp(name, "nonempty") == 0)
        options->non_empty = true;
    else if (strcmp(name, "clean_stale") == 0)
        options->clean_stale = true;
    else if (strcmp(name, "force") == 0)
        options->walrus.force = true;
    else if (strcmp(name, "debug") == 0)
        options->debug = options->foreground = true;
    else if (strcmp(name, "allow_other") == 0)
        options->allow_other = true;
    else if (strcmp(name, "io_uring") == 0)
        options->uring = true;
    else if (strcmp(name, "ro") == 0)
        options->walrus.read_only = true;
    else if (strcmp(name, "remount") == 0)
        return complain(parser, "remount: the options of a mount cannot be changed; unmount it, "
                                "and mount it anew");
    else if (is_for_mount(name))
        return set_for_mount(options, name);
    else if (!is_noise(name))
        return complain(parser, "unknown option: %s", name);
    return 0;
}

static int parse_option(const struct parser *parser, char *option)
{
    char *equals = strchr(option, '=');

    if (*option == '\0')
        return 0;
    if (is_noise(option))
        return 0;
    if (equals == NULL)
        return set_flag(parser, option);
    *equals = '\0';
    int r = set_value(parser, option, equals + 1);
    return r == 1 ? complain(parser, "unknown option: %s=", option) : r;
}

static int parse_list(const struct parser *parser, const char *list)
{
    char *copy = strdup(list), *at = copy, *option;
    int r = copy != NULL ? 0 : -ENOMEM;

    while (r == 0 && (option = strsep(&at, ",")) != NULL)
        r = parse_option(parser, option);
    free(copy);
    return r;
}

static int parse_operand(const struct parser *parser, const char *text)
{
    struct options *options = parser->options;
    if (options->store == NULL)
        return set_text(&options->store, text);
    if (options->mountpoint == NULL)
        return set_text(&options->mountpoint, text);
    return complain(parser, "too many arguments: %s", text);
}

/* One word that begins with '-'.  *index steps over a value that is a word of its own. */
static int parse_switch(const struct parser *parser, int argc, char **argv, int *index)
{
    struct options *options = parser->options;
    const char *word = argv[*index];

    if (strcmp(word, "--help") == 0) {
        options->help = true;
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        options->version = true;
        return 0;
    }
    for (const char *at = word + 1; *at != '\0'; at++) {
        switch (*at) {
        case 'f':
            options->foreground = true;
            break;
        case 'd':
            options->debug = options->foreground = true;
            break;
        case 's':
            options->single = true;
            break;
        case 'h':
            options->help = true;
            break;
        case 'V':
            options->version = true;
            break;
        case 'o':
            if (at[1] != '\0')
                return parse_list(parser, at + 1);
            if (*index + 1 == argc)
                return complain(parser, "-o wants an option behind it");
            return parse_list(parser, argv[++*index]);
        default:
            return complain(parser, "unknown option: %s", word);
        }
    }
    return 0;
}

/* Words of mount(8) for its helpers: `mount.TYPE SPEC DIR [-sfnv] [-N NAMESPACE] [-o LIST] [-t TYPE]`.
 * Its -f and -s are others than ours. */
static int parse_helper_switch(const struct parser *parser, int argc, char **argv, int *index)
{
    const char *word = argv[*index];

    for (const char *at = word + 1; *at != '\0'; at++) {
        switch (*at) {
        case 'f':
            parser->options->fake = true;
            break;
        case 'n': /* no mtab: there is none */
        case 's': /* bear with unknown options: a misspelt fsync= must not go unnoticed */
        case 'v':
            break;
        case 'r':
            parser->options->walrus.read_only = true;
            break;
        case 'w':
            break;
        case 'N':
        case 'o':
        case 't': {
            const char *value = at[1] != '\0' ? at + 1 : *index + 1 < argc ? argv[++*index] : NULL;
            if (value == NULL)
                return complain(parser, "-%c wants a word behind it", *at);
            return *at == 'o' ? parse_list(parser, value) : 0;
        }
        default:
            return complain(parser, "unknown option: %s", word);
        }
    }
    return 0;
}

/* Started by mount(8), under a name such as mount.walrusfs. */
static bool is_helper(const char *program)
{
    const char *slash = program != NULL ? strrchr(program, '/') : NULL;
    const char *base = slash != NULL ? slash + 1 : program;
    return base != NULL && strncmp(base, "mount.", 6) == 0;
}

int options_parse(struct options *ret_options, int argc, char **argv, char *ret_message,
                  size_t room)
{
    struct options options = {.line_size = OPTIONS_LINE_SIZE_DEFAULT, .log_level = WALRUS_INFO};
    struct parser parser = {&options, ret_message, room};
    bool operands_only = false, helper = is_helper(argv[0]);
    int r = 0;

    ret_message[0] = '\0';
    for (int i = 1; r == 0 && i < argc; i++) {
        const char *word = argv[i];
        if (!operands_only && strcmp(word, "--") == 0)
            operands_only = true;
        else if (operands_only || word[0] != '-' || word[1] == '\0')
            r = parse_operand(&parser, word);
        else if (helper)
            r = parse_helper_switch(&parser, argc, argv, &i);
        else
            r = parse_switch(&parser, argc, argv, &i);
    }
    if (helper) /* mount(8) waits for the end of its helper */
        options.foreground = false;
    if (options.debug)
        options.log_level = WALRUS_DEBUG;
    if (r == 0 && !options.help && !options.version && options.mountpoint == NULL)
        r = complain(&parser, "a store and a mountpoint are needed");
    if (r < 0) {
        if (r == -ENOMEM)
            snprintf(ret_message, room, "out of memory");
        options_fini(&options);
        return r;
    }
    *ret_options = options;
    return 0;
}

void options_fini(struct options *options)
{
    free(options->store);
    free(options->mountpoint);
    free(options->key);
    free(options->log_file);
    free(options->mount_options);
    *options = (struct options){.store = NULL};
}

const char *options_usage(void)
{
    return "usage: walrusfs [options] STORE MOUNTPOINT\n"
           "\n"
           "Mounts the store (a directory, made if it is not there) at MOUNTPOINT.\n"
           "\n"
           "  -f                   stay in front\n"
           "  -d, -o debug         the same, and show each request\n"
           "  -s                   one thread\n"
           "  -h, --help           this text\n"
           "  -V, --version        the version\n"
           "\n"
           "  -o consistency=strict           an entry is consumed before it is handed out "
           "(default)\n"
           "  -o consistency=at-least-once:N  it is when it was delivered; stored every N entries\n"
           "  -o fsync=MS|each|never          when appended entries become durable (1000)\n"
           "  -o line_max=SIZE                longest line of `lines` (16M)\n"
           "  -o autocreate                   the first write to T/append makes topic T\n"
           "  -o ro                           read-only\n"
           "  -o allow_other                  other users may use the mount\n"
           "  -o io_uring                     talk to the kernel through io_uring, if it is "
           "enabled\n"
           "  -o block_size=SIZE              of a new store (10M)\n"
           "  -o blocks_per_file=N            of a new store (100)\n"
           "  -o key=NAME                     a store of its own within STORE\n"
           "  -o force                        use a filesystem that is known to be unsafe\n"
           "  -o nonempty                     mount over a directory that is not empty\n"
           "  -o clean_stale                  unmount what a dead daemon left at MOUNTPOINT\n"
           "  -o logfile=FILE                 messages go to FILE\n"
           "  -o loglevel=LEVEL               error, warning, info (default) or debug\n"
           "\n"
           "Unmount with `fusermount3 -u MOUNTPOINT`, or end the daemon with SIGTERM.\n"
           "Exit status: 0 success, 1 usage, 2 the store, 3 the mount, 4 anything else.\n";
}
