/* SPDX-License-Identifier: MIT */
/*
 * cutdisk.c - a disk with a volatile cache, whose power can be cut and whose sectors can be bad.
 *
 * A FUSE filesystem with two files.  `disk` is meant for a loop device, on which a real filesystem
 * lies: what is written is in the cache until a flush (which loop turns into fsync) makes it
 * durable.  `ctl` takes commands and tells counters.  Used by tests/mount/faults/disks.py; with it,
 * what a power cut and a bad sector do is seen through the real kernel's page cache and journal.
 *
 * The cache is honest and without order: of the sectors of 512 bytes that were written since the
 * last flush a cut leaves any subset, chosen by a seed.  A sector that is written again before a
 * flush may have reached the medium in between.  After the cut everything fails until the power is
 * back, and for who had the disk open before also then.  With one client thread a cut depends on nothing but its arguments.
 *
 * Commands, one a write:
 *     cut N SEED KEEP   at the N-th write from now (0: now) the power goes; KEEP percent of the
 *                       sectors that were not flushed reach the medium
 *     power             the power is back: what is on the medium is what is there
 *     badread A B       reading bytes A to B - 1 fails, and what contains some of them
 *     badwrite A B      the same for writing
 *     badflush          flushing fails
 *     heal              nothing fails any more
 * Reading gives `key value` lines: writes, flushes, unflushed (sectors), cut (0 or 1), errors.
 *
 * One thread, no locks.  Memory is taken for what is written, twice.
 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse3/fuse.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR_SIZE 512u
#define RANGES_MAX  64u

struct range {
    uint64_t start, end;
};

struct ranges {
    struct range items[RANGES_MAX];
    unsigned count;
};

static struct {
    uint8_t *cache;  /* what reading gives */
    uint8_t *medium; /* what a cut leaves, before the choice */
    uint64_t *dirty; /* a bit a sector: the two may differ */
    uint64_t size;
    bool cut;
    bool armed;
    uint64_t cut_at; /* number of the write at which the power goes */
    uint64_t seed;
    unsigned keep;
    uint64_t write_count, flush_count, error_count;
    uint64_t life; /* counts returns of the power: who opened the disk before is gone */
    struct ranges bad_read, bad_write;
    bool bad_flush;
} disk;

