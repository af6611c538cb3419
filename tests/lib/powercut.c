/* SPDX-License-Identifier: MIT */
/*
 * powercut.c - what a loss of power can leave of a directory: see powercut.h.
 *
 * Each file is an object that outlives its name.  Beside what the page cache shows (read through a
 * descriptor of our own) it has an image of what is durable.  The directory is a list of names; the
 * lists since its last sync are kept, and a cut leaves one of them, as a journal would.
 *
 * One lock is held over every call that changes a file or a name, and over every cut, so that a cut
 * sees no call half done.  Stores through a mapping do not pass here; a cut may see them torn, as a
 * disk would.
 */
#include "powercut.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"
#include "rig.h"

enum {
    FD_MAX = 4096,
    MAP_MAX = 1024,
    NAMES_MAX = 512,  /* files in the directory at a time */
    LISTS_MAX = 32,   /* states of the directory since its sync */
    FILES_MAX = 4096, /* objects in all */
    SECTOR = 512,
};

struct object {
    int fd;
    uint8_t *durable;
    uint64_t durable_size, room;
};

struct name {
    char text[64];
    struct object *object;
};

struct names {
    struct name at[NAMES_MAX];
    size_t count;
};

struct mapping {
    uintptr_t addr;
    size_t size;
    struct object *object;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static struct stat root_st;
static struct object *by_fd[FD_MAX];
static bool fd_is_root[FD_MAX];
static struct mapping mappings[MAP_MAX];
static struct object *objects[FILES_MAX];
static size_t object_count;
static struct names lists[LISTS_MAX]; /* the durable one, ..., the present one */
static size_t list_count;
static uint64_t cut_left;
static void (*cut_hook)(void *arg);
static void *cut_arg;
static _Thread_local bool in_cut; /* this thread runs the hook, and holds the lock */

uint64_t powercut_random(uint64_t *random, uint64_t limit)
{
    uint64_t value = *random += 0x9e3779b97f4a7c15u;

    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return (value ^ value >> 31) % limit;
}

static void state_lock(void)
{
    CHECK_INT(pthread_mutex_lock(&mutex), 0);
}

static void state_unlock(void)
{
    CHECK_INT(pthread_mutex_unlock(&mutex), 0);
}

static void cut_point(void)
{
    if (cut_left == 0 || --cut_left > 0)
        return;
    in_cut = true;
    cut_hook(cut_arg);
    in_cut = false;
}

/* Takes the lock for a call that changes something; the cut comes first when it is due. */
static void change_begin(void)
{
    state_lock();
    cut_point();
}

/* ------------------------------------------------------------------------------------- files -- */

static uint64_t object_size(const struct object *object)
{
    struct stat st;

    CHECK_INT(fstat(object->fd, &st), 0);
    return (uint64_t)st.st_size;
}

static void object_resize(struct object *object, uint64_t size)
{
    if (size > object->room) {
        object->durable = realloc(object->durable, size);
        CHECK(object->durable != NULL);
        object->room = size;
    }
    if (size > object->durable_size)
        memset(object->durable + object->durable_size, 0, size - object->durable_size);
    object->durable_size = size;
}

/* What the page cache shows of [off, end) is durable from now on; beyond the end only on `grow`. */
static void object_settle(struct object *object, uint64_t off, uint64_t end, bool grow)
{
    uint64_t size = object_size(object);

    if (grow && size != object->durable_size)
        object_resize(object, size);
    off = off / SECTOR * SECTOR;
    end = (end + SECTOR - 1) / SECTOR * SECTOR;
    if (end > size)
        end = size;
    if (end > object->durable_size)
        end = object->durable_size;
    if (off < end)
        CHECK_INT(pread(object->fd, object->durable + off, end - off, (off_t)off), end - off);
}

static struct object *object_open(const char *dir, const char *name)
{
    char path[PATH_MAX * 2];
    struct object *object = calloc(1, sizeof(*object));

    CHECK(object != NULL && object_count < FILES_MAX);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    object->fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(object->fd >= 0);
    objects[object_count++] = object;
    return object;
}

/* ------------------------------------------------------------------------------------- names -- */

static struct names *names_now(void)
{
    return &lists[list_count - 1];
}

static struct name *names_find(struct names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->at[i].text, text) == 0)
            return &names->at[i];
    return NULL;
}

