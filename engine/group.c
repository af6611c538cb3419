/* SPDX-License-Identifier: MIT */
/*
 * group.c - what a group consumed, and how that becomes durable; the life of a group.
 *
 * Serves claim.c and reader.c; uses offsets, walk and syncer.
 *
 * What is consumed is `low`, below which everything is, and the ranges `done` above it.  Both
 * change under LOCK_GROUP.  Storing them goes like a shared sync: a thread that wants change n
 * stored waits while another stores, then stores for all that came meanwhile; the data that an
 * offset counts is synced before.  LOCK_GROUP is not held during either.
 *
 * Strict consumption is refused (-EBUSY) when it needs more ranges than a slot has.  At-least-once
 * cannot refuse what was delivered: such ranges are kept in memory, the lowest ones are stored, and
 * claims of new entries are refused until a gap closes.
 *
 * A seek is stored first and counts then, while no other thread stores.
 *
 * Failure: an offset that cannot be stored is final for the store's groups (offsets.h).  One whose data
 * cannot be synced is not stored: the group is `behind`.  At-least-once hands out no more than may
 * come again (reader.c), whether stores fail or only take their time.
 */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int group_new(struct walrus_topic *topic, uint64_t id, uint32_t slot, const char *name,
              size_t name_size, struct walrus_group **ret_group)
{
    struct walrus_group *group = calloc(1, sizeof(*group));
    char *copy = strndup(name, name_size);
    if (!group || !copy) {
        free(group);
        free(copy);
        return -ENOMEM;
    }
    group->topic = topic;
    group->id = id;
    group->slot = slot;
    group->name = copy;
    atomic_init(&group->refs, 1);
    list_init(&group->node);
    list_init(&group->back);
    lock_init(&group->lock, LOCK_GROUP);
    cond_init(&group->cond);
    *ret_group = group;
    return 0;
}

void run_free(struct run *run)
{
    list_remove(&run->node);
    pos_clear(&run->pos);
    free(run);
}

static void group_forget_back_locked(struct walrus_group *group)
{
    LIST_FOR_EACH(node, &group->back)
    run_free(LIST_ENTRY(node, struct run, node));
    group->back_count = 0;
    group->back_bytes = 0;
}

void group_free(struct walrus_group *group)
{
    group_forget_back_locked(group);
    pos_clear(&group->cur);
    free(group->done);
    free(group->name);
    lock_fini(&group->lock);
    free(group);
}

void group_insert_locked(struct walrus_topic *topic, struct walrus_group *group)
{
    struct list *at = &topic->groups;
    while (at->prev != &topic->groups &&
           LIST_ENTRY(at->prev, struct walrus_group, node)->id > group->id)
        at = at->prev;
    list_insert_before(at, &group->node);
    if (group->id >= topic->group_id_next)
        topic->group_id_next = group->id + 1;
}

/* ------------------------------------------------------------------------------- consumption -- */

static int done_reserve(struct walrus_group *group)
{
    if (group->done_count < group->done_room)
        return 0;
    uint32_t room = group->done_room ? group->done_room * 2 : 8;
    struct offset_range *bigger = realloc(group->done, room * sizeof(*bigger));
    if (!bigger)
        return -ENOMEM;
    group->done = bigger;
    group->done_room = room;
    return 0;
}

/* Adds [first, end), joins what touches, and moves low up.  `strict`: -EBUSY rather than more
 * ranges than a slot has. */
