/* SPDX-License-Identifier: MIT */
/*
 * space.c - log files and the blocks in them: who has which, and what the block tables say.
 *
 * Serves append, stage, reclaim, recover and syncer; uses os, format and durable.
 *
 * A place for a block is free, used or quarantined (LOCK_SPACE).  What a block's table entry says
 * goes through three steps, written to the two copies like this (LOCK_TABLE):
 *
 *     active   to the copy that is not durable; the first sync of the block makes it durable, then
 *              writes and syncs the other one, before any entry in the block is called durable
 *     active with a higher `used`, sealed: hints, to one copy.  Torn or lost they cost a longer
 *              walk at the next start
 *     free     durable at once, to the copy that is not: only then is the place used again
 *
 * So of the two copies one always is durable and whole.  Epochs of this opening of the store lie
 * above all of earlier ones (they begin with the generation of SUPER), so what a lost hint leaves
 * in a place can never be taken for records of its next use.
 *
 * Failure: a place whose entry could not be written stays out of use until the store is opened
 * anew.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "guard.h"
#include "os.h"

#define FILE_NAME_SIZE 32

static void file_name(char *ret_name, uint32_t number, const char *suffix)
{
    snprintf(ret_name, FILE_NAME_SIZE, "wal_%04u.log%s", number, suffix);
}

static uint64_t file_size(const struct walrus *store)
{
    return FORMAT_FILE_META_SIZE + (uint64_t)store->super.blocks_per_file * store->super.block_size;
}

void space_init(struct space *space)
{
    lock_init(&space->lock, LOCK_SPACE);
    list_init(&space->files);
    space->number_next = 1;
}

static struct file *file_new(struct walrus *store, uint32_t number)
{
    uint32_t count = store->super.blocks_per_file;
    struct file *file = calloc(1, sizeof(*file) + count * sizeof(file->cells[0]));
    if (!file)
        return NULL;
    list_init(&file->node);
    file->store = store;
    file->number = number;
    file->fd = -1;
    durable_init(&file->durable);
    lock_init(&file->table_lock, LOCK_TABLE);
    return file;
}

static void file_free(struct file *file)
{
    if (!file)
        return;
    durable_fini(&file->durable);
    if (file->map)
        os_unmap(file->map, file_size(file->store));
    os_close(file->fd);
    lock_fini(&file->table_lock);
    free(file);
}

void space_fini(struct walrus *store)
{
    LIST_FOR_EACH(node, &store->space.files)
    {
        list_remove(node);
        file_free(LIST_ENTRY(node, struct file, node));
    }
    lock_fini(&store->space.lock);
}

/* Under LOCK_SPACE, or before the store has threads. */
static void space_insert_locked(struct space *space, struct file *file)
{
    struct list *at = &space->files;
    while (at->prev != &space->files &&
           LIST_ENTRY(at->prev, struct file, node)->number > file->number)
        at = at->prev;
    list_insert_before(at, &file->node);
    space->file_count++;
    space->free_count += file->free_count;
    if (file->number >= space->number_next)
        space->number_next = file->number + 1;
}

static int file_header_read(struct walrus *store, struct file *file, const uint8_t *meta)
{
    struct file_info info;
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint32_t seed = format_seed_file(store->super.uuid, file->number, copy);
        int r = format_file_decode(meta + FORMAT_HEADER_OFF(copy), FORMAT_PAGE_SIZE, seed, &info);
        if (r == 0 && info.number == file->number && info.block_size == store->super.block_size &&
            info.blocks_per_file == store->super.blocks_per_file) {
            memcpy(file->salt, info.salt, sizeof(file->salt));
            if (copy == 1)
                report(&store->reporter, WALRUS_WARNING, -EBADMSG, NULL,
                       "wal_%04u.log: the first copy of the header is damaged, the second is used",
                       file->number);
            return 0;
        }
    }
    report(&store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
           "wal_%04u.log: both copies of the header are damaged or of another store; the file is "
           "left alone and what it holds is missing",
           file->number);
    return -EBADMSG;
}

static int file_map(struct walrus *store, struct file *file, const char *name)
{
    int r = os_map(file->fd, file_size(store), !store->read_only, &file->map);
    if (r == 0)
        durable_attach(&file->durable, store->dirfd, name, file->fd, file->map, file_size(store));
    return r;
}

