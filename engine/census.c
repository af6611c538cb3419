/* SPDX-License-Identifier: MIT */
/*
 * census.c - the bytes of the registry's journal that still count: see census.h.
 *
 * Two things with one hash would make the sum wrong and nothing else: it only says when a compaction
 * pays.
 */
#include "census.h"

#include <errno.h>
#include <stdlib.h>

#include "format.h"

/* What is live of one topic, group or the store. */
struct live {
    uint64_t key;         /* 0: the place is free */
    uint32_t own_size;    /* bytes of its latest record */
    uint32_t groups_size; /* topics: the same of all its groups, which go with it */
};

static struct live *census_place(const struct census *census, uint64_t key)
{
    size_t idx = (size_t)key & (census->capacity - 1);

    while (census->places[idx].key != 0 && census->places[idx].key != key)
        idx = (idx + 1) & (census->capacity - 1);
    return &census->places[idx];
}

int census_reserve(struct census *census, size_t count)
{
    struct census wider = *census;

    if ((census->used + count) * 4 <= census->capacity * 3)
        return 0;
    wider.capacity = MAX(census->capacity * 2, 64);
    wider.places = calloc(wider.capacity, sizeof(*wider.places));
    if (wider.places == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < census->capacity; i++) {
        if (census->places[i].key != 0)
            *census_place(&wider, census->places[i].key) = census->places[i];
    }
    free(census->places);
    *census = wider;
    return 0;
}

static struct live *census_find(struct census *census, uint64_t topic_id, uint64_t group_id)
{
    uint64_t key = topic_id ^ census->secret;
    struct live *live;

    /* Two rounds of the multiply-and-shift mix of splitmix64. */
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u + group_id;
    key = (key ^ (key >> 27)) * 0x94d049bb133111ebu ^ census->secret;
    key ^= key >> 31;
    key += key == 0;
    live = census_place(census, key);
    if (live->key == 0) {
        live->key = key;
        census->used++;
    }
    return live;
}

static void census_set(struct census *census, uint32_t *size, uint32_t value)
{
    census->live_size = census->live_size - MIN(census->live_size, *size) + value;
    *size = value;
}

void census_count(struct census *census, const struct registry_change *change)
{
    uint64_t topic_id = change->kind == REGISTRY_STORE ? 0 : change->topic_id;
    struct live *topic = census_find(census, topic_id, 0), *group;
    uint32_t size = (uint32_t)format_regrec_extent(change), old;

    switch (change->kind) {
    case REGISTRY_TOPIC:
    case REGISTRY_STORE:
        census_set(census, &topic->own_size, size);
        return;
    case REGISTRY_TOPIC_REMOVED:
        census_set(census, &topic->own_size, 0);
        census_set(census, &topic->groups_size, 0);
        return;
    case REGISTRY_GROUP:
    case REGISTRY_GROUP_REMOVED:
        group = census_find(census, topic_id, change->group_id);
        old = MIN(group->own_size, topic->groups_size);
        group->own_size = change->kind == REGISTRY_GROUP ? size : 0;
        census_set(census, &topic->groups_size, topic->groups_size - old + group->own_size);
        return;
    }
}

void census_fini(struct census *census)
{
    free(census->places);
    *census = (struct census){0};
}
