/* SPDX-License-Identifier: MIT */
/* test_base.c - engine/base: checksum, lock order, conditions, guarded access, bytes and lists. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes.h"
#include "crc32c.h"
#include "guard.h"
#include "list.h"
#include "rig.h"
#include "sync.h"

#define PAGE_SIZE 4096u

/* ----------------------------------------------------------------------------------- crc32c -- */

Test(crc32c, gives_the_published_values)
{
    uint8_t zeros[32] = {0}, ones[32], rising[32];

    memset(ones, 0xff, sizeof(ones));
    for (size_t i = 0; i < sizeof(rising); i++)
        rising[i] = (uint8_t)i;
    cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283u);
    /* RFC 3720, appendix B.4 */
    cr_assert_eq(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aau);
    cr_assert_eq(crc32c(0, ones, sizeof(ones)), 0x62a8ab43u);
    cr_assert_eq(crc32c(0, rising, sizeof(rising)), 0x46dd794eu);
}

Test(crc32c, of_nothing_is_its_seed)
{
    cr_assert_eq(crc32c(0, "", 0), 0);
    cr_assert_eq(crc32c(0x12345678, NULL, 0), 0x12345678u);
}

Test(crc32c, continues_from_every_split)
{
    const char text[] = "a record header, then the data of the entry, then padding";
    uint32_t whole = crc32c(7, text, sizeof(text));

    for (size_t at = 0; at <= sizeof(text); at++) {
        uint32_t front = crc32c(7, text, at);
        cr_assert_eq(crc32c(front, text + at, sizeof(text) - at), whole, "split at %zu", at);
    }
}

/* crc32c_before() goes bit by bit, so it has no short and long ways. */
Test(crc32c, is_the_same_by_every_way_that_a_size_takes)
{
    uint8_t bytes[1100];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t at = 0; at < 8; at++)
        for (size_t size = 0; size < 1080; size++)
            cr_assert_eq(crc32c_before(crc32c(0x89abcdefu, bytes + at, size), bytes + at, size),
                         0x89abcdefu, "%zu bytes at %zu", size, at);
}

Test(crc32c, takes_more_bytes_than_an_int_can_count)
{
    const size_t size = ((size_t)1 << 31) + 3, half = size / 2;
    /* private and never written: one page of zeros stands for all of it */
    char *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(map, MAP_FAILED);
    cr_assert_eq(crc32c(0, map, size), crc32c(crc32c(0, map, half), map + half, size - half));
}

/* ----------------------------------------------------------------------------------- sync -- */

static struct lock outer, middle, inner, inner_twin;

static void init_locks(void)
{
    lock_init(&outer, LOCK_TOPICS);
    lock_init(&middle, LOCK_APPEND);
    lock_init(&inner, LOCK_LEAF);
    lock_init(&inner_twin, LOCK_LEAF);
}

Test(sync, allows_locks_in_rising_order, .init = init_locks)
{
    lock_acquire(&outer);
    lock_acquire(&middle);
    lock_acquire(&inner);
    cr_assert_eq(lock_held_count(LOCK_FS_NODES), 3);
    cr_assert_eq(lock_held_count(LOCK_APPEND), 2);
    cr_assert(lock_is_held(&middle));
    lock_release(&middle); /* in any order */
    cr_assert_not(lock_is_held(&middle));
    lock_release(&outer);
    lock_release(&inner);
    cr_assert_eq(lock_held_count(LOCK_FS_NODES), 0);
    lock_fini(&inner);
}

Test(sync, aborts_on_a_lock_out_of_order, .init = init_locks, .signal = SIGABRT)
{
    lock_acquire(&middle);
    lock_acquire(&outer);
}

Test(sync, aborts_on_a_second_lock_of_a_rank, .init = init_locks, .signal = SIGABRT)
{
    lock_acquire(&inner);
    lock_acquire(&inner_twin);
}

Test(sync, aborts_on_a_lock_that_is_below_a_higher_one_of_several, .init = init_locks,
     .signal = SIGABRT)
{
    lock_acquire(&outer);
    lock_acquire(&inner);
    lock_release(&outer);
    lock_acquire(&middle);
}

Test(sync, aborts_on_a_try_out_of_order, .init = init_locks, .signal = SIGABRT)
{
    lock_acquire(&middle);
    cr_assert_not(lock_try(&outer));
}

Test(sync, aborts_on_the_release_of_a_lock_that_is_not_held, .init = init_locks, .signal = SIGABRT)
{
    lock_release(&middle);
}

Test(sync, aborts_on_a_wait_with_a_higher_lock_held, .init = init_locks, .signal = SIGABRT)
{
    struct cond cond;
    cond_init(&cond);
    lock_acquire(&middle);
    lock_acquire(&inner);
    cond_wait(&cond, &middle);
}

