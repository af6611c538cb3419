/* SPDX-License-Identifier: MIT */
/*
 * syncer.c - what is durable: the schedule, explicit syncs, and what a failed one means.
 *
 * Serves append, group, reclaim and the public interface; uses space and durable.
 *
 * A flush of a topic covers what was published when it began, from `sync_block` on.  One thread at
 * a time flushes a topic (`syncing`); others that want the same wait for it, and the one that finds
 * its entries not covered flushes next, for all that came meanwhile: so concurrent syncs of a
 * topic share.  The scheduler flushes many topics at once with one sync a log file.  Where one
 * block of a file is to be synced it is by range, so that other topics' data does not go along.
 *
 * In a flush: the entries of new blocks become durable in both copies; the data; then `durable_seq`
 * moves up; then the block table is told (hints: how far a block is durable, sealed).  The marks
 * thus follow the durable prefix of the topic, and always lie at the end of a unit.
 *
 * Failure: final.  The topic, and every other with data in that file that is not durable, refuses
 * appends and syncs with -EIO until the store is opened anew; nothing is synced again as proof.
 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

/* Without a schedule, full blocks are sealed after about as long as the kernel keeps dirty pages: it
 * costs no write that would not happen, and bounds what a start after a kill has to walk. */
#define FULL_WAIT_NS 30000000000u

/* A block as it was when the flush began. */
struct flush_item {
    struct walrus_topic *topic;
    struct block *block;
    struct block_info upto; /* used, count, bytes, last_time_ns; sealed when it is full */
    int result;
};

/* ------------------------------------------------------------------------------ one flush -- */

/* Blocks of a topic that the flush covers.  Under LOCK_APPEND; `items` NULL only counts. */
static size_t flush_snapshot_locked(struct walrus_topic *topic, struct block *from,
                                    struct flush_item *items)
{
    struct tail_snap tail = topic_tail(topic);
    size_t count = 0;
    for (struct block *block = from; block; block = atomic_load(&block->next)) {
        if (items) {
            bool full = block != tail.block;
            items[count] =
                (struct flush_item){.topic = topic,
                                    .block = block,
                                    .upto = {.state = full ? FORMAT_SEALED : FORMAT_ACTIVE,
                                             .used = atomic_load(&block->end),
                                             .count = block->count,
                                             .bytes = block->bytes,
                                             .last_time_ns = block->last_time_ns}};
        }
        count++;
    }
    return count;
}

/* The first block that is not wholly durable, with the reference that sync_block holds. */
static struct block *flush_first(struct walrus_topic *topic)
{
    if (!topic->sync_block) {
        lock_acquire(&topic->blocks_lock);
        if (!list_empty(&topic->blocks))
            topic->sync_block = block_ref(LIST_ENTRY(topic->blocks.next, struct block, node));
        lock_release(&topic->blocks_lock);
    }
    return topic->sync_block;
}

static int item_compare(const void *a, const void *b)
{
    const struct flush_item *x = a, *y = b;
    uint32_t p = x->block->file->number, q = y->block->file->number;
    return p < q ? -1 : p > q;
}

/* A write of metadata that found no room (on btrfs, say) or no memory: no sync failed, nothing is
 * lost, and the next flush may work. */
static bool may_retry(int result)
{
    return result == -ENOMEM || result == -ENOSPC || result == -EDQUOT;
}

static void count_sync(struct walrus *store, uint64_t took_ns)
{
    size_t i = 0;

    while (i < WALRUS_SYNC_BUCKET_COUNT - 1 && took_ns > WALRUS_SYNC_BUCKET_NS << i)
        i++;
    atomic_fetch_add(&store->sync_buckets[i], 1);
    atomic_fetch_add(&store->sync_count, 1);
    atomic_fetch_add(&store->sync_ns, took_ns);
}

