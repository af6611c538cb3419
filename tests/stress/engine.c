/* SPDX-License-Identifier: MIT */
/*
 * engine.c - eight threads on a few topics: producers, consumers that finish out of order
 * and give back, drains, syncs, seeks of a group of their own, topics that come and go.  Made for
 * ThreadSanitizer; prints its seed and ends with 0 when all is well.
 *
 *     stress_engine [seconds [seed]]
 *
 * What is checked: in strict mode every entry is taken by exactly one consumer, and by none twice
 * across restarts; entries carry the bytes of their number, so order and integrity are checked with
 * them; a consumer that takes one entry at a time sees rising numbers unless somebody gave back; at
 * the end everything appended was taken.
 *
 * The arrays of counters are atomic, everything else belongs to one thread.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rig.h"

enum {
    TOPIC_COUNT = 3,
    PRODUCER_COUNT = 3,
    CONSUMER_COUNT = 3,
    ENTRY_COUNT_MAX = 400000, /* a topic */
    DATA_SIZE_MAX = 3000,
};

static const char *const topic_names[TOPIC_COUNT] = {"a", "b", "c"};

static struct rig s;
static atomic_bool producers_done, all_done;
static atomic_uint_fast64_t appended[TOPIC_COUNT]; /* entries acknowledged */
static atomic_uint_fast64_t taken[TOPIC_COUNT];
static atomic_uchar seen[TOPIC_COUNT][ENTRY_COUNT_MAX];
static uint64_t deadline_ms, seed;

struct worker {
    pthread_t thread;
    uint64_t random; /* state of its own generator */
    uint8_t data[DATA_SIZE_MAX + 1];
};

static uint64_t random_next(struct worker *worker)
{
    uint64_t value = worker->random;

    value ^= value << 13;
    value ^= value >> 7;
    value ^= value << 17;
    worker->random = value;
    return value;
}

/* Entries name themselves: u64 writer and number of the writer, then bytes made from both. */
static size_t entry_make(struct worker *worker, uint64_t writer, uint64_t number)
{
    size_t size = 16 + random_next(worker) % (DATA_SIZE_MAX - 16);

    if (number % 50 == 0)
        size = 16;
    memcpy(worker->data, &writer, 8);
    memcpy(worker->data + 8, &number, 8);
    payload_fill(seed, "stress", writer << 48 | number, worker->data + 16, size - 16);
    return size;
}

static void entry_check(const uint8_t *data, size_t size)
{
    uint64_t writer, number;

    CHECK(size >= 16);
    memcpy(&writer, data, 8);
    memcpy(&number, data + 8, 8);
    CHECK(payload_same(seed, "stress", writer << 48 | number, data + 16, size - 16));
}

static void note_taken(unsigned topic, uint64_t seq)
{
    CHECK(seq < ENTRY_COUNT_MAX);
    CHECK_INT(atomic_fetch_add(&seen[topic][seq], 1), 0);
    atomic_fetch_add(&taken[topic], 1);
}

/* ---------------------------------------------------------------------------------- producers --
 */

static void produce_batch(struct worker *worker, unsigned topic, uint64_t writer, uint64_t *number)
{
    static _Thread_local uint8_t data[4][64];
    struct iovec entries[4];

    for (size_t i = 0; i < 4; i++) {
        uint64_t now = (*number)++;
        memcpy(data[i], &writer, 8);
        memcpy(data[i] + 8, &now, 8);
        payload_fill(seed, "stress", writer << 48 | now, data[i] + 16, 48);
        entries[i] = (struct iovec){data[i], 64};
    }
    CHECK_INT(walrus_batch_append(s.walrus, topic_names[topic], entries, 4), 0);
    atomic_fetch_add(&appended[topic], 4);
}