/* Opens, checks the length and maps. */
static int file_attach(struct walrus *store, struct file *file, const char *name)
{
    int flags = (store->read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW;
    int r = os_open(store->dirfd, name, flags, 0);
    if (r < 0)
        return r;
    file->fd = r;
    struct stat st;
    r = os_fstat(file->fd, &st);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return -ELOOP;
    if ((uint64_t)st.st_size < file_size(store)) {
        report(&store->reporter, WALRUS_WARNING, -EBADMSG, NULL,
               "%s: cut short to %lld bytes of %llu; what lay behind is missing", name,
               (long long)st.st_size, (unsigned long long)file_size(store));
        if (!store->read_only) {
            r = os_truncate(file->fd, file_size(store));
            if (r < 0)
                return r;
        }
    }
    return file_map(store, file, name);
}

int space_file_open(struct walrus *store, uint32_t number, uint8_t *ret_meta,
                    struct file **ret_file)
{
    char name[FILE_NAME_SIZE];
    file_name(name, number, "");
    if (number >= store->space.number_next)
        store->space.number_next = number + 1;
    struct file *file = file_new(store, number);
    if (!file)
        return -ENOMEM;
    int r = file_attach(store, file, name);
    if (r == 0) {
        r = os_read_salvaging(file->fd, ret_meta, FORMAT_FILE_META_SIZE, 0);
        if (r == 0)
            r = file_header_read(store, file, ret_meta);
    }
    if (r < 0) {
        if (r != -EBADMSG)
            report(&store->reporter, WALRUS_ERROR, r, NULL, "%s: cannot be opened%s", name,
                   r == -EMFILE ? "; each log file takes a descriptor: allow more (ulimit -n)"
                                : "");
        file_free(file);
        return r;
    }
    space_insert_locked(&store->space, file);
    *ret_file = file;
    return 0;
}

/* Writes the metadata of a new log file under its temporary name, durably. */
static int file_write_new(struct walrus *store, struct file *file)
{
    int r = os_truncate(file->fd, file_size(store));
    if (r == 0)
        r = os_zero(file->fd, 0, FORMAT_FILE_META_SIZE);
    if (r < 0)
        return r;
    if (getrandom(file->salt, sizeof(file->salt), 0) != (ssize_t)sizeof(file->salt))
        return -EIO;
    struct file_info info = {.number = file->number,
                             .block_size = store->super.block_size,
                             .blocks_per_file = store->super.blocks_per_file};
    memcpy(info.salt, file->salt, sizeof(info.salt));
    for (uint32_t copy = 0; copy < 2; copy++) {
        struct format_file header;
        format_file_encode(&header, &info, format_seed_file(store->super.uuid, file->number, copy));
        r = os_write(file->fd, &header, sizeof(header), FORMAT_HEADER_OFF(copy), false);
        if (r < 0)
            return r;
    }
    return os_fsync(file->fd);
}

/* Opens the temporary name of a new log file.  One that is there is what an attempt that failed
 * could not take away: nothing else has that name while the store is locked. */
static int file_open_tmp(struct walrus *store, const char *tmp)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;
    int r = os_open(store->dirfd, tmp, flags, 0600);
    if (r == -EEXIST) {
        r = os_unlink(store->dirfd, tmp);
        r = r < 0 ? r : os_open(store->dirfd, tmp, flags, 0600);
    }
    return r == -ENOENT ? -EIO : r; /* the directory was removed; no topic is missing */
}

static int file_create_locked(struct walrus *store)
{
    struct space *space = &store->space;
    struct file *file = file_new(store, space->number_next);
    if (!file)
        return -ENOMEM;
    char name[FILE_NAME_SIZE], tmp[FILE_NAME_SIZE];
    file_name(name, file->number, "");
    file_name(tmp, file->number, ".tmp");
    int r = file_open_tmp(store, tmp);
    if (r < 0) {
        file_free(file);
        return r;
    }
    file->fd = r;
    r = file_write_new(store, file);
    if (r == 0)
        r = os_rename(store->dirfd, tmp, name);
    if (r < 0) {
        int ignored = os_unlink(store->dirfd, tmp); /* removed at the next start otherwise */
        (void)ignored;
        file_free(file);
        return r;
    }
    r = file_map(store, file, name);
    if (r < 0) {
        int ignored = os_unlink(store->dirfd, name); /* an empty file, found at the next start */
        (void)ignored;
        file_free(file);
        return r;
    }
    r = os_fsync(store->dirfd);
    file->free_count = store->super.blocks_per_file;
    if (r < 0) {
        /* The name may not last: nothing may be put in. */
        report(&store->reporter, WALRUS_ERROR, r, NULL, "%s: the directory cannot be synced", name);
        for (uint32_t i = 0; i < store->super.blocks_per_file; i++)
            file->cells[i].use = CELL_QUARANTINED;
        file->free_count = 0;
    }
    space_insert_locked(space, file);
    return r;
}

