/* SPDX-License-Identifier: MIT */
/*
 * rot.c - damages a closed store in one place, opens it, and checks what is left.
 *
 *     rot                        a sample by a seed that is printed: CI
 *     rot --all                  every bit of all metadata and 524,288 bits of data, every sector, every cut
 *     rot --seed N --flips N --sectors N --cuts N
 *     rot TRIAL                  that one, as a failure prints it: KIND:FILE:OFFSET:ARGUMENT
 *
 * The oracle, for a single place: every entry whose record does not lie there is read whole, none is
 * altered, no sequence number is given again, no group skips anything; whatever was lost, or came back
 * older, was reported; verify finds every damage in bytes that mean something, and names all
 * entries that are lost; the store can be used, closed, and opened again with the same result.
 * Only cutting off, or covering, both copies of a header refuses the store, with a message and
 * without changing it.
 *
 * Of flipped bits one in eight has all of that; the others are opened read-only, which is quicker.
 * The directory lies on tmpfs where there is one.  One thread.
 */
#include "powercut.h"
#include "reference.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format.h"

#define SECTOR 512u
#define WHOLE_EVERY                                                                                \
    8u /* trials with a flipped bit, of which one is opened for writing, and twice */

enum kind { FLIP, ZERO, COPY, SWAP, OLD, CUT, KIND_COUNT };

static const char *const kind_names[] = {"flip", "zero", "copy", "swap", "old", "cut"};

struct trial {
    enum kind kind;
    size_t image;
    uint64_t off; /* FLIP: of a byte; CUT: the new length; else of a sector */
    uint64_t arg; /* FLIP: bit; COPY, SWAP: offset of another sector of the same file */
};

static struct reference ref;
static char trial_text[128];
static uint64_t trial_count, refused_count, lost_total, unmeant_count;

/* What a trial changes: up to two ranges of one file. */
struct range {
    uint64_t off, end;
};

/* ---------------------------------------------------------------------------------- failures -- */

static void tell_trial(void)
{
    static char line[256];
    int size = snprintf(line, sizeof(line), "replay with: build/tests/rot/rot %s\n", trial_text);
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)size);
    (void)ignored;
}

static void on_signal(int number)
{
    tell_trial();
    signal(number, SIG_DFL);
    raise(number);
}

#define EXPECT(expr, ...)                                                                          \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #expr);                             \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            fputs(rig->report_text, stderr);                                                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* ----------------------------------------------------------------------------- doing a damage -- */

static const struct ref_image *older_of(const struct ref_image *image)
{
    for (size_t i = 0; i < ref.older.count; i++)
        if (strcmp(ref.older.list[i].name, image->name) == 0)
            return &ref.older.list[i];
    return NULL;
}

/* Damages `data`; the ranges that are other than before, and how long the file is then. */
static uint64_t damage(const struct trial *trial, uint8_t *data, struct range ranges[2])
{
    const struct ref_image *image = &ref.images.list[trial->image], *older = older_of(image);
    uint8_t sector[SECTOR];
    uint64_t size = image->size, off = trial->off;
    ranges[0] = (struct range){off, off + SECTOR};
    ranges[1] = (struct range){0, 0};
    switch (trial->kind) {
    case FLIP:
        data[off] ^= (uint8_t)(1u << trial->arg);
        ranges[0].end = off + 1;
        break;
    case ZERO:
        memset(data + off, 0, SECTOR);
        break;
    case COPY:
        memcpy(data + off, data + trial->arg, SECTOR);
        break;
    case SWAP:
        memcpy(sector, data + off, SECTOR);
        memcpy(data + off, data + trial->arg, SECTOR);
        memcpy(data + trial->arg, sector, SECTOR);
        ranges[1] = (struct range){trial->arg, trial->arg + SECTOR};
        break;
    case OLD:
        if (older && off + SECTOR <= older->size)
            memcpy(data + off, older->data + off, SECTOR);
        break;
    case CUT:
        ranges[0].end = size;
        size = off;
        break;
    case KIND_COUNT:
        abort();
    }
    return size;
}

