/* SPDX-License-Identifier: MIT */
/*
 * rig.c - helpers of the library's tests: see rig.h.
 *
 * Files are looked at with plain system calls, never through the engine, so that what a test says
 * about the disk does not depend on what it tests.  Log files are sparse: everything that reads or
 * copies them goes from one stretch of data to the next.
 */
#include "rig.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef WALRUS_COVERAGE
#include <gcov.h>
#endif

#include "dir.h"
#include "faultos.h"
#include "tmpdir.h"

/* ------------------------------------------------------------------------------------ checks -- */

_Noreturn void check_fail(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, text);
    abort();
}

static void format_code(char *ret_text, size_t size, int64_t value)
{
    const char *name = value < 0 && value > -4096 ? strerrorname_np((int)-value) : NULL;

    if (name != NULL)
        snprintf(ret_text, size, "%lld (-%s)", (long long)value, name);
    else
        snprintf(ret_text, size, "%lld", (long long)value);
}

void check_int(const char *file, int line, const char *text, int64_t actual, int64_t expected)
{
    char found[64], wanted[64];

    if (actual == expected)
        return;
    format_code(found, sizeof(found), actual);
    format_code(wanted, sizeof(wanted), expected);
    fprintf(stderr, "%s:%d: %s is %s, not %s\n", file, line, text, found, wanted);
    abort();
}

_Noreturn void child_exit(int status)
{
#ifdef WALRUS_COVERAGE
    __gcov_dump();
#endif
    _exit(status);
}

void sleep_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&ts, &ts) != 0)
        ;
}

