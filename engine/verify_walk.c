/* SPDX-License-Identifier: MIT */
/*
 * verify_walk.c - the records of a topic, block after block, read for verify.
 *
 * Serves verify.c; uses format.h.  One thread.
 *
 * What the table vouches for is sure: the records of a sealed block, those of an active one up to
 * `used`, all that there are when the store was closed cleanly.  Something invalid there is damage.
 * Behind it something invalid is the end of the log, unless an entry at or above it is known to
 * have been durable (docs/disk-format.md, "What recovery makes of an active block").
 *
 * Failure: see verify.c.
 */
#include "check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc32c.h"
#include "os.h"

#define PIECE_SIZE 1048576u /* read at once */

struct scan {
    struct check *c;
    const struct check_topic *topic;
    const struct check_place *places;
    size_t count, at; /* the block that is looked at */
    uint8_t *data;    /* of it, zero behind what was read */
    uint32_t filled;  /* bytes of `data` that may be other than zero */
    uint32_t seed;    /* of its records */
    uint32_t sure;    /* bytes of it that the table vouches for */
    uint64_t seq;     /* the number that comes next; of an entry in parts: its own */
    uint64_t left;    /* bytes of that entry that are still to come; 0: none is open */
    uint64_t bad_seq; /* the entry told last, plus 1 */
    uint64_t proven;  /* all entries below are known to have been durable */
    uint64_t count_open, bytes_open; /* entries of a unit that has not ended */
    bool looked_ahead;
    bool ended; /* the log ends here */
};

static const struct check_place *here(const struct scan *s)
{
    return &s->places[s->at];
}

static const struct check_file *file_of(const struct scan *s, const struct check_place *place)
{
    return &s->c->files[place->file];
}

static uint64_t base_of(const struct scan *s, const struct check_place *place)
{
    return FORMAT_FILE_META_SIZE + (uint64_t)place->idx * s->c->super.block_size;
}

static uint32_t seed_of(const struct scan *s, const struct check_place *place)
{
    const struct check_file *file = file_of(s, place);
    return format_seed_record(s->c->super.uuid, file->salt, file->number, place->idx,
                              place->info.epoch);
}

/* Number of the first entry that begins behind the present place. */
static uint64_t next_first(const struct scan *s)
{
    return s->seq + (s->left ? 1 : 0);
}

/* While the store is in use: whether the block is still what it was. */
static bool still_there(const struct scan *s)
{
    struct block_info now;
    const struct check_place *place = here(s);
    if (!s->c->live)
        return true;
    struct check quiet = *s->c; /* what it finds was told already */
    static const struct walrus_verify_options none;
    quiet.options = &none;
    int r = check_entry(&quiet, place->file, place->idx, &now);
    return r >= 0 && now.state != FORMAT_FREE && now.epoch == place->info.epoch;
}

/* Tells of entries from `first` to `end` - 1 that are lost, the same one once. */
PRINTF(6, 7)
static void lost(struct scan *s, uint64_t first, uint64_t end, uint32_t off, uint32_t size,
                 const char *format, ...);

/* Makes bytes zero that have to be; tells of them. */
static void not_zero(struct scan *s, uint32_t off, uint32_t size, const char *text)
{
    const struct check_place *place = here(s);
    if (check_zero(s->data + off, size) || !still_there(s))
        return;
    uint64_t at = base_of(s, place) + off;
    check_damage(
        s->c,
        (struct walrus_damage){.cost = WALRUS_COST_NOTHING,
                               .mended = check_mend_zero(s->c, file_of(s, place)->name, at, size),
                               .file = file_of(s, place)->name,
                               .topic = s->topic->name,
                               .block = place->idx,
                               .off = at,
                               .size = size},
        "%s", text);
}

static void lost(struct scan *s, uint64_t first, uint64_t end, uint32_t off, uint32_t size,
                 const char *format, ...)
{
    const struct check_place *place = here(s);
    char text[256];
    va_list args;
    first = MAX(first, s->bad_seq);
    bool costs = end > first;
    if (!still_there(s)) {
        s->ended = true;
        return;
    }
    va_start(args, format);
    int length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (costs)
        s->bad_seq = end;
    check_damage(s->c,
                 (struct walrus_damage){.cost = costs ? WALRUS_COST_ENTRIES : WALRUS_COST_NOTHING,
                                        .file = file_of(s, place)->name,
                                        .topic = s->topic->name,
                                        .block = place->idx,
                                        .off = base_of(s, place) + off,
                                        .size = size,
                                        .first_seq = costs ? first : 0,
                                        .end_seq = costs ? end : 0},
                 "%s", length < 0 ? format : text);
}

