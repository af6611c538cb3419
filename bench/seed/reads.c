/* SPDX-License-Identifier: MIT */
/* reads.c - multithreaded_benchmark_reads: a minute of appends, then two minutes of reads. */
#include <time.h>

#include "seed.h"

struct rows {
    FILE *csv;
    bool reads;     /* the phase */
    double before;  /* seconds of the phases that are over */
    double elapsed; /* at the row before, in this phase */
    struct seed_sum sum, writes;
};

static void row(void *arg, double elapsed, struct seed_sum sum)
{
    struct rows *rows = arg;
    double step = elapsed - rows->elapsed;
    if (step <= 0)
        return;
    double entries = (double)(sum.entries - rows->sum.entries) / step;
    double bytes = (double)(sum.bytes - rows->sum.bytes) / step;
    fprintf(rows->csv, "%ld,%.2f,%s,%.2f,%.2f,%.2f,%.2f,%llu,%llu\n", (long)time(NULL),
            rows->before + elapsed, rows->reads ? "read" : "write", rows->reads ? 0 : entries,
            rows->reads ? entries : 0, rows->reads ? 0 : bytes, rows->reads ? bytes : 0,
            (unsigned long long)(rows->reads ? rows->writes.entries : sum.entries),
            (unsigned long long)(rows->reads ? sum.entries : 0));
    rows->elapsed = elapsed;
    rows->sum = sum;
}

int main(int argc, char **argv)
{
    struct seed_options options = {
        .write_seconds = 60, .read_seconds = 120, .threads = 10, .persist_every = 5000};
    seed_parse(&options, argc, argv, "Ten threads append to a topic each, then ten read them.");
    struct seed *seed = seed_open(&options);
    struct rows rows = {.csv = seed_csv(&options, "read_benchmark_throughput.csv",
                                        "timestamp,elapsed_seconds,phase,writes_per_second,"
                                        "reads_per_second,write_bytes_per_second,"
                                        "read_bytes_per_second,total_writes,total_reads")};
    double seconds;
    rows.writes = seed_write(seed, options.threads, options.write_seconds, row, &rows, &seconds);
    seed_case(&options, "seed-reads-writing", rows.writes, seconds);
    rows.reads = true;
    rows.before = seconds;
    rows.elapsed = 0;
    rows.sum = (struct seed_sum){0, 0};
    struct seed_sum sum =
        seed_read(seed, options.threads, options.read_seconds, row, &rows, &seconds);
    seed_case(&options, "seed-reads", sum, seconds);
    if (sum.entries == rows.writes.entries)
        printf("all that was written was read\n");
    fclose(rows.csv);
    seed_close(seed);
}