static void *try_middle(void *arg)
{
    bool *ret_acquired = arg;
    *ret_acquired = lock_try(&middle);
    if (*ret_acquired)
        lock_release(&middle);
    return NULL;
}

static bool other_thread_gets_middle(void)
{
    pthread_t thread;
    bool acquired = false;
    cr_assert_eq(pthread_create(&thread, NULL, try_middle, &acquired), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    return acquired;
}

Test(sync, tries_without_waiting, .init = init_locks)
{
    cr_assert(lock_try(&middle));
    cr_assert(lock_is_held(&middle));
    cr_assert_not(other_thread_gets_middle());
    lock_release(&middle);
    cr_assert(other_thread_gets_middle());
    cr_assert_eq(lock_held_count(LOCK_FS_NODES), 0);
}

Test(sync, counts_only_the_locks_of_the_calling_thread, .init = init_locks)
{
    lock_acquire(&inner);
    cr_assert(other_thread_gets_middle()); /* below `inner`, but that is ours */
    lock_release(&inner);
}

Test(sync, waits_until_the_deadline_and_holds_the_lock_again, .init = init_locks)
{
    struct cond cond;
    uint64_t start_ns = monotonic_ns();
    bool passed = false;

    cond_init(&cond);
    lock_acquire(&outer); /* lower ones may stay held */
    lock_acquire(&middle);
    while (!passed)
        passed = cond_wait_until(&cond, &middle, start_ns + 30000000);
    cr_assert_geq(monotonic_ns() - start_ns, 30000000u);
    cr_assert(lock_is_held(&middle));
    cr_assert_not(other_thread_gets_middle());
    lock_release(&middle);
    lock_release(&outer);
}

static struct cond signalled;
static bool condition;

static void *make_condition_true(void *arg)
{
    lock_acquire(&middle);
    condition = true;
    cond_signal(&signalled);
    lock_release(&middle);
    return arg;
}

Test(sync, waiting_lets_others_in_and_wakes_on_a_signal, .init = init_locks)
{
    pthread_t thread;

    cond_init(&signalled);
    lock_acquire(&middle);
    cr_assert_eq(pthread_create(&thread, NULL, make_condition_true, NULL), 0);
    while (!condition)
        cond_wait(&signalled, &middle);
    lock_release(&middle);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static unsigned woken, asleep;

static void *wait_for_condition(void *arg)
{
    lock_acquire(&middle);
    asleep++;
    while (!condition)
        cond_wait(&signalled, &middle);
    woken++;
    lock_release(&middle);
    return arg;
}

Test(sync, a_broadcast_wakes_all_that_wait, .init = init_locks)
{
    pthread_t thread[8];

    cond_init(&signalled);
    for (size_t i = 0; i < ARRAY_COUNT(thread); i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, wait_for_condition, NULL), 0);
    for (bool all = false; !all;) {
        lock_acquire(&middle);
        all = asleep == ARRAY_COUNT(thread);
        condition = all;
        if (all)
            cond_broadcast(&signalled);
        lock_release(&middle);
    }
    for (size_t i = 0; i < ARRAY_COUNT(thread); i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(woken, ARRAY_COUNT(thread));
}

static uint64_t counter;

static void *count_up(void *arg)
{
    for (int i = 0; i < 100000; i++) {
        lock_acquire(&inner);
        counter++;
        lock_release(&inner);
    }
    return arg;
}

Test(sync, keeps_threads_apart_and_lets_each_of_them_in, .init = init_locks)
{
    pthread_t thread[4];

    for (size_t i = 0; i < ARRAY_COUNT(thread); i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, count_up, NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(thread); i++)
        cr_assert_eq(pthread_join(thread[i], NULL), 0);
    cr_assert_eq(counter, 400000);
    lock_fini(&inner); /* nobody is in */
}

/* ----------------------------------------------------------------------------------- guard -- */

/* Two pages of a file that is then cut to one: the second raises SIGBUS. */
static uint8_t *map, *lost;
static uint8_t memory[2 * PAGE_SIZE];

static void map_cut_file(void)
{
    char name[] = "/tmp/walrus-guard-XXXXXX";
    int fd = mkstemp(name);
    cr_assert_geq(fd, 0);
    cr_assert_eq(unlink(name), 0);
    cr_assert_eq(ftruncate(fd, 2 * PAGE_SIZE), 0);
    map = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq((void *)map, MAP_FAILED);
    cr_assert_eq(ftruncate(fd, PAGE_SIZE), 0);
    lost = map + PAGE_SIZE;
}

static void install_over_default(void)
{
    map_cut_file();
    signal(SIGBUS, SIG_DFL); /* a sanitizer has one of its own */
    guard_install();
}

/* Keeps the compiler from knowing where the byte lies. */
static uint8_t load(const uint8_t *at)
{
    return *(const volatile uint8_t *)at;
}

Test(guard, passes_good_accesses_through, .init = install_over_default)
{
    uint32_t crc = 0;

    cr_assert_eq(guard_store(map, "head", 4, "data", 4), 0);
    cr_assert_arr_eq(map, "headdata", 8);
    cr_assert_eq(guard_copy(memory, map, 8), 0);
    cr_assert_arr_eq(memory, "headdata", 8);
    cr_assert_eq(guard_crc(&crc, 5, map, 8), 0);
    cr_assert_eq(crc, crc32c(5, "headdata", 8));
    cr_assert_eq(guard_store(map, "HEAD", 4, NULL, 0), 0);
    cr_assert_arr_eq(map, "HEADdata", 8);
    cr_assert_eq(guard_copy(map, NULL, 0), 0);
}

Test(guard, stores_records_that_span_pages, .init = install_over_default)
{
    static uint8_t data[2 * PAGE_SIZE], to[4 * PAGE_SIZE];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t at = PAGE_SIZE - 50; at <= PAGE_SIZE; at += 10) {
        memset(to, 0, sizeof(to));
        cr_assert_eq(guard_store(to + at, data + 1, 40, data, sizeof(data) - 40), 0);
        cr_assert_arr_eq(to + at, data + 1, 40);
        cr_assert_arr_eq(to + at + 40, data, sizeof(data) - 40);
        cr_assert(load(to + at - 1) == 0 && load(to + at + sizeof(data)) == 0);
    }
}

Test(guard, turns_a_load_behind_the_end_into_eio, .init = install_over_default)
{
    uint32_t crc = 99;

    cr_assert_eq(guard_copy(memory, lost, 1), -EIO);
    cr_assert_eq(guard_copy(memory, map, 2 * PAGE_SIZE), -EIO);
    cr_assert_eq(guard_copy(memory, lost + PAGE_SIZE - 1, 1), -EIO);
    cr_assert_eq(guard_crc(&crc, 0, map + 1, PAGE_SIZE), -EIO);
    cr_assert_eq(crc, 99, "the result is left alone on failure");
}

Test(guard, turns_a_store_behind_the_end_into_eio, .init = install_over_default)
{
    cr_assert_eq(guard_copy(lost, memory, 1), -EIO);
    cr_assert_eq(guard_store(lost, "head", 4, "data", 4), -EIO);
    cr_assert_eq(guard_store(lost - 4, "head", 4, "data", 4), -EIO);
}

Test(guard, stores_no_header_when_the_data_cannot_be_stored, .init = install_over_default)
{
    cr_assert_eq(guard_store(lost - 4, "head", 4, "data", 4), -EIO);
    cr_assert_arr_eq(lost - 4, "\0\0\0\0", 4);
}

Test(guard, works_again_after_each_fault, .init = install_over_default)
{
    sigset_t mask;

    for (int i = 0; i < 1000; i++) {
        cr_assert_eq(guard_copy(memory, lost, 8), -EIO);
        cr_assert_eq(guard_copy(memory, map, 8), 0);
    }
    cr_assert_eq(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
    cr_assert_not(sigismember(&mask, SIGBUS));
}

static void *fault_often(void *arg)
{
    uint8_t *own = arg;
    uintptr_t wrong = 0;
    for (int i = 0; i < 2000; i++) {
        wrong += guard_copy(own, lost, 16) != -EIO;
        wrong += guard_copy(own, map, 16) != 0;
    }
    return (void *)wrong;
}

Test(guard, keeps_the_faults_of_threads_apart, .init = install_over_default)
{
    pthread_t threads[4];
    uint8_t own[4][16];

    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, fault_often, own[i]), 0);
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        void *wrong = NULL;
        cr_assert_eq(pthread_join(threads[i], &wrong), 0);
        cr_assert_null(wrong);
    }
}

