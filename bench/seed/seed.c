/* SPDX-License-Identifier: MIT */
/* seed.c - options, threads, rows and the two places of the seed's benchmarks. */
#include "seed.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "walrus.h"

struct seed {
    const struct seed_options *options;
    struct bench_options scratch;
    char *dir;            /* of the library's store */
    struct walrus *store; /* NULL: a mount */
    uint64_t written[SEED_THREADS_MAX], read[SEED_THREADS_MAX];
};

/* ---------------------------------------------------------------------------------- options -- */

static void usage(const struct seed_options *o, const char *about)
{
    printf("%s\n\n"
           "  --duration S        of the writes (%g)\n"
           "  --read-duration S   of the reads (%g)\n"
           "  --threads N         (%u)\n"
           "  --persist-every N   at-least-once (%u)\n"
           "  --strict            strict consistency instead\n"
           "  --fsync MODE        milliseconds, each or never (%s)\n"
           "  --mount DIR         over a walrusfs mounted there, with the options that it has\n"
           "  --dir DIR           where the library's store is made (%s)\n"
           "  --out DIR           where the CSV files go (%s)\n"
           "  --sums              lines for scripts/bench-report\n",
           about, o->write_seconds, o->read_seconds, o->threads, o->persist_every, o->fsync, o->dir,
           o->out);
}

static void parse_one(struct seed_options *options, int c)
{
    switch (c) {
    case 'd':
        options->write_seconds = strtod(optarg, NULL);
        break;
    case 'r':
        options->read_seconds = strtod(optarg, NULL);
        break;
    case 't':
        options->threads = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'p':
        options->persist_every = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 's':
        options->strict = true;
        break;
    case 'f':
        options->fsync = optarg;
        break;
    case 'm':
        options->mount = optarg;
        break;
    case 'D':
        options->dir = optarg;
        break;
    case 'o':
        options->out = optarg;
        break;
    case 'S':
        options->sums = true;
        break;
    default:
        break;
    }
}

