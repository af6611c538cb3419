# SPDX-License-Identifier: MIT
"""catalog.py - the mutants: faults of durability put into the program one at a time, to see that a test notices.

Each takes out, reorders or weakens one step that makes the promises of docs/disk-format.md hold.  `old` is
exact text that occurs once in the file; scripts/mutants --check, which the lint suite runs, says when it does
not any more.  Whoever changes such a line changes the mutant with it, and sees whether its killer still bites.

A killer is what notices first, cheapest first:
    unit FILE [FILTER]    tests/unit/test_FILE, the cases that match FILTER
    crash STATES          crash_states, so many of the seed 1
    stress ARGUMENTS      stress_model with these
    mount SCRIPT [CASE]   a script of tests/mount, one case of it
"""

from collections import namedtuple

Mutant = namedtuple("Mutant", "name breaks file old new killers")
MUTANTS = []


def mutant(name, breaks, file, old, new, *killers):
    MUTANTS.append(Mutant(name, breaks, file, old, new, killers))


# ------------------------------------------------------------------ syncs of files and directories

mutant("new-file-not-synced", "a log file's metadata is synced before its name is given (7.1)",
       "engine/space.c",
       "    return os_fsync(file->fd);\n"
       "}\n"
       "\n"
       "/* Opens the temporary name",
       "    return 0;\n"
       "}\n"
       "\n"
       "/* Opens the temporary name",
       "unit weaknesses_life a_new_file_and_its_directory_are_synced_before_it_is_used")
mutant("new-file-directory-not-synced", "the name of a log file is durable before a block of it is used (7.1)",
       "engine/space.c",
       "    r = os_fsync(store->dirfd);\n    file->free_count = store->super.blocks_per_file;",
       "    file->free_count = store->super.blocks_per_file;",
       "unit weaknesses_life a_new_file_and_its_directory_are_synced_before_it_is_used")
mutant("directory-not-synced-at-start", "names that a killed process gave are synced before use (7.13)",
       "engine/recover.c",
       "    if (r == 0 && !store->read_only)\n        r = os_fsync(store->dirfd);",
       "",
       "unit regressions a_log_file_whose_name_was_never_synced_is_not_used_before_it_is")
mutant("store-directory-not-synced", "the directory of a new store is durable before the store is used",
       "engine/walrus.c",
       "        r = up < 0 ? up : os_fsync(up);",
       "        r = up < 0 ? up : 0;",
       "unit suspicions a_store_whose_directory")
mutant("super-made-not-synced", "SUPER is whole before it gets its name",
       "engine/walrus.c",
       "    int r = os_write(fd, copies, sizeof(copies), 0, false);\n"
       "    if (r == 0)\n"
       "        r = os_fsync(fd);",
       "    int r = os_write(fd, copies, sizeof(copies), 0, false);",
       "unit suspicions super_is_whole")
mutant("super-name-not-synced", "the name of SUPER is durable before the store is used",
       "engine/walrus.c",
       "    if (r == 0)\n"
       "        r = os_fsync(store->dirfd);\n"
       "    if (r < 0) {\n"
       "        int ignored = os_unlink(store->dirfd, \"SUPER.tmp\");",
       "    if (r < 0) {\n"
       "        int ignored = os_unlink(store->dirfd, \"SUPER.tmp\");",
       "unit suspicions super_is_whole")
mutant("super-not-synced", "the mark that a store is clean goes durably before anything is changed (3)",
       "engine/walrus.c",
       "    if (r == 0)\n"
       "        r = os_fsync(store->super_fd);",
       "",
       "crash 3000")
mutant("super-one-copy", "the clean mark goes from both copies: damage to one must not bring it back (3)",
       "engine/walrus.c",
       "    return r < 0 ? r : super_write(store, clean);",
       "    return r;",
       "unit suspicions neither_copy_of_super_says_closed_while_the_store_is_in_use")
mutant("super-copies-in-one-place", "the two copies of SUPER lie in two places (2)",
       "engine/walrus.c",
       "    uint64_t off = (next.generation & 1) * sizeof(copy);",
       "    uint64_t off = 0;",
       "crash 3000")
mutant("clean-before-synced", "a store says that it was closed cleanly after everything is durable (3)",
       "engine/walrus.c",
       "        r = walrus_sync(store);\n"
       "        int one = close_blocks(store);",
       "        r = super_write(store, 1);\n"
       "        r = walrus_sync(store);\n"
       "        int one = close_blocks(store);",
       "crash 3000")
mutant("clean-after-failed-sync", "a store whose sync failed does not say that it was closed cleanly (3)",
       "engine/walrus.c",
       "        if (r == 0 && !atomic_load(&store->degraded)",
       "        if (true",
       "unit faults with_fsync_each_a_failed_sync_fails_the_append")
mutant("close-does-not-sync-tables", "what close notes in the block tables is durable before the clean mark",
       "engine/walrus.c",
       "        int one = durable_end(&file->durable, view, os_fdatasync(view->fd));",
       "        int one = durable_end(&file->durable, view, 0);",
       "crash 3000")

# ---------------------------------------------------------------------------------- block tables

