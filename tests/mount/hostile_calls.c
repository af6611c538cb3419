/* SPDX-License-Identifier: MIT */
/*
 * hostile_calls.c - the system calls of an actor of hostile.c: which ones, on which files, with
 * which arguments.
 *
 * All paths are relative to the mount, and the process is in a chroot(2) of it.  Errors are what is
 * wanted here, so no result is looked at: that the store stays well is checked elsewhere.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "hostile.h"

/* ------------------------------------------------------------------------------------ random data
 */

uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint32_t below(struct actor *actor, uint32_t count)
{
    return (uint32_t)(next_random(&actor->random) % count);
}

static bool one_in(struct actor *actor, uint32_t count)
{
    return below(actor, count) == 0;
}

/* Mostly small, now and then as large as anything can be; odd ones and edges among them. */
static size_t random_size(struct actor *actor, bool small)
{
    static const size_t edges[] = {0,    1,    7,     31,    32,      33,      4064,    4095,
                                   4096, 4097, 65536, 69632, 1044479, 1044480, 1044481, 1048576};
    if (small)
        return below(actor, 512);
    if (one_in(actor, 6))
        return edges[below(actor, sizeof(edges) / sizeof(edges[0]))];
    uint32_t a = below(actor, 22), b = below(actor, 22);
    return below(actor, 1u << (a < b ? a : b)) + below(actor, 2);
}