static void use_alternate_stack(void)
{
    static uint8_t memory_of_stack[1 << 16];
    stack_t stack = {.ss_sp = memory_of_stack, .ss_size = sizeof(memory_of_stack)};
    cr_assert_eq(sigaltstack(&stack, NULL), 0);
}

static void fault_in_handler(int sig)
{
    (void)sig;
    _exit(guard_copy(memory, lost, 8) == -EIO ? 7 : 8);
}

Test(guard, survives_a_fault_on_an_alternate_signal_stack, .init = install_over_default,
     .exit_code = 7)
{
    struct sigaction action = {.sa_handler = fault_in_handler, .sa_flags = SA_ONSTACK};

    use_alternate_stack();
    cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
}

/* The handler runs on a stack of its own and nothing is called between the two faults: what the
 * first left on the stack is still there, and a handler that still knew of it would jump back. */
Test(guard, lets_a_fault_outside_of_an_access_end_the_process, .init = install_over_default,
     .signal = SIGBUS)
{
    static volatile int times;

    use_alternate_stack();
    int r = guard_copy(memory, lost, 8);
    if (r != -EIO || ++times > 1)
        _exit(9);
    memory[0] = load(lost);
}

Test(guard, lets_a_sent_signal_end_the_process, .init = install_over_default, .signal = SIGBUS)
{
    raise(SIGBUS);
}

