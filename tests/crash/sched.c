/* SPDX-License-Identifier: MIT */
/*
 * sched.c - the threads, the clock and the random bytes of sim.h, and allocations that fail.
 *
 * Each thread of the engine is a real one that runs only while it has the turn, which it passes on
 * where it would wait, and at changes of files when the dice say so.  So a run is decided by
 * its seed, and every order of the engine's steps at such places can come.  When nobody can run,
 * the clock moves to the first that waits for a time; when there is none, the engine has deadlocked
 * and the program ends.
 *
 * In the mode SIM_LAZY there are no threads at all: what was to run does so when it is joined.
 */
#include <errno.h>
#include <linux/futex.h>
#include <linux/time_types.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>

#include "powercut.h"
#include "rig.h"
#include "sim.h"

enum { THREADS_MAX = 8, TURN_PERCENT = 8, TRIES_MAX = 100000 };

#define NS_PER_S 1000000000u

struct thread {
    bool used, ended;
    void *(*run)(void *arg);
    void *arg;
    pthread_t real;
    sem_t turn;
    const void *waits; /* on this futex; NULL: it can run */
    bool timed;
    uint64_t until_ns;
};

static struct thread threads[THREADS_MAX]; /* the first is the test's own */
static unsigned now;                       /* whose turn it is */
static enum sim_mode mode;
static uint64_t dice, entropy, clock_ns = NS_PER_S;
static int64_t clock_jump_ns;
static uint64_t alloc_count, alloc_nth;
static bool alloc_forever;

void sim_threads(enum sim_mode new_mode, uint64_t seed)
{
    mode = new_mode;
    dice = seed;
    memset(threads, 0, sizeof(threads));
    threads[0].used = true;
    CHECK_INT(sem_init(&threads[0].turn, 0, 0), 0);
    now = 0;
}

/* ------------------------------------------------------------------------------------- turns -- */

static void turn_wait(struct thread *self)
{
    while (sem_wait(&self->turn) != 0)
        CHECK_INT(errno, EINTR);
}

static void turn_pass(unsigned to)
{
    struct thread *self = &threads[now];

    if (to == now)
        return;
    now = to;
    CHECK_INT(sem_post(&threads[to].turn), 0);
    turn_wait(self);
}

static bool can_run(const struct thread *thread)
{
    return thread->used && !thread->ended && thread->waits == NULL;
}

/* A thread that can run, from all but `except`; -1: none. */
static int pick(unsigned except)
{
    unsigned can[THREADS_MAX], count = 0;

    for (unsigned i = 0; i < THREADS_MAX; i++)
        if (i != except && can_run(&threads[i]))
            can[count++] = i;
    return count > 0 ? (int)can[powercut_random(&dice, count)] : -1;
}

/* The clock goes to the first that waits for a time. */
static void clock_advance(void)
{
    struct thread *first = NULL;

    for (unsigned i = 0; i < THREADS_MAX; i++)
        if (threads[i].waits != NULL && threads[i].timed &&
            (first == NULL || threads[i].until_ns < first->until_ns))
            first = &threads[i];
    CHECK(first != NULL && "some thread can run: else they wait for one another");
    if (first->until_ns > clock_ns)
        clock_ns = first->until_ns;
    first->waits = NULL;
}

static void clock_wake(void)
{
    for (unsigned i = 0; i < THREADS_MAX; i++)
        if (threads[i].waits != NULL && threads[i].timed && threads[i].until_ns <= clock_ns)
            threads[i].waits = NULL;
}

void sim_turn(void)
{
    if (mode == SIM_LAZY || powercut_random(&dice, 100) >= TURN_PERCENT)
        return;
    int to = pick(now);
    if (to >= 0)
        turn_pass((unsigned)to);
}

void sim_settle(void)
{
    for (int to; mode == SIM_SCHEDULED && (to = pick(0)) >= 0;)
        turn_pass((unsigned)to);
}

void sim_clock(uint64_t ns, int64_t jump_ns)
{
    clock_ns += ns;
    clock_jump_ns += jump_ns;
    clock_wake();
}

/* ------------------------------------------------------------------------------- the engine's -- */

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attr,
                          void *(*run)(void *arg), void *arg);
int __wrap_pthread_join(pthread_t thread, void **ret_value);
long __wrap_syscall(long number, ...);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now);
ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags);
int __wrap_getentropy(void *data, size_t size);
pid_t __wrap_getpid(void);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);

static void *thread_main(void *arg)
{
    struct thread *self = arg;

    turn_wait(self);
    (void)self->run(self->arg);
    self->ended = true;
    int to = pick(THREADS_MAX);
    if (to < 0) {
        clock_advance();
        to = pick(THREADS_MAX);
    }
    now = (unsigned)to;
    CHECK_INT(sem_post(&threads[now].turn), 0);
    return NULL;
}

