/* SPDX-License-Identifier: MIT */
/*
 * stdfds.h - descriptors 0 to 2 are there before anything else is opened.
 *
 * Both programs call it first.  Who starts them without standard error, say, would have the next
 * file that is opened take its number: a file of the store, into which messages would then go.
 */
#ifndef WALRUSFS_STDFDS_H
#define WALRUSFS_STDFDS_H

#include "compiler.h"

/* Puts something that gives and takes nothing in the place of those that are closed.  No threads yet.
 */
WALRUS_CHECK int stdfds_open(void);

#endif
