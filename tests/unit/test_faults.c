/* SPDX-License-Identifier: MIT */
/*
 * test_faults.c - full disks, failing disks and filesystems that a store refuses: what each call
 * returns, what stays usable, and that nothing acknowledged is lost.
 *
 * Mounts are made in a mount namespace of the test's own process and vanish with it; what needs
 * root says so and is skipped without.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "faultos.h"
#include "rig.h"

static struct rig s;

static void setup(void)
{
    rig_init(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(faults, .init = setup, .fini = teardown, .timeout = 300);

/* A mount namespace of our own; false: not allowed here. */
static bool enter_mount_namespace(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        skip_note("needs the right to mount");
        return false;
    }
    return true;
}

/* --------------------------------------------------------------------------- filesystems, space --
 */

/* Answers the kernel's questions about a filesystem that is one empty directory, until unmounted.
 */
static void *serve_empty_fuse(void *arg)
{
    static char request[1 << 18];
    int fd = *(int *)arg;
    struct fuse_in_header *in = (struct fuse_in_header *)request;

    for (;;) {
        struct {
            struct fuse_out_header header;
            union {
                struct fuse_init_out init;
                struct fuse_attr_out attr;
                struct fuse_open_out open;
                struct fuse_statfs_out statfs;
            } body;
        } out = {0};
        size_t size = 0;
        if (read(fd, request, sizeof(request)) < (ssize_t)sizeof(*in)) {
            if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
                continue;
            return NULL;
        }
        if (in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET)
            continue;
        if (in->opcode == FUSE_INIT) {
            out.body.init.major = FUSE_KERNEL_VERSION;
            out.body.init.minor = 31;
            out.body.init.max_write = 65536;
            size = sizeof(out.body.init);
        } else if (in->opcode == FUSE_GETATTR) {
            out.body.attr.attr.ino = 1;
            out.body.attr.attr.mode = S_IFDIR | 0755;
            out.body.attr.attr.nlink = 2;
            size = sizeof(out.body.attr);
        } else if (in->opcode == FUSE_OPENDIR) {
            size = sizeof(out.body.open);
        } else if (in->opcode == FUSE_STATFS) {
            size = sizeof(out.body.statfs);
        } else if (in->opcode == FUSE_LOOKUP) {
            out.header.error = -ENOENT;
        } else if (in->opcode != FUSE_READDIR) { /* which has nothing to give */
            out.header.error = -ENOSYS;
        }
        out.header.unique = in->unique;
        out.header.len = (uint32_t)(sizeof(out.header) + size);
        if (write(fd, &out, out.header.len) < 0 && errno == ENODEV)
            return NULL;
    }
}

Test(faults, a_store_whose_directory_cannot_be_made_durable_is_not_opened)
{
    struct rig inner = s;

    CHECK(strlen(s.dir) + 4 < sizeof(inner.dir));
    strcat(inner.dir, "/new");
    faultos_install();
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC, .nth = 1, .error = EIO});
    CHECK_INT(rig_try_open(&inner), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    faultos_disarm();
    faultos_remove();
    rig_open(&inner); /* it is there by now, and empty */
    rig_close(&inner);
}

