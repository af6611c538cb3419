/* SPDX-License-Identifier: MIT */
/*
 * test_hostile_files.c - what is no file in the place of each file of a store, and files without end:
 * nobody waits, nobody follows, and a store that is refused is as it was, to the byte.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "crc32c.h"
#include "format.h"
#include "rig.h"

static const char *const names[] = {"SUPER", "topics.db", "read_offset_idx_index.db",
                                    "wal_0001.log", "LOCK"};

static struct rig s;

static void setup(void)
{
    rig_init(&s);
    rig_open(&s);
    rig_append_many(&s, "t", 0, 3, 100);
    rig_close(&s);
}

static void teardown(void)
{
    rig_fini(&s);
}

TestSuite(hostile_files, .init = setup, .fini = teardown, .timeout = 300);

static void path_of(const struct rig *rig, const char *name, char *ret_path)
{
    CHECK(snprintf(ret_path, PATH_MAX, "%s/%s", rig->dir, name) < PATH_MAX);
}

/* Opens in every way; each refuses, or works.  Returns what opening for writing said. */
static int try_all(struct rig *rig)
{
    struct walrus_verify_result result;
    int r = walrus_verify(rig->dir, NULL, &result);
    CHECK(r <= 0);
    rig->options.read_only = true;
    if (rig_try_open(rig) == 0)
        rig_close(rig);
    rig->options.read_only = false;
    r = rig_try_open(rig);
    if (r == 0)
        rig_close(rig);
    return r;
}

Test(hostile_files, pipes_sockets_and_directories_are_refused_and_nobody_waits_for_them)
{
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        for (int kind = 0; kind < 3; kind++) {
            struct rig bad;
            char path[PATH_MAX];
            rig_copy(&s, &bad);
            path_of(&bad, names[i], path);
            CHECK_INT(unlink(path), 0);
            if (kind == 0) {
                CHECK_INT(mkfifo(path, 0600), 0);
            } else if (kind == 1) {
                CHECK_INT(mkdir(path, 0700), 0);
            } else {
                struct sockaddr_un addr = {.sun_family = AF_UNIX};
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                CHECK((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) <
                      sizeof(addr.sun_path));
                CHECK_INT(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
                close(fd);
            }
            int r = try_all(&bad);
            cr_assert(r < 0, "%s kind %d opens", names[i], kind);
            rig_fini(&bad);
        }
    }
}

Test(hostile_files, a_refused_store_is_as_it_was)
{
    static const uint8_t garbage[8192] = {1};
    for (int kind = 0; kind < 4; kind++) {
        struct rig bad, before;
        char path[PATH_MAX], other[PATH_MAX];
        struct format_registry head;
        struct super_info super;
        uint64_t next;
        uint8_t salt[16], raw[4096];
        rig_copy(&s, &bad);
        path_of(&bad, "topics.db", path);
        if (kind == 0) { /* both headers */
            disk_write(path, 0, garbage, sizeof(garbage));
        } else if (kind == 1) { /* a newer version of it */
            path_of(&bad, "SUPER", other);
            disk_read(other, 0, raw, sizeof(raw));
            CHECK_INT(format_super_decode(raw, sizeof(raw), &super), 0);
            uint32_t seed = format_seed_registry(super.uuid);
            disk_read(path, 0, &head, sizeof(head));
            CHECK_INT(format_registry_decode(&head, sizeof(head), seed, salt, &next), 0);
            head.version = le32_put(FORMAT_VERSION + 1);
            head.crc = le32_put(0);
            head.crc = le32_put(crc32c(seed, &head, sizeof(head)));
            disk_write(path, 0, &head, sizeof(head));
            disk_write(path, 4096, &head, sizeof(head));
        } else {
            path_of(&bad, kind == 2 ? "wal_0001.log" : "read_offset_idx_index.db", path);
            snprintf(other, sizeof(other), "%s.other", bad.dir);
            CHECK_INT(link(path, other), 0);
        }
        rig_copy(&bad, &before);
        char lock[PATH_MAX];
        int r = rig_try_open(&bad);
        CHECK_INT(r, kind == 0 ? -EBADMSG : kind == 1 ? -EPROTONOSUPPORT : -ELOOP);
        CHECK(rig_reports(&bad, WALRUS_ERROR) > 0);
        path_of(&bad, "LOCK", lock);
        CHECK_INT(unlink(lock), 0); /* its process id is all that may differ */
        path_of(&before, "LOCK", lock);
        CHECK_INT(unlink(lock), 0);
        CHECK(dir_same(bad.dir, before.dir));
        if (kind >= 2)
            CHECK_INT(unlink(other), 0);
        rig_fini(&before);
        rig_fini(&bad);
    }
}

Test(hostile_files, files_of_a_terabyte_take_no_time_and_no_memory)
{
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        struct rig bad;
        char path[PATH_MAX];
        rig_copy(&s, &bad);
        path_of(&bad, names[i], path);
        CHECK_INT(truncate(path, (off_t)1 << 40), 0);
        int r = try_all(&bad);
        CHECK(r == 0 || r == -EBADMSG);
        rig_fini(&bad);
    }
}

/* chattr +i on every file: where the filesystem has that. */
Test(hostile_files, a_store_of_immutable_files_is_refused_and_opens_read_only)
{
    int flags;
    bool able = true;
    for (int on = 1; on >= 0 && able; on--) {
        for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
            char path[PATH_MAX];
            path_of(&s, names[i], path);
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            CHECK(fd >= 0);
            able = able && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0;
            flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
            able = able && ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
            close(fd);
        }
        if (!able) {
            skip_note("files cannot be made immutable here");
            return;
        }
        int r = rig_try_open(&s);
        CHECK(on ? r == -EPERM || r == -EACCES : r == 0);
        if (r == 0)
            rig_close(&s);
        s.options.read_only = true;
        rig_open(&s);
        rig_expect_at(&s, "t", 2, 100);
        rig_close(&s);
        s.options.read_only = false;
    }
}
