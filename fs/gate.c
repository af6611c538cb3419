/* SPDX-License-Identifier: MIT */
/*
 * gate.c - see gate.h.
 *
 * A gate lives as long as it has users (handles); references beyond those keep its memory while a
 * thread works with it.  The last user disarms the watch, which waits for a running callback, so
 * without the lock; whoever becomes a user meanwhile is seen afterwards and has the watch armed
 * again.
 */
#include <errno.h>
#include <stdlib.h>

#include "gate.h"
#include "handle.h"
#include "reply.h"

#define BUCKET_COUNT 256

/* How often, and how many at once, stalled reads are tried while nothing is settled. */
#define TICK_NS        20000000ull
#define TICK_COUNT_MAX 64

enum pump_state { PUMP_IDLE, PUMP_QUEUED, PUMP_RUNNING, PUMP_RUNNING_AGAIN };

struct stalled {
    uint64_t seq;
    struct job *job;
};

struct gate {
    struct gate *hash_next;
    struct mount *mount;
    struct walrus_group *group; /* a reference */
    uint64_t topic_id, group_id;
    uint32_t user_count; /* handles, and who arms the watch */
    uint32_t ref_count;  /* those, all together, count as one */
    struct list waiters; /* the first came first */
    struct list pollers;
    struct list notifying; /* pollers that are being told */
    uint64_t waiter_count;
    enum pump_state pump;
    struct job pump_job;
    struct stalled *stalled; /* a heap, the lowest number first; from malloc */
    size_t stalled_count, stalled_room;
    atomic_bool unsettled; /* something is stalled, or a claim was refused for what is */
    bool ticking;          /* tick_job is under way */
    struct job tick_job;
    bool listed; /* in the table */
    bool armed;  /* the watch may be armed */
};

struct gate_table {
    struct lock lock; /* LOCK_FS_WAITERS */
    struct gate *buckets[BUCKET_COUNT];
};

int gate_table_create(struct gate_table **ret_table)
{
    struct gate_table *table = calloc(1, sizeof(*table));
    if (table == NULL)
        return -ENOMEM;
    lock_init(&table->lock, LOCK_FS_WAITERS);
    *ret_table = table;
    return 0;
}

void gate_table_destroy(struct gate_table *table)
{
    if (table == NULL)
        return;
    lock_fini(&table->lock);
    free(table);
}

static struct lock *gate_lock(struct gate *gate)
{
    return &gate->mount->gates->lock;
}

static struct gate **gate_bucket(struct gate_table *table, uint64_t topic_id, uint64_t group_id)
{
    return &table->buckets[(topic_id * 31 + group_id) % BUCKET_COUNT];
}

static struct gate *gate_find_locked(struct gate_table *table, uint64_t topic_id, uint64_t group_id)
{
    struct gate *gate = *gate_bucket(table, topic_id, group_id);
    while (gate != NULL && (gate->topic_id != topic_id || gate->group_id != group_id))
        gate = gate->hash_next;
    return gate;
}

int gate_get(struct mount *mount, struct walrus_group *group, uint64_t topic_id, uint64_t group_id,
             struct gate **ret_gate)
{
    struct gate_table *table = mount->gates;
    struct gate *fresh = calloc(1, sizeof(*fresh)), *gate;
    if (fresh == NULL)
        return -ENOMEM;
    fresh->group = walrus_group_ref(group);

    lock_acquire(&table->lock);
    gate = gate_find_locked(table, topic_id, group_id);
    if (gate == NULL) {
        gate = fresh;
        fresh = NULL;
        gate->mount = mount;
        gate->topic_id = topic_id;
        gate->group_id = group_id;
        gate->ref_count = 1;
        gate->listed = true;
        list_init(&gate->waiters);
        list_init(&gate->pollers);
        list_init(&gate->notifying);
        struct gate **bucket = gate_bucket(table, topic_id, group_id);
        gate->hash_next = *bucket;
        *bucket = gate;
    }
    gate->user_count++;
    lock_release(&table->lock);
    if (fresh != NULL) {
        walrus_group_unref(fresh->group);
        free(fresh);
    }
    *ret_gate = gate;
    return 0;
}

static void gate_unref(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    bool last = --gate->ref_count == 0;
    lock_release(gate_lock(gate));
    if (!last)
        return;
    WALRUS_ASSERT(list_empty(&gate->waiters) && list_empty(&gate->pollers) &&
                  gate->stalled_count == 0);
    free(gate->stalled);
    walrus_group_unref(gate->group);
    free(gate);
}

static void gate_pump(struct job *job);
static void gate_tick_later(struct gate *gate);