Test(faults, a_fuse_filesystem_is_emediumtype)
{
    char text[128];
    pthread_t thread;
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

    if (fd < 0 || !enter_mount_namespace()) {
        skip_note("needs /dev/fuse");
        return;
    }
    snprintf(text, sizeof(text), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    if (mount("walrus-test", s.dir, "fuse", MS_NOSUID | MS_NODEV, text) != 0) {
        skip_note("cannot mount a FUSE filesystem");
        return;
    }
    CHECK_INT(pthread_create(&thread, NULL, serve_empty_fuse, &fd), 0);
    CHECK_INT(rig_try_open(&s), -EMEDIUMTYPE);
    CHECK_INT(umount2(s.dir, MNT_FORCE | MNT_DETACH), 0);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(close(fd), 0);
}

/* Fills the small filesystem that s.dir is now, then uses the store while it is full. */
static void expect_full_disk_survived(void)
{
    uint64_t count = 0;
    int rc;

    rig_open(&s);
    rig_append_many(&s, "other", 0, 3, 100);
    while ((rc = rig_try_append(&s, "t", count, 8000)) == 0)
        CHECK(++count < 10000);
    CHECK_INT(rc, -ENOSPC);
    CHECK(count > 20);
    CHECK_INT(rig_try_append(&s, "t", count, 60000), -ENOSPC);
    CHECK_INT(rig_try_batch(&s, "t", count, 100, 8000), -ENOSPC);
    CHECK_INT(rig_topic_stat(&s, "t").tail_seq, count);
    CHECK(!rig_topic_stat(&s, "t").degraded);

    rig_append_many(&s, "other", 3, 3, 100); /* in the space that it holds */
    rig_expect_many(&s, "other", 0, 6, 100);
    rig_expect_many(&s, "t", 0, count, 8000);
    CHECK_SOON(rig_try_append(&s, "t", count, 8000) == 0);
    rig_expect(&s, "t", count, 8000);
    rig_reopen(&s);
    rig_expect_empty(&s, "t");
    rig_append(&s, "t", count + 1, 8000);
    rig_expect(&s, "t", count + 1, 8000);
}

Test(faults, a_full_tmpfs_is_enospc_and_taking_makes_room)
{
    if (!enter_mount_namespace())
        return;
    CHECK_INT(mount("tmpfs", s.dir, "tmpfs", 0, "size=2m,mode=700"), 0);
    expect_full_disk_survived();
    rig_close(&s);
    CHECK_INT(umount2(s.dir, MNT_DETACH), 0);
}

/* A new ext4 of 8 MiB on s.dir; false: not possible here. */
static bool mount_small_ext4(const char *image)
{
    char command[PATH_MAX];

    if (!enter_mount_namespace())
        return false;
    snprintf(command, sizeof(command),
             "truncate -s 8M %s && mkfs.ext4 -q -F -O ^has_journal %s && "
             "mount -o loop %s %s && rmdir %s/lost+found",
             image, image, image, s.dir, s.dir);
    if (system(command) == 0)
        return true;
    skip_note("cannot mount a loop device");
    return false;
}

Test(faults, a_full_ext4_is_enospc_and_taking_makes_room)
{
    char image[RIG_DIR_SIZE + 16];

    snprintf(image, sizeof(image), "%s.img", s.dir);
    if (mount_small_ext4(image)) {
        expect_full_disk_survived();
        rig_close(&s);
        CHECK_INT(umount2(s.dir, MNT_DETACH), 0);
    }
    unlink(image);
}

Test(faults, a_topic_can_be_removed_from_a_full_disk)
{
    uint64_t count = 0;

    if (!enter_mount_namespace())
        return;
    CHECK_INT(mount("tmpfs", s.dir, "tmpfs", 0, "size=2m,mode=700"), 0);
    rig_open(&s);
    while (rig_try_append(&s, "t", count, 4000) == 0)
        count++;
    while (rig_try_append(&s, "t", count, 10) == 0)
        count++;
    struct walrus_topic *topic = rig_topic(&s, "t");
    struct walrus_group *group = rig_group(&s, "t", "default");
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), 0);
    CHECK_INT(walrus_topic_remove(topic), 0);
    walrus_group_unref(group);
    walrus_topic_unref(topic);
    CHECK_SOON(rig_try_append(&s, "u", 0, 4000) == 0);
    rig_close(&s);
    CHECK_INT(umount2(s.dir, MNT_DETACH), 0);
}

/* From the nth on, space in log files is refused: it is taken by writing zeros, or by fallocate. */
static void arm_full_disk(int error, unsigned nth, bool forever)
{
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE,
                                       .nth = nth,
                                       .error = error,
                                       .forever = forever,
                                       .file = "wal_*.log"});
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ALLOCATE, .nth = nth, .error = error, .forever = forever, .file = "wal_*"});
}

