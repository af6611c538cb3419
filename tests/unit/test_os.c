/* SPDX-License-Identifier: MIT */
/* test_os.c - what os.c makes of the oddities of system calls; and faultos, which shows them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "faultos.h"
#include "os.h"
#include "tmpdir.h"

static char *dir;
static int dirfd_, fd;

static void init(void)
{
    dir = tmpdir_create();
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY);
    cr_assert_geq(dirfd_, 0);
    faultos_install();
    fd = os_open(dirfd_, "file", O_RDWR | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    faultos_forget_counts();
}

static void fini(void)
{
    faultos_remove();
    close(fd);
    close(dirfd_);
    tmpdir_destroy(dir);
}

TestSuite(os, .init = init, .fini = fini);
TestSuite(faultos, .init = init, .fini = fini);

static uint8_t *bytes_of_file(size_t *ret_size)
{
    struct stat st;
    cr_assert_eq(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    cr_assert_eq(pread(fd, bytes, (size_t)st.st_size + 1, 0), st.st_size);
    *ret_size = (size_t)st.st_size;
    return bytes;
}

static void check_file(const void *expected, size_t expected_size)
{
    size_t size;
    uint8_t *bytes = bytes_of_file(&size);
    cr_assert_eq(size, expected_size);
    cr_assert_arr_eq(bytes, expected, size);
    free(bytes);
}

Test(os, opens_files_that_do_not_pass_to_children)
{
    cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

Test(os, returns_the_errno_of_what_failed)
{
    struct stat st;
    uint8_t *addr = (uint8_t *)1;

    cr_assert_eq(os_open(dirfd_, "absent", O_RDONLY, 0), -ENOENT);
    cr_assert_eq(os_close(1000000), -EBADF);
    cr_assert_eq(os_fstat(-1, &st), -EBADF);
    cr_assert_eq(os_truncate(-1, 0), -EBADF);
    cr_assert_eq(os_allocate(-1, 0, 1), -EBADF);
    cr_assert_eq(os_punch(-1, 0, 1), -EBADF);
    cr_assert_eq(os_read(-1, &st, 1, 0), -EBADF);
    cr_assert_eq(os_write(-1, "x", 1, 0, false), -EBADF);
    cr_assert_eq(os_zero(-1, 0, 1), -EBADF);
    cr_assert_eq(os_map(-1, 4096, false, &addr), -EBADF);
    cr_assert_eq(addr, (uint8_t *)1, "the result is left alone on failure");
    cr_assert_eq(os_fsync(-1), -EBADF);
    cr_assert_eq(os_fdatasync(-1), -EBADF);
    cr_assert_eq(os_rename(dirfd_, "absent", "other"), -ENOENT);
    cr_assert_eq(os_unlink(dirfd_, "absent"), -ENOENT);
    cr_assert_eq(os_mkdir(dirfd_, "file", 0700), -EEXIST);
    cr_assert_eq(os_seek_data(fd, 0), -ENXIO);
}

Test(os, close_of_no_file_does_nothing)
{
    cr_assert_eq(os_close(-1), 0);
    cr_assert_eq(faultos_count(FAULTOS_CLOSE), 0);
}

Test(os, an_interrupted_close_is_not_repeated)
{
    int other = os_open(dirfd_, "file", O_RDONLY, 0);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_CLOSE, .nth = 1, .error = EINTR});
    cr_assert_eq(os_close(other), 0);
    cr_assert_eq(faultos_count(FAULTOS_CLOSE), 1);
}

Test(os, every_other_interrupted_call_is_repeated)
{
    struct stat st;
    char buf[4];
    uint8_t *addr = NULL;

    for (enum faultos_kind kind = 0; kind < FAULTOS_KIND_COUNT; kind++)
        if (kind != FAULTOS_CLOSE && kind != FAULTOS_MAP && kind != FAULTOS_UNMAP) {
            faultos_disarm();
            faultos_arm(&(struct faultos_rule){.kind = kind, .nth = 1, .error = EINTR});
            faultos_forget_counts();
            int other = os_open(dirfd_, "file", O_RDWR, 0);
            cr_assert_geq(other, 0);
            cr_assert_eq(os_mkdir(dirfd_, "sub", 0700), 0);
            cr_assert_eq(rmdir(strcat(strcpy((char[PATH_MAX]){0}, dir), "/sub")), 0);
            cr_assert_eq(os_truncate(other, 0), 0);
            cr_assert_eq(os_allocate(other, 0, 8192), 0);
            cr_assert_eq(os_write(other, "abcd", 4, 0, false), 0);
            cr_assert_eq(os_write(other, "efgh", 4, 4, true), 0);
            cr_assert_eq(os_read(other, buf, 4, 2), 4);
            cr_assert_arr_eq(buf, "cdef", 4);
            cr_assert_eq(os_punch(other, 4096, 4096), 0);
            cr_assert_eq(os_seek_data(other, 0), 0);
            cr_assert_eq(os_fstat(other, &st), 0);
            cr_assert_eq(st.st_size, 8192);
            cr_assert_eq(os_map(other, 8192, false, &addr), 0);
            cr_assert_eq(os_msync(addr, 0, 8192), 0);
            os_unmap(addr, 8192);
            cr_assert_eq(os_fsync(other), 0);
            cr_assert_eq(os_fdatasync(other), 0);
            cr_assert_eq(os_rename(dirfd_, "file", "moved"), 0);
            cr_assert_eq(os_close(os_open(dirfd_, "extra", O_RDWR | O_CREAT, 0600)), 0);
            cr_assert_eq(os_unlink(dirfd_, "extra"), 0);
            cr_assert_eq(os_rename(dirfd_, "moved", "file"), 0);
            cr_assert_eq(os_close(other), 0);
            cr_assert_eq(faultos_failed_count(), 1, "kind %d", (int)kind);
        }
}

Test(os, write_goes_on_after_short_transfers)
{
    faultos_limit_transfer(3);
    cr_assert_eq(os_write(fd, "ten bytes.", 10, 2, false), 0);
    cr_assert_eq(faultos_count(FAULTOS_WRITE), 4);
    check_file("\0\0ten bytes.", 12);
}

Test(os, writev_goes_on_in_the_middle_of_a_vector)
{
    struct iovec iov[] = {{"", 0}, {"abcde", 5}, {"", 0}, {"fg", 2}, {"hijk", 4}, {"", 0}};
    faultos_limit_transfer(3);
    cr_assert_eq(os_writev(fd, iov, 6, 0, true), 0);
    cr_assert_eq(faultos_count(FAULTOS_WRITE), 0);
    cr_assert_eq(faultos_count(FAULTOS_WRITE_DURABLE), 5); /* abc de fg hij k */
    check_file("abcdefghijk", 11);
}