uint32_t block_seed(const struct walrus *store, const struct file *file, uint32_t idx,
                    uint64_t epoch)
{
    return format_seed_record(store->super.uuid, file->salt, file->number, idx, epoch);
}

uint64_t block_file_off(const struct block *block)
{
    return FORMAT_FILE_META_SIZE + (uint64_t)block->idx * block->file->store->super.block_size;
}

int block_allocate(struct walrus_topic *topic, struct block *block, uint64_t upto, uint64_t space)
{
    /* Both: fallocate so that no store into the mapping can find the disk full (ext4 close to full
     * may fault on space that writes only reserved), zeros so that the pages are there to store to.
     */
    uint64_t base = block_file_off(block);
    if (upto > block->space_end) {
        uint64_t more = space - block->space_end;
        uint64_t limit = atomic_load_explicit(&topic->limit, memory_order_relaxed);
        if (limit && atomic_load(&topic->disk_bytes) + more > limit)
            return -ENOSPC;
        int r = os_allocate(block->file->fd, base + block->space_end, more);
        if (r < 0)
            return r;
        block->space_end = (uint32_t)space;
        atomic_fetch_add(&topic->disk_bytes, more);
    }
    int r = os_zero(block->file->fd, base + block->alloc_end, upto - block->alloc_end);
    if (r == 0)
        block->alloc_end = (uint32_t)upto;
    return r;
}

bool block_may_write(const struct block *block)
{
    struct stat st;
    return os_fstat(block->file->fd, &st) == 0 &&
           (uint64_t)st.st_size >= file_size(block->file->store);
}

int block_store(const struct block *block, uint32_t off, const void *data, size_t size)
{
    int r = guard_store(block->base + off, NULL, 0, data, size);
    if (r == -EIO && block_may_write(block))
        r = os_write(block->file->fd, data, size, block_file_off(block) + off, false);
    return r;
}

static struct block *block_new(struct file *file, uint32_t idx, uint64_t epoch)
{
    struct block *block = calloc(1, sizeof(*block));
    if (!block)
        return NULL;
    list_init(&block->node);
    block->file = file;
    block->idx = idx;
    block->epoch = epoch;
    block->seed = block_seed(file->store, file, idx, epoch);
    block->base = file->map + block_file_off(block);
    atomic_init(&block->refs, 1);
    return block;
}

struct block *space_adopt(struct file *file, uint32_t idx, const struct block_info *info)
{
    struct block *block = block_new(file, idx, info->epoch);
    if (!block)
        return NULL;
    block->topic_id = info->topic_id;
    block->block_seq = info->block_seq;
    block->first_seq = info->first_seq;
    block->first_byte = info->first_byte;
    block->bytes = info->bytes;
    block->count = info->count;
    block->last_time_ns = info->last_time_ns;
    atomic_init(&block->end, info->used);
    block->synced_end = info->used;
    block->hint_used = info->used;
    block->space_end = block->alloc_end = (uint32_t)round_up(info->used, FORMAT_PAGE_SIZE);
    block->sealed = info->state == FORMAT_SEALED;
    block->table_durable = true;
    block->entered = true;
    return block;
}

/* The free place that comes first. */
static int space_find_locked(struct walrus *store, struct file **ret_file, uint32_t *ret_idx)
{
    LIST_FOR_EACH(node, &store->space.files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        if (!file->free_count || durable_error(&file->durable))
            continue;
        for (uint32_t i = 0; i < store->super.blocks_per_file; i++) {
            if (file->cells[i].use == CELL_FREE) {
                *ret_file = file;
                *ret_idx = i;
                return 0;
            }
        }
    }
    return -ENOSPC;
}

