/* SPDX-License-Identifier: MIT */
/*
 * bench.c - walrusctl bench: how fast this machine appends and takes, through a mount or straight
 * through the library, in a topic of its own that is removed at the end.
 *
 * Each thread appends entries to the one topic, then takes them; the time of each call is kept, so
 * that the percentiles are exact.  What is measured is one write(2), or one open, read and close of
 * `next`: what a program does that handles an entry at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../names.h"
#include "survey.h"
#include "sync.h"

#define THREAD_COUNT_MAX 64
#define ENTRY_COUNT_MAX  100000000

struct bench {
    struct ctl *ctl;
    const char *path;
    uint64_t size, count, threads;
    bool durable;
    char *topic_dir;      /* through a mount: the topic's directory; else NULL */
    struct walrus *store; /* straight: the store, the topic, its group */
    struct walrus_topic *topic;
    struct walrus_group *group;
    char name[64];
    uint64_t *times_ns; /* of each call of a phase */
    _Atomic uint64_t next, done;
    _Atomic int error; /* the first one */
};

struct phase {
    const char *name;
    int (*prepare)(struct bench *bench, int *ret_fd); /* for each thread */
    int (*step)(struct bench *bench, int fd, void *buffer);
};

/* ------------------------------------------------------------------------------- through a mount */

