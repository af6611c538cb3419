/* SPDX-License-Identifier: MIT */
/*
 * dir.c - see dir.h.
 *
 * Looking up and listing are done on the transport thread.  What changes the tree is durable when
 * it returns, so it is done on the pool; the kernel holds the directory meanwhile.
 */
#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "attr.h"
#include "dir.h"
#include "handle.h"
#include "options.h"
#include "reply.h"

/* ------------------------------------------------------------------------------------- look-up */

static void key_set_topic(struct place_key *key, struct walrus_topic *topic)
{
    struct walrus_topic_stat stat;
    walrus_topic_stat(topic, &stat);
    key->topic = topic;
    key->topic_id = stat.id;
}

static void key_set_group(struct place_key *key, struct walrus_group *group)
{
    struct walrus_group_stat stat;
    walrus_group_stat(group, &stat);
    key->group = group;
    key->group_id = stat.id;
}

static int find_in_root(struct mount *mount, const char *name, struct place_key *key)
{
    struct walrus_topic *topic;

    if (strcmp(name, kind_info(KIND_META)->name) == 0) {
        key->kind = KIND_META;
        return 0;
    }
    int r = walrus_name_check(name, strlen(name));
    if (r < 0)
        return r == -ENAMETOOLONG ? r : -ENOENT;
    key->kind = KIND_TOPIC;
    r = walrus_topic_find(mount->store, name, &topic);
    if (r == 0) {
        key_set_topic(key, topic);
    } else if (r == -ENOENT && mount->options->autocreate) {
        key->name = strdup(name);
        r = key->name != NULL ? 0 : -ENOMEM;
    }
    return r;
}

/* The topic of the directory, with a reference in `key`; or its name, if it is yet to be made. */
static int key_inherit_topic(struct mount *mount, const struct place_key *dir,
                             struct place_key *key)
{
    struct walrus_topic *topic;

    if (dir->topic != NULL) {
        if (walrus_topic_removed(dir->topic))
            return -ENOENT;
        key->topic = walrus_topic_ref(dir->topic);
        key->topic_id = dir->topic_id;
        return 0;
    }
    if (walrus_topic_find(mount->store, dir->name, &topic) == 0) {
        key_set_topic(key, topic);
        return 0;
    }
    if (!kind_is(key->kind, KIND_PRODUCES))
        return -ENOENT;
    key->name = strdup(dir->name);
    return key->name != NULL ? 0 : -ENOMEM;
}

/* The topic's own consumer files are those of the group that has the name `default` now. */
static int key_add_default(struct place_key *key)
{
    struct walrus_group *group;

    if (key->topic == NULL)
        return 0;
    int r = walrus_group_find(key->topic, GROUP_DEFAULT, &group);
    if (r == 0)
        key_set_group(key, group);
    return r == -ENOENT ? 0 : r == -ENODEV ? -ENOENT : r;
}

static int find_in_topic(struct mount *mount, const struct place_key *dir, const char *name,
                         struct place_key *key)
{
    if (!names_find_fixed(KIND_TOPIC, name, &key->kind))
        return -ENOENT;
    int r = key_inherit_topic(mount, dir, key);
    if (r == 0 && kind_is(key->kind, KIND_HAS_GROUP))
        r = key_add_default(key);
    return r;
}

static int find_in_groups(const struct place_key *dir, const char *name, struct place_key *key)
{
    struct walrus_group *group;

    int r = walrus_name_check(name, strlen(name));
    if (r < 0)
        return r == -ENAMETOOLONG ? r : -ENOENT;
    r = walrus_group_find(dir->topic, name, &group);
    if (r < 0)
        return r == -ENODEV ? -ENOENT : r;
    key->kind = KIND_GROUP;
    key->in_group = true;
    key->topic = walrus_topic_ref(dir->topic);
    key->topic_id = dir->topic_id;
    key_set_group(key, group);
    return 0;
}

