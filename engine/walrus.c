/* SPDX-License-Identifier: MIT */
/*
 * walrus.c - opening and closing a store, and the calls by topic name.
 *
 * The top of the engine: checks arguments, holds the lock file and SUPER, starts and ends the two
 * threads (syncer.c, reclaim.c).  A store that is refused is not changed, not by a byte.
 *
 * SUPER says `clean` only between a close that could make everything durable and the next opening
 * for writing: the opening takes the mark away from both copies, one after the other, before it
 * changes anything else, so that no damage to one copy can bring it back.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guard.h"
#include "os.h"

#define PATH_SIZE_MAX 4096u

/* ---------------------------------------------------------------------------------- options -- */

static int options_check(struct walrus_options *options)
{
    if (options->fsync_ms == 0)
        options->fsync_ms = 1000;
    if (options->persist_every == 0)
        options->persist_every = 1;
    if (options->block_size == 0)
        options->block_size = FORMAT_BLOCK_SIZE_DEFAULT;
    if (options->blocks_per_file == 0)
        options->blocks_per_file = FORMAT_FILE_BLOCKS_DEFAULT;
    bool good =
        (options->consistency == WALRUS_STRICT || options->consistency == WALRUS_AT_LEAST_ONCE) &&
        options->fsync >= WALRUS_FSYNC_MS && options->fsync <= WALRUS_FSYNC_NEVER &&
        options->fsync_ms <= 3600000 && options->block_size % FORMAT_PAGE_SIZE == 0 &&
        options->block_size >= FORMAT_BLOCK_SIZE_MIN &&
        options->block_size <= FORMAT_BLOCK_SIZE_MAX &&
        options->blocks_per_file <= FORMAT_FILE_BLOCKS_MAX;
    return good ? 0 : -EINVAL;
}