/* Syncs the items of one file. */
static int flush_file(struct file *file, struct flush_item *items, size_t count)
{
    struct walrus *store = file->store;
    struct block **fresh = malloc(count * sizeof(struct block *));
    size_t fresh_count = 0;
    if (!fresh)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (!items[i].block->table_durable)
            fresh[fresh_count++] = items[i].block;
    uint64_t began = monotonic_ns();
    int r = fresh_count ? block_table_settle(file, fresh, fresh_count) : 0;
    free(fresh);
    uint64_t off = block_file_off(items[0].block) + items[0].block->synced_end;
    uint64_t end = block_file_off(items[0].block) + items[0].upto.used;
    if (r == 0 && (count > 1 || end > off)) {
        const struct durable_view *view = durable_begin(&file->durable);
        r = durable_end(&file->durable, view,
                        count > 1 ? os_fdatasync(view->fd) : os_msync(view->map, off, end - off));
    }
    count_sync(store, monotonic_ns() - began);
    if (r < 0 && (!may_retry(r) || durable_error(&file->durable))) {
        r = -EIO;
        sync_file_failed(store, file, r);
    }
    return r;
}

static bool topic_covered(struct walrus_topic *topic, const struct file *file)
{
    bool covered = false;
    lock_acquire(&topic->sync_lock);
    struct block *block = topic->sync_block;
    if (!block) {
        lock_acquire(&topic->blocks_lock);
        if (!list_empty(&topic->blocks))
            block = LIST_ENTRY(topic->blocks.next, struct block, node);
        lock_release(&topic->blocks_lock);
    }
    for (; block && !covered; block = atomic_load(&block->next))
        covered = block->file == file &&
                  (atomic_load(&block->end) > block->synced_end || !block->table_durable);
    lock_release(&topic->sync_lock);
    return covered;
}

void sync_file_failed(struct walrus *store, struct file *file, int error)
{
    atomic_store(&store->degraded, true);
    report(&store->reporter, WALRUS_ERROR, error, NULL,
           "wal_%04u.log: a sync failed; what it covered is doubtful, and topics with data in it "
           "that was not durable refuse appends until the store is opened anew",
           file->number);
    struct walrus_topic *topic;
    uint64_t id = 0;
    while (walrus_topic_after(store, id, &topic) == 0) {
        id = topic->id;
        if (topic_covered(topic, file) && atomic_exchange(&topic->error, -EIO) == 0) {
            char name[WALRUS_NAME_SIZE_MAX + 1];
            topic_name_copy(topic, name);
            report(&store->reporter, WALRUS_ERROR, error, name,
                   "degraded: entries from %llu to %llu are doubtful",
                   (unsigned long long)atomic_load(&topic->durable_seq),
                   (unsigned long long)topic_tail(topic).seq);
        }
        walrus_topic_unref(topic);
    }
}

/* Tells the topic how its flush went. */
static void flush_finish(struct walrus_topic *topic, struct flush_item *items, size_t count,
                         uint64_t seq, bool always)
{
    int r = 0;
    for (size_t i = 0; i < count; i++)
        r = items[i].result < 0 ? items[i].result : r;
    for (size_t i = 0; r == 0 && i < count; i++)
        block_table_note(items[i].block, &items[i].upto, always);
    lock_acquire(&topic->sync_lock);
    bool moved = false;
    if (r == 0) {
        for (size_t i = 0; i < count; i++)
            items[i].block->synced_end = items[i].upto.used;
        if (count && topic->sync_block != items[count - 1].block) {
            block_ref(items[count - 1].block);
            block_unref(topic->sync_block);
            topic->sync_block = items[count - 1].block;
            moved = true;
        }
        if (seq > atomic_load(&topic->durable_seq))
            atomic_store(&topic->durable_seq, seq);
    } else if (!may_retry(r)) {
        atomic_store(&topic->error, -EIO);
    }
    topic->syncing = false;
    cond_broadcast(&topic->sync_cond);
    lock_release(&topic->sync_lock);
    if (moved)
        keeper_mark(topic);
}

