/* SPDX-License-Identifier: MIT */
/*
 * pool.c - see pool.h.
 *
 * Threads are made when a job finds none idle, up to POOL_THREAD_COUNT_MAX: more would not make one
 * disk faster, and the engine lets concurrent callers share a flush.  They block all signals, so
 * that the session's thread gets them, and stay until the end.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "pool.h"

#define POOL_STACK_SIZE (512 * 1024)

struct pool {
    struct lock lock; /* LOCK_FS_POOL; guards the rest */
    struct cond wake; /* there is a job, or the end */
    struct cond idle; /* a thread became idle */
    struct job *first, *last;
    struct job *delayed; /* the earliest first */
    unsigned thread_count, idle_count;
    unsigned queued_count;
    bool timing; /* one idle thread waits for the first delayed job to be due */
    bool stopping;
    pthread_t threads[POOL_THREAD_COUNT_MAX];
};

static struct job *pool_pop_locked(struct pool *pool)
{
    struct job *job = pool->delayed;
    if (job != NULL && (pool->stopping || job->due_ns <= monotonic_ns())) {
        pool->delayed = job->next;
        return job;
    }
    job = pool->first;
    if (job != NULL) {
        pool->first = job->next;
        if (pool->first == NULL)
            pool->last = NULL;
        pool->queued_count--;
    }
    return job;
}

/* Waits for a job, or for a delayed one to be due. */
static void pool_wait_locked(struct pool *pool)
{
    pool->idle_count++;
    cond_broadcast(&pool->idle);
    if (pool->delayed != NULL && !pool->timing) {
        pool->timing = true;
        (void)cond_wait_until(&pool->wake, &pool->lock, pool->delayed->due_ns);
        pool->timing = false;
    } else {
        cond_wait(&pool->wake, &pool->lock);
    }
    pool->idle_count--;
}

static void *pool_main(void *arg)
{
    struct pool *pool = arg;

    lock_acquire(&pool->lock);
    for (;;) {
        struct job *job = pool_pop_locked(pool);
        if (job != NULL) {
            if (pool->delayed != NULL && !pool->timing)
                cond_signal(&pool->wake); /* somebody has to look after those */
            lock_release(&pool->lock);
            job->next = NULL;
            job->run(job);
            lock_acquire(&pool->lock);
            continue;
        }
        if (pool->stopping)
            break;
        pool_wait_locked(pool);
    }
    lock_release(&pool->lock);
    return NULL;
}

static int pool_start_thread(pthread_t *ret_thread, struct pool *pool)
{
    pthread_attr_t attr;
    sigset_t all, old;

    int r = pthread_attr_init(&attr);
    if (r != 0)
        return -r;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* the engine's guards live on it */
    sigdelset(&all, SIGSEGV);
    r = pthread_attr_setstacksize(&attr, POOL_STACK_SIZE);
    if (r == 0)
        r = pthread_sigmask(SIG_SETMASK, &all, &old);
    if (r == 0) {
        r = pthread_create(ret_thread, &attr, pool_main, pool);
        if (pthread_sigmask(SIG_SETMASK, &old, NULL) != 0)
            abort();
    }
    pthread_attr_destroy(&attr);
    return -r;
}

int pool_create(struct pool **ret_pool)
{
    struct pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL)
        return -ENOMEM;
    lock_init(&pool->lock, LOCK_FS_POOL);
    cond_init(&pool->wake);
    cond_init(&pool->idle);
    /* One from the start, so that a job never has to run on the thread that submits it. */
    int r = pool_start_thread(&pool->threads[0], pool);
    if (r < 0) {
        lock_fini(&pool->lock);
        free(pool);
        return r;
    }
    pool->thread_count = 1;
    *ret_pool = pool;
    return 0;
}

void pool_destroy(struct pool *pool)
{
    if (pool == NULL)
        return;
    lock_acquire(&pool->lock);
    pool->stopping = true;
    cond_broadcast(&pool->wake);
    lock_release(&pool->lock);
    for (unsigned i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    WALRUS_ASSERT(pool->first == NULL);
    lock_fini(&pool->lock);
    free(pool);
}

void pool_drain(struct pool *pool)
{
    lock_acquire(&pool->lock);
    while (pool->first != NULL || pool->delayed != NULL || pool->idle_count < pool->thread_count)
        cond_wait(&pool->idle, &pool->lock);
    lock_release(&pool->lock);
}

void pool_submit(struct pool *pool, struct job *job)
{
    lock_acquire(&pool->lock);
    job->next = NULL;
    if (pool->last != NULL)
        pool->last->next = job;
    else
        pool->first = job;
    pool->last = job;
    pool->queued_count++;
    if (pool->queued_count > pool->idle_count && pool->thread_count < POOL_THREAD_COUNT_MAX &&
        !pool->stopping) {
        /* A failure is no harm: there is at least one thread. */
        if (pool_start_thread(&pool->threads[pool->thread_count], pool) == 0)
            pool->thread_count++;
    }
    cond_signal(&pool->wake);
    lock_release(&pool->lock);
}

void pool_submit_later(struct pool *pool, struct job *job, uint64_t delay_ns)
{
    job->due_ns = monotonic_ns() + delay_ns;
    lock_acquire(&pool->lock);
    struct job **at = &pool->delayed;
    while (*at != NULL && (*at)->due_ns <= job->due_ns)
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    /* Whoever wakes sees the new time. */
    cond_broadcast(&pool->wake);
    lock_release(&pool->lock);
}

void serial_init(struct serial *serial)
{
    *serial = (struct serial){.busy = false};
    lock_init(&serial->lock, LOCK_FS_HANDLE);
}

void serial_fini(struct serial *serial)
{
    WALRUS_ASSERT(serial->first == NULL);
    lock_fini(&serial->lock);
}

bool serial_try(struct serial *serial)
{
    lock_acquire(&serial->lock);
    bool entered = !serial->busy;
    serial->busy = true;
    lock_release(&serial->lock);
    return entered;
}

int serial_enter(struct serial *serial, struct job *job)
{
    int r = 0;

    lock_acquire(&serial->lock);
    if (serial->busy)
        r = job->withdrawn ? -EINTR : SERIAL_QUEUED;
    serial->busy = true;
    if (r == SERIAL_QUEUED) {
        job->next = NULL;
        if (serial->last != NULL)
            serial->last->next = job;
        else
            serial->first = job;
        serial->last = job;
    }
    lock_release(&serial->lock);
    return r;
}

bool serial_withdraw(struct serial *serial, struct job *job)
{
    struct job **at, *before = NULL;

    lock_acquire(&serial->lock);
    for (at = &serial->first; *at != NULL && *at != job; at = &(*at)->next)
        before = *at;
    bool found = *at == job;
    if (found) {
        *at = job->next;
        if (serial->last == job)
            serial->last = before;
    } else {
        job->withdrawn = true;
    }
    lock_release(&serial->lock);
    return found;
}

void serial_leave(struct serial *serial, struct pool *pool)
{
    lock_acquire(&serial->lock);
    struct job *job = serial->first;
    if (job != NULL) {
        serial->first = job->next;
        if (serial->first == NULL)
            serial->last = NULL;
    } else {
        serial->busy = false;
    }
    lock_release(&serial->lock);
    if (job != NULL)
        pool_submit(pool, job);
}
