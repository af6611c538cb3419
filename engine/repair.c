/* SPDX-License-Identifier: MIT */
/*
 * repair.c - mends a store that nobody has open: see walrus_repair in walrus.h.
 *
 * Serves walrus.h; uses verify's files, which find what is wrong, know how it ought to be, and ask
 * check_mend() to write it.  Three passes: the first mends what it meets; repair_lost.c makes
 * anew what only shows when all was read; the last verifies, and tells what is left.
 *
 * What is about to be overwritten is first appended to .repair-N, durably, so that each change can
 * be taken back by hand, and so that a crash at any moment leaves either the old bytes or both.
 * Mends do not depend on each other: after a crash repair is run again.
 *
 * Failure: the first failed write ends the mending; what was mended before stays.
 */
#include "repair.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "os.h"
#include "store.h"

#define KEPT_COUNT_MAX 1000000u

/* ------------------------------------------------------------------------------ what was there -- */

/* Makes .repair-N, with the lowest number that is not taken. */
static int kept_open(struct mender *m)
{
    for (unsigned n = 1; n < KEPT_COUNT_MAX; n++) {
        char name[32];
        snprintf(name, sizeof(name), ".repair-%u", n);
        int fd = os_open(m->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd == -EEXIST)
            continue;
        if (fd < 0)
            return fd;
        m->kept_fd = fd;
        return os_fsync(m->dirfd);
    }
    return -EMFILE;
}

int mender_keep(struct mender *m, const char *file, int fd, uint64_t off, uint64_t size)
{
    char head[160];
    int r = m->kept_fd < 0 ? kept_open(m) : 0;
    if (r < 0)
        return r;
    uint8_t *old = malloc(size + 1);
    r = old ? os_read_salvaging(fd, old, size, off) : -ENOMEM;
    int n = snprintf(head, sizeof(head), "%s %" PRIu64 " %" PRIu64 "\n", file, off, size);
    if (r == 0)
        r = os_write(m->kept_fd, head, (size_t)n, m->kept_size, false);
    if (r == 0)
        r = os_write(m->kept_fd, old, size, m->kept_size + (uint64_t)n, false);
    if (r == 0)
        r = os_fsync(m->kept_fd);
    if (r == 0)
        m->kept_size += (uint64_t)n + size;
    free(old);
    return r;
}

/* ------------------------------------------------------------------------------------- mending -- */

static int mend_open(struct mender *m, const char *file, int *ret_fd)
{
    struct stat st;
    int fd = os_open(m->dirfd, file, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    int r = os_fstat(fd, &st);
    if (r == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1))
        r = -ELOOP;
    if (r < 0) {
        os_close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

bool check_mend(struct check *c, const char *file, uint64_t off, const void *data, size_t size)
{
    struct mender *m = c->mender;
    int fd = -1;
    if (!m || m->error)
        return false;
    int r = mend_open(m, file, &fd);
    if (r == 0)
        r = mender_keep(m, file, fd, off, size);
    if (r == 0)
        r = os_write(fd, data, size, off, false);
    if (r == 0)
        r = os_fsync(fd);
    os_close(fd);
    m->error = r;
    return r == 0;
}

bool check_mend_zero(struct check *c, const char *file, uint64_t off, uint64_t size)
{
    if (!c->mender || c->mender->error)
        return false;
    uint8_t *zero = calloc(1, size + 1);
    if (!zero)
        c->mender->error = -ENOMEM;
    bool done = zero && check_mend(c, file, off, zero, size);
    free(zero);
    return done;
}

bool check_mend_size(struct check *c, const char *file, uint64_t size)
{
    struct mender *m = c->mender;
    int fd = -1;
    if (!m || m->error)
        return false;
    int r = mend_open(m, file, &fd);
    if (r == 0)
        r = os_truncate(fd, size); /* only ever longer: there is nothing to keep */
    if (r == 0)
        r = os_fsync(fd);
    os_close(fd);
    m->error = r;
    return r == 0;
}

bool check_mend_bit(const struct check *c, void *data, size_t size,
                    bool (*valid)(void *arg, const void *data), void *arg)
{
    uint8_t *bytes = data;
    if (!c->mender || c->mender->error)
        return false;
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (valid(arg, data))
            return true;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return false;
}

/* --------------------------------------------------------------------------------------- whole -- */

static int lock_alone(struct mender *m)
{
    struct stat st;
    int r = os_open(m->dirfd, "LOCK", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (r < 0)
        return r;
    m->lock_fd = r;
    r = os_fstat(m->lock_fd, &st);
    if (r == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1))
        r = -ELOOP;
    if (r == 0 && flock(m->lock_fd, LOCK_EX | LOCK_NB) < 0)
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
    return r;
}

/* Is there a store?  LOCK must not be made where there is none. */
static int store_present(struct mender *m)
{
    int fd = os_open(m->dirfd, "SUPER", O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    os_close(fd);
    return 0;
}

/* What the metadata was when the store was closed is not what it is, nor will be: SUPER says that it is
 * to be walked from now on, as after an opening that was cut short.  Last, as what shows a torn change
 * of the registry to be damage is that the store was closed. */
static int settle_super(struct check *c)
{
    struct super_info info = c->super;
    struct format_super raw;
    bool done = true, told = c->result.damage_count > 0;
    if (!c->digest_wrong || info.clean != FORMAT_CLOSED)
        return 0;
    info.clean = FORMAT_OPENING;
    info.digest = 0;
    for (int copy = 0; copy < 2; copy++) {
        info.generation++;
        format_super_encode(&raw, &info);
        done =
            done && check_mend(c, "SUPER", (info.generation & 1) * sizeof(raw), &raw, sizeof(raw));
    }
    if (done && !told)
        check_damage(
            c,
            (struct walrus_damage){
                .cost = WALRUS_COST_OFFSET, .mended = true, .file = "SUPER", .block = -1},
            "the metadata is not what it was when the store was closed: some of it is older, "
            "and counts as it is from now on");
    return c->mender->error;
}

static int pass(struct mender *m, const struct walrus_verify_options *options, bool mend,
                struct walrus_verify_result *ret_result)
{
    struct check c = {
        .options = options, .mender = mend ? m : NULL, .dirfd = m->dirfd, .lock_fd = -1};
    int r = check_all(&c);
    if (r == 0 && mend)
        r = repair_lost(&c);
    if (r == 0 && mend)
        r = m->error;
    if (r == 0 && mend)
        r = settle_super(&c);
    check_free(&c);
    if (r == 0)
        *ret_result = c.result;
    return r;
}

int walrus_repair(const char *dir, const struct walrus_verify_options *options,
                  struct walrus_verify_result *ret_result)
{
    static const struct walrus_verify_options defaults;
    struct mender m = {.dirfd = -1, .lock_fd = -1, .kept_fd = -1};
    struct walrus_verify_result mended = {0}, left = {0};
    options = options ? options : &defaults;
    int r = store_directory(dir, options->key, false, &m.dirfd);
    if (r == 0)
        r = store_present(&m);
    if (r == 0)
        r = lock_alone(&m);
    if (r == 0) /* a repair may have died between a rename and that */
        r = os_fsync(m.dirfd);
    if (r == 0)
        r = pass(&m, options, true, &mended);
    if (r == 0)
        r = pass(&m, options, false, &left);
    os_close(m.kept_fd);
    os_close(m.lock_fd);
    os_close(m.dirfd);
    if (r < 0)
        return r;
    left.damage_count += mended.damage_count;
    left.mended_count += mended.mended_count;
    *ret_result = left;
    return 0;
}
