/* SPDX-License-Identifier: MIT */
/* test_report.c - events reach the caller's callback, once and whole. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "report.h"

static struct walrus_report last;
static char last_text[4096];
static int call_count;

static void keep(void *arg, const struct walrus_report *event)
{
    cr_assert_eq(arg, &last);
    last = *event;
    snprintf(last_text, sizeof(last_text), "%s", event->text);
    call_count++;
}

static const struct reporter loud = {.report = keep, .arg = &last};
static const struct reporter quiet = {.report = keep, .arg = &last, .quiet = true};

Test(report, hands_over_level_error_topic_and_text)
{
    report(&loud, WALRUS_WARNING, -EBADMSG, "orders", "%s: offset %d", "wal_1.log", 65536);
    cr_assert_eq(call_count, 1);
    cr_assert_eq(last.level, WALRUS_WARNING);
    cr_assert_eq(last.error, EBADMSG);
    cr_assert_str_eq(last.topic, "orders");
    cr_assert_str_eq(last_text, "wal_1.log: offset 65536");
}

Test(report, allows_no_topic_and_no_error)
{
    report(&loud, WALRUS_DEBUG, 0, NULL, "text");
    cr_assert_eq(call_count, 1);
    cr_assert_eq(last.error, 0);
    cr_assert_null(last.topic);
}

Test(report, drops_what_nobody_wants)
{
    const struct reporter nobody = {.report = NULL};
    report(&nobody, WALRUS_ERROR, -EIO, NULL, "text");
    report(&quiet, WALRUS_INFO, 0, NULL, "text");
    report(&quiet, WALRUS_DEBUG, 0, NULL, "text");
    cr_assert_eq(call_count, 0);
    report(&quiet, WALRUS_WARNING, 0, NULL, "text");
    report(&quiet, WALRUS_ERROR, 0, NULL, "text");
    cr_assert_eq(call_count, 2);
}

Test(report, cuts_a_long_text_short)
{
    char text[3000];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    report(&loud, WALRUS_INFO, 0, NULL, "begin %s", text);
    cr_assert_eq(call_count, 1);
    cr_assert_eq(strncmp(last_text, "begin xxx", 9), 0);
    cr_assert_gt(strlen(last_text), 900);
}
