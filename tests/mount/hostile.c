/* SPDX-License-Identifier: MIT */
/*
 * hostile.c - a client that does to a mounted store whatever a program can do, and a witness that
 * only appends.
 *
 * hostile.py builds and runs it:
 *
 *      hostile DIRECTORY SEED SECONDS
 *
 * Actors (eight processes, each after chroot(2) to DIRECTORY, every other one without privileges)
 * make random system calls on it, with an alarm every few milliseconds.  The first process kills
 * one now and then and starts another in its place.  An actor's calls follow from SEED, its place
 * and how many were there before it; what they meet there depends on the others.
 *
 * The witness appends entries to the topic `witness`, and prints at the end how many:
 *
 *      "WITNESS " u32 number, u32 size of the rest, u32 checksum of the rest, the rest
 *
 * The actors may use that topic too, except for what would end it or its group `check`.  They copy
 * no file's bytes into it, so that whatever begins as above is the witness's.  What they write in
 * one piece begins with "FOREIGN " and the same header, so that it can be checked as well.
 *
 * When the time is over the actors end their last call and stay with their files open, `held` is
 * printed, and at the end of stdin they are killed.  Lines on stdout: `calls N`, `starts N`,
 * `witness N`, `held`.  Exit status 1: an actor hung, or the witness met an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

struct share *share;

static void on_alarm(int number)
{
    (void)number; /* it only interrupts */
}

static unsigned char *map_buffer(void)
{
    unsigned char *at =
        mmap(NULL, BUFFER_SIZE + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED || mprotect(at + BUFFER_SIZE, 8192, PROT_NONE) < 0)
        _exit(2);
    return at;
}

static void actor_main(int place, uint64_t seed, const char *directory)
{
    struct actor actor = {.random = seed, .place = place};
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    struct rlimit files = {8192, 8192};

    if (chroot(directory) < 0 || chdir("/") < 0)
        _exit(2);
    signal(SIGPIPE, SIG_IGN);
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, actor.pair) < 0 ||
        pipe2(actor.pipe, O_NONBLOCK) < 0)
        _exit(2);
    if (place % 2 == 1 && (setgid(1) < 0 || setuid(1) < 0))
        _exit(2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    actor.out = map_buffer();
    actor.in = map_buffer();
    for (size_t i = 0; i < BUFFER_SIZE; i++)
        actor.out[i] = (unsigned char)(i * 31 % 251 < 2 ? '\n' : i);
    for (int i = 0; i < SLOT_COUNT; i++)
        actor.slots[i].fd = -1;
    sigaction(SIGALRM, &action, NULL);
    long pause = 1000 + (long)below(&actor, 9000);
    struct itimerval timer = {{0, pause}, {0, pause}};
    setitimer(ITIMER_REAL, &timer, NULL);
    while (!atomic_load(&share->stop))
        run_calls(&actor, 1000);
    atomic_store(&share->held[place], 1);
    for (;;)
        (void)sleep(1000);
}

/* Appends until told to stop; every acknowledged entry counts. */
static void witness_main(uint64_t seed, const char *directory)
{
    unsigned char buffer[24 + HEADER_SIZE + 4096];
    uint32_t number = 0;

    if (chdir(directory) < 0)
        _exit(2);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int append = open("witness/append", O_WRONLY | O_APPEND),
        batch = open("witness/batch", O_WRONLY);
    if (append < 0 || batch < 0)
        _exit(2);
    while (!atomic_load(&share->stop)) {
        uint32_t size = HEADER_SIZE + (uint32_t)(next_random(&seed) % 3000);
        bool record = next_random(&seed) % 4 == 0;
        memset(buffer, 0, sizeof(buffer));
        fill_entry(buffer + 24, "WITNESS ", number, size, &seed);
        memcpy(buffer, &size, sizeof(size));
        size_t whole = record ? (24 + size + 7) / 8 * 8 : size;
        ssize_t n = write(record ? batch : append, record ? buffer : buffer + 24, whole);
        if (n != (ssize_t)whole) {
            fprintf(stderr, "the witness's write of %zu bytes: %zd, %s\n", whole, n,
                    strerror(errno));
            atomic_store(&share->witness_failed, 1);
            _exit(1);
        }
        atomic_store(&share->witness_count, ++number);
        usleep((useconds_t)(next_random(&seed) % 2000));
    }
    _exit(0);
}

static pid_t start_actor(int place, uint64_t seed, unsigned starts, const char *directory)
{
    uint64_t state = seed * 1000003 + (uint64_t)place * 7919 + starts;
    pid_t pid = fork();
    if (pid == 0)
        actor_main(place, next_random(&state), directory);
    return pid;
}

/* False: an actor is in one call for too long. */
static bool all_move(uint64_t *before, time_t *since)
{
    time_t now = time(NULL);

    for (int i = 0; i < ACTOR_COUNT; i++) {
        uint64_t progress = atomic_load(&share->progress[i]);
        if (progress != before[i] || atomic_load(&share->held[i])) {
            before[i] = progress;
            since[i] = now;
        } else if (now - since[i] > HANG_SECONDS) {
            printf("hangs: actor %d in %s\n", i, call_name(atomic_load(&share->call[i])));
            return false;
        }
    }
    return true;
}

/* Waits until all actors came to their end, holding their files. */
static bool wait_held(uint64_t *before, time_t *since)
{
    int held;

    do {
        usleep(10000);
        held = 0;
        for (int i = 0; i < ACTOR_COUNT; i++)
            held += atomic_load(&share->held[i]);
    } while (held < ACTOR_COUNT && all_move(before, since));
    return held == ACTOR_COUNT;
}

int main(int argc, char **argv)
{
    pid_t pids[ACTOR_COUNT];
    uint64_t before[ACTOR_COUNT] = {0};
    time_t since[ACTOR_COUNT];
    unsigned starts = 0;
    char byte;

    if (argc != 4) {
        fprintf(stderr, "usage: hostile DIRECTORY SEED SECONDS\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[2], NULL, 10), dice = seed;
    time_t end = time(NULL) + atoi(argv[3]);
    share = mmap(NULL, sizeof(*share), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (share == MAP_FAILED)
        return 2;
    if (fork() == 0)
        witness_main(seed, argv[1]);
    for (int i = 0; i < ACTOR_COUNT; i++) {
        pids[i] = start_actor(i, seed, starts++, argv[1]);
        since[i] = time(NULL);
    }
    bool well = true;
    while (time(NULL) < end && well && !atomic_load(&share->witness_failed)) {
        usleep(20000 + (useconds_t)(next_random(&dice) % 400000));
        int i = (int)(next_random(&dice) % ACTOR_COUNT);
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
        pids[i] = start_actor(i, seed, starts++, argv[1]);
        well = all_move(before, since);
    }
    atomic_store(&share->stop, 1);
    well = well && wait_held(before, since) && !atomic_load(&share->witness_failed);
    printf("calls %llu\nstarts %u\nwitness %llu\nheld\n", (unsigned long long)share->calls, starts,
           (unsigned long long)share->witness_count);
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    for (int i = 0; i < ACTOR_COUNT; i++)
        kill(pids[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return well ? 0 : 1;
}
