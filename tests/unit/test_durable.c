/* SPDX-License-Identifier: MIT */
/* test_durable.c - a sync is good when the description of the file that it had to itself says so. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "durable.h"
#include "faultos.h"
#include "tmpdir.h"

#define FILE_SIZE 65536u

static struct durable durable;
static char *dir;
static int dirfd, fd;
static uint8_t *map;

static void init(void)
{
    dir = tmpdir_create();
    dirfd = open(dir, O_RDONLY | O_DIRECTORY);
    cr_assert_geq(dirfd, 0);
    fd = openat(dirfd, "file", O_RDWR | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ftruncate(fd, FILE_SIZE), 0);
    map = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(map, MAP_FAILED);
    durable_init(&durable);
    durable_attach(&durable, dirfd, "file", fd, map, FILE_SIZE);
}

static void fini(void)
{
    durable_fini(&durable);
    cr_assert_eq(munmap(map, FILE_SIZE), 0);
    cr_assert_eq(close(fd), 0);
    cr_assert_eq(close(dirfd), 0);
    tmpdir_destroy(dir);
}

/* A sync that begins in a thread of its own, which may have to wait for that. */
struct beginning {
    pthread_t thread;
    const struct durable_view *view; /* valid when begun */
    atomic_bool begun;
};

static void *begin_in_thread(void *arg)
{
    struct beginning *beginning = arg;
    beginning->view = durable_begin(&durable);
    atomic_store(&beginning->begun, true);
    return NULL;
}

static uint32_t waiting_count(void)
{
    return atomic_load(&durable.cond.waiting);
}

/* Returns when the sync has begun, or waits to. */
static void start_beginning(struct beginning *beginning)
{
    uint32_t before = waiting_count();
    atomic_store(&beginning->begun, false);
    cr_assert_eq(pthread_create(&beginning->thread, NULL, begin_in_thread, beginning), 0);
    while (!atomic_load(&beginning->begun) && waiting_count() == before)
        sched_yield();
}

static const struct durable_view *view_of(struct beginning *beginning)
{
    cr_assert_eq(pthread_join(beginning->thread, NULL), 0);
    return beginning->view;
}

static void wait_a_moment(void)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    cr_assert_eq(nanosleep(&moment, NULL), 0);
}

/* Leaves the file with a second view, both free. */
static void make_second_view(void)
{
    struct beginning second;
    const struct durable_view *first = durable_begin(&durable);
    start_beginning(&second);
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(view_of(&second), first);
    cr_assert_eq(durable_end(&durable, second.view, 0), 0);
}

Test(durable, a_sync_alone_is_what_it_says, .init = init, .fini = fini)
{
    cr_assert_eq(durable_end(&durable, durable_begin(&durable), 0), 0);
    cr_assert_eq(durable_error(&durable), 0);
    cr_assert_eq(durable_end(&durable, durable_begin(&durable), -ENOSPC), -EIO);
    cr_assert_eq(durable_error(&durable), -EIO);
}

Test(durable, no_sync_succeeds_after_a_failed_one, .init = init, .fini = fini)
{
    cr_assert_eq(durable_end(&durable, durable_begin(&durable), -EIO), -EIO);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(durable_end(&durable, durable_begin(&durable), 0), -EIO);
    cr_assert_eq(durable_error(&durable), -EIO);
}

Test(durable, a_sync_alone_uses_what_the_file_was_attached_with, .init = init, .fini = fini)
{
    for (int i = 0; i < 3; i++) {
        const struct durable_view *view = durable_begin(&durable);
        cr_assert_eq(view->fd, fd);
        cr_assert_eq(view->map, map);
        cr_assert_eq(durable_end(&durable, view, 0), 0);
    }
}

Test(durable, no_two_syncs_share_a_description, .init = init, .fini = fini, .timeout = 300)
{
    struct beginning second;
    const struct durable_view *first = durable_begin(&durable);

    start_beginning(&second);
    wait_a_moment();
    cr_assert_not(atomic_load(&second.begun));
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(durable_end(&durable, view_of(&second), 0), 0);
}

Test(durable, a_view_is_opened_when_a_thread_had_to_wait_and_is_of_the_same_file, .init = init,
     .fini = fini, .timeout = 300)
{
    struct stat a, b;

    make_second_view();
    const struct durable_view *first = durable_begin(&durable), *other = durable_begin(&durable);
    cr_assert_eq(first->fd, fd);
    cr_assert_neq(other->fd, fd);
    cr_assert_eq(fstat(fd, &a), 0);
    cr_assert_eq(fstat(other->fd, &b), 0);
    cr_assert_eq(a.st_ino, b.st_ino);
    map[5000] = 7;
    cr_assert_eq(other->map[5000], 7);
    cr_assert_eq(msync(other->map, FILE_SIZE, MS_SYNC), 0);
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(durable_end(&durable, other, 0), 0);
}