uint64_t now_ms(void)
{
    struct timespec ts;

    CHECK_INT(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void skip_note(const char *reason)
{
    fprintf(stderr, "skipped: %s\n", reason);
}

/* --------------------------------------------------------------------------------------- rig -- */

static void rig_report(void *arg, const struct walrus_report *report)
{
    struct rig *rig = arg;

    pthread_mutex_lock(&rig->lock);
    rig->report_count[report->level]++;
    size_t used = strlen(rig->report_text);
    snprintf(rig->report_text + used, sizeof(rig->report_text) - used, "%d %s: %s\n",
             (int)report->level, report->topic != NULL ? report->topic : "-", report->text);
    pthread_mutex_unlock(&rig->lock);
}

void rig_init(struct rig *rig)
{
    memset(rig, 0, sizeof(*rig));
    CHECK_INT(pthread_mutex_init(&rig->lock, NULL), 0);
    rig->dir_made = tmpdir_create();
    CHECK((size_t)snprintf(rig->dir, sizeof(rig->dir), "%s", rig->dir_made) < sizeof(rig->dir));
    rig->seed = 0x5eed;
    rig->options = (struct walrus_options){
        .block_size = RIG_BLOCK_SIZE,
        .blocks_per_file = RIG_BLOCKS_PER_FILE,
        .report = rig_report,
        .report_arg = rig,
    };
}

void rig_fini(struct rig *rig)
{
    rig_close(rig);
    tmpdir_destroy(rig->dir_made);
    rig->dir_made = NULL;
    pthread_mutex_destroy(&rig->lock);
}

int rig_try_open(struct rig *rig)
{
    CHECK(rig->walrus == NULL);
    return walrus_open(rig->dir, &rig->options, &rig->walrus);
}

void rig_open(struct rig *rig)
{
    int rc = rig_try_open(rig);

    if (rc != 0)
        fprintf(stderr, "%s", rig->report_text);
    CHECK_INT(rc, 0);
}

void rig_close(struct rig *rig)
{
    struct walrus *walrus = rig->walrus;

    rig->walrus = NULL;
    CHECK_INT(walrus_close(walrus), 0);
}

void rig_close_degraded(struct rig *rig)
{
    struct walrus *walrus = rig->walrus;

    rig->walrus = NULL;
    (void)walrus_close(walrus);
}

void rig_reopen(struct rig *rig)
{
    rig_close(rig);
    rig_open(rig);
}

static pid_t frozen_pid;

static void thaw(int signal_number)
{
    (void)signal_number;
    kill(frozen_pid, SIGCONT);
}

/* Whether a thread is stopped: the letter behind its name in parentheses. */
static bool thread_is_stopped(int tasks_fd, const char *thread)
{
    char name[300], text[512];

    snprintf(name, sizeof(name), "%s/stat", thread);
    int fd = openat(tasks_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; /* it ended */
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[size < 0 ? 0 : size] = '\0';
    const char *state = strrchr(text, ')');
    return state == NULL || state[2] == 'T' || state[2] == 'Z' || state[2] == 'X';
}

/* Stops all threads of a process, so that what it left in its files is of one moment. */
static void freeze(pid_t pid)
{
    struct dir_reader tasks;
    char path[64];
    bool all;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    CHECK_INT(kill(pid, SIGSTOP), 0);
    do {
        dir_open(&tasks, path);
        all = true;
        for (const char *name; (name = dir_next(&tasks)) != NULL;)
            all &= thread_is_stopped(tasks.fd, name);
    } while (!all);
}

void rig_copy(const struct rig *rig, struct rig *copy)
{
    rig_init(copy);
    copy->options = rig->options;
    copy->options.report_arg = copy;
    copy->seed = rig->seed;
    if (rig->walrus == NULL) {
        dir_copy(rig->dir, copy->dir);
        return;
    }
    frozen_pid = getpid();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, thaw);
        freeze(frozen_pid);
        dir_copy(rig->dir, copy->dir);
        thaw(0);
        _exit(0);
    }
    int status;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

void rig_kill(struct rig *rig)
{
    struct rig killed;

    rig_copy(rig, &killed);
    rig_fini(rig);
    *rig = killed;
    rig->options.report_arg = rig;
    rig_open(rig);
}

unsigned rig_reports(struct rig *rig, enum walrus_level level)
{
    pthread_mutex_lock(&rig->lock);
    unsigned count = rig->report_count[level];
    pthread_mutex_unlock(&rig->lock);
    return count;
}

bool rig_reported(struct rig *rig, const char *text)
{
    pthread_mutex_lock(&rig->lock);
    bool found = strstr(rig->report_text, text) != NULL;
    pthread_mutex_unlock(&rig->lock);
    return found;
}

/* ----------------------------------------------------------------------------------- payload -- */

/* One step of splitmix64: every state gives other bytes. */
static uint64_t mix_next(uint64_t *state)
{
    uint64_t value = *state += 0x9e3779b97f4a7c15u;

    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

static uint64_t payload_state(uint64_t seed, const char *topic, uint64_t seq)
{
    uint64_t state = seed;

    for (; *topic != '\0'; topic++)
        state = mix_next(&state) ^ (uint8_t)*topic;
    return mix_next(&state) ^ seq * 0xd1342543de82ef95u;
}

/* Seed 0: numbers that count up, which compress. */
static uint64_t payload_word(uint64_t seed, uint64_t *state)
{
    return seed != 0 ? mix_next(state) : (*state)++;
}

void payload_fill(uint64_t seed, const char *topic, uint64_t seq, void *ret_data, size_t size)
{
    uint64_t state = payload_state(seed, topic, seq);
    uint8_t *to = ret_data;

    for (size_t done = 0; done < size; done += 8) {
        uint64_t word = payload_word(seed, &state);
        memcpy(to + done, &word, size - done < 8 ? size - done : 8);
    }
}

bool payload_same(uint64_t seed, const char *topic, uint64_t seq, const void *data, size_t size)
{
    uint64_t state = payload_state(seed, topic, seq);
    const uint8_t *from = data;

    for (; size >= 8; from += 8, size -= 8) {
        uint64_t word = payload_word(seed, &state), found;
        memcpy(&found, from, 8);
        if (found != word)
            return false;
    }
    if (size > 0) {
        uint64_t word = payload_word(seed, &state);
        return memcmp(from, &word, size) == 0;
    }
    return true;
}

void *payload_make(const struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    void *data = malloc(size + 1);

    CHECK(data != NULL);
    payload_fill(rig->seed, topic, seq, data, size);
    return data;
}

/* ----------------------------------------------------------------------- appending and taking --
 */

int rig_try_append(struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    void *data = payload_make(rig, topic, seq, size);
    int rc = walrus_append(rig->walrus, topic, data, size);

    free(data);
    return rc;
}

void rig_append(struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    CHECK_INT(rig_try_append(rig, topic, seq, size), 0);
}

void rig_append_many(struct rig *rig, const char *topic, uint64_t first_seq, uint64_t count,
                     size_t size)
{
    for (uint64_t i = 0; i < count; i++)
        rig_append(rig, topic, first_seq + i, size);
}

int rig_try_batch(struct rig *rig, const char *topic, uint64_t first_seq, size_t count, size_t size)
{
    struct iovec *entries = calloc(count + 1, sizeof(*entries));

    CHECK(entries != NULL);
    for (size_t i = 0; i < count; i++) {
        entries[i].iov_base = payload_make(rig, topic, first_seq + i, size);
        entries[i].iov_len = size;
    }
    int rc = walrus_batch_append(rig->walrus, topic, entries, count);
    for (size_t i = 0; i < count; i++)
        free(entries[i].iov_base);
    free(entries);
    return rc;
}

int rig_take(struct rig *rig, const char *topic, uint64_t *ret_seq)
{
    struct walrus_entry entry = {0};
    int rc = walrus_read_next(rig->walrus, topic, &entry);

    if (rc != 0)
        return rc;
    CHECK(entry.data != NULL);
    CHECK(payload_same(rig->seed, topic, entry.seq, entry.data, entry.size));
    *ret_seq = entry.seq;
    free(entry.data);
    return 0;
}

/* Checks an entry that a call handed out, and frees it. */
static void entry_check(struct rig *rig, const char *topic, struct walrus_entry *entry,
                        uint64_t seq, size_t size)
{
    CHECK_INT(entry->seq, seq);
    CHECK_INT(entry->size, size);
    CHECK(entry->data != NULL);
    CHECK(payload_same(rig->seed, topic, seq, entry->data, size));
    free(entry->data);
}

void rig_expect(struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    struct walrus_entry entry = {0};

    CHECK_INT(walrus_read_next(rig->walrus, topic, &entry), 0);
    entry_check(rig, topic, &entry, seq, size);
}

void rig_expect_many(struct rig *rig, const char *topic, uint64_t first_seq, uint64_t count,
                     size_t size)
{
    for (uint64_t i = 0; i < count; i++)
        rig_expect(rig, topic, first_seq + i, size);
}

void rig_expect_empty(struct rig *rig, const char *topic)
{
    struct walrus_entry entry = {0};

    CHECK_INT(walrus_read_next(rig->walrus, topic, &entry), WALRUS_EMPTY);
}

void rig_expect_at(struct rig *rig, const char *topic, uint64_t seq, size_t size)
{
    struct walrus_entry entry = {0};

    CHECK_INT(walrus_read_at(rig->walrus, topic, seq, &entry), 0);
    entry_check(rig, topic, &entry, seq, size);
}

struct walrus_topic *rig_topic(struct rig *rig, const char *topic)
{
    struct walrus_topic *found = NULL;
    int rc = walrus_topic_find(rig->walrus, topic, &found);

    if (rc == -ENOENT)
        rc = walrus_topic_create(rig->walrus, topic, NULL, NULL, &found);
    if (rc == -EEXIST) /* another thread was faster */
        rc = walrus_topic_find(rig->walrus, topic, &found);
    CHECK_INT(rc, 0);
    return found;
}

struct walrus_group *rig_group(struct rig *rig, const char *topic, const char *group)
{
    struct walrus_topic *in = rig_topic(rig, topic);
    struct walrus_group *found = NULL;
    int rc = walrus_group_find(in, group, &found);

    if (rc == -ENOENT)
        rc = walrus_group_create(in, group, NULL, &found);
    CHECK_INT(rc, 0);
    walrus_topic_unref(in);
    return found;
}

struct walrus_topic_stat rig_topic_stat(struct rig *rig, const char *topic)
{
    struct walrus_topic *found = rig_topic(rig, topic);
    struct walrus_topic_stat stat;

    walrus_topic_stat(found, &stat);
    walrus_topic_unref(found);
    return stat;
}

struct walrus_group_stat rig_group_stat(struct rig *rig, const char *topic, const char *group)
{
    struct walrus_group *found = rig_group(rig, topic, group);
    struct walrus_group_stat stat;

    walrus_group_stat(found, &stat);
    walrus_group_unref(found);
    return stat;
}

struct walrus_stat rig_stat(struct rig *rig)
{
    struct walrus_stat stat;

    walrus_stat(rig->walrus, &stat);
    return stat;
}

struct walrus_reader *rig_claim(struct walrus_group *group, size_t max_count)
{
    struct walrus_reader *reader = NULL;

    CHECK_INT(walrus_group_claim(group, max_count, SIZE_MAX, &reader), 0);
    CHECK(reader != NULL);
    return reader;
}

void rig_finish(struct rig *rig, const char *topic, struct walrus_reader *reader)
{
    uint64_t seq = walrus_reader_seq(reader), size = walrus_reader_size(reader);
    uint8_t *data = malloc(size + 1);

    CHECK(data != NULL);
    CHECK_INT(walrus_reader_count(reader), 1);
    CHECK_INT(walrus_reader_read(reader, data, size + 1, 0, NULL), size);
    CHECK(payload_same(rig->seed, topic, seq, data, size));
    CHECK_INT(walrus_reader_delivered(reader, size), 0);
    CHECK_INT(walrus_reader_close(reader), 0);
    free(data);
}

/* ----------------------------------------------------------------------------- what is on disk --
 */

void rig_find(const struct rig *rig, const char *topic, uint64_t seq, size_t size,
              struct place *ret_place)
{
    CHECK(size >= 16);
    void *data = payload_make(rig, topic, seq, size);
    /* a long entry is cut where a block ends: its first kilobyte is enough to know it */
    CHECK(dir_find(rig->dir, data, size < 1024 ? size : 1024, ret_place));
    free(data);
}

void place_flip(const struct place *place, int64_t delta)
{
    uint8_t byte;
    uint64_t off = place->off + (uint64_t)delta;

    disk_read(place->path, off, &byte, 1);
    byte ^= 0x10;
    disk_write(place->path, off, &byte, 1);
}

void place_zero(const struct place *place, int64_t delta, size_t size)
{
    void *zeros = calloc(1, size + 1);

    CHECK(zeros != NULL);
    disk_write(place->path, place->off + (uint64_t)delta, zeros, size);
    free(zeros);
}

void disk_read(const char *path, uint64_t off, void *ret_data, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_INT(pread(fd, ret_data, size, (off_t)off), size);
    CHECK_INT(close(fd), 0);
}

void disk_write(const char *path, uint64_t off, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    CHECK_INT(pwrite(fd, data, size, (off_t)off), size);
    CHECK_INT(close(fd), 0);
}

uint64_t disk_size(const char *path)
{
    struct stat st;

    CHECK_INT(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static atomic_bool syncs_held;

static void sync_hook(void *arg, const char *file)
{
    (void)arg;
    while (fnmatch("wal_*.log", file, 0) == 0 && atomic_load(&syncs_held))
        sleep_ms(1);
}

void rig_hold_syncs(bool hold)
{
    atomic_store(&syncs_held, hold);
    faultos_on_sync(hold ? sync_hook : NULL, NULL);
}