/* Adler-32. */
static uint32_t checksum(const unsigned char *data, size_t size)
{
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < size; i++) {
        a = (a + data[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

void fill_entry(unsigned char *to, const char *mark, uint32_t number, size_t size, uint64_t *random)
{
    uint32_t fields[3] = {number, (uint32_t)(size - HEADER_SIZE), 0};

    for (size_t i = HEADER_SIZE; i < size; i++)
        to[i] = (unsigned char)(i % 16 == 4 ? next_random(random) : i + number);
    fields[2] = checksum(to + HEADER_SIZE, size - HEADER_SIZE);
    memcpy(to, mark, 8);
    memcpy(to + 8, fields, sizeof(fields));
}

/* ------------------------------------------------------------------------------------------- names
 */

#define PICK(actor, array) ((array)[below((actor), sizeof(array) / sizeof((array)[0]))])

static void random_name(struct actor *actor, char *to)
{
    static const char *const odd[] = {"",         ".",      ".hidden", ".walrusfs",
                                      "\xff\xfe", "a\nb",   "default", "groups",
                                      "entries",  "append", "t0x",     "%s%n"};
    size_t size = one_in(actor, 3) ? below(actor, 4096) : 200 + below(actor, 120);

    if (one_in(actor, 2)) {
        strcpy(to, PICK(actor, odd));
        return;
    }
    for (size_t i = 0; i < size; i++) {
        do
            to[i] = (char)next_random(&actor->random);
        while (to[i] == '\0' || to[i] == '.' || (to[i] == '/' && !one_in(actor, 20)));
    }
    to[size] = '\0';
}

static const char *const consumer_files[] = {"next",  "wait",   "drain",  "follow", "peek",
                                             "batch", "offset", "status", "next",   "drain"};
static const char *const topic_files[] = {"append",  "lines",  "blob",      "batch", "append",
                                          "lines",   "blob",   "retention", "limit", "entries/0",
                                          "entries", "groups", ""};

/* A path below the witness's topic that anybody may use. */
static void witness_path(struct actor *actor, char *to)
{
    static const char *const files[] = {"append", "lines", "blob", "batch", "append", ""};

    switch (below(actor, 4)) {
    case 0:
    case 1:
        sprintf(to, "witness/%s", PICK(actor, files));
        break;
    case 2:
        sprintf(to, "witness/%s%s", one_in(actor, 2) ? "" : "groups/h/",
                PICK(actor, consumer_files));
        break;
    default:
        sprintf(to, "witness/entries/%u", below(actor, 5000));
        break;
    }
}

/* Returns whether it is in the witness's topic. */
static bool random_path(struct actor *actor, char *to)
{
    static const char *const fixed[] = {"",
                                        ".walrusfs",
                                        ".walrusfs/metrics",
                                        ".walrusfs/errors",
                                        ".walrusfs/config",
                                        ".walrusfs/version"};
    unsigned topic = below(actor, 6), group = below(actor, 3);

    switch (below(actor, 16)) {
    case 0:
        random_name(actor, to);
        return false;
    case 1:
        strcpy(to, PICK(actor, fixed));
        return false;
    case 2:
    case 3:
    case 4:
        witness_path(actor, to);
        return true;
    case 5:
        sprintf(to, "t%u", topic);
        return false;
    case 6:
    case 7:
        sprintf(to, "t%u/groups/g%u/%s", topic, group, PICK(actor, consumer_files));
        return false;
    case 8:
    case 9:
    case 10:
        sprintf(to, "t%u/%s", topic, PICK(actor, consumer_files));
        return false;
    case 11:
        sprintf(to, "t%u/entries/%u", topic, below(actor, 200));
        return false;
    default:
        sprintf(to, "t%u/%s", topic, PICK(actor, topic_files));
        return false;
    }
}

/* ------------------------------------------------------------------------------------- descriptors
 */

static int random_flags(struct actor *actor)
{
    static const int access[] = {O_RDONLY, O_WRONLY, O_RDWR, O_WRONLY};
    static const int more[] = {O_APPEND, O_TRUNC, O_NONBLOCK, O_SYNC, O_DSYNC,   O_DIRECT,
                               O_CREAT,  O_PATH,  O_NOFOLLOW, O_EXCL, O_NOATIME, O_DIRECTORY};
    int flags = PICK(actor, access);

    while (one_in(actor, 2))
        flags |= PICK(actor, more);
    if (one_in(actor, 2))
        flags |= O_NONBLOCK;
    return flags;
}

static int open_random(struct actor *actor, struct slot *slot)
{
    char path[8192];
    bool of_witness = random_path(actor, path);
    size_t size = strlen(path);
    /* A consumer file can only be opened for reading, and a producer file mostly is for writing. */
    int flags = random_flags(actor), fd = open(path, flags, 0644);

    if (fd < 0 && (errno == EACCES || errno == EISDIR || errno == ENOTDIR))
        fd = open(path, flags & (O_NONBLOCK | O_SYNC | O_DIRECT));
    slot->fd = fd;
    slot->of_witness = of_witness;
    slot->is_append = size > 7 && strcmp(path + size - 7, "/append") == 0;
    return fd;
}

static struct slot *open_slot(struct actor *actor)
{
    struct slot *slot = &actor->slots[below(actor, SLOT_COUNT)];
    if (slot->fd < 0)
        (void)open_random(actor, slot);
    return slot;
}

/* How much may be written into the slot's file now, of `size` bytes. */
static size_t allowed(const struct slot *slot, size_t size)
{
    if (!slot->of_witness)
        return size;
    if (atomic_fetch_add(&share->witness_used, size) < WITNESS_ROOM)
        return size;
    return 0;
}

/* ------------------------------------------------------------------------------------------- calls
 */

static void op_open(struct actor *actor)
{
    struct slot *slot = &actor->slots[below(actor, SLOT_COUNT)];
    if (slot->fd >= 0)
        close(slot->fd);
    (void)open_random(actor, slot);
}

static void op_close(struct actor *actor)
{
    struct slot *slot = &actor->slots[below(actor, SLOT_COUNT)];
    if (slot->fd >= 0)
        close(slot->fd);
    slot->fd = -1;
}

/* An address that no program would pass; the last has 100 bytes of `buffer` before it is bad, which a
 * read fills: never those of `out`, from where they would be written as if they were the actor's. */
static void *bad_address(struct actor *actor, unsigned char *buffer)
{
    void *const addresses[] = {NULL, (void *)1, (void *)(uintptr_t)0xffff888000000000ull,
                               buffer + BUFFER_SIZE, buffer + BUFFER_SIZE - 100};
    return PICK(actor, addresses);
}

static void op_write(struct actor *actor)
{
    struct slot *slot = open_slot(actor);
    size_t size = allowed(slot, random_size(actor, slot->of_witness && !one_in(actor, 50)));
    unsigned char *from = actor->out + below(actor, 4096);

    if (one_in(actor, 40)) {
        (void)!write(slot->fd, bad_address(actor, actor->out), size);
        return;
    }
    if (size >= HEADER_SIZE && slot->is_append)
        fill_entry(from, "FOREIGN ", (uint32_t)getpid(), size, &actor->random);
    if (one_in(actor, 3))
        (void)!pwrite(slot->fd, from, size, (off_t)random_size(actor, false));
    else
        (void)!write(slot->fd, from, size);
}

static void op_read(struct actor *actor)
{
    struct slot *slot = open_slot(actor);
    size_t size = random_size(actor, false);

    if (one_in(actor, 40))
        (void)!read(slot->fd, bad_address(actor, actor->in), size);
    else if (one_in(actor, 3))
        (void)!pread(slot->fd, actor->in + below(actor, 64), size,
                     (off_t)random_size(actor, false));
    else
        (void)!read(slot->fd, actor->in + below(actor, 64), size);
}

static void op_vector(struct actor *actor)
{
    struct slot *slot = open_slot(actor);
    struct iovec parts[1024];
    int count = one_in(actor, 3) ? 1024 : 1 + (int)below(actor, 40);
    bool writes = one_in(actor, 2), large = one_in(actor, 10) && !slot->of_witness;
    unsigned char *buffer = writes ? actor->out : actor->in;
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        parts[i].iov_len = large ? below(actor, 4096) : below(actor, 40);
        parts[i].iov_base = buffer + below(actor, BUFFER_SIZE - 4096);
        total += parts[i].iov_len;
        if (one_in(actor, 5000))
            parts[i].iov_base = bad_address(actor, buffer);
    }
    static const int flags[] = {0, RWF_DSYNC, RWF_SYNC, RWF_NOWAIT, RWF_APPEND, RWF_HIPRI};
    off_t at = one_in(actor, 2) ? -1 : (off_t)random_size(actor, false);
    if (!writes)
        (void)!preadv2(slot->fd, parts, count, at, PICK(actor, flags));
    else if (allowed(slot, total) == total)
        (void)!pwritev2(slot->fd, parts, count, at, PICK(actor, flags));
}

/* Records of `batch`, well formed or not quite. */
static void op_records(struct actor *actor)
{
    struct slot slot;
    char path[64];
    bool of_witness = one_in(actor, 3);
    size_t done = 0;
    unsigned count = below(actor, 200);

    sprintf(path, of_witness ? "witness/batch" : "t%u/batch", below(actor, 6));
    slot = (struct slot){.fd = open(path, O_RDWR | O_NONBLOCK), .of_witness = of_witness};
    if (slot.fd < 0)
        return;
    memset(actor->out, 0, 65536);
    while (count-- > 0 && done < 60000) {
        uint32_t size = below(actor, 300);
        memcpy(actor->out + done, &size, sizeof(size));
        memset(actor->out + done + 24, 'f', size);
        done += (24 + size + 7) / 8 * 8;
    }
    if (one_in(actor, 3))
        actor->out[below(actor, 65536)] ^= (unsigned char)(1u << below(actor, 8));
    if (one_in(actor, 5))
        done = below(actor, (uint32_t)done + 1);
    if (allowed(&slot, done) == done)
        (void)!write(slot.fd, actor->out, done);
    (void)!read(slot.fd, actor->in, random_size(actor, false));
    close(slot.fd);
}

static void op_seek(struct actor *actor)
{
    static const int origins[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 77};
    off_t to =
        one_in(actor, 10) ? (off_t)next_random(&actor->random) : (off_t)random_size(actor, false);
    (void)lseek(open_slot(actor)->fd, to, PICK(actor, origins));
}

static void op_truncate(struct actor *actor)
{
    char path[8192];
    off_t size = one_in(actor, 2) ? 0 : (off_t)random_size(actor, false);

    (void)random_path(actor, path);
    (void)!ftruncate(open_slot(actor)->fd, size);
    (void)!truncate(path, size);
    (void)fallocate(open_slot(actor)->fd, (int)below(actor, 0x80), size, 4096);
}

static void op_map(struct actor *actor)
{
    struct slot *slot = open_slot(actor);
    size_t size = random_size(actor, false) + 1;
    int type = one_in(actor, 2) ? MAP_PRIVATE : MAP_SHARED;
    volatile unsigned char *at = mmap(NULL, size, PROT_READ, type, slot->fd, 0);

    if (at == MAP_FAILED)
        return;
    (void)madvise((void *)(uintptr_t)at, size, one_in(actor, 2) ? MADV_WILLNEED : MADV_DONTNEED);
    /* A touch behind the end is a SIGBUS, so the kernel is left to do it. */
    (void)!write(actor->pair[0], (void *)(uintptr_t)at, size < 2000 ? size : 2000);
    (void)recv(actor->pair[1], actor->in, 2000, MSG_DONTWAIT);
    munmap((void *)(uintptr_t)at, size);
}

static void drain_pipe(struct actor *actor)
{
    while (read(actor->pipe[0], actor->in, BUFFER_SIZE) > 0)
        ;
}

/* Copies between two files by the kernel; never into the witness's topic. */
static void op_copy(struct actor *actor)
{
    struct slot *from = open_slot(actor), *to = open_slot(actor);
    size_t size = random_size(actor, false);
    off_t at = (off_t)random_size(actor, false), *where = one_in(actor, 2) ? &at : NULL;

    switch (below(actor, 4)) {
    case 0:
        (void)!sendfile(actor->pipe[1], from->fd, where, size);
        break;
    case 1:
        (void)!splice(from->fd, where, actor->pipe[1], NULL, size, SPLICE_F_NONBLOCK);
        if (!to->of_witness)
            (void)!splice(actor->pipe[0], NULL, to->fd, NULL, size, SPLICE_F_NONBLOCK);
        break;
    case 2:
        if (!to->of_witness)
            (void)!copy_file_range(from->fd, where, to->fd, NULL, size, 0);
        break;
    default:
        if (!to->of_witness)
            (void)!sendfile(to->fd, from->fd, where, size);
        break;
    }
    drain_pipe(actor);
}

static void op_aio(struct actor *actor)
{
    struct slot *slots[4];
    struct iocb blocks[4], *list[4];
    struct io_event events[16];
    struct timespec wait = {.tv_nsec = (long)below(actor, 2000000)};
    long count = 0;

    if (actor->aio == 0 && syscall(SYS_io_setup, 16, &actor->aio) < 0)
        return;
    for (int i = 0; i < 4; i++) {
        bool writes = one_in(actor, 2);
        slots[i] = open_slot(actor);
        size_t size = random_size(actor, slots[i]->of_witness);
        if (slots[i]->fd < 0 || (writes && allowed(slots[i], size) < size))
            continue;
        blocks[count] = (struct iocb){
            .aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
            .aio_fildes = (uint32_t)slots[i]->fd,
            .aio_buf = (uint64_t)(uintptr_t)(writes ? actor->out : actor->in),
            .aio_nbytes = size,
            .aio_offset = (int64_t)random_size(actor, false),
        };
        if (one_in(actor, 8))
            blocks[count].aio_lio_opcode = one_in(actor, 2) ? IOCB_CMD_FSYNC : IOCB_CMD_POLL;
        list[count] = &blocks[count];
        count++;
    }
    (void)syscall(SYS_io_submit, actor->aio, count, list);
    (void)syscall(SYS_io_getevents, actor->aio, 0L, 16L, events, &wait);
    if (one_in(actor, 20)) {
        (void)syscall(SYS_io_destroy, actor->aio);
        actor->aio = 0;
    }
}

static void op_sync(struct actor *actor)
{
    int fd = open_slot(actor)->fd;
    if (one_in(actor, 2))
        (void)fsync(fd);
    else
        (void)fdatasync(fd);
    if (one_in(actor, 10))
        (void)syncfs(fd);
}

static void op_poll(struct actor *actor)
{
    struct pollfd fds[8];
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT}, got[8];

    for (int i = 0; i < 8; i++)
        fds[i] = (struct pollfd){.fd = open_slot(actor)->fd, .events = (short)below(actor, 0x100)};
    (void)poll(fds, 8, (int)below(actor, 3));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        return;
    for (int i = 0; i < 8; i++) {
        if (one_in(actor, 2))
            event.events |= EPOLLET;
        (void)epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i].fd, &event);
    }
    (void)epoll_wait(epoll, got, 8, (int)below(actor, 3));
    close(epoll);
}

