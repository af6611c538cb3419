/* SPDX-License-Identifier: MIT */
/*
 * node.h - the inodes that the kernel knows, and which of them an open may use.
 *
 * A *place* is a file of the tree: a kind together with the topic, the group and the entry that it
 * belongs to.  A *node* is what the kernel calls an inode; its id is the address of struct node (1
 * for the root).  A directory has one node.  Another file can have several, all with one st_ino: a
 * look-up that finds every node of the place in use gets a new one, because
 *   - the kernel lets one writer at a time into an inode, and ten appenders are to share a flush;
 *   - sendfile and splice read through the inode's page cache up to the inode's size, so two
 * handles that hold different entries must have different inodes.
 *
 * Files of KIND_EXCLUSIVE admit one handle a node.  The size of an inode can be raised from here,
 * but not lowered, and the kernel drops some of the sizes that it is told at the same time.  So a
 * node whose size somebody was told (`teller`) is shown to no other thread until it was opened and
 * closed again: then an open knows what the kernel believes.
 *
 * An open that finds the node open, or its size told too large, says -ESTALE; the kernel then looks
 * up once more, and the thread gets a node that is its own, of size 0 (`own`), so the second open
 * succeeds.  If no look-up came in between, the file was opened without its name (a bind mount of
 * the file, /proc/self/fd): then the second answer is -EBUSY if the node is open, and else the open
 * goes on, since -ESTALE must not reach a program.
 *
 * A thread of another pid namespace has no number here (0).  No two look-ups by such threads are
 * given the same node, so the node tells whether it was found by name since it was last opened
 * (`found`).  For a while after one of them was told ESTALE they all get nodes of size 0.
 *
 * The files of producers may share a node, and an open that finds its node open is sent to look up
 * once only, for the sake of speed.
 *
 * Lock: LOCK_FS_NODES guards all fields of all places and nodes that change.
 */
#ifndef WALRUSFS_NODE_H
#define WALRUSFS_NODE_H

#include "list.h"
#include "mount.h"
#include "names.h"
#include "sync.h"

/* What a look-up found.  Holds references of the topic and the group. */
struct place_key {
    enum kind kind;
    bool in_group; /* reached through groups/G, not through the topic's own directory */
    struct walrus_topic *topic;
    struct walrus_group *group;
    uint64_t topic_id, group_id; /* 0: none */
    uint64_t seq;                /* of KIND_ENTRY */
    char *name; /* KIND_TOPIC and below, where topic is NULL: the topic that a write would make */
};

struct node;

struct place {
    struct place *hash_next;
    struct place_key key; /* constant */
    uint64_t ino;         /* constant: st_ino */
    struct node *dir;     /* constant: the directory's node, a reference; NULL for the root */
    struct list idle;     /* nodes that any look-up may hand out */
    struct list told;     /* nodes for look-ups of one thread */
    struct list busy;     /* nodes that are open, and have to be had alone */
    unsigned node_count;
};

struct node {
    struct list link; /* of the place */
    struct place *place;
    uint64_t lookup_count; /* references of the kernel */
    uint32_t ref_count;    /* our own */
    uint32_t open_count;   /* handles */
    pid_t teller;          /* the thread that was told the size since the last close; 0: none */
    bool own;              /* made for the teller, which is told the size 0 */
    bool blurred;          /* others were told, too: told_size is the most of it */
    bool raising;          /* its size is being raised, and nobody else may open it */
    bool found;            /* by a look-up, since it was last opened or said -ESTALE */
    uint64_t told_size;    /* what the kernel believes while the node is not open */
    uint64_t held_size;    /* what the open handle holds */
    atomic_bool told_time; /* a directory whose times the kernel was told since they changed */
};

WALRUS_CHECK int node_table_create(struct node_table **ret_table);
/* Frees all nodes, whatever the kernel still knows: the connection is gone. */
void node_table_destroy(struct node_table *table);

struct node *node_of(struct mount *mount, fuse_ino_t ino);
fuse_ino_t node_ino(struct mount *mount, const struct node *node);

static inline enum kind node_kind(const struct node *node)
{
    return node->place->key.kind;
}

/* A node for the place, counted as one more look-up.  Takes over the references in `key` whatever
 * it returns. */
WALRUS_CHECK int node_look_up(struct mount *mount, struct node *dir, struct place_key *key,
                              pid_t tid, struct node **ret_node);
/* The node of a fixed directory of the topic (0: of the root), with a reference; NULL: nobody looked
 * it up. */
struct node *node_find_dir(struct mount *mount, enum kind kind, uint64_t topic_id);
void node_forget(struct mount *mount, struct node *node, uint64_t count);
struct node *node_ref(struct mount *mount, struct node *node);
void node_unref(struct mount *mount, struct node *node);

/* Begins and ends the use of the node by a handle.  0, -ESTALE, -EBUSY (also while its size is being
 * raised) */
WALRUS_CHECK int node_open(struct mount *mount, struct node *node, pid_t tid);
void node_close(struct mount *mount, struct node *node);

/* The handle that node_open() began holds `size` bytes; *ret_raise tells if the kernel was told of
 * less and is to be told now, after which comes node_raised().  -ESTALE: it was told of more, and the open must be given up (the node is closed); for
 * those who say that they cannot (`must`), *ret_lower tells it instead. */
WALRUS_CHECK int node_hold_size(struct mount *mount, struct node *node, pid_t tid, uint64_t size,
                                bool must, bool *ret_raise, bool *ret_lower);
/* The size was raised, as node_hold_size() said. */
void node_raised(struct mount *mount, struct node *node);
/* The handle's size changed. */
void node_set_size(struct mount *mount, struct node *node, uint64_t size);
/* The size to tell the thread `tid` for a file that would have `size` if it were opened now. */
uint64_t node_tell_size(struct mount *mount, struct node *node, pid_t tid, uint64_t size);

/* The st_ino of a place. */
uint64_t place_ino(const struct place_key *key);

/* Puts the references that a key holds back. */
void place_key_fini(struct place_key *key);
WALRUS_CHECK int place_key_copy(struct place_key *to, const struct place_key *from);

#endif
