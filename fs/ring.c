/* SPDX-License-Identifier: MIT */
/*
 * ring.c - see ring.h.
 *
 * The kernel moves the head of the submission queue and the tail of the completion queue, we the
 * other two; what one side wrote before it moved its index, the other sees after it read that index.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

#define SQE_SIZE 128

static int ring_map(struct ring *ring, const struct io_uring_params *params)
{
    size_t sq_size = params->sq_off.array + params->sq_entries * sizeof(unsigned);
    size_t cq_size = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);

    ring->map_size = MAX(sq_size, cq_size);
    ring->sqes_size = params->sq_entries * (size_t)SQE_SIZE;
    ring->map = mmap(NULL, ring->map_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring->fd, IORING_OFF_SQ_RING);
    ring->sqes = mmap(NULL, ring->sqes_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                      ring->fd, IORING_OFF_SQES);
    if (ring->map == MAP_FAILED || ring->sqes == MAP_FAILED)
        return -errno;
    char *base = ring->map;
    ring->sq_head = (unsigned *)(base + params->sq_off.head);
    ring->sq_tail = (unsigned *)(base + params->sq_off.tail);
    ring->sq_flags = (unsigned *)(base + params->sq_off.flags);
    ring->cq_head = (unsigned *)(base + params->cq_off.head);
    ring->cq_tail = (unsigned *)(base + params->cq_off.tail);
    ring->cqes = (struct io_uring_cqe *)(base + params->cq_off.cqes);
    ring->sq_mask = params->sq_entries - 1;
    ring->cq_mask = params->cq_entries - 1;
    unsigned *array = (unsigned *)(base + params->sq_off.array);
    for (unsigned i = 0; i < params->sq_entries; i++)
        array[i] = i;
    return 0;
}

int ring_open(struct ring *ring, unsigned entry_count)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128};

    *ring = (struct ring){.fd = -1, .map = MAP_FAILED, .sqes = MAP_FAILED};
    long fd = syscall(SYS_io_uring_setup, entry_count, &params);
    if (fd < 0)
        return -errno;
    ring->fd = (int)fd;
    unsigned needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
    int r = (params.features & needed) == needed ? ring_map(ring, &params) : -EOPNOTSUPP;
    if (r < 0)
        ring_close(ring);
    return r;
}

void ring_close(struct ring *ring)
{
    if (ring->fd < 0)
        return;
    if (ring->map != MAP_FAILED)
        munmap(ring->map, ring->map_size);
    if (ring->sqes != MAP_FAILED)
        munmap(ring->sqes, ring->sqes_size);
    close(ring->fd);
    ring->fd = -1;
}

struct io_uring_sqe *ring_next_sqe(struct ring *ring)
{
    unsigned tail = *ring->sq_tail + ring->queued;

    if (tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE) > ring->sq_mask)
        return NULL;
    void *sqe = (char *)ring->sqes + (size_t)(tail & ring->sq_mask) * SQE_SIZE;
    ring->queued++;
    return memset(sqe, 0, SQE_SIZE);
}

void ring_enter(struct ring *ring, unsigned wait_count)
{
    struct timespec pause = {.tv_nsec = 1000000};

    __atomic_store_n(ring->sq_tail, *ring->sq_tail + ring->queued, __ATOMIC_RELEASE);
    ring->queued = 0;
    unsigned pending = *ring->sq_tail - __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE);
    long n = syscall(SYS_io_uring_enter, ring->fd, pending, wait_count,
                     wait_count > 0 || ring_has_more(ring) ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
    if (n >= 0 || errno == EINTR || errno == EBUSY)
        return;
    /* All else would be a mistake of ours. */
    WALRUS_ASSERT(errno == EAGAIN || errno == ENOMEM);
    (void)nanosleep(&pause, NULL);
}

void ring_submit(struct ring *ring)
{
    do
        ring_enter(ring, 0);
    while (*ring->sq_tail != __atomic_load_n(ring->sq_head, __ATOMIC_ACQUIRE));
}

bool ring_take(struct ring *ring, struct io_uring_cqe *ret_cqe)
{
    unsigned head = *ring->cq_head;

    if (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
        return false;
    *ret_cqe = ring->cqes[head & ring->cq_mask];
    __atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
    return true;
}

bool ring_has_more(const struct ring *ring)
{
    return (__atomic_load_n(ring->sq_flags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
}
