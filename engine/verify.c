/* SPDX-License-Identifier: MIT */
/*
 * verify.c - reads a whole store without opening it, and tells what is damaged.
 *
 * Uses verify_*.c; serves walrus.h and repair.c.  Order: SUPER, which says how the rest is
 * to be read; the registry, for names; the offsets; the metadata of each log file; the records of
 * each topic.  Nothing is written, and nothing of recovery is used.
 *
 * A store that nobody uses is locked as a read-only opening locks it.  With a user, everything is
 * read beside it: reads see whole what it wrote some time ago and may see half of what it writes
 * just now.  So a structure that does not validate is read again for a while before it counts as
 * damaged; the blocks' records are read up to where the table says that they are durable, and when
 * something is wrong with one, it counts only if the block is still the same one.
 *
 * Failure: damage is told and counted; only errors of the system, and a newer format, end the
 * reading.
 */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "os.h"
#include "store.h"

#define AGAIN_COUNT 100u     /* looks at what a writer may be changing, */
#define AGAIN_NS    2000000u /* so far apart: longer than a write takes, also on a busy machine */

/* ----------------------------------------------------------------------------------- helpers -- */

void check_damage(struct check *c, struct walrus_damage damage, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    damage.text = size < 0 ? format : text;
    if (c->mender && !damage.mended)
        return; /* the second pass tells what is left */
    c->result.damage_count++;
    c->result.mended_count += damage.mended;
    if (damage.cost == WALRUS_COST_ENTRIES && !damage.mended)
        c->result.lost_count += damage.end_seq - damage.first_seq;
    if (c->options->damage)
        c->options->damage(c->options->arg, &damage);
}

bool check_again(const struct check *c, unsigned *tries)
{
    if (!c->live || ++*tries > AGAIN_COUNT)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = AGAIN_NS}, NULL);
    return true;
}

void check_progress(struct check *c, uint64_t bytes)
{
    c->done += bytes;
    if (c->options->progress)
        c->options->progress(c->options->arg, MIN(c->done, c->total), c->total);
}

