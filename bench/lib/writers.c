/* SPDX-License-Identifier: MIT */
/* writers.c - see writers.h. */
#include "writers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "server.h"

struct state {
    const struct writers *shape;
    uint8_t *data;
    int *fds;
};

static void step(struct load_thread *thread)
{
    struct state *state = thread->arg;
    size_t size = state->shape->size;
    if (thread->count == 0 && state->shape->pinned)
        server_pin(thread->idx);
    if (write(state->fds[thread->idx], state->data, size) != (ssize_t)size)
        bench_die("write: %s", strerror(errno));
    thread->count++;
    thread->bytes += size;
}

static int open_one(const struct state *state, const struct server *server, unsigned idx)
{
    const struct writers *shape = state->shape;
    unsigned topic = shape->files == WRITERS_OWN_TOPIC ? idx : 0;
    if (shape->loop)
        return server_open(server, O_WRONLY | O_APPEND, "f%u", topic);
    if (topic == idx) {
        char name[16];
        snprintf(name, sizeof(name), "t%u", idx);
        server_make_topic(server, name);
    }
    if (shape->files != WRITERS_SHARE_NODE || idx == 0)
        return server_open(server, O_WRONLY | O_APPEND, "t%u/append", topic);
    char path[64]; /* opens the inode again, without a lookup */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", state->fds[0]);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        bench_die("%s: %s", path, strerror(errno));
    return fd;
}

void writers_run(void *arg, const struct bench_options *options, struct bench_result *ret)
{
    struct state state = {.shape = arg};
    const struct writers *shape = arg;
    struct server server;

    state.data = malloc(shape->size);
    state.fds = calloc(shape->count, sizeof(*state.fds));
    if (!state.data || !state.fds)
        bench_die("no memory");
    memset(state.data, 'x', shape->size);
    if (shape->loop)
        server_start_null(&server, options, shape->loop, 0);
    else
        server_start_walrusfs(&server, options, shape->options);
    for (unsigned i = 0; i < shape->count; i++)
        state.fds[i] = open_one(&state, &server, i);
    double cpu = server_cpu_seconds(&server), began = (double)bench_now_ns() / 1e9;
    load_run(options, shape->count, step, &state, true, ret);
    double count = ret->rate * ((double)bench_now_ns() / 1e9 - began);
    ret->cpu_ns += (server_cpu_seconds(&server) - cpu) * 1e9 / count;
    ret->memory_size = bench_memory_of(server.pid);
    for (unsigned i = 0; i < shape->count; i++)
        close(state.fds[i]);
    server_stop(&server);
    free(state.fds);
    free(state.data);
}