mutant("active-entry-not-synced", "a block's entry is durable before an entry in it is (7.5)",
       "engine/space.c",
       "    int r = table_sync(file);\n"
       "    if (r < 0)\n"
       "        return r;\n"
       "    lock_acquire(&file->table_lock);\n"
       "    for (size_t i = 0; r == 0 && i < count; i++) {",
       "    int r = 0;\n"
       "    lock_acquire(&file->table_lock);\n"
       "    for (size_t i = 0; r == 0 && i < count; i++) {",
       "crash 3000")
mutant("second-entry-not-synced", "both copies of a block's entry are durable before an entry in it is (7.5)",
       "engine/space.c",
       "    lock_release(&file->table_lock);\n"
       "    if (r == 0)\n"
       "        r = table_sync(file);\n"
       "    if (r < 0)\n"
       "        return r;",
       "    lock_release(&file->table_lock);\n"
       "    if (r < 0)\n"
       "        return r;",
       "crash 3000")
mutant("second-entry-not-written", "a block's entry is in both copies before an entry in it is durable (7.5)",
       "engine/space.c",
       "        r = table_write_locked(blocks[i], &info);\n"
       "        if (r < 0) /*",
       "        (void)info;\n"
       "        if (r < 0) /*",
       "unit recovery one_damaged_copy_of_any_block_entry_costs_no_part_of_a_large_entry")
mutant("table-copies-in-one-place", "the copy of a block's entry that is durable is never written over (2)",
       "engine/space.c",
       "    uint32_t copy = cell->durable_copy ^ 1u;",
       "    uint32_t copy = 0;",
       "unit recovery one_damaged_copy")
mutant("settle-skipped", "a block's entry is settled before its data counts (7.5)",
       "engine/syncer.c",
       "    int r = fresh_count ? block_table_settle(file, fresh, fresh_count) : 0;",
       "    int r = 0;",
       "crash 3000")
mutant("first-block-not-settled", "the entry of a topic's first block is durable before a later block (7.11)",
       "engine/append.c",
       "    if (r == 0 && block->block_seq == 0)\n        r = block_table_settle(block->file, &block, 1);",
       "",
       "unit regressions entries_never_survive_without_those_before_them")
mutant("free-not-synced", "a block is used again after free is durable (7.8)",
       "engine/space.c",
       "    lock_release(&file->table_lock);\n"
       "    if (r == 0)\n"
       "        r = table_sync(file);\n"
       "    if (r == 0)\n"
       "        file->cells[block->idx].durable_copy ^= 1u;",
       "    lock_release(&file->table_lock);\n"
       "    if (r == 0)\n"
       "        file->cells[block->idx].durable_copy ^= 1u;",
       "crash 3000")
mutant("free-not-written", "a block that is given back is free on disk (7.8)",
       "engine/space.c",
       "    int r = block->entered ? table_free(block) : 0;",
       "    int r = 0;",
       "crash 3000",
       "unit reclaim a_removed_topic_gives")
mutant("free-failed-and-reused", "a place whose entry could not be written stays out of use",
       "engine/space.c",
       "        space_put(store, block, CELL_QUARANTINED);\n        return false;",
       "        space_put(store, block, CELL_FREE);\n        return false;",
       "unit suspicions a_place_that_could_not_be")
mutant("gap-behind-a-block-not-freed", "blocks go free in the order of the topic (7.8)",
       "engine/reclaim.c",
       "    while (removed || !topic->stuck) {",
       "    while (true) {",
       "unit suspicions a_block_that_could_not_be_marked_free_keeps_those_behind_it")
mutant("seal-before-data", "sealed is written after the data is durable (7.6)",
       "engine/syncer.c",
       "    int r = fresh_count ? block_table_settle(file, fresh, fresh_count) : 0;",
       "    int r = fresh_count ? block_table_settle(file, fresh, fresh_count) : 0;\n"
       "    for (size_t i = 0; i < count; i++)\n"
       "        block_table_note(items[i].block, &items[i].upto, true);",
       "crash 3000")
mutant("epoch-not-raised", "each use of a place has an epoch of its own",
       "engine/space.c",
       "        uint64_t epoch = MAX(file->cells[idx].epoch + 1, store->super.generation << 32);",
       "        uint64_t epoch = file->cells[idx].epoch;",
       "crash 3000")
mutant("epoch-without-generation", "epochs lie above those of an earlier opening, whose hints may be lost",
       "engine/space.c",
       "        uint64_t epoch = MAX(file->cells[idx].epoch + 1, store->super.generation << 32);",
       "        uint64_t epoch = file->cells[idx].epoch + 1;",
       "unit suspicions records_in_a_place_whose_use_was_never_recorded_are_never_taken_for_others")

# ------------------------------------------------------------------------------------------ data

mutant("data-not-synced", "what is reported durable was synced",
       "engine/syncer.c",
       "count > 1 ? os_fdatasync(view->fd) : os_msync(view->map, off, end - off));",
       "0);",
       "unit weaknesses_life an_offset_is_never_ahead_of_the_data_that_it_counts")
mutant("data-synced-in-one-block", "a flush syncs all blocks that it covers",
       "engine/syncer.c",
       "count > 1 ? os_fdatasync(view->fd) : os_msync(view->map, off, end - off));",
       "os_msync(view->map, off, end > off ? end - off : 1));",
       "crash 3000")