static int done_add(struct walrus_group *group, uint64_t first, uint64_t end, bool strict,
                    uint64_t *ret_counted)
{
    first = MAX(first, group->low);
    *ret_counted = 0;
    if (first >= end)
        return 0;
    uint32_t a = 0;
    while (a < group->done_count && group->done[a].end < first)
        a++;
    uint32_t b = a;
    uint64_t counted = end - first;
    struct offset_range joined = {first, end};
    for (; b < group->done_count && group->done[b].first <= end; b++) {
        uint64_t over_first = MAX(first, group->done[b].first);
        uint64_t over_end = MIN(end, group->done[b].end);
        counted -= over_end > over_first ? over_end - over_first : 0;
        joined.first = MIN(joined.first, group->done[b].first);
        joined.end = MAX(joined.end, group->done[b].end);
    }
    bool grows = a == b && joined.first > group->low;
    if (grows && strict && group->done_count >= OFFSETS_RANGE_COUNT_MAX)
        return -EBUSY;
    if (grows && strict && end - group->low > UINT32_MAX)
        return -EBUSY; /* a slot counts from low in 32 bits */
    int r = grows ? done_reserve(group) : 0;
    if (r < 0)
        return r;
    uint32_t after = group->done_count - b;
    bool keep = joined.first > group->low;
    if (after)
        memmove(&group->done[a + keep], &group->done[b], after * sizeof(group->done[0]));
    if (keep)
        group->done[a] = joined;
    else
        group->low = joined.end;
    group->done_count = a + keep + after;
    *ret_counted = counted;
    return 0;
}

int group_consume(struct walrus_group *group, uint64_t seek_count, uint64_t first, uint64_t end,
                  bool strict, uint64_t *ret_counted)
{
    uint64_t counted = 0;
    int r = 0;
    lock_acquire(&group->lock);
    if (group->error)
        r = group->error;
    else if (seek_count == group->seek_count)
        r = done_add(group, first, end, strict, &counted);
    if (r == 0 && counted) {
        group->change++;
        atomic_fetch_add(&group->unstored_count, counted);
        group->held_count -= MIN(counted, group->held_count);
        atomic_store(&group->last_take_ns, realtime_ns());
    }
    lock_release(&group->lock);
    if (r == 0)
        *ret_counted = counted;
    return r;
}

/* What a slot can hold of the state, the lowest ranges first. */
static void group_value_locked(const struct walrus_group *group, struct offset_value *ret_value,
                               uint64_t *ret_top)
{
    *ret_value = (struct offset_value){
        .topic_id = group->topic->id, .group_id = group->id, .offset = group->low};
    *ret_top = group->low;
    for (uint32_t i = 0; i < group->done_count && i < OFFSETS_RANGE_COUNT_MAX; i++) {
        if (group->done[i].end - group->low > UINT32_MAX)
            break;
        ret_value->ranges[ret_value->range_count++] = group->done[i];
        *ret_top = group->done[i].end;
    }
}

/* Stores for all that wait.  Called without the lock, with group->storing set by this thread. */
static int group_store_now(struct walrus_group *group, const struct offset_value *value,
                           uint64_t top)
{
    int r = topic_sync_to(group->topic, top, false);
    return r < 0 ? r : offsets_store(group->topic->store->offsets, group->slot, value);
}

/* A store failed, maybe for good, as the slot may say the one thing or the other: then what was
 * durable before counts, everything below `stored`.  The error, as it is to be told. */
static int group_store_failed_locked(struct walrus_group *group, int error, uint64_t stored)
{
    atomic_store(&group->behind, true);
    if (!offsets_error(group->topic->store->offsets))
        return error;
    group->error = -EIO;
    group->low = stored;
    group->done_count = 0;
    return -EIO;
}

bool group_frees_blocks(const struct walrus_group *group, uint64_t low)
{
    if (atomic_load(&group->topic->keep_now) == WALRUS_KEEP_ALL)
        return false;
    struct tail_snap tail = topic_tail(group->topic);
    uint32_t least = atomic_load(&group->topic->squeezed) ? 1 : ROLL_SIZE_MIN(group->topic->store);
    return low >= atomic_load(&group->topic->oldest_end_seq) ||
           (low == tail.seq && tail.off >= least);
}

bool group_holds_blocks_locked(const struct walrus_group *group)
{
    /* Past the oldest block already: somebody else holds it, and another store changes nothing. */
    bool passed = atomic_load(&group->stored_low) >= atomic_load(&group->topic->oldest_end_seq);
    return group_frees_blocks(group, group->low) &&
           (!passed || group->low == topic_tail(group->topic).seq);
}

