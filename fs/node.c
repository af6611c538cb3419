/* SPDX-License-Identifier: MIT */
/*
 * node.c - see node.h.
 *
 * One hash table under one lock: the sections are short, and there are at most four transport
 * threads.  References of the engine's objects are given back after the lock was released.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "node.h"

/* Threads that were told ESTALE and did not open since.  One that died instead is forgotten after
 * a while, or when there are too many. */
#define STALE_COUNT_MAX 1024
#define STALE_AGE_NS    30000000000ull

/* Nodes of a file that need not be had alone. */
#define SHARED_COUNT_MAX 64

/* So many places that the memory they leave is worth a look: about a megabyte. */
#define BURST_COUNT_MIN 4096

/* No thread: as a teller, of a node that no look-up is to find. */
#define NOBODY ((pid_t)-1)

struct stale {
    uint64_t place; /* hash of its key: the place itself may have gone meanwhile */
    uint64_t since_ns;
    pid_t tid;
    bool looked_up; /* since it was told */
};

_Static_assert(2 * KIND_COUNT + 2 <= 256, "place_ino() has 8 bits for it");

struct node_table {
    struct lock lock; /* LOCK_FS_NODES */
    struct place **buckets;
    size_t bucket_count; /* a power of two */
    size_t place_count;
    struct burst burst; /* of places */
    struct stale stale[STALE_COUNT_MAX];
    unsigned stale_count;
    struct place root_place;
    struct node root;
};

static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    return value ^ (value >> 33);
}

static uint64_t key_hash(const struct place_key *key)
{
    uint64_t hash = mix(key->topic_id * 64 + key->kind * 2 + key->in_group);
    hash = mix(hash ^ key->group_id);
    hash = mix(hash ^ key->seq);
    for (const char *at = key->name; at != NULL && *at != '\0'; at++)
        hash = hash * 31 + (unsigned char)*at;
    return hash;
}

static bool key_equal(const struct place_key *a, const struct place_key *b)
{
    return a->kind == b->kind && a->in_group == b->in_group && a->topic_id == b->topic_id &&
           a->group_id == b->group_id && a->seq == b->seq &&
           (a->name == NULL) == (b->name == NULL) &&
           (a->name == NULL || strcmp(a->name, b->name) == 0);
}

/* st_ino: the same for a file reached through its topic and through its group, since it is one; but
 * a topic's batch can be written, and its status is another text. */
uint64_t place_ino(const struct place_key *key)
{
    struct place_key plain = *key;
    if (plain.kind != KIND_BATCH && plain.kind != KIND_STATUS)
        plain.in_group = false;
    if (plain.kind == KIND_ENTRY)
        plain.group_id = 0; /* it tells who may read, not which entry it is */
    uint64_t kind = plain.kind + 2u + (plain.in_group ? KIND_COUNT : 0u);
    uint64_t ino = plain.name == NULL && plain.seq == 0 && plain.topic_id < 1ull << 32 &&
                           plain.group_id < 1ull << 16
                       ? plain.topic_id << 24 | plain.group_id << 8 | kind
                       : key_hash(&plain) | 1ull << 63;
    return ino;
}

void place_key_fini(struct place_key *key)
{
    walrus_group_unref(key->group);
    walrus_topic_unref(key->topic);
    free(key->name);
    *key = (struct place_key){.kind = KIND_ROOT};
}

int place_key_copy(struct place_key *to, const struct place_key *from)
{
    char *name = NULL;
    if (from->name != NULL) {
        name = strdup(from->name);
        if (name == NULL)
            return -ENOMEM;
    }
    *to = *from;
    to->name = name;
    if (to->topic != NULL)
        walrus_topic_ref(to->topic);
    if (to->group != NULL)
        walrus_group_ref(to->group);
    return 0;
}

int node_table_create(struct node_table **ret_table)
{
    struct node_table *table = calloc(1, sizeof(*table));
    if (table == NULL)
        return -ENOMEM;
    table->bucket_count = 1024;
    table->buckets = calloc(table->bucket_count, sizeof(*table->buckets));
    if (table->buckets == NULL) {
        free(table);
        return -ENOMEM;
    }
    lock_init(&table->lock, LOCK_FS_NODES);
    table->root_place = (struct place){.key.kind = KIND_ROOT, .ino = FUSE_ROOT_ID, .node_count = 1};
    list_init(&table->root_place.idle);
    list_init(&table->root_place.told);
    list_init(&table->root_place.busy);
    table->root = (struct node){.place = &table->root_place, .ref_count = 1};
    list_init(&table->root.link);
    *ret_table = table;
    return 0;
}