/* -------------------------------------------------------------------------------- the oracle -- */

/* What may be gone after a trial. */
struct allowed {
    bool refusal;                               /* of the whole store */
    bool names;                                 /* of topics and groups, and settings */
    bool offsets;                               /* groups may go back */
    bool all_entries;                           /* of that file */
    bool changed;                               /* any byte is other than before */
    bool means;                                 /* one of them has a meaning */
    bool numbers;                               /* may be given again */
    bool taken;                                 /* something was taken since */
    bool told;                                  /* by repair, of what was damaged */
    bool entries[REF_TOPIC_MAX][REF_ENTRY_MAX]; /* of topic i, number first + j */
};

static bool touches(const struct range *ranges, uint64_t off, uint64_t end)
{
    return (ranges[0].off < end && off < ranges[0].end) ||
           (ranges[1].off < end && off < ranges[1].end);
}

static void allow(const struct trial *trial, const struct range *ranges, const uint8_t *now,
                  uint64_t size, struct allowed *ret)
{
    const struct ref_image *image = &ref.images.list[trial->image];
    memset(ret, 0, sizeof(*ret));
    for (int i = 0; i < 2; i++)
        for (uint64_t off = ranges[i].off; off < ranges[i].end; off++)
            if (off >= size ? image->data[off] != 0 : now[off] != image->data[off]) {
                ret->changed = true;
                ret->means |= reference_means(&ref, trial->image, off);
            }
    /* A file that became shorter is noticed, wherever it was cut. */
    bool super = strcmp(image->name, "SUPER") == 0, log = strncmp(image->name, "wal_", 4) == 0;
    bool registry = strcmp(image->name, "topics.db") == 0;
    /* The copy that is not the newest may be older still; SUPER's may take each other's place. */
    if (trial->kind == OLD || (super && (trial->kind == COPY || trial->kind == SWAP)))
        ret->means = false;
    /* With the data, and the copy of the table that told of it, the last numbers are forgotten. */
    ret->numbers = trial->kind == CUT && log;
    ret->refusal = trial->kind == CUT && ((super && size < 4096) || (registry && size < 8192));
    if (trial->kind == SWAP && super && (trial->off < 4096) != (trial->arg < 4096))
        ret->refusal = true; /* both copies are hit */
    if (trial->kind == SWAP && registry && trial->off < 8192 && trial->arg < 8192 &&
        (trial->off < 4096) != (trial->arg < 4096))
        ret->refusal = true;
    ret->names = registry;
    ret->offsets = !super && !log;
    if (!log)
        return;
    if (touches(ranges, 0, FORMAT_FILE_META_SIZE)) {
        bool first = touches(ranges, 0, 4096), second = touches(ranges, 61440, 65536);
        bool table = touches(ranges, 4096, 32768), twin = touches(ranges, 32768, 61440);
        ret->all_entries = (first && second) || (table && twin);
    }
    for (size_t i = 0; i < ref.record_count; i++) {
        const struct ref_record *record = &ref.records[i];
        if (record->image != trial->image)
            continue;
        const struct ref_topic *topic = &ref.topics[record->topic];
        if (record->seq >= topic->first &&
            (ret->all_entries || touches(ranges, record->off, record->end)))
            ret->entries[record->topic][record->seq - topic->first] = true;
    }
}

struct seen {
    bool lost[REF_TOPIC_MAX][REF_ENTRY_MAX];
    uint64_t lost_count;
    bool moved; /* a group is not where it was, a name is not what it was */
};

static struct walrus_topic *topic_find(struct rig *rig, uint64_t id)
{
    struct walrus_topic *topic;
    if (walrus_topic_after(rig->walrus, id - 1, &topic) != 0)
        return NULL;
    struct walrus_topic_stat stat;
    walrus_topic_stat(topic, &stat);
    if (stat.id == id)
        return topic;
    walrus_topic_unref(topic);
    return NULL;
}