/* The engine's pthread_t is the number of the thread. */
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attr,
                          void *(*run)(void *arg), void *arg)
{
    unsigned i = 1;

    (void)attr;
    while (i < THREADS_MAX && threads[i].used)
        i++;
    CHECK(i < THREADS_MAX);
    threads[i] = (struct thread){.used = true, .run = run, .arg = arg};
    *ret_thread = i;
    if (mode == SIM_LAZY)
        return 0;
    CHECK_INT(sem_init(&threads[i].turn, 0, 0), 0);
    CHECK_INT(pthread_create(&threads[i].real, NULL, thread_main, &threads[i]), 0);
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret_value)
{
    struct thread *other = &threads[thread];

    (void)ret_value;
    if (mode == SIM_LAZY) {
        (void)other->run(other->arg);
        other->used = false;
        return 0;
    }
    for (unsigned tries = 0; !other->ended; tries++) {
        CHECK(tries < TRIES_MAX);
        int to = can_run(other) ? (int)thread : pick(now);
        if (to >= 0)
            turn_pass((unsigned)to);
        else
            clock_advance();
    }
    CHECK_INT(pthread_join(other->real, NULL), 0);
    sem_destroy(&other->turn);
    other->used = false;
    return 0;
}

/* Sleeps while *word is `value`.  Without threads nobody would ever wake the only one. */
static long futex_wait(const _Atomic uint32_t *word, uint32_t value,
                       const struct __kernel_timespec *until)
{
    struct thread *self = &threads[now];

    CHECK(mode == SIM_SCHEDULED);
    if (*word != value) {
        errno = EAGAIN;
        return -1;
    }
    self->waits = (const void *)word;
    self->timed = until != NULL;
    self->until_ns = until ? (uint64_t)until->tv_sec * NS_PER_S + (uint64_t)until->tv_nsec : 0;
    clock_wake();
    while (self->waits != NULL) {
        int to = pick(now);
        if (to >= 0)
            turn_pass((unsigned)to);
        else
            clock_advance();
    }
    if (!until || clock_ns < self->until_ns)
        return 0;
    errno = ETIMEDOUT;
    return -1;
}

static long futex_wake(const _Atomic uint32_t *word, int count)
{
    long woken = 0;

    for (unsigned i = 0; i < THREADS_MAX && woken < count; i++)
        if (threads[i].waits == (const void *)word) {
            threads[i].waits = NULL;
            woken++;
        }
    return woken;
}

/* The mutexes and conditions of engine/base/sync.c. */
long __wrap_syscall(long number, ...)
{
    va_list args;

    CHECK_INT(number, SYS_futex);
    va_start(args, number);
    const _Atomic uint32_t *word = va_arg(args, const _Atomic uint32_t *);
    int call = va_arg(args, int);
    uint32_t value = va_arg(args, uint32_t);
    const struct __kernel_timespec *until = va_arg(args, const struct __kernel_timespec *);
    va_end(args);
    return (call & FUTEX_CMD_MASK) == FUTEX_WAKE ? futex_wake(word, (int)value)
                                                 : futex_wait(word, value, until);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_now)
{
    uint64_t ns = ++clock_ns;

    if (clock == CLOCK_REALTIME)
        ns += 1600000000ull * NS_PER_S + (uint64_t)clock_jump_ns;
    ret_now->tv_sec = (time_t)(ns / NS_PER_S);
    ret_now->tv_nsec = (long)(ns % NS_PER_S);
    return 0;
}

void sim_entropy(uint64_t seed)
{
    entropy = seed;
    clock_ns = NS_PER_S;
    clock_jump_ns = 0;
}

ssize_t __wrap_getrandom(void *data, size_t size, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)data)[i] = (uint8_t)powercut_random(&entropy, 256);
    return (ssize_t)size;
}

int __wrap_getentropy(void *data, size_t size)
{
    return __wrap_getrandom(data, size, 0) == (ssize_t)size ? 0 : -1;
}

/* It is written to LOCK. */
pid_t __wrap_getpid(void)
{
    return 1;
}

/* -------------------------------------------------------------------------------- allocations -- */

void sim_alloc_fail(uint64_t nth, bool forever)
{
    alloc_count = 0;
    alloc_nth = nth;
    alloc_forever = forever;
}

uint64_t sim_alloc_count(void)
{
    return alloc_count;
}

static bool alloc_fails(void)
{
    alloc_count++;
    if (alloc_nth == 0 || alloc_count < alloc_nth || (alloc_count > alloc_nth && !alloc_forever))
        return false;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return alloc_fails() ? NULL : malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return alloc_fails() ? NULL : calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return alloc_fails() ? NULL : realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
    return alloc_fails() ? NULL : strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    return alloc_fails() ? NULL : strndup(text, size);
}
