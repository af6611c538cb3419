/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - gives back the space of what was consumed: the background thread "keeper".
 *
 * Serves group and reader, which tell it when a group has passed the end of a topic's oldest
 * block; uses space.  Blocks leave a topic oldest first, after the stored offsets of all groups
 * passed them and the topic's retention lets them go.  Whoever reads a block holds a reference,
 * and stops reclaim there.  The newest block stays, and a block only goes when the entry of the one
 * after it is durable: it remembers the next sequence number.
 *
 * A topic whose last block is wholly consumed begins a new one once that is worth it, so that a
 * queue that is kept empty gives back its space too.
 *
 * Threads: the keeper frees, nobody waits for it.  Failure: a block that cannot be marked free
 * stays out of use (space.c), and the blocks behind it stay too: it is there again when the store is
 * opened anew, and what was missing between it and the others would be a loss.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

#define AGE_CHECK_NS 10000000000u /* how often topics are looked at that keep entries by age */

void keeper_mark(struct walrus_topic *topic)
{
    struct walrus *store = topic->store;
    if (store->read_only || atomic_exchange(&topic->reclaim, true))
        return;
    walrus_topic_ref(topic);
    lock_acquire(&store->keeper_lock);
    list_push_back(&store->keeper_topics, &topic->reclaim_node);
    cond_signal(&store->keeper_cond);
    lock_release(&store->keeper_lock);
}

void keeper_mark_space(struct walrus *store)
{
    lock_acquire(&store->keeper_lock);
    store->keeper_space = true;
    cond_signal(&store->keeper_cond);
    lock_release(&store->keeper_lock);
}

void keeper_watch_ages(struct walrus *store)
{
    lock_acquire(&store->keeper_lock);
    store->keeper_ages = true;
    cond_signal(&store->keeper_cond);
    lock_release(&store->keeper_lock);
}

/* Gets the groups' positions out of the way: stores what at-least-once did not, leaves blocks that
 * ended. */
static void groups_prepare(struct walrus_topic *topic)
{
    struct walrus_group *group;
    uint64_t id = 0;
    while (walrus_group_after(topic, id, &group) == 0) {
        id = group->id;
        group_settle_cur(group);
        lock_acquire(&group->lock);
        bool store =
            group->low > atomic_load(&group->stored_low) && group_frees_blocks(group, group->low);
        lock_release(&group->lock);
        if (store) {
            int ignored = group_store(group); /* the next take of the group says so */
            (void)ignored;
        }
        walrus_group_unref(group);
    }
}

static bool retention_lets_go(const struct walrus_topic *topic, const struct block *block,
                              uint64_t disk_bytes)
{
    const struct walrus_retention *retention = &topic->retention;
    uint64_t age_ns, end_ns; /* that no number can hold never comes */
    switch (retention->kind) {
    case WALRUS_KEEP_CONSUMED:
        return true;
    case WALRUS_KEEP_ALL:
        return false;
    case WALRUS_KEEP_SIZE:
        return disk_bytes >= block->space_end && disk_bytes - block->space_end >= retention->value;
    case WALRUS_KEEP_AGE:
        return !__builtin_mul_overflow(retention->value, 1000000000u, &age_ns) &&
               !__builtin_add_overflow(block->last_time_ns, age_ns, &end_ns) &&
               end_ns < realtime_ns();
    }
    return false;
}

static uint64_t groups_low_locked(struct walrus_topic *topic)
{
    uint64_t low = UINT64_MAX;
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        low = MIN(low, atomic_load(&group->stored_low));
    }
    return low;
}

/* The oldest block, taken off the topic, if it may go.  Under LOCK_GROUPS: no group is made
 * meanwhile; and what groups need is looked at under LOCK_BLOCKS, so that none moves back to what is
 * being taken.  *ret_early: it may go once the entry of the next one is durable. */
static struct block *victim_locked(struct walrus_topic *topic, bool removed, bool *ret_early)
{
    struct block *victim = NULL;
    lock_acquire(&topic->blocks_lock);
    uint64_t low = groups_low_locked(topic);
    if (!list_empty(&topic->blocks)) {
        struct list *node = topic->blocks.next;
        struct block *block = LIST_ENTRY(node, struct block, node);
        struct block *next =
            node->next == &topic->blocks ? NULL : LIST_ENTRY(node->next, struct block, node);
        bool free_of_readers = atomic_load_explicit(&block->refs, memory_order_acquire) == 1;
        bool done = removed || (next && block_end_seq(block) <= low &&
                                retention_lets_go(topic, block, atomic_load(&topic->disk_bytes)));
        *ret_early = done && !removed && !next->table_durable;
        done = done && !*ret_early;
        if (done && !free_of_readers)
            atomic_store(&topic->pinned, true);
        if (free_of_readers && done) {
            list_remove(node);
            if (topic->sought.block == block)
                topic->sought.block = NULL;
            victim = block;
            bool last = !next || next->node.next == &topic->blocks;
            atomic_store(&topic->oldest_end_seq, last ? UINT64_MAX : block_end_seq(next));
        }
    }
    lock_release(&topic->blocks_lock);
    return victim;
}

