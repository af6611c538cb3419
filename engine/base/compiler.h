/* SPDX-License-Identifier: MIT */
/*
 * compiler.h - attributes, checked assertions and small arithmetic.  Serves every file; uses libc.
 *
 * WALRUS_ASSERT is for our own mistakes only, never for bytes from disk, kernel or user: it is on
 * in every build, because a log that goes on after a broken invariant is worse than one that
 * stopped.
 */
#ifndef WALRUS_BASE_COMPILER_H
#define WALRUS_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef WALRUS_CHECK
#define WALRUS_CHECK __attribute__((warn_unused_result))
#endif
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NORETURN     __attribute__((noreturn))

NORETURN void walrus_assert_fail(const char *expr, const char *file, int line);

#define WALRUS_ASSERT(expr)                                                                        \
    (__builtin_expect(!!(expr), 1) ? (void)0 : walrus_assert_fail(#expr, __FILE__, __LINE__))

#define ARRAY_COUNT(a)                  (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b)                       ((a) < (b) ? (a) : (b))
#define MAX(a, b)                       ((a) > (b) ? (a) : (b))

/* Rounds up to a multiple of `unit`, a power of two. */
static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

#endif