/* Whether entry `seq` is there, whole; an altered one ends the run. */
static bool entry_is_whole(struct rig *rig, struct walrus_topic *topic,
                           const struct ref_topic *want, uint64_t seq, size_t size)
{
    static uint8_t data[200000];
    struct walrus_reader *reader;
    int r = walrus_entry_open(topic, seq, &reader);
    if (r == -ENOENT || r == -EBADMSG)
        return false;
    EXPECT(r == 0, "%s: entry %llu: %d", want->name, (unsigned long long)seq, r);
    ssize_t n = 0, got = 0; /* a large entry is handed out up to its damaged part */
    do {
        n += got;
        got = walrus_reader_read(reader, data + n, sizeof(data) - (size_t)n, (uint64_t)n, NULL);
    } while (got > 0);
    EXPECT(walrus_reader_close(reader) == 0, "close");
    if (got == -EBADMSG)
        return false;
    EXPECT(got == 0, "read: %zd", got);
    EXPECT(n == (ssize_t)size, "%s: entry %llu has %zd bytes, not %zu", want->name,
           (unsigned long long)seq, n, size);
    EXPECT(payload_same(ref.seed, want->name, seq, data, size), "%s: entry %llu is altered",
           want->name, (unsigned long long)seq);
    return true;
}

static void look_at_groups(struct rig *rig, struct walrus_topic *topic, size_t topic_idx,
                           const struct allowed *allowed, struct seen *seen)
{
    const struct ref_topic *want = &ref.topics[topic_idx];
    for (size_t i = 0; i < want->group_count; i++) {
        const struct ref_group *group = &want->groups[i];
        struct walrus_group *found;
        struct walrus_group_stat stat;
        if (walrus_group_find(topic, group->name, &found) != 0) {
            EXPECT(allowed->names, "%s: group %s is gone", want->name, group->name);
            seen->moved = true;
            continue;
        }
        walrus_group_stat(found, &stat);
        walrus_group_unref(found);
        bool skips = false; /* something that is there */
        for (uint64_t seq = group->offset; seq < stat.offset && seq < want->tail; seq++)
            skips |= !seen->lost[topic_idx][seq - want->first];
        EXPECT(!skips, "%s: group %s skips from %llu to %llu", want->name, group->name,
               (unsigned long long)group->offset, (unsigned long long)stat.offset);
        if (stat.offset == group->offset && stat.pending_count == group->pending)
            continue;
        bool fewer = stat.offset >= group->offset && seen->lost_count > 0;
        EXPECT(allowed->offsets || allowed->names || fewer,
               "%s: group %s was at %llu with %llu pending, and is at %llu with %llu", want->name,
               group->name, (unsigned long long)group->offset, (unsigned long long)group->pending,
               (unsigned long long)stat.offset, (unsigned long long)stat.pending_count);
        seen->moved = true;
    }
}

static void look_at_topic(struct rig *rig, size_t i, const struct allowed *allowed,
                          struct seen *seen)
{
    const struct ref_topic *want = &ref.topics[i];
    struct walrus_topic *topic = topic_find(rig, want->id);
    char name[WALRUS_NAME_SIZE_MAX + 1] = "";
    struct walrus_topic_stat stat = {0};
    if (topic) {
        walrus_topic_name(topic, name);
        walrus_topic_stat(topic, &stat);
    }
    if (strcmp(name, want->name) != 0) {
        EXPECT(allowed->names || allowed->all_entries, "topic %s is %s", want->name, name);
        seen->moved = true;
    }
    for (uint64_t seq = want->first; seq < want->tail; seq++) {
        size_t k = seq - want->first;
        if (allowed->taken && topic && seq < stat.first_seq)
            continue; /* consumed and gone */
        if (allowed->taken && allowed->numbers && allowed->entries[i][k])
            continue; /* another one may have its number */
        if (topic && entry_is_whole(rig, topic, want, seq, want->sizes[k]))
            continue;
        EXPECT(allowed->entries[i][k], "%s: entry %llu is lost", want->name,
               (unsigned long long)seq);
        seen->lost[i][k] = true;
        seen->lost_count++;
    }
    EXPECT(!topic || stat.tail_seq >= want->tail || allowed->numbers,
           "%s: numbers from %llu on are given again", want->name,
           (unsigned long long)stat.tail_seq);
    if (topic && !allowed->taken)
        look_at_groups(rig, topic, i, allowed, seen);
    walrus_topic_unref(topic);
}