static void names_add(struct names *names, const char *text, struct object *object)
{
    CHECK(names->count < NAMES_MAX && strlen(text) < sizeof(names->at[0].text));
    strcpy(names->at[names->count].text, text);
    names->at[names->count++].object = object;
}

static void names_drop(struct names *names, const char *text)
{
    struct name *name = names_find(names, text);

    if (name != NULL)
        *name = names->at[--names->count];
}

/* A new state of the directory, to be changed; when there are many, one in the middle goes. */
static struct names *names_next(void)
{
    if (list_count == LISTS_MAX) {
        memmove(&lists[1], &lists[2], (LISTS_MAX - 2) * sizeof(lists[0]));
        list_count--;
    }
    lists[list_count] = lists[list_count - 1];
    list_count++;
    return names_now();
}

static bool is_root(int fd)
{
    return fd >= 0 && fd < FD_MAX && fd_is_root[fd];
}

static struct object *object_of(int fd)
{
    return fd >= 0 && fd < FD_MAX ? by_fd[fd] : NULL;
}

/* ------------------------------------------------------------------------------------- calls -- */

static int cut_openat(int dirfd, const char *name, int flags, mode_t mode)
{
    struct stat st;

    if (flags & O_CREAT && is_root(dirfd))
        change_begin();
    else
        state_lock();
    int fd = os_system.openat(dirfd, name, flags, mode);
    if (fd >= 0) {
        CHECK(fd < FD_MAX);
        by_fd[fd] = NULL;
        CHECK_INT(fstat(fd, &st), 0);
        fd_is_root[fd] =
            S_ISDIR(st.st_mode) && st.st_ino == root_st.st_ino && st.st_dev == root_st.st_dev;
    }
    if (fd >= 0 && is_root(dirfd) && S_ISREG(st.st_mode)) {
        struct name *known = names_find(names_now(), name);
        if (known == NULL) {
            struct object *object = object_open(root, name);
            names_add(names_next(), name, object);
            known = names_find(names_now(), name);
        }
        by_fd[fd] = known->object;
    }
    state_unlock();
    return fd;
}

static int cut_close(int fd)
{
    state_lock();
    if (fd >= 0 && fd < FD_MAX) {
        by_fd[fd] = NULL;
        fd_is_root[fd] = false;
    }
    int r = os_system.close(fd);
    state_unlock();
    return r;
}

static int cut_ftruncate(int fd, off_t size)
{
    change_begin();
    int r = os_system.ftruncate(fd, size);
    state_unlock();
    return r;
}

static int cut_fallocate(int fd, int mode, off_t off, off_t size)
{
    change_begin();
    int r = os_system.fallocate(fd, mode, off, size);
    state_unlock();
    return r;
}

static ssize_t cut_pwritev2(int fd, const struct iovec *iov, int count, off_t off, int flags)
{
    change_begin();
    ssize_t r = os_system.pwritev2(fd, iov, count, off, flags & ~RWF_DSYNC);
    struct object *object = object_of(fd);
    if (r > 0 && object != NULL && flags & RWF_DSYNC) {
        uint64_t end = (uint64_t)off + (uint64_t)r;
        cut_point(); /* written, maybe in part, and not yet synced */
        if (end > object->durable_size)
            object_resize(object, end);
        object_settle(object, (uint64_t)off, end, false);
    }
    state_unlock();
    return r;
}

static void *cut_mmap(int fd, size_t size, int prot)
{
    void *addr = os_system.mmap(fd, size, prot);
    size_t i = 0;

    state_lock();
    while (i < MAP_MAX && mappings[i].size > 0)
        i++;
    CHECK(i < MAP_MAX);
    if (addr != MAP_FAILED)
        mappings[i] = (struct mapping){(uintptr_t)addr, size, object_of(fd)};
    state_unlock();
    return addr;
}

static int cut_munmap(void *addr, size_t size)
{
    state_lock();
    for (size_t i = 0; i < MAP_MAX; i++)
        if (mappings[i].addr == (uintptr_t)addr)
            mappings[i].size = 0;
    int r = os_system.munmap(addr, size);
    state_unlock();
    return r;
}