mutant("sync-failure-ignored", "a failed sync of data is an error",
       "engine/syncer.c",
       "    if (r < 0 && (!may_retry(r) || durable_error(&file->durable))) {\n        r = -EIO;",
       "    if (r < 0 && (!may_retry(r) || durable_error(&file->durable))) {\n        return 0;",
       "unit faults a_failed_sync_of_data_is_final_until_the_store_is_opened_anew")
mutant("sync-failure-retried", "a sync that failed is never repeated as proof",
       "engine/durable.c",
       "    bool failed = atomic_load(&durable->error) != 0;\n    lock_release(&durable->lock);",
       "    bool failed = atomic_load(&durable->error) != 0;\n    atomic_store(&durable->error, 0);\n    lock_release(&durable->lock);",
       "unit durable no_sync_succeeds_after_a_failed_one")
mutant("sync-failure-not-shared", "a failure by one view of a file is that of the file",
       "engine/durable.c",
       "    bool failed = atomic_load(&durable->error) != 0;",
       "    bool failed = result != 0;",
       "unit durable a_failure_of_one_view_is_that_of_the_file")
mutant("sync-view-shared", "each sync has an open file description to itself: the kernel tells each of an error once",
       "engine/durable.c",
       "    view->busy = true;",
       "    view->busy = view != durable->views;",
       "unit durable no_two_syncs_share_a_description")
mutant("sync-view-used-at-once", "a new view counts only after the first one was told of what came before",
       "engine/durable.c",
       "    durable->opened = true;",
       "    lock_acquire(&durable->lock);\n    durable->count++;\n    cond_broadcast(&durable->cond);\n    lock_release(&durable->lock);",
       "unit durable a_new_view_is_used_only_after_the_first_one_has_synced_once_more")
mutant("sync-failure-kept-from-others", "every topic with data in a file whose sync failed refuses appends",
       "engine/syncer.c",
       "        sync_file_failed(store, file, r);",
       "        atomic_store(&store->degraded, true);",
       "unit faults a_failed_sync_of_data_is_final_until_the_store_is_opened_anew")
mutant("sync-failure-forgotten", "a topic whose sync failed refuses appends until the store is opened anew",
       "engine/append.c",
       "    return atomic_load_explicit(&topic->error, memory_order_relaxed);",
       "    return 0;",
       "unit faults a_failed_sync_of_data_is_final_until_the_store_is_opened_anew")
mutant("sync-failure-reported-durable", "what a failed sync covered is not durable",
       "engine/syncer.c",
       "    } else if (!may_retry(r)) {\n        atomic_store(&topic->error, -EIO);\n    }",
       "    }\n    atomic_store(&topic->durable_seq, MAX(seq, atomic_load(&topic->durable_seq)));",
       "unit faults a_failed_sync_of_data_is_final_until_the_store_is_opened_anew")
mutant("published-before-stored", "data and header are stored before readers and syncs see the end (7.4)",
       "engine/append.c",
       "    int r = append_put(a, &tail, durable);\n"
       "    if (r < 0) {",
       "    uint32_t extent = 0;\n"
       "    for (size_t i = 0; i < a->count; i++)\n"
       "        extent += (uint32_t)format_record_extent(a->entries[i].iov_len);\n"
       "    atomic_store(&tail.block->end, tail.off + extent);\n"
       "    topic_tail_publish(topic, tail.seq + a->count, tail.bytes, tail.block, tail.off + extent);\n"
       "    int r = append_put(a, &tail, durable);\n"
       "    if (r < 0) {",
       "unit suspicions a_batch_that_failed_half_written")
mutant("space-not-allocated", "disk space is taken before a store through the mapping needs it (7.3)",
       "engine/space.c",
       "        int r = os_allocate(block->file->fd, base + block->space_end, more);",
       "        int r = os_truncate(block->file->fd, file_size(block->file->store));",
       "unit faults nothing_is_stored_where")
mutant("fallocate-failure-ignored", "a full disk is met before a store through the mapping is (7.3)",
       "engine/space.c",
       "        if (r < 0)\n"
       "            return r;\n"
       "        block->space_end = (uint32_t)space;",
       "        r = 0;\n"
       "        block->space_end = (uint32_t)space;",
       "unit faults nothing_is_stored_where")
mutant("fault-said-before-a-write", "a store that faults although its space is there is made by a write",
       "engine/append.c",
       "    if (r == -EIO && !durable && block_may_write(tail->block)) {",
       "    if (false) {",
       "unit regressions a_store_that_faults")
mutant("lock-cut-before-it-is-written", "a full disk keeps no store from being opened for the number in its lock",
       "engine/walrus.c",
       "    int r = os_write(store->lock_fd, pid, (size_t)n, 0, false);\n",
       "    int r = os_truncate(store->lock_fd, 0);\n"
       "    if (r == 0)\n        r = os_write(store->lock_fd, pid, (size_t)n, 0, false);\n",
       "unit regressions a_full_disk_does_not_keep")
mutant("fault-not-guarded", "SIGBUS on a mapping costs one request",
       "engine/base/guard.c",
       "    if (frame && info->si_code > 0 &&",
       "    if (frame && info->si_code < 0 &&",
       "unit weaknesses a_log_file_cut_short_under_the_store_is_eio_and_not_the_end")

# --------------------------------------------------------------------------------------- offsets

