/* SPDX-License-Identifier: MIT */
/*
 * report.h - the engine never prints: it tells each event once, where it arises, through the
 * caller's callback.  Any thread; may be called with locks held, so the callback gets a copy of
 * nothing and must not call the engine.
 */
#ifndef WALRUS_REPORT_H
#define WALRUS_REPORT_H

#include "compiler.h"
#include "walrus.h"

struct reporter {
    void (*report)(void *arg, const struct walrus_report *report); /* NULL: dropped */
    void *arg;
    bool quiet; /* WALRUS_QUIET: no INFO, no DEBUG */
};

/* `error` is 0 or a negative errno as the engine has it; `topic` may be NULL. */
PRINTF(5, 6)
void report(const struct reporter *reporter, enum walrus_level level, int error, const char *topic,
            const char *format, ...);

#endif
