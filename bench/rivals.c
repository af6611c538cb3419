/* SPDX-License-Identifier: MIT */
/*
 * rivals.c - what a user would pick instead, at equal durability: Redis Streams, NATS JetStream,
 * SQLite in WAL mode, a plain file with O_APPEND.
 *
 * Ten producers with a connection (a handle, a file) of their own append entries of 500 to 1024 bytes
 * and wait for each to be acknowledged.  Three classes, and only those of one class are compared:
 *
 *     each    durable when acknowledged: fsync=each, appendfsync always, synchronous=FULL, fdatasync
 *     second  durable within a second: fsync=1000, appendfsync everysec, fdatasync by a thread
 *     none    when the kernel likes: fsync=never, JetStream (which syncs each two minutes), write
 *
 * SQLite has one writer at a time, so the ten share one table.  Servers are spoken to over a Unix
 * socket where they have one (Redis), else over the loopback.  A rival that is not installed is left
 * out, and said so.  Memory is the server's, or the process's own where there is none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_SQLITE
#include <sqlite3.h>
#endif

#include "load.h"
#include "server.h"
#include "walrus.h"

#define PRODUCERS 10u

enum durability { EACH, SECOND, NONE };

static uint8_t source[LOAD_SIZE_MAX];

struct rival {
    enum durability durability;
    const struct bench_options *options;
    char *dir;
    pid_t pid; /* of a server; 0: none */
    struct walrus *store;
    int fds[PRODUCERS];
    void *handles[PRODUCERS];
    pthread_mutex_t lock;
    pthread_t syncer;
    atomic_bool end;
};

static void rival_init(struct rival *rival, void *arg, const struct bench_options *options)
{
    memset(rival, 0, sizeof(*rival));
    rival->durability = *(const enum durability *)arg;
    rival->options = options;
    rival->dir = bench_scratch(options);
    pthread_mutex_init(&rival->lock, NULL);
}

static void rival_fini(struct rival *rival)
{
    if (rival->pid) {
        kill(rival->pid, SIGTERM);
        waitpid(rival->pid, NULL, 0);
    }
    pthread_mutex_destroy(&rival->lock);
    bench_scratch_remove(rival->dir);
}

static void rival_load(struct rival *rival, load_fn *step, struct bench_result *ret)
{
    load_run(rival->options, PRODUCERS, step, rival, true, ret);
    ret->memory_size = rival->pid ? bench_memory_of(rival->pid) : bench_memory();
    ret->cpu_ns = 0; /* a server's share would be missing */
}

/* ----------------------------------------------------------------------------------- walrus -- */

static void library_step(struct load_thread *thread)
{
    struct rival *rival = thread->arg;
    char name[32];
    size_t size = load_size(&thread->random);
    snprintf(name, sizeof(name), "topic_%u", thread->idx);
    BENCH_OK(walrus_append(rival->store, name, source, size));
    thread->count++;
    thread->bytes += size;
}

static void library_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static const enum walrus_fsync modes[] = {WALRUS_FSYNC_EACH, WALRUS_FSYNC_MS,
                                              WALRUS_FSYNC_NEVER};
    struct rival rival;
    rival_init(&rival, arg, options);
    const struct walrus_options how = {.fsync = modes[rival.durability]};
    BENCH_OK(walrus_open(rival.dir, &how, &rival.store));
    rival_load(&rival, library_step, ret);
    BENCH_OK(walrus_close(rival.store));
    rival_fini(&rival);
}

static void write_step(struct load_thread *thread)
{
    struct rival *rival = thread->arg;
    int fd = rival->fds[thread->idx];
    size_t size = load_size(&thread->random);
    if (write(fd, source, size) != (ssize_t)size)
        bench_die("write: %s", strerror(errno));
    if (!rival->pid && rival->durability == EACH && fdatasync(fd) != 0)
        bench_die("fdatasync: %s", strerror(errno));
    thread->count++;
    thread->bytes += size;
}