void seed_parse(struct seed_options *options, int argc, char **argv, const char *about)
{
    static const struct option names[] = {
        {"duration", required_argument, NULL, 'd'}, {"read-duration", required_argument, NULL, 'r'},
        {"threads", required_argument, NULL, 't'},  {"persist-every", required_argument, NULL, 'p'},
        {"strict", no_argument, NULL, 's'},         {"fsync", required_argument, NULL, 'f'},
        {"mount", required_argument, NULL, 'm'},    {"dir", required_argument, NULL, 'D'},
        {"out", required_argument, NULL, 'o'},      {"sums", no_argument, NULL, 'S'},
        {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0}};
    const char *tmp = getenv("TMPDIR");
    options->fsync = options->fsync ? options->fsync : "1000";
    options->dir = tmp ? tmp : "/var/tmp";
    options->out = ".";
    for (int c; (c = getopt_long(argc, argv, "h", names, NULL)) >= 0;) {
        if (c == 'h' || c == '?') {
            usage(options, about);
            exit(c == 'h' ? 0 : 2);
        }
        parse_one(options, c);
    }
    if (options->threads < 1 || options->threads > SEED_THREADS_MAX)
        bench_die("--threads wants a number from 1 to %u", SEED_THREADS_MAX);
    if (!(options->write_seconds > 0))
        bench_die("--duration wants a number above 0");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* ----------------------------------------------------------------------------------- places -- */

static int report_bad(const char *what, unsigned thread)
{
    bench_die("%s of topic_%u is not what was appended", what, thread);
}

struct seed *seed_open(const struct seed_options *options)
{
    struct seed *seed = calloc(1, sizeof(*seed));
    if (!seed)
        bench_die("no memory");
    seed->options = options;
    if (options->mount)
        return seed;
    struct walrus_options how = {.persist_every = options->persist_every};
    how.consistency = options->strict ? WALRUS_STRICT : WALRUS_AT_LEAST_ONCE;
    if (strcmp(options->fsync, "each") == 0)
        how.fsync = WALRUS_FSYNC_EACH;
    else if (strcmp(options->fsync, "never") == 0)
        how.fsync = WALRUS_FSYNC_NEVER;
    else
        how.fsync_ms = (uint32_t)strtoul(options->fsync, NULL, 10);
    seed->scratch.dir = options->dir;
    seed->dir = bench_scratch(&seed->scratch);
    BENCH_OK(walrus_open(seed->dir, &how, &seed->store));
    return seed;
}

void seed_close(struct seed *seed)
{
    if (seed->store) {
        BENCH_OK(walrus_close(seed->store));
        bench_scratch_remove(seed->dir);
    }
    free(seed);
}

/* One end of a topic, held by one thread. */
struct end {
    struct walrus *store;
    char name[32];
    int fd;
    uint8_t *buffer;
};

#define READ_SIZE 131072u

static void end_open(struct seed *seed, struct end *end, unsigned thread, bool reads)
{
    char path[4096];
    end->store = seed->store;
    end->fd = -1;
    snprintf(end->name, sizeof(end->name), "topic_%u", thread);
    end->buffer = malloc(READ_SIZE);
    if (!end->buffer)
        bench_die("no memory");
    if (seed->store)
        return;
    snprintf(path, sizeof(path), "%s/%s", seed->options->mount, end->name);
    if (mkdir(path, 0777) != 0 && errno != EEXIST)
        bench_die("%s: %s", path, strerror(errno));
    if (reads)
        return;
    snprintf(path, sizeof(path), "%s/%s/append", seed->options->mount, end->name);
    end->fd = open(path, O_WRONLY | O_CLOEXEC);
    if (end->fd < 0)
        bench_die("%s: %s", path, strerror(errno));
}

static void end_close(struct end *end)
{
    if (end->fd >= 0)
        close(end->fd);
    free(end->buffer);
}

static void end_append(struct end *end, const void *data, size_t size)
{
    if (end->store)
        BENCH_OK(walrus_append(end->store, end->name, data, size));
    else if (write(end->fd, data, size) != (ssize_t)size)
        bench_die("%s/append: %s", end->name, strerror(errno));
}

/* Reads one entry; its size, or 0 when there is none. */
static size_t end_read(struct seed *seed, struct end *end)
{
    if (end->store) {
        struct walrus_entry entry;
        if (BENCH_OK(walrus_read_next(end->store, end->name, &entry)) == WALRUS_EMPTY)
            return 0;
        memcpy(end->buffer, entry.data, entry.size < READ_SIZE ? entry.size : READ_SIZE);
        free(entry.data);
        return entry.size;
    }
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s/next", seed->options->mount, end->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, end->buffer, READ_SIZE);
    if (n < 0)
        bench_die("%s: %s", path, strerror(errno));
    close(fd);
    return (size_t)n;
}

/* ---------------------------------------------------------------------------------- threads -- */

struct runner {
    struct seed *seed;
    struct seed_count count;
    unsigned idx;
    bool reads;
    atomic_bool *end;
    _Atomic unsigned *running;
    pthread_barrier_t *begin;
    pthread_t id;
};

static void write_loop(struct runner *runner, struct end *end)
{
    uint8_t entry[LOAD_SIZE_MAX];
    uint64_t *number = &runner->seed->written[runner->idx], random = runner->idx * 7919 + 12345;
    while (!atomic_load_explicit(runner->end, memory_order_relaxed)) {
        size_t size = load_size(&random);
        load_entry(runner->idx, (*number)++, size, entry);
        end_append(end, entry, size);
        atomic_fetch_add_explicit(&runner->count.entries, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&runner->count.bytes, size, memory_order_relaxed);
    }
}

static void read_loop(struct runner *runner, struct end *end)
{
    uint64_t *number = &runner->seed->read[runner->idx];
    while (!atomic_load_explicit(runner->end, memory_order_relaxed)) {
        size_t size = end_read(runner->seed, end);
        if (size == 0)
            break;
        if (load_check(runner->idx, end->buffer, size) != (int64_t)*number)
            report_bad("an entry", runner->idx);
        (*number)++;
        atomic_fetch_add_explicit(&runner->count.entries, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&runner->count.bytes, size, memory_order_relaxed);
    }
}

static void *runner_main(void *arg)
{
    struct runner *runner = arg;
    struct end end;
    end_open(runner->seed, &end, runner->idx, runner->reads);
    pthread_setname_np(pthread_self(), runner->reads ? "reader" : "writer");
    pthread_barrier_wait(runner->begin);
    if (runner->reads)
        read_loop(runner, &end);
    else
        write_loop(runner, &end);
    end_close(&end);
    atomic_fetch_sub(runner->running, 1);
    return NULL;
}

static struct seed_sum total(const struct runner *runners, unsigned threads)
{
    struct seed_sum sum = {0, 0};
    for (unsigned i = 0; i < threads; i++) {
        sum.entries += atomic_load(&runners[i].count.entries);
        sum.bytes += atomic_load(&runners[i].count.bytes);
    }
    return sum;
}

static void sleep_until(uint64_t due_ns)
{
    struct timespec due = {.tv_sec = (time_t)(due_ns / 1000000000u),
                           .tv_nsec = (long)(due_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        ;
}

static struct seed_sum run(struct seed *seed, bool reads, unsigned threads, double seconds,
                           seed_row *row, void *arg, double *ret_seconds)
{
    struct runner *runners = calloc(threads, sizeof(*runners));
    pthread_barrier_t begin;
    atomic_bool end = false;
    _Atomic unsigned running = threads;
    if (!runners || pthread_barrier_init(&begin, NULL, threads + 1))
        bench_die("no memory");
    for (unsigned i = 0; i < threads; i++) {
        runners[i].seed = seed;
        runners[i].idx = i;
        runners[i].reads = reads;
        runners[i].end = &end;
        runners[i].running = &running;
        runners[i].begin = &begin;
        BENCH_OK(-pthread_create(&runners[i].id, NULL, runner_main, &runners[i]));
    }
    pthread_barrier_wait(&begin);
    uint64_t began = bench_now_ns(), stop = began + (uint64_t)(seconds * 1e9), due = began;
    double elapsed = 0;
    while (elapsed < seconds && atomic_load(&running)) {
        due += SEED_ROW_MS * UINT64_C(1000000);
        sleep_until(due < stop ? due : stop);
        elapsed = (double)(bench_now_ns() - began) / 1e9;
        if (row && elapsed < seconds)
            row(arg, elapsed, total(runners, threads));
    }
    atomic_store(&end, true);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(runners[i].id, NULL);
    *ret_seconds = (double)(bench_now_ns() - began) / 1e9;
    struct seed_sum sum = total(runners, threads);
    if (row)
        row(arg, *ret_seconds, sum);
    pthread_barrier_destroy(&begin);
    free(runners);
    return sum;
}

struct seed_sum seed_write(struct seed *seed, unsigned threads, double seconds, seed_row *row,
                           void *arg, double *ret_seconds)
{
    return run(seed, false, threads, seconds, row, arg, ret_seconds);
}

struct seed_sum seed_read(struct seed *seed, unsigned threads, double seconds, seed_row *row,
                          void *arg, double *ret_seconds)
{
    return run(seed, true, threads, seconds, row, arg, ret_seconds);
}

/* ----------------------------------------------------------------------------------- output -- */

FILE *seed_csv(const struct seed_options *options, const char *name, const char *head)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", options->out, name);
    FILE *file = fopen(path, "we");
    if (!file)
        bench_die("%s: %s", path, strerror(errno));
    setvbuf(file, NULL, _IOLBF, 0); /* others plot it while it grows */
    fprintf(file, "%s\n", head);
    return file;
}

void seed_case(const struct seed_options *options, const char *name, struct seed_sum sum,
               double seconds)
{
    double rate = (double)sum.entries / seconds, bytes = (double)sum.bytes / seconds;
    printf("%s: %.0f entries a second, %.1f MB a second, %u threads, %.1f s\n", name, rate,
           bytes / 1e6, options->threads, seconds);
    if (options->sums)
        printf("case=%s unit=entry/s median=%.6g low=%.6g high=%.6g bytes=%.6g kib=%zu\n", name,
               rate, rate, rate, bytes, bench_memory() / 1024);
}
