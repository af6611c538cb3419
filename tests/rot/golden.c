/* SPDX-License-Identifier: MIT */
/*
 * golden.c - the images in tests/golden, which every later version must read.
 *
 *     golden make DIR     makes DIR/closed, DIR/older and DIR/killed: the reference store, an earlier
 *                         moment of it, and what was left when a process that had it open died
 *     golden show DIR     prints what the store in DIR holds, every entry checked against its payload;
 *                         opens it for writing, uses it, and opens it once more
 *
 * tests/golden/README.md says how the images were packed.  Their payloads are those of seed 0.
 */
#include "reference.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct reference ref;

static void sub_dir(const char *dir, const char *name, char *ret_path, size_t size)
{
    CHECK((size_t)snprintf(ret_path, size, "%s/%s", dir, name) < size);
    CHECK_INT(mkdir(ret_path, 0700), 0);
}

static void make(const char *dir)
{
    struct rig rig, killed;
    char path[PATH_MAX];
    rig_init(&rig);
    rig.seed = 0;
    reference_make(&ref, &rig);
    sub_dir(dir, "closed", path, sizeof(path));
    images_write(&ref.images, path);
    sub_dir(dir, "older", path, sizeof(path));
    images_write(&ref.older, path);
    rig_open(&rig);
    rig_append_many(&rig, "a", ref.topics[0].tail, 10, 700);
    rig_copy(&rig, &killed);
    sub_dir(dir, "killed", path, sizeof(path));
    dir_copy(killed.dir, path);
    rig_fini(&killed);
    rig_fini(&rig);
    reference_fini(&ref);
}

static void show_store(const struct reference *store)
{
    for (size_t i = 0; i < store->topic_count; i++) {
        const struct ref_topic *topic = &store->topics[i];
        printf("topic %" PRIu64 " %s: entries %" PRIu64 " to %" PRIu64 ":", topic->id, topic->name,
               topic->first, topic->tail);
        for (uint64_t seq = topic->first; seq < topic->tail; seq++)
            printf(" %zu", topic->sizes[seq - topic->first]);
        putchar('\n');
        for (size_t k = 0; k < topic->group_count; k++)
            printf("  group %" PRIu64 " %s: at %" PRIu64 ", pending %" PRIu64 "\n",
                   topic->groups[k].id, topic->groups[k].name, topic->groups[k].offset,
                   topic->groups[k].pending);
    }
}

static void show(const char *dir)
{
    struct rig rig;
    struct walrus_verify_result result;
    rig_init(&rig);
    rig.seed = 0;
    dir_copy(dir, rig.dir);
    CHECK_INT(walrus_verify(rig.dir, NULL, &result), 0);
    printf("entries %" PRIu64 ", bytes %" PRIu64 ", damaged %" PRIu64 ", %s\n", result.entry_count,
           result.entry_bytes, result.damage_count, result.clean ? "closed" : "not closed");
    rig_open(&rig);
    rig_close(&rig);
    reference_describe(&ref, &rig);
    show_store(&ref);
    rig_open(&rig);
    for (size_t i = 0; i < ref.topic_count; i++) {
        rig_append(&rig, ref.topics[i].name, ref.topics[i].tail, 1000);
        CHECK_INT(rig_take(&rig, ref.topics[i].name, &(uint64_t){0}), 0);
    }
    rig_reopen(&rig);
    for (size_t i = 0; i < ref.topic_count; i++)
        rig_expect_at(&rig, ref.topics[i].name, ref.topics[i].tail, 1000);
    CHECK_INT(rig_reports(&rig, WALRUS_ERROR), 0);
    rig_fini(&rig);
    reference_fini(&ref);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    if (strcmp(argv[1], "make") == 0)
        make(argv[2]);
    else
        show(argv[2]);
    return 0;
}
