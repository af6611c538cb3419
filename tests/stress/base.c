/* SPDX-License-Identifier: MIT */
/*
 * base.c - many threads in ranked locks, syncs of one file and faulting guarded accesses at once.
 *
 * For the thread sanitizer, which sees here every pairing that engine/base and durable.c allow.
 * Exits with 0 when every fault became -EIO, every sync succeeded and no increment was lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "durable.h"
#include "guard.h"

#define THREAD_COUNT 4
#define ROUND_COUNT  3000
#define PAGE_SIZE    4096

static struct durable durable;
static struct lock lock;
static uint64_t total;   /* under lock */
static uint8_t *present; /* a page of a file; the page behind it was cut off */

static void *run(void *arg)
{
    uintptr_t bad = 0;
    uint8_t bytes[16];

    (void)arg;
    for (int i = 0; i < ROUND_COUNT; i++) {
        const struct durable_view *view = durable_begin(&durable);
        if (i % 8 == 0)
            sched_yield();
        bad += durable_end(&durable, view, 0) != 0;
        if (i % 512 == 0)
            durable_trim(&durable);
        bad += guard_copy(bytes, present + PAGE_SIZE, sizeof(bytes)) != -EIO;
        bad += guard_copy(bytes, present, sizeof(bytes)) != 0;
        lock_acquire(&lock);
        total++;
        lock_release(&lock);
    }
    return (void *)bad;
}

int main(void)
{
    char name[] = "/tmp/walrus-stress-XXXXXX";
    pthread_t threads[THREAD_COUNT];
    uintptr_t bad = 0;

    int fd = mkstemp(name);
    if (fd < 0 || ftruncate(fd, 2 * PAGE_SIZE) != 0)
        return 1;
    present = mmap(NULL, 2 * PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (present == MAP_FAILED || ftruncate(fd, PAGE_SIZE) != 0)
        return 1;
    guard_install();
    durable_init(&durable);
    durable_attach(&durable, AT_FDCWD, name, fd, NULL, 0);
    lock_init(&lock, LOCK_LEAF);

    for (int i = 0; i < THREAD_COUNT; i++)
        if (pthread_create(&threads[i], NULL, run, NULL) != 0)
            return 1;
    for (int i = 0; i < THREAD_COUNT; i++) {
        void *result;
        if (pthread_join(threads[i], &result) != 0)
            return 1;
        bad += (uintptr_t)result;
    }
    uint32_t views = durable.count;
    durable_fini(&durable);
    if (unlink(name) != 0)
        return 1;
    lock_fini(&lock);
    fprintf(stderr, "%ju wrong results, %ju of %d rounds, %u views of the file\n", (uintmax_t)bad,
            (uintmax_t)total, THREAD_COUNT * ROUND_COUNT, views);
    return bad == 0 && total == THREAD_COUNT * ROUND_COUNT ? 0 : 1;
}
