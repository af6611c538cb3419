/* SPDX-License-Identifier: MIT */
/* bench.c - options, rounds, ratios, output and the scratch directory of the benchmarks. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void bench_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

long bench_check(long result, const char *what, const char *file, int line)
{
    if (result < 0)
        bench_die("%s:%d: %s: %s", file, line, what, strerror((int)-result));
    return result;
}

uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

double bench_cpu_seconds(void)
{
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static size_t status_kib(int pid, const char *field)
{
    char path[64], line[256];
    size_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof(line), file))
        if (strncmp(line, field, strlen(field)) == 0)
            kib = strtoul(line + strlen(field), NULL, 10);
    fclose(file);
    return kib;
}

size_t bench_memory(void)
{
    return status_kib(getpid(), "RssAnon:") * 1024;
}

size_t bench_memory_of(int pid)
{
    return status_kib(pid, "VmRSS:") * 1024;
}

/* ---------------------------------------------------------------------------------- scratch -- */

char *bench_scratch(const struct bench_options *options)
{
    char *path;
    if (asprintf(&path, "%s/walrus-bench-XXXXXX", options->dir) < 0 || !mkdtemp(path))
        bench_die("%s: cannot make a directory: %s", options->dir, strerror(errno));
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void bench_scratch_remove(char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        bench_die("%s: cannot be removed: %s", path, strerror(errno));
    free(path);
}

/* ---------------------------------------------------------------------------------- options -- */

static void usage(const char *about, const struct bench_options *options)
{
    printf("%s\n\n"
           "  --seconds S   of one case of one round (%g)\n"
           "  --rounds N    of all cases in turn (%u)\n"
           "  --threads N   where a benchmark can have other numbers than its own\n"
           "  --dir DIR     where to work; its disk is measured (%s)\n"
           "  --only TEXT   only cases with TEXT in their names, for profiles\n",
           about, options->seconds, options->rounds, options->dir);
}

static unsigned parse_count(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*end || value < 1 || value > max)
        bench_die("%s: not a number from 1 to %u", text, max);
    return (unsigned)value;
}

