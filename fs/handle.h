/* SPDX-License-Identifier: MIT */
/*
 * handle.h - open files, and requests that leave their transport thread.
 *
 * A handle lives from OPEN to RELEASE.  Reads, and those writes that keep a state between them, go
 * through handle->serial one at a time; so does RELEASE, which therefore comes last.  What is in
 * the union belongs to who owns the serial.
 */
#ifndef WALRUSFS_HANDLE_H
#define WALRUSFS_HANDLE_H

#include "gate.h"
#include "node.h"
#include "pool.h"

/* Bytes of a stream behind a damaged entry lie elsewhere in the reader: see take.c. */
struct take_skip {
    uint64_t at; /* in the stream that the program reads */
    uint64_t to; /* in the reader */
};

struct take_span {
    uint64_t from, to;
};

/* A consumer file: next, wait, drain, follow, peek, and entries/N. */
struct take {
    struct walrus_reader *reader; /* NULL: nothing in hand */
    struct gate *gate;            /* of kinds that may park, else NULL */
    struct poller poller;
    _Atomic uint64_t size; /* bytes that the program can read */
    uint64_t touched;      /* strict: all below was handed out before, so that it costs no sync */
    uint64_t delivered;    /* all below has arrived */
    struct take_span spans[8]; /* arrived, but something before did not */
    struct take_skip *skips;   /* ascending, from malloc */
    uint32_t span_count, skip_count;
    atomic_bool late;     /* wait, opened with O_NONBLOCK: takes its entry at a read */
    atomic_bool in_hand;  /* a stream has bytes to give before it needs another entry */
    bool ended;           /* strict: the end was read, so that no entry of 0 bytes is left there */
    uint64_t index;       /* batch: of the entry at `delivered` in the reader */
    uint64_t read_offset; /* of the READ that a stream serves */
    uint64_t filled_end;  /* where a READ ended that may be but a part of a read(2), or 0 */
    pid_t filled_pid;     /* whose READ that was */
    struct job job;       /* stores what was delivered, as owner of the serial */
};

struct lines {
    char *rest; /* the line that has begun, from malloc */
    size_t rest_size, rest_room;
    bool dropping; /* a line was too long: what comes up to its end is dropped */
    bool cut;      /* the last WRITE may have been the begin of a larger write(2) */
    bool again;    /* that a line was too long may not have been told: see lines.c */
};

struct blob {
    struct walrus_blob *blob; /* NULL: nothing written since the last commit */
    uint64_t base;            /* file offset at which it begins */
    pid_t opener;             /* process, 0: cannot be known */
    int error;                /* it was dropped for this (-errno): nothing more is taken; or 0 */
    bool durable;             /* a write of it asked for that */
};

struct text {
    char *text; /* as it was at the open; NULL: not opened for reading */
    size_t size;
};

struct handle {
    struct serial serial;
    struct list link; /* of mount->handles */
    struct mount *mount;
    struct node *node; /* opened: see node_open() */
    enum kind kind;
    int flags; /* of open(2) */
    /* A producer opened before its topic was there: the topic, once a write found or made it. */
    _Atomic(struct walrus_topic *) made;
    uid_t uid; /* who opened */
    gid_t gid;
    atomic_bool cached;   /* was read through the page cache: see handle_drop_cache() */
    fuse_req_t close_req; /* RELEASE, when it waits for its turn */
    struct job close_job;
    struct list closing_link;  /* of mount->closings, for a producer that is being closed */
    uint64_t closing;          /* its number */
    uint64_t closing_until_ns; /* when a close that was not the last one is no longer waited for */
    bool may_close; /* of the serial: was flushed, with something held, and not written to since */
    union {
        struct take take;
        struct lines lines;
        struct blob blob;
        struct text text;
    };
};

static inline const struct place_key *handle_key(const struct handle *handle)
{
    return &handle->node->place->key;
}

static inline struct handle *handle_of(const struct fuse_file_info *info)
{
    return (struct handle *)(uintptr_t)info->fh;
}

/* -EMFILE -ENOMEM, -ESTALE -EBUSY as node_open(). */
WALRUS_CHECK int handle_create(struct mount *mount, fuse_req_t req, struct node *node, int flags,
                               struct handle **ret_handle);
/* The caller put back what the union holds. */
void handle_destroy(struct handle *handle);

