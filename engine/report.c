/* SPDX-License-Identifier: MIT */
/*
 * report.c - turns an event into text and hands it to the caller's callback.
 *
 * Serves all of engine/.  No state and no locks of its own.  An event whose text does not fit is
 * cut short, never lost.
 */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>

void report(const struct reporter *reporter, enum walrus_level level, int error, const char *topic,
            const char *format, ...)
{
    char text[1024];
    va_list args;

    if (!reporter->report || (reporter->quiet && level >= WALRUS_INFO))
        return;
    va_start(args, format);
    int size = vsnprintf(text, sizeof(text), format, args);
    va_end(args);

    struct walrus_report event = {
        .level = level,
        .error = -error,
        .topic = topic,
        .text = size < 0 ? format : text,
    };
    reporter->report(reporter->arg, &event);
}
