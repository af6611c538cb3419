/* SPDX-License-Identifier: MIT */
/*
 * disk.c - the directory in memory of sim.h, and the record of what changes in it.
 *
 * There is one; only the thread whose turn it is comes here.  A call that the engine should never
 * make, or a file that outgrows its room, ends the program.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "os.h"
#include "rig.h"
#include "sim.h"

enum { FD_FIRST = 1000, FD_MAX = 64, ROOT = -1, CLOSED = -2 };

struct stream {
    unsigned next;
    struct dirent entry;
};

static struct sim_file files[SIM_FILES];
static uint8_t *shadows[SIM_FILES]; /* of mapped files, as the record has them */
static unsigned file_count;
static struct sim_names names;
static int fds[FD_MAX];
static unsigned fd_count, map_count;
static struct sim_log *recording;
static unsigned call_now;
static bool call_inside;
static uint64_t call_count, fail_nth;
static int fail_error;
static bool fail_forever;

/* ------------------------------------------------------------------------------------ record -- */

static struct sim_event *event_add(enum sim_kind kind, unsigned file, uint64_t off, uint64_t size)
{
    struct sim_log *log = recording;

    if (log->count == log->room) {
        log->room = log->room > 0 ? 2 * log->room : 1024;
        log->events = realloc(log->events, log->room * sizeof(log->events[0]));
        CHECK(log->events != NULL);
    }
    struct sim_event *event = &log->events[log->count++];
    memset(event, 0, sizeof(*event));
    event->kind = kind;
    event->file = file;
    event->off = off;
    event->size = size;
    event->call = call_now;
    event->inside = call_inside;
    return event;
}

static void event_data(struct sim_event *event, const void *data, size_t size)
{
    struct sim_log *log = recording;

    if (log->size + size > log->bytes_room) {
        log->bytes_room = 2 * (log->size + size);
        log->bytes = realloc(log->bytes, log->bytes_room);
        CHECK(log->bytes != NULL);
    }
    memcpy(log->bytes + log->size, data, size);
    event->data = log->size;
    log->size += size;
}

static void store_found(unsigned number, size_t page)
{
    struct sim_file *file = &files[number];
    uint8_t *shadow = shadows[number];

    for (size_t off = page * SIM_PAGE; off < (page + 1) * SIM_PAGE; off += SIM_SECTOR) {
        if (memcmp(file->data + off, shadow + off, SIM_SECTOR) == 0)
            continue;
        struct sim_event *event = event_add(SIM_STORE, number, off, SIM_SECTOR);
        event->outside = !file->allocated[page];
        event_data(event, file->data + off, SIM_SECTOR);
        memcpy(shadow + off, file->data + off, SIM_SECTOR);
        file->touched[page] = 1;
    }
}

/* Writes down what was stored through mappings since it was called last; `all`: also where nobody
 * should have stored. */
static void capture(bool all)
{
    for (unsigned i = 0; recording != NULL && i < file_count; i++)
        for (size_t page = 0; files[i].mapped && page < SIM_PAGES; page++)
            if ((all || files[i].allocated[page]) &&
                memcmp(files[i].data + page * SIM_PAGE, shadows[i] + page * SIM_PAGE, SIM_PAGE) !=
                    0)
                store_found(i, page);
}

static void shadow_write(unsigned number, uint64_t off, uint64_t size)
{
    if (recording != NULL && files[number].mapped)
        memcpy(shadows[number] + off, files[number].data + off, size);
}

static void shadow_make(unsigned number)
{
    if (shadows[number] == NULL)
        shadows[number] = malloc(SIM_ROOM);
    CHECK(shadows[number] != NULL);
    memcpy(shadows[number], files[number].data, SIM_ROOM);
}

void sim_record(struct sim_log *log)
{
    recording = log;
    for (unsigned i = 0; log != NULL && i < file_count; i++)
        if (files[i].mapped)
            shadow_make(i);
}

void sim_call(unsigned call, bool inside)
{
    if (recording != NULL)
        capture(false);
    call_now = call;
    call_inside = inside;
}

void sim_mark(void)
{
    if (recording == NULL)
        return;
    capture(true);
    (void)event_add(SIM_MARK, 0, 0, 0);
}

void sim_log_free(struct sim_log *log)
{
    free(log->events);
    free(log->bytes);
    memset(log, 0, sizeof(*log));
}

/* ------------------------------------------------------------------------------------- files -- */

struct sim_file *sim_file_at(unsigned number)
{
    return number < file_count && files[number].data != NULL ? &files[number] : NULL;
}