static int cut_msync(void *addr, size_t size)
{
    change_begin();
    for (size_t i = 0; i < MAP_MAX; i++) {
        uint64_t off = (uintptr_t)addr - mappings[i].addr;
        if (off < mappings[i].size && mappings[i].object != NULL)
            object_settle(mappings[i].object, off, off + size, false);
    }
    state_unlock();
    return 0;
}

static int cut_fsync(int fd)
{
    change_begin();
    struct object *object = object_of(fd);
    if (object != NULL)
        object_settle(object, 0, UINT64_MAX - SECTOR, true);
    if (is_root(fd) && list_count > 1) {
        lists[0] = lists[list_count - 1];
        list_count = 1;
    }
    state_unlock();
    return 0;
}

static int cut_renameat(int dirfd, const char *from, const char *to)
{
    change_begin();
    int r = os_system.renameat(dirfd, from, to);
    if (r == 0 && is_root(dirfd)) {
        struct names *names = names_next();
        struct name *name = names_find(names, from);
        CHECK(name != NULL);
        struct object *object = name->object;
        names_drop(names, to);
        names_drop(names, from);
        names_add(names, to, object);
    }
    state_unlock();
    return r;
}

static int cut_unlinkat(int dirfd, const char *name)
{
    change_begin();
    int r = os_system.unlinkat(dirfd, name);
    if (r == 0 && is_root(dirfd))
        names_drop(names_next(), name);
    state_unlock();
    return r;
}

/* --------------------------------------------------------------------------------- outwards -- */

static void objects_fini(void)
{
    for (size_t i = 0; i < object_count; i++) {
        close(objects[i]->fd);
        free(objects[i]->durable);
        free(objects[i]);
    }
    object_count = 0;
}

static void names_read(const char *dir, const char *durable_dir)
{
    DIR *stream = opendir(dir);

    CHECK(stream != NULL);
    for (struct dirent *item; (item = readdir(stream)) != NULL;) {
        if (item->d_name[0] == '.')
            continue;
        struct object *object = object_open(dir, item->d_name);
        if (durable_dir == NULL)
            object_settle(object, 0, UINT64_MAX - SECTOR, true);
        names_add(names_now(), item->d_name, object);
    }
    closedir(stream);
}

/* The durable images come from the files of another directory. */
static void names_read_durable(const char *dir)
{
    struct names now = lists[0];
    size_t first = object_count;

    lists[0].count = 0;
    names_read(dir, NULL);
    lists[1] = now;
    list_count = 2;
    for (size_t i = 0; i < lists[0].count; i++) {
        struct name *name = &lists[0].at[i], *present = names_find(&now, name->text);
        if (present == NULL)
            continue;
        struct object *from = name->object, *to = present->object;
        to->durable = from->durable;
        to->durable_size = from->durable_size;
        to->room = from->room;
        from->durable = NULL;
        from->durable_size = from->room = 0;
        name->object = to;
    }
    CHECK(first <= object_count);
    /* A file that has its name, though not durably yet, was synced under the one before it. */
    for (size_t i = 0; i < now.count; i++)
        if (names_find(&lists[0], now.at[i].text) == NULL && strstr(now.at[i].text, ".tmp") == NULL)
            object_settle(now.at[i].object, 0, UINT64_MAX - SECTOR, true);
}

void powercut_install(const char *dir, const char *durable_dir)
{
    static struct os_ops ops;

    objects_fini();
    memset(by_fd, 0, sizeof(by_fd));
    memset(fd_is_root, 0, sizeof(fd_is_root));
    memset(mappings, 0, sizeof(mappings));
    cut_left = 0;
    snprintf(root, sizeof(root), "%s", dir);
    CHECK_INT(stat(dir, &root_st), 0);
    list_count = 1;
    lists[0].count = 0;
    names_read(dir, durable_dir);
    if (durable_dir != NULL)
        names_read_durable(durable_dir);
    ops = os_system;
    ops.openat = cut_openat;
    ops.close = cut_close;
    ops.ftruncate = cut_ftruncate;
    ops.fallocate = cut_fallocate;
    ops.pwritev2 = cut_pwritev2;
    ops.mmap = cut_mmap;
    ops.munmap = cut_munmap;
    ops.msync = cut_msync;
    ops.fsync = cut_fsync;
    ops.fdatasync = cut_fsync;
    ops.renameat = cut_renameat;
    ops.unlinkat = cut_unlinkat;
    os = &ops;
}