mutant("offset-not-synced", "an offset is durable when it is called stored",
       "engine/offsets.c",
       "    r = os_write(view->fd, &raw, sizeof(raw), slot_off(slot_idx, slot.newest), true);",
       "    r = os_write(view->fd, &raw, sizeof(raw), slot_off(slot_idx, slot.newest), false);",
       "unit offsets are_stored_with_one_durable_write_and_nothing_else")
mutant("offset-before-data", "an offset is stored only up to what is durable (7.7)",
       "engine/group.c",
       "    int r = topic_sync_to(group->topic, top, false);\n    return r < 0 ? r : offsets_store",
       "    int r = 0;\n    (void)top;\n    return r < 0 ? r : offsets_store",
       "unit weaknesses_life an_offset_at_least_once_is_not_ahead_of_the_data_either")
mutant("offset-after-delivery", "strict: an offset is stored before the entry is handed out",
       "engine/reader.c",
       "    if (store) {\n        r = group_store(reader->group);\n        if (r < 0)\n            return r;\n    }\n    *ret_size",
       "    *ret_size",
       "unit suspicions a_claimed_entry_whose")
mutant("offset-copies-in-one-place", "the newest copy of an offset is not the one that is written (2)",
       "engine/offsets.c",
       "    slot.newest = !slot.newest;",
       "",
       "unit offsets_damage tell_a_first_store_that_was_cut_short_from_damage")
mutant("offset-file-not-synced", "the offset file is whole before it gets its name",
       "engine/offsets.c",
       "    if (r == 0)\n        r = os_fsync(offsets->fd);\n    if (r == 0)\n        r = os_rename",
       "    if (r == 0)\n        r = os_rename",
       "unit offsets are_synced_before_and_after_the_file_gets_its_name")
mutant("offset-name-not-synced", "the name of the offset file is durable before an offset is stored",
       "engine/offsets.c",
       "        no_matter(os_unlink(dirfd, TMP_NAME)); /* the next start removes it otherwise */\n        return r;\n    }\n    return os_fsync(dirfd);",
       "        no_matter(os_unlink(dirfd, TMP_NAME)); /* the next start removes it otherwise */\n        return r;\n    }\n    return 0;",
       "unit offsets are_synced_before_and_after_the_file_gets_its_name")
mutant("offset-extent-not-synced", "an extent is durable before a slot in it is used",
       "engine/offsets.c",
       "    if (r == 0)\n        r = os_fdatasync(view->fd);",
       "",
       "unit offsets grow_by_extents_that_are_durable_before_a_slot_is_taken")
mutant("offset-failure-retried", "a store of an offset that failed is final",
       "engine/offsets.c",
       "    return durable_end(&offsets->durable, view, result);",
       "    int r = durable_end(&offsets->durable, view, 0);\n    return result < 0 ? result : r;",
       "unit offsets take_a_failed_store_for_final")
mutant("offset-slot-not-cleared", "a removed group's slot is cleared before another gets it (7.9)",
       "engine/offsets.c",
       "    return r < 0 ? r : slot_write(offsets, slot, &nobody);",
       "    return r;",
       "unit offsets left_by_a_group_that_is_gone_are_cleared_before_another_gets_the_slot")
mutant("rewind-stored-once", "a rewind is in both copies: the older one must not skip what is delivered again",
       "engine/group.c",
       "    if (r == 0 && twice)",
       "    if (false && twice)",
       "unit suspicions a_rewind_is_in_both")
mutant("seek-before-stored", "a seek that cannot be stored moves nothing",
       "engine/group.c",
       "    if (r == 0)\n        seek_apply_locked(group, target);\n    else\n",
       "    seek_apply_locked(group, target);\n    if (r < 0)\n",
       "unit faults a_seek_that_cannot_be_stored")
mutant("taken-beyond-what-may-come-again", "at-least-once: when no offset can be stored, no more than N entries are handed out",
       "engine/reader.c",
       "    return r == 0 && due ? group_store(group) : r;",
       "    (void)due;\n    return r;",
       "unit faults at_least_once")
mutant("taken-while-the-disk-is-slow", "at-least-once: no more than N entries are handed out before their offset is stored",
       "engine/reader.c",
       "(!due && !atomic_load(&group->behind))",
       "!atomic_load(&group->behind)",
       "unit claims at_least_once_nothing_more_is_handed_out")
mutant("offset-proves-nothing", "what a group consumed was durable: to lose it is damage, not a torn tail (4)",
       "engine/recover_walk.c",
       "    w.proven = recover_groups_bound(topic);",
       "    w.proven = 0;",
       "unit suspicions a_batch_of_which_an_entry_was_taken")
mutant("numbers-reused-after-loss", "numbers that were consumed are not given again",
       "engine/recover.c",
       "        bound = MAX(bound, value.offset);",
       "        bound = MAX(bound, 0);",
       "unit suspicions a_batch_of_which_an_entry_was_taken")
mutant("empty-read-stores-zero", "an empty read stores nothing",
       "engine/claim.c",
       "    if (r == 0 && list_empty(&reader->runs))\n        r = WALRUS_EMPTY;",
       "    if (r == 0 && list_empty(&reader->runs)) {\n        r = WALRUS_EMPTY;\n"
       "        lock_acquire(&group->lock);\n        group->low = 0;\n        group->change++;\n"
       "        lock_release(&group->lock);\n        if (group_store(group) < 0)\n            r = -EIO;\n    }",
       "unit weaknesses polling_an_empty_topic_writes_nothing_and_moves_nothing")

