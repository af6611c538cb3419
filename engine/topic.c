/* SPDX-License-Identifier: MIT */
/*
 * topic.c - which topics there are, and the life of one: made, found, renamed, described, removed.
 *
 * Serves walrus.c and the public interface; uses the registry, and group.c for the group that every
 * topic is made with.
 *
 * Threads.  LOCK_TOPICS guards the tables and the names; LOCK_REGISTRY_CHANGE is held by whoever
 * changes what the registry holds, from the check to the durable record, so changes are in the
 * order of their records.  A change takes effect in memory after its record is durable; one that
 * fails changes nothing.
 *
 * A removed topic leaves the tables at once.  Its blocks go free as its last readers close; until
 * then it is on the list of zombies, so that a compaction of the registry keeps its removal.
 */
#include "store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int walrus_name_check(const char *name, size_t size)
{
    if (size > WALRUS_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (size == 0 || name[0] == '.' || memchr(name, '/', size) || memchr(name, 0, size))
        return -EINVAL;
    return 0;
}

/* ------------------------------------------------------------------------------------ tail -- */

void topic_tail_publish(struct walrus_topic *topic, uint64_t seq, uint64_t bytes,
                        struct block *block, uint32_t off)
{
    struct tail *tail = &topic->tail;
    uint32_t version = atomic_load_explicit(&tail->version, memory_order_relaxed);
    atomic_store_explicit(&tail->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&tail->seq, seq, memory_order_relaxed);
    atomic_store_explicit(&tail->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&tail->block, block, memory_order_relaxed);
    atomic_store_explicit(&tail->off, off, memory_order_relaxed);
    atomic_store_explicit(&tail->at, block ? block->base + off : NULL, memory_order_relaxed);
    atomic_store_explicit(&tail->version, version + 2, memory_order_release);
}

struct tail_snap topic_tail(const struct walrus_topic *topic)
{
    const struct tail *tail = &topic->tail;
    struct tail_snap snap;
    for (;;) {
        uint32_t before = atomic_load_explicit(&tail->version, memory_order_acquire);
        snap.seq = atomic_load_explicit(&tail->seq, memory_order_relaxed);
        snap.bytes = atomic_load_explicit(&tail->bytes, memory_order_relaxed);
        snap.block = atomic_load_explicit(&tail->block, memory_order_relaxed);
        snap.off = atomic_load_explicit(&tail->off, memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        uint32_t after = atomic_load_explicit(&tail->version, memory_order_relaxed);
        if (before == after && !(before & 1))
            return snap;
    }
}

struct tail_snap topic_tail_ref(struct walrus_topic *topic)
{
    /* A block becomes the tail in the same step as it enters the list, so the tail block is in the
     * list, and reclaim leaves it there; of a removed topic it takes all, and the tail block away
     * before. */
    lock_acquire(&topic->blocks_lock);
    struct tail_snap snap = topic_tail(topic);
    if (snap.block)
        block_ref(snap.block);
    lock_release(&topic->blocks_lock);
    return snap;
}

uint64_t topic_first_seq_locked(const struct walrus_topic *topic)
{
    return list_empty(&topic->blocks)
               ? topic_tail(topic).seq
               : LIST_ENTRY(topic->blocks.next, struct block, node)->first_seq;
}

uint64_t topic_first_seq(struct walrus_topic *topic)
{
    lock_acquire(&topic->blocks_lock);
    uint64_t first = topic_first_seq_locked(topic);
    lock_release(&topic->blocks_lock);
    return first;
}

void topic_name_copy(struct walrus_topic *topic, char *ret_name)
{
    lock_acquire(&topic->store->topics_lock);
    snprintf(ret_name, WALRUS_NAME_SIZE_MAX + 1, "%s", topic->name);
    lock_release(&topic->store->topics_lock);
}

/* Remembers damage; false if it was known. */
static bool damage_is_new(struct walrus_topic *topic, uint64_t first, uint64_t end)
{
    bool is_new = true;
    lock_acquire(&topic->blocks_lock);
    for (uint32_t i = 0; i < topic->known_damage_count; i++)
        if (topic->known_damage[i].first <= first && end <= topic->known_damage[i].end)
            is_new = false;
    if (is_new && topic->known_damage_count < KNOWN_DAMAGE_MAX) {
        uint32_t count = topic->known_damage_count;
        struct offset_range *bigger = realloc(topic->known_damage, (count + 1) * sizeof(*bigger));
        if (bigger) { /* without memory it is only reported again */
            bigger[count] = (struct offset_range){first, end};
            topic->known_damage = bigger;
            topic->known_damage_count = count + 1;
        }
    }
    lock_release(&topic->blocks_lock);
    return is_new;
}

void topic_damage(struct walrus_topic *topic, uint64_t first, uint64_t end, const char *format, ...)
{
    uint64_t count = end - first;
    if (!damage_is_new(topic, first, end))
        return;
    char text[256], name[WALRUS_NAME_SIZE_MAX + 1];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    topic_name_copy(topic, name);
    atomic_fetch_add(&topic->damaged_count, count);
    atomic_fetch_add(&topic->store->damaged_count, count);
    report(&topic->store->reporter, WALRUS_ERROR, -EBADMSG, name, "%s", text);
}

/* ------------------------------------------------------------------------ making and finding -- */

int topic_new(struct walrus *store, uint64_t id, const char *name, size_t name_size,
              struct walrus_topic **ret_topic)
{
    struct walrus_topic *topic = calloc(1, sizeof(*topic));
    char *copy = strndup(name, name_size);
    if (!topic || !copy) {
        free(topic);
        free(copy);
        return -ENOMEM;
    }
    topic->store = store;
    topic->id = id;
    topic->name = copy;
    topic->group_id_next = 1;
    topic->chunk_size = CHUNK_SIZE_MIN;
    atomic_init(&topic->refs, 1);
    lock_init(&topic->groups_lock, LOCK_GROUPS);
    lock_init(&topic->append_lock, LOCK_APPEND);
    lock_init(&topic->sync_lock, LOCK_SYNC);
    lock_init(&topic->blocks_lock, LOCK_BLOCKS);
    cond_init(&topic->sync_cond);
    list_init(&topic->groups);
    list_init(&topic->blocks);
    list_init(&topic->dirty_node);
    list_init(&topic->reclaim_node);
    *ret_topic = topic;
    return 0;
}

/* Frees a topic that nobody refers to; its blocks stay as they are on disk. */
void topic_free(struct walrus_topic *topic)
{
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        list_remove(node);
        group_free(group);
    }
    block_unref(topic->sync_block);
    free(topic->known_damage);
    LIST_FOR_EACH(node, &topic->blocks)
    {
        list_remove(node);
        free(LIST_ENTRY(node, struct block, node));
    }
    lock_fini(&topic->groups_lock);
    lock_fini(&topic->append_lock);
    lock_fini(&topic->sync_lock);
    lock_fini(&topic->blocks_lock);
    free(topic->name);
    free(topic);
}

/* Where `id` is, or would be, in the sorted table. */
static size_t topics_index_locked(const struct walrus *store, uint64_t id)
{
    size_t low = 0, high = store->topics_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (store->topics_sorted[mid]->id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Makes room for one more topic, so that inserting it cannot fail after its record is durable. */
static int topics_reserve_locked(struct walrus *store)
{
    if (store->topics_count < store->topics_room)
        return 0;
    size_t room = store->topics_room ? store->topics_room * 2 : 64;
    struct walrus_topic **sorted = realloc(store->topics_sorted, room * sizeof(*sorted));
    if (!sorted)
        return -ENOMEM;
    store->topics_sorted = sorted;
    store->topics_room = room;
    return 0;
}

struct walrus_topic *topic_by_id_locked(const struct walrus *store, uint64_t id)
{
    size_t at = topics_index_locked(store, id);
    struct walrus_topic *topic = at < store->topics_count ? store->topics_sorted[at] : NULL;
    return topic && topic->id == id ? topic : NULL;
}

int topics_init(struct walrus *store)
{
    struct walrus_topic *anchor = calloc(1, sizeof(*anchor));
    if (!anchor)
        return -ENOMEM;
    HASH_ADD_KEYPTR(by_name, store->topics_by_name, "", 1, anchor); /* no name holds a NUL */
    if (!anchor->by_name.tbl) {
        free(anchor);
        return -ENOMEM;
    }
    store->topics_anchor = anchor;
    return 0;
}

void topic_name_insert_locked(struct walrus *store, struct walrus_topic *topic)
{
    size_t size = strlen(topic->name);
    HASH_ADD_KEYPTR(by_name, store->topics_by_name, topic->name, size, topic);
    if (topic->by_name.tbl)
        return;
    /* There was no memory for the table to grow: it can do without. */
    UT_hash_table *table = store->topics_anchor->by_name.tbl;
    table->noexpand = 1;
    HASH_ADD_KEYPTR(by_name, store->topics_by_name, topic->name, size, topic);
    table->noexpand = 0;
    WALRUS_ASSERT(topic->by_name.tbl);
}

int topic_insert_locked(struct walrus *store, struct walrus_topic *topic)
{
    int r = topics_reserve_locked(store);
    if (r < 0)
        return r;
    size_t at = topics_index_locked(store, topic->id);
    memmove(&store->topics_sorted[at + 1], &store->topics_sorted[at],
            (store->topics_count - at) * sizeof(store->topics_sorted[0]));
    store->topics_sorted[at] = topic;
    store->topics_count++;
    topic_name_insert_locked(store, topic);
    if (topic->id >= store->topic_id_next)
        store->topic_id_next = topic->id + 1;
    return 0;
}

static void topic_take_out_locked(struct walrus *store, struct walrus_topic *topic)
{
    size_t at = topics_index_locked(store, topic->id);
    store->topics_count--;
    memmove(&store->topics_sorted[at], &store->topics_sorted[at + 1],
            (store->topics_count - at) * sizeof(store->topics_sorted[0]));
    HASH_DELETE(by_name, store->topics_by_name, topic);
}

void topic_forget(struct walrus *store, struct walrus_topic *topic)
{
    topic_take_out_locked(store, topic);
    topic_free(topic);
}

void topics_fini(struct walrus *store)
{
    while (store->topics_count) {
        struct walrus_topic *topic = store->topics_sorted[store->topics_count - 1];
        topic_forget(store, topic);
    }
    LIST_FOR_EACH(node, &store->zombies)
    {
        list_remove(node);
        topic_free(LIST_ENTRY(node, struct walrus_topic, zombie_node));
    }
    HASH_DELETE(by_name, store->topics_by_name, store->topics_anchor);
    free(store->topics_anchor);
    free(store->topics_sorted);
    lock_fini(&store->topics_lock);
}

static struct walrus_topic *topic_find_locked(struct walrus *store, const char *name, size_t size)
{
    struct walrus_topic *topic = NULL;
    HASH_FIND(by_name, store->topics_by_name, name, size, topic);
    return topic;
}

int walrus_topic_find(struct walrus *store, const char *name, struct walrus_topic **ret_topic)
{
    lock_acquire(&store->topics_lock);
    struct walrus_topic *topic = topic_find_locked(store, name, strlen(name));
    if (topic)
        *ret_topic = walrus_topic_ref(topic);
    lock_release(&store->topics_lock);
    return topic ? 0 : -ENOENT;
}

int walrus_topic_after(struct walrus *store, uint64_t after_id, struct walrus_topic **ret_topic)
{
    lock_acquire(&store->topics_lock);
    size_t at =
        after_id == UINT64_MAX ? store->topics_count : topics_index_locked(store, after_id + 1);
    bool found = at < store->topics_count;
    if (found)
        *ret_topic = walrus_topic_ref(store->topics_sorted[at]);
    lock_release(&store->topics_lock);
    return found ? 0 : WALRUS_EMPTY;
}

struct walrus_topic *walrus_topic_ref(struct walrus_topic *topic)
{
    atomic_fetch_add_explicit(&topic->refs, 1, memory_order_relaxed);
    return topic;
}

/* The table holds one reference, which ends when the store closes or the zombie's blocks are free,
 * so the count never falls to zero here. */
void walrus_topic_unref(struct walrus_topic *topic)
{
    if (!topic)
        return;
    bool removed = atomic_load(&topic->removed);
    if (atomic_fetch_sub_explicit(&topic->refs, 1, memory_order_acq_rel) == 2 && removed)
        keeper_mark(topic);
}

/* --------------------------------------------------------------------------------- registry -- */

struct registry_change topic_change(const struct walrus_topic *topic)
{
    return (struct registry_change){.kind = REGISTRY_TOPIC,
                                    .topic_id = topic->id,
                                    .group_id = topic->group_id_next,
                                    .retention = topic->retention,
                                    .limit = atomic_load(&topic->limit),
                                    .created_ns = topic->created_ns,
                                    .name = topic->name,
                                    .name_size = strlen(topic->name),
                                    .attr = topic->attr};
}

struct registry_change group_change(const struct walrus_group *group)
{
    return (struct registry_change){.kind = REGISTRY_GROUP,
                                    .topic_id = group->topic->id,
                                    .group_id = group->id,
                                    .slot = group->slot,
                                    .created_ns = group->created_ns,
                                    .name = group->name,
                                    .name_size = strlen(group->name),
                                    .attr = group->attr};
}

static int compaction_add_topic(struct registry_making *making, struct walrus_topic *topic)
{
    struct registry_change change = topic_change(topic);
    int r = registry_add(making, &change);
    LIST_FOR_EACH(node, &topic->groups)
    {
        change = group_change(LIST_ENTRY(node, struct walrus_group, node));
        r = r < 0 ? r : registry_add(making, &change);
    }
    return r;
}

/* The live state record by record, for a compaction.  LOCK_REGISTRY_CHANGE is held: names, groups
 * and attributes stand still, so no other lock is needed to read them. */
static int compaction_fill(void *arg, struct registry_making *making)
{
    struct walrus *store = arg;
    struct registry_change change = {.kind = REGISTRY_STORE, .attr = store->attr};
    int r = registry_add(making, &change);
    for (size_t i = 0; r == 0 && i < store->topics_count; i++)
        r = compaction_add_topic(making, store->topics_sorted[i]);
    LIST_FOR_EACH(node, &store->zombies)
    {
        struct walrus_topic *topic = LIST_ENTRY(node, struct walrus_topic, zombie_node);
        change = (struct registry_change){.kind = REGISTRY_TOPIC_REMOVED, .topic_id = topic->id};
        r = r < 0 ? r : registry_add(making, &change);
    }
    return r;
}

void registry_change_begin(struct walrus *store)
{
    lock_acquire(&store->change_lock);
    /* Here memory holds what the journal does.  In the middle of a change it does not yet: what was
     * appended would be lost by it. */
    if (!registry_compact_due(store->registry))
        return;
    lock_acquire(&store->topics_lock); /* zombies leave the list by it */
    int r = registry_compact(store->registry, compaction_fill, store, store->topic_id_next);
    lock_release(&store->topics_lock);
    if (r < 0)
        report(&store->reporter, WALRUS_WARNING, r, NULL,
               "topics.db: cannot be rewritten smaller; it goes on growing");
}

int registry_change_locked(struct walrus *store, const struct registry_change *changes,
                           size_t count)
{
    return store->read_only ? -EROFS : registry_append(store->registry, changes, count);
}

int walrus_topic_create(struct walrus *store, const char *name, const void *topic_attr,
                        const void *group_attr, struct walrus_topic **ret_topic)
{
    size_t size = strlen(name);
    int r = walrus_name_check(name, size);
    if (r < 0)
        return r;
    if (store->read_only)
        return -EROFS;
    struct walrus_topic *topic = NULL;
    struct walrus_group *group = NULL;
    uint32_t slot = 0;
    bool slot_taken = false;
    registry_change_begin(store);
    lock_acquire(&store->topics_lock);
    r = topic_find_locked(store, name, size) ? -EEXIST : topics_reserve_locked(store);
    uint64_t id = store->topic_id_next;
    lock_release(&store->topics_lock);
    if (r == 0)
        r = topic_new(store, id, name, size, &topic);
    if (r == 0) {
        r = offsets_take(store->offsets, &slot);
        slot_taken = r == 0;
    }
    if (r == 0)
        r = group_new(topic, 1, slot, "default", strlen("default"), &group);
    if (r == 0) {
        topic->created_ns = group->created_ns = realtime_ns();
        topic->group_id_next = 2;
        if (topic_attr)
            memcpy(topic->attr, topic_attr, sizeof(topic->attr));
        if (group_attr)
            memcpy(group->attr, group_attr, sizeof(group->attr));
        struct registry_change changes[] = {topic_change(topic), group_change(group)};
        list_push_back(&topic->groups, &group->node);
        r = registry_change_locked(store, changes, ARRAY_COUNT(changes));
    }
    if (r == 0) {
        lock_acquire(&store->topics_lock);
        int inserted = topic_insert_locked(store, topic); /* room was made above */
        WALRUS_ASSERT(inserted == 0);
        *ret_topic = walrus_topic_ref(topic);
        lock_release(&store->topics_lock);
    }
    lock_release(&store->change_lock);
    if (r < 0) {
        if (topic)
            topic_free(topic);
        if (slot_taken) {
            int ignored = offsets_give_back(store->offsets, slot); /* stays taken until reopened */
            (void)ignored;
        }
    }
    return r;
}

/* Changes the registry's record of a topic: `swap` edits it, and undoes that when called again. */
static int topic_update(struct walrus_topic *topic, void (*swap)(struct walrus_topic *, void *),
                        void *arg)
{
    struct walrus *store = topic->store;
    registry_change_begin(store);
    int r = 0;
    if (atomic_load(&topic->removed)) {
        r = -ENODEV;
    } else {
        lock_acquire(&topic->groups_lock);
        swap(topic, arg);
        struct registry_change change = topic_change(topic);
        lock_release(&topic->groups_lock);
        r = registry_change_locked(store, &change, 1);
        if (r < 0) {
            lock_acquire(&topic->groups_lock);
            swap(topic, arg);
            lock_release(&topic->groups_lock);
        }
    }
    lock_release(&store->change_lock);
    return r;
}

static void swap_bytes(void *a, void *b, size_t size)
{
    uint8_t *x = a, *y = b;
    for (size_t i = 0; i < size; i++) {
        uint8_t t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

static void swap_attr(struct walrus_topic *topic, void *arg)
{
    swap_bytes(topic->attr, arg, sizeof(topic->attr));
}

static void swap_retention(struct walrus_topic *topic, void *arg)
{
    struct walrus_retention *other = arg, before = topic->retention;
    topic->retention = *other;
    *other = before;
    atomic_store(&topic->keep_now, (int)topic->retention.kind);
}

static void swap_limit(struct walrus_topic *topic, void *arg)
{
    uint64_t *other = arg;
    *other = atomic_exchange(&topic->limit, *other);
}

int walrus_topic_set_attr(struct walrus_topic *topic, const void *attr)
{
    uint8_t copy[WALRUS_ATTR_SIZE];
    memcpy(copy, attr, sizeof(copy));
    return topic_update(topic, swap_attr, copy);
}

int walrus_topic_set_retention(struct walrus_topic *topic, const struct walrus_retention *retention)
{
    if (retention->kind < WALRUS_KEEP_CONSUMED || retention->kind > WALRUS_KEEP_AGE)
        return -EINVAL;
    struct walrus_retention copy = {.kind = retention->kind, .value = retention->value};
    int r = topic_update(topic, swap_retention, &copy);
    if (r == 0 && retention->kind == WALRUS_KEEP_AGE)
        keeper_watch_ages(topic->store);
    if (r == 0)
        keeper_mark(topic);
    return r;
}

int walrus_topic_set_limit(struct walrus_topic *topic, uint64_t limit)
{
    return topic_update(topic, swap_limit, &limit);
}

int walrus_topic_rename(struct walrus_topic *topic, const char *name)
{
    struct walrus *store = topic->store;
    size_t size = strlen(name);
    int r = walrus_name_check(name, size);
    if (r < 0)
        return r;
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    registry_change_begin(store);
    lock_acquire(&store->topics_lock);
    if (atomic_load(&topic->removed))
        r = -ENODEV;
    else if (topic_find_locked(store, name, size))
        r = -EEXIST;
    lock_release(&store->topics_lock);
    if (r == 0) {
        struct registry_change change = topic_change(topic);
        change.name = copy;
        change.name_size = size;
        r = registry_change_locked(store, &change, 1);
    }
    if (r == 0) {
        lock_acquire(&store->topics_lock);
        HASH_DELETE(by_name, store->topics_by_name, topic);
        char *old = topic->name;
        topic->name = copy;
        copy = old;
        topic_name_insert_locked(store, topic);
        lock_release(&store->topics_lock);
    }
    lock_release(&store->change_lock);
    free(copy);
    return r;
}

/* Refuses appends and claims from here on, unless a group has entries that it did not consume
 * (-ENOTEMPTY).  Checked and done in one step: nobody is refused on behalf of a removal that is. */
static int topic_remove_begin(struct walrus_topic *topic)
{
    int r = 0;
    lock_acquire(&topic->groups_lock);
    lock_acquire(&topic->append_lock);
    if (atomic_load(&topic->removed))
        r = -ENODEV;
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        lock_acquire(&group->lock);
        if (r == 0 && group->low < topic_tail(topic).seq)
            r = -ENOTEMPTY;
        lock_release(&group->lock);
    }
    if (r == 0)
        atomic_store(&topic->removed, true);
    lock_release(&topic->append_lock);
    lock_release(&topic->groups_lock);
    return r;
}

int walrus_topic_remove(struct walrus_topic *topic)
{
    struct walrus *store = topic->store;
    if (store->read_only)
        return -EROFS;
    registry_change_begin(store);
    int r = topic_remove_begin(topic);
    if (r == 0) {
        struct registry_change change = {.kind = REGISTRY_TOPIC_REMOVED, .topic_id = topic->id};
        r = registry_change_locked(store, &change, 1);
        if (r < 0)
            atomic_store(&topic->removed, false);
    }
    if (r == 0) {
        lock_acquire(&store->topics_lock);
        topic_take_out_locked(store, topic);
        list_push_back(&store->zombies, &topic->zombie_node);
        atomic_store(&topic->gone, true);
        lock_release(&store->topics_lock);
    }
    lock_release(&store->change_lock);
    if (r < 0)
        return r;
    for (;;) {
        lock_acquire(&topic->groups_lock);
        struct walrus_group *group =
            list_empty(&topic->groups) ? NULL
                                       : LIST_ENTRY(topic->groups.next, struct walrus_group, node);
        lock_release(&topic->groups_lock);
        if (!group)
            break;
        group_remove_detach(group);
        group_remove_finish(group);
    }
    keeper_mark(topic);
    return 0;
}

/* ------------------------------------------------------------------------------ description -- */

void walrus_topic_name(struct walrus_topic *topic, char *ret_name)
{
    topic_name_copy(topic, ret_name);
}

bool walrus_topic_removed(struct walrus_topic *topic)
{
    return atomic_load(&topic->removed);
}

void walrus_topic_attr(struct walrus_topic *topic, void *ret_attr)
{
    lock_acquire(&topic->groups_lock);
    memcpy(ret_attr, topic->attr, sizeof(topic->attr));
    lock_release(&topic->groups_lock);
}

void walrus_topic_stat(struct walrus_topic *topic, struct walrus_topic_stat *ret_stat)
{
    memset(ret_stat, 0, sizeof(*ret_stat));
    lock_acquire(&topic->groups_lock);
    ret_stat->retention = topic->retention;
    lock_release(&topic->groups_lock);
    ret_stat->id = topic->id;
    ret_stat->limit = atomic_load(&topic->limit);
    ret_stat->first_seq = topic_first_seq(topic);
    ret_stat->durable_seq = atomic_load(&topic->durable_seq);
    struct tail_snap tail = topic_tail(topic); /* last: it only moves up */
    ret_stat->tail_seq = tail.seq;
    ret_stat->bytes = tail.bytes;
    ret_stat->last_time_ns = atomic_load(&topic->last_time_ns);
    ret_stat->disk_bytes = atomic_load(&topic->disk_bytes);
    ret_stat->damaged_count = atomic_load(&topic->damaged_count);
    ret_stat->degraded = atomic_load(&topic->error) != 0;
}