Test(os, writev_takes_more_vectors_than_the_system)
{
    const int count = IOV_MAX + 10;
    struct iovec *iov = calloc((size_t)count, sizeof(*iov));
    char *expected = malloc((size_t)count);

    for (int i = 0; i < count; i++) {
        iov[i] = (struct iovec){&expected[i], 1};
        expected[i] = (char)('a' + i % 26);
    }
    cr_assert_eq(os_writev(fd, iov, count, 0, false), 0);
    check_file(expected, (size_t)count);
    free(iov);
    free(expected);
}

Test(os, a_write_of_nothing_makes_no_call)
{
    cr_assert_eq(os_write(fd, NULL, 0, 0, true), 0);
    cr_assert_eq(os_zero(fd, 0, 0), 0);
    cr_assert_eq(os_msync((uint8_t *)4096, 0, 0), 0);
    cr_assert_eq(faultos_count(FAULTOS_ANY), 0);
}

static ssize_t write_nothing(int file, const struct iovec *iov, int count, off_t off, int flags)
{
    (void)file, (void)iov, (void)count, (void)off, (void)flags;
    return 0;
}

Test(os, a_write_that_makes_no_progress_fails)
{
    struct os_ops ops = os_system;
    ops.pwritev2 = write_nothing;
    os = &ops;
    cr_assert_eq(os_write(fd, "x", 1, 0, false), -EIO);
    os = &os_system;
}

Test(os, a_write_that_fails_in_the_middle_fails)
{
    faultos_limit_transfer(4);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE, .nth = 2, .error = ENOSPC});
    cr_assert_eq(os_write(fd, "12345678", 8, 0, false), -ENOSPC);
}

Test(os, read_is_short_only_at_the_end_of_the_file)
{
    char buf[16];
    cr_assert_eq(os_write(fd, "0123456789", 10, 0, false), 0);
    faultos_limit_transfer(3);
    cr_assert_eq(os_read(fd, buf, 10, 0), 10);
    cr_assert_arr_eq(buf, "0123456789", 10);
    cr_assert_eq(os_read(fd, buf, sizeof(buf), 6), 4);
    cr_assert_arr_eq(buf, "6789", 4);
    cr_assert_eq(os_read(fd, buf, sizeof(buf), 10), 0);
}