static void op_control(struct actor *actor)
{
    static const unsigned long requests[] = {FIONREAD,        FIONBIO, FS_IOC_GETFLAGS,
                                             FS_IOC_SETFLAGS, FIBMAP,  FIGETBSZ,
                                             FS_IOC_FIEMAP,   FICLONE, 0x1234};
    struct slot *slot = open_slot(actor);
    struct flock lock = {.l_type = (short)below(actor, 4), .l_len = (off_t)below(actor, 3)};
    static const int flocks[] = {LOCK_EX, LOCK_SH, LOCK_UN, LOCK_EX | LOCK_NB};

    switch (below(actor, 4)) {
    case 0:
        memset(actor->in, 0, 4096);
        (void)ioctl(slot->fd, PICK(actor, requests), actor->in);
        break;
    case 1:
        (void)fcntl(slot->fd, one_in(actor, 2) ? F_SETLK : F_SETLKW, &lock);
        (void)fcntl(slot->fd, F_GETLK, &lock);
        break;
    case 2:
        (void)flock(slot->fd, PICK(actor, flocks));
        break;
    default:
        (void)fcntl(slot->fd, F_SETFL, one_in(actor, 2) ? O_NONBLOCK : O_APPEND | O_DIRECT);
        break;
    }
}

static void op_attributes(struct actor *actor)
{
    char path[8192], value[64] = "";
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = (time_t)below(actor, 1u << 31)}};
    struct stat stat_buf;
    struct statfs fs;
    bool of_witness = random_path(actor, path);

    (void)stat(path, &stat_buf);
    switch (below(actor, 6)) {
    case 0:
        if (!of_witness && path[0] != '\0')
            (void)chmod(path, (mode_t)below(actor, 010000) | 0700);
        break;
    case 1:
        if (!of_witness && path[0] != '\0')
            (void)!chown(path, one_in(actor, 3) ? (uid_t)-1 : below(actor, 3), below(actor, 70000));
        break;
    case 2:
        (void)utimensat(AT_FDCWD, path, times, 0);
        break;
    case 3:
        (void)statfs(path, &fs);
        (void)access(path, (int)below(actor, 8));
        break;
    case 4:
        (void)setxattr(path, "user.a", value, below(actor, 64), 0);
        (void)getxattr(path, one_in(actor, 2) ? "user.a" : "security.capability", value, 64);
        break;
    default:
        (void)listxattr(path, value, sizeof(value));
        (void)removexattr(path, "user.a");
        break;
    }
}

