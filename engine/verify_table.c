/* SPDX-License-Identifier: MIT */
/*
 * verify_table.c - the metadata of log files, read for verify: both headers, both entries of every
 * block, and what has to be zero.
 *
 * Serves verify.c and, where it can be mended, repair.c; uses format.h.  One thread.
 *
 * Failure: see verify.c.
 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

/* What an entry is checked by. */
struct entry_seed {
    uint32_t seed, block_size;
};

static bool entry_valid(void *arg, const void *data)
{
    const struct entry_seed *seed = arg;
    struct block_info info;
    return format_block_decode(data, sizeof(struct format_block), seed->seed, seed->block_size,
                               &info) >= 0;
}

/* Writes a bad entry again: without its one wrong bit, or as the good one.  True: done, and
 * *info is what it says now. */
static bool entry_mend(struct check *c, const struct check_file *file, uint32_t idx, uint32_t copy,
                       const struct block_info *good, struct block_info *info)
{
    struct format_block raw;
    uint64_t off = FORMAT_TABLE_OFF(copy) + idx * sizeof(raw);
    struct entry_seed seed = {
        .seed = format_seed_block(c->super.uuid, file->salt, file->number, idx, copy),
        .block_size = c->super.block_size};
    if (!c->mender || os_read_salvaging(file->fd, (uint8_t *)&raw, sizeof(raw), off) < 0)
        return false;
    if (!check_mend_bit(c, &raw, sizeof(raw), entry_valid, &seed)) {
        if (!good)
            return false;
        format_block_encode(&raw, good, seed.seed);
    }
    memset(info, 0, sizeof(*info)); /* as it is when the entry is zeros */
    return check_mend(c, file->name, off, &raw, sizeof(raw)) &&
           format_block_decode(&raw, sizeof(raw), seed.seed, seed.block_size, info) >= 0;
}

int check_entry(struct check *c, size_t file_idx, uint32_t idx, struct block_info *ret_info)
{
    const struct check_file *file = &c->files[file_idx];
    struct block_info info[2];
    int result[2], best;
    unsigned tries = 0;
    do {
        best = -1;
        for (uint32_t copy = 0; copy < 2; copy++) {
            uint8_t raw[sizeof(struct format_block)];
            int r = os_read_salvaging(file->fd, raw, sizeof(raw),
                                      FORMAT_TABLE_OFF(copy) + idx * sizeof(raw));
            if (r < 0 && r != -EIO)
                return r;
            result[copy] = r < 0 ? -EBADMSG
                                 : format_block_decode(raw, sizeof(raw),
                                                       format_seed_block(c->super.uuid, file->salt,
                                                                         file->number, idx, copy),
                                                       c->super.block_size, &info[copy]);
            if (result[copy] == WALRUS_EMPTY)
                info[copy] = (struct block_info){0};
            if (result[copy] >= 0 && (best < 0 || info[copy].generation > info[best].generation))
                best = (int)copy;
        }
        if (best >= 0 && result[best ^ 1] == WALRUS_EMPTY && info[best].state != FORMAT_FREE &&
            info[best].generation > 1)
            result[best ^ 1] = -EBADMSG; /* both were written by then */
    } while ((result[0] < 0 || result[1] < 0) && check_again(c, &tries));
    int good = best;
    for (uint32_t copy = 0; copy < 2; copy++) {
        bool bad = result[copy] < 0;
        if (bad && entry_mend(c, file, idx, copy, good < 0 ? NULL : &info[good], &info[copy])) {
            result[copy] = 0;
            if (best < 0 || info[copy].generation > info[best].generation)
                best = (int)copy;
        }
        if (bad)
            check_damage(c,
                         (struct walrus_damage){
                             .cost = good < 0 ? WALRUS_COST_BLOCK : WALRUS_COST_NOTHING,
                             .mended = result[copy] >= 0,
                             .file = file->name,
                             .block = idx,
                             .off = FORMAT_TABLE_OFF(copy) + idx * sizeof(struct format_block),
                             .size = sizeof(struct format_block)},
                         "copy %u of the block's table entry is damaged%s", copy,
                         good < 0 ? ", as is the other: the block is left out"
                                  : "; the other is used");
    }
    if (best < 0)
        return -EBADMSG;
    *ret_info = info[best];
    return result[0] < 0 || result[1] < 0 ? WALRUS_EMPTY : 0; /* EMPTY: not exact */
}

