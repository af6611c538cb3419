/* SPDX-License-Identifier: MIT */
/*
 * main.c - walrusfs, the daemon: reads the command line, has everything checked (preflight.c), goes
 * to the background, and runs the session.
 *
 * Whatever can fail does so before the first process exits, with a message on stderr and one of the
 * exit codes of enum session_result.  The process forks before it opens the store, because the
 * library starts threads.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "memory.h"
#include "mount.h"
#include "options.h"
#include "preflight.h"
#include "session.h"
#include "stdfds.h"
#include "sync.h"

/* As far as the process itself may. */
static void raise_limit(int resource, const char *what)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(resource, &limit) < 0)
            log_write(WALRUS_WARNING, errno, NULL, "cannot raise the limit of %s", what);
    }
}

/* Core dumps would hold what is in all topics; open files need descriptors, log files are large. */
static void set_limits(void)
{
    struct rlimit none = {0, 0}, size;

    if (setrlimit(RLIMIT_CORE, &none) < 0)
        log_write(WALRUS_WARNING, errno, NULL, "cannot turn off core dumps");
#if !defined(__SANITIZE_ADDRESS__) /* the leak checker must be able to look into the process */
    if (prctl(PR_SET_DUMPABLE, 0) < 0)
        log_write(WALRUS_WARNING, errno, NULL, "cannot turn off core dumps");
#endif
    raise_limit(RLIMIT_NOFILE, "open files");
    raise_limit(RLIMIT_FSIZE, "the size of files");
    if (getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur != RLIM_INFINITY)
        log_write(
            WALRUS_WARNING, 0, NULL,
            "files may take %llu bytes at most (ulimit -f): what needs a larger log file fails "
            "as on a full disk",
            (unsigned long long)size.rlim_cur);
}

/* Progress is shown that often. */
#define PROGRESS_NS 200000000ull

static bool in_background;
static bool line_is_open; /* a line of progress stands on the terminal */

static void close_line(void)
{
    if (line_is_open)
        fputc('\n', stderr);
    line_is_open = false;
}

/* From the thread that opens the store, which is the main one. */
static void show_progress(void *arg, uint64_t done, uint64_t total)
{
    static uint64_t last_ns;
    uint64_t now = monotonic_ns();
    bool is_first = last_ns == 0;
    char state[128];

    if (!is_first && now - last_ns < PROGRESS_NS)
        return;
    last_ns = now;
    if (!is_first && isatty(STDERR_FILENO)) { /* what is short is not worth a line */
        fprintf(stderr, "\rwalrusfs: recovering, log file %llu of %llu", (unsigned long long)done,
                (unsigned long long)total);
        line_is_open = true;
    }
    /* systemd gives up on who is silent for longer than that (TimeoutStartSec=). */
    snprintf(state, sizeof(state),
             "STATUS=recovering, log file %llu of %llu\nEXTEND_TIMEOUT_USEC=60000000",
             (unsigned long long)done, (unsigned long long)total);
    daemon_notify(state);
}

static void session_is_ready(void)
{
    close_line();
    daemon_notify("READY=1\nSTATUS=mounted");
    if (in_background) {
        log_detach();
        daemon_ready();
    }
}

static enum session_result run(struct options *options)
{
    options->walrus.report = log_report;
    options->walrus.progress = show_progress;
    enum session_result result = preflight_check(options);
    if (result != SESSION_OK)
        return result;
    if (!options->foreground) {
        int r = daemon_fork();
        if (r < 0) {
            log_write(WALRUS_ERROR, -r, NULL, "cannot go to the background");
            return SESSION_OTHER;
        }
        in_background = true;
    }
    if (chdir("/") < 0) {
        log_write(WALRUS_ERROR, errno, NULL, "cannot change to /");
        return SESSION_OTHER;
    }
    (void)umask(077);
    set_limits();
    memory_tune();
    result = session_run(options, session_is_ready);
    close_line();
    return result;
}

int main(int argc, char **argv)
{
    struct options options;
    char message[512];

    if (stdfds_open() < 0)
        return SESSION_OTHER;
    if (options_parse(&options, argc, argv, message, sizeof(message)) < 0) {
        fprintf(stderr, "walrusfs: %s\n`walrusfs --help` shows the options.\n", message);
        return SESSION_USAGE;
    }
    if (options.help || options.version) {
        if (options.help)
            fputs(options_usage(), stdout);
        else
            printf("walrusfs %s (libfuse %s)\n", WALRUS_VERSION, fuse_pkgversion());
        options_fini(&options);
        return fflush(stdout) == 0 ? SESSION_OK : SESSION_OTHER;
    }
    if (options.fake) { /* mount -f: all but the mount itself */
        options_fini(&options);
        return SESSION_OK;
    }
    int r = log_open(options.log_file, options.log_level);
    if (r < 0) {
        fprintf(stderr, "walrusfs: cannot open %s: %s\n", options.log_file, strerrordesc_np(-r));
        options_fini(&options);
        return SESSION_USAGE;
    }
    enum session_result result = run(&options);
    log_close();
    options_fini(&options);
    return result;
}