static void mount_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static const char *const modes[] = {"fsync=each", "fsync=1000", "fsync=never"};
    struct rival rival;
    struct server server;
    rival_init(&rival, arg, options);
    server_start_walrusfs(&server, options, modes[rival.durability]);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "topic_%u", i);
        server_make_topic(&server, name);
        rival.fds[i] = server_open(&server, O_WRONLY, "%s/append", name);
    }
    rival.pid = server.pid;
    rival_load(&rival, write_step, ret);
    rival.pid = 0;
    for (unsigned i = 0; i < PRODUCERS; i++)
        close(rival.fds[i]);
    server_stop(&server);
    rival_fini(&rival);
}

/* --------------------------------------------------------------------------------- O_APPEND -- */

static void *file_syncer(void *arg)
{
    struct rival *rival = arg;
    for (unsigned i = 1; !atomic_load(&rival->end); i++) {
        const struct timespec tenth = {.tv_nsec = 100000000};
        nanosleep(&tenth, NULL);
        for (unsigned k = 0; i % 10 == 0 && k < PRODUCERS; k++)
            if (fdatasync(rival->fds[k]) != 0)
                bench_die("fdatasync: %s", strerror(errno));
    }
    return NULL;
}

static void file_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct rival rival;
    rival_init(&rival, arg, options);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        char *path;
        if (asprintf(&path, "%s/file_%u", rival.dir, i) < 0)
            bench_die("no memory");
        rival.fds[i] = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (rival.fds[i] < 0)
            bench_die("%s: %s", path, strerror(errno));
        free(path);
    }
    if (rival.durability == SECOND)
        BENCH_OK(-pthread_create(&rival.syncer, NULL, file_syncer, &rival));
    rival_load(&rival, write_step, ret);
    atomic_store(&rival.end, true);
    if (rival.durability == SECOND)
        pthread_join(rival.syncer, NULL);
    for (unsigned i = 0; i < PRODUCERS; i++)
        close(rival.fds[i]);
    rival_fini(&rival);
}

/* ---------------------------------------------------------------------------------- servers -- */

static bool installed(const char *program)
{
    char command[128];
    snprintf(command, sizeof(command), "command -v %s >/dev/null", program);
    return system(command) == 0;
}

static void server_run(struct rival *rival, const char *const *argv)
{
    rival->pid = fork();
    if (rival->pid < 0)
        bench_die("fork: %s", strerror(errno));
    if (rival->pid > 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null, 1);
    dup2(null, 2);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

static int connect_soon(int domain, const void *address, socklen_t size)
{
    for (unsigned tries = 0; tries < 500; tries++) {
        const struct timespec pause = {.tv_nsec = 20000000};
        int fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, address, size) == 0)
            return fd;
        close(fd);
        nanosleep(&pause, NULL);
    }
    bench_die("a server does not answer");
}

static void send_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n <= 0)
            bench_die("a server hangs up");
        done += (size_t)n;
    }
}

/* Reads a line, or what there is of it; its length. */
static size_t receive_line(int fd, char *line, size_t room)
{
    size_t size = 0;
    while (size + 1 < room && (size < 2 || line[size - 1] != '\n')) {
        ssize_t n = read(fd, line + size, room - 1 - size);
        if (n <= 0)
            bench_die("a server hangs up");
        size += (size_t)n;
    }
    line[size] = 0;
    return size;
}

/* Ends what is in `message` as both protocols want it; how long it is then. */
static size_t end_line(char *message, size_t size)
{
    message[size] = '\r';
    message[size + 1] = '\n';
    return size + 2;
}

static void redis_step(struct load_thread *thread)
{
    struct rival *rival = thread->arg;
    char message[LOAD_SIZE_MAX + 256], reply[256];
    size_t size = load_size(&thread->random);
    int n = snprintf(message, sizeof(message),
                     "*5\r\n$4\r\nXADD\r\n$7\r\ntopic_%u\r\n$1\r\n*\r\n$1\r\nd\r\n$%zu\r\n",
                     thread->idx, size);
    memcpy(message + n, source, size);
    send_all(rival->fds[thread->idx], message, end_line(message, (size_t)n + size));
    size_t got = receive_line(rival->fds[thread->idx], reply, sizeof(reply));
    if (reply[0] != '$')
        bench_die("redis: %s", reply);
    while (strchr(reply, '\n') == reply + got - 1) /* the length; the number follows */
        got += receive_line(rival->fds[thread->idx], reply + got, sizeof(reply) - got);
    thread->count++;
    thread->bytes += size;
}