const struct sim_names *sim_directory(void)
{
    return &names;
}

unsigned sim_open_count(void)
{
    return fd_count + map_count;
}

void sim_clear(void)
{
    CHECK_INT(sim_open_count(), 0);
    for (unsigned i = 0; i < file_count; i++) {
        struct sim_file *file = &files[i];
        for (size_t page = 0; page < SIM_PAGES; page++)
            if (file->touched[page])
                memset(file->data + page * SIM_PAGE, 0, SIM_PAGE);
        memset(file->touched, 0, sizeof(file->touched));
        memset(file->allocated, 0, sizeof(file->allocated));
        file->size = 0;
        file->mapped = 0;
    }
    file_count = 0;
    names.count = 0;
}

static int name_find(const char *text)
{
    for (unsigned i = 0; i < names.count; i++)
        if (strcmp(names.at[i].text, text) == 0)
            return (int)i;
    return -1;
}

static void name_set(const char *text, unsigned file)
{
    int at = name_find(text);

    if (at < 0) {
        CHECK(names.count < SIM_NAMES && strlen(text) < SIM_NAME_SIZE);
        at = (int)names.count++;
        strcpy(names.at[at].text, text);
    }
    names.at[at].file = file;
}

static void name_drop(const char *text)
{
    int at = name_find(text);

    if (at >= 0)
        names.at[at] = names.at[--names.count];
}

struct sim_file *sim_make(unsigned number, const char *name)
{
    CHECK(number < SIM_FILES);
    if (files[number].data == NULL) {
        files[number].data =
            mmap(NULL, SIM_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(files[number].data != MAP_FAILED);
    }
    if (number >= file_count)
        file_count = number + 1;
    if (name != NULL)
        name_set(name, number);
    return &files[number];
}

/* Marks what [off, off + size) touches. */
static void touch(struct sim_file *file, uint64_t off, uint64_t size)
{
    for (uint64_t page = off / SIM_PAGE; page * SIM_PAGE < off + size; page++)
        file->touched[page] = file->allocated[page] = 1;
}

/* -------------------------------------------------------------------------------- descriptors -- */

static int fd_new(int what)
{
    for (int i = 0; i < FD_MAX; i++)
        if (i >= (int)(sizeof(fds) / sizeof(fds[0])) || fds[i] == 0) {
            fds[i] = what == ROOT ? ROOT : what + 1;
            fd_count++;
            return FD_FIRST + i;
        }
    CHECK(!"descriptors are enough");
}

/* The file of a descriptor, or ROOT. */
static int fd_file(int fd)
{
    CHECK(fd >= FD_FIRST && fd < FD_FIRST + FD_MAX && fds[fd - FD_FIRST] != 0);
    int what = fds[fd - FD_FIRST];
    return what == ROOT ? ROOT : what - 1;
}

static struct sim_file *fd_regular(int fd, unsigned *ret_number)
{
    int number = fd_file(fd);

    CHECK(number >= 0);
    *ret_number = (unsigned)number;
    return &files[number];
}

static int fail(int error)
{
    errno = error;
    return -1;
}

void sim_fail(uint64_t nth, int error, bool forever)
{
    call_count = 0;
    fail_nth = nth;
    fail_error = error;
    fail_forever = forever;
}

uint64_t sim_call_count(void)
{
    return call_count;
}

/* This call fails, and is not made. */
static bool fails(void)
{
    call_count++;
    if (fail_nth == 0 || call_count < fail_nth || (call_count > fail_nth && !fail_forever))
        return false;
    errno = fail_error;
    return true;
}

/* A change is about to be made: it is somebody's turn, and stores so far came before. */
static void change_begin(void)
{
    sim_turn();
    if (recording != NULL)
        capture(false);
}

static void resize(unsigned number, uint64_t size)
{
    struct sim_file *file = &files[number];

    CHECK(size <= SIM_ROOM);
    if (size < file->size) {
        memset(file->data + size, 0, file->size - size);
        shadow_write(number, size, file->size - size);
    }
    file->size = size;
    if (recording != NULL)
        (void)event_add(SIM_RESIZE, number, size, 0);
}

static int disk_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    if (fails())
        return -1;
    (void)mode;
    if (flags & O_DIRECTORY)
        return fd_new(ROOT);
    CHECK_INT(fd_file(dirfd), ROOT);
    int at = name_find(name);
    if (at < 0 && !(flags & O_CREAT))
        return fail(ENOENT);
    if (at >= 0 && flags & O_CREAT && flags & O_EXCL)
        return fail(EEXIST);
    if (at < 0) {
        change_begin();
        unsigned number = file_count;
        (void)sim_make(number, name);
        if (recording != NULL)
            strcpy(event_add(SIM_NAME, number, 0, 0)->name, name);
        return fd_new((int)number);
    }
    unsigned number = names.at[at].file;
    if (flags & O_TRUNC && files[number].size > 0) {
        change_begin();
        resize(number, 0);
    }
    return fd_new((int)number);
}

