/* SPDX-License-Identifier: MIT */
/*
 * powercut.h - a struct os_ops that knows which bytes of a store a sync has covered, and builds
 * the directories that a loss of power could leave behind.
 *
 *     powercut_install(dir, NULL);
 *     ... open the store in dir, use it ...
 *     powercut_write(to, POWERCUT_SECTORS, 50, &random);    a possible disk, in the directory `to`
 *     powercut_remove();
 *
 * A change of a file is durable once a sync of it that began later has returned, msync(2) and
 * RWF_DSYNC for their own range only; a name is once its directory was synced.  All else may be
 * lost, each sector of 512 bytes for itself.  Syncs do not go to the disk, so they cost little.
 *
 * Only files directly in the one directory are tracked.  Install and remove while no store is open
 * in it; all else from any thread.
 */
#ifndef WALRUS_TESTS_POWERCUT_H
#define WALRUS_TESTS_POWERCUT_H

#include <stdbool.h>
#include <stdint.h>

enum powercut_mode {
    POWERCUT_KILL,    /* what the page cache shows: only the process died */
    POWERCUT_DURABLE, /* nothing but what was synced */
    POWERCUT_SECTORS, /* each unsynced sector of 512 bytes is there with `percent` */
    POWERCUT_PAGES,   /* the same for pages of 4096 bytes */
    POWERCUT_MODE_COUNT,
};

/* What lies in `dir` is durable; with durable_dir not NULL, what lies there is instead. */
void powercut_install(const char *dir, const char *durable_dir);
void powercut_remove(void);

/* Some of what is not synced reaches the disk by itself, `percent` of the sectors. */
void powercut_writeback(unsigned percent, uint64_t *random);

/* Calls `cut` before the nth change of a file or name from now on, with all changes held up
 * meanwhile (stores through mappings excepted); it may call powercut_write.  0: not any more. */
void powercut_arm(uint64_t nth, void (*cut)(void *arg), void *arg);

/* Waits until no cut is under way. */
void powercut_wait(void);

/* Makes in the existing empty directory `to` a disk as a cut at this moment could leave it. */
void powercut_write(const char *to, enum powercut_mode mode, unsigned percent, uint64_t *random);

/* A number below `limit` (which is not 0). */
uint64_t powercut_random(uint64_t *random, uint64_t limit);

#endif