bool check_zero(const void *data, size_t size)
{
    const uint8_t *bytes = data;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

int check_open(struct check *c, const char *name, int *ret_fd, uint64_t *ret_size)
{
    struct stat st;
    int r = os_open(c->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);
    int fd = r;
    if (fd >= 0)
        r = os_fstat(fd, &st);
    if (fd >= 0 && r == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1))
        r = -ELOOP;
    if (r == -ELOOP || r == -ENXIO) {
        r = -ELOOP;
        check_damage(c,
                     (struct walrus_damage){.cost = WALRUS_COST_STORE, .file = name, .block = -1},
                     "not a regular file with one name");
    }
    if (r < 0 && fd >= 0)
        os_close(fd);
    if (r == -ENOENT) {
        *ret_fd = -1;
        *ret_size = 0;
        return 0;
    }
    if (r < 0)
        return r;
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

int check_topic(struct check *c, uint64_t id, struct check_topic **ret_topic)
{
    struct check_topic *topic;
    HASH_FIND(hh, c->topics, &id, sizeof(id), topic);
    if (!topic) {
        topic = calloc(1, sizeof(*topic));
        if (!topic)
            return -ENOMEM;
        topic->id = id;
        HASH_ADD(hh, c->topics, id, sizeof(id), topic);
        if (!topic->hh.tbl) {
            free(topic);
            return -ENOMEM;
        }
    }
    *ret_topic = topic;
    return 0;
}

/* ------------------------------------------------------------------------------------- SUPER -- */

static bool super_valid(void *arg, const void *data)
{
    return format_super_decode(data, sizeof(struct format_super), arg) == 0;
}

static int super_copy(struct check *c, int fd, uint32_t copy, struct super_info *ret_info)
{
    struct format_super raw;
    unsigned tries = 0;
    int r;
    do {
        r = os_read_salvaging(fd, (uint8_t *)&raw, sizeof(raw), copy * sizeof(raw));
        if (r == 0)
            r = format_super_decode(&raw, sizeof(raw), ret_info);
    } while (r == -EBADMSG && check_again(c, &tries));
    if (r == -EBADMSG && check_mend_bit(c, &raw, sizeof(raw), super_valid, ret_info) &&
        check_mend(c, "SUPER", copy * sizeof(raw), &raw, sizeof(raw))) {
        check_damage(c,
                     (struct walrus_damage){.cost = WALRUS_COST_NOTHING,
                                            .mended = true,
                                            .file = "SUPER",
                                            .block = -1,
                                            .off = copy * sizeof(raw),
                                            .size = sizeof(raw)},
                     "copy %u had one wrong bit", copy);
        r = 0;
    }
    return r;
}

/* Writes a copy again from the other one, as that of a store that was not closed. */
static bool super_mend(struct check *c, uint32_t copy, const struct super_info *good)
{
    struct format_super raw;
    struct super_info info = *good;
    info.generation++;
    info.clean = 0;
    info.digest = 0;
    format_super_encode(&raw, &info);
    return check_mend(c, "SUPER", copy * sizeof(raw), &raw, sizeof(raw));
}

/* -EBADMSG: told, and nothing else can be read. */
static int check_super(struct check *c)
{
    struct super_info info[2];
    int fd, result[2];
    uint64_t size;
    int r = check_open(c, "SUPER", &fd, &size);
    if (r == 0 && fd < 0)
        r = -ENOENT;
    if (r < 0)
        return r == -ELOOP ? -EBADMSG : r;
    for (uint32_t copy = 0; copy < 2; copy++)
        result[copy] = super_copy(c, fd, copy, &info[copy]);
    os_close(fd);
    if (size < 2 * sizeof(struct format_super))
        check_damage(c,
                     (struct walrus_damage){
                         .cost = WALRUS_COST_NOTHING,
                         .mended = check_mend_size(c, "SUPER", 2 * sizeof(struct format_super)),
                         .file = "SUPER",
                         .block = -1,
                         .off = size,
                         .size = 2 * sizeof(struct format_super) - size},
                     "cut short; what lay behind counts as zeros");
    for (uint32_t copy = 0; copy < 2; copy++)
        if (result[copy] < 0 && result[copy] != -EBADMSG)
            return result[copy];
    bool lost = result[0] < 0 && result[1] < 0;
    for (uint32_t copy = 0; copy < 2; copy++)
        if (result[copy] < 0)
            check_damage(
                c,
                (struct walrus_damage){.cost = lost ? WALRUS_COST_STORE : WALRUS_COST_NOTHING,
                                       .mended = !lost && super_mend(c, copy, &info[copy ^ 1]),
                                       .file = "SUPER",
                                       .block = -1,
                                       .off = copy * sizeof(struct format_super),
                                       .size = sizeof(struct format_super)},
                "copy %u is damaged%s", copy, lost ? ", as is the other" : "; the other is used");
    if (lost)
        return -EBADMSG;
    uint32_t best = result[0] < 0 || (result[1] == 0 && info[1].generation > info[0].generation);
    c->super = info[best];
    if (result[best ^ 1] < 0) /* it may have been the newer */
        c->super.clean = FORMAT_IN_USE;
    c->result.clean = c->super.clean == FORMAT_CLOSED;
    return 0;
}

/* --------------------------------------------------------------------------------- directory -- */

static int lock_share(struct check *c)
{
    uint64_t size;
    int r = check_open(c, "LOCK", &c->lock_fd, &size);
    if (r < 0 || c->lock_fd < 0)
        return r == -ELOOP ? -EBADMSG : r;
    if (flock(c->lock_fd, LOCK_SH | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return -errno;
    c->live = c->result.in_use = true;
    return 0;
}

static int file_compare(const void *a, const void *b)
{
    const struct check_file *x = a, *y = b;
    return x->number < y->number ? -1 : x->number > y->number;
}

static int file_add(void *arg, const char *name, int type)
{
    struct check *c = arg;
    uint32_t number;
    bool tmp;
    (void)type;
    if (!recover_log_number(name, &number, &tmp) || tmp)
        return 0;
    if (c->file_count == c->file_room) {
        size_t room = c->file_room ? c->file_room * 2 : 64;
        struct check_file *bigger = realloc(c->files, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        c->files = bigger;
        c->file_room = room;
    }
    struct check_file *file = &c->files[c->file_count++];
    *file = (struct check_file){.number = number, .fd = -1};
    snprintf(file->name, sizeof(file->name), "wal_%04u.log", number);
    struct stat st;
    int fd = os_open(c->dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd >= 0 && os_fstat(fd, &st) == 0)
        c->total += (uint64_t)st.st_blocks * 512;
    os_close(fd);
    return 0;
}

static int check_list(struct check *c)
{
    int r = os_list(c->dirfd, file_add, c);
    if (r == 0 && c->file_count)
        qsort(c->files, c->file_count, sizeof(c->files[0]), file_compare);
    return r;
}

/* ------------------------------------------------------------------------------------- whole -- */

static int place_compare(const void *a, const void *b)
{
    const struct check_place *x = a, *y = b;
    if (x->info.topic_id != y->info.topic_id)
        return x->info.topic_id < y->info.topic_id ? -1 : 1;
    if (x->info.block_seq != y->info.block_seq)
        return x->info.block_seq < y->info.block_seq ? -1 : 1;
    return x->info.epoch < y->info.epoch ? 1 : -1;
}

/* Entries that were consumed, of a topic that has no blocks at all: the newest block never goes. */
static void check_blockless(struct check *c, const struct check_topic *topic)
{
    if (!c->live && !topic->removed && topic->bound)
        check_damage(
            c,
            (struct walrus_damage){
                .cost = WALRUS_COST_BLOCK, .file = "topics.db", .topic = topic->name, .block = -1},
            "the topic's groups have consumed entries, but no block of it is there");
}

static int check_records(struct check *c)
{
    int r = 0;
    if (c->place_count)
        qsort(c->places, c->place_count, sizeof(c->places[0]), place_compare);
    for (size_t i = 0, n; r == 0 && i < c->place_count; i += n) {
        struct check_place *place = &c->places[i];
        uint64_t id = place->info.topic_id;
        for (n = 1; i + n < c->place_count && place[n].info.topic_id == id; n++)
            ;
        struct check_topic *topic;
        r = check_topic(c, id, &topic);
        if (r < 0 || topic->removed)
            continue;
        if (!topic->name && !c->live)
            check_damage(
                c,
                (struct walrus_damage){.cost = WALRUS_COST_NAME, .file = "topics.db", .block = -1},
                "the name of topic %llu is lost; it comes back as recovered-%llu",
                (unsigned long long)id, (unsigned long long)id);
        r = check_blocks(c, topic, place, n);
        topic->last_place = i + n;
        topic->bound = 0; /* was looked at */
    }
    struct check_topic *topic, *next;
    HASH_ITER(hh, c->topics, topic, next)
    {
        check_blockless(c, topic);
        for (struct check_group *group = topic->groups; group; group = group->next)
            c->result.group_count += !topic->removed && !group->removed;
        c->result.topic_count += !topic->removed && (topic->name || topic->groups);
    }
    return r;
}

/* A store that was closed has just the metadata that it had then: what is older is valid, too. */
static void check_digest(struct check *c)
{
    uint64_t digest = c->digest ? c->digest : 1;
    if (c->super.clean != FORMAT_CLOSED || c->live || !c->super.digest || digest == c->super.digest)
        return;
    c->digest_wrong = true;
    for (size_t i = 0; i < c->place_count; i++)
        c->places[i].exact = false;
    if (c->result.damage_count == 0)
        check_damage(
            c, (struct walrus_damage){.cost = WALRUS_COST_OFFSET, .file = "SUPER", .block = -1},
            "the metadata is not what it was when the store was closed: some of it is older");
}

int check_all(struct check *c)
{
    int r = check_super(c);
    if (r == 0)
        r = check_list(c);
    if (r == 0)
        r = check_registry(c);
    if (r == 0)
        r = check_offsets(c);
    for (size_t i = 0; r == 0 && i < c->file_count; i++)
        r = check_file_meta(c, i);
    if (r == 0)
        check_digest(c);
    if (r == 0)
        r = check_records(c);
    c->result.file_count = c->file_count;
    return r == -EBADMSG ? 0 : r; /* that much is lost; it was told */
}

void check_free(struct check *c)
{
    struct check_topic *topic, *next;
    HASH_ITER(hh, c->topics, topic, next)
    {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that the table shrinks */
        HASH_DEL(c->topics, topic);
        while (topic->groups) {
            struct check_group *group = topic->groups;
            topic->groups = group->next;
            free(group->name);
            free(group);
        }
        free(topic->name);
        free(topic);
    }
    for (size_t i = 0; i < c->file_count; i++)
        os_close(c->files[i].fd);
    free(c->files);
    free(c->places);
    free(c->orphans);
    free(c->strays);
}

int walrus_verify(const char *dir, const struct walrus_verify_options *options,
                  struct walrus_verify_result *ret_result)
{
    static const struct walrus_verify_options defaults;
    struct check c = {.options = options ? options : &defaults, .dirfd = -1, .lock_fd = -1};
    int r = store_directory(dir, c.options->key, false, &c.dirfd);
    if (r == 0)
        r = lock_share(&c);
    if (r == 0)
        r = check_all(&c);
    r = r == -EBADMSG ? 0 : r; /* LOCK is no file: told */
    check_free(&c);
    os_close(c.lock_fd);
    os_close(c.dirfd);
    if (r == 0)
        *ret_result = c.result;
    return r;
}