int space_take(struct walrus *store, struct block **ret_block)
{
    struct space *space = &store->space;
    struct file *file;
    uint32_t idx;
    lock_acquire(&space->lock);
    int r = space_find_locked(store, &file, &idx);
    if (r < 0) {
        r = file_create_locked(store);
        if (r == 0)
            r = space_find_locked(store, &file, &idx);
    }
    struct block *block = NULL;
    if (r == 0) {
        uint64_t epoch = MAX(file->cells[idx].epoch + 1, store->super.generation << 32);
        block = block_new(file, idx, epoch);
        if (block) {
            file->cells[idx].epoch = epoch;
            file->cells[idx].use = CELL_USED;
            file->free_count--;
            space->free_count--;
        } else {
            r = -ENOMEM;
        }
    }
    bool last = space->free_count == 0;
    lock_release(&space->lock);
    if (r < 0)
        return r;
    if (last)
        keeper_mark_space(store);
    *ret_block = block;
    return 0;
}

static void space_put(struct walrus *store, struct block *block, enum cell_use use)
{
    struct space *space = &store->space;
    lock_acquire(&space->lock);
    block->file->cells[block->idx].use = (uint8_t)use;
    if (use == CELL_FREE) {
        block->file->free_count++;
        space->free_count++;
    }
    lock_release(&space->lock);
    free(block);
    if (use == CELL_FREE)
        keeper_mark_space(store);
}

/* Writes an entry to the copy that is not the durable one, for a later sync.  Under LOCK_TABLE. */
static int table_write_locked(struct block *block, const struct block_info *info)
{
    struct file *file = block->file;
    struct cell *cell = &file->cells[block->idx];
    struct block_info next = *info;
    next.generation = ++cell->generation;
    uint32_t copy = cell->durable_copy ^ 1u;
    struct format_block entry;
    format_block_encode(
        &entry, &next,
        format_seed_block(file->store->super.uuid, file->salt, file->number, block->idx, copy));
    int r = os_write(file->fd, &entry, sizeof(entry),
                     FORMAT_TABLE_OFF(copy) + block->idx * sizeof(entry), false);
    if (r < 0)
        atomic_store(&file->store->blurred, true);
    return r;
}

static struct block_info block_active_info(const struct block *block)
{
    return (struct block_info){.state = FORMAT_ACTIVE,
                               .epoch = block->epoch,
                               .topic_id = block->topic_id,
                               .block_seq = block->block_seq,
                               .first_seq = block->first_seq,
                               .first_byte = block->first_byte};
}

int block_table_activate(struct block *block)
{
    struct block_info info = block_active_info(block);
    lock_acquire(&block->file->table_lock);
    block->entered = true;
    int r = table_write_locked(block, &info);
    lock_release(&block->file->table_lock);
    return r;
}

static int table_sync(struct file *file)
{
    const struct durable_view *view = durable_begin(&file->durable);
    return durable_end(
        &file->durable, view,
        os_msync(view->map, FORMAT_TABLE_OFF(0), FORMAT_HEADER_OFF(1) - FORMAT_TABLE_OFF(0)));
}

int block_table_settle(struct file *file, struct block **blocks, size_t count)
{
    /* The copy that activation wrote becomes durable, then the other one gets the same. */
    int r = table_sync(file);
    if (r < 0)
        return r;
    lock_acquire(&file->table_lock);
    for (size_t i = 0; r == 0 && i < count; i++) {
        struct block_info info = block_active_info(blocks[i]);
        struct cell *cell = &file->cells[blocks[i]->idx];
        cell->durable_copy ^= 1u;
        r = table_write_locked(blocks[i], &info);
        if (r < 0) /* the next sync begins again with this one */
            cell->durable_copy ^= 1u;
    }
    lock_release(&file->table_lock);
    if (r == 0)
        r = table_sync(file);
    if (r < 0)
        return r;
    lock_acquire(&file->table_lock);
    for (size_t i = 0; i < count; i++) {
        file->cells[blocks[i]->idx].durable_copy ^= 1u;
        blocks[i]->table_durable = true;
    }
    lock_release(&file->table_lock);
    return 0;
}