/* ----------------------------------------------------------------------------------- reading -- */

/* Reads bytes from `off` to `end` of a block, where the file has data. */
static int read_range(const struct scan *s, const struct check_place *place, uint8_t *data,
                      uint32_t off, uint32_t end, uint32_t *ret_filled)
{
    uint64_t base = base_of(s, place);
    int fd = file_of(s, place)->fd;
    while (off < end) {
        int64_t at = os_seek_data(fd, base + off);
        if (at == -ENXIO || (at >= 0 && (uint64_t)at >= base + end))
            break;
        if (at >= 0 && (uint64_t)at > base + off)
            off = (uint32_t)((uint64_t)at - base);
        uint32_t size = MIN(end - off, PIECE_SIZE);
        int r = os_read_salvaging(fd, data + off, size, base + off);
        if (r == -EIO)
            memset(data + off, 0xff, size);
        else if (r < 0)
            return r;
        off += size;
        *ret_filled = off;
        check_progress(s->c, size);
    }
    return 0;
}

static int read_block(struct scan *s)
{
    const struct check_place *place = here(s);
    const struct super_info *super = &s->c->super;
    uint32_t end = place->info.used, filled = 0;
    s->sure = end;
    s->seed = seed_of(s, place);
    /* Behind what is vouched for there may be more; in a clean store there must be nothing. */
    if (place->info.state == FORMAT_ACTIVE && !s->c->live)
        end = super->block_size;
    memset(s->data, 0, s->filled);
    int r = read_range(s, place, s->data, 0, end, &filled);
    s->filled = filled;
    return r;
}

static int header(const struct scan *s, uint32_t off, struct record_info *ret_info)
{
    return format_record_decode(s->data + off, s->c->super.block_size - off, s->seed, off,
                                ret_info);
}

/* ------------------------------------------------------------------------------------ proofs -- */

static uint64_t proof_of(const struct scan *s, const struct record_info *info)
{
    if (s->c->super.clean)
        return info->seq + 1;
    return info->undurable == UINT32_MAX ? 0 : info->seq - info->undurable;
}

static void proofs_in(struct scan *s, const uint8_t *data, uint32_t seed, uint32_t off,
                      uint32_t end)
{
    for (; off < end && off + FORMAT_RECORD_SIZE <= s->c->super.block_size;
         off += FORMAT_RECORD_ALIGN) {
        struct record_info info;
        if (format_record_decode(data + off, s->c->super.block_size - off, seed, off, &info) == 0)
            s->proven = MAX(s->proven, proof_of(s, &info));
    }
}

/* Gathers what everything behind `off` of the present block proves. */
static int look_ahead(struct scan *s, uint32_t off)
{
    if (s->looked_ahead)
        return 0;
    s->looked_ahead = true;
    proofs_in(s, s->data, s->seed, off, s->filled);
    uint8_t *data = NULL;
    int r = 0;
    for (size_t i = s->at + 1; r == 0 && i < s->count; i++) {
        const struct check_place *place = &s->places[i];
        uint32_t filled = 0;
        if (place->info.state != FORMAT_ACTIVE)
            continue; /* what the table says of it is in `proven` from the start */
        free(data);
        data = calloc(1, s->c->super.block_size);
        if (!data)
            return -ENOMEM;
        r = read_range(s, place, data, 0, s->c->super.block_size, &filled);
        if (r == 0)
            proofs_in(s, data, seed_of(s, place), 0, filled);
    }
    free(data);
    return r;
}

/* ---------------------------------------------------------------------------------- the walk -- */

/* The block behind the present one goes on where the walk stands. */
static bool continues(const struct scan *s)
{
    return s->at + 1 < s->count && s->places[s->at + 1].info.first_seq == next_first(s) &&
           s->places[s->at + 1].info.block_seq == here(s)->info.block_seq + 1;
}

static bool fits(const struct scan *s, const struct record_info *info)
{
    bool cont = info->flags & FORMAT_CONT;
    return info->seq == s->seq && cont == (s->left > 0) && (!cont || info->size <= s->left);
}

