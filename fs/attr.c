/* SPDX-License-Identifier: MIT */
/*
 * attr.c - see attr.h.
 *
 * A blob is: u8 version (1; 0 means that nothing was ever set), 3 zero bytes, then owners of 12
 * bytes each: u32 uid, u32 gid, u32 mode, little endian.  A topic has, in this order, the
 * directory, the producers, batch, and retention with limit, whose modes are one; a group has its
 * directory, its consumers, and offset; the root has itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "bytes.h"
#include "text.h"

enum { TOPIC_DIR, TOPIC_PRODUCERS, TOPIC_BATCH, TOPIC_CONTROL, TOPIC_OWNER_COUNT };
enum { GROUP_DIR, GROUP_CONSUMERS, GROUP_OFFSET, GROUP_OWNER_COUNT };

struct owner {
    struct le32 uid, gid, mode;
};

struct attr_blob {
    uint8_t version;
    uint8_t zero[3];
    struct owner owners[5];
};
_Static_assert(sizeof(struct attr_blob) == WALRUS_ATTR_SIZE, "the library keeps exactly that much");

#define BLOB_VERSION 1

static struct owner owner_make(uid_t uid, gid_t gid, mode_t mode)
{
    return (struct owner){le32_put(uid), le32_put(gid), le32_put(mode)};
}

/* Producer files can be read by everybody (0 bytes) and written where the directory can. */
static mode_t producer_mode(mode_t dir_mode)
{
    return 0444 | (dir_mode & 0222);
}

void attr_init_topic(void *ret_attr, uid_t uid, gid_t gid, mode_t mode)
{
    struct attr_blob blob = {.version = BLOB_VERSION};
    blob.owners[TOPIC_DIR] = owner_make(uid, gid, mode);
    blob.owners[TOPIC_PRODUCERS] = owner_make(uid, gid, producer_mode(mode));
    blob.owners[TOPIC_BATCH] = owner_make(uid, gid, 0600);
    blob.owners[TOPIC_CONTROL] = owner_make(uid, gid, 0600);
    memcpy(ret_attr, &blob, sizeof(blob));
}

void attr_init_group(void *ret_attr, uid_t uid, gid_t gid, mode_t mode)
{
    struct attr_blob blob = {.version = BLOB_VERSION};
    blob.owners[GROUP_DIR] = owner_make(uid, gid, mode);
    blob.owners[GROUP_CONSUMERS] = owner_make(uid, gid, 0400);
    blob.owners[GROUP_OFFSET] = owner_make(uid, gid, 0600);
    memcpy(ret_attr, &blob, sizeof(blob));
}

static void load_topic(struct mount *mount, struct walrus_topic *topic, struct attr_blob *ret_blob)
{
    walrus_topic_attr(topic, ret_blob);
    if (ret_blob->version == 0)
        attr_init_topic(ret_blob, mount->uid, mount->gid, 0755);
}

static void load_group(struct mount *mount, struct walrus_group *group, struct attr_blob *ret_blob)
{
    walrus_group_attr(group, ret_blob);
    if (ret_blob->version == 0)
        attr_init_group(ret_blob, mount->uid, mount->gid, 0755);
}

static void load_root(struct mount *mount, struct attr_blob *ret_blob)
{
    walrus_attr(mount->store, ret_blob);
    if (ret_blob->version == 0) {
        *ret_blob = (struct attr_blob){.version = BLOB_VERSION};
        ret_blob->owners[0] = owner_make(mount->uid, mount->gid, 0755);
    }
}

static void set_time(struct timespec *time, uint64_t ns)
{
    time->tv_sec = (time_t)(ns / 1000000000u);
    time->tv_nsec = (long)(ns % 1000000000u);
}

static void set_owner(struct stat *stat, const struct owner *owner, mode_t mask)
{
    stat->st_uid = le32_get(owner->uid);
    stat->st_gid = le32_get(owner->gid);
    stat->st_mode |= le32_get(owner->mode) & mask & 07777;
}

/* Where a file's owner lies: in which blob, and at which place in it. */
enum holder { HOLDER_NONE, HOLDER_ROOT, HOLDER_TOPIC, HOLDER_GROUP };