int group_wait_stored(struct walrus_group *group, uint64_t change)
{
    int r = 0;
    lock_acquire(&group->lock);
    while (r == 0 && group->stored_change < change) {
        if (group->error || atomic_load(&group->removed)) {
            r = group->error ? group->error : -ENODEV;
        } else if (group->storing) {
            cond_wait(&group->cond, &group->lock);
        } else {
            struct offset_value value;
            uint64_t top, now = group->change, covered = atomic_load(&group->unstored_count);
            group_value_locked(group, &value, &top);
            group->storing = true;
            lock_release(&group->lock);
            r = group_store_now(group, &value, top);
            lock_acquire(&group->lock);
            group->storing = false;
            if (r == 0) {
                group->stored_change = now;
                /* not before: a crash would repeat them */
                atomic_fetch_sub(&group->unstored_count, covered);
                atomic_store(&group->stored_low, value.offset);
                atomic_store(&group->behind, false);
            } else {
                r = group_store_failed_locked(group, r, atomic_load(&group->stored_low));
            }
            cond_broadcast(&group->cond);
        }
    }
    lock_release(&group->lock);
    if (r == 0 && group_frees_blocks(group, atomic_load(&group->stored_low)))
        keeper_mark(group->topic);
    return r;
}

int group_store(struct walrus_group *group)
{
    lock_acquire(&group->lock);
    uint64_t change = group->change;
    lock_release(&group->lock);
    return group_wait_stored(group, change);
}

int walrus_group_sync(struct walrus_group *group)
{
    return group->topic->store->read_only ? 0 : group_store(group);
}

int group_restore(struct walrus_group *group, const struct offset_value *value)
{
    for (uint32_t i = 0; i < value->range_count; i++) {
        uint64_t counted;
        if (i == 0)
            group->low = value->offset;
        int r = done_add(group, value->ranges[i].first, value->ranges[i].end, false, &counted);
        if (r < 0)
            return r;
    }
    group->low = MAX(group->low, value->offset);
    atomic_store(&group->stored_low, group->low);
    return 0;
}

/* ----------------------------------------------------------------------------------- seeking -- */

static int seek_target(const struct walrus_group *group, enum walrus_whence whence, uint64_t value,
                       uint64_t first, uint64_t *ret_seq)
{
    uint64_t tail = topic_tail(group->topic).seq, target = value;
    int64_t by = (int64_t)value;
    if (whence == WALRUS_SEEK_BEGIN)
        target = first;
    else if (whence == WALRUS_SEEK_END)
        target = tail;
    else if (whence == WALRUS_SEEK_BY &&
             __builtin_add_overflow(group->low, by, &target)) /* mixed signs: exact */
        return -ERANGE;
    else if (whence != WALRUS_SEEK_TO && whence != WALRUS_SEEK_BY)
        return -EINVAL;
    if (target < first || target > tail)
        return -ERANGE;
    *ret_seq = target;
    return 0;
}

/* Finds where to go, and keeps it: reclaim looks at what groups need and takes blocks under the same
 * lock, so that what was retained at the look stays.  *ret_stored: what was needed before. */
static int seek_begin_locked(struct walrus_group *group, enum walrus_whence whence, uint64_t value,
                             uint64_t *ret_seq, uint64_t *ret_stored)
{
    struct walrus_topic *topic = group->topic;
    lock_acquire(&topic->blocks_lock);
    int r = seek_target(group, whence, value, topic_first_seq_locked(topic), ret_seq);
    *ret_stored = atomic_load(&group->stored_low);
    if (r == 0)
        atomic_store(&group->stored_low, MIN(*ret_seq, *ret_stored));
    lock_release(&topic->blocks_lock);
    return r;
}

/* The group is at `target`, and that is stored. */
static void seek_apply_locked(struct walrus_group *group, uint64_t target)
{
    group->low = target;
    group->done_count = 0;
    group->seek_count++;
    group->held_count = 0;
    group->stored_change = ++group->change;
    atomic_store(&group->unstored_count, 0);
    group_forget_back_locked(group);
    pos_clear(&group->cur);
    group->cur.seq = target; /* looked up by the next claim */
    atomic_store(&group->stored_low, target);
    atomic_store(&group->behind, false);
}