/* A name that may come and go: a topic or a group of one, or anything. */
static void loose_path(struct actor *actor, char *to)
{
    if (one_in(actor, 5))
        random_name(actor, to);
    else if (one_in(actor, 2))
        sprintf(to, "t%u", below(actor, 8));
    else
        sprintf(to, "t%u/groups/g%u", below(actor, 6), below(actor, 4));
    if (strncmp(to, "witness", 7) == 0)
        *to = 'x';
}

static void op_names(struct actor *actor)
{
    char path[8192], other[8192];
    dev_t device = makedev(1, 3);

    loose_path(actor, path);
    loose_path(actor, other);
    switch (below(actor, 10)) {
    case 0:
    case 1:
    case 2:
        (void)mkdir(path, 0777);
        (void)mkdir("witness/groups/h", 0777);
        break;
    case 3:
        (void)rmdir(path);
        break;
    case 4:
        (void)rename(path, other);
        break;
    case 5:
        (void)syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, below(actor, 8));
        break;
    case 6:
        (void)!link(path, other);
        (void)!symlink(path, other);
        break;
    case 7:
        (void)mknod(path, one_in(actor, 2) ? S_IFCHR | 0666 : S_IFIFO | 0666, device);
        break;
    default:
        if (random_path(actor, path) && one_in(actor, 2))
            (void)rmdir("witness/groups/h");
        (void)unlink(path);
        break;
    }
}

