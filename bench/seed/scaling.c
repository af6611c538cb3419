/* SPDX-License-Identifier: MIT */
/* scaling.c - scaling_benchmark: appends with 1, 2, ... 10 threads, half a minute each. */
#include "seed.h"

int main(int argc, char **argv)
{
    struct seed_options options = {.write_seconds = 30, .threads = 10, .persist_every = 50};
    seed_parse(&options, argc, argv, "Appends with one thread, two, and so on up to --threads.");
    FILE *live = seed_csv(&options, "scaling_results_live.csv", "threads,throughput");
    double rates[SEED_THREADS_MAX];
    for (unsigned threads = 1; threads <= options.threads; threads++) {
        struct seed_options one = options;
        one.threads = threads;
        struct seed *seed = seed_open(&one);
        double seconds;
        struct seed_sum sum =
            seed_write(seed, threads, options.write_seconds, NULL, NULL, &seconds);
        char name[32];
        snprintf(name, sizeof(name), "seed-scaling-%u", threads);
        seed_case(&one, name, sum, seconds);
        rates[threads - 1] = (double)sum.entries / seconds;
        fprintf(live, "%u,%.2f\n", threads, rates[threads - 1]);
        seed_close(seed);
    }
    fclose(live);
    FILE *csv = seed_csv(&options, "scaling_results.csv", "threads,throughput");
    for (unsigned i = 0; i < options.threads; i++)
        fprintf(csv, "%u,%.2f\n", i + 1, rates[i]);
    fclose(csv);
}