/* Stores that the group is at `target`.  Called without the lock, with group->storing set by this
 * thread.  `twice`: into the other copy too, which must not skip what is to be delivered again if
 * the newest one rots. */
static int seek_store(struct walrus_group *group, uint64_t target, bool twice)
{
    struct offset_value value = {
        .topic_id = group->topic->id, .group_id = group->id, .offset = target};
    int r = group_store_now(group, &value, target);
    if (r == 0 && twice)
        r = offsets_store(group->topic->store->offsets, group->slot, &value);
    return r;
}

int walrus_group_seek(struct walrus_group *group, enum walrus_whence whence, uint64_t value)
{
    if (group->topic->store->read_only)
        return -EROFS;
    uint64_t target = 0, stored = 0;
    bool again = false;
    lock_acquire(&group->lock);
    while (group->storing)
        cond_wait(&group->cond, &group->lock);
    int r = atomic_load(&group->removed) ? -ENODEV : group->error;
    if (r == 0)
        r = seek_begin_locked(group, whence, value, &target, &stored);
    if (r == 0) {
        again = target < group->low || group->done_count > 0;
        group->storing = true;
    }
    lock_release(&group->lock);
    if (r < 0)
        return r;
    r = seek_store(group, target, again);
    lock_acquire(&group->lock);
    if (r == 0)
        seek_apply_locked(group, target);
    else
        r = group_store_failed_locked(group, r, stored);
    if (r < 0 && !group->error)
        atomic_store(&group->stored_low, stored);
    group->storing = false;
    cond_broadcast(&group->cond);
    lock_release(&group->lock);
    if (r == 0 && group_frees_blocks(group, target))
        keeper_mark(group->topic);
    group_fire(group);
    return r;
}

/* -------------------------------------------------------------------------------------- life -- */

struct walrus_group *walrus_group_ref(struct walrus_group *group)
{
    walrus_topic_ref(group->topic);
    atomic_fetch_add(&group->refs, 1);
    return group;
}

void walrus_group_unref(struct walrus_group *group)
{
    if (!group)
        return;
    struct walrus_topic *topic = group->topic;
    if (atomic_fetch_sub(&group->refs, 1) == 1)
        group_free(group);
    walrus_topic_unref(topic);
}

struct walrus_topic *walrus_group_topic(struct walrus_group *group)
{
    return group->topic;
}

bool walrus_group_removed(struct walrus_group *group)
{
    return atomic_load(&group->removed);
}

void walrus_group_name(struct walrus_group *group, char *ret_name)
{
    lock_acquire(&group->topic->groups_lock);
    snprintf(ret_name, WALRUS_NAME_SIZE_MAX + 1, "%s", group->name);
    lock_release(&group->topic->groups_lock);
}

void walrus_group_attr(struct walrus_group *group, void *ret_attr)
{
    lock_acquire(&group->topic->groups_lock);
    memcpy(ret_attr, group->attr, sizeof(group->attr));
    lock_release(&group->topic->groups_lock);
}

static struct walrus_group *group_find_locked(struct walrus_topic *topic, const char *name)
{
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        if (strcmp(group->name, name) == 0)
            return group;
    }
    return NULL;
}

int walrus_group_find(struct walrus_topic *topic, const char *name, struct walrus_group **ret_group)
{
    if (atomic_load(&topic->removed))
        return -ENODEV;
    lock_acquire(&topic->groups_lock);
    struct walrus_group *group = group_find_locked(topic, name);
    if (group)
        *ret_group = walrus_group_ref(group);
    lock_release(&topic->groups_lock);
    return group ? 0 : -ENOENT;
}

int walrus_group_after(struct walrus_topic *topic, uint64_t after_id,
                       struct walrus_group **ret_group)
{
    int r = WALRUS_EMPTY;
    lock_acquire(&topic->groups_lock);
    LIST_FOR_EACH(node, &topic->groups)
    {
        struct walrus_group *group = LIST_ENTRY(node, struct walrus_group, node);
        if (r != 0 && group->id > after_id) {
            *ret_group = walrus_group_ref(group);
            r = 0;
        }
    }
    lock_release(&topic->groups_lock);
    return r;
}