static void look(struct rig *rig, const struct allowed *allowed, struct seen *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (size_t i = 0; i < ref.topic_count; i++)
        look_at_topic(rig, i, allowed, ret);
}

/* Appends to every topic, reads that back and takes something. */
static void use(struct rig *rig)
{
    struct walrus_topic *topic;
    for (uint64_t id = 0; walrus_topic_after(rig->walrus, id, &topic) == 0;) {
        struct walrus_topic_stat stat;
        struct walrus_entry entry;
        char name[WALRUS_NAME_SIZE_MAX + 1];
        uint64_t seq;
        walrus_topic_stat(topic, &stat);
        walrus_topic_name(topic, name);
        id = stat.id;
        struct iovec vec = {.iov_base = name, .iov_len = strlen(name)};
        EXPECT(walrus_topic_append(topic, &vec, 1, NULL, &seq) == 0, "append to %s", name);
        EXPECT(seq >= stat.tail_seq, "number %llu again", (unsigned long long)seq);
        EXPECT(walrus_read_at(rig->walrus, name, seq, &entry) == 0, "read of %s", name);
        EXPECT(entry.size == strlen(name) && memcmp(entry.data, name, entry.size) == 0, "bytes");
        free(entry.data);
        int r = walrus_read_next(rig->walrus, name, &entry);
        EXPECT(r == 0 || r == -EBADMSG || r == WALRUS_EMPTY, "take from %s: %d", name, r);
        if (r == 0)
            free(entry.data);
        walrus_topic_unref(topic);
    }
    EXPECT(walrus_sync(rig->walrus) == 0, "sync");
}

/* ------------------------------------------------------------------------------------ trials -- */

struct verified {
    bool lost[REF_TOPIC_MAX][REF_ENTRY_MAX];
    bool store, block;
};

static void note(void *arg, const struct walrus_damage *found)
{
    struct verified *verified = arg;
    verified->store |= found->cost == WALRUS_COST_STORE;
    verified->block |= found->cost == WALRUS_COST_BLOCK;
    if (found->cost != WALRUS_COST_ENTRIES)
        return;
    for (size_t i = 0; i < ref.topic_count; i++) {
        const struct ref_topic *topic = &ref.topics[i];
        if (found->topic && strcmp(found->topic, topic->name) == 0)
            for (uint64_t seq = topic->first; seq < topic->tail; seq++)
                verified->lost[i][seq - topic->first] |=
                    seq >= found->first_seq && seq < found->end_seq;
    }
}

static void check_refusal(struct rig *rig, const struct allowed *allowed, int r)
{
    char lock[PATH_MAX];
    EXPECT(allowed->refusal && r == -EBADMSG, "refused: %d", r);
    EXPECT(rig_reports(rig, WALRUS_ERROR) > 0, "refused in silence");
    snprintf(lock, sizeof(lock), "%s/LOCK", rig->dir);
    unlink(lock);
    refused_count++;
}

static void reports_forget(struct rig *rig)
{
    memset(rig->report_count, 0, sizeof(rig->report_count));
    rig->report_text[0] = 0;
}

/* Warnings of every opening on tmpfs. */
static unsigned reports(struct rig *rig)
{
    return rig_reports(rig, WALRUS_ERROR) + rig_reports(rig, WALRUS_WARNING) -
           (rig_reported(rig, "tmpfs") ? 1 : 0);
}