static int open_file(struct bench *bench, const char *name, int flags)
{
    char path[PATH_MAX];

    if (snprintf(path, sizeof(path), "%s/%s", bench->topic_dir, name) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int prepare_append(struct bench *bench, int *ret_fd)
{
    if (bench->topic_dir == NULL)
        return 0;
    *ret_fd = open_file(bench, "append", O_WRONLY | (bench->durable ? O_DSYNC : 0));
    return *ret_fd < 0 ? *ret_fd : 0;
}

static int step_append(struct bench *bench, int fd, void *buffer)
{
    const struct walrus_append_options options = {.durable = bench->durable};
    const struct iovec entry = {buffer, bench->size};

    if (bench->topic_dir == NULL)
        return walrus_topic_append(bench->topic, &entry, 1, &options, NULL);
    ssize_t n = write(fd, buffer, bench->size);
    return n < 0 ? -errno : n == (ssize_t)bench->size ? 0 : -EIO;
}

static int prepare_take(struct bench *bench, int *ret_fd)
{
    (void)bench;
    (void)ret_fd;
    return 0;
}

static int take_mounted(struct bench *bench, void *buffer)
{
    int fd = open_file(bench, "next", O_RDONLY);
    if (fd < 0)
        return fd;
    ssize_t n = read(fd, buffer, bench->size);
    int r = n < 0 ? -errno : n == (ssize_t)bench->size ? 0 : -EIO;
    close(fd);
    return r;
}

static int step_take(struct bench *bench, int fd, void *buffer)
{
    struct walrus_reader *reader;

    (void)fd;
    if (bench->topic_dir != NULL)
        return take_mounted(bench, buffer);
    int r = walrus_group_claim(bench->group, 1, SIZE_MAX, &reader);
    if (r != 0)
        return r < 0 ? r : -EIO;
    ssize_t n = walrus_reader_read(reader, buffer, bench->size, 0, NULL);
    int closed = walrus_reader_close(reader);
    return n < 0 ? (int)n : n == (ssize_t)bench->size ? closed : -EIO;
}

/* ------------------------------------------------------------------------------------ measuring */

struct worker {
    struct bench *bench;
    const struct phase *phase;
};

static void *work(void *arg)
{
    const struct worker *worker = arg;
    struct bench *bench = worker->bench;
    void *buffer = malloc(bench->size);
    int fd = -1;
    int r = buffer != NULL ? worker->phase->prepare(bench, &fd) : -ENOMEM;

    if (buffer != NULL)
        memset(buffer, 'x', bench->size);
    while (r == 0 && atomic_load_explicit(&bench->error, memory_order_relaxed) == 0) {
        uint64_t at = atomic_fetch_add(&bench->next, 1);
        if (at >= bench->count)
            break;
        uint64_t began = monotonic_ns();
        r = worker->phase->step(bench, fd, buffer);
        bench->times_ns[at] = monotonic_ns() - began;
        atomic_fetch_add_explicit(&bench->done, 1, memory_order_relaxed);
    }
    int none = 0;
    if (r < 0)
        atomic_compare_exchange_strong(&bench->error, &none, r);
    if (fd >= 0)
        close(fd);
    free(buffer);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double percentile_us(const struct bench *bench, double part)
{
    uint64_t at = (uint64_t)(part * (double)bench->count);
    return (double)bench->times_ns[MIN(at, bench->count - 1)] / 1e3;
}

static void show(struct bench *bench, const char *name, double seconds)
{
    double rate = (double)bench->count / seconds;

    qsort(bench->times_ns, bench->count, sizeof(*bench->times_ns), by_value);
    double p50 = percentile_us(bench, 0.5), p99 = percentile_us(bench, 0.99),
           p999 = percentile_us(bench, 0.999), most = percentile_us(bench, 1);
    if (bench->ctl->json) {
        json_begin(name, '{');
        json_number("per_second", (uint64_t)rate);
        json_number("bytes_per_second", (uint64_t)(rate * (double)bench->size));
        json_number("p50_ns", (uint64_t)(p50 * 1e3));
        json_number("p99_ns", (uint64_t)(p99 * 1e3));
        json_number("p999_ns", (uint64_t)(p999 * 1e3));
        json_number("max_ns", (uint64_t)(most * 1e3));
        json_end('}');
    } else {
        printf("%-7s %10.0f/s %9.1f MB/s   p50 %8.1f  p99 %8.1f  p99.9 %8.1f  max %9.1f us\n", name,
               rate, rate * (double)bench->size / 1e6, p50, p99, p999, most);
    }
}

static int measure(struct bench *bench, const struct phase *phase)
{
    pthread_t threads[THREAD_COUNT_MAX];
    struct worker worker = {bench, phase};
    uint64_t started = 0, began = monotonic_ns();
    int r = 0;

    atomic_store(&bench->next, 0);
    atomic_store(&bench->done, 0);
    while (r == 0 && started < bench->threads) {
        r = -pthread_create(&threads[started], NULL, work, &worker);
        if (r == 0)
            started++;
    }
    if (r < 0)
        atomic_store(&bench->error, r);
    while (atomic_load(&bench->error) == 0 && atomic_load(&bench->done) < bench->count) {
        struct timespec pause = {.tv_nsec = 20000000};
        ctl_progress(bench->ctl, atomic_load(&bench->done), bench->count);
        if (bench->ctl->bar)
            (void)nanosleep(&pause, NULL);
        else
            break; /* nobody looks: the threads have the cores for themselves */
    }
    for (uint64_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double seconds = (double)(monotonic_ns() - began) / 1e9;
    ctl_progress_end(bench->ctl);
    r = atomic_load(&bench->error);
    if (r == 0)
        show(bench, phase->name, seconds);
    return r;
}

/* -------------------------------------------------------------------------------- life of a topic */

static int topic_make(struct bench *bench)
{
    const struct walrus_options options = {
        .key = bench->ctl->key, .must_exist = true, .report = ctl_report, .report_arg = bench->ctl};
    char *mountpoint;

    snprintf(bench->name, sizeof(bench->name), "walrusctl-bench-%d", getpid());
    int r = survey_find_mount(bench->path, bench->ctl->key, &mountpoint);
    if (r == 0) {
        if (asprintf(&bench->topic_dir, "%s/%s", mountpoint, bench->name) < 0)
            bench->topic_dir = NULL;
        free(mountpoint);
        if (bench->topic_dir == NULL)
            return -ENOMEM;
        return mkdir(bench->topic_dir, 0700) < 0 ? -errno : 0;
    }
    if (r < 0)
        return r;
    r = walrus_open(ctl_store(bench->ctl, bench->path), &options, &bench->store);
    if (r == 0)
        r = walrus_topic_create(bench->store, bench->name, NULL, NULL, &bench->topic);
    if (r == 0)
        r = walrus_group_find(bench->topic, GROUP_DEFAULT, &bench->group);
    return r;
}

/* Nothing of it stays, whatever happened. */
static int topic_remove(struct bench *bench)
{
    int r = 0;

    if (bench->topic_dir != NULL) {
        int fd = open_file(bench, "offset", O_WRONLY);
        if (fd >= 0) {
            r = write(fd, "end", 3) < 0 ? -errno : 0;
            close(fd);
        }
        if (rmdir(bench->topic_dir) < 0)
            r = -errno;
        return r;
    }
    if (bench->topic != NULL) {
        if (bench->group != NULL)
            r = walrus_group_seek(bench->group, WALRUS_SEEK_END, 0);
        int removed = walrus_topic_remove(bench->topic);
        r = r == 0 ? removed : r;
    }
    walrus_group_unref(bench->group);
    walrus_topic_unref(bench->topic);
    int closed = walrus_close(bench->store);
    return r < 0 ? r : closed;
}

static struct bench *interrupted; /* what a signal ends */

static void on_signal(int number)
{
    int none = 0;

    (void)number;
    atomic_compare_exchange_strong(&interrupted->error, &none, -EINTR);
}

static int catch_signals(struct bench *bench)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    interrupted = bench;
    return sigaction(SIGINT, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0 ? -errno
                                                                                         : 0;
}

static enum ctl_result run(struct bench *bench)
{
    static const struct phase phases[] = {{"append", prepare_append, step_append},
                                          {"take", prepare_take, step_take}};
    int r = catch_signals(bench);

    if (r == 0)
        r = topic_make(bench);
    if (r == 0 && !bench->ctl->json)
        printf("%" PRIu64 " entries of %" PRIu64 " bytes, %" PRIu64 " threads, %s%s\n",
               bench->count, bench->size, bench->threads,
               bench->topic_dir != NULL ? "through the mount" : "through the library",
               bench->durable ? ", each append durable" : "");
    for (size_t i = 0; r == 0 && i < ARRAY_COUNT(phases); i++)
        r = measure(bench, &phases[i]);
    bool made = bench->topic_dir != NULL || bench->store != NULL;
    int removed = made ? topic_remove(bench) : 0;
    if (r < 0)
        return ctl_fail(bench->ctl, r, "%s", bench->path);
    if (removed < 0)
        return ctl_fail(bench->ctl, removed, "the topic %s could not be removed", bench->name);
    return CTL_OK;
}

static bool parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret_value)
{
    uint64_t value;

    if (names_parse_size(text, strlen(text), &value) < 0 || value < least || value > most)
        return false;
    *ret_value = value;
    return true;
}

enum ctl_result command_bench(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {CTL_OPTIONS,
                                          {"size", required_argument, NULL, 's'},
                                          {"count", required_argument, NULL, 'n'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"durable", no_argument, NULL, 'd'},
                                          {0}};
    /* The handler of signals has it until the process ends. */
    static struct bench bench = {.size = 1024, .count = 10000, .threads = 1};
    int option;

    bench.ctl = ctl;
    while ((option = getopt_long(argc, argv, "s:n:t:d" CTL_LETTERS, known, NULL)) != -1) {
        bool good = true;
        if (option == 's')
            good = parse_number(optarg, 1, 1044480, &bench.size);
        else if (option == 'n')
            good = parse_number(optarg, 1, ENTRY_COUNT_MAX, &bench.count);
        else if (option == 't')
            good = parse_number(optarg, 1, THREAD_COUNT_MAX, &bench.threads);
        else if (option == 'd')
            bench.durable = true;
        else if (!ctl_option(ctl, option))
            return ctl_usage(ctl, NULL);
        if (!good)
            return ctl_usage(ctl, "%s is out of range", optarg);
    }
    if (optind + 1 != argc)
        return ctl_usage(ctl, "one store or mountpoint is wanted");
    bench.path = argv[optind];
    bench.times_ns = calloc(bench.count, sizeof(*bench.times_ns));
    if (bench.times_ns == NULL)
        return ctl_fail(ctl, -ENOMEM, "%s", bench.path);
    if (ctl->json)
        json_begin(NULL, '{');
    enum ctl_result result = run(&bench);
    if (ctl->json) {
        json_end('}');
        json_finish();
    }
    free(bench.times_ns);
    free(bench.topic_dir);
    return result;
}