void powercut_remove(void)
{
    os = &os_system;
    objects_fini();
    list_count = 0;
}

void powercut_arm(uint64_t nth, void (*cut)(void *arg), void *arg)
{
    state_lock();
    cut_left = nth;
    cut_hook = cut;
    cut_arg = arg;
    state_unlock();
}

void powercut_wait(void)
{
    state_lock();
    state_unlock();
}

/* The bytes of a file as the page cache shows them, `size` of them, zeros behind the end. */
static uint8_t *object_load(const struct object *object, uint64_t size)
{
    uint8_t *data = calloc(1, size + 1);

    CHECK(data != NULL);
    CHECK(pread(object->fd, data, size, 0) >= 0);
    return data;
}

void powercut_writeback(unsigned percent, uint64_t *random)
{
    state_lock();
    for (size_t i = 0; i < names_now()->count; i++) {
        struct object *object = names_now()->at[i].object;
        uint8_t *data = object_load(object, object->durable_size);
        for (uint64_t off = 0; off < object->durable_size; off += SECTOR) {
            uint64_t left = object->durable_size - off, size = left < SECTOR ? left : SECTOR;
            if (memcmp(data + off, object->durable + off, size) != 0 &&
                powercut_random(random, 100) < percent)
                memcpy(object->durable + off, data + off, size);
        }
        free(data);
    }
    state_unlock();
}

/* Puts durable bytes back over those in `data` that the cut loses. */
static void object_revert(const struct object *object, uint8_t *data, uint64_t size,
                          enum powercut_mode mode, unsigned percent, uint64_t *random)
{
    uint64_t step = mode == POWERCUT_PAGES ? 4096 : SECTOR;

    for (uint64_t off = 0; off < size; off += step) {
        uint64_t part = size - off < step ? size - off : step;
        uint64_t there = object->durable_size > off ? object->durable_size - off : 0;
        there = there < part ? there : part;
        if (there > 0 && memcmp(data + off, object->durable + off, there) == 0 && there == part)
            continue;
        if (mode != POWERCUT_DURABLE && powercut_random(random, 100) < percent)
            continue;
        if (there > 0)
            memcpy(data + off, object->durable + off, there);
        memset(data + off + there, 0, part - there);
    }
}

static void file_write(const char *dir, const char *name, const uint8_t *data, uint64_t size)
{
    static const uint8_t zeros[4096];
    char path[PATH_MAX * 2];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, (off_t)size), 0);
    for (uint64_t off = 0; off < size; off += sizeof(zeros)) {
        size_t part = size - off < sizeof(zeros) ? size - off : sizeof(zeros);
        if (memcmp(data + off, zeros, part) != 0)
            CHECK_INT(pwrite(fd, data + off, part, (off_t)off), part);
    }
    CHECK_INT(close(fd), 0);
}

void powercut_write(const char *to, enum powercut_mode mode, unsigned percent, uint64_t *random)
{
    if (!in_cut)
        state_lock();
    size_t list = list_count - 1;

    if (mode == POWERCUT_DURABLE)
        list = 0;
    else if (mode != POWERCUT_KILL)
        list = powercut_random(random, list_count);
    for (size_t i = 0; i < lists[list].count; i++) {
        const struct name *name = &lists[list].at[i];
        const struct object *object = name->object;
        uint64_t size = object_size(object);
        bool shorter = mode == POWERCUT_DURABLE ||
                       (mode != POWERCUT_KILL && powercut_random(random, 100) >= percent);
        if (shorter)
            size = object->durable_size;
        uint8_t *data = object_load(object, size);
        if (mode != POWERCUT_KILL)
            object_revert(object, data, size, mode, percent, random);
        file_write(to, name->text, data, size);
        free(data);
    }
    if (!in_cut)
        state_unlock();
}