Test(faults, failed_allocations_are_reported_as_they_are_and_change_nothing)
{
    const int errors[] = {ENOSPC, EDQUOT};
    const char *topics[] = {"first", "second"};

    faultos_install();
    rig_open(&s);
    for (size_t i = 0; i < 2; i++) {
        const char *topic = topics[i];
        uint64_t count = 1;
        int rc;
        rig_append(&s, topic, 0, 5000);
        arm_full_disk(errors[i], 1, true);
        while ((rc = rig_try_append(&s, topic, count, 5000)) == 0)
            CHECK(++count < 1000);
        CHECK_INT(rc, -errors[i]);
        CHECK_INT(rig_try_append(&s, topic, count, 200000), -errors[i]);
        CHECK_INT(rig_topic_stat(&s, topic).tail_seq, count);
        faultos_disarm();
        rig_append(&s, topic, count, 5000);
        rig_append(&s, topic, count + 1, 200000);
        rig_append(&s, topic, count + 2, 100);
        rig_expect_many(&s, topic, 0, count + 1, 5000);
        rig_expect(&s, topic, count + 1, 200000);
        rig_expect(&s, topic, count + 2, 100);
    }
    rig_close(&s);
    faultos_remove();
}

Test(faults, nothing_is_stored_where_disk_space_cannot_be_taken)
{
    uint64_t count = 1;
    int rc;

    faultos_install();
    rig_open(&s);
    rig_append(&s, "t", 0, 5000);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ALLOCATE, .nth = 1, .error = ENOSPC, .forever = true, .file = "wal_*"});
    while ((rc = rig_try_append(&s, "t", count, 5000)) == 0)
        CHECK(++count * 5000 <= RIG_BLOCK_SIZE);
    CHECK_INT(rc, -ENOSPC);
    CHECK_INT(rig_try_append(&s, "t", count, 200000), -ENOSPC);
    faultos_disarm();
    rig_append(&s, "t", count, 5000);
    rig_expect_many(&s, "t", 0, count + 1, 5000);
    rig_close(&s);
    faultos_remove();
}

/* -------------------------------------------------------------------------------- failing disks --
 */

Test(faults, a_failed_sync_of_data_is_final_until_the_store_is_opened_anew)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    struct walrus_topic *topic = rig_topic(&s, "t");
    CHECK_INT(walrus_topic_sync(topic), 0);
    rig_append_many(&s, "t", 3, 2, 100);
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .file = "wal_*"});
    CHECK_INT(walrus_topic_sync(topic), -EIO);
    CHECK_INT(faultos_failed_count(), 1);

    CHECK_INT(walrus_topic_sync(topic), -EIO); /* though the disk is well again */
    CHECK_INT(walrus_sync(s.walrus), -EIO);
    CHECK_INT(rig_try_append(&s, "t", 5, 100), -EIO);
    CHECK(rig_topic_stat(&s, "t").degraded);
    CHECK(rig_stat(&s).degraded);
    CHECK_INT(rig_topic_stat(&s, "t").durable_seq, 3);
    CHECK(rig_reports(&s, WALRUS_ERROR) > 0);
    rig_expect_at(&s, "t", 2, 100);
    walrus_topic_unref(topic);

    struct walrus *walrus = s.walrus;
    s.walrus = NULL;
    CHECK_INT(walrus_close(walrus), -EIO);
    faultos_remove();
    rig_open(&s);
    CHECK(!rig_stat(&s).degraded);
    uint64_t tail = rig_topic_stat(&s, "t").tail_seq;
    CHECK(tail >= 3 && tail <= 5);
    rig_append(&s, "t", tail, 100);
    rig_expect_many(&s, "t", 0, tail + 1, 100);
}

Test(faults, a_log_file_whose_making_failed_half_way_is_made_at_the_next_attempt)
{
    faultos_install();
    rig_open(&s);
    walrus_topic_unref(rig_topic(&s, "t"));
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_FSYNC, .nth = 1, .error = EIO, .forever = true, .file = "wal_*.tmp"});
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_UNLINK, .nth = 1, .error = EIO, .forever = true, .file = "wal_*.tmp"});
    CHECK_INT(rig_try_append(&s, "t", 0, 100), -EIO);
    CHECK_INT(rig_try_append(&s, "t", 0, 100), -EIO); /* not because the name is taken */
    faultos_disarm();
    rig_append(&s, "t", 0, 100);
    rig_expect(&s, "t", 0, 100);
    rig_close(&s);
    faultos_remove();
}