/* The name of the sub-directory that a key stands for. */
static int key_name(const char *key, char *ret_name)
{
    size_t size = strlen(key);
    if (size == 0 || size > WALRUS_NAME_SIZE_MAX)
        return size ? -ENAMETOOLONG : -EINVAL;
    for (size_t i = 0; i <= size; i++) {
        char c = key[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == 0;
        ret_name[i] = plain ? c : '_';
    }
    return strcmp(ret_name, ".") == 0 || strcmp(ret_name, "..") == 0 ? -EINVAL : 0;
}

/* -------------------------------------------------------------------------------- directory -- */

static int directory_enter(int parent, const char *name, bool make, int *ret_fd)
{
    int r = os_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (r == -ENOENT && make) {
        r = os_mkdir(parent, name, 0700);
        if (r < 0 && r != -EEXIST)
            return r;
        int up = os_open(parent, ".", O_RDONLY | O_DIRECTORY, 0);
        r = up < 0 ? up : os_fsync(up); /* or the whole store could be gone after a loss of power */
        if (up >= 0)
            os_close(up);
        if (r < 0)
            return r;
        r = os_open(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    }
    if (r < 0)
        return r;
    *ret_fd = r;
    return 0;
}

/* A path's last part, made if missing; its parents must be there. */
static int path_enter(const char *path, bool make, int *ret_fd)
{
    char copy[PATH_SIZE_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    if (size == 0 || size >= sizeof(copy))
        return size ? -ENAMETOOLONG : -ENOENT;
    memcpy(copy, path, size);
    copy[size] = 0;
    char *slash = strrchr(copy, '/');
    if (!slash || slash[1] == 0)
        return directory_enter(AT_FDCWD, copy, make, ret_fd);
    const char *name = slash + 1;
    int parent;
    if (slash == copy) {
        parent = os_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
    } else {
        *slash = 0;
        parent = os_open(AT_FDCWD, copy, O_RDONLY | O_DIRECTORY, 0);
    }
    if (parent < 0)
        return parent;
    int r = directory_enter(parent, name, make, ret_fd);
    os_close(parent);
    return r;
}

int store_directory(const char *dir, const char *key, bool make, int *ret_fd)
{
    char name[WALRUS_NAME_SIZE_MAX + 1];
    int outer;
    if (!dir)
        dir = getenv("WALRUS_DATA_DIR");
    if (!dir)
        dir = "wal_files";
    if (!key)
        key = getenv("WALRUS_INSTANCE_KEY");
    int r = key ? key_name(key, name) : 0;
    if (r == 0)
        r = path_enter(dir, make, &outer);
    if (r < 0)
        return r;
    if (!key) {
        *ret_fd = outer;
        return 0;
    }
    r = directory_enter(outer, name, make, ret_fd);
    os_close(outer);
    return r;
}

/* Filesystems on which the promises cannot be kept, or need help. */
static int filesystem_check(struct walrus *store)
{
    struct statfs fs;
    if (fstatfs(store->dirfd, &fs) < 0)
        return -errno;
    switch ((unsigned long)fs.f_type) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case 0xff534d42ul /* CIFS */:
    case 0xfe534d42ul /* SMB2 */:
    case FUSE_SUPER_MAGIC:
    case AFS_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case 0x01021997ul /* 9P */:
        report(&store->reporter, store->options.force ? WALRUS_WARNING : WALRUS_ERROR, -EMEDIUMTYPE,
               NULL,
               "the store lies on a network or FUSE filesystem, where mappings and syncs promise "
               "nothing%s",
               store->options.force ? "" : "; force opens it all the same");
        return store->options.force ? 0 : -EMEDIUMTYPE;
    case TMPFS_MAGIC:
        report(&store->reporter, WALRUS_WARNING, 0, NULL,
               "the store lies on tmpfs: it does not survive a restart of the machine");
        return 0;
    default:
        return 0;
    }
}

/* btrfs copies a page that is written again to a new place: with no room there, a store into a
 * mapping that was allocated faults.  Its directories can tell new files not to. */
static int filesystem_prepare(struct walrus *store)
{
    struct statfs fs;
    int flags = 0;
    if (fstatfs(store->dirfd, &fs) < 0)
        return -errno;
    if ((unsigned long)fs.f_type != BTRFS_SUPER_MAGIC)
        return 0;
    if (ioctl(store->dirfd, FS_IOC_GETFLAGS, &flags) < 0)
        return -errno;
    flags |= FS_NOCOW_FL;
    if (ioctl(store->dirfd, FS_IOC_SETFLAGS, &flags) < 0)
        report(&store->reporter, WALRUS_WARNING, -errno, NULL,
               "copy on write cannot be switched off for the store's directory");
    return 0;
}

static void lock_holder(struct walrus *store)
{
    char pid[32] = "";
    ssize_t n = os_read(store->lock_fd, pid, sizeof(pid) - 1, 0);
    pid[n > 0 ? n : 0] = 0;
    pid[strcspn(pid, "\n")] = 0;
    /* Who only reads locks it too, and leaves the number of the last writer there. */
    long number = strtol(pid, NULL, 10);
    bool there = number > 0 && (kill((pid_t)number, 0) == 0 || errno == EPERM);
    report(&store->reporter, WALRUS_ERROR, -EBUSY, NULL, "the store is in use by %s%s",
           there ? "process " : "a process that only reads it, or cannot be seen from here",
           there ? pid : "");
}

static int lock_take(struct walrus *store)
{
    int flags = (store->read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_NOFOLLOW;
    int r = os_open(store->dirfd, "LOCK", flags, 0600);
    if (r == -ENOENT || (store->read_only && r == -EACCES))
        return 0; /* read-only: nobody ever opened it for writing */
    if (r < 0)
        return r;
    store->lock_fd = r;
    struct stat st;
    r = os_fstat(store->lock_fd, &st);
    if (r < 0)
        return r;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
        return -ELOOP;
    if (flock(store->lock_fd, (store->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
        if (r == -EBUSY)
            lock_holder(store);
        return r;
    }
    return 0;
}

static int lock_sign(struct walrus *store)
{
    char pid[32];
    int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    /* What is there is not cut off before: on a full disk its place would be gone. */
    int r = os_write(store->lock_fd, pid, (size_t)n, 0, false);
    bool full = r == -ENOSPC || r == -EDQUOT; /* then nobody's number stands there */
    return r < 0 && !full ? r : os_truncate(store->lock_fd, full ? 0 : (uint64_t)n);
}

/* ------------------------------------------------------------------------------------ SUPER -- */

/* How far all metadata has come, as one number: disk-format.md, section 3. */
static uint64_t store_digest(struct walrus *store)
{
    uint64_t sum = registry_digest(store->registry) + offsets_digest(store->offsets);
    LIST_FOR_EACH(node, &store->space.files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        for (uint32_t i = 0; i < store->super.blocks_per_file; i++)
            sum += format_digest(FORMAT_DIGEST_BLOCK, (uint64_t)file->number << 32 | i,
                                 file->cells[i].generation);
    }
    return sum ? sum : 1; /* 0: not known */
}

static int super_write(struct walrus *store, uint32_t clean)
{
    struct format_super copy;
    struct super_info next = store->super;
    next.generation++;
    next.clean = clean;
    next.topic_id_next = MAX(store->topic_id_next, next.topic_id_next);
    next.digest = clean == FORMAT_CLOSED ? store_digest(store) : 0;
    format_super_encode(&copy, &next);
    uint64_t off = (next.generation & 1) * sizeof(copy);
    int r = os_write(store->super_fd, &copy, sizeof(copy), off, false);
    if (r == 0)
        r = os_fsync(store->super_fd);
    if (r == 0)
        store->super = next;
    return r;
}

/* One after the other: damage to one must not bring back what both said before. */
static int super_write_both(struct walrus *store, uint32_t clean)
{
    int r = super_write(store, clean);
    return r < 0 ? r : super_write(store, clean);
}

/* The better of the two copies; also how the store is refused. */
static int super_read(struct walrus *store)
{
    struct format_super copies[2];
    int n = os_read_salvaging(store->super_fd, (uint8_t *)copies, sizeof(copies), 0);
    if (n < 0)
        return n;
    int best = -1, bad = 0;
    for (int i = 0; i < 2; i++) {
        struct super_info info;
        int r = format_super_decode(&copies[i], sizeof(copies[i]), &info);
        if (r == -EPROTONOSUPPORT) {
            report(&store->reporter, WALRUS_ERROR, r, NULL,
                   "SUPER: the store was written by a newer version; nothing was changed");
            return r;
        }
        bad += r < 0;
        if (r == 0 && (best < 0 || info.generation > store->super.generation)) {
            store->super = info;
            best = i;
        }
    }
    if (best < 0) {
        report(&store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
               "SUPER: both copies are damaged; the store cannot be opened");
        return -EBADMSG;
    }
    if (bad) {
        report(&store->reporter, WALRUS_WARNING, -EBADMSG, NULL,
               "SUPER: one copy is damaged, the other is used");
        store->super.clean = 0; /* the damaged one may have been the newer */
    }
    if (store->super.ro_compat & ~FORMAT_RO_COMPAT_KNOWN && !store->read_only) {
        report(&store->reporter, WALRUS_WARNING, -EPROTONOSUPPORT, NULL,
               "SUPER: the store was written by a newer version; it is opened read-only");
        store->read_only = true;
    }
    return 0;
}

static int super_create(struct walrus *store)
{
    struct super_info info = {.block_size = store->options.block_size,
                              .blocks_per_file = store->options.blocks_per_file,
                              .clean = 1,
                              .generation = 1,
                              .created_ns = realtime_ns(),
                              .topic_id_next = 1};
    if (getrandom(info.uuid, sizeof(info.uuid), 0) != (ssize_t)sizeof(info.uuid))
        return -EIO;
    struct format_super copies[2];
    format_super_encode(&copies[1], &info); /* generation 1 is odd: the second place */
    info.generation = 0;
    format_super_encode(&copies[0], &info);
    int fd = os_open(store->dirfd, "SUPER.tmp", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    int r = os_write(fd, copies, sizeof(copies), 0, false);
    if (r == 0)
        r = os_fsync(fd);
    if (r == 0)
        r = os_rename(store->dirfd, "SUPER.tmp", "SUPER");
    if (r == 0)
        r = os_fsync(store->dirfd);
    if (r < 0) {
        int ignored = os_unlink(store->dirfd, "SUPER.tmp");
        (void)ignored;
    }
    os_close(fd);
    return r;
}

static int super_open(struct walrus *store)
{
    int r = os_open(store->dirfd, "SUPER", (store->read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW, 0);
    if (r < 0)
        return r;
    store->super_fd = r;
    struct stat st;
    r = os_fstat(store->super_fd, &st);
    if (r == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1))
        r = -ELOOP;
    return r < 0 ? r : super_read(store);
}

static int super_probe(struct walrus *store, bool *ret_missing)
{
    int fd = os_open(store->dirfd, "SUPER", O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0 && fd != -ENOENT)
        return fd;
    os_close(fd);
    *ret_missing = fd == -ENOENT;
    return 0;
}

/* Whether a directory without SUPER may become a store: it must hold nothing. */
static int directory_check_empty(struct walrus *store)
{
    bool rust = false, missing = false;
    int strangers = recover_strangers(store, &rust);
    if (strangers <= 0)
        return strangers;
    int r = super_probe(store, &missing);
    if (r < 0 || !missing) /* somebody makes a store at this moment: the lock decides */
        return r;
    report(
        &store->reporter, WALRUS_ERROR, -ENOTEMPTY, NULL,
        rust ? "the directory belongs to the Rust engine Walrus, whose files this engine does not "
               "read; choose another directory"
             : "the directory is not empty and not a store; choose an empty one");
    return -ENOTEMPTY;
}

/* Finds or makes the store in its directory, and locks it. */
static int store_enter(struct walrus *store)
{
    bool fresh = false;
    int r = filesystem_check(store);
    if (r == 0)
        r = super_probe(store, &fresh);
    if (r < 0)
        return r;
    if (fresh && (store->read_only || store->options.must_exist))
        return -ENOENT;
    r = fresh ? directory_check_empty(store) : 0;
    if (r == 0 && fresh)
        r = filesystem_prepare(store);
    if (r == 0)
        r = lock_take(store);
    if (r == 0 && fresh) /* or somebody made it, used it and closed it before we had the lock */
        r = super_probe(store, &fresh);
    if (r == 0 && fresh)
        r = super_create(store);
    if (r == 0)
        r = super_open(store);
    if (r == 0 && !store->read_only)
        r = lock_sign(store);
    return r;
}

/* --------------------------------------------------------------------------- open and close -- */

static struct walrus *store_new(const struct walrus_options *options)
{
    struct walrus *store = calloc(1, sizeof(*store));
    if (!store)
        return NULL;
    if (topics_init(store) < 0) {
        free(store);
        return NULL;
    }
    store->options = *options;
    store->read_only = options->read_only;
    store->dirfd = store->lock_fd = store->super_fd = -1;
    store->reporter = (struct reporter){.report = options->report,
                                        .arg = options->report_arg,
                                        .quiet = getenv("WALRUS_QUIET") != NULL};
    lock_init(&store->change_lock, LOCK_REGISTRY_CHANGE);
    lock_init(&store->topics_lock, LOCK_TOPICS);
    lock_init(&store->dirty_lock, LOCK_DIRTY);
    lock_init(&store->keeper_lock, LOCK_KEEPER);
    lock_init(&store->watch_lock, LOCK_WATCH);
    cond_init(&store->dirty_cond);
    cond_init(&store->keeper_cond);
    cond_init(&store->watch_cond);
    list_init(&store->zombies);
    list_init(&store->dirty);
    list_init(&store->keeper_topics);
    space_init(&store->space);
    store->topic_id_next = 1;
    return store;
}

static void store_free(struct walrus *store)
{
    topics_fini(store);
    registry_close(store->registry);
    offsets_close(store->offsets);
    space_fini(store);
    lock_fini(&store->change_lock);
    lock_fini(&store->dirty_lock);
    lock_fini(&store->keeper_lock);
    lock_fini(&store->watch_lock);
    os_close(store->super_fd);
    os_close(store->lock_fd);
    os_close(store->dirfd);
    free(store);
}

/* The two threads, with all signals left to the caller's own. */
static int threads_start(struct walrus *store)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = syncer_start(store);
    if (r == 0) {
        r = keeper_start(store);
        if (r < 0)
            syncer_stop(store);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    store->threads = r == 0;
    return r;
}

/* What recovery left to do goes to the threads: syncs of what is not durable, blocks to free, and
 * log files that hold none in use, which a blob leaves that a crash ended. */
static void threads_prime(struct walrus *store)
{
    struct walrus_topic *topic;
    uint64_t id = 0;
    while (walrus_topic_after(store, id, &topic) == 0) {
        id = topic->id;
        struct tail_snap tail = topic_tail(topic);
        bool unsynced = atomic_load(&topic->durable_seq) < tail.seq ||
                        (topic->sync_block && atomic_load(&topic->sync_block->next));
        if (unsynced)
            syncer_mark(topic, SYNC_NOW);
        if (tail.block)
            keeper_mark(topic);
        walrus_topic_unref(topic);
    }
    lock_acquire(&store->space.lock);
    bool free_blocks = store->space.free_count > 0;
    lock_release(&store->space.lock);
    if (free_blocks)
        keeper_mark_space(store);
}

static int store_open(struct walrus *store)
{
    int r = store_enter(store);
    if (r == 0)
        r = refuse_check(store);
    struct super_info was = store->super;
    if (r == 0 && !store->read_only) {
        r = super_write_both(store, was.clean ? FORMAT_OPENING : FORMAT_IN_USE);
        store->super.clean = was.clean; /* in memory: how the walk is to be done */
        store->super.digest = was.digest;
    }
    if (r == 0)
        r = recover(store);
    if (r == 0 && !store->read_only && was.clean)
        r = super_write_both(store, FORMAT_IN_USE);
    if (r == 0 && !store->read_only)
        r = threads_start(store);
    if (r == 0 && !store->read_only)
        threads_prime(store);
    return r;
}

int walrus_open(const char *dir, const struct walrus_options *options, struct walrus **ret_store)
{
    struct walrus_options own = {0};
    if (options)
        own = *options;
    int r = options_check(&own);
    if (r < 0)
        return r;
    guard_install();
    struct walrus *store = store_new(&own);
    if (!store)
        return -ENOMEM;
    r = store_directory(dir, own.key, !own.read_only && !own.must_exist, &store->dirfd);
    store->options.key = NULL;
    if (r == 0)
        r = store_open(store);
    if (r < 0) {
        store_free(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

/* Brings every active block's entry up to date, for an opening without a walk. */
static int close_blocks(struct walrus *store)
{
    int r = 0;
    for (size_t i = 0; i < store->topics_count; i++) {
        struct walrus_topic *topic = store->topics_sorted[i];
        if (atomic_load(&topic->error))
            return -EIO;
        /* A new block whose entry found no room at first; nothing in it had to be synced since. */
        const struct block *newest = topic_tail(topic).block;
        if (r == 0 && newest && !newest->table_durable)
            r = topic_sync_to(topic, 0, true);
        LIST_FOR_EACH(node, &topic->blocks)
        {
            struct block *block = LIST_ENTRY(node, struct block, node);
            if (block->trim && r == 0)
                r = append_trim(topic, block);
            struct block_info info = {.state =
                                          atomic_load(&block->next) ? FORMAT_SEALED : FORMAT_ACTIVE,
                                      .used = atomic_load(&block->end),
                                      .count = block->count,
                                      .bytes = block->bytes,
                                      .last_time_ns = block->last_time_ns};
            block_table_note(block, &info, true);
            if (!block->table_durable || (!block->sealed && block->hint_used != info.used))
                r = r < 0 ? r : -EIO;
        }
    }
    LIST_FOR_EACH(node, &store->space.files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        const struct durable_view *view = durable_begin(&file->durable);
        int one = durable_end(&file->durable, view, os_fdatasync(view->fd));
        r = r < 0 ? r : one;
    }
    return r;
}

static bool is_removed(int fd)
{
    struct stat st;
    return os_fstat(fd, &st) == 0 && st.st_nlink == 0;
}

/* What was removed under an open store works on to its end, and goes with it: that must be told. */
static int close_names(struct walrus *store)
{
    int r = 0;
    if (is_removed(store->super_fd)) {
        report(&store->reporter, WALRUS_ERROR, 0, NULL,
               "SUPER was removed while the store was open; it cannot be opened any more");
        r = -EIO;
    }
    LIST_FOR_EACH(node, &store->space.files)
    {
        struct file *file = LIST_ENTRY(node, struct file, node);
        if (!is_removed(file->fd))
            continue;
        report(&store->reporter, WALRUS_ERROR, 0, NULL,
               "wal_%04u.log was removed while the store was open; what was stored in it is lost",
               file->number);
        r = -EIO;
    }
    return r;
}

int walrus_close(struct walrus *store)
{
    if (!store)
        return 0;
    int r = 0;
    if (store->threads) {
        keeper_stop(store); /* first: it may begin new blocks, which are to be synced */
        syncer_stop(store);
        r = walrus_sync(store);
        int one = close_blocks(store);
        r = r < 0 ? r : one;
        one = close_names(store);
        r = r < 0 ? r : one;
        /* After a failed sync of these nobody knows what of them is on the disk. */
        if (r == 0)
            r = registry_error(store->registry);
        if (r == 0)
            r = offsets_error(store->offsets);
        if (r == 0 && !atomic_load(&store->degraded) && !atomic_load(&store->blurred))
            r = super_write(store, FORMAT_CLOSED);
        if (r < 0)
            report(&store->reporter, WALRUS_ERROR, r, NULL,
                   "the store was closed, but not everything could be made durable");
    }
    store_free(store);
    return r < 0 && r != -ENOMEM ? -EIO : r;
}

/* ------------------------------------------------------------------------------ description -- */

void walrus_stat(struct walrus *store, struct walrus_stat *ret_stat)
{
    memset(ret_stat, 0, sizeof(*ret_stat));
    lock_acquire(&store->topics_lock);
    ret_stat->topic_count = store->topics_count;
    lock_release(&store->topics_lock);
    lock_acquire(&store->space.lock);
    ret_stat->file_count = store->space.file_count;
    ret_stat->free_block_count = store->space.free_count;
    lock_release(&store->space.lock);
    ret_stat->block_count = ret_stat->file_count * store->super.blocks_per_file;
    ret_stat->damaged_count = atomic_load(&store->damaged_count);
    ret_stat->sync_count = atomic_load(&store->sync_count);
    ret_stat->sync_ns = atomic_load(&store->sync_ns);
    for (size_t i = 0; i < WALRUS_SYNC_BUCKET_COUNT; i++)
        ret_stat->sync_buckets[i] = atomic_load(&store->sync_buckets[i]);
    ret_stat->reclaimed_bytes = atomic_load(&store->reclaimed_bytes);
    ret_stat->block_size = store->super.block_size;
    ret_stat->blocks_per_file = store->super.blocks_per_file;
    ret_stat->degraded = atomic_load(&store->degraded);
    ret_stat->read_only = store->read_only;
}

void walrus_attr(struct walrus *store, void *ret_attr)
{
    lock_acquire(&store->topics_lock);
    memcpy(ret_attr, store->attr, sizeof(store->attr));
    lock_release(&store->topics_lock);
}

int walrus_set_attr(struct walrus *store, const void *attr)
{
    registry_change_begin(store);
    struct registry_change change = {.kind = REGISTRY_STORE, .attr = attr};
    int r = registry_change_locked(store, &change, 1);
    if (r == 0) {
        lock_acquire(&store->topics_lock);
        memcpy(store->attr, attr, sizeof(store->attr));
        lock_release(&store->topics_lock);
    }
    lock_release(&store->change_lock);
    return r;
}

int walrus_dirfd(struct walrus *store)
{
    return store->dirfd;
}
