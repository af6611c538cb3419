/* SPDX-License-Identifier: MIT */
/* list.h - intrusive doubly linked lists with a head; not synchronised. */
#ifndef WALRUS_BASE_LIST_H
#define WALRUS_BASE_LIST_H

#include <stdbool.h>

#include "compiler.h"

struct list {
    struct list *prev, *next;
};

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
/* The node may be unlinked in the body. */
#define LIST_FOR_EACH(node, head)                                                                  \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);              \
         node = node##_next, node##_next = node->next)

static inline void list_init(struct list *head)
{
    head->prev = head->next = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_insert_before(struct list *at, struct list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void list_push_back(struct list *head, struct list *node)
{
    list_insert_before(head, node);
}

/* Unlinks and leaves the node linked to itself, so that it may be removed again. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

#endif
