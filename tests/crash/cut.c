/* SPDX-License-Identifier: MIT */
/*
 * cut.c - the disk that is followed, and what a loss of power can leave of it: see cut.h.
 */
#include "cut.h"

#include <stdlib.h>
#include <string.h>

#include "powercut.h"
#include "rig.h"

const char *const cut_mode_names[CUT_MODE_COUNT] = {
    "all", "none", "only-last", "all-but-last", "some", "old", "torn", "single",
};

/* ----------------------------------------------------------------------------- what happened -- */

static struct cut_file *file_get(struct cut_disk *disk, unsigned number)
{
    if (disk->files[number] == NULL) {
        struct cut_file *file = calloc(1, sizeof(*file));
        CHECK(file != NULL);
        file->now = calloc(1, SIM_ROOM);
        file->durable = calloc(1, SIM_ROOM);
        CHECK(file->now != NULL && file->durable != NULL);
        disk->files[number] = file;
        if (number >= disk->file_count)
            disk->file_count = number + 1;
    }
    return disk->files[number];
}

void cut_init(struct cut_disk *disk)
{
    memset(disk, 0, sizeof(*disk));
    disk->names = *sim_directory();
    for (unsigned i = 0; i < SIM_FILES; i++) {
        const struct sim_file *from = sim_file_at(i);
        if (from == NULL)
            continue;
        struct cut_file *file = file_get(disk, i);
        file->size = file->durable_size = from->size;
        memcpy(file->there, from->touched, sizeof(file->there));
        for (size_t page = 0; page < SIM_PAGES; page++)
            if (from->touched[page]) {
                memcpy(file->now + page * SIM_PAGE, from->data + page * SIM_PAGE, SIM_PAGE);
                memcpy(file->durable + page * SIM_PAGE, from->data + page * SIM_PAGE, SIM_PAGE);
            }
    }
}

void cut_clone(struct cut_disk *disk, const struct cut_disk *from)
{
    *disk = *from;
    for (unsigned i = 0; i < from->file_count; i++) {
        if (from->files[i] == NULL)
            continue;
        disk->files[i] = NULL;
        struct cut_file *file = file_get(disk, i);
        uint8_t *now = file->now, *durable = file->durable;
        *file = *from->files[i];
        file->now = now;
        file->durable = durable;
        memcpy(now, from->files[i]->now, SIM_ROOM);
        memcpy(durable, from->files[i]->durable, SIM_ROOM);
    }
    disk->versions = malloc((from->version_room + 1) * sizeof(disk->versions[0]));
    CHECK(disk->versions != NULL);
    if (from->version_count > 0)
        memcpy(disk->versions, from->versions, from->version_count * sizeof(disk->versions[0]));
}

void cut_fini(struct cut_disk *disk)
{
    for (unsigned i = 0; i < disk->file_count; i++)
        if (disk->files[i] != NULL) {
            free(disk->files[i]->now);
            free(disk->files[i]->durable);
            free(disk->files[i]);
        }
    free(disk->versions);
    memset(disk, 0, sizeof(*disk));
}

static void sector_changed(struct cut_disk *disk, struct cut_file *file, size_t sector)
{
    const uint8_t *data = file->now + sector * SIM_SECTOR;
    uint32_t newest = file->versions[sector];
    const uint8_t *before =
        newest > 0 ? disk->versions[newest - 1].data : file->durable + sector * SIM_SECTOR;

    if (memcmp(before, data, SIM_SECTOR) == 0)
        return;
    if (disk->version_count == disk->version_room) {
        disk->version_room = disk->version_room > 0 ? 2 * disk->version_room : 1024;
        disk->versions = realloc(disk->versions, disk->version_room * sizeof(disk->versions[0]));
        CHECK(disk->versions != NULL);
    }
    struct cut_version *version = &disk->versions[disk->version_count++];
    version->next = newest;
    version->event = disk->event_count;
    memcpy(version->data, data, SIM_SECTOR);
    if (newest == 0)
        file->pending[file->pending_count++] = (uint16_t)sector;
    file->versions[sector] = disk->version_count;
}

static void bytes_changed(struct cut_disk *disk, struct cut_file *file, uint64_t off, uint64_t size)
{
    for (size_t sector = off / SIM_SECTOR; sector * SIM_SECTOR < off + size; sector++)
        sector_changed(disk, file, sector);
}

static void resized(struct cut_disk *disk, struct cut_file *file, uint64_t size)
{
    if (size < file->size) {
        memset(file->now + size, 0, file->size - size);
        bytes_changed(disk, file, size, file->size - size);
    }
    file->size = size;
    if (file->size_count == sizeof(file->sizes) / sizeof(file->sizes[0]))
        file->size_count--;
    file->sizes[file->size_count++] = size;
}

