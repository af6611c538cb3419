/* SPDX-License-Identifier: MIT */
/*
 * log.c - see log.h.
 *
 * The lock has the highest rank, since the engine may report while it holds its own.
 *
 * When stderr is a stream to systemd's journal, lines begin with their priority as sd-daemon(3) has
 * it.  In the background they go through syslog(3), which the journal listens to where it runs.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "names.h"
#include "sync.h"

#define ERRORS_COUNT_MAX 1000

static struct {
    struct lock lock; /* LOCK_LEAF; guards what follows */
    FILE *file;       /* NULL: stderr, or syslog */
    char *path;       /* of `file`, absolute */
    bool detached;
    bool journal;                    /* stderr is a stream to the journal */
    enum walrus_level asked;         /* the level of the command line */
    _Atomic enum walrus_level level; /* less important lines are dropped */
    char *errors[ERRORS_COUNT_MAX];  /* a ring */
    size_t first, count;
} log_state;

/* Whether stderr is what JOURNAL_STREAM (device:inode) names: systemd.exec(5). */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat stat_buf;

    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &stat_buf) == 0 && stat_buf.st_dev == device &&
           stat_buf.st_ino == inode;
}

static int open_file(const char *path, FILE **ret_file)
{
    FILE *file = fopen(path, "ae");
    if (file == NULL)
        return -errno;
    setvbuf(file, NULL, _IOLBF, 0);
    *ret_file = file;
    return 0;
}

int log_open(const char *path, enum walrus_level level)
{
    lock_init(&log_state.lock, LOCK_LEAF);
    log_state.asked = level;
    atomic_store(&log_state.level, level);
    log_state.journal = is_journal();
    if (path == NULL)
        return 0;
    int r = open_file(path, &log_state.file);
    if (r < 0)
        return r;
    log_state.path = realpath(path, NULL); /* the daemon leaves its directory */
    return log_state.path != NULL ? 0 : -errno;
}

int log_reopen(void)
{
    FILE *file = NULL, *old;

    if (log_state.path == NULL)
        return 0;
    int r = open_file(log_state.path, &file);
    if (r < 0)
        return r;
    lock_acquire(&log_state.lock);
    old = log_state.file;
    log_state.file = file;
    lock_release(&log_state.lock);
    if (old != NULL)
        fclose(old);
    return 0;
}

enum walrus_level log_toggle_debug(void)
{
    enum walrus_level usual = log_state.asked != WALRUS_DEBUG ? log_state.asked : WALRUS_INFO;
    enum walrus_level level = log_shows(WALRUS_DEBUG) ? usual : WALRUS_DEBUG;
    atomic_store(&log_state.level, level);
    return level;
}

bool log_shows(enum walrus_level level)
{
    return level <= atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

const char *log_level_name(enum walrus_level level)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    return names[level];
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
    free(log_state.path);
    log_state.path = NULL;
}

static void emit_locked(enum walrus_level level, const char *stamp, const char *line)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};

    if (log_state.file != NULL)
        fprintf(log_state.file, "%s %s: %s\n", stamp, log_level_name(level), line);
    else if (log_state.detached)
        syslog(priorities[level], "%s", line);
    else if (log_state.journal)
        fprintf(stderr, "<%d>%s\n", priorities[level], line);
    else
        fprintf(stderr, "walrusfs: %s%s%s\n", level <= WALRUS_WARNING ? log_level_name(level) : "",
                level <= WALRUS_WARNING ? ": " : "", line);
}

static void remember_locked(enum walrus_level level, const char *stamp, const char *line)
{
    char *text;
    if (asprintf(&text, "%s %s: %s\n", stamp, log_level_name(level), line) < 0)
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
    char text[1024], whole[sizeof(text) + WALRUS_NAME_SIZE_MAX + 128], line[5 * sizeof(whole)];
    char stamp[40];
    struct tm broken;
    time_t now = time(NULL);
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(whole, sizeof(whole), "%s%s%s%s%s%s", topic != NULL ? "topic " : "",
             topic != NULL ? topic : "", topic != NULL ? ": " : "", text, error != 0 ? ": " : "",
             error != 0 ? strerrordesc_np(error) : "");
    names_escape(whole, false, line, sizeof(line)); /* names of groups stand in the text, too */
    if (gmtime_r(&now, &broken) == NULL ||
        strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &broken) == 0)
        stamp[0] = '\0';

    lock_acquire(&log_state.lock);
    if (level <= WALRUS_WARNING)
        remember_locked(level, stamp, line);
    if (log_shows(level))
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
