/* SPDX-License-Identifier: MIT */
/*
 * mount_read.c - whole topics through cat(1): lines in, entries out.
 *
 * `lines`: cat of a file with 100-byte lines into it, against the same cat into the null server,
 * which takes the bytes and looks at none.  `drain`: cat of a topic with 1 KiB entries to /dev/null,
 * against cat of as many bytes from the null server.  A case moves 256 MiB for each second asked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server.h"

#define LINE_SIZE  100u
#define ENTRY_SIZE 1024u
#define CHUNK_SIZE ((size_t)1 << 20)

static size_t size_of(const struct bench_options *options)
{
    size_t size = (size_t)(options->seconds * 256) << 20;
    return size > CHUNK_SIZE ? size : CHUNK_SIZE;
}

/* `cat` from one descriptor to the other: bytes a second, and the processor time of a KiB, that of the
 * server included. */
static void run_cat(const struct server *server, int in, int out, size_t size,
                    struct bench_result *ret)
{
    int status;
    struct rusage use;
    double cpu = server_cpu_seconds(server);
    uint64_t began = bench_now_ns();
    pid_t pid = fork();
    if (pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (pid == 0) {
        if (dup2(in, 0) == 0 && dup2(out, 1) == 1)
            execlp("cat", "cat", (char *)NULL);
        _exit(127);
    }
    if (wait4(pid, &status, 0, &use) != pid || status != 0)
        bench_die("cat failed");
    ret->rate = (double)size / ((double)(bench_now_ns() - began) / 1e9);
    ret->byte_rate = ret->rate;
    cpu = server_cpu_seconds(server) - cpu;
    cpu += (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
    ret->cpu_ns = cpu * 1e9 / ((double)size / 1024);
    close(in);
    close(out);
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n <= 0)
            bench_die("write: %s", strerror(errno));
        data += n;
        size -= (size_t)n;
    }
}

/* A file of lines in the scratch directory, in the cache. */
static int make_lines(const struct server *server, size_t size)
{
    static char line[LINE_SIZE * 100];
    int fd = server_open(server, O_RDWR | O_CREAT, "../lines");
    memset(line, 'x', sizeof(line));
    for (size_t i = LINE_SIZE; i <= sizeof(line); i += LINE_SIZE)
        line[i - 1] = '\n';
    for (size_t done = 0; done < size; done += sizeof(line))
        write_all(fd, line, sizeof(line));
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static void lines_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct server server;
    size_t size = size_of(options);
    if (arg)
        server_start_null(&server, options, arg, 0);
    else
        server_start_walrusfs(&server, options, "fsync=never");
    if (!arg)
        server_make_topic(&server, "t");
    int in = make_lines(&server, size);
    int out = server_open(&server, O_WRONLY, arg ? "f" : "t/lines");
    run_cat(&server, in, out, size, ret);
    server_stop(&server);
}

/* Entries of one KiB, by records of `batch`. */
static void fill(const struct server *server, size_t size)
{
    enum { COUNT = 512, RECORD_SIZE = 24 + ENTRY_SIZE };
    char *records = calloc(COUNT, RECORD_SIZE);
    uint32_t entry_size = ENTRY_SIZE;
    if (!records)
        bench_die("no memory");
    for (unsigned i = 0; i < COUNT; i++)
        memcpy(records + (size_t)i * RECORD_SIZE, &entry_size, sizeof(entry_size));
    server_make_topic(server, "t");
    int fd = server_open(server, O_WRONLY, "t/batch");
    for (size_t done = 0; done < size; done += (size_t)COUNT * ENTRY_SIZE)
        write_all(fd, records, (size_t)COUNT * RECORD_SIZE);
    fsync(fd);
    close(fd);
    free(records);
}

static void drain_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct server server;
    size_t size = size_of(options);
    if (arg)
        server_start_null(&server, options, arg, size);
    else
        server_start_walrusfs(&server, options, "consistency=at-least-once:5000");
    if (!arg)
        fill(&server, size);
    int in = server_open(&server, O_RDONLY, arg ? "f" : "t/drain");
    run_cat(&server, in, open("/dev/null", O_WRONLY | O_CLOEXEC), size, ret);
    server_stop(&server);
}

int main(int argc, char **argv)
{
    struct bench bench;
    char own[] = "own";
    const struct bench_case cases[] = {
        {"lines-cat", "byte/s", lines_run, NULL},
        {"null-write-cat", "byte/s", lines_run, own},
        {"drain-cat", "byte/s", drain_run, NULL},
        {"null-read-cat", "byte/s", drain_run, own},
    };
    bench_begin(&bench, argc, argv, "Lines in and entries out by cat, beside a server of nothing.",
                1);
    bench_measure(&bench, cases, sizeof(cases) / sizeof(cases[0]));
    bench_ratio(&bench, &(struct bench_aim){6, "lines/null,cat", "lines-cat", "null-write-cat",
                                            BENCH_RATE, 0.5, false});
    bench_ratio(&bench, &(struct bench_aim){7, "drain/null,cat", "drain-cat", "null-read-cat",
                                            BENCH_RATE, 0.7, false});
    bench_ratio(&bench, &(struct bench_aim){0, "null/lines,processor-time", "null-write-cat",
                                            "lines-cat", BENCH_CPU, 0.5, false});
    bench_ratio(&bench, &(struct bench_aim){0, "null/drain,processor-time", "null-read-cat",
                                            "drain-cat", BENCH_CPU, 0.7, false});
    bench_end(&bench);
}