# --------------------------------------------------------------------------------------- reclaim

mutant("freed-before-next-settled", "a block goes free when the entry of the next is durable (7.10)",
       "engine/reclaim.c", # two things hold it: the look at the next, and the syncer's reference
       "memory_order_acquire) == 1;\n"
       "        bool done = removed || (next && block_end_seq(block) <= low &&\n"
       "                                retention_lets_go(topic, block, atomic_load(&topic->disk_bytes)));\n"
       "        *ret_early = done && !removed && !next->table_durable;",
       "memory_order_acquire) <= 2;\n"
       "        bool done = removed || (next && block_end_seq(block) <= low &&\n"
       "                                retention_lets_go(topic, block, atomic_load(&topic->disk_bytes)));\n"
       "        *ret_early = false;",
       "unit suspicions a_block_goes_free_after_the_entry")
mutant("freed-while-read", "a block that somebody reads does not go free",
       "engine/reclaim.c",
       "        bool free_of_readers = atomic_load_explicit(&block->refs, memory_order_acquire) == 1;",
       "        bool free_of_readers = true;",
       "unit suspicions an_entry_that_is_being_read")
mutant("freed-for-one-group", "a block goes free when all groups have passed it",
       "engine/reclaim.c",
       "        low = MIN(low, atomic_load(&group->stored_low));",
       "        low = low == UINT64_MAX ? atomic_load(&group->stored_low)\n                                : MAX(low, atomic_load(&group->stored_low));",
       "unit reclaim a_slow_group_keeps_what_it_has_yet_to_read")
mutant("freed-before-offset-durable", "a block goes free when the offset that passed it is durable (7.9)",
       "engine/reclaim.c",
       "        low = MIN(low, atomic_load(&group->stored_low));",
       "        low = MIN(low, group->low);",
       "unit suspicions a_block_goes_free_after_an_offset")
mutant("freed-under-a-seek", "what a seek goes back to stays, though a later offset is the one that is stored",
       "engine/group.c",
       "        atomic_store(&group->stored_low, MIN(*ret_seq, *ret_stored));",
       "        (void)0;",
       "unit suspicions what_a_seek_goes_back_to")
mutant("removed-topic-freed-first", "a removal is durable before the topic's blocks go free (7.9)",
       "engine/reclaim.c",
       "    bool gone = atomic_load(&topic->gone);",
       "    bool gone = atomic_load(&topic->removed);",
       "unit suspicions nothing_of_a_topic_goes")

# -------------------------------------------------------------------------------------- registry

mutant("registry-not-synced", "a change of the registry is durable when it is done (7.2)",
       "engine/registry.c",
       "    r = os_fdatasync(journal->fd);\n    if (r < 0)\n        return registry_poison(registry, r, \"a sync\");\n\n    journal->end = journal->torn_end;",
       "    journal->end = journal->torn_end;",
       "unit registry is_durable_with_one_write_and_one_sync")
mutant("registry-made-not-synced", "a journal is whole before it gets its name",
       "engine/registry.c",
       "    if (r < 0)\n        return r;\n    return os_fsync(journal->fd);",
       "    return r;",
       "unit registry is_synced_before_and_after_it_gets_its_name")
mutant("registry-name-not-synced", "the name of a new journal is durable before it is used",
       "engine/registry.c",
       "    return r < 0 ? r : os_fsync(registry->dirfd);",
       "    return r;",
       "unit registry is_synced_before_and_after_it_gets_its_name")
mutant("registry-new-name-not-synced", "the name of a smaller journal is durable before anything is appended to it",
       "engine/registry.c",
       "    r = os_fsync(registry->dirfd);\n    return r < 0 ? registry_poison",
       "    return r < 0 ? registry_poison",
       "unit registry refuses_changes_when_the_new_name_may_not_be_durable")
mutant("registry-torn-tail-kept", "a torn change is zeroed before the next is appended (5)",
       "engine/registry.c",
       "    if (journal->torn_end <= journal->end)\n        return 0;\n    r = os_zero",
       "    return 0;\n    r = os_zero",
       "unit registry_damage zeroes_a_torn_tail_before_it_appends")
mutant("registry-torn-tail-not-synced", "a torn change is zeroed durably before the next is appended (5)",
       "engine/registry.c",
       "    r = os_fdatasync(journal->fd);\n    if (r < 0)\n        return registry_poison(registry, r, \"a sync\");\n    journal->torn_end = journal->end;",
       "    journal->torn_end = journal->end;",
       "unit registry_damage zeroes_a_torn_tail_before_it_appends")
mutant("registry-failure-retried", "a failed sync of the registry is final",
       "engine/registry.c",
       "    registry->error = -EIO;\n    report",
       "    report",
       "unit registry takes_a_failed_sync_for_final")
mutant("registry-repaired-in-two-steps", "what shows damage to the registry stays until all of it is mended (9)",
       "engine/repair_lost.c",
       "    int r = registry_keep(c, &size);\n",
       "    int r = registry_keep(c, &size);\n"
       "    if (r == 0)\n        r = registry_make(c->dirfd, c->super.uuid, NULL, NULL, id_next);\n",
       "unit repair that_failed_anywhere")