static size_t largest_write;

static ssize_t note_write(int file, const struct iovec *iov, int count, off_t off, int flags)
{
    largest_write = MAX(largest_write, iov->iov_len);
    return os_system.pwritev2(file, iov, count, off, flags);
}

Test(os, zero_overwrites_in_pieces_of_at_most_256_kib)
{
    struct os_ops ops = os_system;
    uint8_t *expected = malloc(500000);

    memset(expected, 0xaa, 500000);
    cr_assert_eq(os_write(fd, expected, 500000, 0, false), 0);
    memset(expected + 1000, 0, 400000);
    ops.pwritev2 = note_write;
    os = &ops;
    cr_assert_eq(os_zero(fd, 1000, 400000), 0);
    os = &os_system;
    cr_assert_eq(largest_write, 262144);
    check_file(expected, 500000);
    free(expected);
}

Test(os, allocate_takes_disk_space_and_keeps_what_is_there)
{
    struct stat st;
    cr_assert_eq(os_write(fd, "kept", 4, 0, false), 0);
    cr_assert_eq(os_allocate(fd, 0, 1 << 20), 0);
    cr_assert_eq(os_fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 1 << 20);
    cr_assert_geq(st.st_blocks * 512, 1 << 20);
    size_t size;
    uint8_t *bytes = bytes_of_file(&size);
    cr_assert_arr_eq(bytes, "kept\0", 5);
    free(bytes);
}

Test(os, allocate_writes_zeros_where_the_filesystem_cannot_allocate)
{
    struct stat st;
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ALLOCATE, .nth = 1, .error = EOPNOTSUPP, .forever = true});
    cr_assert_eq(os_allocate(fd, 4096, 300000), 0);
    cr_assert_eq(os_fstat(fd, &st), 0);
    cr_assert_eq(st.st_size, 304096);
    cr_assert_eq(faultos_count(FAULTOS_WRITE), 2);
}

Test(os, allocate_reports_a_full_disk)
{
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ALLOCATE, .nth = 1, .error = ENOSPC});
    cr_assert_eq(os_allocate(fd, 0, 4096), -ENOSPC);
    cr_assert_eq(faultos_count(FAULTOS_WRITE), 0);
}

Test(os, punch_gives_space_back_and_keeps_the_size)
{
    struct stat before, after;
    char byte = 'x';
    cr_assert_eq(os_zero(fd, 0, 1 << 20), 0);
    cr_assert_eq(os_write(fd, "mark", 4, 8192, false), 0);
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(os_fstat(fd, &before), 0);
    cr_assert_eq(os_punch(fd, 4096, 1 << 20), 0); /* reaches behind the end */
    cr_assert_eq(os_fstat(fd, &after), 0);
    cr_assert_eq(after.st_size, 1 << 20);
    cr_assert_lt(after.st_blocks, before.st_blocks);
    cr_assert_eq(os_read(fd, &byte, 1, 8192), 1);
    cr_assert_eq(byte, 0);
    cr_assert_eq(os_seek_data(fd, 4096), -ENXIO);
    cr_assert_eq(os_seek_data(fd, 0), 0);
}

Test(os, a_mapping_and_the_file_are_the_same_bytes)
{
    uint8_t *addr = NULL;
    char byte = 0;
    cr_assert_eq(os_truncate(fd, 8192), 0);
    cr_assert_eq(os_map(fd, 8192, true, &addr), 0);
    addr[5000] = 'm';
    cr_assert_eq(os_read(fd, &byte, 1, 5000), 1);
    cr_assert_eq(byte, 'm');
    cr_assert_eq(os_msync(addr, 5000, 1), 0);
    os_unmap(addr, 8192);
    os_unmap(NULL, 0);
}

static uint8_t *synced_addr;
static size_t synced_size;

static int note_msync(void *addr, size_t size)
{
    synced_addr = addr;
    synced_size = size;
    return 0;
}

Test(os, msync_covers_whole_pages)
{
    struct os_ops ops = os_system;
    uint8_t *base = (uint8_t *)(uintptr_t)0x100000;

    ops.msync = note_msync;
    os = &ops;
    cr_assert_eq(os_msync(base, 4095, 2), 0);
    cr_assert_eq(synced_addr, base);
    cr_assert_eq(synced_size, 8192);
    cr_assert_eq(os_msync(base, 8192, 4096), 0);
    cr_assert_eq(synced_addr, base + 8192);
    cr_assert_eq(synced_size, 4096);
    os = &os_system;
}