/* The kernel does not tell a description of errors that were told before it was opened. */
Test(durable, a_new_view_is_used_only_after_the_first_one_has_synced_once_more, .init = init,
     .fini = fini, .timeout = 300)
{
    struct beginning second, third;
    const struct durable_view *first = durable_begin(&durable);

    start_beginning(&second);
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(view_of(&second), first); /* and has opened another by now */
    start_beginning(&third);
    wait_a_moment();
    cr_assert_not(atomic_load(&third.begun));
    cr_assert_eq(durable_end(&durable, second.view, -EIO), -EIO);
    cr_assert_eq(durable_end(&durable, view_of(&third), 0), -EIO);
}

Test(durable, a_failure_of_one_view_is_that_of_the_file, .init = init, .fini = fini, .timeout = 300)
{
    make_second_view();
    const struct durable_view *first = durable_begin(&durable), *other = durable_begin(&durable);
    cr_assert_eq(durable_end(&durable, other, -EIO), -EIO);
    cr_assert_eq(durable_end(&durable, first, 0), -EIO);
    cr_assert_eq(durable_error(&durable), -EIO);
}

Test(durable, a_failure_after_the_success_was_told_does_not_change_it, .init = init, .fini = fini,
     .timeout = 300)
{
    make_second_view();
    const struct durable_view *first = durable_begin(&durable), *other = durable_begin(&durable);
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(durable_error(&durable), 0);
    cr_assert_eq(durable_end(&durable, other, -EIO), -EIO);
}

Test(durable, views_that_were_not_needed_are_closed, .init = init, .fini = fini, .timeout = 300)
{
    make_second_view();
    const struct durable_view *first = durable_begin(&durable), *other = durable_begin(&durable);
    durable_trim(&durable); /* neither now, nor at the first time after it was used */
    cr_assert_eq(durable_end(&durable, first, 0), 0);
    cr_assert_eq(durable_end(&durable, other, 0), 0);
    int other_fd = other->fd;
    cr_assert_neq(fcntl(other_fd, F_GETFD), -1);
    durable_trim(&durable);
    cr_assert_eq(fcntl(other_fd, F_GETFD), -1);
    cr_assert_eq(durable.count, 1);
    make_second_view();
    cr_assert_eq(durable.count, 2);
}

/* What stands in the way of another view: syncs wait for one another, and that is all. */
static void share_one_view(void)
{
    make_second_view();
    cr_assert_eq(durable.count, 1);
    cr_assert_eq(durable_end(&durable, durable_begin(&durable), 0), 0);
}

Test(durable, without_a_descriptor_or_room_for_another_view_there_is_one, .init = init,
     .fini = fini, .timeout = 300)
{
    const enum faultos_kind kinds[] = {FAULTOS_OPEN, FAULTOS_STAT, FAULTOS_MAP};

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int open_before = dup(fd);
        cr_assert_eq(close(open_before), 0);
        faultos_install();
        faultos_arm(
            &(struct faultos_rule){.kind = kinds[i], .nth = 1, .error = EMFILE, .forever = true});
        share_one_view();
        cr_assert_geq(faultos_failed_count(), 1);
        faultos_remove();
        int open_after = dup(fd);
        cr_assert_eq(open_after, open_before); /* none was left open */
        cr_assert_eq(close(open_after), 0);
    }
}

Test(durable, the_upper_half_of_the_descriptors_is_for_others, .init = init, .fini = fini,
     .timeout = 300)
{
    struct rlimit limit;

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)fd + 2; /* the next one lies above a half */
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    share_one_view();
}

Test(durable, another_file_under_its_name_is_not_taken_for_it, .init = init, .fini = fini,
     .timeout = 300)
{
    cr_assert_eq(renameat(dirfd, "file", dirfd, "away"), 0);
    cr_assert_eq(close(openat(dirfd, "file", O_RDWR | O_CREAT, 0600)), 0);
    share_one_view();
}

#define THREAD_COUNT 8
#define ROUND_COUNT  2000

static void *sync_often(void *arg)
{
    uintptr_t failed = 0;
    (void)arg;
    for (int i = 0; i < ROUND_COUNT; i++) {
        const struct durable_view *view = durable_begin(&durable);
        if (i % 16 == 0)
            sched_yield();
        failed += durable_end(&durable, view, 0) != 0;
        if (i % 128 == 0)
            durable_trim(&durable);
    }
    return (void *)failed;
}

Test(durable, many_threads_never_wait_in_a_circle, .init = init, .fini = fini, .timeout = 300)
{
    pthread_t threads[THREAD_COUNT];

    for (size_t i = 0; i < THREAD_COUNT; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, sync_often, NULL), 0);
    for (size_t i = 0; i < THREAD_COUNT; i++) {
        void *failed = NULL;
        cr_assert_eq(pthread_join(threads[i], &failed), 0);
        cr_assert_null(failed);
    }
}