static void reclaim_blocks(struct walrus_topic *topic, bool removed)
{
    while (removed || !topic->stuck) {
        bool early = false;
        lock_acquire(&topic->groups_lock);
        struct block *block = victim_locked(topic, removed, &early);
        lock_release(&topic->groups_lock);
        if (early)
            syncer_mark(topic, SYNC_NOW); /* which comes back here */
        if (!block)
            break;
        atomic_fetch_sub(&topic->disk_bytes,
                         MIN(block->space_end, atomic_load(&topic->disk_bytes)));
        topic->stuck |= !space_free(topic->store, block);
    }
}

/* Leaves the last block behind when everything in it is consumed and it is worth it. */
static void reclaim_roll(struct walrus_topic *topic)
{
    lock_acquire(&topic->groups_lock);
    uint64_t low = groups_low_locked(topic);
    bool squeezed = atomic_load(&topic->squeezed);
    bool wanted = squeezed || topic->retention.kind == WALRUS_KEEP_CONSUMED;
    lock_release(&topic->groups_lock);
    if (!wanted)
        return;
    uint32_t least = squeezed ? 1 : ROLL_SIZE_MIN(topic->store);
    lock_acquire(&topic->append_lock);
    struct tail_snap tail = topic_tail(topic);
    int r = WALRUS_EMPTY;
    if (tail.block && tail.seq == low && tail.off >= least && append_check_locked(topic) == 0)
        r = append_roll_locked(topic, 0);
    lock_release(&topic->append_lock);
    if (r == 0)
        atomic_store(&topic->squeezed, false);
    if (r == 0 && topic_sync_to(topic, 0, true) == 0) {
        groups_prepare(topic);
        reclaim_blocks(topic, false);
    }
}

/* A removed topic gives everything back, and goes with the last who refers to it. */
static void reclaim_removed(struct walrus_topic *topic)
{
    lock_acquire(&topic->sync_lock);
    if (!topic->syncing) {
        block_unref(topic->sync_block);
        topic->sync_block = NULL;
    }
    lock_release(&topic->sync_lock);
    /* The newest block goes too, so nobody may find it as the tail any more.  Appends are refused
     * since the removal: nobody else publishes. */
    lock_acquire(&topic->blocks_lock);
    struct tail_snap tail = topic_tail(topic);
    topic_tail_publish(topic, tail.seq, tail.bytes, NULL, 0);
    lock_release(&topic->blocks_lock);
    reclaim_blocks(topic, true);
}

static void reclaim_topic(struct walrus_topic *topic)
{
    struct walrus *store = topic->store;
    bool gone = atomic_load(&topic->gone);
    if (gone) {
        reclaim_removed(topic);
    } else {
        groups_prepare(topic);
        reclaim_blocks(topic, false);
        reclaim_roll(topic);
    }
    /* The keeper's own reference: with it goes, maybe, the last before the list's. */
    if (atomic_fetch_sub_explicit(&topic->refs, 1, memory_order_acq_rel) != 2 || !gone)
        return;
    lock_acquire(&topic->blocks_lock);
    bool empty = list_empty(&topic->blocks);
    lock_release(&topic->blocks_lock);
    if (!empty)
        return;
    lock_acquire(&store->topics_lock);
    list_remove(&topic->zombie_node);
    lock_release(&store->topics_lock);
    topic_free(topic);
}

static void keeper_mark_ages(struct walrus *store)
{
    struct walrus_topic *topic;
    uint64_t id = 0;
    while (walrus_topic_after(store, id, &topic) == 0) {
        id = topic->id;
        lock_acquire(&topic->groups_lock);
        bool aged = topic->retention.kind == WALRUS_KEEP_AGE;
        lock_release(&topic->groups_lock);
        if (aged)
            keeper_mark(topic);
        walrus_topic_unref(topic);
    }
}

static void *keeper_main(void *arg)
{
    struct walrus *store = arg;
    uint64_t ages_due = monotonic_ns() + AGE_CHECK_NS;
    lock_acquire(&store->keeper_lock);
    for (;;) {
        bool timed_out = false;
        while (list_empty(&store->keeper_topics) && !store->keeper_space && !store->keeper_stop &&
               !timed_out) {
            if (store->keeper_ages)
                timed_out = cond_wait_until(&store->keeper_cond, &store->keeper_lock, ages_due);
            else
                cond_wait(&store->keeper_cond, &store->keeper_lock);
        }
        if (store->keeper_stop && list_empty(&store->keeper_topics) && !store->keeper_space)
            break;
        bool space = store->keeper_space;
        store->keeper_space = false;
        struct walrus_topic *topic = NULL;
        if (!list_empty(&store->keeper_topics)) {
            topic = LIST_ENTRY(store->keeper_topics.next, struct walrus_topic, reclaim_node);
            list_remove(&topic->reclaim_node);
        }
        bool stop = store->keeper_stop;
        lock_release(&store->keeper_lock);
        if (timed_out) {
            keeper_mark_ages(store);
            ages_due = monotonic_ns() + AGE_CHECK_NS;
        }
        if (topic) {
            atomic_store(&topic->reclaim, false);
            reclaim_topic(topic);
        }
        if (space)
            space_tend(store, !stop);
        lock_acquire(&store->keeper_lock);
    }
    lock_release(&store->keeper_lock);
    return NULL;
}

int keeper_start(struct walrus *store)
{
    return -pthread_create(&store->keeper, NULL, keeper_main, store);
}

void keeper_stop(struct walrus *store)
{
    lock_acquire(&store->keeper_lock);
    store->keeper_stop = true;
    cond_signal(&store->keeper_cond);
    lock_release(&store->keeper_lock);
    pthread_join(store->keeper, NULL);
}