static int find_in_group(const struct place_key *dir, const char *name, struct place_key *key)
{
    if (!names_find_fixed(KIND_GROUP, name, &key->kind) || walrus_group_removed(dir->group))
        return -ENOENT;
    key->in_group = true;
    key->topic = walrus_topic_ref(dir->topic);
    key->topic_id = dir->topic_id;
    key->group = walrus_group_ref(dir->group);
    key->group_id = dir->group_id;
    return 0;
}

static int find_in_entries(const struct place_key *dir, const char *name, struct place_key *key)
{
    if (!names_parse_number(name, strlen(name), &key->seq))
        return -ENOENT;
    key->kind = KIND_ENTRY;
    key->topic = walrus_topic_ref(dir->topic);
    key->topic_id = dir->topic_id;
    return key_add_default(key);
}

/* Finds what `name` is in the directory.  The key's references are the caller's also on failure. */
static int dir_find(struct mount *mount, const struct node *dir, const char *name,
                    struct place_key *key)
{
    const struct place_key *dir_key = &dir->place->key;

    if (strlen(name) > WALRUS_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    switch (dir_key->kind) {
    case KIND_ROOT:
        return find_in_root(mount, name, key);
    case KIND_TOPIC:
        return find_in_topic(mount, dir_key, name, key);
    case KIND_GROUPS:
        return find_in_groups(dir_key, name, key);
    case KIND_GROUP:
        return find_in_group(dir_key, name, key);
    case KIND_ENTRIES:
        return find_in_entries(dir_key, name, key);
    case KIND_META:
        return names_find_fixed(KIND_META, name, &key->kind) ? 0 : -ENOENT;
    default:
        return -ENOTDIR;
    }
}

/* Answers with the file that the key describes, and takes its references over. */
static void reply_place(struct mount *mount, fuse_req_t req, struct node *dir,
                        struct place_key *key)
{
    struct node *node;
    struct stat stat;