static int disk_close(int fd)
{
    (void)fd_file(fd);
    fds[fd - FD_FIRST] = 0; /* closed, whatever it says */
    fd_count--;
    return fails() ? -1 : 0;
}

static int disk_fstat(int fd, struct stat *st)
{
    if (fails())
        return -1;
    int number = fd_file(fd);

    memset(st, 0, sizeof(*st));
    st->st_mode = number == ROOT ? S_IFDIR | 0700 : S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_ino = (ino_t)(number + 2);
    st->st_size = number == ROOT ? 0 : (off_t)files[number].size;
    return 0;
}

static int disk_ftruncate(int fd, off_t size)
{
    if (fails())
        return -1;
    unsigned number;

    change_begin();
    (void)fd_regular(fd, &number);
    if (size > SIM_ROOM)
        return fail(EFBIG);
    resize(number, (uint64_t)size);
    return 0;
}

static int disk_fallocate(int fd, int mode, off_t at, off_t length)
{
    if (fails())
        return -1;
    unsigned number;
    uint64_t off = (uint64_t)at, end = off + (uint64_t)length;

    change_begin();
    struct sim_file *file = fd_regular(fd, &number);
    if (mode == 0) {
        CHECK(end <= SIM_ROOM);
        if (end > file->size)
            resize(number, end);
        return 0;
    }
    end = end < file->size ? end : file->size;
    if (off >= end)
        return 0;
    memset(file->data + off, 0, end - off);
    shadow_write(number, off, end - off);
    for (uint64_t page = (off + SIM_PAGE - 1) / SIM_PAGE; (page + 1) * SIM_PAGE <= end; page++)
        file->allocated[page] = 0;
    if (recording != NULL)
        (void)event_add(SIM_ZERO, number, off, end - off);
    return 0;
}

static ssize_t disk_pread(int fd, void *buf, size_t size, off_t off)
{
    if (fails())
        return -1;
    unsigned number;
    struct sim_file *file = fd_regular(fd, &number);
    uint64_t left = (uint64_t)off < file->size ? file->size - (uint64_t)off : 0;

    size = size < left ? size : left;
    memcpy(buf, file->data + off, size);
    return (ssize_t)size;
}