void block_table_note(struct block *block, const struct block_info *info, bool always)
{
    lock_acquire(&block->file->table_lock);
    bool seal = info->state == FORMAT_SEALED;
    bool far = info->used >= block->hint_used + HINT_STEP_BYTES;
    if (block->table_durable && !block->sealed &&
        (seal || far || (always && info->used > block->hint_used))) {
        struct block_info next = block_active_info(block);
        next.state = info->state;
        next.used = info->used;
        next.count = info->count;
        next.bytes = info->bytes;
        next.last_time_ns = info->last_time_ns;
        /* A hint: that it fails costs a walk at the next start, and the file's next sync tells. */
        if (table_write_locked(block, &next) == 0) {
            block->hint_used = info->used;
            block->sealed = seal;
        }
    }
    lock_release(&block->file->table_lock);
}

/* Marks a place free, durably.  Its block left its topic, so nobody else writes its entry. */
static int table_free(struct block *block)
{
    struct file *file = block->file;
    struct block_info info = {.state = FORMAT_FREE, .epoch = block->epoch};
    lock_acquire(&file->table_lock);
    int r = table_write_locked(block, &info);
    lock_release(&file->table_lock);
    if (r == 0)
        r = table_sync(file);
    if (r == 0)
        file->cells[block->idx].durable_copy ^= 1u;
    return r;
}

bool space_free(struct walrus *store, struct block *block)
{
    struct file *file = block->file;
    int r = block->entered ? table_free(block) : 0;
    if (r < 0) {
        report(&store->reporter, WALRUS_ERROR, r, NULL,
               "wal_%04u.log: block %u cannot be marked free and stays out of use", file->number,
               block->idx);
        space_put(store, block, CELL_QUARANTINED);
        return false;
    }
    if (block->space_end > 0) {
        r = os_punch(file->fd, block_file_off(block), store->super.block_size);
        if (r == 0)
            atomic_fetch_add(&store->reclaimed_bytes, block->space_end);
        else
            report(&store->reporter, WALRUS_WARNING, r, NULL,
                   "wal_%04u.log: the space of block %u cannot be given back to the filesystem",
                   file->number, block->idx);
    }
    space_put(store, block, CELL_FREE);
    return true;
}

/* Takes off the files without a block in use, but for the last free ones. */
static void space_shrink_locked(struct space *space, uint32_t per_file, struct list *gone)
{
    LIST_FOR_EACH(node, &space->files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        if (file->free_count < per_file || space->free_count == per_file)
            continue;
        list_remove(node);
        list_push_back(gone, node);
        space->file_count--;
        space->free_count -= per_file;
    }
}

/* Removes files that nobody can find any more.  What comes back comes back empty. */
static void files_remove(struct walrus *store, struct list *gone)
{
    if (list_empty(gone))
        return;
    LIST_FOR_EACH(node, gone)
    {
        char name[FILE_NAME_SIZE];
        struct file *file = LIST_ENTRY(node, struct file, node);
        file_name(name, file->number, "");
        int unlinked = os_unlink(store->dirfd, name);
        if (unlinked < 0) {
            atomic_store(&store->blurred, true);
            report(&store->reporter, WALRUS_WARNING, unlinked, NULL, "%s: cannot be removed", name);
        }
        list_remove(node);
        file_free(file);
    }
    int r = os_fsync(store->dirfd);
    if (r < 0) {
        atomic_store(&store->blurred, true);
        report(&store->reporter, WALRUS_WARNING, r, NULL,
               "the directory cannot be synced; log files that were removed may come back, empty");
    }
}

void space_tend(struct walrus *store, bool ahead)
{
    struct space *space = &store->space;
    struct list gone;
    list_init(&gone);
    lock_acquire(&space->lock);
    LIST_FOR_EACH(node, &space->files)
    {
        durable_trim(&LIST_ENTRY(node, struct file, node)->durable);
    }
    offsets_trim(store->offsets);
    if (space->free_count > 0) {
        space_shrink_locked(space, store->super.blocks_per_file, &gone);
    } else if (ahead) {
        int r = file_create_locked(store);
        if (r < 0) /* the next append that needs a block tries again, and says so to its caller */
            report(&store->reporter, WALRUS_WARNING, r, NULL,
                   "wal_%04u.log: cannot be made ahead of need", space->number_next);
    }
    lock_release(&space->lock);
    files_remove(store, &gone);
}