static void check_verify(struct rig *rig, const struct allowed *allowed,
                         struct verified *ret_verified)
{
    struct walrus_verify_options options = {.damage = note, .arg = ret_verified};
    struct walrus_verify_result result;
    memset(ret_verified, 0, sizeof(*ret_verified));
    int r = walrus_verify(rig->dir, &options, &result);
    EXPECT(r == 0, "verify: %d", r);
    EXPECT(result.damage_count > 0 || !allowed->means, "verify finds nothing");
    EXPECT(result.damage_count == 0 || allowed->changed, "verify finds damage where none is");
}

static bool pristine; /* the directory holds the reference, undamaged */

static void poke(struct rig *rig, const struct trial *trial, uint8_t byte)
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", rig->dir, ref.images.list[trial->image].name);
    disk_write(path, trial->off, &byte, 1);
}

/* Brings the damaged store to the disk; `poked`: by one byte of what is there already. */
static void set_up(struct rig *rig, const struct trial *trial, bool poked,
                   struct allowed *ret_allowed)
{
    static uint8_t *data;
    static size_t room;
    struct range ranges[2];
    struct ref_image *image = &ref.images.list[trial->image], whole = *image;
    if (poked && !pristine) {
        images_write(&ref.images, rig->dir);
        pristine = true;
    }
    if (image->size > room)
        data = realloc(data, room = image->size);
    CHECK(data != NULL);
    if (poked)
        data[trial->off] = image->data[trial->off];
    else
        memcpy(data, image->data, image->size);
    uint64_t size = damage(trial, data, ranges);
    allow(trial, ranges, data, size, ret_allowed);
    ret_allowed->changed |= trial->kind == CUT;
    ret_allowed->means |= trial->kind == CUT;
    if (poked) {
        poke(rig, trial, data[trial->off]);
        return;
    }
    image->data = data;
    image->size = size;
    for (int i = 0; i < 2; i++)
        for (uint64_t off = ranges[i].off; off < ranges[i].end && off < size; off++)
            image->pages[off / 4096] = true;
    images_write(&ref.images, rig->dir);
    *image = whole;
    pristine = false;
}

/* The opened store against what must be. */
static void check_opened(struct rig *rig, const struct allowed *allowed,
                         const struct verified *verified, struct seen *ret_seen)
{
    look(rig, allowed, ret_seen);
    lost_total += ret_seen->lost_count;
    EXPECT((!ret_seen->lost_count && !ret_seen->moved) || reports(rig) > 0 || allowed->told,
           "loss in silence");
    for (size_t i = 0; i < ref.topic_count; i++)
        for (size_t k = 0; k < REF_ENTRY_MAX; k++)
            EXPECT(
                !ret_seen->lost[i][k] || verified->lost[i][k] || verified->block || allowed->names,
                "verify does not name %s %zu", ref.topics[i].name, (size_t)ref.topics[i].first + k);
}

static void check_second_opening(struct rig *rig, struct allowed *allowed, const struct seen *seen)
{
    struct seen again;
    rig_open(rig);
    allowed->taken = true;
    look(rig, allowed, &again);
    for (size_t i = 0; i < ref.topic_count; i++)
        for (size_t k = 0; k < REF_ENTRY_MAX; k++)
            EXPECT(seen->lost[i][k] || !again.lost[i][k], "the second opening loses %s %zu",
                   ref.topics[i].name, (size_t)ref.topics[i].first + k);
    use(rig);
    rig_close(rig);
}

/* A single wrong bit outside of payloads leaves no trace; nothing else becomes worse by repair. */
static void repair(struct rig *rig, const struct trial *trial, struct allowed *allowed)
{
    struct walrus_verify_result before, mended, after;
    EXPECT(walrus_verify(rig->dir, NULL, &before) == 0, "verify");
    int r = walrus_repair(rig->dir, NULL, &mended);
    EXPECT(r == 0, "repair: %d", r);
    EXPECT(walrus_verify(rig->dir, NULL, &after) == 0, "verify");
    EXPECT(after.entry_count >= before.entry_count, "repair drops entries");
    EXPECT(after.damage_count == mended.damage_count - mended.mended_count,
           "repair tells another count of what is left");
    allowed->told = mended.damage_count > 0;
    if (trial->kind != FLIP || after.lost_count > 0)
        return;
    EXPECT(after.damage_count == 0, "a flipped bit is left");
    EXPECT(after.clean, "the store is not as it was");
    allowed->names = allowed->offsets = false;
    memset(allowed->entries, 0, sizeof(allowed->entries));
}

