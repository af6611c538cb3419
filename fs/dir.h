/* SPDX-License-Identifier: MIT */
/*
 * dir.h - directories: look-up, listing, making, removing and renaming.
 *
 * All functions answer their request.
 */
#ifndef WALRUSFS_DIR_H
#define WALRUSFS_DIR_H

#include "node.h"

void dir_look_up(struct mount *mount, fuse_req_t req, struct node *dir, const char *name);
void dir_read(struct mount *mount, fuse_req_t req, struct node *dir, size_t size, uint64_t offset);
void dir_make(struct mount *mount, fuse_req_t req, struct node *dir, const char *name, mode_t mode);
void dir_remove(struct mount *mount, fuse_req_t req, struct node *dir, const char *name);
void dir_rename(struct mount *mount, fuse_req_t req, struct node *dir, const char *name,
                struct node *new_dir, const char *new_name, unsigned flags);

#endif