static void redis_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    static const char *const modes[] = {"always", "everysec", "no"};
    struct rival rival;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    rival_init(&rival, arg, options);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", rival.dir);
    const char *argv[] = {"redis-server",
                          "--port",
                          "0",
                          "--unixsocket",
                          address.sun_path,
                          "--dir",
                          rival.dir,
                          "--save",
                          "",
                          "--appendonly",
                          "yes",
                          "--appendfsync",
                          modes[rival.durability],
                          "--auto-aof-rewrite-percentage",
                          "0",
                          NULL};
    server_run(&rival, argv);
    for (unsigned i = 0; i < PRODUCERS; i++)
        rival.fds[i] = connect_soon(AF_UNIX, &address, sizeof(address));
    rival_load(&rival, redis_step, ret);
    for (unsigned i = 0; i < PRODUCERS; i++)
        close(rival.fds[i]);
    rival_fini(&rival);
}

static void nats_step(struct load_thread *thread)
{
    struct rival *rival = thread->arg;
    char message[LOAD_SIZE_MAX + 256], reply[1024];
    size_t size = load_size(&thread->random), got = 0;
    int fd = rival->fds[thread->idx];
    int n = snprintf(message, sizeof(message), "PUB topic.%u ack.%u %zu\r\n", thread->idx,
                     thread->idx, size);
    memcpy(message + n, source, size);
    send_all(fd, message, end_line(message, (size_t)n + size));
    do { /* MSG ack.N 1 SIZE, then {"stream":...}; or a PING in between */
        got += receive_line(fd, reply + got, sizeof(reply) - got);
        if (strncmp(reply, "PING", 4) == 0) {
            send_all(fd, "PONG\r\n", 6);
            got = 0;
        }
    } while (!strstr(reply, "}\r\n") || got == 0);
    if (!strstr(reply, "\"seq\""))
        bench_die("nats: %s", reply);
    thread->count++;
    thread->bytes += size;
}

static void nats_stream(int fd, unsigned idx)
{
    char body[256], message[512], reply[4096];
    int size = snprintf(body, sizeof(body),
                        "{\"name\":\"topic%u\",\"subjects\":[\"topic.%u\"],\"storage\":\"file\","
                        "\"retention\":\"limits\",\"max_consumers\":-1,\"max_msgs\":-1,"
                        "\"max_bytes\":-1,\"max_age\":0,\"num_replicas\":1,\"discard\":\"old\"}",
                        idx, idx);
    int n = snprintf(message, sizeof(message),
                     "CONNECT {\"verbose\":false}\r\nSUB ack.%u 1\r\n"
                     "PUB $JS.API.STREAM.CREATE.topic%u ack.%u %d\r\n%s\r\n",
                     idx, idx, idx, size, body);
    send_all(fd, message, (size_t)n);
    size_t got = 0;
    do {
        got += receive_line(fd, reply + got, sizeof(reply) - got);
    } while (!strstr(reply, "stream_create_response") || reply[got - 3] != '}');
    if (strstr(reply, "\"error\""))
        bench_die("nats: %s", reply);
}

static void nats_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct rival rival;
    char port[16];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    rival_init(&rival, arg, options);
    unsigned number = 20000 + (unsigned)getpid() % 20000;
    address.sin_port = htons((uint16_t)number);
    snprintf(port, sizeof(port), "%u", number);
    const char *argv[] = {"nats-server", "-a",  "127.0.0.1", "-p", port,
                          "-js",         "-sd", rival.dir,   NULL};
    server_run(&rival, argv);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        const int on = 1;
        rival.fds[i] = connect_soon(AF_INET, &address, sizeof(address));
        setsockopt(rival.fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        nats_stream(rival.fds[i], i);
    }
    rival_load(&rival, nats_step, ret);
    for (unsigned i = 0; i < PRODUCERS; i++)
        close(rival.fds[i]);
    rival_fini(&rival);
}

/* ----------------------------------------------------------------------------------- SQLite -- */