static int orphan_add(struct check *c, size_t file, uint32_t idx)
{
    if (c->orphan_count == c->orphan_room) {
        size_t room = c->orphan_room ? c->orphan_room * 2 : 16;
        struct check_place *bigger = realloc(c->orphans, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        c->orphans = bigger;
        c->orphan_room = room;
    }
    c->orphans[c->orphan_count++] = (struct check_place){.file = file, .idx = idx};
    return 0;
}

static int place_add(struct check *c, size_t file, uint32_t idx, const struct block_info *info,
                     bool exact)
{
    if (c->place_count == c->place_room) {
        size_t room = c->place_room ? c->place_room * 2 : 256;
        struct check_place *bigger = realloc(c->places, room * sizeof(*bigger));
        if (!bigger)
            return -ENOMEM;
        c->places = bigger;
        c->place_room = room;
    }
    c->places[c->place_count++] =
        (struct check_place){.info = *info, .file = file, .idx = idx, .exact = exact};
    return 0;
}

/* What a header is checked by. */
struct file_seed {
    uint32_t seed;
    struct file_info info;
};

static bool file_valid(void *arg, const void *data)
{
    struct file_seed *seed = arg;
    return format_file_decode(data, sizeof(struct format_file), seed->seed, &seed->info) == 0;
}

/* Writes a bad header again: without its one wrong bit, or as the good one. */
static bool file_header_mend(struct check *c, struct check_file *file, const uint8_t *meta,
                             uint32_t copy, const struct file_info *good)
{
    struct format_file raw;
    struct file_seed seed = {.seed = format_seed_file(c->super.uuid, file->number, copy)};
    memcpy(&raw, meta + FORMAT_HEADER_OFF(copy), sizeof(raw));
    if (check_mend_bit(c, &raw, sizeof(raw), file_valid, &seed))
        memcpy(file->salt, seed.info.salt, sizeof(file->salt));
    else if (good)
        format_file_encode(&raw, good, seed.seed);
    else
        return false;
    return check_mend(c, file->name, FORMAT_HEADER_OFF(copy), &raw, sizeof(raw));
}

/* Both headers of a log file.  -EBADMSG: neither can be used */
static int file_headers(struct check *c, struct check_file *file, const uint8_t *meta)
{
    struct file_info info, good;
    int result[2], r = -EBADMSG;
    for (uint32_t copy = 0; copy < 2; copy++) {
        result[copy] =
            format_file_decode(meta + FORMAT_HEADER_OFF(copy), sizeof(struct format_file),
                               format_seed_file(c->super.uuid, file->number, copy), &info);
        if (result[copy] == 0 &&
            (info.number != file->number || info.block_size != c->super.block_size ||
             info.blocks_per_file != c->super.blocks_per_file))
            result[copy] = -EBADMSG;
        if (result[copy] == 0) {
            memcpy(file->salt, info.salt, sizeof(file->salt));
            good = info;
            r = 0;
        }
    }
    bool mended = false;
    for (uint32_t copy = 0; copy < 2; copy++) {
        bool bad = result[copy] < 0;
        bool done = bad && file_header_mend(c, file, meta, copy, r < 0 ? NULL : &good);
        mended |= done;
        if (bad)
            check_damage(
                c,
                (struct walrus_damage){.cost = r < 0 ? WALRUS_COST_BLOCK : WALRUS_COST_NOTHING,
                                       .mended = done,
                                       .file = file->name,
                                       .block = -1,
                                       .off = FORMAT_HEADER_OFF(copy),
                                       .size = sizeof(struct format_file)},
                "copy %u of the header is damaged%s", copy,
                r < 0 ? ", as is the other: the file is left out" : "; the other is used");
    }
    return mended ? 0 : r;
}

/* The places of blocks that a file does not have are zero. */
static void file_rest(struct check *c, const struct check_file *file, const uint8_t *meta)
{
    size_t used = c->super.blocks_per_file * sizeof(struct format_block);
    for (uint32_t copy = 0; copy < 2; copy++) {
        size_t size = FORMAT_FILE_BLOCKS_MAX * sizeof(struct format_block) - used;
        if (!check_zero(meta + FORMAT_TABLE_OFF(copy) + used, size))
            check_damage(
                c,
                (struct walrus_damage){
                    .cost = WALRUS_COST_NOTHING,
                    .mended = check_mend_zero(c, file->name, FORMAT_TABLE_OFF(copy) + used, size),
                    .file = file->name,
                    .block = -1,
                    .off = FORMAT_TABLE_OFF(copy) + used,
                    .size = size},
                "not zero behind copy %u of the block table, where nothing is kept", copy);
    }
}

int check_file_meta(struct check *c, size_t file_idx)
{
    struct check_file *file = &c->files[file_idx];
    uint64_t size,
        whole = FORMAT_FILE_META_SIZE + (uint64_t)c->super.blocks_per_file * c->super.block_size;
    int r = check_open(c, file->name, &file->fd, &size);
    if (r < 0 || file->fd < 0)
        return r == -ELOOP ? 0 : r;
    if (size < whole) /* what is missing of records is told with them */
        check_damage(c,
                     (struct walrus_damage){.cost = size < FORMAT_FILE_META_SIZE
                                                        ? WALRUS_COST_BLOCK
                                                        : WALRUS_COST_NOTHING,
                                            .mended = check_mend_size(c, file->name, whole),
                                            .file = file->name,
                                            .block = -1,
                                            .off = size,
                                            .size = whole - size},
                     "cut short; what lay behind counts as zeros");
    uint8_t *meta = malloc(FORMAT_FILE_META_SIZE);
    r = meta ? os_read_salvaging(file->fd, meta, FORMAT_FILE_META_SIZE, 0) : -ENOMEM;
    if (r == 0)
        r = file_headers(c, file, meta);
    if (r == 0)
        file_rest(c, file, meta);
    free(meta);
    if (r < 0)
        return r == -EBADMSG ? 0 : r;
    check_progress(c, FORMAT_FILE_META_SIZE);
    for (uint32_t idx = 0; r >= 0 && idx < c->super.blocks_per_file; idx++) {
        struct block_info info;
        r = check_entry(c, file_idx, idx, &info);
        if (r >= 0)
            c->digest += format_digest(FORMAT_DIGEST_BLOCK, (uint64_t)file->number << 32 | idx,
                                       info.generation);
        if (r == -EBADMSG)
            r = orphan_add(c, file_idx, idx);
        else if (r >= 0 && info.state != FORMAT_FREE)
            r = place_add(c, file_idx, idx, &info, c->super.clean == FORMAT_CLOSED && r == 0);
    }
    return MIN(r, 0);
}
