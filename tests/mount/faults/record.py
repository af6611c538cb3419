# SPDX-License-Identifier: MIT
"""record.py - what the clients of a topic know, and whether what came back after a fault agrees.

The payload of an entry is a function of (seed, topic, producer, number), so any byte can be checked and nothing need be
kept.  An entry is *begun* when write(2) is called, *acked* when it returned, *durable* when it was covered by a
sync that returned 0.  An entry whose write(2) failed in the fault is there or not, but whole, and what was not
there once never comes back.  Entries that go by one call form a unit: all of them are there or none.

Rules broken raise AssertionError: I1 to I3 of docs/reliability.md, by name.
"""

import collections
import hashlib
import math
import struct
import threading
import time

HEAD = struct.Struct("<4sHHII")  # magic, topic, producer, number, size in all
MAGIC = b"wfst"
OVERTAKEN = 4  # reads of a client that may not be counted yet


def payload(seed, topic, producer, number, size):
    head = HEAD.pack(MAGIC, topic, producer, number, size)
    return head + hashlib.shake_128(struct.pack("<Q", seed) + head).digest(size - HEAD.size)


class Entry:
    __slots__ = ("key", "size", "unit", "begun", "acked", "durable", "lost", "seq")

    def __init__(self, key, size, unit):
        self.key, self.size, self.unit = key, size, unit
        self.begun, self.acked = time.monotonic_ns(), None
        self.durable = self.lost = False
        self.seq = None  # once somebody saw it: for ever

    def __repr__(self):
        state = "durable" if self.durable else "acked" if self.acked else "begun"
        return f"{self.key[0]}.{self.key[1]} ({self.size} bytes, {state}, number {self.seq})"


