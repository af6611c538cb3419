/* SPDX-License-Identifier: MIT */
/* writes.c - multithreaded_benchmark_writes: ten threads append for two minutes. */
#include <time.h>

#include "seed.h"

struct rows {
    FILE *csv;
    double elapsed; /* at the row before */
    struct seed_sum sum;
};

static void row(void *arg, double elapsed, struct seed_sum sum)
{
    struct rows *rows = arg;
    double step = elapsed - rows->elapsed;
    if (step <= 0)
        return;
    fprintf(rows->csv, "%ld,%.2f,%.2f,%.2f,%llu,%llu\n", (long)time(NULL), elapsed,
            (double)(sum.entries - rows->sum.entries) / step,
            (double)(sum.bytes - rows->sum.bytes) / step, (unsigned long long)sum.entries,
            (unsigned long long)sum.bytes);
    rows->elapsed = elapsed;
    rows->sum = sum;
}

int main(int argc, char **argv)
{
    struct seed_options options = {.write_seconds = 120, .threads = 10, .persist_every = 50};
    seed_parse(&options, argc, argv, "Ten threads append to a topic each.");
    struct seed *seed = seed_open(&options);
    struct rows rows = {.csv = seed_csv(&options, "benchmark_throughput.csv",
                                        "timestamp,elapsed_seconds,writes_per_second,"
                                        "bytes_per_second,total_writes,total_bytes")};
    double seconds;
    struct seed_sum sum =
        seed_write(seed, options.threads, options.write_seconds, row, &rows, &seconds);
    seed_case(&options, "seed-writes", sum, seconds);
    fclose(rows.csv);
    seed_close(seed);
}