static void synced(struct cut_disk *disk, struct cut_file *file, uint64_t off, uint64_t size)
{
    bool whole = size == UINT64_MAX;
    unsigned kept = 0;

    if (whole || off + size > file->durable_size) {
        file->durable_size = whole || off + size > file->size ? file->size : off + size;
        if (file->durable_size == file->size)
            file->size_count = 0;
    }
    uint64_t first = whole ? 0 : off / SIM_SECTOR;
    uint64_t end = whole ? UINT64_MAX : (off + size + SIM_SECTOR - 1) / SIM_SECTOR;
    for (unsigned i = 0; i < file->pending_count; i++) {
        uint16_t sector = file->pending[i];
        if (sector < first || sector >= end) {
            file->pending[kept++] = sector;
            continue;
        }
        memcpy(file->durable + sector * SIM_SECTOR, file->now + sector * SIM_SECTOR, SIM_SECTOR);
        file->there[sector * SIM_SECTOR / SIM_PAGE] = 1;
        file->versions[sector] = 0;
    }
    file->pending_count = kept;
    unsigned pending = 0;
    for (unsigned i = 0; i < disk->file_count; i++)
        pending += disk->files[i] != NULL ? disk->files[i]->pending_count : 0;
    if (pending == 0)
        disk->version_count = 0;
}

static void names_change(struct sim_names *names, const struct cut_change *change)
{
    for (unsigned i = 0; i < names->count;)
        if (strcmp(names->at[i].text, change->drop) == 0 ||
            strcmp(names->at[i].text, change->add) == 0)
            names->at[i] = names->at[--names->count];
        else
            i++;
    if (change->add[0] == 0)
        return;
    CHECK(names->count < SIM_NAMES);
    strcpy(names->at[names->count].text, change->add);
    names->at[names->count++].file = change->file;
}

static void directory_changed(struct cut_disk *disk, const char *drop, const char *add,
                              unsigned file)
{
    CHECK(disk->change_count < sizeof(disk->changes) / sizeof(disk->changes[0]));
    struct cut_change *change = &disk->changes[disk->change_count++];
    strcpy(change->drop, drop);
    strcpy(change->add, add);
    change->file = file;
    change->event = disk->event_count;
}

void cut_apply(struct cut_disk *disk, const struct sim_log *log, const struct sim_event *event)
{
    struct cut_file *file = event->kind <= SIM_NAME ? file_get(disk, event->file) : NULL;

    disk->event_count++;
    switch (event->kind) {
    case SIM_WRITE:
    case SIM_STORE:
        memcpy(file->now + event->off, log->bytes + event->data, event->size);
        bytes_changed(disk, file, event->off, event->size);
        break;
    case SIM_ZERO:
        memset(file->now + event->off, 0, event->size);
        bytes_changed(disk, file, event->off, event->size);
        break;
    case SIM_RESIZE:
        resized(disk, file, event->off);
        break;
    case SIM_SYNC:
        synced(disk, file, event->off, event->size);
        break;
    case SIM_NAME:
        directory_changed(disk, "", event->name, event->file);
        break;
    case SIM_RENAME:
        directory_changed(disk, event->name, event->to, event->file);
        break;
    case SIM_UNLINK:
        directory_changed(disk, event->name, "", 0);
        break;
    case SIM_SYNC_DIR:
        for (unsigned i = 0; i < disk->change_count; i++)
            names_change(&disk->names, &disk->changes[i]);
        disk->change_count = 0;
        break;
    case SIM_MARK:
        break;
    }
}

/* ----------------------------------------------------------------------------- what is left -- */

/* How one cut goes: what is taken of that which is not durable. */
struct taking {
    enum cut_mode mode;
    unsigned percent;
    uint32_t last;   /* the event of the last change that is not durable */
    unsigned single; /* counts down to the one that is taken */
    uint64_t *dice;
};

bool cut_pending(const struct cut_disk *disk)
{
    return cut_single_count(disk) > 0;
}

unsigned cut_single_count(const struct cut_disk *disk)
{
    unsigned count = disk->change_count;

    for (unsigned i = 0; i < disk->file_count; i++)
        if (disk->files[i] != NULL)
            count += disk->files[i]->pending_count + disk->files[i]->size_count;
    return count;
}