static void free_nodes(struct list *list)
{
    LIST_FOR_EACH(at, list)
    {
        list_remove(at);
        free(LIST_ENTRY(at, struct node, link));
    }
}

void node_table_destroy(struct node_table *table)
{
    if (table == NULL)
        return;
    for (size_t i = 0; i < table->bucket_count; i++) {
        for (struct place *place = table->buckets[i], *next; place != NULL; place = next) {
            next = place->hash_next;
            free_nodes(&place->idle);
            free_nodes(&place->told);
            free_nodes(&place->busy);
            place_key_fini(&place->key);
            free(place);
        }
    }
    free(table->buckets);
    lock_fini(&table->lock);
    free(table);
}

struct node *node_of(struct mount *mount, fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &mount->nodes->root : (struct node *)(uintptr_t)ino;
}

fuse_ino_t node_ino(struct mount *mount, const struct node *node)
{
    return node == &mount->nodes->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)node;
}

static void table_grow_locked(struct node_table *table)
{
    size_t count = table->bucket_count * 4;
    struct place **buckets = calloc(count, sizeof(*buckets));
    if (buckets == NULL)
        return; /* slower, that is all */
    for (size_t i = 0; i < table->bucket_count; i++) {
        for (struct place *place = table->buckets[i], *next; place != NULL; place = next) {
            next = place->hash_next;
            struct place **at = &buckets[key_hash(&place->key) & (count - 1)];
            place->hash_next = *at;
            *at = place;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = count;
}

static struct place *place_find_locked(struct node_table *table, const struct place_key *key)
{
    struct place *place = table->buckets[key_hash(key) & (table->bucket_count - 1)];
    while (place != NULL && !key_equal(&place->key, key))
        place = place->hash_next;
    return place;
}

static void place_insert_locked(struct node_table *table, struct place *place)
{
    if (table->place_count >= table->bucket_count)
        table_grow_locked(table);
    struct place **at = &table->buckets[key_hash(&place->key) & (table->bucket_count - 1)];
    place->hash_next = *at;
    *at = place;
    burst_grow(&table->burst, ++table->place_count);
}

static void place_remove_locked(struct node_table *table, struct place *place)
{
    struct place **at = &table->buckets[key_hash(&place->key) & (table->bucket_count - 1)];
    while (*at != place)
        at = &(*at)->hash_next;
    *at = place->hash_next;
    table->place_count--;
}

static struct stale *stale_find_locked(struct node_table *table, const struct place *place,
                                       pid_t tid)
{
    if (table->stale_count == 0)
        return NULL;
    uint64_t hash = key_hash(&place->key), now = monotonic_ns();
    for (unsigned i = 0; i < table->stale_count;) {
        struct stale *stale = &table->stale[i];
        if (now - stale->since_ns > STALE_AGE_NS)
            *stale = table->stale[--table->stale_count];
        else if (stale->tid == tid && stale->place == hash)
            return stale;
        else
            i++;
    }
    return NULL;
}

static void stale_remove_locked(struct node_table *table, const struct place *place, pid_t tid)
{
    struct stale *stale = stale_find_locked(table, place, tid);
    if (stale != NULL && tid != 0) /* who opened need not be the one that was told */
        *stale = table->stale[--table->stale_count];
}

static void stale_add_locked(struct node_table *table, const struct place *place, pid_t tid)
{
    struct stale *stale = stale_find_locked(table, place, tid);
    if (stale == NULL && table->stale_count < STALE_COUNT_MAX)
        stale = &table->stale[table->stale_count++];
    else if (stale == NULL)
        stale = &table->stale[monotonic_ns() % STALE_COUNT_MAX];
    *stale = (struct stale){
        .place = key_hash(&place->key),
        .since_ns = monotonic_ns(),
        .tid = tid,
    };
}

/* Files whose size is told; those of producers are always 0. */
static bool has_size(const struct place *place)
{
    return kind_is(place->key.kind, KIND_EXCLUSIVE | KIND_IS_TEXT);
}

/* Sorts the node into the list that fits its state. */
static void node_sort_locked(struct node *node)
{
    struct place *place = node->place;
    struct list *list = &place->idle;

    if (node->open_count > 0 && kind_is(place->key.kind, KIND_OWN_NODE))
        list = &place->busy;
    else if (node->teller != 0)
        list = &place->told;
    list_remove(&node->link);
    /* The node used last comes first: the kernel's name cache most likely points to it. */
    list_insert_before(list->next, &node->link);
}

/* A node of the place that may be handed to the thread, or NULL. */
static struct node *node_pick_locked(struct place *place, pid_t tid, bool own)
{
    if (tid != 0) { /* 0 is anybody of another pid namespace */
        LIST_FOR_EACH(at, &place->told)
        {
            struct node *node = LIST_ENTRY(at, struct node, link);
            if (node->teller == tid && node->own >= own)
                return node;
        }
    }
    if (own)
        return NULL;
    if (!list_empty(&place->idle))
        return LIST_ENTRY(place->idle.next, struct node, link);
    /* Enough writers to keep a disk busy: more inodes would only cost look-ups. */
    if (place->node_count >= SHARED_COUNT_MAX && !has_size(place) && !list_empty(&place->busy))
        return LIST_ENTRY(place->busy.next, struct node, link);
    return NULL;
}

int node_look_up(struct mount *mount, struct node *dir, struct place_key *key, pid_t tid,
                 struct node **ret_node)
{
    struct node_table *table = mount->nodes;
    struct place *fresh_place = calloc(1, sizeof(*fresh_place)), *place;
    struct node *fresh = calloc(1, sizeof(*fresh)), *node;

    if (fresh == NULL || fresh_place == NULL) {
        free(fresh);
        free(fresh_place);
        place_key_fini(key);
        return -ENOMEM;
    }
    lock_acquire(&table->lock);
    place = place_find_locked(table, key);
    if (place == NULL) {
        place = fresh_place;
        fresh_place = NULL;
        place->key = *key;
        *key = (struct place_key){.kind = KIND_ROOT};
        place->ino = place_ino(&place->key);
        place->dir = dir;
        dir->ref_count++;
        list_init(&place->idle);
        list_init(&place->told);
        list_init(&place->busy);
        place_insert_locked(table, place);
    }
    struct stale *stale = stale_find_locked(table, place, tid);
    if (stale != NULL)
        stale->looked_up = true;
    node = node_pick_locked(place, tid, stale != NULL);
    if (node == NULL) {
        node = fresh;
        fresh = NULL;
        node->place = place;
        node->own = stale != NULL;
        list_init(&node->link);
        place->node_count++;
    }
    if (has_size(place) && node->teller == 0)
        node->teller = tid != 0 ? tid : NOBODY;
    node_sort_locked(node);
    node->found = true;
    node->lookup_count++;
    lock_release(&table->lock);
    place_key_fini(key);
    free(fresh_place);
    free(fresh);
    *ret_node = node;
    return 0;
}

/* Frees the node, its place and the directories above that nobody refers to any more.  Called with
 * the lock held, which is released. */
static void node_collect_unlock(struct node_table *table, struct node *node)
{
    struct place *dead = NULL;

    while (node != &table->root && node->lookup_count == 0 && node->ref_count == 0) {
        struct place *place = node->place;
        list_remove(&node->link);
        free(node);
        if (--place->node_count > 0)
            break;
        place_remove_locked(table, place);
        place->hash_next = dead;
        dead = place;
        node = place->dir;
        node->ref_count--;
    }
    bool over = dead != NULL && burst_is_over(&table->burst, table->place_count, BURST_COUNT_MIN);
    lock_release(&table->lock);
    while (dead != NULL) {
        struct place *next = dead->hash_next;
        place_key_fini(&dead->key);
        free(dead);
        dead = next;
    }
    if (over)
        memory_give_back();
}

void node_forget(struct mount *mount, struct node *node, uint64_t count)
{
    lock_acquire(&mount->nodes->lock);
    WALRUS_ASSERT(node == &mount->nodes->root || node->lookup_count >= count);
    if (node != &mount->nodes->root)
        node->lookup_count -= count;
    node_collect_unlock(mount->nodes, node);
}

struct node *node_find_dir(struct mount *mount, enum kind kind, uint64_t topic_id)
{
    struct node_table *table = mount->nodes;
    struct place_key key = {.kind = kind, .topic_id = topic_id};
    struct node *node = NULL;

    lock_acquire(&table->lock);
    struct place *place = place_find_locked(table, &key);
    if (place != NULL && !list_empty(&place->idle)) {
        node = LIST_ENTRY(place->idle.next, struct node, link);
        node->ref_count++;
    }
    lock_release(&table->lock);
    return node;
}

struct node *node_ref(struct mount *mount, struct node *node)
{
    lock_acquire(&mount->nodes->lock);
    node->ref_count++;
    lock_release(&mount->nodes->lock);
    return node;
}

void node_unref(struct mount *mount, struct node *node)
{
    lock_acquire(&mount->nodes->lock);
    WALRUS_ASSERT(node->ref_count > 0);
    node->ref_count--;
    node_collect_unlock(mount->nodes, node);
}

/* Whether an open without a look-up follows an -ESTALE, or (a thread without a number) may do so. */
static bool was_told_locked(struct node_table *table, const struct node *node, pid_t tid)
{
    if (tid == 0)
        return !node->found;
    struct stale *stale = stale_find_locked(table, node->place, tid);
    return stale != NULL && !stale->looked_up;
}

int node_open(struct mount *mount, struct node *node, pid_t tid)
{
    struct node_table *table = mount->nodes;
    struct place *place = node->place;
    int r = 0;

    lock_acquire(&table->lock);
    if (node->raising) {
        r = -EBUSY;
    } else if (node->open_count > 0 && kind_is(place->key.kind, KIND_EXCLUSIVE)) {
        r = was_told_locked(table, node, tid) ? -EBUSY : -ESTALE;
        node->found = false;
        if (r == -ESTALE)
            stale_add_locked(table, place, tid);
    } else if (node->open_count > 0 && kind_is(place->key.kind, KIND_OWN_NODE) && tid != 0 &&
               stale_find_locked(table, place, tid) == NULL) {
        /* Two writers looked up before either opened: the second gets a node of its own, so that
         * they need not wait for each other in the kernel.  Once: to share is no mistake. */
        stale_add_locked(table, place, tid);
        r = -ESTALE;
    } else {
        if (!has_size(place))
            stale_remove_locked(table, place, tid);
        node->open_count++;
        node->ref_count++;
        node_sort_locked(node);
    }
    lock_release(&table->lock);
    return r;
}

static void node_close_locked(struct node *node)
{
    WALRUS_ASSERT(node->open_count > 0 && node->ref_count > 0);
    node->open_count--;
    node->ref_count--;
    if (node->open_count == 0) {
        node->teller = 0;
        node->own = node->blurred = false;
        node_sort_locked(node);
    }
}

void node_close(struct mount *mount, struct node *node)
{
    lock_acquire(&mount->nodes->lock);
    node_close_locked(node);
    node_collect_unlock(mount->nodes, node);
}

int node_hold_size(struct mount *mount, struct node *node, pid_t tid, uint64_t size, bool must,
                   bool *ret_raise, bool *ret_lower)
{
    struct node_table *table = mount->nodes;
    struct place *place = node->place;

    lock_acquire(&table->lock);
    bool again = was_told_locked(table, node, tid);
    node->found = false;
    /* A blurred size is certain only once it was raised. */
    bool fits = node->blurred ? size > node->told_size : size >= node->told_size;
    if (!fits && !must && !again && has_size(place)) {
        stale_add_locked(table, place, tid);
        node_close_locked(node);
        /* Nobody is given this node again, so that the kernel soon forgets it. */
        node->teller = NOBODY;
        node->blurred = true;
        node_sort_locked(node);
        lock_release(&table->lock);
        return -ESTALE;
    }
    stale_remove_locked(table, place, tid);
    /* With other handles on it pages may be locked: see may_wait_for_pages() in handle.c. */
    bool alone = node->open_count == 1;
    *ret_raise = has_size(place) && alone && size > 0 && (node->blurred || size > node->told_size);
    *ret_lower = size < node->told_size;
    node->raising = *ret_raise;
    node->held_size = size;
    if (alone || *ret_lower)
        node->told_size = size;
    lock_release(&table->lock);
    return 0;
}

void node_raised(struct mount *mount, struct node *node)
{
    lock_acquire(&mount->nodes->lock);
    node->raising = false;
    lock_release(&mount->nodes->lock);
}

void node_set_size(struct mount *mount, struct node *node, uint64_t size)
{
    lock_acquire(&mount->nodes->lock);
    node->held_size = size;
    lock_release(&mount->nodes->lock);
}

uint64_t node_tell_size(struct mount *mount, struct node *node, pid_t tid, uint64_t size)
{
    lock_acquire(&mount->nodes->lock);
    if (node->open_count > 0) {
        size = node->held_size;
    } else if (node->own) {
        size = 0;
    } else if (node->teller == (tid != 0 ? tid : NOBODY) && !node->blurred) {
        node->told_size = size;
    } else {
        node->blurred = true;
        node->told_size = MAX(size, node->told_size);
    }
    lock_release(&mount->nodes->lock);
    return size;
}