int walrus_group_create(struct walrus_topic *topic, const char *name, const void *attr,
                        struct walrus_group **ret_group)
{
    struct walrus *store = topic->store;
    int r = walrus_name_check(name, strlen(name));
    if (r < 0)
        return r;
    if (store->read_only)
        return -EROFS;
    struct walrus_group *group = NULL;
    uint32_t slot;
    bool slot_taken = false;
    registry_change_begin(store);
    lock_acquire(&topic->groups_lock);
    if (atomic_load(&topic->removed))
        r = -ENODEV;
    else if (group_find_locked(topic, name))
        r = -EEXIST;
    uint64_t id = topic->group_id_next;
    lock_release(&topic->groups_lock);
    if (r == 0) {
        r = offsets_take(store->offsets, &slot);
        slot_taken = r == 0;
    }
    if (r == 0)
        r = group_new(topic, id, slot, name, strlen(name), &group);
    if (r == 0) {
        group->created_ns = realtime_ns();
        if (attr)
            memcpy(group->attr, attr, sizeof(group->attr));
        struct registry_change change = group_change(group);
        r = registry_change_locked(store, &change, 1);
    }
    if (r == 0) {
        /* Under LOCK_GROUPS: reclaim, which takes it too, cannot pass the new group. */
        lock_acquire(&topic->groups_lock);
        group->low = topic_first_seq(topic);
        group->cur.seq = group->low;
        atomic_store(&group->stored_low, group->low);
        group_insert_locked(topic, group);
        *ret_group = walrus_group_ref(group);
        lock_release(&topic->groups_lock);
    }
    if (r < 0 && group)
        group_free(group);
    if (r < 0 && slot_taken) {
        int ignored = offsets_give_back(store->offsets, slot); /* stays taken until reopened */
        (void)ignored;
    }
    lock_release(&store->change_lock);
    return r;
}

/* Appends the changed record of a group and, if that worked, exchanges one field. */
static int group_update(struct walrus_group *group, char **name, const void *attr)
{
    struct walrus_topic *topic = group->topic;
    struct walrus *store = topic->store;
    if (store->read_only)
        return -EROFS;
    registry_change_begin(store);
    lock_acquire(&topic->groups_lock);
    int r = 0;
    if (atomic_load(&topic->removed) || atomic_load(&group->removed))
        r = -ENODEV;
    else if (name && group_find_locked(topic, *name))
        r = -EEXIST;
    lock_release(&topic->groups_lock);
    if (r == 0) {
        struct registry_change change = group_change(group);
        if (name) {
            change.name = *name;
            change.name_size = strlen(*name);
        }
        if (attr)
            change.attr = attr;
        r = registry_change_locked(store, &change, 1);
    }
    if (r == 0) {
        lock_acquire(&topic->groups_lock);
        if (name) {
            char *old = group->name;
            group->name = *name;
            *name = old;
        }
        if (attr)
            memcpy(group->attr, attr, sizeof(group->attr));
        lock_release(&topic->groups_lock);
    }
    lock_release(&store->change_lock);
    return r;
}

int walrus_group_rename(struct walrus_group *group, const char *name)
{
    int r = walrus_name_check(name, strlen(name));
    if (r < 0)
        return r;
    char *copy = strdup(name);
    if (!copy)
        return -ENOMEM;
    r = group_update(group, &copy, NULL);
    free(copy);
    return r;
}

int walrus_group_set_attr(struct walrus_group *group, const void *attr)
{
    return group_update(group, NULL, attr);
}

/* After its removal, or that of its topic, is durable; group_remove_finish() follows without locks.
 * Once for each group: who removes one looks at both marks under LOCK_REGISTRY_CHANGE. */
