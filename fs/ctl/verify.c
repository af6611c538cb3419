/* SPDX-License-Identifier: MIT */
/*
 * verify.c - walrusctl verify: shows what walrus_verify finds; and for repair.c, which shows the same.
 *
 * As text, a line for each damaged place and a summary; with --json one object.  The library does
 * the work and says what it costs.
 */
#include "survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const costs[] = {
    [WALRUS_COST_NOTHING] = "nothing", [WALRUS_COST_OFFSET] = "offset",
    [WALRUS_COST_NAME] = "name",       [WALRUS_COST_ENTRIES] = "entries",
    [WALRUS_COST_BLOCK] = "block",     [WALRUS_COST_STORE] = "store",
};

static void damage_json(const struct walrus_damage *damage)
{
    json_begin(NULL, '{');
    json_string("file", damage->file);
    if (damage->block >= 0)
        json_number("block", (uint64_t)damage->block);
    json_number("offset", damage->off);
    json_number("size", damage->size);
    json_string("costs", costs[damage->cost]);
    json_string("topic", damage->topic);
    if (damage->cost == WALRUS_COST_ENTRIES) {
        json_number("first", damage->first_seq);
        json_number("end", damage->end_seq);
    }
    json_bool("mended", damage->mended);
    json_string("text", damage->text);
    json_end('}');
    putchar('\n');
}

static void damage_text(const struct walrus_damage *damage)
{
    printf("%s", damage->file);
    if (damage->block >= 0)
        printf(", block %" PRId64, damage->block);
    printf(", byte %" PRIu64, damage->off);
    if (damage->size > 0)
        printf(" to %" PRIu64, damage->off + damage->size - 1);
    printf(": ");
    ctl_print_name(stdout, damage->text); /* may hold the name of a group */
    printf("; costs ");
    if (damage->cost == WALRUS_COST_ENTRIES && damage->end_seq == damage->first_seq + 1)
        printf("entry %" PRIu64, damage->first_seq);
    else if (damage->cost == WALRUS_COST_ENTRIES)
        printf("entries %" PRIu64 " to %" PRIu64, damage->first_seq, damage->end_seq - 1);
    else
        printf("%s", costs[damage->cost]);
    if (damage->topic) {
        printf(", topic ");
        ctl_print_name(stdout, damage->topic);
    }
    puts(damage->mended ? "; mended" : "");
}

static void show_damage(void *arg, const struct walrus_damage *damage)
{
    struct ctl *ctl = arg;
    ctl_progress_end(ctl);
    if (ctl->json)
        damage_json(damage);
    else
        damage_text(damage);
}

static void result_json(const struct walrus_verify_result *result)
{
    json_number("files", result->file_count);
    json_number("topics", result->topic_count);
    json_number("groups", result->group_count);
    json_number("blocks", result->block_count);
    json_number("entries", result->entry_count);
    json_number("bytes", result->entry_bytes);
    json_number("damaged", result->damage_count);
    json_number("mended", result->mended_count);
    json_number("lost", result->lost_count);
    json_bool("clean", result->clean);
    json_bool("in_use", result->in_use);
}

static void result_text(const struct walrus_verify_result *result)
{
    ctl_print_count(result->file_count, "log file, ", "log files, ");
    ctl_print_count(result->block_count, "block in use; ", "blocks in use; ");
    ctl_print_count(result->topic_count, "topic, ", "topics, ");
    ctl_print_count(result->group_count, "group; ", "groups; ");
    ctl_print_count(result->entry_count, "entry whole, ", "entries whole, ");
    ctl_print_count(result->entry_bytes, "byte\n", "bytes\n");
    if (result->in_use)
        puts("the store is in use: what is not durable yet was not looked at");
    else if (!result->clean)
        puts("the store was not closed cleanly: the next opening walks its open blocks");
    if (result->damage_count == 0) {
        puts("no damage");
    } else {
        ctl_print_count(result->damage_count, "damaged place, ", "damaged places, ");
        printf("%" PRIu64 " mended; ", result->mended_count);
        ctl_print_count(result->lost_count, "entry lost\n", "entries lost\n");
    }
}

enum ctl_result ctl_check(struct ctl *ctl, int argc, char **argv, ctl_checker *check)
{
    const char *dir = ctl_operand(ctl, argc, argv, "one store is wanted");
    if (dir == NULL)
        return CTL_USAGE;
    struct walrus_verify_options options = {
        .key = ctl->key, .damage = show_damage, .progress = ctl_progress, .arg = ctl};
    struct walrus_verify_result result;
    if (ctl->json) {
        json_begin(NULL, '{');
        json_string("store", dir);
        json_begin("damage", '[');
    }
    int r = check(ctl_store(ctl, dir), &options, &result);
    ctl_progress_end(ctl);
    if (ctl->json) {
        json_end(']');
        if (r == 0)
            result_json(&result);
        else
            json_string("error", strerrordesc_np(-r));
        json_end('}');
        putchar('\n');
    }
    if (r < 0)
        return survey_fail(ctl, r, dir, check == walrus_verify ? "read" : "repaired");
    if (!ctl->json)
        result_text(&result);
    return result.damage_count > result.mended_count ? CTL_DAMAGE : CTL_OK;
}

enum ctl_result command_verify(struct ctl *ctl, int argc, char **argv)
{
    return ctl_check(ctl, argc, argv, walrus_verify);
}