/* Flushes topics whose `syncing` this thread set.  -ENOMEM: nothing was tried. */
static int flush_topics(struct walrus_topic **topics, size_t topic_count, bool always)
{
    size_t total = 0, used = 0;
    uint64_t *seqs = malloc(topic_count * sizeof(*seqs));
    size_t *counts = calloc(topic_count, sizeof(*counts));
    struct flush_item *items = NULL, *by_file = NULL;
    for (size_t t = 0; t < topic_count; t++) {
        lock_acquire(&topics[t]->append_lock);
        total += flush_snapshot_locked(topics[t], flush_first(topics[t]), NULL);
        lock_release(&topics[t]->append_lock);
    }
    size_t room = total + 4 * topic_count; /* blocks may come until the snapshot is taken */
    items = malloc(room * sizeof(*items));
    by_file = malloc(room * sizeof(*by_file));
    bool ready = seqs && counts && items && by_file;
    for (size_t t = 0; ready && t < topic_count; t++) {
        struct walrus_topic *topic = topics[t];
        lock_acquire(&topic->append_lock);
        size_t n = flush_snapshot_locked(topic, flush_first(topic), NULL);
        if (n <= room - used) {
            counts[t] = flush_snapshot_locked(topic, flush_first(topic), items + used);
            seqs[t] = topic_tail(topic).seq;
            used += counts[t];
        } else {
            seqs[t] = 0; /* grew too fast: covers nothing, the next flush does */
        }
        lock_release(&topic->append_lock);
    }
    int r = ready ? 0 : -ENOMEM;
    if (ready) {
        memcpy(by_file, items, used * sizeof(*items));
        qsort(by_file, used, sizeof(*by_file), item_compare);
    }
    for (size_t i = 0; ready && i < used;) {
        size_t n = 1;
        while (i + n < used && by_file[i + n].block->file == by_file[i].block->file)
            n++;
        int result = flush_file(by_file[i].block->file, by_file + i, n);
        for (size_t k = 0; result < 0 && k < used; k++)
            if (items[k].block->file == by_file[i].block->file)
                items[k].result = result;
        r = result < 0 ? result : r;
        i += n;
    }
    used = 0;
    for (size_t t = 0; t < topic_count; t++) {
        struct flush_item failed = {.result = -ENOMEM};
        if (ready)
            flush_finish(topics[t], items + used, counts[t], seqs[t], always);
        else
            flush_finish(topics[t], &failed, 1, 0, always);
        used += ready ? counts[t] : 0;
    }
    free(seqs);
    free(counts);
    free(items);
    free(by_file);
    return r;
}

int topic_sync_to(struct walrus_topic *topic, uint64_t seq, bool settle)
{
    if (!settle && atomic_load(&topic->durable_seq) >= seq)
        return 0;
    int r = 0;
    lock_acquire(&topic->sync_lock);
    while (r == 0 && (settle || atomic_load(&topic->durable_seq) < seq)) {
        if (atomic_load(&topic->error)) {
            r = -EIO;
        } else if (topic->syncing) {
            cond_wait(&topic->sync_cond, &topic->sync_lock);
        } else {
            topic->syncing = true;
            lock_release(&topic->sync_lock);
            r = flush_topics(&topic, 1, settle);
            settle = false;
            lock_acquire(&topic->sync_lock);
        }
    }
    lock_release(&topic->sync_lock);
    return r < 0 && !may_retry(r) ? -EIO : r;
}

int walrus_topic_sync(struct walrus_topic *topic)
{
    if (atomic_load(&topic->removed))
        return -ENODEV;
    if (topic->store->read_only)
        return 0;
    if (atomic_load(&topic->error))
        return -EIO;
    return topic_sync_to(topic, topic_tail(topic).seq, false);
}

int walrus_sync(struct walrus *store)
{
    if (store->read_only)
        return 0;
    struct walrus_topic *topic;
    uint64_t id = 0;
    int r = 0;
    while (walrus_topic_after(store, id, &topic) == 0) {
        id = topic->id;
        struct walrus_group *group;
        uint64_t group_id = 0;
        int one = walrus_topic_sync(topic);
        r = one < 0 && one != -ENODEV ? one : r;
        while (walrus_group_after(topic, group_id, &group) == 0) {
            group_id = group->id;
            one = group_store(group);
            r = one < 0 && one != -ENODEV ? one : r;
            walrus_group_unref(group);
        }
        walrus_topic_unref(topic);
    }
    return r;
}

/* --------------------------------------------------------------------------------- schedule -- */