/* The handle that is being opened holds `size` bytes.  -ESTALE: it is to be looked up once more; the
 * request was answered so, and the caller destroys the handle.  `must`: see node_hold_size(). */
WALRUS_CHECK int handle_hold_size(struct handle *handle, fuse_req_t req, uint64_t size, bool must);
/* Ends an OPEN: the handle holds `size` bytes.  0: the kernel has it.  Otherwise the request was
 * answered, and the caller destroys the handle.  `must`: see node_hold_size(). */
WALRUS_CHECK int handle_finish_open(struct handle *handle, fuse_req_t req, uint64_t size,
                                    bool must);
/* Takes the file's pages, if there are any, out of the page cache, before the node can be used for other contents.  A
 * page that sendfile or splice put into a pipe is the very page of the cache until it is read
 * there, and the kernel clears the end of the last page when a file becomes smaller. */
void handle_drop_cache(struct handle *handle);
/* The kernel is to ask for the size when it needs it. */
void handle_forget_size(struct handle *handle);
/* The size of an open file changed from 0 while the kernel waits for a READ. */
void handle_raise_size(struct handle *handle, uint64_t size);

/*
 * The order of closes and what is asked after them.  What a producer holds becomes an entry when it is
 * closed, which may take a while on the pool; who asks for the topic's entries after that close is to
 * find it.  RELEASE may even be in the hands of another thread, which did not get to say so, when
 * that request comes; so a FLUSH announces it, since a close(2) that is not the last one sends only that.
 */
void handle_may_close(struct handle *handle); /* for CLOSING_WAIT_NS */
void handle_begin_closing(struct handle *handle);
void handle_end_closing(struct handle *handle); /* if it was begun */
/* The number of the next close, to be given to closings_pending(). */
uint64_t closings_now(struct mount *mount);
/* Whether a close that came before `number`, of a producer of the topic (0: of any), is still under way. */
bool closings_pending(struct mount *mount, uint64_t number, uint64_t topic_id);
/* Whether there is any. */
static inline bool closings_any(const struct mount *mount)
{
    return atomic_load(&mount->closing_count) > 0;
}

/* Whether a request's flags ask for durable data. */
static inline bool flags_sync(int flags)
{
    return (flags & (O_SYNC | O_DSYNC)) != 0;
}

/* A request with what it needs, since libfuse's arguments end with the handler. */
struct request {
    struct job job;
    struct mount *mount;
    fuse_req_t req;
    struct handle *handle;                /* or NULL */
    struct node *node;                    /* a reference, or NULL */
    struct node *new_dir;                 /* a reference, or NULL */
    void (*run)(struct request *request); /* sends the reply and destroys the request */
    uint64_t offset;
    size_t size;
    int flags, to_set;
    mode_t mode;
    struct stat stat;
    char *name, *new_name; /* from malloc, or NULL */
    unsigned retry_count;
    unsigned char data[]; /* of `room` bytes */
};

/* A request about a handle (or NULL) and a node (or NULL; a reference is taken), with room for
 * `room` bytes of data.  NULL: no memory, and the request was answered so. */
struct request *request_create(struct mount *mount, fuse_req_t req, struct handle *handle,
                               struct node *node, size_t room);
void request_destroy(struct request *request);
/* Runs it on the pool. */
void request_submit(struct request *request, void (*run)(struct request *request));
/* Runs it as owner of its handle: at once on the pool, or later. */
void request_submit_serial(struct request *request, void (*run)(struct request *request));

/* The same for a READ, which may have to wait for one that waits for an entry: an interrupt ends it. */
void request_submit_read(struct request *request, void (*run)(struct request *request));

/* The same as owner of another serial. */
void request_submit_to(struct request *request, struct serial *serial,
                       void (*run)(struct request *request));

/* Runs it again later, because the library cannot do it now (-EBUSY): at the gate if there is one,
 * as a read of entry `seq`.  -EINTR -ESHUTDOWN: it is not to be tried again. */
WALRUS_CHECK int request_retry(struct request *request, struct gate *gate, uint64_t seq,
                               void (*run)(struct request *request));

/* The same for a request that waits for a close, for some seconds at most: a disk may not answer.
 * False: it is to go on now. */
WALRUS_CHECK bool request_retry_closing(struct request *request,
                                        void (*run)(struct request *request));

/* A buffer of this thread, of at least `size` bytes, until the next call.  NULL: no memory. */
void *thread_buffer(size_t size);

#endif