static enum holder owner_find(const struct place_key *key, unsigned *ret_index)
{
    switch (key->kind) {
    case KIND_ROOT:
        *ret_index = 0;
        return HOLDER_ROOT;
    case KIND_TOPIC:
        *ret_index = TOPIC_DIR;
        return HOLDER_TOPIC;
    case KIND_APPEND:
    case KIND_LINES:
    case KIND_BLOB:
        *ret_index = TOPIC_PRODUCERS;
        return HOLDER_TOPIC;
    case KIND_RETENTION:
    case KIND_LIMIT:
        *ret_index = TOPIC_CONTROL;
        return HOLDER_TOPIC;
    case KIND_GROUP:
        *ret_index = GROUP_DIR;
        return HOLDER_GROUP;
    case KIND_OFFSET:
        *ret_index = GROUP_OFFSET;
        return HOLDER_GROUP;
    case KIND_BATCH:
        *ret_index = key->in_group ? GROUP_CONSUMERS : TOPIC_BATCH;
        return key->in_group ? HOLDER_GROUP : HOLDER_TOPIC;
    case KIND_NEXT:
    case KIND_WAIT:
    case KIND_DRAIN:
    case KIND_FOLLOW:
    case KIND_PEEK:
        *ret_index = GROUP_CONSUMERS;
        return HOLDER_GROUP;
    default:
        return HOLDER_NONE;
    }
}

/* The owner and mode of what has none of its own: of its topic or group, with a fixed mode. */
static void get_derived(struct mount *mount, const struct place_key *key, struct stat *stat)
{
    struct attr_blob blob;

    if (key->kind == KIND_ENTRY) {
        if (key->group != NULL) {
            load_group(mount, key->group, &blob);
            set_owner(stat, &blob.owners[GROUP_CONSUMERS], 07777);
        } else {
            load_topic(mount, key->topic, &blob);
            set_owner(stat, &blob.owners[TOPIC_DIR], 0);
            stat->st_mode |= 0400;
        }
        return;
    }
    if (key->topic == NULL) {
        load_root(mount, &blob);
        set_owner(stat, &blob.owners[0], 0);
        stat->st_mode |= kind_is(key->kind, KIND_IS_DIR) ? 0555 : 0444;
        return;
    }
    load_topic(mount, key->topic, &blob);
    if (key->kind == KIND_GROUPS) {
        set_owner(stat, &blob.owners[TOPIC_DIR], 07777);
    } else if (key->kind == KIND_ENTRIES) {
        set_owner(stat, &blob.owners[TOPIC_DIR], 0555);
    } else if (key->kind == KIND_STATUS) {
        set_owner(stat, &blob.owners[TOPIC_DIR], 0);
        stat->st_mode |= 0444;
    } else { /* a consumer file of a topic without its default group */
        set_owner(stat, &blob.owners[TOPIC_DIR], 0);
        stat->st_mode |= key->kind == KIND_OFFSET ? 0600 : 0400;
    }
}

static void get_owner(struct mount *mount, const struct place_key *key, struct stat *stat)
{
    struct attr_blob blob;
    unsigned index;
    enum holder holder = owner_find(key, &index);

    if (holder == HOLDER_ROOT) {
        load_root(mount, &blob);
    } else if (holder == HOLDER_TOPIC && key->topic != NULL) {
        load_topic(mount, key->topic, &blob);
    } else if (holder == HOLDER_GROUP && key->group != NULL) {
        load_group(mount, key->group, &blob);
    } else if (key->name != NULL) {
        /* A topic that a write would make: who may do so is checked at open. */
        stat->st_uid = mount->uid;
        stat->st_gid = mount->gid;
        stat->st_mode |= kind_is(key->kind, KIND_IS_DIR) ? 0755 : 0666;
        return;
    } else {
        get_derived(mount, key, stat);
        return;
    }
    set_owner(stat, &blob.owners[index], 07777);
}

