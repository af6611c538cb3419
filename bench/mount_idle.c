/* SPDX-License-Identifier: MIT */
/*
 * mount_idle.c - how often a daemon wakes up that nobody asks anything, and what memory it holds.
 *
 * After some appends and a second for the sync that is due; what is counted are the context switches
 * of all its threads that they made themselves.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server.h"

static unsigned long switches_of(pid_t pid, const char *task)
{
    static const char field[] = "voluntary_ctxt_switches:";
    char path[300], line[256];
    unsigned long count = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, task);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, field, sizeof(field) - 1) == 0)
            count = strtoul(line + sizeof(field) - 1, NULL, 10);
    fclose(file);
    return count;
}

static unsigned long all_switches(pid_t pid)
{
    char path[64];
    unsigned long count = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        bench_die("%s: %s", path, strerror(errno));
    for (struct dirent *item; (item = readdir(dir));)
        if (item->d_name[0] != '.')
            count += switches_of(pid, item->d_name);
    closedir(dir);
    return count;
}

static void sleep_for(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

static void idle_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static const char data[1024];
    struct server server;
    server_start_walrusfs(&server, options, arg);
    server_make_topic(&server, "t");
    int fd = server_open(&server, O_WRONLY, "t/append");
    for (unsigned i = 0; i < 1000; i++)
        if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
            bench_die("write: %s", strerror(errno));
    sleep_for(options->seconds < 1 ? options->seconds : 1.5);
    unsigned long before = all_switches(server.pid);
    sleep_for(options->seconds);
    ret->rate = (double)(all_switches(server.pid) - before) / options->seconds;
    ret->memory_size = bench_memory_of(server.pid);
    close(fd);
    server_stop(&server);
}

int main(int argc, char **argv)
{
    struct bench bench;
    char uring[] = "io_uring";
    const struct bench_case cases[] = {
        {"idle", "wake/s", idle_run, NULL},
        {"idle-uring", "wake/s", idle_run, uring},
    };
    bench_begin(&bench, argc, argv, "Wake-ups of a daemon that has nothing to do.", 3);
    size_t count = server_has_uring() ? 2 : 1;
    bench_measure(&bench, cases, count);
    for (size_t i = 0; i < count; i++) {
        double rates[BENCH_ROUNDS_MAX];
        for (unsigned round = 0; round < bench.options.rounds; round++)
            rates[round] = bench.results[i * bench.options.rounds + round].rate;
        bench_print_ratio(&(struct bench_aim){16, i ? "wakeups/s,io_uring" : "wakeups/s",
                                              cases[i].name, "none", BENCH_RATE, 0, true},
                          rates, bench.options.rounds);
    }
    bench_end(&bench);
}