/* Has the pump run (once more). */
static void gate_schedule(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    switch (gate->pump) {
    case PUMP_IDLE:
        gate->pump = PUMP_QUEUED;
        gate->ref_count++;
        gate->pump_job.run = gate_pump;
        pool_submit(gate->mount->pool, &gate->pump_job);
        break;
    case PUMP_RUNNING:
        gate->pump = PUMP_RUNNING_AGAIN;
        break;
    case PUMP_QUEUED:
    case PUMP_RUNNING_AGAIN:
        break;
    }
    lock_release(gate_lock(gate));
}

/* The library's callback: any thread, no lock of the library held. */
static void gate_ready(void *arg)
{
    gate_schedule(arg);
}

/* True: there is something to claim now, or the group is gone.  False: gate_ready() will say, or
 * nobody is left to be told: the last waiter may have been interrupted since it was looked at.
 * Arming uses the gate, so that it does not go, and leave the watch behind, meanwhile. */
static bool gate_arm(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    bool used = gate->listed;
    if (used) {
        gate->user_count++;
        gate->armed = true;
    }
    lock_release(gate_lock(gate));
    if (!used)
        return false;
    bool ready = walrus_group_watch(gate->group, gate_ready, gate) != WALRUS_EMPTY;
    gate_put(gate);
    return ready;
}

void gate_put(struct gate *gate)
{
    bool disarmed = false;

    if (gate == NULL)
        return;
    lock_acquire(gate_lock(gate));
    gate->ref_count++;
    /* The last user disarms, and stays one until that is done: there is never a second gate for the
     * group, whose watch it would be, and nobody arms this one between the look and the end. */
    while (gate->user_count == 1 && gate->armed) {
        gate->armed = false;
        lock_release(gate_lock(gate));
        int r = walrus_group_watch(gate->group, NULL, NULL);
        (void)r; /* nothing to disarm in a group that was removed */
        disarmed = true;
        lock_acquire(gate_lock(gate));
    }
    bool last = --gate->user_count == 0;
    if (last) {
        struct gate **at = gate_bucket(gate->mount->gates, gate->topic_id, gate->group_id);
        while (*at != gate)
            at = &(*at)->hash_next;
        *at = gate->hash_next;
        gate->listed = false;
        gate->ref_count--;
    }
    lock_release(gate_lock(gate));
    if (!last && disarmed)
        gate_schedule(gate); /* somebody came: his watch was disarmed with ours */
    gate_unref(gate);
}

bool gate_is_busy(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    bool busy = !list_empty(&gate->waiters);
    lock_release(gate_lock(gate));
    return busy;
}

uint64_t gate_waiting_count(struct mount *mount, uint64_t topic_id, uint64_t group_id)
{
    lock_acquire(&mount->gates->lock);
    struct gate *gate = gate_find_locked(mount->gates, topic_id, group_id);
    uint64_t count = gate != NULL ? gate->waiter_count : 0;
    lock_release(&mount->gates->lock);
    return count;
}

static bool waiter_move(struct waiter *waiter, int from, int to)
{
    return atomic_compare_exchange_strong(&waiter->state, &from, to);
}

/* The caller owns the waiter: nobody else will touch it. */
static void waiter_finish(struct waiter *waiter, int result)
{
    /* Waits for a callback that is running, and there is none afterwards. */
    fuse_req_interrupt_func(waiter->req, NULL, NULL);
    waiter->result = result;
    waiter->finish(waiter);
}

static void waiter_unlink_locked(struct waiter *waiter)
{
    list_remove(&waiter->link);
    waiter->gate->waiter_count--;
}

static void waiter_cancel(struct job *job)
{
    struct waiter *waiter = CONTAINER_OF(job, struct waiter, job);
    struct gate *gate = waiter->gate;

    lock_acquire(gate_lock(gate));
    waiter_unlink_locked(waiter);
    lock_release(gate_lock(gate));
    waiter_finish(waiter, -EINTR);
}

static void waiter_interrupt(fuse_req_t req, void *arg)
{
    struct waiter *waiter = arg;

    if (waiter_move(waiter, WAITER_PARKED, WAITER_CANCELLED)) {
        waiter->job.run = waiter_cancel;
        pool_submit(waiter->gate->mount->pool, &waiter->job);
        return;
    }
    /* An owner that parks it at this very moment fails to, and sees the interrupt. */
    (void)waiter_move(waiter, WAITER_OWNED, WAITER_OWNED_INTERRUPTED);
}

