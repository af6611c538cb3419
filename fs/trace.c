/* SPDX-License-Identifier: MIT */
/*
 * trace.c - see trace.h.
 */
#include <linux/fuse.h>

#include "compiler.h"
#include "log.h"
#include "trace.h"

static const char *name_of(uint32_t opcode)
{
    static const char *const names[] = {
        [FUSE_LOOKUP] = "LOOKUP",
        [FUSE_FORGET] = "FORGET",
        [FUSE_GETATTR] = "GETATTR",
        [FUSE_SETATTR] = "SETATTR",
        [FUSE_SYMLINK] = "SYMLINK",
        [FUSE_MKNOD] = "MKNOD",
        [FUSE_MKDIR] = "MKDIR",
        [FUSE_UNLINK] = "UNLINK",
        [FUSE_RMDIR] = "RMDIR",
        [FUSE_RENAME] = "RENAME",
        [FUSE_LINK] = "LINK",
        [FUSE_OPEN] = "OPEN",
        [FUSE_READ] = "READ",
        [FUSE_WRITE] = "WRITE",
        [FUSE_STATFS] = "STATFS",
        [FUSE_RELEASE] = "RELEASE",
        [FUSE_FSYNC] = "FSYNC",
        [FUSE_SETXATTR] = "SETXATTR",
        [FUSE_GETXATTR] = "GETXATTR",
        [FUSE_LISTXATTR] = "LISTXATTR",
        [FUSE_FLUSH] = "FLUSH",
        [FUSE_INIT] = "INIT",
        [FUSE_OPENDIR] = "OPENDIR",
        [FUSE_READDIR] = "READDIR",
        [FUSE_RELEASEDIR] = "RELEASEDIR",
        [FUSE_FSYNCDIR] = "FSYNCDIR",
        [FUSE_GETLK] = "GETLK",
        [FUSE_SETLK] = "SETLK",
        [FUSE_SETLKW] = "SETLKW",
        [FUSE_CREATE] = "CREATE",
        [FUSE_INTERRUPT] = "INTERRUPT",
        [FUSE_DESTROY] = "DESTROY",
        [FUSE_POLL] = "POLL",
        [FUSE_BATCH_FORGET] = "BATCH_FORGET",
        [FUSE_FALLOCATE] = "FALLOCATE",
        [FUSE_READDIRPLUS] = "READDIRPLUS",
        [FUSE_RENAME2] = "RENAME2",
        [FUSE_LSEEK] = "LSEEK",
    };
    const char *name = opcode < ARRAY_COUNT(names) ? names[opcode] : NULL;
    return name != NULL ? name : "request";
}

void trace_request(const void *buffer, size_t size)
{
    const struct fuse_in_header *header = buffer;

    if (!log_shows(WALRUS_DEBUG) || size < sizeof(*header))
        return;
    log_write(WALRUS_DEBUG, 0, NULL, "%s (%u) of node %llu, pid %u, uid %u, gid %u, %u bytes",
              name_of(header->opcode), header->opcode, (unsigned long long)header->nodeid,
              header->pid, header->uid, header->gid, header->len);
}