    int r = node_look_up(mount, dir, key, fuse_req_ctx(req)->pid, &node);
    if (r < 0) {
        reply_error(req, r);
        return;
    }
    r = attr_get(mount, node, fuse_req_ctx(req)->pid, &stat);
    if (r == 0) {
        bool lasting = S_ISDIR(stat.st_mode) && node->place->key.name == NULL;
        r = reply_entry(req, node_ino(mount, node), &stat, lasting ? REPLY_DIR_TIMEOUT : 0,
                        REPLY_ATTR_TIMEOUT);
    } else {
        reply_error(req, r);
    }
    if (r < 0)
        node_forget(mount, node, 1);
}

/* A request about a directory and one or two names. */
static struct request *change_create(struct mount *mount, fuse_req_t req, struct node *dir,
                                     const char *name)
{
    struct request *request = request_create(mount, req, NULL, dir, 0);
    if (request == NULL)
        return NULL;
    request->offset = closings_now(mount);
    request->name = strdup(name);
    if (request->name == NULL) {
        reply_error(req, -ENOMEM);
        request_destroy(request);
        return NULL;
    }
    return request;
}

/* Whether what the file shows is not there before the closes that came before `number` are done.
 * `result` is that of dir_find(). */
static bool must_wait(struct mount *mount, const struct place_key *dir, const struct place_key *key,
                      int result, uint64_t number)
{
    /* A close may even make the topic. */
    bool unmade = result == -ENOENT && dir->kind == KIND_TOPIC && dir->topic == NULL;
    bool shows = result == 0 && (kind_is(key->kind, KIND_HAS_GROUP) || key->kind == KIND_ENTRY);
    return (shows || unmade) && closings_pending(mount, number, key->topic_id);
}

static void look_up_request(struct request *request)
{
    struct place_key key = {.kind = KIND_ROOT};

    int r = dir_find(request->mount, request->node, request->name, &key);
    if (must_wait(request->mount, &request->node->place->key, &key, r, request->offset) &&
        request_retry_closing(request, look_up_request)) {
        place_key_fini(&key);
        return;
    }
    if (r == 0) {
        reply_place(request->mount, request->req, request->node, &key);
    } else {
        place_key_fini(&key);
        reply_error(request->req, r);
    }
    request_destroy(request);
}

void dir_look_up(struct mount *mount, fuse_req_t req, struct node *dir, const char *name)
{
    struct place_key key = {.kind = KIND_ROOT};

    int r = dir_find(mount, dir, name, &key);
    if (must_wait(mount, &dir->place->key, &key, r, UINT64_MAX)) {
        struct request *request = change_create(mount, req, dir, name);
        place_key_fini(&key);
        if (request != NULL)
            request_submit(request, look_up_request);
        return;
    }
    if (r < 0) {
        place_key_fini(&key);
        reply_error(req, r);
        return;
    }
    reply_place(mount, req, dir, &key);
}

/* ------------------------------------------------------------------------------------- listing */

struct item {
    char name[WALRUS_NAME_SIZE_MAX + 1];
    struct stat stat;
    uint64_t next; /* offset of the item behind */
};

#define DOT_COUNT 2 /* "." and ".." come first in every directory */

static void item_set(struct item *item, struct place_key *key, uint64_t next)
{
    item->stat.st_ino = place_ino(key);
    item->stat.st_mode = kind_is(key->kind, KIND_IS_DIR) ? S_IFDIR : S_IFREG;
    item->next = next;
}

static bool list_root(struct mount *mount, uint64_t offset, struct item *item)
{
    struct place_key key = {.kind = KIND_META};
    struct walrus_topic *topic;

    if (offset == DOT_COUNT) {
        strcpy(item->name, kind_info(KIND_META)->name);
        item_set(item, &key, offset + 1);
        return true;
    }
    /* The offset holds the id of the topic listed last. */
    if (walrus_topic_after(mount->store, offset - DOT_COUNT - 1, &topic) != 0)
        return false;
    key.kind = KIND_TOPIC;
    key_set_topic(&key, topic);
    walrus_topic_name(topic, item->name);
    item_set(item, &key, key.topic_id + DOT_COUNT + 1);
    place_key_fini(&key);
    return true;
}

static bool list_groups(const struct place_key *dir, uint64_t offset, struct item *item)
{
    struct place_key key = {.kind = KIND_GROUP, .topic_id = dir->topic_id};
    struct walrus_group *group;

    if (walrus_group_after(dir->topic, offset - DOT_COUNT, &group) != 0)
        return false;
    key_set_group(&key, group);
    walrus_group_name(group, item->name);
    item_set(item, &key, key.group_id + DOT_COUNT);
    place_key_fini(&key);
    return true;
}

/* The first and the last entry only: there may be millions. */
static bool list_entries(const struct place_key *dir, uint64_t offset, struct item *item)
{
    struct place_key key = {.kind = KIND_ENTRY, .topic_id = dir->topic_id};
    struct walrus_topic_stat stat;

    walrus_topic_stat(dir->topic, &stat);
    if (offset > DOT_COUNT + 1 || stat.first_seq == stat.tail_seq)
        return false;
    key.seq = offset == DOT_COUNT ? stat.first_seq : stat.tail_seq - 1;
    if (offset > DOT_COUNT && stat.first_seq == stat.tail_seq - 1)
        return false;
    snprintf(item->name, sizeof(item->name), "%llu", (unsigned long long)key.seq);
    item_set(item, &key, offset + 1);
    return true;
}

static bool list_fixed(const struct place_key *dir, uint64_t offset, struct item *item)
{
    struct place_key key = {
        .topic_id = dir->topic_id, .group_id = dir->group_id, .in_group = dir->kind == KIND_GROUP};
    bool unmade = dir->topic == NULL && dir->kind == KIND_TOPIC; /* a write makes it */

    do {
        if (!names_list_fixed(dir->kind, (unsigned)(offset - DOT_COUNT), &key.kind))
            return false;
        offset++;
    } while (unmade && !kind_is(key.kind, KIND_PRODUCES));
    strcpy(item->name, kind_info(key.kind)->name);
    if (dir->kind == KIND_TOPIC && dir->topic != NULL && kind_is(key.kind, KIND_HAS_GROUP)) {
        struct walrus_group *group;
        if (walrus_group_find(dir->topic, GROUP_DEFAULT, &group) == 0) {
            key_set_group(&key, group);
            walrus_group_unref(group);
        }
    }
    item_set(item, &key, offset);
    return true;
}

/* The item at `offset`; false at the end. */
static bool dir_list(struct mount *mount, const struct node *dir, uint64_t offset,
                     struct item *item)
{
    const struct place_key *key = &dir->place->key;