static void op_text(struct actor *actor)
{
    static const char *const texts[] = {"end", "begin", "0",   "+1",       "-1", "99999999999",
                                        "x",   "",      "all", "consumed", "1M", "none",
                                        "64M", "1s",    "-",   "\n"};
    static const char *const files[] = {"offset", "retention", "limit"};
    char path[64];

    sprintf(path, "t%u/%s", below(actor, 6), PICK(actor, files));
    if (one_in(actor, 6))
        strcpy(path, "witness/offset");
    int fd = open(path, O_WRONLY | O_TRUNC);
    const char *text = PICK(actor, texts);
    (void)!write(fd, text, strlen(text));
    close(fd);
}

static void op_list(struct actor *actor)
{
    char path[8192], buffer[4096];

    (void)random_path(actor, path);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return;
    long size = one_in(actor, 3) ? 300 : (long)sizeof(buffer);
    for (int i = 0; i < 50 && syscall(SYS_getdents64, fd, buffer, size) > 0; i++)
        ;
    (void)lseek(fd, (off_t)random_size(actor, false), SEEK_SET);
    (void)syscall(SYS_getdents64, fd, buffer, size);
    close(fd);
}

/* Many handles at once, dropped together. */
static void op_bulk(struct actor *actor)
{
    int fds[BULK_MAX], count = 0;
    uint32_t want = one_in(actor, 10) ? BULK_MAX : below(actor, 60);
    struct slot slot;

    while (want-- > 0 && !atomic_load(&share->stop)) {
        int fd = open_random(actor, &slot);
        if (fd >= 0)
            fds[count++] = fd;
    }
    while (count > 0)
        close(fds[--count]);
}