/* Puts an owned waiter into the list, at the end or back at the front.  False: it was ended. */
static bool waiter_enqueue(struct waiter *waiter, bool front)
{
    struct gate *gate = waiter->gate;
    int result = 0;

    lock_acquire(gate_lock(gate));
    list_insert_before(front ? gate->waiters.next : &gate->waiters, &waiter->link);
    gate->waiter_count++;
    if (atomic_load(&gate->mount->stopping))
        result = -ESHUTDOWN;
    else if (!waiter_move(waiter, WAITER_OWNED, WAITER_PARKED))
        result = -EINTR;
    if (result < 0)
        waiter_unlink_locked(waiter);
    lock_release(gate_lock(gate));
    if (result < 0)
        waiter_finish(waiter, result);
    return result == 0;
}

void gate_park(struct waiter *waiter)
{
    struct gate *gate = waiter->gate;

    /* From the moment that the waiter is in the list, it and its handle may go. */
    lock_acquire(gate_lock(gate));
    gate->ref_count++;
    lock_release(gate_lock(gate));

    list_init(&waiter->link);
    waiter->reader = NULL;
    atomic_init(&waiter->state, WAITER_OWNED);
    fuse_req_interrupt_func(waiter->req, waiter_interrupt, waiter);
    if (waiter_enqueue(waiter, false) && gate_arm(gate))
        gate_schedule(gate);
    gate_unref(gate);
}