/* The size that a file has if it is opened now, and its times. */
static int get_size(struct mount *mount, const struct place_key *key, struct stat *stat,
                    uint64_t *ret_size)
{
    struct walrus_reader *reader;
    struct walrus_group_stat group = {.head = false};
    uint64_t time_ns = 0, size = 0;
    int r;

    switch (key->kind) {
    case KIND_NEXT:
    case KIND_WAIT:
    case KIND_PEEK:
    case KIND_DRAIN:
        if (key->group != NULL)
            walrus_group_stat(key->group, &group);
        size = key->kind == KIND_DRAIN ? group.pending_bytes : group.head ? group.head_size : 0;
        if (group.last_take_ns != 0)
            set_time(&stat->st_atim, group.last_take_ns);
        break;
    case KIND_ENTRY:
        r = walrus_entry_open(key->topic, key->seq, &reader);
        if (r < 0)
            return r;
        size = walrus_reader_size(reader);
        time_ns = walrus_reader_time(reader);
        r = walrus_reader_close(reader);
        if (r < 0)
            return r;
        break;
    case KIND_OFFSET:
    case KIND_STATUS:
    case KIND_RETENTION:
    case KIND_LIMIT:
    case KIND_VERSION:
        r = text_size(mount, key, &size);
        if (r < 0)
            return r;
        break;
    default: /* config, metrics and errors are long to render: their size is known once open */
        break;
    }
    if (time_ns != 0)
        set_time(&stat->st_mtim, time_ns);
    *ret_size = size;
    return 0;
}

int attr_get(struct mount *mount, struct node *node, pid_t tid, struct stat *ret_stat)
{
    const struct place_key *key = &node->place->key;
    struct stat stat = {.st_ino = node->place->ino, .st_nlink = 1, .st_blksize = 4096};
    uint64_t time_ns = mount->start_ns, size = 0;

    bool dir = kind_is(key->kind, KIND_IS_DIR);
    stat.st_mode = dir ? S_IFDIR : S_IFREG;
    if (dir)
        atomic_store(&node->told_time, true); /* before the time is read: see attr_touch_dir() */
    get_owner(mount, key, &stat);
    if (key->topic != NULL) {
        struct walrus_topic_stat topic;
        walrus_topic_stat(key->topic, &topic);
        time_ns = topic.last_time_ns != 0 ? topic.last_time_ns : time_ns;
    }
    set_time(&stat.st_mtim, time_ns);
    stat.st_atim = stat.st_mtim;
    if (dir) {
        stat.st_nlink = 2;
    } else {
        int r = get_size(mount, key, &stat, &size);
        if (r < 0)
            return r;
        stat.st_size = (off_t)node_tell_size(mount, node, tid, size);
        stat.st_blocks = (stat.st_size + 511) / 512;
        if (key->kind == KIND_BLOB || key->kind == KIND_DRAIN)
            stat.st_blksize = MOUNT_REQUEST_SIZE_MAX;
    }
    stat.st_ctim = stat.st_mtim;
    *ret_stat = stat;
    return 0;
}

static void owner_change(struct owner *owner, const struct stat *stat, int to_set, mode_t mode)
{
    if (to_set & FUSE_SET_ATTR_UID)
        owner->uid = le32_put(stat->st_uid);
    if (to_set & FUSE_SET_ATTR_GID)
        owner->gid = le32_put(stat->st_gid);
    if (to_set & FUSE_SET_ATTR_MODE)
        owner->mode = le32_put(mode & 07777);
}

static void change_topic(struct attr_blob *blob, unsigned index, const struct stat *stat,
                         int to_set)
{
    owner_change(&blob->owners[index], stat, to_set, stat->st_mode);
    if (index != TOPIC_DIR)
        return;
    owner_change(&blob->owners[TOPIC_PRODUCERS], stat, to_set, producer_mode(stat->st_mode));
    to_set &= ~FUSE_SET_ATTR_MODE;
    owner_change(&blob->owners[TOPIC_BATCH], stat, to_set, 0);
    owner_change(&blob->owners[TOPIC_CONTROL], stat, to_set, 0);
}

static void change_group(struct attr_blob *blob, unsigned index, const struct stat *stat,
                         int to_set)
{
    owner_change(&blob->owners[index], stat, to_set, stat->st_mode);
    if (index != GROUP_DIR)
        return;
    to_set &= ~FUSE_SET_ATTR_MODE;
    owner_change(&blob->owners[GROUP_CONSUMERS], stat, to_set, 0);
    owner_change(&blob->owners[GROUP_OFFSET], stat, to_set, 0);
}