/* Steps over a record that is the one that must come; tells when its data is bad. */
static void accept(struct scan *s, const struct record_info *info, bool whole, uint32_t *off)
{
    uint32_t data_off = *off + FORMAT_RECORD_SIZE, end = data_off + info->size;
    uint32_t next = *off + (uint32_t)format_record_extent(info->size);
    if (!(info->flags & FORMAT_CONT)) {
        s->left = info->total;
        s->bytes_open += info->total;
        s->count_open++;
    }
    s->left -= info->size;
    if (!whole) {
        s->count_open -= s->bad_seq <= info->seq;
        lost(s, info->seq, info->seq + 1, data_off, info->size,
             "the data of an entry fails its checksum");
    }
    not_zero(s, end, next - end, "the padding behind a record is not zero");
    if (!(info->flags & FORMAT_PART)) {
        s->left = 0;
        s->seq++;
    }
    if (!(info->flags & FORMAT_MORE)) {
        s->c->result.entry_count += s->count_open;
        s->c->result.entry_bytes += s->bytes_open;
        s->count_open = s->bytes_open = 0;
    }
    *off = next;
}

/* The first valid record behind `off` that begins an entry of at least number `seq`. */
static bool resync(const struct scan *s, uint32_t off, uint64_t seq, uint32_t *ret_off,
                   struct record_info *ret_info)
{
    for (; off < s->filled && off + FORMAT_RECORD_SIZE <= s->c->super.block_size;
         off += FORMAT_RECORD_ALIGN) {
        if (header(s, off, ret_info) == 0 && !(ret_info->flags & FORMAT_CONT) &&
            ret_info->seq >= seq) {
            *ret_off = off;
            return true;
        }
    }
    return false;
}

/* Records at the start of a block whose entry began in a block that is gone, or was given up. */
static void skip_rest(struct scan *s, uint32_t *off)
{
    struct record_info info;
    if (s->left || header(s, 0, &info) < 0 || !(info.flags & FORMAT_CONT) || info.seq + 1 != s->seq)
        return;
    if (crc32c(0, s->data + FORMAT_RECORD_SIZE, info.size) != info.data_crc)
        lost(s, 0, 0, FORMAT_RECORD_SIZE, info.size,
             "the data fails its checksum, of an entry whose beginning is not kept");
    *off = (uint32_t)format_record_extent(info.size);
}

/* Where a record must be. */
struct spot {
    const struct scan *scan;
    uint32_t off;
};

static bool record_valid(void *arg, const void *data)
{
    const struct spot *spot = arg;
    const struct scan *s = spot->scan;
    struct record_info info;
    (void)data; /* lies in the block */
    return header(s, spot->off, &info) == 0 && fits(s, &info) &&
           crc32c(0, s->data + spot->off + FORMAT_RECORD_SIZE, info.size) == info.data_crc;
}

/* Mends a header that has one wrong bit: its own checksum and that of the data both say so. */
static bool mend_header(struct scan *s, uint32_t off)
{
    struct spot spot = {.scan = s, .off = off};
    const struct check_place *place = here(s);
    uint64_t at = base_of(s, place) + off;
    if (s->c->super.block_size - off < FORMAT_RECORD_SIZE ||
        !check_mend_bit(s->c, s->data + off, FORMAT_RECORD_SIZE, record_valid, &spot) ||
        !check_mend(s->c, file_of(s, place)->name, at, s->data + off, FORMAT_RECORD_SIZE))
        return false;
    check_damage(s->c,
                 (struct walrus_damage){.cost = WALRUS_COST_ENTRIES,
                                        .mended = true,
                                        .file = file_of(s, place)->name,
                                        .topic = s->topic->name,
                                        .block = place->idx,
                                        .off = at,
                                        .size = FORMAT_RECORD_SIZE,
                                        .first_seq = s->seq,
                                        .end_seq = s->seq + 1},
                 "a record's header had one wrong bit");
    return true;
}

/* Something that does not validate at `off`: the end of the log, or damage.  WALRUS_EMPTY: no more
 * records in this block. */