static void produce_blob(struct worker *worker, unsigned topic, uint64_t writer, uint64_t number)
{
    struct walrus_topic *found = rig_topic(&s, topic_names[topic]);
    struct walrus_blob *blob;
    size_t size = entry_make(worker, writer, number);

    CHECK_INT(walrus_blob_open(found, &blob), 0);
    CHECK_INT(walrus_blob_write(blob, worker->data, size / 2), 0);
    CHECK_INT(walrus_blob_write(blob, worker->data + size / 2, size - size / 2), 0);
    if (number % 3 == 0) {
        walrus_blob_abort(blob);
    } else {
        CHECK_INT(walrus_blob_commit(blob, number % 2 == 0, NULL), 0);
        atomic_fetch_add(&appended[topic], 1);
    }
    walrus_topic_unref(found);
}

static void *produce(void *arg)
{
    struct worker *worker = arg;
    uint64_t writer = worker->random & 0xff, number = 0;

    while (now_ms() < deadline_ms) {
        unsigned topic = (unsigned)(random_next(worker) % TOPIC_COUNT);
        if (atomic_load(&appended[topic]) > ENTRY_COUNT_MAX - 1000)
            break;
        if (atomic_load(&appended[topic]) - atomic_load(&taken[topic]) > 5000) {
            sleep_ms(1);
            continue;
        }
        switch (random_next(worker) % 16) {
        case 0:
            produce_batch(worker, topic, writer, &number);
            break;
        case 1:
            produce_blob(worker, topic, writer, number++);
            break;
        default: {
            size_t size = entry_make(worker, writer, number++);
            CHECK_INT(walrus_append(s.walrus, topic_names[topic], worker->data, size), 0);
            atomic_fetch_add(&appended[topic], 1);
        }
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------- consumers --
 */

/* Claims a few one by one, finishes some of them in another order, gives the others back. */
static bool consume_out_of_order(struct worker *worker, unsigned topic)
{
    struct walrus_group *group = rig_group(&s, topic_names[topic], "default");
    struct walrus_reader *readers[4];
    size_t count = 0;

    while (count < 4 && walrus_group_claim(group, 1, SIZE_MAX, &readers[count]) == 0)
        count++;
    for (size_t i = count; i-- > 0;) {
        struct walrus_reader *reader = readers[i];
        if (random_next(worker) % 4 != 0) {
            size_t size = walrus_reader_size(reader);
            ssize_t got = walrus_reader_read(reader, worker->data, size, 0, NULL);
            if (got != -EBUSY) {
                CHECK_INT(got, size);
                entry_check(worker->data, size);
                note_taken(topic, walrus_reader_seq(reader));
            }
        }
        CHECK_INT(walrus_reader_close(reader), 0);
    }
    walrus_group_unref(group);
    return count > 0;
}

/* Claims up to a hundred at once and reads about half. */
static bool consume_drain(struct worker *worker, unsigned topic)
{
    struct walrus_group *group = rig_group(&s, topic_names[topic], "default");
    struct walrus_reader *reader;
    struct walrus_entry entry;
    uint64_t off;

    int rc = walrus_group_claim(group, 1 + random_next(worker) % 100, SIZE_MAX, &reader);
    walrus_group_unref(group);
    if (rc != 0) {
        CHECK(rc == WALRUS_EMPTY || rc == -EBUSY);
        return false;
    }
    uint64_t wanted = 1 + walrus_reader_count(reader) / 2;
    for (uint64_t i = 0; i < wanted; i++) {
        rc = walrus_reader_entry(reader, i, &entry, &off);
        if (rc == WALRUS_EMPTY)
            break;
        CHECK_INT(rc, 0);
        ssize_t got = walrus_reader_read(reader, worker->data, entry.size, off, NULL);
        if (got == -EBUSY)
            break;
        CHECK_INT(got, entry.size);
        entry_check(worker->data, entry.size);
        note_taken(topic, entry.seq);
    }
    CHECK_INT(walrus_reader_close(reader), 0);
    return true;
}

static bool consume_next(unsigned topic)
{
    struct walrus_entry entry;
    int rc = walrus_read_next(s.walrus, topic_names[topic], &entry);

    if (rc != 0) {
        CHECK(rc == WALRUS_EMPTY || rc == -EBUSY);
        return false;
    }
    entry_check(entry.data, entry.size);
    note_taken(topic, entry.seq);
    free(entry.data);
    return true;
}

static bool consume_batch(unsigned topic)
{
    struct walrus_entry *entries;
    size_t count;
    int rc = walrus_batch_read(s.walrus, topic_names[topic], 20000, 16, &entries, &count);

    if (rc != 0) {
        CHECK(rc == WALRUS_EMPTY || rc == -EBUSY);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        CHECK(i == 0 || entries[i].seq > entries[i - 1].seq);
        entry_check(entries[i].data, entries[i].size);
        note_taken(topic, entries[i].seq);
    }
    walrus_entries_free(entries, count);
    return true;
}

static bool everything_taken(void)
{
    for (unsigned topic = 0; topic < TOPIC_COUNT; topic++)
        if (atomic_load(&taken[topic]) != atomic_load(&appended[topic]))
            return false;
    return true;
}

static void *consume(void *arg)
{
    struct worker *worker = arg;

    while (!atomic_load(&producers_done) || !everything_taken()) {
        unsigned topic = (unsigned)(random_next(worker) % TOPIC_COUNT);
        bool some = false;
        switch (random_next(worker) % 4) {
        case 0:
            some = consume_out_of_order(worker, topic);
            break;
        case 1:
            some = consume_drain(worker, topic);
            break;
        case 2:
            some = consume_batch(topic);
            break;
        default:
            some = consume_next(topic);
        }
        if (!some)
            sleep_ms(1);
        CHECK(now_ms() < deadline_ms + 120000); /* stuck: something was lost */
    }
    return NULL;
}

/* ------------------------------------------------------------------------- everything else -- */

static void count_call(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

/* A group of its own is sought and read; topics come and go; stats are read; syncs are asked for.
 */
static void *disturb(void *arg)
{
    static atomic_uint calls;
    struct worker *worker = arg;

    while (!atomic_load(&all_done)) {
        unsigned topic = (unsigned)(random_next(worker) % TOPIC_COUNT);
        struct walrus_topic *found = rig_topic(&s, topic_names[topic]);
        struct walrus_group *group = rig_group(&s, topic_names[topic], "other");
        struct walrus_topic *brief = rig_topic(&s, "brief");
        struct walrus_reader *reader;

        int rc = walrus_group_seek(group, WALRUS_SEEK_BY, (uint64_t)-3);
        CHECK(rc == 0 || rc == -ERANGE);
        if (walrus_group_claim(group, 3, SIZE_MAX, &reader) == 0) {
            ssize_t got = walrus_reader_read(reader, worker->data, DATA_SIZE_MAX, 0, NULL);
            CHECK(got >= 16);
            CHECK_INT(walrus_reader_close(reader), 0);
        }
        (void)!walrus_group_watch(group, count_call, &calls);
        CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
        (void)!walrus_group_watch(group, NULL, NULL);
        CHECK_INT(walrus_topic_sync(found), 0);
        (void)rig_topic_stat(&s, topic_names[topic]);
        (void)rig_stat(&s);
        CHECK_INT(walrus_append(s.walrus, "brief", "x", 1), 0);
        rc = walrus_topic_remove(brief);
        CHECK(rc == -ENOTEMPTY);
        struct walrus_entry entry;
        CHECK_INT(walrus_read_next(s.walrus, "brief", &entry), 0);
        free(entry.data);
        CHECK_INT(walrus_topic_remove(brief), 0);
        if (random_next(worker) % 4 == 0)
            CHECK_INT(walrus_sync(s.walrus), 0);
        walrus_topic_unref(brief);
        walrus_group_unref(group);
        walrus_topic_unref(found);
        sleep_ms(1);
    }
    return NULL;
}

/* A slow look at what is retained; takes nothing. */
static void *watch_order(void *arg)
{
    struct worker *worker = arg;
    uint64_t last_tail[TOPIC_COUNT] = {0};

    while (!atomic_load(&all_done)) {
        for (unsigned topic = 0; topic < TOPIC_COUNT; topic++) {
            struct walrus_topic_stat stat = rig_topic_stat(&s, topic_names[topic]);
            struct walrus_entry entry;
            CHECK(stat.tail_seq >= last_tail[topic]);
            CHECK(stat.first_seq <= stat.tail_seq);
            CHECK(stat.durable_seq <= stat.tail_seq || stat.tail_seq == 0);
            last_tail[topic] = stat.tail_seq;
            if (stat.tail_seq == stat.first_seq)
                continue;
            uint64_t seq = stat.first_seq + random_next(worker) % (stat.tail_seq - stat.first_seq);
            int rc = walrus_read_at(s.walrus, topic_names[topic], seq, &entry);
            CHECK(rc == 0 || rc == -ENOENT); /* reclaimed meanwhile */
            if (rc == 0) {
                CHECK_INT(entry.seq, seq);
                entry_check(entry.data, entry.size);
                free(entry.data);
            }
        }
        sleep_ms(1);
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------- main --
 */

static void worker_start(struct worker *worker, void *(*run)(void *arg), unsigned number)
{
    worker->random = (seed + number + 1) * 0x9e3779b97f4a7c15u;
    worker->random = (worker->random & ~(uint64_t)0xff) | (number + 1);
    CHECK_INT(pthread_create(&worker->thread, NULL, run, worker), 0);
}

static void worker_join(struct worker *worker)
{
    CHECK_INT(pthread_join(worker->thread, NULL), 0);
}

static void run_threads(uint64_t ms)
{
    static struct worker producers[PRODUCER_COUNT], consumers[CONSUMER_COUNT], others[2];

    atomic_store(&producers_done, false);
    atomic_store(&all_done, false);
    deadline_ms = now_ms() + ms;
    for (unsigned i = 0; i < PRODUCER_COUNT; i++)
        worker_start(&producers[i], produce, i);
    for (unsigned i = 0; i < CONSUMER_COUNT; i++)
        worker_start(&consumers[i], consume, 10 + i);
    worker_start(&others[0], disturb, 20);
    worker_start(&others[1], watch_order, 21);
    for (unsigned i = 0; i < PRODUCER_COUNT; i++)
        worker_join(&producers[i]);
    atomic_store(&producers_done, true);
    for (unsigned i = 0; i < CONSUMER_COUNT; i++)
        worker_join(&consumers[i]);
    atomic_store(&all_done, true);
    worker_join(&others[0]);
    worker_join(&others[1]);
}

/* Everything acknowledged is there, and nothing else. */
static void expect_tails(void)
{
    for (unsigned topic = 0; topic < TOPIC_COUNT; topic++) {
        uint64_t tail = rig_topic_stat(&s, topic_names[topic]).tail_seq;
        if (tail != atomic_load(&appended[topic]))
            fprintf(stderr, "topic %s\n%s", topic_names[topic], s.report_text);
        CHECK_INT(tail, atomic_load(&appended[topic]));
    }
}

int main(int argc, char **argv)
{
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 6;
    uint64_t total = 0;

    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    rig_init(&s);
    s.options.fsync_ms = 50;
    for (int round = 0; round < 2; round++) { /* the second goes on with the same store */
        rig_open(&s);
        expect_tails();
        run_threads(seconds * 500);
        for (unsigned topic = 0; topic < TOPIC_COUNT; topic++) {
            rig_expect_empty(&s, topic_names[topic]);
            CHECK_INT(rig_group_stat(&s, topic_names[topic], "default").claimed_count, 0);
        }
        expect_tails();
        rig_close(&s);
    }
    for (unsigned topic = 0; topic < TOPIC_COUNT; topic++)
        total += atomic_load(&appended[topic]);
    CHECK(total > 0);
    printf("%llu entries, each taken once\n", (unsigned long long)total);
    rig_fini(&s);
    return 0;
}
