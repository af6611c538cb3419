/* SPDX-License-Identifier: MIT */
/* load.c - threads that begin together and end together; entries that can be checked. */
#include "load.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct load {
    pthread_barrier_t begin;
    atomic_bool end;
    load_fn *step;
};

struct runner {
    struct load *load;
    struct load_thread thread;
    pthread_t id;
};

static void *runner_main(void *arg)
{
    struct runner *runner = arg;
    struct load_thread *thread = &runner->thread;
    load_fn *step = runner->load->step;
    pthread_setname_np(pthread_self(), "load"); /* perf report --comm load: nothing but the steps */
    pthread_barrier_wait(&runner->load->begin);
    while (!atomic_load_explicit(thread->end, memory_order_relaxed)) {
        if (!thread->hist) {
            step(thread);
            continue;
        }
        uint64_t began = bench_now_ns();
        step(thread);
        hist_add(thread->hist, bench_now_ns() - began);
    }
    return NULL;
}

static void sleep_for(double seconds)
{
    struct timespec time = {.tv_sec = (time_t)seconds};
    time.tv_nsec = (long)((seconds - (double)time.tv_sec) * 1e9);
    nanosleep(&time, NULL);
}

void load_run(const struct bench_options *options, unsigned threads, load_fn *step, void *arg,
              bool times, struct bench_result *ret)
{
    struct load load = {.step = step};
    struct runner *runners = calloc(threads, sizeof(*runners));
    if (!runners || pthread_barrier_init(&load.begin, NULL, threads + 1))
        bench_die("no memory");
    for (unsigned i = 0; i < threads; i++) {
        runners[i].load = &load;
        runners[i].thread = (struct load_thread){
            .idx = i, .arg = arg, .random = i * 7919 + 12345, .end = &load.end};
        if (times && !(runners[i].thread.hist = calloc(1, sizeof(struct hist))))
            bench_die("no memory");
        BENCH_OK(-pthread_create(&runners[i].id, NULL, runner_main, &runners[i]));
    }
    pthread_barrier_wait(&load.begin);
    uint64_t began = bench_now_ns(), count = 0, bytes = 0;
    double cpu = bench_cpu_seconds();
    sleep_for(options->seconds);
    atomic_store(&load.end, true);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(runners[i].id, NULL);
    double seconds = (double)(bench_now_ns() - began) / 1e9;
    cpu = bench_cpu_seconds() - cpu;
    for (unsigned i = 0; i < threads; i++) {
        count += runners[i].thread.count;
        bytes += runners[i].thread.bytes;
        if (times)
            hist_merge(&ret->hist, runners[i].thread.hist);
        free(runners[i].thread.hist);
    }
    ret->rate = (double)count / seconds;
    ret->byte_rate = (double)bytes / seconds;
    ret->cpu_ns = count ? cpu * 1e9 / (double)count : 0;
    pthread_barrier_destroy(&load.begin);
    free(runners);
}

/* ---------------------------------------------------------------------------------- entries -- */

#define HEAD_SIZE 16u

/* A period that no power of two divides: bytes at a wrong place show. */
#define PATTERN_PERIOD 251u

static uint8_t pattern[PATTERN_PERIOD + LOAD_SIZE_MAX];

__attribute__((constructor)) static void pattern_make(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i % PATTERN_PERIOD);
}

static const uint8_t *pattern_of(unsigned thread, uint64_t number)
{
    return pattern + (number * 31 + thread * 17) % PATTERN_PERIOD;
}

const void *load_entry(unsigned thread, uint64_t number, size_t size, void *buffer)
{
    uint64_t head[2] = {number, thread};
    memcpy(buffer, head, HEAD_SIZE);
    memcpy((uint8_t *)buffer + HEAD_SIZE, pattern_of(thread, number), size - HEAD_SIZE);
    return buffer;
}

int64_t load_check(unsigned thread, const void *data, size_t size)
{
    uint64_t head[2];
    if (size < LOAD_SIZE_MIN || size > LOAD_SIZE_MAX)
        return -1;
    memcpy(head, data, HEAD_SIZE);
    if (head[1] != thread)
        return -1;
    const uint8_t *expected = pattern_of(thread, head[0]);
    if (memcmp(expected, (const uint8_t *)data + HEAD_SIZE, size - HEAD_SIZE) != 0)
        return -1;
    return (int64_t)head[0];
}
