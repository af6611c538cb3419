/* SPDX-License-Identifier: MIT */
/*
 * blob.c - the file `blob`: all that is written between open and close is one entry.
 *
 * The bytes go to their place as they come (walrus_blob_write).  The entry is made at the FLUSH of
 * the process that opened the file, once something was written, because only FLUSH can tell
 * close(2) of an error; children that inherited the descriptor send FLUSH, too, and count for
 * nothing.  What is left at RELEASE is committed then.  A process that a signal killed flushes like
 * any other, on its way out: /proc/PID/stat tells it, and the blob is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "produce.h"

#define PROCESS_SIGNALED 0x400 /* PF_SIGNALED of the kernel: ended by a signal */
#define EXIT_SIGNAL_MASK 0x7f  /* of an exit code: the signal, 0 after exit(2) */

/* Reads a small file of /proc about a thread.  False: it is gone, or in another pid namespace. */
static bool proc_read(pid_t tid, const char *name, char *ret_text, size_t room)
{
    char path[64];

    if (tid == 0)
        return false;
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, ret_text, room - 1);
    close(fd);
    if (n <= 0)
        return false;
    ret_text[n] = '\0';
    return true;
}

/* The process that a thread belongs to, 0: cannot be known. */
static pid_t process_of(pid_t tid)
{
    char text[1024];
    if (!proc_read(tid, "status", text, sizeof(text)))
        return 0;
    const char *line = strstr(text, "\nTgid:");
    return line != NULL ? (pid_t)strtol(line + 6, NULL, 10) : 0;
}

/* The number in a field of /proc/PID/stat, as proc(5) counts them; -1: it is not there. */
static long stat_field(const char *text, unsigned number)
{
    /* pid (name) state ppid ...; the name may hold anything */
    const char *at = strrchr(text, ')');
    for (unsigned i = 2; at != NULL && i < number; i++)
        at = strchr(at + 1, ' ');
    return at != NULL ? strtol(at, NULL, 10) : -1;
}

/* Whether a signal ended the thread; *ret_code: that of its process (0: none, or not to be seen). */
static bool thread_was_signaled(pid_t tid, long *ret_code)
{
    char text[1024];
    long flags = proc_read(tid, "stat", text, sizeof(text)) ? stat_field(text, 9) : -1;
    if (flags < 0 || (flags & PROCESS_SIGNALED) == 0)
        return false;
    *ret_code = stat_field(text, 52);
    return true;
}

/*
 * Whether a signal killed the process whose thread flushes.  The flag alone does not tell: when a
 * process exits, its other threads carry it as well, and often it is one of them that closes the
 * files.  The code tells, to who may see it, which takes the right that /proc/PID/io takes; who may
 * not goes by the first thread, which mostly is the one that exits.
 */
static bool process_was_killed(pid_t tid, pid_t process)
{
    char text[512];
    long code;

    if (!thread_was_signaled(tid, &code))
        return false;
    if (code > 0)
        return (code & EXIT_SIGNAL_MASK) != 0;
    if (proc_read(tid, "io", text, sizeof(text)))
        return false;
    return thread_was_signaled(process, &code);
}

void blob_open(struct handle *handle, pid_t tid)
{
    handle->blob.opener = process_of(tid);
}

/* Drops what was written, and takes nothing more.  Whoever goes on writing is told the same error
 * again: the first may have come in the middle of a write(2), which then only was a short one. */
static void blob_fail(struct handle *handle, int error)
{
    walrus_blob_abort(handle->blob.blob);
    handle->blob.blob = NULL;
    handle->blob.error = error;
}

int blob_write(struct handle *handle, const char *data, size_t size, uint64_t offset, bool durable)
{
    struct blob *blob = &handle->blob;
    struct walrus_topic *topic;
    int r;

    if (blob->error)
        return blob->error;
    if (blob->blob == NULL) {
        r = produce_topic(handle, &topic);
        if (r < 0)
            return r;
        r = walrus_blob_open(topic, &blob->blob);
        walrus_topic_unref(topic);
        if (r < 0) {
            blob->error = r; /* what comes would be an entry without its beginning */
            return r;
        }
    }
    uint64_t end = blob->base + walrus_blob_size(blob->blob);
    r = offset == end ? walrus_blob_write(blob->blob, data, size) : -EINVAL;
    if (r < 0)
        blob_fail(handle, r);
    else
        node_set_size(handle->mount, handle->node, end + size);
    blob->durable = blob->durable || durable;
    return r;
}

int blob_commit(struct handle *handle, bool durable)
{
    struct blob *blob = &handle->blob;
    if (blob->blob == NULL)
        return 0;
    blob->base += walrus_blob_size(blob->blob);
    int r = walrus_blob_commit(blob->blob, durable || blob->durable, NULL);
    blob->blob = NULL;
    blob->durable = false;
    blob->error = r;
    return r;
}

int blob_flush(struct handle *handle, pid_t tid, bool durable)
{
    struct blob *blob = &handle->blob;
    if (blob->blob == NULL && !blob->error)
        return 0;
    /* Where processes cannot be told apart, any close that follows data commits. */
    pid_t process = process_of(tid);
    if (blob->opener != 0 && process != 0 && process != blob->opener)
        return 0;
    if (process_was_killed(tid, process)) {
        if (blob->blob != NULL)
            log_write(WALRUS_WARNING, 0, NULL, "a blob was dropped: a signal killed its writer");
        blob_fail(handle, -EINTR);
        return 0;
    }
    return blob->error ? blob->error : blob_commit(handle, durable);
}

void blob_fini(struct handle *handle)
{
    walrus_blob_abort(handle->blob.blob);
    handle->blob.blob = NULL;
}