void attr_inherit(struct mount *mount, const struct place_key *dir, gid_t *gid, mode_t *mode)
{
    struct stat stat = {.st_mode = 0};

    get_owner(mount, dir, &stat);
    if ((stat.st_mode & S_ISGID) != 0) {
        *gid = stat.st_gid;
        *mode |= S_ISGID;
    }
}

/* The kernel is to forget the attributes of a directory that has those of another, which changed:
 * for as long as it keeps them, who lost a topic could still make and remove its groups. */
static void drop_derived(struct mount *mount, enum kind kind, uint64_t topic_id)
{
    struct node *node = node_find_dir(mount, kind, topic_id);
    if (node == NULL)
        return;
    (void)fuse_lowlevel_notify_inval_inode(mount->session, node_ino(mount, node), -1, 0);
    node_unref(mount, node);
}

int attr_set(struct mount *mount, struct node *node, const struct stat *stat, int to_set)
{
    const struct place_key *key = &node->place->key;
    struct attr_blob blob;
    unsigned index;
    enum holder holder = owner_find(key, &index);

    if (holder == HOLDER_ROOT) {
        load_root(mount, &blob);
        owner_change(&blob.owners[0], stat, to_set, stat->st_mode);
        int r = walrus_set_attr(mount->store, &blob);
        if (r == 0)
            drop_derived(mount, KIND_META, 0);
        return r;
    }
    if (holder == HOLDER_TOPIC && key->topic != NULL) {
        load_topic(mount, key->topic, &blob);
        change_topic(&blob, index, stat, to_set);
        int r = walrus_topic_set_attr(key->topic, &blob);
        if (r == 0 && index == TOPIC_DIR) {
            drop_derived(mount, KIND_GROUPS, key->topic_id);
            drop_derived(mount, KIND_ENTRIES, key->topic_id);
        }
        return r;
    }
    if (holder == HOLDER_GROUP && key->group != NULL) {
        load_group(mount, key->group, &blob);
        change_group(&blob, index, stat, to_set);
        return walrus_group_set_attr(key->group, &blob);
    }
    return -EPERM;
}

/* Whether one of the caller's supplementary groups is `gid`. */
static bool caller_has_group(fuse_req_t req, gid_t gid)
{
    gid_t few[64];
    int count = fuse_req_getgroups(req, (int)ARRAY_COUNT(few), few);
    if (count <= (int)ARRAY_COUNT(few)) {
        for (int i = 0; i < count; i++) {
            if (few[i] == gid)
                return true;
        }
        return false;
    }
    gid_t *all = calloc((size_t)count, sizeof(*all));
    bool found = false;
    if (all != NULL) {
        int have = fuse_req_getgroups(req, count, all);
        for (int i = 0; i < MIN(have, count); i++)
            found = found || all[i] == gid;
    }
    free(all);
    return found;
}

bool attr_may_write_root(struct mount *mount, fuse_req_t req)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    struct attr_blob blob;

    load_root(mount, &blob);
    mode_t mode = le32_get(blob.owners[0].mode);
    if (who->uid == 0)
        return true;
    if (who->uid == le32_get(blob.owners[0].uid))
        return (mode & 0300) == 0300;
    gid_t gid = le32_get(blob.owners[0].gid);
    if (who->gid == gid || caller_has_group(req, gid))
        return (mode & 0030) == 0030;
    return (mode & 0003) == 0003;
}

void attr_touch_dir(struct mount *mount, struct node *node)
{
    struct node *dir = node->place->dir;
    /* The kernel may use a directory's attributes for a while without asking, which spares two
     * requests for each path; so the first append after it asked must say that the time moved. */
    if (dir != NULL && atomic_load_explicit(&dir->told_time, memory_order_relaxed) &&
        atomic_exchange(&dir->told_time, false))
        (void)fuse_lowlevel_notify_inval_inode(mount->session, node_ino(mount, dir), -1, 0);
}