/* A random number that depends on the seed and on what it is for. */
static uint64_t draw(uint64_t what)
{
    uint64_t x = disk.seed * 0x9e3779b97f4a7c15u + what;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool is_dirty(uint64_t sector)
{
    return (disk.dirty[sector / 64] >> (sector % 64) & 1) != 0;
}

static void sector_copy(uint8_t *to, const uint8_t *from, uint64_t sector)
{
    memcpy(to + sector * SECTOR_SIZE, from + sector * SECTOR_SIZE, SECTOR_SIZE);
}

/* Ends the difference between cache and medium: `percent` of the dirty sectors are written, the
 * others keep what the medium has. */
static void settle(unsigned percent)
{
    for (uint64_t word = 0; word < disk.size / SECTOR_SIZE / 64; word++) {
        for (uint64_t bits = disk.dirty[word]; bits != 0; bits &= bits - 1) {
            uint64_t sector = word * 64 + (uint64_t)__builtin_ctzll(bits);
            if (percent >= 100 || draw(sector) % 100 < percent)
                sector_copy(disk.medium, disk.cache, sector);
            else
                sector_copy(disk.cache, disk.medium, sector);
        }
        disk.dirty[word] = 0;
    }
}

static uint64_t count_dirty(void)
{
    uint64_t count = 0;
    for (uint64_t word = 0; word < disk.size / SECTOR_SIZE / 64; word++)
        count += (uint64_t)__builtin_popcountll(disk.dirty[word]);
    return count;
}

static void cut_power(void)
{
    settle(disk.keep);
    disk.cut = true;
    disk.armed = false;
}

static bool touches(const struct ranges *ranges, uint64_t off, size_t size)
{
    for (unsigned i = 0; i < ranges->count; i++)
        if (off < ranges->items[i].end && off + size > ranges->items[i].start)
            return true;
    return false;
}

static int fail(void)
{
    disk.error_count++;
    return -EIO;
}

static int disk_read(char *buf, size_t size, uint64_t off)
{
    if (off >= disk.size)
        return 0;
    if (size > disk.size - off)
        size = disk.size - off;
    if (disk.cut || touches(&disk.bad_read, off, size))
        return fail();
    memcpy(buf, disk.cache + off, size);
    return (int)size;
}

static int disk_write(const char *buf, size_t size, uint64_t off)
{
    if (off > disk.size || size > disk.size - off)
        return -ENOSPC;
    if (disk.cut || touches(&disk.bad_write, off, size))
        return fail();
    disk.write_count++;
    uint64_t end = (off + size + SECTOR_SIZE - 1) / SECTOR_SIZE;
    for (uint64_t sector = off / SECTOR_SIZE; sector < end; sector++) {
        if (is_dirty(sector) && draw(disk.write_count ^ sector << 32) % 4 == 0)
            sector_copy(disk.medium, disk.cache, sector);
        disk.dirty[sector / 64] |= (uint64_t)1 << (sector % 64);
    }
    memcpy(disk.cache + off, buf, size);
    if (disk.armed && disk.write_count >= disk.cut_at) {
        cut_power();
        return fail(); /* nobody hears that the last write was done */
    }
    return (int)size;
}

static int disk_flush(void)
{
    if (disk.cut || disk.bad_flush)
        return fail();
    settle(100);
    disk.flush_count++;
    return 0;
}

static int add_range(struct ranges *ranges, uint64_t start, uint64_t end)
{
    if (start >= end || ranges->count == RANGES_MAX)
        return -EINVAL;
    ranges->items[ranges->count++] = (struct range){start, end};
    return 0;
}

static int command(const char *text)
{
    uint64_t a, b;
    unsigned keep;

    if (sscanf(text, "cut %" SCNu64 " %" SCNu64 " %u", &a, &b, &keep) == 3) {
        disk.seed = b;
        disk.keep = keep;
        disk.cut_at = disk.write_count + a;
        disk.armed = true;
        if (a == 0)
            cut_power();
        return 0;
    }
    if (sscanf(text, "badread %" SCNu64 " %" SCNu64, &a, &b) == 2)
        return add_range(&disk.bad_read, a, b);
    if (sscanf(text, "badwrite %" SCNu64 " %" SCNu64, &a, &b) == 2)
        return add_range(&disk.bad_write, a, b);
    if (strcmp(text, "badflush") == 0) {
        disk.bad_flush = true;
    } else if (strcmp(text, "heal") == 0) {
        disk.bad_read.count = disk.bad_write.count = 0;
        disk.bad_flush = false;
    } else if (strcmp(text, "power") == 0) {
        disk.cut = disk.armed = false;
        disk.life++;
    } else {
        return -EINVAL;
    }
    return 0;
}

static int tell(char *buf, size_t size, uint64_t off)
{
    char text[256];
    int n = snprintf(text, sizeof(text),
                     "writes %" PRIu64 "\nflushes %" PRIu64 "\nunflushed %" PRIu64
                     "\ncut %d\nerrors %" PRIu64 "\n",
                     disk.write_count, disk.flush_count, count_dirty(), disk.cut, disk.error_count);
    if (off >= (uint64_t)n)
        return 0;
    if (size > (uint64_t)n - off)
        size = (uint64_t)n - off;
    memcpy(buf, text + off, size);
    return (int)size;
}

/* ------------------------------------------------------------------------- two files, by path -- */

static bool is_disk(const char *path)
{
    return strcmp(path, "/disk") == 0;
}

static bool is_ctl(const char *path)
{
    return strcmp(path, "/ctl") == 0;
}

static int op_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    bool root = strcmp(path, "/") == 0;
    if (!root && !is_disk(path) && !is_ctl(path))
        return -ENOENT;
    st->st_mode = root ? S_IFDIR | 0700 : S_IFREG | 0600;
    st->st_nlink = 1;
    st->st_size = is_disk(path) ? (off_t)disk.size : 0;
    return 0;
}

static int op_open(const char *path, struct fuse_file_info *fi)
{
    fi->direct_io = 1; /* the cache is here */
    fi->fh = disk.life;
    return 0;
}

static int op_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    if (!is_disk(path))
        return tell(buf, size, (uint64_t)off);
    return fi->fh == disk.life ? disk_read(buf, size, (uint64_t)off) : fail();
}

static int op_write(const char *path, const char *buf, size_t size, off_t off,
                    struct fuse_file_info *fi)
{
    char text[128];
    if (is_disk(path))
        return fi->fh == disk.life ? disk_write(buf, size, (uint64_t)off) : fail();
    if (size >= sizeof(text))
        return -EINVAL;
    memcpy(text, buf, size);
    text[size] = 0;
    text[strcspn(text, "\n")] = 0;
    int r = command(text);
    return r < 0 ? r : (int)size;
}

static int op_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    return 0; /* a shell's `>` */
}

static int op_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
    if (!is_disk(path))
        return 0;
    return fi->fh == disk.life ? disk_flush() : fail();
}

static void *map_zeros(uint64_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {
        .getattr = op_getattr,
        .open = op_open,
        .read = op_read,
        .write = op_write,
        .truncate = op_truncate,
        .fsync = op_fsync,
    };
    if (argc != 3 || sscanf(argv[1], "%" SCNu64, &disk.size) != 1 ||
        disk.size % (64 * SECTOR_SIZE) != 0) {
        fprintf(stderr, "usage: cutdisk BYTES MOUNTPOINT, BYTES a multiple of 32768\n");
        return 2;
    }
    disk.cache = map_zeros(disk.size);
    disk.medium = map_zeros(disk.size);
    disk.dirty = calloc(disk.size / SECTOR_SIZE / 64, sizeof(uint64_t));
    if (disk.cache == NULL || disk.medium == NULL || disk.dirty == NULL) {
        perror("cutdisk");
        return 1;
    }
    char *args[] = {argv[0], "-f", "-s", "-o", "fsname=cutdisk", argv[2], NULL};
    return fuse_main(6, args, &operations, NULL);
}