Test(faults, a_disk_that_was_full_while_a_consumed_topic_began_a_new_block_costs_nothing)
{
    unsigned failed = 0;

    faultos_install();
    s.options.fsync_ms = 1;
    for (unsigned nth = 1; nth <= 8; nth++) {
        rig_open(&s);
        rig_append(&s, "t", nth - 1, 20000);
        CHECK_INT(walrus_sync(s.walrus), 0);
        faultos_arm(&(struct faultos_rule){.kind = FAULTOS_WRITE,
                                           .nth = nth,
                                           .error = ENOSPC,
                                           .forever = true,
                                           .file = "wal_*.log"});
        rig_expect(&s, "t", nth - 1, 20000);
        for (int i = 0; i < 200 && faultos_failed_count() == failed; i++)
            sleep_ms(1);
        sleep_ms(50); /* for those who try again */
        failed = (unsigned)faultos_failed_count();
        faultos_disarm();
        rig_close(&s); /* 0: nothing is missing */
    }
    CHECK(failed > 0);
    faultos_remove();
    unsigned errors = rig_reports(&s, WALRUS_ERROR); /* blocks that could not be marked free */
    rig_open(&s);
    rig_expect_empty(&s, "t");
    CHECK_INT(rig_reports(&s, WALRUS_ERROR), errors);
}

/* Fills two log files more than are kept, and consumes it all. */
static void fill_and_consume(uint64_t first)
{
    rig_append_many(&s, "t", first, 4 * RIG_BLOCKS_PER_FILE, 60000);
    rig_expect_many(&s, "t", first, 4 * RIG_BLOCKS_PER_FILE, 60000);
}

Test(faults, a_free_log_file_that_cannot_be_removed_is_removed_by_the_next_opening)
{
    faultos_install();
    rig_open(&s);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_UNLINK, .nth = 1, .error = EIO, .forever = true, .file = "wal_*.log"});
    fill_and_consume(0);
    CHECK_SOON(rig_reported(&s, ".log: cannot be removed"));
    rig_append(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 100);
    rig_expect(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 100);
    rig_close(&s);
    faultos_remove();
    CHECK(dir_file_count(s.dir, ".log") >= 4);
    unsigned warnings = s.report_count[WALRUS_WARNING];
    rig_open(&s);
    CHECK_SOON(dir_file_count(s.dir, ".log") <= 2);
    CHECK_INT(s.report_count[WALRUS_WARNING], warnings);
    CHECK_INT(s.report_count[WALRUS_ERROR], 0);
    rig_expect_empty(&s, "t");
}

Test(faults, log_files_whose_removal_may_not_last_are_reported_and_no_obstacle)
{
    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4 * RIG_BLOCKS_PER_FILE, 60000);
    CHECK_INT(walrus_sync(s.walrus), 0);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_FSYNC,
                                       .nth = 1,
                                       .error = EIO,
                                       .forever = true,
                                       .file = strrchr(s.dir, '/') + 1});
    rig_expect_many(&s, "t", 0, 4 * RIG_BLOCKS_PER_FILE, 60000);
    CHECK_SOON(rig_reported(&s, "the directory cannot be synced"));
    CHECK(!rig_stat(&s).degraded);
    faultos_disarm();
    rig_append(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 100);
    rig_reopen(&s);
    rig_expect(&s, "t", 4 * RIG_BLOCKS_PER_FILE, 100);
    rig_close(&s);
    faultos_remove();
}

Test(faults, with_fsync_each_a_failed_sync_fails_the_append)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_EACH;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    faultos_arm(
        &(struct faultos_rule){.kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .file = "wal_*"});
    CHECK_INT(rig_try_append(&s, "t", 3, 100), -EIO);
    CHECK_INT(rig_try_append(&s, "t", 3, 100), -EIO);
    CHECK_INT(faultos_failed_count(), 1);
    struct walrus *walrus = s.walrus;
    s.walrus = NULL;
    CHECK_INT(walrus_close(walrus), -EIO);
    faultos_remove();
    rig_open(&s);
    rig_expect_many(&s, "t", 0, 3, 100);
}