static void run(struct rig *rig, const struct trial *trial)
{
    struct allowed allowed;
    struct verified verified;
    struct seen seen;
    bool whole = trial->kind != FLIP || trial_count++ % WHOLE_EVERY == 0;
    snprintf(trial_text, sizeof(trial_text), "%s:%s:%llu:%llu", kind_names[trial->kind],
             ref.images.list[trial->image].name, (unsigned long long)trial->off,
             (unsigned long long)trial->arg);
    set_up(rig, trial, !whole, &allowed);
    reports_forget(rig);
    check_verify(rig, &allowed, &verified);
    trial_count += trial->kind != FLIP;
    bool repaired = whole && trial_count / WHOLE_EVERY % 2 == 0;
    if (repaired)
        repair(rig, trial, &allowed);
    unmeant_count += !allowed.means;
    rig->options.read_only = !whole;
    int r = rig_try_open(rig);
    if (r < 0) {
        check_refusal(rig, &allowed, r);
        EXPECT(verified.store, "verify does not tell that the store is refused");
        EXPECT(!repaired || strcmp(ref.images.list[trial->image].name, "SUPER") == 0,
               "refused after a repair");
        return;
    }
    check_opened(rig, &allowed, &verified, &seen);
    if (!whole) {
        rig_close(rig);
        poke(rig, trial, ref.images.list[trial->image].data[trial->off]);
        return;
    }
    use(rig);
    rig_close(rig);
    check_second_opening(rig, &allowed, &seen);
}

/* ------------------------------------------------------------------------------------- plans -- */

static uint64_t random_state;

static uint64_t random_next(uint64_t below)
{
    return powercut_random(&random_state, below);
}

/* A byte that means something, all of them alike. */
static void random_byte(size_t *ret_image, uint64_t *ret_off)
{
    do {
        *ret_image = random_next(ref.images.count);
        *ret_off = random_next(ref.images.list[*ret_image].size);
    } while (!reference_means(&ref, *ret_image, *ret_off));
}

static uint64_t random_sector(size_t image)
{
    return random_next(ref.images.list[image].size / SECTOR) * SECTOR;
}

static struct trial random_sector_trial(void)
{
    struct trial trial = {.kind = ZERO + (enum kind)random_next(4)};
    random_byte(&trial.image, &trial.off);
    trial.off = trial.off / SECTOR * SECTOR;
    trial.arg = random_sector(trial.image);
    return trial;
}

static void run_sample(struct rig *rig, uint64_t flips, uint64_t sectors, uint64_t cuts)
{
    for (uint64_t i = 0; i < flips; i++) {
        struct trial trial = {.kind = FLIP, .arg = random_next(8)};
        random_byte(&trial.image, &trial.off);
        run(rig, &trial);
    }
    for (uint64_t i = 0; i < sectors; i++) {
        struct trial trial = random_sector_trial();
        run(rig, &trial);
    }
    for (uint64_t i = 0; i < cuts; i++) {
        struct trial trial = {.kind = CUT, .image = random_next(ref.images.count)};
        trial.off = random_sector(trial.image);
        run(rig, &trial);
    }
}

