/* SPDX-License-Identifier: MIT */
/*
 * hist.h - a histogram of times, for percentiles.
 *
 * Serves the benchmarks.  32 buckets for each power of two: a percentile is exact to 3%, the highest
 * value and the count are exact.  Not synchronised: each thread has its own, hist_merge joins them.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_COUNT    32u
#define HIST_BUCKET_COUNT (64u * HIST_SUB_COUNT)

struct hist {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[HIST_BUCKET_COUNT];
};

static inline unsigned hist_bucket(uint64_t value)
{
    if (value < HIST_SUB_COUNT)
        return (unsigned)value;
    unsigned shift = 58u - (unsigned)__builtin_clzll(value); /* leaves five bits below the first */
    return (shift + 1) * HIST_SUB_COUNT + (unsigned)((value >> shift) & (HIST_SUB_COUNT - 1));
}

static inline void hist_add(struct hist *hist, uint64_t value)
{
    hist->count++;
    hist->max = value > hist->max ? value : hist->max;
    hist->buckets[hist_bucket(value)]++;
}

void hist_merge(struct hist *to, const struct hist *from);
/* The value below which the given share (0 to 1) of all lies; 0 of an empty histogram. */
uint64_t hist_percentile(const struct hist *hist, double share);

#endif
