/* SPDX-License-Identifier: MIT */
/*
 * scale.c - stores larger than a test can fill: what opening them reads, and what they cost while
 * nobody uses them.
 *
 *     scale blocks FILES      log files of 100 sealed blocks of 10 MiB; 1000 of them are 1 TB
 *     scale topics COUNT      topics that hold nothing
 *     scale entries COUNT     entries of 100 bytes in one topic, after a kill
 *     scale make DIR FILES    leaves a store as of `blocks` in the empty directory DIR
 *
 * Log files are sparse: their metadata is written with the engine's own encoders, their blocks are
 * holes.  Each prints what it saw.  What must hold is checked: reads are counted at the table of
 * system calls, pages of blocks by mincore(2), memory by the allocator.  No time is.
 */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faultos.h"
#include "format.h"
#include "os.h"
#include "registry.h"
#include "rig.h"

enum {
    ENTRIES_PER_BLOCK = 10000, /* which nobody reads */
    TOPIC_BYTES_MAX = 1024,    /* memory for a topic that nobody uses */
    BATCH = 10000,
};

static struct rig s;

static void path_of(char *ret_path, const char *name)
{
    snprintf(ret_path, PATH_MAX, "%s/%s", s.dir, name);
}

/* A closed store with one topic and no log file; what its SUPER says. */
static struct super_info make_store(void)
{
    struct format_super copies[2];
    struct super_info info, best = {.generation = 0};
    char path[PATH_MAX];

    s.options.block_size = 0;
    s.options.blocks_per_file = 0;
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    walrus_topic_unref(rig_topic(&s, "t"));
    rig_close(&s);
    path_of(path, "SUPER");
    disk_read(path, 0, copies, sizeof(copies));
    for (unsigned i = 0; i < 2; i++)
        if (format_super_decode(&copies[i], sizeof(copies[i]), &info) == 0 &&
            info.generation >= best.generation)
            best = info;
    best.digest = 0; /* it does not know of what is put beside it */
    best.generation++;
    format_super_encode(&copies[0], &best);
    disk_write(path, (best.generation & 1) * sizeof(copies[0]), &copies[0], sizeof(copies[0]));
    return best;
}

static void make_file(const struct super_info *super, uint32_t number)
{
    static uint8_t meta[FORMAT_FILE_META_SIZE];
    struct file_info info = {.number = number,
                             .block_size = super->block_size,
                             .blocks_per_file = super->blocks_per_file};
    char path[PATH_MAX], name[32];

    memset(meta, 0, sizeof(meta));
    memcpy(info.salt, &number, sizeof(number));
    for (uint32_t copy = 0; copy < 2; copy++) {
        format_file_encode((struct format_file *)(meta + FORMAT_HEADER_OFF(copy)), &info,
                           format_seed_file(super->uuid, number, copy));
        for (uint32_t i = 0; i < super->blocks_per_file; i++) {
            uint64_t seq = (uint64_t)(number - 1) * super->blocks_per_file + i;
            struct block_info block = {.state = FORMAT_SEALED,
                                       .used = super->block_size,
                                       .count = ENTRIES_PER_BLOCK,
                                       .generation = 2,
                                       .epoch = super->generation << 32,
                                       .topic_id = 1,
                                       .block_seq = seq,
                                       .first_seq = seq * ENTRIES_PER_BLOCK,
                                       .first_byte = seq * ENTRIES_PER_BLOCK * 1000,
                                       .bytes = ENTRIES_PER_BLOCK * 1000};
            format_block_encode((struct format_block *)(meta + FORMAT_TABLE_OFF(copy)) + i, &block,
                                format_seed_block(super->uuid, info.salt, number, i, copy));
        }
    }
    snprintf(name, sizeof(name), "wal_%04u.log", number);
    path_of(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK_INT(ftruncate(fd, (off_t)(FORMAT_FILE_META_SIZE +
                                    (uint64_t)super->blocks_per_file * super->block_size)),
              0);
    CHECK_INT(pwrite(fd, meta, sizeof(meta), 0), sizeof(meta));
    CHECK_INT(close(fd), 0);
}

static struct super_info make_blocks(uint32_t files)
{
    struct super_info super = make_store();

    for (uint32_t number = 1; number <= files; number++)
        make_file(&super, number);
    printf("%u files, %u blocks of %u bytes: %.2f TB\n", files, files * super.blocks_per_file,
           super.block_size, (double)files * super.blocks_per_file * super.block_size / 1e12);
    return super;
}

/* Pages of the blocks of a log file that are in memory. */
static uint64_t pages_read(uint32_t number)
{
    char path[PATH_MAX], name[32];
    uint64_t count = 0;

    snprintf(name, sizeof(name), "wal_%04u.log", number);
    path_of(path, name);
    size_t size = disk_size(path), pages = size / FORMAT_PAGE_SIZE;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0), *in_memory = malloc(pages);
    CHECK(fd >= 0 && map != MAP_FAILED && in_memory != NULL);
    CHECK_INT(mincore(map, size, in_memory), 0);
    for (size_t i = FORMAT_FILE_META_SIZE / FORMAT_PAGE_SIZE; i < pages; i++)
        count += in_memory[i] & 1;
    free(in_memory);
    munmap(map, size);
    close(fd);
    return count;
}