void group_remove_detach(struct walrus_group *group)
{
    struct walrus_topic *topic = group->topic;
    lock_acquire(&topic->groups_lock);
    list_remove(&group->node);
    atomic_store(&group->removed, true);
    lock_release(&topic->groups_lock);
    lock_acquire(&group->lock);
    while (group->storing) /* its slot must not be written after it was given back */
        cond_wait(&group->cond, &group->lock);
    group_forget_back_locked(group);
    pos_clear(&group->cur);
    lock_release(&group->lock);
    int r = offsets_give_back(topic->store->offsets, group->slot);
    if (r < 0)
        report(&topic->store->reporter, WALRUS_WARNING, r, NULL,
               "read_offset_idx_index.db: slot %u cannot be cleared and stays taken", group->slot);
}

void group_remove_finish(struct walrus_group *group)
{
    group_fire(group);
    if (atomic_fetch_sub(&group->refs, 1) == 1)
        group_free(group);
}

int walrus_group_remove(struct walrus_group *group)
{
    struct walrus_topic *topic = group->topic;
    struct walrus *store = topic->store;
    if (store->read_only)
        return -EROFS;
    registry_change_begin(store);
    lock_acquire(&topic->groups_lock);
    int r = 0;
    if (atomic_load(&topic->removed) || atomic_load(&group->removed))
        r = -ENODEV;
    else if (topic->groups.next->next == &topic->groups)
        r = -EBUSY;
    lock_release(&topic->groups_lock);
    if (r == 0) {
        struct registry_change change = {
            .kind = REGISTRY_GROUP_REMOVED, .topic_id = topic->id, .group_id = group->id};
        r = registry_change_locked(store, &change, 1);
    }
    if (r == 0)
        group_remove_detach(group);
    lock_release(&store->change_lock);
    if (r == 0) {
        group_remove_finish(group);
        keeper_mark(topic);
    }
    return r;
}

/* ----------------------------------------------------------------------------------- watches -- */

/* Takes an armed watch and calls it outside of the lock. */
void group_fire(struct walrus_group *group)
{
    struct walrus *store = group->topic->store;
    lock_acquire(&store->watch_lock);
    void (*ready)(void *arg) = group->ready;
    void *arg = group->ready_arg;
    if (ready) {
        group->ready = NULL;
        atomic_fetch_sub(&group->topic->watch_count, 1);
        store->watch_running++;
    }
    lock_release(&store->watch_lock);
    if (!ready)
        return;
    ready(arg);
    lock_acquire(&store->watch_lock);
    store->watch_running--;
    cond_broadcast(&store->watch_cond);
    lock_release(&store->watch_lock);
}

void topic_fire(struct walrus_topic *topic)
{
    /* Groups come one by one with a reference: `ready` must run with no lock held. */
    struct walrus_group *group;
    uint64_t id = 0;
    while (walrus_group_after(topic, id, &group) == 0) {
        id = group->id;
        group_fire(group);
        walrus_group_unref(group);
    }
}

int walrus_group_watch(struct walrus_group *group, void (*ready)(void *arg), void *arg)
{
    struct walrus *store = group->topic->store;
    lock_acquire(&store->watch_lock);
    if (!ready != !group->ready) {
        if (ready)
            atomic_fetch_add(&group->topic->watch_count, 1);
        else
            atomic_fetch_sub(&group->topic->watch_count, 1);
    }
    group->ready = ready;
    group->ready_arg = arg;
    while (!ready && store->watch_running)
        cond_wait(&store->watch_cond, &store->watch_lock);
    lock_release(&store->watch_lock);
    if (!ready)
        return 0;
    /* Armed first, looked second: an append between the two fires it. */
    struct walrus_group_stat stat;
    walrus_group_stat(group, &stat);
    if (!stat.head && !atomic_load(&group->removed))
        return WALRUS_EMPTY;
    lock_acquire(&store->watch_lock);
    bool mine = group->ready == ready && group->ready_arg == arg;
    if (mine) {
        group->ready = NULL;
        atomic_fetch_sub(&group->topic->watch_count, 1);
    }
    lock_release(&store->watch_lock);
    return mine ? 0 : WALRUS_EMPTY; /* not mine: it fired meanwhile, which says the same */
}