/* How long a topic may wait for its sync; UINT64_MAX: for ever. */
static uint64_t mark_wait_ns(const struct walrus *store, enum sync_when when)
{
    const struct walrus_options *options = &store->options;
    uint64_t schedule =
        options->fsync == WALRUS_FSYNC_MS ? (uint64_t)options->fsync_ms * 1000000u : UINT64_MAX;
    switch (when) {
    case SYNC_SCHEDULED:
        return schedule;
    case SYNC_FULL:
        return MIN(schedule, FULL_WAIT_NS);
    case SYNC_NOW:
        break;
    }
    return 0;
}

void syncer_mark(struct walrus_topic *topic, enum sync_when when)
{
    struct walrus *store = topic->store;
    if (when == SYNC_SCHEDULED && (store->options.fsync != WALRUS_FSYNC_MS ||
                                   atomic_load_explicit(&topic->dirty, memory_order_relaxed)))
        return;
    uint64_t due = monotonic_ns() + mark_wait_ns(store, when);
    lock_acquire(&store->dirty_lock);
    if (list_empty(&store->dirty))
        store->dirty_due_ns = UINT64_MAX;
    if (!atomic_exchange(&topic->dirty, true))
        list_push_back(&store->dirty, &walrus_topic_ref(topic)->dirty_node);
    if (due < store->dirty_due_ns) {
        store->dirty_due_ns = due;
        cond_signal(&store->dirty_cond);
    }
    lock_release(&store->dirty_lock);
}

/* Flushes what is on the list.  Topics that another thread is flushing come again. */
static void syncer_run(struct walrus *store, struct list *dirty, size_t count)
{
    struct walrus_topic **mine = malloc((count + 1) * sizeof(struct walrus_topic *)), *single;
    struct walrus_topic **topics = mine ? mine : &single;
    size_t n = 0;
    LIST_FOR_EACH(node, dirty)
    {
        struct walrus_topic *topic = LIST_ENTRY(node, struct walrus_topic, dirty_node);
        list_remove(node);
        atomic_store(&topic->dirty, false);
        lock_acquire(&topic->sync_lock);
        bool busy = topic->syncing;
        bool skip = atomic_load(&topic->error) || atomic_load(&topic->removed);
        if (!busy && !skip)
            topic->syncing = true;
        lock_release(&topic->sync_lock);
        if (busy && !skip)
            syncer_mark(topic, SYNC_FULL);
        if (busy || skip) {
            walrus_topic_unref(topic);
            continue;
        }
        topics[n++] = topic;
        if (!mine || n == count) {                       /* without memory for all: one by one */
            int ignored = flush_topics(topics, n, true); /* reported where it failed */
            (void)ignored;
            for (size_t i = 0; i < n; i++)
                walrus_topic_unref(topics[i]);
            n = 0;
        }
    }
    if (n) {
        int ignored = flush_topics(topics, n, true);
        (void)ignored;
        for (size_t i = 0; i < n; i++)
            walrus_topic_unref(topics[i]);
    }
    free(mine);
    (void)store;
}

static void *syncer_main(void *arg)
{
    struct walrus *store = arg;
    lock_acquire(&store->dirty_lock);
    for (;;) {
        while (list_empty(&store->dirty) && !store->syncer_stop)
            cond_wait(&store->dirty_cond, &store->dirty_lock);
        if (list_empty(&store->dirty))
            break;
        if (!store->syncer_stop &&
            !cond_wait_until(&store->dirty_cond, &store->dirty_lock, store->dirty_due_ns))
            continue; /* one came that is due earlier, maybe */
        struct list dirty;
        size_t count = 0;
        list_init(&dirty);
        LIST_FOR_EACH(node, &store->dirty)
        {
            list_remove(node);
            list_push_back(&dirty, node);
            count++;
        }
        lock_release(&store->dirty_lock);
        syncer_run(store, &dirty, count);
        lock_acquire(&store->dirty_lock);
    }
    lock_release(&store->dirty_lock);
    return NULL;
}

int syncer_start(struct walrus *store)
{
    return -pthread_create(&store->syncer, NULL, syncer_main, store);
}

void syncer_stop(struct walrus *store)
{
    lock_acquire(&store->dirty_lock);
    store->syncer_stop = true;
    cond_signal(&store->dirty_cond);
    lock_release(&store->dirty_lock);
    pthread_join(store->syncer, NULL);
}