Test(faults, an_append_that_says_that_the_disk_is_full_has_left_nothing)
{
    faultos_install();
    s.options.fsync = WALRUS_FSYNC_EACH;
    s.options.block_size = 65536;
    rig_open(&s);
    uint64_t failed_count = 1;
    for (unsigned nth = 1; failed_count > 0; nth++) {
        char name[16];
        snprintf(name, sizeof(name), "t%u", nth);
        rig_append_many(&s, name, 0, 3, 20000); /* the next one begins a block */
        faultos_forget_counts();
        faultos_arm(&(struct faultos_rule){
            .kind = FAULTOS_WRITE, .nth = nth, .error = ENOSPC, .file = "wal_*.log"});
        int r = rig_try_append(&s, name, 3, 20000);
        failed_count = faultos_failed_count();
        faultos_disarm();
        uint64_t tail = rig_topic_stat(&s, name).tail_seq;
        CHECK(r == 0 ? tail == 4 : r == -ENOSPC ? tail == 3 : r == -EIO);
        CHECK(failed_count > 0 || r == 0);
        rig_append(&s, name, tail, 100); /* and it goes on */
    }
    rig_close(&s);
    faultos_remove();
}

/* Takes entry `seq` as the mount does: what was read was delivered. */
static int take_as_mount(struct walrus_group *group, uint64_t seq)
{
    struct walrus_reader *reader;
    uint8_t data[100];
    int r = walrus_group_claim(group, 1, SIZE_MAX, &reader);

    if (r != 0)
        return r;
    CHECK_INT(walrus_reader_seq(reader), seq);
    ssize_t n = walrus_reader_read(reader, data, sizeof(data), 0, NULL);
    if (n >= 0) {
        CHECK_INT(n, sizeof(data));
        CHECK(payload_same(s.seed, "t", seq, data, sizeof(data)));
        int ignored = walrus_reader_delivered(reader, sizeof(data)); /* nobody can be told */
        (void)ignored;
        CHECK_INT(walrus_reader_read(reader, data, sizeof(data), 0, NULL),
                  sizeof(data)); /* again */
    }
    walrus_reader_abort(reader);
    return n < 0 ? (int)n : 0;
}

/* Ten entries of 100 bytes, of which four are durable, and every sync of a file fails from now on. */
static struct walrus_group *make_failing(const char *file, uint32_t every)
{
    faultos_install();
    s.options.consistency = WALRUS_AT_LEAST_ONCE;
    s.options.persist_every = every;
    s.options.fsync = WALRUS_FSYNC_NEVER;
    rig_open(&s);
    rig_append_many(&s, "t", 0, 4, 100);
    CHECK_INT(walrus_sync(s.walrus), 0);
    rig_append_many(&s, "t", 4, 6, 100);
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY_SYNC, .nth = 1, .error = EIO, .forever = true, .file = file});
    return rig_group(&s, "t", "default");
}

/* The process dies, and the disk is well again. */
static void expect_again_from(struct walrus_group *group, uint64_t seq)
{
    struct rig killed;

    rig_copy(&s, &killed);
    walrus_group_unref(group);
    rig_close_degraded(&s);
    faultos_remove();
    rig_open(&killed);
    rig_expect_many(&killed, "t", seq, 10 - seq, 100);
    rig_fini(&killed);
}

Test(faults, at_least_once_hands_out_no_more_than_may_come_again_when_data_cannot_be_synced)
{
    struct walrus_group *group = make_failing("wal_*", 3);

    for (uint64_t seq = 0; seq < 6; seq++)
        CHECK_INT(take_as_mount(group, seq), 0); /* 0 to 2 are stored, 3 to 5 cannot be */
    for (int i = 0; i < 3; i++)
        CHECK_INT(take_as_mount(group, 6), -EIO);
    CHECK_INT(rig_group_stat(&s, "t", "default").claimed_count, 0); /* it went back */
    rig_expect_at(&s, "t", 9, 100);
    expect_again_from(group, 3);
}