/* ---------------------------------------------------------------------------------- faultos -- */

Test(faultos, fails_the_nth_call_of_a_kind_once)
{
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = 2, .error = EIO});
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(os_fdatasync(fd), 0);
    cr_assert_eq(os_fsync(fd), -EIO);
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(faultos_count(FAULTOS_FSYNC), 3);
    cr_assert_eq(faultos_count(FAULTOS_ANY_SYNC), 4);
    cr_assert_eq(faultos_count(FAULTOS_ANY), 4);
    cr_assert_eq(faultos_failed_count(), 1);
}

Test(faultos, fails_for_ever_until_it_is_disarmed)
{
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_ANY, .nth = 2, .error = ENOSPC, .forever = true});
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(os_write(fd, "x", 1, 0, false), -ENOSPC);
    cr_assert_eq(os_truncate(fd, 0), -ENOSPC);
    faultos_disarm();
    cr_assert_eq(os_write(fd, "x", 1, 0, false), 0);
    cr_assert_eq(faultos_failed_count(), 2);
}

Test(faultos, fails_calls_on_one_file_alone)
{
    uint8_t *addr = NULL;
    int other = os_open(dirfd_, "other.db", O_RDWR | O_CREAT, 0600);

    cr_assert_eq(os_truncate(other, 4096), 0);
    cr_assert_eq(os_map(other, 4096, true, &addr), 0);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .forever = true, .file = "*.db"});
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(os_fsync(other), -EIO);
    cr_assert_eq(os_fdatasync(other), -EIO);
    cr_assert_eq(os_msync(addr, 0, 1), -EIO);
    cr_assert_eq(os_write(other, "x", 1, 0, true), -EIO);
    cr_assert_eq(os_write(other, "x", 1, 0, false), 0);
    cr_assert_eq(os_rename(dirfd_, "other.db", "calm"), 0);
    cr_assert_eq(os_fsync(other), 0, "the name counts that the file has now");
    os_unmap(addr, 4096);
    cr_assert_eq(os_close(other), 0);
}

Test(faultos, counts_the_bytes_read_of_each_file)
{
    char buf[100];
    int other = os_open(dirfd_, "wal_2.log", O_RDWR | O_CREAT, 0600);

    cr_assert_eq(os_zero(fd, 0, 50), 0);
    cr_assert_eq(os_zero(other, 0, 1000), 0);
    cr_assert_eq(os_rename(dirfd_, "file", "wal_1.log"), 0);
    cr_assert_eq(os_read(fd, buf, 100, 0), 50);
    cr_assert_eq(os_read(other, buf, 100, 0), 100);
    cr_assert_eq(os_read(other, buf, 20, 0), 20);
    cr_assert_eq(faultos_read_bytes("wal_*.log"), 170);
    cr_assert_eq(faultos_read_bytes_max("wal_*.log"), 120);
    cr_assert_eq(faultos_read_bytes("wal_1.log"), 50);
    cr_assert_eq(faultos_read_bytes("topics.db"), 0);
    cr_assert_eq(os_close(other), 0);
}

Test(faultos, closes_also_when_close_fails)
{
    int other = os_open(dirfd_, "file", O_RDONLY, 0);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_CLOSE, .nth = 1, .error = EIO});
    cr_assert_eq(os_close(other), -EIO);
    cr_assert_eq(fcntl(other, F_GETFD), -1);
}

static void note_sync(void *arg, const char *file)
{
    int *calls = arg;
    ++*calls;
    cr_assert_str_eq(file, "file");
}

Test(faultos, calls_the_hook_before_each_sync)
{
    int calls = 0;
    faultos_on_sync(note_sync, &calls);
    cr_assert_eq(os_fsync(fd), 0);
    cr_assert_eq(os_write(fd, "x", 1, 0, true), 0);
    cr_assert_eq(os_write(fd, "x", 1, 0, false), 0);
    cr_assert_eq(calls, 2);
}

Test(tmpdir, is_fresh_and_goes_with_all_in_it)
{
    char *first = tmpdir_create(), *second = tmpdir_create();
    char path[PATH_MAX];

    cr_assert_str_neq(first, second);
    snprintf(path, sizeof(path), "%s/sub", first);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/sub/link", first);
    cr_assert_eq(symlink(second, path), 0);
    snprintf(path, sizeof(path), "%s", first);
    tmpdir_destroy(first);
    cr_assert_eq(access(path, F_OK), -1);
    cr_assert_eq(access(second, F_OK), 0, "links are not followed");
    tmpdir_destroy(second);
}