mutant("registry-undo-left-out", "a change that met a full disk leaves no byte",
       "engine/registry.c",
       "    if (out_of_space(r))\n        return registry_undo(registry, r);",
       "    if (out_of_space(r))\n        return r;",
       "unit registry is_unchanged_after_a_write_that_met_a_full_disk")
mutant("registry-chain-cut", "the end of a change is nothing without its beginning (5)",
       "engine/registry.c",
       "    if (previous == NULL)\n        return seed;",
       "    if (true)\n        return seed;",
       "unit registry_damage drops_the_end_of_a_change_whose_beginning_is_missing")

# -------------------------------------------------------------------------------------- recovery

mutant("metadata-not-rewritten", "after a kill what was read is made durable before it is relied on (7.14)",
       "engine/recover.c",
       "    int r = os_write(file->fd, meta, FORMAT_FILE_META_SIZE, 0, false);\n"
       "    return r < 0 ? r : os_fdatasync(file->fd);",
       "    (void)file;\n"
       "    (void)meta;\n"
       "    return 0;",
       "unit unsynced blocks_that_a_killed")
mutant("metadata-rewrite-not-synced", "after a kill what was read is synced before it is relied on (7.14)",
       "engine/recover.c",
       "    return r < 0 ? r : os_fdatasync(file->fd);",
       "    return r;",
       "unit unsynced blocks_that_a_killed")
mutant("registry-not-rewritten", "after a kill the registry is made durable before it is relied on (7.14)",
       "engine/recover.c",
       "        r = registry_barrier(store->registry);",
       "        r = 0;",
       "unit unsynced names_and_offsets")
mutant("offsets-not-rewritten", "after a kill the offsets are made durable before they are relied on (7.14)",
       "engine/recover.c",
       "        r = offsets_barrier(store->offsets);",
       "        r = 0;",
       "unit unsynced names_and_offsets")
mutant("data-not-rewritten", "after a kill what the walk accepted is written once more (7.14)",
       "engine/recover_walk.c",
       "        r = rewrite_accepted(w.blocks[i]);",
       "        r = 0;",
       "unit unsynced entries_that_a_killed_process_left_are_written")
mutant("tail-not-zeroed", "what recovery dropped does not come back (7.12)",
       "engine/append.c",
       "    if (r == 0 && page_end > end)\n        r = os_zero(block->file->fd, base + end, page_end - end);",
       "",
       "unit recovery what_was_dropped_never_comes_back")
mutant("tail-not-punched", "what recovery dropped behind the page of the end does not come back (7.12)",
       "engine/append.c",
       "        r = os_punch(block->file->fd, base + page_end, block_size - page_end);",
       "        r = 0;",
       "unit unsynced what_was_dropped_is_zeroed")
mutant("tail-zeroes-not-synced", "what recovery dropped is zeroed durably before the topic goes on (7.12)",
       "engine/append.c",
       "    if (r == 0)\n"
       "        r = file_sync(block->file);\n"
       "    if (r < 0)\n"
       "        return r;\n"
       "    block->trim = false;",
       "    if (r < 0)\n"
       "        return r;\n"
       "    block->trim = false;",
       "unit unsynced what_was_dropped_is_zeroed")
mutant("half-unit-kept", "a unit counts only when all of it is there (4)",
       "engine/recover_walk.c",
       "    if (w->walked)\n        walk_cut(w);",
       "",
       "unit limits a_batch_of_which_anything_is_missing_is_not_there_at_all")
mutant("damage-taken-for-the-end", "damage of what was durable is told, and what follows it kept (4)",
       "engine/recover_walk.c",
       "        if (!walk_was_durable(w))\n"
       "            return WALRUS_EMPTY;\n"
       "        r = walk_record",
       "        return WALRUS_EMPTY;\n"
       "        r = walk_record",
       "unit recovery damage_of_what_was_durable_is_told_even_after_a_kill")
mutant("no-look-ahead", "a later record proves that an earlier one was durable (4)",
       "engine/recover_walk.c",
       "    if (w->looked_ahead)\n        return;",
       "    return;",
       "unit recovery damage_of_what_was_durable_is_told_even_after_a_kill")
mutant("stops-at-a-bad-block", "a block with both entries damaged does not hide the others",
       "engine/recover.c",
       "        cell->use = CELL_QUARANTINED;\n        rec->damaged = true;\n        return 0;",
       "        cell->use = CELL_QUARANTINED;\n        rec->damaged = true;\n        return -EBADMSG;",
       "unit recovery a_block_with_both_entries_damaged")
mutant("stops-at-a-bad-file", "a log file whose header is damaged does not hide the others",
       "engine/recover.c",
       "            rec->damaged = true;\n            r = 0;\n            continue;",
       "            rec->damaged = true;\n            r = 0;\n            break;",
       "unit suspicions a_log_file_whose_header_is_lost")
mutant("older-entry-wins", "of a block's two entries the newer counts (2)",
       "engine/recover.c",
       "info[copy].generation > info[best].generation))",
       "info[copy].generation < info[best].generation))",
       "crash 3000")
mutant("older-offset-wins", "of an offset's two copies the newer counts (2)",
       "engine/offsets.c",
       "        slot->newest = generations[1] > generations[0];",
       "        slot->newest = generations[1] < generations[0];",
       "unit rot an_offset_that_is_older")