static void exit_if_right_address(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    child_exit(context && info->si_addr == lost + 5 ? 42 : 43);
}

Test(guard, hands_a_foreign_fault_to_the_handler_before_it, .init = map_cut_file, .exit_code = 42)
{
    struct sigaction action = {.sa_sigaction = exit_if_right_address, .sa_flags = SA_SIGINFO};

    cr_assert_eq(sigaction(SIGBUS, &action, NULL), 0);
    guard_install();
    guard_install(); /* again does nothing, or the handler would pass on to itself */
    cr_assert_eq(guard_copy(memory, lost, 8), -EIO);
    memory[0] = load(lost + 5);
}

static void exit_with_signal(int sig)
{
    child_exit(sig == SIGBUS ? 44 : 45);
}

Test(guard, hands_a_foreign_fault_to_an_old_style_handler, .init = map_cut_file, .exit_code = 44)
{
    signal(SIGBUS, exit_with_signal);
    guard_install();
    memory[0] = load(lost);
}

Test(guard, ignores_a_sent_signal_that_was_ignored_before, .init = map_cut_file)
{
    signal(SIGBUS, SIG_IGN);
    guard_install();
    raise(SIGBUS);
    cr_assert_eq(guard_copy(memory, lost, 8), -EIO);
}

/* --------------------------------------------------------------------- compiler, bytes, list -- */

Test(assertion, aborts, .signal = SIGABRT)
{
    WALRUS_ASSERT(memory[0] == 1);
}

Test(assertion, writes_one_line_that_names_the_place)
{
    int pipe_fds[2];
    char text[1024] = "";

    cr_assert_eq(pipe(pipe_fds), 0);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        dup2(pipe_fds[1], STDERR_FILENO);
        walrus_assert_fail("tail <= size", "append.c", 17);
    }
    close(pipe_fds[1]);
    ssize_t size = read(pipe_fds[0], text, sizeof(text) - 1);
    cr_assert_gt(size, 0);
    cr_assert_not_null(strstr(text, "append.c:17"));
    cr_assert_not_null(strstr(text, "tail <= size"));
    cr_assert_eq(strchr(text, '\n'), text + size - 1);
}

Test(bytes, lie_in_little_endian_order)
{
    struct le64 v = le64_put(0x0807060504030201);
    cr_assert_arr_eq(v.b, "\1\2\3\4\5\6\7\10", 8);
    cr_assert_eq(le64_get(v), 0x0807060504030201);
    cr_assert_arr_eq(le32_put(0xa1b2c3d4).b, "\xd4\xc3\xb2\xa1", 4);
    cr_assert_eq(le16_get((struct le16){{0x34, 0x12}}), 0x1234);
}

Test(rounding, goes_to_multiples)
{
    cr_assert_eq(round_up(0, 4096), 0);
    cr_assert_eq(round_up(1, 4096), 4096);
    cr_assert_eq(round_up(4096, 4096), 4096);
    cr_assert_eq(round_down(4095, 4096), 0);
    cr_assert_eq(round_down(4097, 4096), 4096);
}

struct item {
    int value;
    struct list node;
};

Test(list, keeps_order_and_allows_removal_in_the_loop)
{
    struct item items[4] = {{.value = 0}, {.value = 1}, {.value = 2}, {.value = 3}};
    struct list head;
    int expected = 0;

    list_init(&head);
    cr_assert(list_empty(&head));
    list_push_back(&head, &items[0].node);
    list_push_back(&head, &items[3].node);
    list_insert_before(&items[3].node, &items[1].node);
    list_insert_before(&items[3].node, &items[2].node);
    LIST_FOR_EACH(node, &head)
    {
        cr_assert_eq(LIST_ENTRY(node, struct item, node)->value, expected++);
        list_remove(node);
    }
    cr_assert_eq(expected, 4);
    cr_assert(list_empty(&head));
    list_remove(&items[2].node); /* a second time: allowed */
}