    if (offset < DOT_COUNT) {
        const struct node *node = offset == 0 || dir->place->dir == NULL ? dir : dir->place->dir;
        strcpy(item->name, offset == 0 ? "." : "..");
        item->stat.st_ino = node->place->ino;
        item->stat.st_mode = S_IFDIR;
        item->next = offset + 1;
        return true;
    }
    switch (key->kind) {
    case KIND_ROOT:
        return list_root(mount, offset, item);
    case KIND_GROUPS:
        return list_groups(key, offset, item);
    case KIND_ENTRIES:
        return list_entries(key, offset, item);
    default:
        return list_fixed(key, offset, item);
    }
}

void dir_read(struct mount *mount, fuse_req_t req, struct node *dir, size_t size, uint64_t offset)
{
    struct item item = {.next = offset};
    size_t done = 0;

    size = MIN(size, (size_t)MOUNT_REQUEST_SIZE_MAX);
    char *buffer = thread_buffer(size);
    if (buffer == NULL) {
        reply_error(req, -ENOMEM);
        return;
    }
    while (dir_list(mount, dir, item.next, &item)) {
        size_t need = fuse_add_direntry(req, buffer + done, size - done, item.name, &item.stat,
                                        (off_t)item.next);
        if (need > size - done)
            break;
        done += need;
    }
    int r = reply_data(req, buffer, done);
    (void)r;
}

/* ------------------------------------------------------------------------------------- changing */

static int make_topic(struct request *request, struct place_key *key)
{
    const struct fuse_ctx *who = fuse_req_ctx(request->req);
    unsigned char topic_attr[WALRUS_ATTR_SIZE], group_attr[WALRUS_ATTR_SIZE];
    struct walrus_topic *topic;
    gid_t gid = who->gid;
    mode_t mode = request->mode & 07777;

    attr_inherit(request->mount, &request->node->place->key, &gid, &mode);
    attr_init_topic(topic_attr, who->uid, gid, mode);
    attr_init_group(group_attr, who->uid, gid, mode);
    int r =
        walrus_topic_create(request->mount->store, request->name, topic_attr, group_attr, &topic);
    if (r == 0) {
        key->kind = KIND_TOPIC;
        key_set_topic(key, topic);
    }
    return r;
}

static int make_group(struct request *request, const struct place_key *dir, struct place_key *key)
{
    const struct fuse_ctx *who = fuse_req_ctx(request->req);
    unsigned char attr[WALRUS_ATTR_SIZE];
    struct walrus_group *group;
    gid_t gid = who->gid;
    mode_t mode = request->mode & 07777;

    attr_inherit(request->mount, dir, &gid, &mode);
    attr_init_group(attr, who->uid, gid, mode);
    int r = walrus_group_create(dir->topic, request->name, attr, &group);
    if (r == 0) {
        key->kind = KIND_GROUP;
        key->in_group = true;
        key->topic = walrus_topic_ref(dir->topic);
        key->topic_id = dir->topic_id;
        key_set_group(key, group);
    }
    return r;
}

static void make_request(struct request *request)
{
    const struct place_key *dir = &request->node->place->key;
    struct place_key key = {.kind = KIND_ROOT};

    int r = dir->kind == KIND_ROOT ? make_topic(request, &key) : make_group(request, dir, &key);
    if (r < 0)
        reply_error(request->req, r);
    else
        reply_place(request->mount, request->req, request->node, &key);
    request_destroy(request);
}

void dir_make(struct mount *mount, fuse_req_t req, struct node *dir, const char *name, mode_t mode)
{
    enum kind kind = node_kind(dir);
    int r =
        kind == KIND_ROOT || kind == KIND_GROUPS ? walrus_name_check(name, strlen(name)) : -EACCES;
    if (r < 0) {
        reply_error(req, r);
        return;
    }
    struct request *request = change_create(mount, req, dir, name);
    if (request == NULL)
        return;
    request->mode = mode;
    request_submit(request, make_request);
}

static void remove_request(struct request *request)
{
    struct place_key key = {.kind = KIND_ROOT};

    int r = dir_find(request->mount, request->node, request->name, &key);
    if (r == 0 && key.kind == KIND_TOPIC &&
        closings_pending(request->mount, request->offset, key.topic_id) &&
        request_retry_closing(request, remove_request)) {
        place_key_fini(&key);
        return;
    }
    if (r == 0 && key.kind == KIND_TOPIC)
        r = key.topic != NULL ? walrus_topic_remove(key.topic) : -ENOENT;
    else if (r == 0 && key.kind == KIND_GROUP)
        r = walrus_group_remove(key.group);
    else if (r == 0)
        r = kind_is(key.kind, KIND_IS_DIR) ? -EPERM : -ENOTDIR;
    reply_error(request->req, r == -ENODEV ? -ENOENT : r);
    place_key_fini(&key);
    request_destroy(request);
}

void dir_remove(struct mount *mount, fuse_req_t req, struct node *dir, const char *name)
{
    struct request *request = change_create(mount, req, dir, name);
    if (request != NULL)
        request_submit(request, remove_request);
}

static void rename_request(struct request *request)
{
    struct place_key key = {.kind = KIND_ROOT};

    int r = dir_find(request->mount, request->node, request->name, &key);
    if (r == 0 && key.kind == KIND_TOPIC && key.topic == NULL &&
        closings_pending(request->mount, request->offset, 0) &&
        request_retry_closing(request, rename_request)) { /* a close may make the topic */
        place_key_fini(&key);
        return;
    }
    if (r == 0 && key.kind == KIND_TOPIC && key.topic != NULL)
        r = walrus_topic_rename(key.topic, request->new_name);
    else if (r == 0 && key.kind == KIND_GROUP)
        r = walrus_group_rename(key.group, request->new_name);
    else if (r == 0)
        r = key.kind == KIND_TOPIC ? -ENOENT : -EPERM;
    reply_error(request->req, r == -ENODEV ? -ENOENT : r);
    place_key_fini(&key);
    request_destroy(request);
}

void dir_rename(struct mount *mount, fuse_req_t req, struct node *dir, const char *name,
                struct node *new_dir, const char *new_name, unsigned flags)
{
    enum kind kind = node_kind(dir);
    int r = 0;

    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0)
        r = -EINVAL;
    else if (dir != new_dir || (kind != KIND_ROOT && kind != KIND_GROUPS) ||
             (kind == KIND_ROOT && strcmp(name, kind_info(KIND_META)->name) == 0))
        r = -EPERM;
    else
        r = walrus_name_check(new_name, strlen(new_name));
    if (r < 0) {
        reply_error(req, r);
        return;
    }
    struct request *request = change_create(mount, req, dir, name);
    if (request == NULL)
        return;
    request->new_name = strdup(new_name);
    if (request->new_name == NULL) {
        reply_error(req, -ENOMEM);
        request_destroy(request);
        return;
    }
    request_submit(request, rename_request);
}