Test(faults, at_least_once_hands_out_no_more_than_may_come_again_when_offsets_cannot_be_stored)
{
    struct walrus_group *group = make_failing("read_offset_idx_index.db", 3);

    for (uint64_t seq = 0; seq < 3; seq++)
        CHECK_INT(take_as_mount(group, seq), 0);
    for (int i = 0; i < 3; i++)
        CHECK_INT(take_as_mount(group, 3), -EIO);
    expect_again_from(group, 0);
}

Test(faults, at_least_once_a_claim_of_all_ends_where_no_more_may_come_again)
{
    struct walrus_group *group = make_failing("wal_*", 3);
    struct walrus_reader *reader;
    uint8_t data[100];
    uint64_t at = 0;

    CHECK_INT(walrus_group_claim(group, SIZE_MAX, SIZE_MAX, &reader), 0);
    while (walrus_reader_read(reader, data, sizeof(data), at, NULL) == sizeof(data)) {
        at += sizeof(data);
        int ignored = walrus_reader_delivered(reader, at);
        (void)ignored;
    }
    CHECK_INT(at, 600);
    CHECK_INT(walrus_reader_read(reader, data, sizeof(data), at, NULL), -EIO);
    CHECK_INT(walrus_reader_read(reader, data, sizeof(data), 0, NULL), sizeof(data));
    walrus_reader_abort(reader);
    expect_again_from(group, 3);
}

Test(faults, a_seek_that_cannot_be_stored_moves_nothing)
{
    struct walrus_group *group = make_failing("wal_*", 3);

    CHECK_INT(take_as_mount(group, 0), 0);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 8), -EIO);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 1);
    CHECK_INT(rig_group_stat(&s, "t", "default").pending_count, 9);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 4), 0); /* up to there all is durable */
    CHECK_INT(take_as_mount(group, 4), 0);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_BEGIN, 0), 0);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_END, 0), -EIO);
    CHECK_INT(take_as_mount(group, 0), 0);
    expect_again_from(group, 0);
}

Test(faults, a_seek_whose_offset_is_lost_on_the_way_leaves_what_was_stored)
{
    struct walrus_group *group = make_failing("read_offset_idx_index.db", 1);

    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 2), -EIO);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 0);
    CHECK_INT(take_as_mount(group, 0), -EIO);
    CHECK_INT(walrus_group_seek(group, WALRUS_SEEK_TO, 0), -EIO);
    expect_again_from(group, 0);
}

Test(faults, strict_takes_nothing_when_the_offset_cannot_be_stored)
{
    struct walrus_entry entry = {.data = &s};
    uint64_t seq;

    faultos_install();
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    rig_expect(&s, "t", 0, 100);
    faultos_arm(&(struct faultos_rule){.kind = FAULTOS_ANY_SYNC,
                                       .nth = 1,
                                       .error = EIO,
                                       .forever = true,
                                       .file = "read_offset_idx_index.db"});
    CHECK_INT(walrus_read_next(s.walrus, "t", &entry), -EIO);
    CHECK(entry.data == &s); /* left alone */
    CHECK_INT(rig_take(&s, "t", &seq), -EIO);
    CHECK_INT(rig_group_stat(&s, "t", "default").offset, 1);
    CHECK_INT(rig_try_append(&s, "t", 3, 100), 0);
    struct walrus *walrus = s.walrus;
    s.walrus = NULL;
    (void)walrus_close(walrus);
    faultos_remove();
    rig_open(&s);
    CHECK_INT(rig_take(&s, "t", &seq), 0);
    CHECK(seq >= 1); /* never 0 again */
}

/* A few of everything; each call may fail, none may do half. */
struct sweep {
    struct rig rig;
    unsigned nth; /* which call fails, with what, and whether all after it do */
    int error;
    bool forever;
    uint64_t acked_end; /* entries below were acknowledged */
    uint64_t taken_end; /* entries below were handed out */
};

/* As CHECK, and says which run it was. */
static void sweep_check(const struct sweep *sweep, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "nth=%u error=%s forever=%d\n%s", sweep->nth, strerrorname_np(sweep->error),
            sweep->forever, sweep->rig.report_text);
    check_fail(__FILE__, __LINE__, what);
}

