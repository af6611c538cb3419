/* SPDX-License-Identifier: MIT */
/*
 * durable.c - a description of the file for each sync that runs, and the first failure of any.
 *
 * Serves space, offsets, syncer and append; one struct durable for each file.  Uses os.
 *
 * An error is told to every description that was open when it came, and a sync looks at its own: so
 * a sync that is told 0 was not hit, whatever other syncs of the file were told.  One gap is left:
 * a description that is opened later is not told of errors that came before and that somebody, maybe
 * another process, was told of already.  The first view was there before anything was written.  So
 * another view is opened only by the thread that is about to sync by the first one, and is used only
 * after that sync has ended: what came before the opening, that sync was told of.
 *
 * Failure: `error` never goes back to 0.  Where no further view can be opened (descriptors, address
 * space) syncs wait for one another.  Extra views never take the descriptors of the upper half of
 * what the process may have: log files need these.
 */
#include "durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#include "os.h"

void durable_init(struct durable *durable)
{
    *durable = (struct durable){.dirfd = -1};
    lock_init(&durable->lock, LOCK_DURABLE);
    cond_init(&durable->cond);
}

static void view_close(struct durable *durable, struct durable_view *view)
{
    os_unmap(view->map, durable->map_size);
    (void)os_close(view->fd); /* each sync by it has ended and was told */
}

void durable_fini(struct durable *durable)
{
    for (uint32_t i = 0; i < durable->count; i++) {
        WALRUS_ASSERT(!durable->views[i].busy);
        if (i > 0)
            view_close(durable, &durable->views[i]);
    }
    lock_fini(&durable->lock);
}

void durable_attach(struct durable *durable, int dirfd, const char *name, int fd, uint8_t *map,
                    uint64_t map_size)
{
    WALRUS_ASSERT(durable->count == 0);
    durable->dirfd = dirfd;
    int size = snprintf(durable->name, sizeof(durable->name), "%s", name);
    WALRUS_ASSERT(size > 0 && (size_t)size < sizeof(durable->name));
    durable->map_size = map_size;
    durable->views[0] = (struct durable_view){.fd = fd, .map = map};
    durable->count = 1;
}

/* That the name is still that of the file, and that there are descriptors to spare. */
static int view_check(const struct durable *durable, int fd)
{
    struct stat first, st;
    struct rlimit limit;
    int r = os_fstat(durable->views[0].fd, &first);
    if (r == 0)
        r = os_fstat(fd, &st);
    if (r == 0 && (first.st_dev != st.st_dev || first.st_ino != st.st_ino))
        r = -ESTALE;
    if (r == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd >= limit.rlim_cur / 2)
        r = -EMFILE;
    return r;
}

/* Opens the next view.  By the owner of the first one, which makes it the only one to do so. */
static void view_open(struct durable *durable)
{
    struct durable_view view = {0};
    /* A mapping by a descriptor that cannot write would not be synced: O_RDWR, though all it is for
     * is msync. */
    int r = os_open(durable->dirfd, durable->name, O_RDWR | O_NOFOLLOW, 0);
    if (r < 0)
        return;
    view.fd = r;
    r = view_check(durable, view.fd);
    if (r == 0 && durable->map_size > 0)
        r = os_map(view.fd, durable->map_size, false, &view.map);
    if (r < 0) {
        (void)os_close(view.fd);
        return;
    }
    durable->views[durable->count] = view;
    durable->opened = true;
}

static struct durable_view *view_free_locked(struct durable *durable)
{
    for (uint32_t i = 0; i < durable->count; i++) {
        if (!durable->views[i].busy) {
            durable->highest = MAX(durable->highest, i);
            return &durable->views[i];
        }
    }
    durable->wanted = true;
    return NULL;
}

const struct durable_view *durable_begin(struct durable *durable)
{
    struct durable_view *view;
    bool more = false;
    lock_acquire(&durable->lock);
    WALRUS_ASSERT(durable->count > 0);
    while ((view = view_free_locked(durable)) == NULL)
        cond_wait(&durable->cond, &durable->lock);
    view->busy = true;
    if (view == durable->views) {
        more = durable->wanted && durable->count < DURABLE_VIEW_COUNT_MAX;
        durable->wanted = false;
    }
    lock_release(&durable->lock);
    if (more)
        view_open(durable);
    return view;
}

int durable_end(struct durable *durable, const struct durable_view *view, int result)
{
    size_t idx = (size_t)(view - durable->views);
    WALRUS_ASSERT(result <= 0 && idx < DURABLE_VIEW_COUNT_MAX);
    lock_acquire(&durable->lock);
    if (result < 0 && atomic_load(&durable->error) == 0)
        atomic_store(&durable->error, result);
    durable->views[idx].busy = false;
    if (idx == 0 && durable->opened) {
        durable->opened = false;
        durable->count++;
        cond_signal(&durable->cond);
    }
    cond_signal(&durable->cond);
    bool failed = atomic_load(&durable->error) != 0;
    lock_release(&durable->lock);
    return failed ? -EIO : 0;
}

void durable_trim(struct durable *durable)
{
    lock_acquire(&durable->lock);
    while (durable->count > durable->highest + 1 && !durable->views[0].busy &&
           !durable->views[durable->count - 1].busy)
        view_close(durable, &durable->views[--durable->count]);
    durable->highest = 0;
    lock_release(&durable->lock);
}

int durable_error(const struct durable *durable)
{
    return atomic_load(&durable->error) != 0 ? -EIO : 0;
}
