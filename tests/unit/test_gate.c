/* SPDX-License-Identifier: MIT */
/*
 * test_gate.c - requests that wait at a gate, and an interrupt at the very moment at which their
 * claim is tried.
 *
 * There is no kernel: the test makes the bytes of requests itself and hands them to libfuse, whose
 * replies it counts.  So an interrupt can come where no mount could be made to send it.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "rig.h"

#define READ_UNIQUE 4u

static struct rig s;
static struct mount mount;
static struct walrus_group *group;
static struct gate *gate;
static bool interrupts;       /* the claim is interrupted */
static bool misses;           /* somebody else is quicker than the claim */
static atomic_int reply;      /* the error of the last reply to the READ; 1: none yet */
static atomic_int result = 1; /* the waiter's */

/* A request of `opcode`, with `body` behind its header. */
static void feed(uint32_t opcode, uint64_t unique, const void *body, size_t size)
{
    struct {
        struct fuse_in_header head;
        char body[128];
    } request = {.head = {.len = (uint32_t)(sizeof(request.head) + size),
                          .opcode = opcode,
                          .unique = unique,
                          .nodeid = FUSE_ROOT_ID,
                          .uid = getuid(),
                          .gid = getgid()}};
    const struct fuse_buf buf = {.mem = &request, .size = request.head.len};

    CHECK(size <= sizeof(request.body));
    memcpy(request.body, body, size);
    fuse_session_process_buf(mount.session, &buf);
}

static int claim(struct waiter *waiter)
{
    int r = misses ? WALRUS_EMPTY : walrus_group_claim(group, 1, SIZE_MAX, &waiter->reader);
    struct fuse_interrupt_in body = {.unique = READ_UNIQUE};

    if (interrupts)
        feed(FUSE_INTERRUPT, READ_UNIQUE + 2, &body, sizeof(body));
    return r;
}

static void finish(struct waiter *waiter)
{
    fuse_reply_err(waiter->req, -waiter->result);
    if (waiter->result == 0)
        walrus_reader_abort(waiter->reader);
    atomic_store(&result, waiter->result);
    free(waiter);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *info)
{
    struct waiter *waiter = calloc(1, sizeof(*waiter));

    (void)ino;
    (void)size;
    (void)off;
    (void)info;
    CHECK(waiter != NULL);
    waiter->gate = gate;
    waiter->req = req;
    waiter->claim = claim;
    waiter->finish = finish;
    gate_park(waiter);
}

static ssize_t on_reply(int fd, struct iovec *iov, int count, void *userdata)
{
    struct fuse_out_header head;

    (void)fd;
    (void)count;
    (void)userdata;
    memcpy(&head, iov[0].iov_base, sizeof(head));
    if (head.unique == READ_UNIQUE)
        atomic_store(&reply, head.error);
    return head.len;
}

static ssize_t never_read(int fd, void *buf, size_t size, void *userdata)
{
    (void)fd;
    (void)buf;
    (void)size;
    (void)userdata;
    return -1;
}

static void setup(void)
{
    static const struct fuse_lowlevel_ops ops = {.read = on_read};
    static const struct fuse_custom_io io = {.writev = on_reply, .read = never_read};
    static char name[] = "test";
    char *argv[] = {name, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    const struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION, .minor = 31};
    struct walrus_group_stat stat;

    rig_init(&s);
    rig_open(&s);
    group = rig_group(&s, "t", "default");
    walrus_group_stat(group, &stat);
    mount.store = s.walrus;
    CHECK_INT(pool_create(&mount.pool), 0);
    CHECK_INT(gate_table_create(&mount.gates), 0);
    CHECK_INT(gate_get(&mount, group, 1, stat.id, &gate), 0);
    mount.session = fuse_session_new(&args, &ops, sizeof(ops), &mount);
    CHECK(mount.session != NULL);
    CHECK_INT(fuse_session_custom_io(mount.session, &io, open("/dev/null", O_RDWR)), 0);
    feed(FUSE_INIT, 2, &init, sizeof(init));
    atomic_store(&reply, 1);
}

static void teardown(void)
{
    gate_put(gate);
    pool_destroy(mount.pool);
    gate_table_destroy(mount.gates);
    fuse_session_destroy(mount.session);
    walrus_group_unref(group);
    rig_fini(&s);
}

TestSuite(gate, .init = setup, .fini = teardown, .timeout = 300);

static void wait_for_entry(void)
{
    const struct fuse_read_in body = {.size = 4096};

    feed(FUSE_READ, READ_UNIQUE, &body, sizeof(body));
    CHECK_INT(gate_waiting_count(&mount, 1, rig_group_stat(&s, "t", "default").id), 1);
    CHECK_INT(atomic_load(&reply), 1);
}

Test(gate, a_waiting_request_gets_the_entry_that_comes)
{
    wait_for_entry();
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(atomic_load(&result) != 1);
    CHECK_INT(atomic_load(&result), 0);
    CHECK_INT(atomic_load(&reply), 0);
}

/* The wait ends with EINTR, and the entry that comes is for somebody else. */
static void expect_interrupted(void)
{
    rig_append(&s, "t", 0, 100);
    CHECK_SOON(atomic_load(&result) != 1);
    CHECK_INT(atomic_load(&result), -EINTR);
    CHECK_INT(atomic_load(&reply), -EINTR);
    CHECK_INT(gate_waiting_count(&mount, 1, rig_group_stat(&s, "t", "default").id), 0);
    CHECK_INT(rig_group_stat(&s, "t", "default").claimed_count, 0);
    rig_expect(&s, "t", 0, 100);
}

Test(gate, an_interrupt_of_a_waiting_request_ends_it_and_takes_nothing)
{
    const struct fuse_interrupt_in body = {.unique = READ_UNIQUE};

    wait_for_entry();
    feed(FUSE_INTERRUPT, READ_UNIQUE + 2, &body, sizeof(body));
    expect_interrupted();
}

Test(gate, an_interrupt_while_an_entry_is_claimed_gives_it_back)
{
    interrupts = true;
    wait_for_entry();
    expect_interrupted();
}

Test(gate, an_interrupt_while_nothing_is_claimed_ends_the_wait)
{
    interrupts = misses = true;
    wait_for_entry();
    expect_interrupted();
}
