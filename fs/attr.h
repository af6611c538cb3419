/* SPDX-License-Identifier: MIT */
/*
 * attr.h - owners, modes, times and sizes.
 *
 * Owners and modes of what belongs to a topic or a group lie in the 64 bytes that the library keeps
 * with it (walrus_topic_attr, walrus_group_attr), those of the mount's root in walrus_attr.  All
 * zero means that the library made it: then it belongs to who mounted, with the default modes.
 * The kernel checks them (default_permissions); nothing here does, but attr_may_write_root().
 */
#ifndef WALRUSFS_ATTR_H
#define WALRUSFS_ATTR_H

#include <sys/stat.h>

#include "node.h"

/* Blobs of a topic and its default group, or of a group alone, that `uid` makes with `mode`. */
void attr_init_topic(void *ret_attr, uid_t uid, gid_t gid, mode_t mode);
void attr_init_group(void *ret_attr, uid_t uid, gid_t gid, mode_t mode);

/* A directory with the setgid bit gives its group, and the bit, to what is made in it. */
void attr_inherit(struct mount *mount, const struct place_key *dir, gid_t *gid, mode_t *mode);

/* What stat(2) is to say of the node to the thread `tid`; engine calls, no lock.
 * -ENOENT: the entry is gone. */
WALRUS_CHECK int attr_get(struct mount *mount, struct node *node, pid_t tid, struct stat *ret_stat);

/* Applies the mode and owners in `stat` that `to_set` names (FUSE_SET_ATTR_*), durably; blocks.
 * -EPERM: this file has no attributes of its own. */
WALRUS_CHECK int attr_set(struct mount *mount, struct node *node, const struct stat *stat,
                          int to_set);

/* Whether the caller of the request may make a topic: he may write the root. */
bool attr_may_write_root(struct mount *mount, fuse_req_t req);

/* Tells the kernel that the times of the topic's directory changed, if it was told them. */
void attr_touch_dir(struct mount *mount, struct node *node);

#endif