static int meet_bad(struct scan *s, uint32_t *off)
{
    const struct check_place *place = here(s);
    struct record_info info;
    uint32_t found;
    if (mend_header(s, *off))
        return 0;
    if (*off >= s->sure) {
        bool whole = !s->left || *off >= s->c->super.block_size;
        if (whole && continues(s))
            return WALRUS_EMPTY;
        int r = place->exact || s->c->live ? 0 : look_ahead(s, *off);
        if (r < 0)
            return r;
        if (place->exact || s->c->live || s->proven <= s->seq) {
            s->ended = !place->exact && !s->c->live;
            return WALRUS_EMPTY;
        }
    }
    if (resync(s, *off + FORMAT_RECORD_ALIGN, next_first(s), &found, &info)) {
        lost(s, s->seq, info.seq, *off, found - *off, "a record's header is damaged");
        s->seq = info.seq;
        *off = found;
    } else {
        uint64_t end = next_first(s);
        if (*off < s->sure)
            end = MAX(end, place->info.first_seq + place->info.count);
        else
            end = MAX(end, s->proven);
        if (s->at + 1 < s->count &&
            s->places[s->at + 1].info.block_seq == place->info.block_seq + 1)
            end = MAX(end, s->places[s->at + 1].info.first_seq);
        lost(s, s->seq, end, *off, *off < s->sure ? s->sure - *off : 0,
             "a record's header is damaged, and none follows in the block");
        s->seq = end;
        *off = MAX(s->sure, *off);
    }
    s->left = 0;
    s->count_open = s->bytes_open = 0;
    return s->ended || *off >= s->sure ? WALRUS_EMPTY : 0;
}

static int scan_block(struct scan *s)
{
    uint32_t off = 0;
    int r = read_block(s);
    if (r < 0)
        return r;
    skip_rest(s, &off);
    while (r == 0 && !s->ended) {
        const struct check_place *place = here(s);
        bool exact = place->exact || s->c->live || place->info.state == FORMAT_SEALED;
        if (exact && off >= s->sure)
            break;
        struct record_info info;
        bool good = header(s, off, &info) == 0 && fits(s, &info);
        bool whole =
            good && crc32c(0, s->data + off + FORMAT_RECORD_SIZE, info.size) == info.data_crc;
        if (good && !whole && off >= s->sure) { /* torn, unless it was durable */
            r = look_ahead(s, off);
            good = s->proven > s->seq;
        }
        if (r < 0)
            break;
        if (good)
            s->proven = MAX(s->proven, proof_of(s, &info));
        if (good)
            accept(s, &info, whole, &off);
        else
            r = meet_bad(s, &off);
    }
    if (r >= 0 && here(s)->exact && here(s)->info.state == FORMAT_ACTIVE && !s->c->live &&
        !s->ended && s->filled > s->sure && s->at + 1 == s->count)
        not_zero(s, s->sure, s->filled - s->sure, "not zero behind the end of the log");
    return MIN(r, 0);
}

/* Enters the next block; false: it does not belong here. */
static bool enter(struct scan *s)
{
    const struct block_info *info = &here(s)->info;
    if (s->at == 0) {
        s->seq = info->first_seq;
        return true;
    }
    const struct block_info *before = &s->places[s->at - 1].info;
    if (info->first_seq < next_first(s) || info->block_seq == before->block_seq) {
        check_damage(s->c,
                     (struct walrus_damage){.cost = WALRUS_COST_BLOCK,
                                            .file = file_of(s, here(s))->name,
                                            .topic = s->topic->name,
                                            .block = here(s)->idx,
                                            .off = base_of(s, here(s)),
                                            .size = s->c->super.block_size},
                     "the block is out of order: it is left out");
        return false;
    }
    bool gap = info->first_seq > next_first(s) || info->block_seq != before->block_seq + 1;
    if (gap && !s->c->live) {
        lost(s, s->seq, info->first_seq, 0, 0, "what belongs before this block is missing");
        s->left = 0;
    }
    if (gap)
        s->left = 0;
    if (!s->left)
        s->seq = info->first_seq;
    return true;
}

int check_blocks(struct check *c, struct check_topic *topic, const struct check_place *places,
                 size_t count)
{
    struct scan s = {
        .c = c, .topic = topic, .places = places, .count = count, .proven = topic->bound};
    int r = 0;
    s.data = calloc(1, c->super.block_size);
    if (!s.data)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (places[i].info.used > 0)
            s.proven = MAX(s.proven, places[i].info.first_seq + places[i].info.count);
    for (; r == 0 && s.at < count && !s.ended; s.at++) {
        c->result.block_count++;
        if (enter(&s))
            r = scan_block(&s);
    }
    topic->end_seq = next_first(&s);
    s.at = count - 1;
    s.ended = false;
    if (r == 0 && !c->live && s.proven > next_first(&s))
        lost(&s, s.seq, s.proven, 0, 0,
             "entries at the end were durable or consumed, and are gone");
    free(s.data);
    return r;
}
