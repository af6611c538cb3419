/* SPDX-License-Identifier: MIT */
/*
 * memory.h - what the daemon does not use any more, the system gets back.
 *
 * malloc(3) keeps what is freed for the next one, and gives back only what lies at the end: after
 * a burst of open files, or of files that the kernel remembered, nearly all of it lies free
 * between what stays.  Who counts such things has a struct burst, and gives memory back when most
 * of a burst is over.
 *
 * Threads: memory_give_back() in any thread, without locks, since it may take tens of milliseconds
 * and malloc(3) of others waits for it; a struct burst is guarded by its owner's lock.
 */
#ifndef WALRUSFS_MEMORY_H
#define WALRUSFS_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct burst {
    size_t peak; /* the most at a time since memory was given back */
};

/* Once, before there are threads. */
void memory_tune(void);

void burst_grow(struct burst *burst, size_t count);

/* `count`: those that are left.  True, once, when three quarters of a burst of at least `least` are
 * gone; what is left then begins the next. */
bool burst_is_over(struct burst *burst, size_t count, size_t least);

void memory_give_back(void);

#endif