mutant("recovered-called-durable", "what a killed process left counts as durable when it was synced (7.14)",
       "engine/recover_walk.c",
       "    atomic_store(&topic->durable_seq, MIN(durable, w->seq));",
       "    atomic_store(&topic->durable_seq, w->seq);",
       "unit unsynced an_entry_that_a_killed_process_left_is_not_taken")
mutant("unit-proven-in-part", "a number that is known durable proves its whole unit (4)",
       "engine/recover_walk.c",
       "    return w->proven > w->seq || (w->open && w->proven > w->end.seq);",
       "    return w->proven > w->seq;",
       "unit suspicions a_batch_of_which_an_entry_was_taken")
mutant("dropped-unit-taken-up", "what recovery dropped behind damage stays dropped (7.12)",
       "engine/recover_walk.c",
       "           next->first_seq == w->end.seq;",
       "           next->first_seq == w->end.seq && false;",
       "unit suspicions what_was_dropped_behind_damage")
mutant("stale-block-believed", "of two blocks with one place in a topic the later use counts (7.8)",
       "engine/recover_walk.c",
       "    int r = drop_stale(&w);",
       "    int r = 0;\n    (void)drop_stale;",
       "unit suspicions a_block_that_could_not_be_freed")
mutant("settle-continued-wrongly", "a sync that met a full disk begins again with the copy that was not written (7.5)",
       "engine/space.c",
       "        if (r < 0) /* the next sync begins again with this one */\n            cell->durable_copy ^= 1u;",
       "",
       "unit suspicions a_sync_that_found_the_disk_full")
mutant("failed-append-left", "what a failed append left is zeroed before the next",
       "engine/append.c",
       "        tail.block->trim = true;",
       "",
       "unit suspicions a_batch_that_failed_half_written")
mutant("clean-store-proves-nothing", "in a store that was closed cleanly every valid record was durable (4)",
       "engine/recover_walk.c",
       "    if (w->rec->store->super.clean)\n        return info->seq + 1;",
       "",
       "unit suspicions a_damaged_block_entry_of_a_clean_store")

# -------------------------------------------------------------------------------------- checksums

mutant("block-entry-not-checked", "a block's entry counts when its checksum is right (2)",
       "engine/format.c",
       "    if (checksum(seed, &raw, sizeof(raw), offsetof(struct format_block, crc)) != le32_get(raw.crc))",
       "    if (seed == 0)",
       "unit format")
mutant("data-not-checked-when-read", "an entry is checked each time it is read",
       "engine/reader.c",
       "(whole && crc32c(0, to, size) != info.data_crc))\n"
       "        return -EBADMSG;",
       "(whole && false))\n"
       "        return -EBADMSG;",
       "unit recovery one_flipped_byte_of_a_payload")
mutant("pieces-not-checked-when-read", "an entry that is read in pieces is checked before the first",
       "engine/reader.c",
       "        if (guard_crc(&crc, 0, data, info.size) < 0 || crc != info.data_crc)",
       "        if (guard_crc(&crc, 0, data, info.size) < 0)",
       "unit recovery one_flipped_byte_of_a_payload")
mutant("data-not-checked-in-the-walk", "an entry that was not durable counts when its data is whole (4)",
       "engine/recover_walk.c",
       "    if (r == 0 && crc == ret_info->data_crc)\n        return 0;",
       "    if (r == 0)\n        return 0;",
       "unit recovery a_tail_with_a_changed_byte")
mutant("header-checksum-without-number", "the checksum of a header covers its number",
       "engine/format.c",
       "    out->crc = le32_put(crc32c(seed, out, sizeof(*out)));",
       "    struct format_record part = *out;\n    part.seq = le64_put(0);\n"
       "    out->crc = le32_put(crc32c(seed, &part, sizeof(part)));",
       "unit format")
mutant("header-checksum-without-salt", "a record of another file does not validate (2)",
       "engine/format.c",
       "                            uint32_t block, uint64_t epoch)\n{\n    uint32_t seed = crc32c(crc32c(0, uuid, UUID_SIZE), salt, SALT_SIZE);",
       "                            uint32_t block, uint64_t epoch)\n{\n    (void)salt;\n    uint32_t seed = crc32c(0, uuid, UUID_SIZE);",
       "unit format")
mutant("header-checksum-without-epoch", "a record of an earlier use of its place does not validate (2)",
       "engine/format.c",
       "    return seed_u64(seed_u32(seed_u32(seed, number), block), epoch);",
       "    (void)epoch;\n    return seed_u64(seed_u32(seed_u32(seed, number), block), 0);",
       "unit format")
mutant("salt-not-random", "a client cannot know the salt of a file (2)",
       "engine/space.c",
       "    memcpy(info.salt, file->salt, sizeof(info.salt));\n    for (uint32_t copy",
       "    memset(file->salt, 0, sizeof(file->salt));\n    for (uint32_t copy",
       "unit suspicions every_log_file_has_a_salt")

# ------------------------------------------------------------------------------- files and locks

mutant("lock-skipped", "a store has one writer",
       "engine/walrus.c",
       "    if (flock(store->lock_fd, (store->read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {",
       "    if (false) {",
       "unit weaknesses_life a_second_opener_is_refused")
mutant("store-made-twice", "who is overtaken while making a store does not make it again",
       "engine/walrus.c",
       "    if (r == 0 && fresh) /* or somebody made it,",
       "    if (false) /* or somebody made it,",
       "unit regressions who_is_overtaken")