/* A child uses what it inherited, and ends in one way or another. */
static void op_fork(struct actor *actor)
{
    uint64_t seed = next_random(&actor->random);
    uint32_t how = below(actor, 3);
    pid_t pid = fork();

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct itimerval timer = {{0, 3000}, {0, 3000}};
        setitimer(ITIMER_REAL, &timer, NULL);
        actor->random = seed;
        actor->aio = 0;
        run_calls(actor, 1 + seed % 20);
        if (how == 0)
            raise(SIGKILL);
        _exit(0);
    }
    if (pid < 0)
        return;
    if (how == 1) {
        usleep(below(actor, 3000));
        kill(pid, SIGKILL);
    }
    for (int i = 0; i < 2000 && waitpid(pid, NULL, WNOHANG) == 0; i++)
        usleep(1000);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

static void op_duplicate(struct actor *actor)
{
    struct slot *from = open_slot(actor), *to = &actor->slots[below(actor, SLOT_COUNT)];

    if (from == to || from->fd < 0)
        return;
    if (to->fd >= 0)
        close(to->fd);
    *to = *from;
    to->fd = dup(from->fd);
}

/* Passes a descriptor through a socket, where it may be the last one that holds the file. */
static void op_pass(struct actor *actor)
{
    char room[CMSG_SPACE(sizeof(int))] = {0}, byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    struct slot *slot = open_slot(actor);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &slot->fd, sizeof(int));
    (void)sendmsg(actor->pair[0], &message, MSG_DONTWAIT);
    op_close(actor);
    (void)recv(actor->pair[1], &byte, 1, MSG_DONTWAIT); /* the descriptor is dropped with it */
}

static const struct call {
    void (*run)(struct actor *actor);
    const char *name;
    unsigned weight;
} calls[] = {
    {op_write, "write", 30}, {op_read, "read", 30},        {op_vector, "vector", 10},
    {op_open, "open", 20},   {op_close, "close", 12},      {op_records, "records", 4},
    {op_seek, "seek", 6},    {op_truncate, "truncate", 3}, {op_map, "map", 4},
    {op_copy, "copy", 8},    {op_aio, "aio", 3},           {op_sync, "sync", 2},
    {op_poll, "poll", 4},    {op_control, "control", 6},   {op_attributes, "attributes", 8},
    {op_names, "names", 10}, {op_text, "text", 4},         {op_list, "list", 3},
    {op_bulk, "bulk", 1},    {op_fork, "fork", 1},         {op_duplicate, "duplicate", 4},
    {op_pass, "pass", 2},
};

#define CALL_COUNT (sizeof(calls) / sizeof(calls[0]))

const char *call_name(int call)
{
    return calls[call].name;
}

void run_calls(struct actor *actor, uint64_t count)
{
    unsigned total = 0;
    for (size_t i = 0; i < CALL_COUNT; i++)
        total += calls[i].weight;
    while (count-- > 0 && !atomic_load(&share->stop)) {
        unsigned at = below(actor, total);
        size_t i = 0;
        while (at >= calls[i].weight)
            at -= calls[i++].weight;
        atomic_store(&share->call[actor->place], (int)i);
        calls[i].run(actor);
        atomic_fetch_add(&share->progress[actor->place], 1);
        atomic_fetch_add(&share->calls, 1);
    }
}