static ssize_t disk_pwritev2(int fd, const struct iovec *iov, int count, off_t at, int flags)
{
    if (fails())
        return -1;
    unsigned number;
    uint64_t off = (uint64_t)at, size = 0;

    change_begin();
    struct sim_file *file = fd_regular(fd, &number);
    for (int i = 0; i < count; i++) {
        CHECK(off + size + iov[i].iov_len <= SIM_ROOM);
        if (iov[i].iov_len > 0)
            memcpy(file->data + off + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    touch(file, off, size);
    shadow_write(number, off, size);
    if (off + size > file->size)
        resize(number, off + size);
    if (recording != NULL)
        event_data(event_add(SIM_WRITE, number, off, size), file->data + off, size);
    if (recording != NULL && flags & RWF_DSYNC)
        (void)event_add(SIM_SYNC, number, off, size);
    return (ssize_t)size;
}

static void *disk_mmap(int fd, size_t size, int prot)
{
    if (fails())
        return MAP_FAILED;
    unsigned number;
    struct sim_file *file = fd_regular(fd, &number);

    (void)prot;
    CHECK(size <= SIM_ROOM);
    file->mapped++;
    map_count++;
    if (recording != NULL && file->mapped == 1)
        shadow_make(number);
    return file->data;
}

static unsigned mapped_at(const void *addr, uint64_t *ret_off)
{
    for (unsigned i = 0; i < file_count; i++) {
        uint64_t off = (uint64_t)((uintptr_t)addr - (uintptr_t)files[i].data);
        if (files[i].mapped && off < SIM_ROOM) {
            *ret_off = off;
            return i;
        }
    }
    CHECK(!"the address is mapped");
}

static int disk_munmap(void *addr, size_t size)
{
    uint64_t off;

    (void)size;
    if (recording != NULL)
        capture(true);
    files[mapped_at(addr, &off)].mapped--; /* nobody uses it, whatever it says */
    map_count--;
    return fails() ? -1 : 0;
}

static int disk_msync(void *addr, size_t size)
{
    if (fails())
        return -1;
    uint64_t off;

    change_begin();
    unsigned number = mapped_at(addr, &off);
    if (recording != NULL)
        (void)event_add(SIM_SYNC, number, off, size);
    return 0;
}

static int disk_fsync(int fd)
{
    if (fails())
        return -1;
    change_begin();
    int number = fd_file(fd);
    if (recording == NULL)
        return 0;
    if (number == ROOT)
        (void)event_add(SIM_SYNC_DIR, 0, 0, 0);
    else
        (void)event_add(SIM_SYNC, (unsigned)number, 0, UINT64_MAX);
    return 0;
}

static int disk_renameat(int dirfd, const char *from, const char *to)
{
    if (fails())
        return -1;
    change_begin();
    CHECK_INT(fd_file(dirfd), ROOT);
    int at = name_find(from);
    if (at < 0)
        return fail(ENOENT);
    unsigned number = names.at[at].file;
    name_drop(from);
    name_set(to, number);
    if (recording != NULL) {
        struct sim_event *event = event_add(SIM_RENAME, number, 0, 0);
        strcpy(event->name, from);
        strcpy(event->to, to);
    }
    return 0;
}

static int disk_unlinkat(int dirfd, const char *name)
{
    if (fails())
        return -1;
    CHECK_INT(fd_file(dirfd), ROOT);
    if (name_find(name) < 0)
        return fail(ENOENT);
    change_begin();
    name_drop(name);
    if (recording != NULL)
        strcpy(event_add(SIM_UNLINK, 0, 0, 0)->name, name);
    return 0;
}

static int disk_mkdirat(int dirfd, const char *name, mode_t mode)
{
    if (fails())
        return -1;
    (void)dirfd;
    (void)name;
    (void)mode;
    return fail(EEXIST);
}

static off_t disk_lseek(int fd, off_t off, int whence)
{
    if (fails())
        return -1;
    unsigned number;
    struct sim_file *file = fd_regular(fd, &number);

    CHECK_INT(whence, SEEK_DATA);
    for (uint64_t page = (uint64_t)off / SIM_PAGE; page * SIM_PAGE < file->size; page++)
        if (file->allocated[page])
            return (off_t)((uint64_t)off > page * SIM_PAGE ? (uint64_t)off : page * SIM_PAGE);
    return fail(ENXIO);
}

const struct os_ops sim_ops = {
    .openat = disk_openat,
    .close = disk_close,
    .fstat = disk_fstat,
    .ftruncate = disk_ftruncate,
    .fallocate = disk_fallocate,
    .pread = disk_pread,
    .pwritev2 = disk_pwritev2,
    .mmap = disk_mmap,
    .munmap = disk_munmap,
    .msync = disk_msync,
    .fsync = disk_fsync,
    .fdatasync = disk_fsync,
    .renameat = disk_renameat,
    .unlinkat = disk_unlinkat,
    .mkdirat = disk_mkdirat,
    .lseek = disk_lseek,
};

/* ---------------------------------------------------- what the engine asks besides its table -- */

DIR *__wrap_fdopendir(int fd);
struct dirent *__wrap_readdir64(DIR *dir);
int __wrap_closedir(DIR *dir);
int __wrap_fstatfs64(int fd, struct statfs *ret_fs);
int __wrap_flock(int fd, int operation);

static int stream_fd;

DIR *__wrap_fdopendir(int fd)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    CHECK_INT(fd_file(fd), ROOT);
    CHECK(stream != NULL);
    stream_fd = fd;
    return (DIR *)stream;
}

struct dirent *__wrap_readdir64(DIR *dir)
{
    struct stream *stream = (struct stream *)dir;

    /* from the last to the first: names that go do not move those that are still to come */
    if (stream->next == 0)
        stream->next = names.count + 1;
    if (stream->next == 1)
        return NULL;
    stream->next--;
    stream->entry.d_type = DT_REG;
    strcpy(stream->entry.d_name, names.at[stream->next - 1].text);
    return &stream->entry;
}

int __wrap_closedir(DIR *dir)
{
    free(dir);
    return disk_close(stream_fd);
}

int __wrap_fstatfs64(int fd, struct statfs *ret_fs)
{
    CHECK_INT(fd_file(fd), ROOT);
    memset(ret_fs, 0, sizeof(*ret_fs));
    ret_fs->f_type = 0xef53; /* ext4 */
    return 0;
}

int __wrap_flock(int fd, int operation)
{
    (void)operation;
    (void)fd_file(fd);
    return 0;
}
