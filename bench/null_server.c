/* SPDX-License-Identifier: MIT */
/*
 * null_server.c - a FUSE server that does nothing: the floor under everything that goes over a mount.
 *
 * usage: null_server LOOP SIZE MOUNTPOINT
 *
 * LOOP is `own` (the transport of walrusfs itself, linked from fs/), `uring` (its other one), `st` or
 * `mt10` (libfuse's loops, with one and with ten threads).  A name in the root that begins with `t`
 * is a directory, every other name a file that takes what is written and reads as SIZE zero bytes.
 * Files are opened with the flags that walrusfs uses, and the kernel is asked for the same features,
 * so that the same requests come.
 *
 * Ends when it is unmounted, or on SIGTERM.  Fails with a message and exit status 1.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "mount.h"
#include "transport.h"

static uint64_t file_size;
static const char *mountpoint;
static uint8_t zeros[MOUNT_REQUEST_SIZE_MAX];
static sem_t transport_end;

#define DIR_BIT (UINT64_C(1) << 40) /* in the number of a directory */

static void fill_attr(fuse_ino_t ino, struct stat *attr)
{
    bool dir = ino == FUSE_ROOT_ID || (ino & DIR_BIT) != 0;
    *attr = (struct stat){
        .st_ino = ino,
        .st_mode = dir ? S_IFDIR | 0755 : S_IFREG | 0666,
        .st_nlink = 1,
        .st_size = dir ? 0 : (off_t)file_size,
        .st_blksize = file_size > 0 ? MOUNT_REQUEST_SIZE_MAX : 4096, /* as `drain` and `lines` */
    };
}

static void null_init(void *arg, struct fuse_conn_info *conn)
{
    (void)arg;
    conn->want = conn->capable & (FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
    conn->max_write = MOUNT_REQUEST_SIZE_MAX;
    conn->max_background = 256;
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {.attr_timeout = 1000};
    uint64_t hash = parent;
    bool dir = parent == FUSE_ROOT_ID && *name == 't';

    while (*name != '\0')
        hash = hash * 33 + (uint8_t)*name++;
    entry.ino = (FUSE_ROOT_ID + 1 + hash % 1000000007) | (dir ? DIR_BIT : 0);
    fill_attr(entry.ino, &entry.attr);
    fuse_reply_entry(req, &entry);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct stat attr;

    (void)info;
    fill_attr(ino, &attr);
    fuse_reply_attr(req, &attr, 1000);
}

static void null_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *to, int what,
                         struct fuse_file_info *info)
{
    (void)to;
    (void)what;
    null_getattr(req, ino, info);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH};

    (void)ino;
    (void)info;
    fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                      struct fuse_file_info *info)
{
    uint64_t left = (uint64_t)off < file_size ? file_size - (uint64_t)off : 0;

    (void)ino;
    (void)info;
    size = size < sizeof(zeros) ? size : sizeof(zeros);
    fuse_reply_buf(req, (const char *)zeros, size < left ? size : left);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off,
                       struct fuse_file_info *info)
{
    (void)ino;
    (void)data;
    (void)off;
    (void)info;
    fuse_reply_write(req, size);
}

static void null_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
    (void)ino;
    (void)info;
    fuse_reply_err(req, 0);
}

static void null_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *info)
{
    (void)datasync;
    null_release(req, ino, info);
}

static const struct fuse_lowlevel_ops operations = {
    .init = null_init,
    .lookup = null_lookup,
    .getattr = null_getattr,
    .setattr = null_setattr,
    .open = null_open,
    .read = null_read,
    .write = null_write,
    .release = null_release,
    .fsync = null_fsync,
};

static void transport_ended(void *arg)
{
    (void)arg;
    sem_post(&transport_end);
}

static void end_on_signal(int number)
{
    (void)number;
    /* NOLINTNEXTLINE(bugprone-signal-handler): a system call and nothing else. */
    umount2(mountpoint, MNT_DETACH);
}

static int serve_own(struct fuse_session *fuse, bool uring)
{
    const struct transport_options options = {
        .fuse = fuse, .uring = uring, .ended = transport_ended};
    struct transport *transport;

    sem_init(&transport_end, 0, 0);
    int r = transport_start(&options, &transport);
    if (r < 0)
        return r;
    while (!transport_is_over(transport))
        sem_wait(&transport_end);
    transport_stop(transport);
    transport_destroy(transport);
    return 0;
}

/* What the kernel says to a read that an unmount overtakes is an error to libfuse. */
static int loop_result(int result)
{
    return result == -ECONNABORTED ? 0 : result;
}

static int serve_libfuse(struct fuse_session *fuse, unsigned threads)
{
    if (threads == 1)
        return loop_result(fuse_session_loop(fuse));
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (config == NULL)
        return -ENOMEM;
    fuse_loop_cfg_set_max_threads(config, threads);
    fuse_loop_cfg_set_idle_threads(config, threads);
    int r = fuse_session_loop_mt(fuse, config);
    fuse_loop_cfg_destroy(config);
    return loop_result(r);
}

static int serve(struct fuse_session *fuse, const char *loop)
{
    if (strcmp(loop, "own") == 0 || strcmp(loop, "uring") == 0)
        return serve_own(fuse, strcmp(loop, "uring") == 0);
    return serve_libfuse(fuse, strcmp(loop, "st") == 0 ? 1 : 10);
}

int main(int argc, char **argv)
{
    char *fuse_argv[] = {argv[0], (char *)"-o", (char *)"fsname=null,nosuid,nodev", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, fuse_argv);

    if (argc != 4)
        return fprintf(stderr, "usage: null_server own|uring|st|mt10 SIZE MOUNTPOINT\n"), 1;
    file_size = strtoull(argv[2], NULL, 10);
    mountpoint = argv[3];
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGTERM, end_on_signal);
    signal(SIGINT, end_on_signal);
    struct fuse_session *fuse = fuse_session_new(&args, &operations, sizeof(operations), NULL);
    if (fuse == NULL || fuse_session_mount(fuse, mountpoint) < 0)
        return fprintf(stderr, "null_server: cannot mount at %s\n", mountpoint), 1;
    int r = serve(fuse, argv[1]);
    fuse_session_unmount(fuse);
    fuse_session_destroy(fuse);
    if (r < 0)
        fprintf(stderr, "null_server: %s\n", strerror(-r));
    return r < 0;
}