static void sweep_append(struct sweep *sweep, size_t size)
{
    uint64_t seq = rig_topic_stat(&sweep->rig, "t").tail_seq;

    if (rig_try_append(&sweep->rig, "t", seq, size) == 0)
        sweep->acked_end = seq + 1;
}

static void sweep_work(struct sweep *sweep)
{
    struct walrus_topic *topic = rig_topic(&sweep->rig, "t");
    struct walrus_group *group = NULL;
    uint64_t seq;

    sweep_append(sweep, 100);
    sweep_append(sweep, 70000);
    if (rig_take(&sweep->rig, "t", &seq) == 0) {
        CHECK(seq >= sweep->taken_end);
        sweep->taken_end = seq + 1;
    }
    sweep_append(sweep, 300);
    if (walrus_group_create(topic, "g", NULL, &group) == 0)
        walrus_group_unref(group);
    if (rig_try_append(&sweep->rig, "u", 0, 100) == 0) {
        if (rig_take(&sweep->rig, "u", &seq) == 0)
            CHECK_INT(seq, 0);
    }
    (void)!walrus_topic_sync(topic);
    sweep_append(sweep, 50);
    walrus_topic_unref(topic);
}

static void sweep_verify(struct sweep *sweep)
{
    struct rig *rig = &sweep->rig;
    struct walrus_topic_stat stat;
    uint64_t seq = 0, next;

    sweep_check(sweep, rig_try_open(rig) == 0, "the store opens again");
    next = rig_group_stat(rig, "t", "default").offset;
    stat = rig_topic_stat(rig, "t");
    sweep_check(sweep, next >= sweep->taken_end, "nothing is delivered twice");
    sweep_check(sweep, next <= sweep->taken_end + 1, "nothing is skipped");
    sweep_check(sweep, stat.tail_seq >= sweep->acked_end, "all that was acknowledged is there");
    for (; next < stat.tail_seq; next++) {
        sweep_check(sweep, rig_take(rig, "t", &seq) == 0, "all that is there can be taken");
        sweep_check(sweep, seq == next, "in order");
    }
    rig_expect_empty(rig, "t");
    rig_append(rig, "t", stat.tail_seq, 100);
    rig_expect(rig, "t", stat.tail_seq, 100);
    rig_close(rig);
}

/* One run in which call `nth` fails; true: there was such a call. */
static bool sweep_run(unsigned nth, int error, bool forever)
{
    static struct sweep sweep;

    sweep.nth = nth;
    sweep.error = error;
    sweep.forever = forever;
    sweep.acked_end = 5;
    sweep.taken_end = 2;
    rig_copy(&s, &sweep.rig);
    faultos_install();
    faultos_arm(&(struct faultos_rule){
        .kind = FAULTOS_ANY, .nth = nth, .error = error, .forever = forever});
    if (rig_try_open(&sweep.rig) == 0) {
        sweep_work(&sweep);
        struct walrus *walrus = sweep.rig.walrus;
        sweep.rig.walrus = NULL;
        (void)walrus_close(walrus);
    }
    uint64_t failed = faultos_failed_count();
    faultos_remove();
    sweep_verify(&sweep);
    rig_fini(&sweep.rig);
    return failed != 0;
}

Test(faults, whichever_system_call_fails_nothing_acknowledged_is_lost_or_delivered_twice)
{
    const int errors[] = {EIO, ENOSPC};
    struct rig base;

    rig_open(&s);
    rig_append_many(&s, "t", 0, 5, 100);
    rig_expect_many(&s, "t", 0, 2, 100);
    rig_copy(&s, &base); /* not closed: recovery is swept too */
    rig_close(&s);
    rig_fini(&s);
    s = base;
    s.options.report_arg = &s;
    for (unsigned which = 0; which < 4; which++) {
        int error = errors[which / 2];
        bool forever = which % 2 != 0;
        unsigned nth = 1;
        while (sweep_run(nth, error, forever)) {
            nth++;
            CHECK(nth < 2000);
        }
        CHECK(nth > 10);
    }
}