static unsigned count_dir(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    CHECK(dir != NULL);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

static unsigned count_maps(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned count = 0;
    int c;

    CHECK(f != NULL);
    while ((c = fgetc(f)) != EOF)
        count += c == '\n';
    fclose(f);
    return count;
}

/* Opens the store, prints what it took; returns the bytes of memory that it has. */
static uint64_t open_counted(void)
{
    uint64_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    unsigned maps = count_maps(), fds = count_dir("/proc/self/fd");
    uint64_t began = now_ms();

    faultos_forget_counts();
    rig_open(&s);
    uint64_t ms = now_ms() - began;
    uint64_t memory = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    printf("opened in %llu ms; read %llu bytes of log files, at most %llu of one; %llu bytes of "
           "memory, %u descriptors, %u mappings\n",
           (unsigned long long)ms, (unsigned long long)faultos_read_bytes("wal_*.log"),
           (unsigned long long)faultos_read_bytes_max("wal_*.log"), (unsigned long long)memory,
           count_dir("/proc/self/fd") - fds, count_maps() - maps);
    CHECK(faultos_read_bytes_max("wal_*.log") <= FORMAT_FILE_META_SIZE);
    return memory;
}

static void scale_blocks(uint32_t files)
{
    uint64_t pages = 0;
    struct super_info super = make_blocks(files);

    for (int unclean = 0; unclean < 2; unclean++) {
        if (unclean) { /* as after a kill: SUPER does not say that it was closed */
            struct format_super copy;
            char path[PATH_MAX];
            super.clean = 0;
            super.generation += 10;
            path_of(path, "SUPER");
            format_super_encode(&copy, &super);
            disk_write(path, (super.generation & 1) * sizeof(copy), &copy, sizeof(copy));
        }
        printf("%s: ", unclean ? "after a kill" : "closed cleanly");
        open_counted();
        struct walrus_topic_stat stat = rig_topic_stat(&s, "t");
        CHECK_INT(stat.first_seq, 0);
        CHECK_INT(stat.tail_seq, (uint64_t)files * super.blocks_per_file * ENTRIES_PER_BLOCK);
        CHECK_INT(stat.damaged_count, 0);
        for (uint32_t number = 1; number <= files; number += 1 + files / 20)
            pages += pages_read(number);
        CHECK_INT(pages, 0);
        if (unclean)
            rig_append(&s, "t", stat.tail_seq, 100);
        rig_close(&s);
    }
}

/* ------------------------------------------------------------------------------------ topics -- */

/* A topic with its first group for each number up to *arg. */
static int fill_registry(void *arg, struct registry_making *making)
{
    static const uint8_t attr[WALRUS_ATTR_SIZE];
    const uint32_t *count = arg;
    int r = 0;

    for (uint32_t id = 1; r == 0 && id <= *count; id++) {
        char name[32];
        int size = snprintf(name, sizeof(name), "topic-%08u", id);
        struct registry_change topic = {.kind = REGISTRY_TOPIC,
                                        .topic_id = id,
                                        .group_id = 2,
                                        .name = name,
                                        .name_size = (size_t)size,
                                        .attr = attr};
        struct registry_change group = {.kind = REGISTRY_GROUP,
                                        .topic_id = id,
                                        .group_id = 1,
                                        .slot = id - 1,
                                        .name = "default",
                                        .name_size = strlen("default"),
                                        .attr = attr};
        r = registry_add(making, &topic);
        if (r == 0)
            r = registry_add(making, &group);
    }
    return r;
}

static int ignore_record(void *arg, const struct registry_change *change)
{
    return 0;
}

static void scale_topics(uint32_t count)
{
    struct super_info super = make_store();
    struct reporter quiet = {.quiet = true};
    struct registry *registry;
    uint64_t next, damaged;
    char path[PATH_MAX];

    int dirfd = open(s.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(dirfd >= 0);
    CHECK_INT(registry_open(dirfd, super.uuid, false, &quiet, ignore_record, NULL, &next, &damaged,
                            &registry),
              0);
    CHECK_INT(registry_compact(registry, fill_registry, &count, count + 1), 0);
    registry_close(registry);
    close(dirfd);
    path_of(path, "read_offset_idx_index.db"); /* slots that were never written */
    CHECK_INT(truncate(path, (off_t)((count + 63) / 64 * 65536)), 0);
    printf("%u topics: ", count);
    uint64_t memory = open_counted();
    CHECK_INT(rig_stat(&s).topic_count, count);
    printf("%llu bytes of memory a topic\n", (unsigned long long)(memory / count));
    CHECK(memory / count <= TOPIC_BYTES_MAX);
    rig_close(&s);
}

/* ----------------------------------------------------------------------------------- entries -- */

/* In a process of its own, which is killed. */
static void append_and_die(uint64_t count)
{
    static uint8_t data[100];
    static struct iovec entries[BATCH];

    for (size_t i = 0; i < BATCH; i++)
        entries[i] = (struct iovec){data, sizeof(data)};
    rig_open(&s);
    struct walrus_topic *topic = rig_topic(&s, "t");
    for (uint64_t done = 0; done < count; done += BATCH)
        CHECK_INT(walrus_topic_append(topic, entries, BATCH, NULL, NULL), 0);
    kill(getpid(), SIGKILL);
}

static void scale_entries(uint64_t count)
{
    int status;

    make_store();
    count = (count + BATCH - 1) / BATCH * BATCH;
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        append_and_die(count);
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    printf("%llu entries, after a kill: ", (unsigned long long)count);
    open_counted();
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, count);
    rig_close(&s);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[argc - 1], NULL, 10) : 0;
    struct rlimit files;

    CHECK_INT(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &files), 0);
    if (count == 0) {
        fprintf(stderr, "usage: scale blocks|topics|entries COUNT, scale make DIR FILES\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    rig_init(&s);
    faultos_install();
    if (strcmp(what, "blocks") == 0)
        scale_blocks(count);
    else if (strcmp(what, "topics") == 0)
        scale_topics(count);
    else if (strcmp(what, "entries") == 0)
        scale_entries(count);
    else if (strcmp(what, "make") == 0 && argc == 4) {
        snprintf(s.dir, sizeof(s.dir), "%s", argv[2]);
        make_blocks(count);
    }
    faultos_remove();
    rig_fini(&s);
    return 0;
}