/* Every bit that means something; every sector in each way; every cut. */
static void run_all(struct rig *rig, uint64_t data_bits)
{
    for (size_t i = 0; i < ref.images.count; i++) {
        const struct ref_image *image = &ref.images.list[i];
        bool log = strncmp(image->name, "wal_", 4) == 0;
        for (uint64_t off = 0; off < image->size; off++) {
            bool data = log && off >= FORMAT_FILE_META_SIZE;
            for (uint64_t bit = 0; bit < 8 && reference_means(&ref, i, off); bit++) {
                if (data && data_bits == 0)
                    break;
                data_bits -= data;
                run(rig, &(struct trial){.kind = FLIP, .image = i, .off = off, .arg = bit});
            }
        }
        fprintf(stderr, "rot: bits of %s: %llu trials\n", image->name,
                (unsigned long long)trial_count);
        for (uint64_t off = 0; off + SECTOR <= image->size; off += SECTOR)
            for (enum kind kind = ZERO; kind < KIND_COUNT; kind++)
                run(rig,
                    &(struct trial){.kind = kind, .image = i, .off = off, .arg = random_sector(i)});
    }
}

/* KIND:FILE:OFFSET:ARGUMENT */
static bool parse_trial(const char *text, struct trial *ret_trial)
{
    char kind[8], name[64];
    unsigned long long off, arg;
    if (sscanf(text, "%7[a-z]:%63[^:]:%llu:%llu", kind, name, &off, &arg) != 4)
        return false;
    ret_trial->kind = KIND_COUNT;
    ret_trial->image = ref.images.count;
    for (enum kind i = 0; i < KIND_COUNT; i++)
        if (strcmp(kind, kind_names[i]) == 0)
            ret_trial->kind = i;
    for (size_t i = 0; i < ref.images.count; i++)
        if (strcmp(name, ref.images.list[i].name) == 0)
            ret_trial->image = i;
    ret_trial->off = off;
    ret_trial->arg = arg;
    return ret_trial->kind != KIND_COUNT && ret_trial->image != ref.images.count &&
           off < ref.images.list[ret_trial->image].size;
}

struct plan {
    bool all;
    uint64_t seed, flips, sectors, cuts;
    const char *one;
};

static struct plan parse(int argc, char **argv)
{
    struct plan plan = {.seed = (uint64_t)getpid() * 2654435761u ^ now_ms(),
                        .flips = 10000,
                        .sectors = 600,
                        .cuts = 60};
    for (int i = 1; i < argc; i++) {
        uint64_t *number = strcmp(argv[i], "--seed") == 0      ? &plan.seed
                           : strcmp(argv[i], "--flips") == 0   ? &plan.flips
                           : strcmp(argv[i], "--sectors") == 0 ? &plan.sectors
                           : strcmp(argv[i], "--cuts") == 0    ? &plan.cuts
                                                               : NULL;
        if (number && i + 1 < argc)
            *number = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--all") == 0)
            plan.all = true;
        else
            plan.one = argv[i];
    }
    return plan;
}

int main(int argc, char **argv)
{
    struct rig rig;
    struct plan plan = parse(argc, argv);
    struct trial trial;
    if (access("/dev/shm", W_OK) == 0)
        CHECK_INT(setenv("TMPDIR", "/dev/shm", 1), 0);
    rig_init(&rig);
    reference_load(&ref, &rig);
    random_state = plan.seed;
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    uint64_t start = now_ms();
    printf("rot: seed %llu, %zu files, %zu topics, %zu records\n", (unsigned long long)plan.seed,
           ref.images.count, ref.topic_count, ref.record_count);
    fflush(stdout);
    if (plan.one) {
        CHECK(parse_trial(plan.one, &trial));
        run(&rig, &trial);
        fputs(rig.report_text, stdout);
    } else if (plan.all) {
        run_all(&rig, 524288);
    } else {
        run_sample(&rig, plan.flips, plan.sectors, plan.cuts);
    }
    printf(
        "rot: %llu trials, %llu refused, %llu entries lost, 0 silent, %llu hit nothing; %llu/s\n",
        (unsigned long long)trial_count, (unsigned long long)refused_count,
        (unsigned long long)lost_total, (unsigned long long)unmeant_count,
        (unsigned long long)(trial_count * 1000 / (now_ms() - start + 1)));
    reference_fini(&ref);
    rig_fini(&rig);
    return 0;
}
