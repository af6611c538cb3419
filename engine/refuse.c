/* SPDX-License-Identifier: MIT */
/*
 * refuse.c - what makes a store be refused, looked at before its opening changes the first byte.
 *
 * Serves walrus.c, which takes the `clean` mark from SUPER next; uses format and os.  SUPER itself was
 * read before.  No locks: the store has no threads yet.
 *
 * Failure: -EBADMSG and -EPROTONOSUPPORT are reported here.  What only the opening proper finds (a
 * disk that fails, no memory) may leave the mark taken away, which costs a longer start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "os.h"
#include "store.h"

/* A file of the store is a regular one with one name.  `ret_fd`: open for reading, or NULL. */
static int plain_file(struct walrus *store, const char *name, int *ret_fd)
{
    struct stat st;
    int fd = os_open(store->dirfd, name, O_RDONLY | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd == -ENOENT ? WALRUS_EMPTY : fd;
    int r = os_fstat(fd, &st);
    if (r == 0 && (!S_ISREG(st.st_mode) || st.st_nlink != 1)) {
        r = -ELOOP;
        report(&store->reporter, WALRUS_ERROR, r, NULL, "%s: not a regular file with one name",
               name);
    }
    if (r == 0 && ret_fd)
        *ret_fd = fd;
    else
        os_close(fd);
    return r;
}

static int refuse_registry(struct walrus *store)
{
    struct format_registry copies[2] = {0};
    uint8_t salt[16];
    uint64_t next;
    int fd, bad = 0;
    int r = plain_file(store, "topics.db", &fd);
    if (r != 0)
        return MIN(r, 0);
    r = os_read_salvaging(fd, (uint8_t *)copies, sizeof(copies), 0);
    os_close(fd);
    for (int i = 0; r == 0 && i < 2; i++) {
        int one = format_registry_decode(&copies[i], sizeof(copies[i]),
                                         format_seed_registry(store->super.uuid), salt, &next);
        bad += one == -EBADMSG;
        if (one == -EPROTONOSUPPORT)
            r = one;
    }
    if (r == -EPROTONOSUPPORT)
        report(&store->reporter, WALRUS_ERROR, r, NULL,
               "topics.db: written by a newer version; nothing was changed");
    if (r < 0 || bad < 2)
        return r;
    report(
        &store->reporter, WALRUS_ERROR, -EBADMSG, NULL,
        "topics.db: both copies of its header are damaged; nothing was changed; walrusctl repair "
        "makes it anew");
    return -EBADMSG;
}

static int refuse_log(void *arg, const char *name, int type)
{
    uint32_t number;
    bool tmp;
    (void)type;
    if (!recover_log_number(name, &number, &tmp) || tmp)
        return 0;
    int r = plain_file(arg, name, NULL);
    return MIN(r, 0);
}

int refuse_check(struct walrus *store)
{
    int r = refuse_registry(store);
    if (r == 0)
        r = plain_file(store, "read_offset_idx_index.db", NULL);
    return r < 0 ? r : os_list(store->dirfd, refuse_log, store);
}