/* The first waiter that can be had, owned by the caller now; or NULL. */
static struct waiter *gate_pop_locked(struct gate *gate)
{
    LIST_FOR_EACH(at, &gate->waiters)
    {
        struct waiter *waiter = LIST_ENTRY(at, struct waiter, link);
        if (waiter_move(waiter, WAITER_PARKED, WAITER_OWNED)) {
            waiter_unlink_locked(waiter);
            return waiter;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------- stalling */

static void stalled_push_locked(struct gate *gate, struct stalled item)
{
    size_t at = gate->stalled_count++;
    while (at > 0 && gate->stalled[(at - 1) / 2].seq > item.seq) {
        gate->stalled[at] = gate->stalled[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    gate->stalled[at] = item;
}

static struct job *stalled_pop_locked(struct gate *gate)
{
    if (gate->stalled_count == 0)
        return NULL;
    struct job *job = gate->stalled[0].job;
    struct stalled last = gate->stalled[--gate->stalled_count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < gate->stalled_count) {
        if (child + 1 < gate->stalled_count &&
            gate->stalled[child + 1].seq < gate->stalled[child].seq)
            child++;
        if (gate->stalled[child].seq >= last.seq)
            break;
        gate->stalled[at] = gate->stalled[child];
        at = child;
    }
    gate->stalled[at] = last;
    return job;
}

static void gate_tick(struct job *job)
{
    struct gate *gate = CONTAINER_OF(job, struct gate, tick_job);
    struct job *jobs[TICK_COUNT_MAX];
    size_t count = 0;

    lock_acquire(gate_lock(gate));
    gate->ticking = false;
    while (count < TICK_COUNT_MAX && (jobs[count] = stalled_pop_locked(gate)) != NULL)
        count++;
    atomic_store(&gate->unsettled, gate->stalled_count > 0);
    bool more = gate->stalled_count > 0;
    lock_release(gate_lock(gate));
    for (size_t i = 0; i < count; i++)
        pool_submit(gate->mount->pool, jobs[i]);
    if (more)
        gate_tick_later(gate);
    gate_schedule(gate);
    gate_unref(gate);
}

static void gate_tick_later(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    bool start = !gate->ticking;
    gate->ticking = true;
    atomic_store(&gate->unsettled, true);
    if (start)
        gate->ref_count++;
    lock_release(gate_lock(gate));
    if (!start)
        return;
    gate->tick_job.run = gate_tick;
    pool_submit_later(gate->mount->pool, &gate->tick_job, TICK_NS);
}

int gate_stall(struct gate *gate, uint64_t seq, struct job *job)
{
    int r = 0;

    lock_acquire(gate_lock(gate));
    if (gate->stalled_count == gate->stalled_room) {
        size_t room = MAX(gate->stalled_room * 2, (size_t)16);
        struct stalled *bigger = realloc(gate->stalled, room * sizeof(*bigger));
        if (bigger != NULL) {
            gate->stalled = bigger;
            gate->stalled_room = room;
        } else {
            r = -ENOMEM;
        }
    }
    if (r == 0)
        stalled_push_locked(gate, (struct stalled){seq, job});
    lock_release(gate_lock(gate));
    if (r == 0)
        gate_tick_later(gate);
    return r;
}

void gate_settled(struct gate *gate)
{
    if (gate == NULL || !atomic_load(&gate->unsettled))
        return;
    lock_acquire(gate_lock(gate));
    struct job *job = stalled_pop_locked(gate);
    bool waits = !list_empty(&gate->waiters);
    lock_release(gate_lock(gate));
    if (job != NULL)
        pool_submit(gate->mount->pool, job);
    else if (waits)
        gate_schedule(gate);
}

/* Serves one waiter.  False: nobody waits, or nobody can be served before something comes or is
 * settled. */
static bool gate_serve(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    struct waiter *waiter = gate_pop_locked(gate);
    lock_release(gate_lock(gate));
    if (waiter == NULL)
        return false;

    int r = waiter->claim(waiter);
    if (r == WALRUS_EMPTY || r == -EBUSY) {
        (void)waiter_enqueue(waiter, true);
        if (r == WALRUS_EMPTY)
            return gate_arm(gate);
        gate_tick_later(gate); /* there is something: others have to settle what they hold */
        return false;
    }
    if (r == 0 && atomic_load(&waiter->state) == WAITER_OWNED_INTERRUPTED) {
        /* Interrupted just before: it goes back at its place. */
        walrus_reader_abort(waiter->reader);
        waiter->reader = NULL;
        r = -EINTR;
    }
    waiter_finish(waiter, r);
    return true;
}

static void gate_notify_pollers(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    LIST_FOR_EACH(at, &gate->pollers)
    {
        list_remove(at);
        list_push_back(&gate->notifying, at);
    }
    while (!list_empty(&gate->notifying)) {
        struct poller *poller = LIST_ENTRY(gate->notifying.next, struct poller, link);
        struct fuse_pollhandle *poll = poller->poll;
        poller->poll = NULL;
        list_remove(&poller->link);
        lock_release(gate_lock(gate));
        if (poll != NULL) {
            (void)fuse_lowlevel_notify_poll(poll); /* who is gone needs no news */
            fuse_pollhandle_destroy(poll);
        }
        lock_acquire(gate_lock(gate));
    }
    lock_release(gate_lock(gate));
}

static void gate_pump(struct job *job)
{
    struct gate *gate = CONTAINER_OF(job, struct gate, pump_job);
    bool again;

    do {
        lock_acquire(gate_lock(gate));
        gate->pump = PUMP_RUNNING;
        lock_release(gate_lock(gate));
        while (gate_serve(gate))
            ;
        gate_notify_pollers(gate);
        lock_acquire(gate_lock(gate));
        again = gate->pump == PUMP_RUNNING_AGAIN;
        if (!again)
            gate->pump = PUMP_IDLE;
        lock_release(gate_lock(gate));
    } while (again);
    gate_unref(gate);
}

void poller_init(struct poller *poller)
{
    list_init(&poller->link);
    poller->poll = NULL;
}

bool gate_poll(struct gate *gate, struct poller *poller, struct fuse_pollhandle *poll)
{
    struct fuse_pollhandle *old = NULL;

    if (poll != NULL) {
        lock_acquire(gate_lock(gate));
        old = poller->poll;
        poller->poll = poll;
        list_remove(&poller->link);
        list_push_back(&gate->pollers, &poller->link);
        lock_release(gate_lock(gate));
    }
    if (old != NULL)
        fuse_pollhandle_destroy(old);
    return gate_arm(gate);
}

void gate_notify_next(struct gate *gate)
{
    lock_acquire(gate_lock(gate));
    bool polled = !list_empty(&gate->pollers);
    lock_release(gate_lock(gate));
    if (polled && gate_arm(gate))
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): the caller's handle uses the gate, too */
        gate_schedule(gate);
}

void gate_unpoll(struct gate *gate, struct poller *poller)
{
    lock_acquire(gate_lock(gate));
    struct fuse_pollhandle *poll = poller->poll;
    poller->poll = NULL;
    list_remove(&poller->link);
    lock_release(gate_lock(gate));
    if (poll != NULL)
        fuse_pollhandle_destroy(poll);
}

void gates_stop(struct mount *mount)
{
    struct gate_table *table = mount->gates;
    struct waiter *waiter;

    struct job *job;

    atomic_store(&mount->stopping, true);
    do {
        waiter = NULL;
        job = NULL;
        lock_acquire(&table->lock);
        for (unsigned i = 0; i < BUCKET_COUNT && waiter == NULL && job == NULL; i++) {
            for (struct gate *gate = table->buckets[i];
                 gate != NULL && waiter == NULL && job == NULL; gate = gate->hash_next) {
                waiter = gate_pop_locked(gate);
                job = stalled_pop_locked(gate);
            }
        }
        lock_release(&table->lock);
        if (waiter != NULL)
            waiter_finish(waiter, -ESHUTDOWN);
        if (job != NULL)
            pool_submit(mount->pool, job); /* tries once more, and sees that it is to end */
    } while (waiter != NULL || job != NULL);
}
