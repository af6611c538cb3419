/* SPDX-License-Identifier: MIT */
/*
 * order.h - the order in which things become durable, checked at every change of a recorded run:
 * the rules of docs/disk-format.md, section 7, that can be seen at the table of system calls.
 *
 *     1   a block is used only when its file, header and name are durable
 *     2   a block is given to a topic only when the topic's record is durable
 *     3   nothing is stored through a mapping where no space was allocated
 *     5   `used` and `sealed` come after both copies of the active entry are durable
 *     6   and after the data, of this block and those before; they end a unit
 *     7   an offset lies within what is durable
 *     8   a block goes free behind durable offsets, in order, and is used again after that is durable
 *     9   or behind a durable removal; a slot changes hands only when both copies are nobody's
 *     10  the newest block stays, the one before it until the newest one's entry is durable
 *     11  a later block of a topic comes after the first one's entry is durable
 *     13  log files are changed only after the directory was synced in this opening
 *
 * and of sections 2 and 3: the copy that is written is never the only durable one; SUPER says
 * `clean` only when nothing else is not durable, and not while anything is changed.
 *
 * Rule 4 (data before header) lies below the table, 12 and 14 are about recovery: crash states have
 * those.  A breach prints the rule and aborts.
 */
#ifndef WALRUS_TESTS_ORDER_H
#define WALRUS_TESTS_ORDER_H

#include "cut.h"

struct order {
    struct sim_names now; /* of the directory, whatever is durable */
    bool dir_synced;
    bool opening;
    /* SUPER said so since it last said that the store is closed */ /* since the store was opened */
    bool recovery; /* blocks behind the end of their topic are dropped */
    uint64_t checks;
};

void order_init(struct order *order);
/* Before `event` is applied to `disk`. */
void order_check(struct order *order, const struct cut_disk *disk, const struct sim_log *log,
                 const struct sim_event *event);

#endif
