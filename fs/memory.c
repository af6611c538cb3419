/* SPDX-License-Identifier: MIT */
/*
 * memory.c - see memory.h.
 */
#include <malloc.h>

#include "compiler.h"
#include "memory.h"

/* Copies of large writes go back to the system when they are freed.  One heap for all threads:
 * malloc_trim(3) does not shorten the others, and with one each they would hold several times the
 * memory of one busy moment.  What a request needs is small, so that threads hardly meet there. */
void memory_tune(void)
{
    bool tuned = mallopt(M_ARENA_MAX, 1) != 0 && mallopt(M_MMAP_THRESHOLD, 256 * 1024) != 0 &&
                 mallopt(M_TRIM_THRESHOLD, 1024 * 1024) != 0;
    (void)tuned; /* another allocator has ways of its own */
}

void burst_grow(struct burst *burst, size_t count)
{
    burst->peak = MAX(burst->peak, count);
}

bool burst_is_over(struct burst *burst, size_t count, size_t least)
{
    if (burst->peak < least || count > burst->peak / 4)
        return false;
    burst->peak = count;
    return true;
}

void memory_give_back(void)
{
    malloc_trim(0);
}