void bench_begin(struct bench *bench, int argc, char **argv, const char *about, double seconds)
{
    static const struct option names[] = {{"seconds", required_argument, NULL, 's'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"dir", required_argument, NULL, 'd'},
                                          {"only", required_argument, NULL, 'o'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    const char *tmp = getenv("TMPDIR");
    *bench = (struct bench){.options = {.seconds = seconds, .rounds = 5}};
    bench->options.dir = tmp ? tmp : "/var/tmp";
    for (int c; (c = getopt_long(argc, argv, "s:r:t:d:o:h", names, NULL)) >= 0;) {
        if (c == 's')
            bench->options.seconds = strtod(optarg, NULL);
        else if (c == 'r')
            bench->options.rounds = parse_count(optarg, BENCH_ROUNDS_MAX);
        else if (c == 't')
            bench->options.threads = parse_count(optarg, 1024);
        else if (c == 'd')
            bench->options.dir = optarg;
        else if (c == 'o')
            bench->options.only = optarg;
        else
            usage(about, &bench->options);
        if (c == 'h' || c == '?')
            exit(c == 'h' ? 0 : 2);
    }
    if (!(bench->options.seconds > 0))
        bench_die("--seconds wants a number above 0");
    setvbuf(stdout, NULL, _IOLBF, 0);
}

/* ----------------------------------------------------------------------------------- rounds -- */

static int double_compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void sort(double *to, const double *values, unsigned count)
{
    memcpy(to, values, count * sizeof(*to));
    qsort(to, count, sizeof(*to), double_compare);
}

double bench_median(const double *values, unsigned count)
{
    double sorted[BENCH_ROUNDS_MAX];
    sort(sorted, values, count);
    return count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

static struct bench_result *result_at(const struct bench *bench, size_t idx, unsigned round)
{
    return &bench->results[idx * bench->options.rounds + round];
}

static bool case_wanted(const struct bench *bench, size_t idx)
{
    const char *only = bench->options.only;
    return !only || strstr(bench->cases[idx].name, only);
}

static void print_case(const struct bench *bench, size_t idx)
{
    const struct bench_case *one = &bench->cases[idx];
    unsigned rounds = bench->options.rounds;
    double rates[BENCH_ROUNDS_MAX], bytes[BENCH_ROUNDS_MAX] = {0}, sorted[BENCH_ROUNDS_MAX];
    double cpu[BENCH_ROUNDS_MAX] = {0};
    size_t memory = 0;
    struct hist *all = calloc(1, sizeof(*all));
    if (!all)
        bench_die("no memory");
    for (unsigned i = 0; i < rounds; i++) {
        const struct bench_result *result = result_at(bench, idx, i);
        rates[i] = result->rate;
        bytes[i] = result->byte_rate;
        cpu[i] = result->cpu_ns;
        memory = result->memory_size > memory ? result->memory_size : memory;
        hist_merge(all, &result->hist);
    }
    sort(sorted, rates, rounds);
    printf("case=%s unit=%s median=%.6g low=%.6g high=%.6g", one->name, one->unit,
           bench_median(rates, rounds), sorted[0], sorted[rounds - 1]);
    if (bytes[0] > 0)
        printf(" bytes=%.6g", bench_median(bytes, rounds));
    if (cpu[0] > 0)
        printf(" cpu_ns=%.4g", bench_median(cpu, rounds));
    if (all->count)
        printf(" p50_us=%.6g p99_us=%.6g p999_us=%.6g max_us=%.6g",
               (double)hist_percentile(all, 0.5) / 1e3, (double)hist_percentile(all, 0.99) / 1e3,
               (double)hist_percentile(all, 0.999) / 1e3, (double)all->max / 1e3);
    if (memory)
        printf(" kib=%zu", memory / 1024);
    putchar('\n');
    free(all);
}

/* What earlier cases left to be written would be written during the next one. */
static void settle(const struct bench *bench)
{
    int fd = open(bench->options.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0)
        bench_die("%s: %s", bench->options.dir, strerror(errno));
    close(fd);
}

void bench_measure(struct bench *bench, const struct bench_case *cases, size_t count)
{
    unsigned rounds = bench->options.rounds;
    free(bench->results);
    bench->cases = cases;
    bench->case_count = count;
    bench->results = calloc(count * rounds, sizeof(*bench->results));
    if (count > BENCH_CASES_MAX || !bench->results)
        bench_die("no memory for %zu cases", count);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            size_t idx = round % 2 ? count - 1 - i : i;
            struct bench_result *result = result_at(bench, idx, round);
            if (case_wanted(bench, idx)) {
                settle(bench);
                cases[idx].run(cases[idx].arg, &bench->options, result);
            }
        }
    }
    for (size_t i = 0; i < count; i++)
        if (case_wanted(bench, i))
            print_case(bench, i);
}

static double value_of(const struct bench_result *result, enum bench_what what)
{
    switch (what) {
    case BENCH_RATE:
        return result->rate;
    case BENCH_P999:
        return (double)hist_percentile(&result->hist, 0.999);
    case BENCH_MAX:
        return (double)result->hist.max;
    case BENCH_CPU:
        return result->cpu_ns;
    }
    return 0;
}

static size_t case_find(const struct bench *bench, const char *name)
{
    for (size_t i = 0; i < bench->case_count; i++)
        if (strcmp(bench->cases[i].name, name) == 0)
            return i;
    bench_die("no case %s", name);
}

void bench_print_ratio(const struct bench_aim *aim, const double *ratios, unsigned count)
{
    double sorted[BENCH_ROUNDS_MAX];
    double median = bench_median(ratios, count);
    sort(sorted, ratios, count);
    printf("aim=%d name=%s ratio=%.4g median=%.4g low=%.4g high=%.4g rounds=%u want=%g rule=%s "
           "a=%s b=%s\n",
           aim->number, aim->name, median, median, sorted[0], sorted[count - 1], count, aim->want,
           aim->at_most ? "most" : "least", aim->a, aim->b);
}

void bench_ratio(const struct bench *bench, const struct bench_aim *aim)
{
    size_t a = case_find(bench, aim->a), b = case_find(bench, aim->b);
    double ratios[BENCH_ROUNDS_MAX];
    if (!case_wanted(bench, a) || !case_wanted(bench, b))
        return;
    for (unsigned i = 0; i < bench->options.rounds; i++)
        ratios[i] = value_of(result_at(bench, a, i), aim->what) /
                    value_of(result_at(bench, b, i), aim->what);
    bench_print_ratio(aim, ratios, bench->options.rounds);
}

void bench_end(struct bench *bench)
{
    free(bench->results);
    bench->results = NULL;
}