mutant("new-file-not-exclusive", "a new log file is a new file",
       "engine/space.c",
       "    const int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW;",
       "    const int flags = O_RDWR | O_CREAT | O_NOFOLLOW;",
       "unit suspicions a_new_log_file")

LINKS = "unit refusals a_file_of_the_store_that_is_a_symbolic_link"
mutant("links-followed", "no file of a store is a symbolic link to somewhere else",
       "engine/os.c",
       "    return RETRY(os->openat(dirfd, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode));",
       "    flags &= ~O_NOFOLLOW;\n"
       "    return RETRY(os->openat(dirfd, name, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode));",
       LINKS)
mutant("lock-link-followed", "the lock is no symbolic link to somewhere else: nothing there is written to",
       "engine/walrus.c",
       "    int flags = (store->read_only ? O_RDONLY : O_RDWR | O_CREAT) | O_NOFOLLOW;",
       "    int flags = store->read_only ? O_RDONLY : O_RDWR | O_CREAT;",
       LINKS)
mutant("second-name-accepted", "a file with a second name is refused before anything is changed",
       "engine/refuse.c",
       "st.st_nlink != 1",
       "false",
       "unit hostile_files a_refused_store_is_as_it_was")

# ------------------------------------------------------------------------------------- the mount

mutant("read-at-an-offset-serves-an-entry", "a read behind the end of an entry ends, and gives no other entry",
       "fs/take.c",
       "    size_t want = (size_t)MIN(size, have > offset ? have - offset : 0);",
       "    size_t want = (size_t)MIN(size, have);\n    offset = 0;",
       "mount next.py again")
mutant("interrupt-consumes", "a reader of wait that a signal ended takes nothing that comes later",
       "fs/gate.c",
       "    if (waiter_move(waiter, WAITER_PARKED, WAITER_CANCELLED)) {",
       "    if (false) {",
       "unit gate an_interrupt_of_a_waiting_request")
mutant("interrupted-claim-kept", "an entry that was claimed for a request while that was interrupted goes back",
       "fs/gate.c",
       "    if (r == 0 && atomic_load(&waiter->state) == WAITER_OWNED_INTERRUPTED) {",
       "    if (false) {",
       "unit gate an_interrupt_while_an_entry")
mutant("interrupted-claim-leaked", "an entry that an interrupted request had claimed is not held for ever",
       "fs/gate.c",
       "        walrus_reader_abort(waiter->reader);\n        waiter->reader = NULL;\n        r = -EINTR;",
       "        waiter->reader = NULL;\n        r = -EINTR;",
       "unit gate an_interrupt_while_an_entry")
mutant("late-read-ignores-its-offset", "the first read of an entry that came later gives the bytes at its offset",
       "fs/take.c",
       "    read_held(handle, req, size, offset);\n}\n\n/* A READ of `wait`",
       "    read_held(handle, req, size, 0);\n}\n\n/* A READ of `wait`",
       "mount waiting.py from.its.middle")
mutant("blob-write-anywhere", "a blob is written from its start on, without a gap",
       "fs/blob.c",
       "    r = offset == end ? walrus_blob_write(blob->blob, data, size) : -EINVAL;",
       "    r = walrus_blob_write(blob->blob, data, size);",
       "mount blob.py gap")
mutant("half-blob-kept", "a blob whose writer was killed is no entry",
       "fs/blob.c",
       "        return (code & EXIT_SIGNAL_MASK) != 0;",
       "        return false;",
       "mount blob.py killed")
mutant("blob-lost-at-exit", "a blob is kept when a program with several threads exits",
       "fs/blob.c",
       "        return (code & EXIT_SIGNAL_MASK) != 0;",
       "        return true;",
       "mount blob.py threads")
mutant("fsync-does-nothing", "fsync(2) makes what was written durable",
       "fs/produce.c",
       "    if (topic != NULL)\n        return walrus_topic_sync(topic);",
       "    if (topic != NULL)\n        return 0;",
       "mount durable.py nothing")
mutant("o-sync-ignored", "a write through O_SYNC is durable when it returns",
       "fs/produce.c",
       "    return flags_sync(flags) || walrus_fsync_each(handle->mount->store);",
       "    (void)flags;\n    return walrus_fsync_each(handle->mount->store);",
       "mount durable.py O_SYNC")
mutant("group-changes-behind-its-topic", "no record of a group follows the removal of its topic",
       "engine/group.c",
       "    if (atomic_load(&topic->removed) || atomic_load(&group->removed))\n"
       "        r = -ENODEV;\n"
       "    else if (name",
       "    if (atomic_load(&group->removed))\n"
       "        r = -ENODEV;\n"
       "    else if (name",
       "unit groups a_change_of_one_does_not_bring_a_topic_back_that_is_being_removed")
mutant("group-removed-with-its-topic", "a group is taken out once, also when its topic goes at the same time",
       "engine/group.c",
       "    if (atomic_load(&topic->removed) || atomic_load(&group->removed))\n"
       "        r = -ENODEV;\n"
       "    else if (topic->groups.next",
       "    if (atomic_load(&group->removed))\n"
       "        r = -ENODEV;\n"
       "    else if (topic->groups.next",
       "unit groups one_can_be_removed_while_its_topic_is")
