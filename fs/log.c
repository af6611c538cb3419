/* SPDX-License-Identifier: MIT */
/*
 * log.c - see log.h.
 *
 * The lock has the highest rank, since the engine may report while it holds its own.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "log.h"
#include "names.h"
#include "sync.h"

#define ERRORS_COUNT_MAX 1000

static struct {
    struct lock lock; /* LOCK_LEAF; guards what follows */
    FILE *file;       /* NULL: stderr, or syslog */
    bool detached;
    enum walrus_level level;        /* less important lines are dropped */
    char *errors[ERRORS_COUNT_MAX]; /* a ring */
    size_t first, count;
} log_state;

static const char *level_name(enum walrus_level level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return names[level];
}

int log_open(const char *file, enum walrus_level level)
{
    lock_init(&log_state.lock, LOCK_LEAF);
    log_state.level = level;
    if (file == NULL)
        return 0;
    log_state.file = fopen(file, "ae");
    if (log_state.file == NULL)
        return -errno;
    setvbuf(log_state.file, NULL, _IOLBF, 0);
    return 0;
}

void log_detach(void)
{
    lock_acquire(&log_state.lock);
    log_state.detached = true;
    if (log_state.file == NULL)
        openlog("walrusfs", LOG_PID, LOG_DAEMON);
    lock_release(&log_state.lock);
}

void log_close(void)
{
    for (size_t i = 0; i < ERRORS_COUNT_MAX; i++) {
        free(log_state.errors[i]);
        log_state.errors[i] = NULL;
    }
    log_state.first = log_state.count = 0;
    if (log_state.file != NULL)
        fclose(log_state.file);
    log_state.file = NULL;
}

static void emit_locked(enum walrus_level level, const char *stamp, const char *line)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

    if (log_state.file != NULL)
        fprintf(log_state.file, "%s %s: %s\n", stamp, level_name(level), line);
    else if (log_state.detached)
        syslog(priorities[level], "%s", line);
    else
        fprintf(stderr, "walrusfs: %s%s%s\n", level <= WALRUS_WARNING ? level_name(level) : "",
                level <= WALRUS_WARNING ? ": " : "", line);
}

static void remember_locked(enum walrus_level level, const char *stamp, const char *line)
{
    char *text;
    if (asprintf(&text, "%s %s: %s\n", stamp, level_name(level), line) < 0)
        return;
    size_t at = (log_state.first + log_state.count) % ERRORS_COUNT_MAX;
    if (log_state.count == ERRORS_COUNT_MAX) {
        free(log_state.errors[at]);
        log_state.first = (log_state.first + 1) % ERRORS_COUNT_MAX;
    } else {
        log_state.count++;
    }
    log_state.errors[at] = text;
}

void log_write(enum walrus_level level, int error, const char *topic, const char *format, ...)
{
    char text[1024], name[NAMES_ESCAPED_SIZE], line[sizeof(text) + sizeof(name) + 128], stamp[40];
    struct tm broken;
    time_t now = time(NULL);
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (topic != NULL)
        names_escape(topic, false, name, sizeof(name));
    snprintf(line, sizeof(line), "%s%s%s%s%s%s", topic != NULL ? "topic " : "",
             topic != NULL ? name : "", topic != NULL ? ": " : "", text, error != 0 ? ": " : "",
             error != 0 ? strerrordesc_np(error) : "");
    if (gmtime_r(&now, &broken) == NULL ||
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &broken) == 0)
        stamp[0] = '\0';

    lock_acquire(&log_state.lock);
    if (level <= WALRUS_WARNING)
        remember_locked(level, stamp, line);
    if (level <= log_state.level)
        emit_locked(level, stamp, line);
    lock_release(&log_state.lock);
}

void log_report(void *arg, const struct walrus_report *report)
{
    log_write(report->level, report->error, report->topic, "%s", report->text);
}

int log_errors(char **ret_text, size_t *ret_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        return -ENOMEM;
    lock_acquire(&log_state.lock);
    for (size_t i = 0; i < log_state.count; i++)
        fputs(log_state.errors[(log_state.first + i) % ERRORS_COUNT_MAX], stream);
    lock_release(&log_state.lock);
    if (fclose(stream) != 0) {
        free(text);
        return -ENOMEM;
    }
    *ret_text = text;
    *ret_size = size;
    return 0;
}