static uint32_t last_event(const struct cut_disk *disk)
{
    uint32_t last = disk->change_count > 0 ? disk->changes[disk->change_count - 1].event : 0;

    for (unsigned i = 0; i < disk->file_count; i++)
        for (unsigned k = 0; disk->files[i] != NULL && k < disk->files[i]->pending_count; k++) {
            const struct cut_file *file = disk->files[i];
            uint32_t event = disk->versions[file->versions[file->pending[k]] - 1].event;
            last = event > last ? event : last;
        }
    return last;
}

static bool taken(struct taking *taking, uint32_t event)
{
    switch (taking->mode) {
    case CUT_ALL:
        return true;
    case CUT_NONE:
        return false;
    case CUT_ONLY_LAST:
        return event == taking->last;
    case CUT_ALL_BUT_LAST:
        return event != taking->last;
    case CUT_SINGLE:
        return taking->single-- == 0;
    default:
        return powercut_random(taking->dice, 100) < taking->percent;
    }
}

/* What the disk has of a sector whose newest version is `version`, into `to`, which is durable. */
static void sector_take(const struct cut_disk *disk, uint32_t version, uint8_t *to,
                        struct taking *taking)
{
    uint64_t *dice = taking->dice;

    while (taking->mode == CUT_OLD && disk->versions[version - 1].next > 0 &&
           powercut_random(dice, 2) == 0)
        version = disk->versions[version - 1].next;
    const uint8_t *from = disk->versions[version - 1].data;
    if (taking->mode != CUT_TORN || powercut_random(dice, 2) == 0) {
        memcpy(to, from, SIM_SECTOR);
        return;
    }
    size_t at = powercut_random(dice, SIM_SECTOR + 1);
    switch (powercut_random(dice, 3)) {
    case 0:
        memcpy(to, from, at);
        break;
    case 1:
        memcpy(to + at, from + at, SIM_SECTOR - at);
        break;
    default:
        for (size_t i = 0; i < SIM_SECTOR; i += 8)
            if (powercut_random(dice, 2) == 0)
                memcpy(to + i, from + i, 8);
    }
}

static void file_write(const struct cut_disk *disk, unsigned number, const char *name,
                       struct taking *taking)
{
    const struct cut_file *file = disk->files[number];
    struct sim_file *to = sim_make(number, name);
    uint64_t size = file->durable_size;

    for (unsigned i = 0; i < file->size_count; i++)
        if (taken(taking, UINT32_MAX))
            size = file->sizes[i];
    to->size = size;
    for (size_t page = 0; page < SIM_PAGES; page++)
        if (file->there[page]) {
            memcpy(to->data + page * SIM_PAGE, file->durable + page * SIM_PAGE, SIM_PAGE);
            to->touched[page] = to->allocated[page] = 1;
        }
    for (unsigned i = 0; i < file->pending_count; i++) {
        uint16_t sector = file->pending[i];
        uint32_t version = file->versions[sector];
        if (!taken(taking, disk->versions[version - 1].event))
            continue;
        size_t page = sector * SIM_SECTOR / SIM_PAGE;
        to->touched[page] = to->allocated[page] = 1;
        sector_take(disk, version, to->data + sector * SIM_SECTOR, taking);
    }
    if (size < SIM_ROOM)
        memset(to->data + size, 0, (SIM_PAGE - size % SIM_PAGE) % SIM_PAGE);
    for (size_t page = (size + SIM_PAGE - 1) / SIM_PAGE; page < SIM_PAGES; page++)
        if (to->touched[page])
            memset(to->data + page * SIM_PAGE, 0, SIM_PAGE);
}

void cut_write(const struct cut_disk *disk, enum cut_mode mode, unsigned single, uint64_t *dice)
{
    static const unsigned percents[] = {2, 20, 50, 80, 98};
    struct taking taking = {.mode = mode, .single = single, .dice = dice};
    struct sim_names names = disk->names;

    taking.last = last_event(disk);
    if (mode > CUT_ALL_BUT_LAST && mode != CUT_SINGLE)
        taking.percent = percents[powercut_random(dice, 5)];
    for (unsigned i = 0; i < disk->change_count; i++)
        if (taken(&taking, disk->changes[i].event))
            names_change(&names, &disk->changes[i]);
    sim_clear();
    for (unsigned i = 0; i < disk->file_count; i++) {
        const char *name = NULL;
        for (unsigned k = 0; k < names.count; k++)
            if (names.at[k].file == i)
                name = names.at[k].text;
        if (disk->files[i] != NULL && (name != NULL || mode == CUT_SINGLE))
            file_write(disk, i, name, &taking);
    }
    if (disk->file_count > 0) /* numbers are not used again */
        (void)sim_make(disk->file_count - 1, NULL);
}
