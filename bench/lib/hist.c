/* SPDX-License-Identifier: MIT */
/* hist.c - what hist.h does not do inline. */
#include "hist.h"

void hist_merge(struct hist *to, const struct hist *from)
{
    to->count += from->count;
    to->max = from->max > to->max ? from->max : to->max;
    for (unsigned i = 0; i < HIST_BUCKET_COUNT; i++)
        to->buckets[i] += from->buckets[i];
}

/* The highest value that falls into the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < HIST_SUB_COUNT)
        return bucket;
    unsigned shift = bucket / HIST_SUB_COUNT - 1;
    uint64_t first = (uint64_t)(HIST_SUB_COUNT + bucket % HIST_SUB_COUNT) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

uint64_t hist_percentile(const struct hist *hist, double share)
{
    uint64_t wanted = (uint64_t)((double)hist->count * share), seen = 0;
    for (unsigned i = 0; i < HIST_BUCKET_COUNT; i++) {
        seen += hist->buckets[i];
        if (seen > wanted) {
            uint64_t top = bucket_top(i);
            return top < hist->max ? top : hist->max;
        }
    }
    return hist->max;
}
