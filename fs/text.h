/* SPDX-License-Identifier: MIT */
/*
 * text.h - the files that are small texts: status, offset, retention, limit, and .walrusfs/.
 *
 * Rendered when they are opened, so that what one handle reads is of one moment.  Engine calls, no
 * locks.
 */
#ifndef WALRUSFS_TEXT_H
#define WALRUSFS_TEXT_H

#include "node.h"

/* Renders the file into memory from malloc.  -ENXIO: its group does not exist.  -ENOMEM */
WALRUS_CHECK int text_render(struct mount *mount, const struct place_key *key, char **ret_text,
                             size_t *ret_size);
WALRUS_CHECK int text_size(struct mount *mount, const struct place_key *key, uint64_t *ret_size);

/* Applies what was written to offset, retention or limit; blocks.  -EINVAL -ERANGE -ENXIO ... */
WALRUS_CHECK int text_store(const struct place_key *key, const char *text, size_t size);

#endif