class Record:
    """One topic and its group `default`.  Methods of clients may be called from any thread."""

    def __init__(self, seed, topic, strict=True, persist_every=0, keeps=True):
        self.seed, self.topic, self.strict, self.persist_every = seed, topic, strict, persist_every
        self.keeps = keeps    # consumed entries are retained
        self.lock = threading.Lock()
        self.entries = {}     # key -> Entry, in the order of their beginning
        self.acked = []       # in the order of acknowledgement
        self.unit_count = 0
        self.durable_seq = 0  # numbers below are durable, by the daemon's own word
        self.by_seq = {}      # number -> key, of what is known to be durable
        self.delivered = {}   # key -> how often
        self.skipped = set()  # consumed by a read(2) that a fault cut short
        self.loose = 0        # how many more may be, above the offset
        self.repeats = 0      # how many more deliveries may be repeated: at-least-once, after faults
        self.in_hand = {}     # client -> how many entries its last reads took, the one under way at most
        self.cut = False      # the power is going: what returns from now on proves nothing
        self.in_doubt = set() # delivered since then
        self.broken = []      # rules that a client saw broken

    # ------------------------------------------------------------------------------- producers

    def begin(self, producer, numbers, sizes):
        """A unit that is about to be written.  Returns the entries and their bytes."""
        with self.lock:
            self.unit_count += 1
            unit = [Entry((producer, n), s, self.unit_count) for n, s in zip(numbers, sizes)]
            self.entries.update((e.key, e) for e in unit)
        return unit, [payload(self.seed, self.topic, producer, e.key[1], e.size) for e in unit]

    def ack(self, unit, durable=False):
        now = time.monotonic_ns()
        with self.lock:
            for entry in unit:
                entry.acked = now
                entry.durable |= durable and not self.cut
            self.acked += unit

    def refused(self, unit):
        """The call failed in a way that says: nothing was stored."""
        with self.lock:
            for entry in unit:
                entry.lost = True

    def sync_begins(self):
        return len(self.acked)

    def sync_done(self, count):
        with self.lock:
            for entry in self.acked[:0 if self.cut else count]:
                entry.durable = True

    def told_durable(self, seq):
        if not self.cut:
            self.durable_seq = max(self.durable_seq, seq)

    # ------------------------------------------------------------------------------- consumers

    def entry_of(self, data):
        """The entry that `data` is, byte by byte."""
        assert len(data) >= HEAD.size, f"I2: an entry of {len(data)} bytes that nobody wrote: {data!r}"
        magic, topic, producer, number, size = HEAD.unpack_from(data)
        entry = self.entries.get((producer, number))
        assert magic == MAGIC and topic == self.topic and entry and size == entry.size, \
            f"I2: an entry that nobody wrote here: {len(data)} bytes, {data[:32].hex()}"
        assert data == payload(self.seed, topic, producer, number, size), f"I2: torn or altered: {entry}"
        return entry

    def reads(self, client, most):
        """What the ones before gave is in the daemon's hand until it has heard that it arrived: on a machine that
        is busy the thread that hears it may be overtaken by a few reads of others."""
        self.in_hand.setdefault(client, collections.deque(maxlen=OVERTAKEN)).append(most)

    def took(self, client, count):
        self.in_hand[client][-1] = count

    def closed(self, client):
        if self.strict:
            self.in_hand.pop(client, None)

    def got(self, datas):
        """read(2) gave these entries, whole."""
        try:
            with self.lock:
                for data in datas:
                    entry = self.entry_of(data)
                    count = self.delivered.get(entry.key, 0)
                    assert not (count and self.strict), f"I3: delivered a second time: {entry}"
                    assert not entry.lost, f"I2: delivered, though it was gone before: {entry}"
                    assert entry.key not in self.skipped, f"I3: delivered, though it counted as taken: {entry}"
                    if self.cut:
                        self.in_doubt.add(entry.key)
                        continue
                    self.repeats -= count > 0
                    assert self.repeats >= 0, f"I3: more than {self.persist_every} come again after a fault: {entry}"
                    self.delivered[entry.key] = count + 1
                    entry.durable |= self.strict
        except AssertionError as e:
            self.broken.append(str(e))

    # ----------------------------------------------------------------------------------- judge

    def judge(self, found, offset, power):
        """After a fault, with no client at work.  `found`: (seq, data) of all that the topic retains; `offset`: of
        the group; `power`: what was not durable may be lost."""
        assert not self.broken, "; ".join(self.broken)
        keys = self.judge_found(found)
        missing = self.judge_missing(keys, power)
        self.judge_units(keys)
        self.judge_group(found, offset, missing)
        self.stopped(power)
        self.in_hand.clear()
        self.in_doubt.clear()
        self.cut = False

    def stopped(self, power=False):
        """The daemon went without storing the offset: at-least-once, what it had not stored comes again.  On a disk
        that is dead it can store none, and delivers all the same, for as long as it lives."""
        if power:
            self.repeats = math.inf
        elif not self.strict:
            self.repeats += self.persist_every + self.all_in_hand() + len(self.in_doubt)

    def all_in_hand(self):
        return sum(map(sum, self.in_hand.values()))

    def judge_found(self, found):
        """I2: what is there was written, once, in order, and stands where it stood."""
        keys, last = {}, {}
        for i, (seq, data) in enumerate(found):
            assert seq == found[0][0] + i, f"I1: number {seq} follows {found[i - 1][0]}"
            entry = self.entry_of(data)
            assert entry.key not in keys, f"I2: twice in the log: {entry}, at {keys[entry.key]} and {seq}"
            assert not entry.lost, f"I2: it was gone, and is back: {entry} at {seq}"
            assert entry.seq in (None, seq), f"I2: {entry} is now at {seq}"
            there = self.by_seq.get(seq, entry.key)
            assert there == entry.key, f"I2: {seq} was {self.entries[there]}, and is {entry}"
            producer, number = entry.key
            assert last.get(producer, -1) < number, f"I1: {entry} lies behind {last[producer]} of its producer"
            last[producer] = number
            keys[entry.key] = seq
        assert not self.keeps or not found or found[0][0] == 0, f"I1: the log begins at {found[0][0]}"
        tail = found[-1][0] + 1 if found else 0
        assert not (found or self.keeps) or tail >= self.durable_seq, \
            f"I1: status said that all below {self.durable_seq} is durable, and the log ends at {tail}"
        return keys

    def judge_missing(self, keys, power):
        """I1: all that was durable, and of the rest a prefix.  Returns what is missing and may be reclaimed."""
        newest = max((self.entries[k].begun for k in keys), default=0)
        reclaimed = []
        for entry in self.entries.values():
            if entry.key in keys:
                entry.seq = keys[entry.key]
                entry.acked = entry.acked or time.monotonic_ns()
                continue
            if entry.lost or entry.key in self.skipped:
                continue
            if not self.keeps and entry.key in self.delivered:
                continue
            if not self.keeps and entry.acked and (entry.durable or not power or entry.acked < newest):
                reclaimed.append(entry)  # taken by a read(2) that the fault cut short
                continue
            if entry.acked:
                assert power, f"I1: acked, and not there after a kill: {entry}"
                assert not entry.durable, f"I1: durable, and lost: {entry}"
                assert entry.acked >= newest, f"I1: a gap: {entry} is lost, and something begun later is there"
            entry.lost = True
        return reclaimed

    def judge_units(self, keys):
        """I2: of what went by one call, all or nothing."""
        units = {}
        for entry in self.entries.values():
            if entry.key not in self.delivered and entry.key not in self.skipped:
                units.setdefault(entry.unit, []).append(entry.key in keys)
        for number, there in units.items():
            assert all(there) or not any(there) or not self.keeps, f"I2: {sum(there)} of {len(there)} of unit {number}"

    def judge_group(self, found, offset, missing):
        """I3: at-least-once skips nothing; strict skips only what had begun to be handed out."""
        skipped = [e for e in (self.entry_of(data) for seq, data in found if seq < offset)
                   if e.key not in self.delivered and e.key not in self.skipped]
        skipped += missing
        most = len(self.in_doubt) + self.loose + (self.all_in_hand() if self.strict else 0)
        assert len(skipped) <= most, f"I1, I3: {len(skipped)} were never delivered and are consumed or gone, " \
            f"{most} were in hand: {skipped[:3]}"
        self.skipped.update(e.key for e in skipped)
        self.loose = most - len(skipped)

    def all_is_durable(self):
        """After a judgement and a sync of the topic."""
        for entry in self.entries.values():
            if entry.acked and not entry.lost:
                entry.durable = True
                if entry.seq is not None:
                    self.by_seq[entry.seq] = entry.key
        self.acked = [e for e in self.acked if not e.lost]
        self.acked += [e for e in self.entries.values() if e.acked and not e.lost and e not in self.acked]

    def undelivered(self):
        return [e for e in self.entries.values()
                if e.acked and not e.lost and e.key not in self.delivered and e.key not in self.skipped]