#ifdef HAVE_SQLITE
static void sqlite_step(struct load_thread *thread)
{
    struct rival *rival = thread->arg;
    sqlite3_stmt *insert = rival->handles[0];
    size_t size = load_size(&thread->random);
    pthread_mutex_lock(&rival->lock);
    sqlite3_bind_int(insert, 1, (int)thread->idx);
    sqlite3_bind_blob(insert, 2, source, (int)size, SQLITE_STATIC);
    if (sqlite3_step(insert) != SQLITE_DONE || sqlite3_reset(insert) != SQLITE_OK)
        bench_die("sqlite: %s", sqlite3_errmsg(sqlite3_db_handle(insert)));
    pthread_mutex_unlock(&rival->lock);
    thread->count++;
    thread->bytes += size;
}

static void sqlite_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct rival rival;
    sqlite3 *db;
    char *path;
    rival_init(&rival, arg, options);
    const char *setup = rival.durability == EACH
                            ? "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                            : "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;";
    if (asprintf(&path, "%s/db", rival.dir) < 0 || sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db, setup, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(db, "CREATE TABLE log (seq INTEGER PRIMARY KEY, topic INTEGER, data BLOB)",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "INSERT INTO log (topic, data) VALUES (?, ?)", -1,
                           (sqlite3_stmt **)&rival.handles[0], NULL) != SQLITE_OK)
        bench_die("sqlite cannot be set up");
    rival_load(&rival, sqlite_step, ret);
    sqlite3_finalize(rival.handles[0]);
    sqlite3_close(db);
    free(path);
    rival_fini(&rival);
}
#endif

/* ------------------------------------------------------------------------------------- main -- */

static struct bench_case cases[BENCH_CASES_MAX];
static size_t case_count;

static void add(const char *name, enum durability durability,
                void (*run)(void *arg, const struct bench_options *options,
                            struct bench_result *ret))
{
    static enum durability all[] = {EACH, SECOND, NONE};
    cases[case_count++] = (struct bench_case){name, "append/s", run, &all[durability]};
}

static bool have(const char *name)
{
    for (size_t i = 0; i < case_count; i++)
        if (strcmp(cases[i].name, name) == 0)
            return true;
    return false;
}

static void ratio(const struct bench *bench, const char *name, const char *a, const char *b)
{
    if (have(a) && have(b))
        bench_ratio(bench, &(struct bench_aim){0, name, a, b, BENCH_RATE, 1, false});
}

int main(int argc, char **argv)
{
    struct bench bench;
    bench_begin(&bench, argc, argv, "walrus beside what a user would pick instead.", 1.5);
    bench.options.rounds = bench.options.rounds > 3 ? 3 : bench.options.rounds;
    bool redis = installed("redis-server"), nats = installed("nats-server");
    signal(SIGPIPE, SIG_IGN);
    add("library-each", EACH, library_run);
    add("mount-each", EACH, mount_run);
    add("file-each", EACH, file_run);
    add("library-second", SECOND, library_run);
    add("mount-second", SECOND, mount_run);
    add("file-second", SECOND, file_run);
    add("library-none", NONE, library_run);
    add("mount-none", NONE, mount_run);
    add("file-none", NONE, file_run);
#ifdef HAVE_SQLITE
    add("sqlite-each", EACH, sqlite_run);
    add("sqlite-none", NONE, sqlite_run);
#else
    printf("built without SQLite\n");
#endif
    if (redis) {
        add("redis-each", EACH, redis_run);
        add("redis-second", SECOND, redis_run);
    } else {
        printf("redis-server is not installed\n");
    }
    if (nats)
        add("nats-none", NONE, nats_run);
    else
        printf("nats-server is not installed\n");
    bench_measure(&bench, cases, case_count);
    ratio(&bench, "library/redis-each", "library-each", "redis-each");
    ratio(&bench, "mount/redis-each", "mount-each", "redis-each");
    ratio(&bench, "library/sqlite-each", "library-each", "sqlite-each");
    ratio(&bench, "mount/file-each", "mount-each", "file-each");
    ratio(&bench, "library/redis-second", "library-second", "redis-second");
    ratio(&bench, "mount/redis-second", "mount-second", "redis-second");
    ratio(&bench, "library/file-second", "library-second", "file-second");
    ratio(&bench, "library/nats-none", "library-none", "nats-none");
    ratio(&bench, "mount/nats-none", "mount-none", "nats-none");
    ratio(&bench, "library/sqlite-none", "library-none", "sqlite-none");
    bench_end(&bench);
}
