# SPDX-License-Identifier: MIT
"""plain.py - the contract of a mounted store as lists and sets: what model.py compares a mount with.

A topic is the list of its entries.  A group is `low`, below which all is consumed, the set `done` of
what is consumed above it, and the set `held` of what is claimed.  A reader is an open consumer file.
Nothing here knows of the mount: machine.py does everything twice, there and here.
"""

import dataclasses
import struct

APPEND_MAX = 1044480  # bytes in one write to `append`, and of one read of `batch`
HEADER = struct.Struct("<IIQQ")  # a record of `batch`: size, flags, number, time


def record_size(size):
    return HEADER.size + (size + 7) // 8 * 8


def record(data, seq=0, time=0):
    return (HEADER.pack(len(data), 0, seq, time) + data).ljust(record_size(len(data)), b"\0")


def split_records(text):
    """The (seq, time, data) of whole records; AssertionError if there is anything else."""
    found = []
    while text:
        assert len(text) >= HEADER.size, f"a record of {len(text)} bytes"
        size, flags, seq, time = HEADER.unpack_from(text)
        data = text[HEADER.size:HEADER.size + size]
        assert flags == 0 and len(data) == size, f"a record that is cut, or has flags: {text[:40]!r}"
        assert text[:record_size(size)] == record(data, seq, time), "padding that is not zero"
        found.append((seq, time, data))
        text = text[record_size(size):]
    return found


class Group:
    def __init__(self, low):
        self.low = low
        self.done = set()
        self.held = set()
        self.epoch = 0  # a seek begins another: claims of earlier ones count no more
        self.mode = 0o400
        self.removed = False
        self.stored()

    def pending(self, tail):
        return [s for s in range(self.low, tail) if s not in self.done and s not in self.held]

    def state(self):
        return self.low, frozenset(self.done)

    def stored(self):
        """The position is on the disk as it is now."""
        self.history = [self.state()]
        self.last = self.fresh = 0  # consumed by the last step that did so; by this one

    def settled(self):
        """The mount shows everything as consumed that was; the position may still be on its way to the disk."""
        if self.fresh:
            self.last, self.fresh = self.fresh, 0

    def again(self, every):
        """How many may come again after a kill: nothing is handed out before fewer than N are left to be stored."""
        return max(every, every - 1 + self.last)

    def consume(self, seq, epoch):
        if epoch != self.epoch or seq < self.low or seq in self.done:
            return
        self.held.discard(seq)
        self.done.add(seq)
        self.fresh += 1
        while self.low in self.done:
            self.done.remove(self.low)
            self.low += 1
        self.history.append(self.state())

    def give_back(self, seq, epoch):
        if epoch == self.epoch:
            self.held.discard(seq)

    def seek(self, target):
        self.low = target
        self.done, self.held = set(), set()
        self.epoch += 1
        self.stored()

    def restart(self):
        """The daemon is another one: nobody holds anything."""
        self.held = set()
        self.epoch += 1

    def count_consumed(self, state):
        return state[0] + len(state[1])


class Topic:
    def __init__(self, name):
        self.name = name
        self.entries = []
        self.times = {}  # of those that a batch gave one
        self.groups = {"default": Group(0)}
        self.first = 0
        self.retention = "consumed"
        self.limit = None
        self.mode = 0o755
        self.removed = False

    @property
    def tail(self):
        return len(self.entries)

    def unread(self):
        return any(group.low < self.tail for group in self.groups.values())

    def data(self, seqs):
        return b"".join(self.entries[s] for s in seqs)


@dataclasses.dataclass
class Rest:
    """What `lines` holds for one open file, and whether the end of a long line is dropped."""
    held: bytes = b""
    dropping: bool = False

    def write(self, data, line_max):
        """The entries that the write makes, or None for EMSGSIZE."""
        if self.dropping:
            cut = data.find(b"\n") + 1
            if cut == 0:
                return []
            data = data[cut:]
        lines = data.split(b"\n")
        pieces = [line + b"\n" for line in lines[:-1]]
        open_end = lines[-1]
        whole = [self.held + piece if i == 0 else piece for i, piece in enumerate(pieces)]
        if any(len(line) > line_max for line in whole):
            if len(whole[0]) > line_max:
                self.held = b""
            self.dropping = False
            return None
        last = open_end if whole else self.held + open_end
        if len(last) > line_max:
            self.held = b"" if not whole else self.held
            self.dropping = True
            return None
        self.dropping = False
        self.held = last
        return whole


class Writer:
    """An open producer file: append, lines or blob."""

    def __init__(self, kind, topic, worker, fd):
        self.kind, self.topic, self.worker, self.fd = kind, topic, worker, fd
        self.rest = Rest()
        self.blob = b""
        self.error = 0  # what dropped the blob; close(2) may tell it again


class Reader:
    """An open consumer file.  `seqs` is what it claimed (or only shows), laid end to end."""

    def __init__(self, kind, topic, group, worker, fd):
        self.kind, self.topic, self.group, self.worker, self.fd = kind, topic, group, worker, fd
        self.epoch = group.epoch if group else None
        self.seqs = []
        self.bytes = b""
        self.pos = 0
        self.late = False  # a `wait` opened with O_NONBLOCK that holds nothing yet
        self.arrived = []  # at-least-once: what parts of the bytes were read
        self.ended = False
        self.given = 0  # of the entry that `follow` has in hand

    @property
    def claims(self):
        return self.kind in ("next", "wait", "drain", "follow")

    def hold(self, seqs, claim=True):
        self.seqs = list(seqs)
        self.bytes = self.topic.data(self.seqs)
        self.epoch = self.group.epoch if self.group else None
        if claim:
            self.group.held.update(self.seqs)

    def spans(self):
        at = 0
        for seq in self.seqs:
            size = len(self.topic.entries[seq])
            yield seq, at, at + size
            at += size

    def consume(self, seqs):
        for seq in seqs:
            self.group.consume(seq, self.epoch)

    def read_strict(self, begin, end, at_end):
        """Bytes [begin, end) were handed out; `at_end`: the end of a drain was read."""
        for seq, first, last in list(self.spans()):
            touched = first < end and last > begin if last > first else begin <= first < end
            if touched or (at_end and first == last == len(self.bytes)):
                self.consume([seq])

    def arrived_until(self):
        reach = 0
        for begin, end in sorted(self.arrived):
            if begin <= reach:
                reach = max(reach, end)
        return reach

    def read_at_least_once(self, begin, end, at_end):
        before = self.arrived_until()
        self.arrived.append((begin, end))
        reach = self.arrived_until()
        if reach > before or at_end:
            for seq, _, last in list(self.spans()):
                if last <= reach:
                    self.consume([seq])
                else:
                    break

    def close(self):
        """What was not consumed goes back; an entry of no bytes, alone, is consumed by it."""
        if self.group is None or not self.claims:
            return
        if len(self.seqs) == 1 and not self.bytes:
            self.consume(self.seqs)
        for seq in self.seqs:
            self.group.give_back(seq, self.epoch)
        self.seqs, self.bytes = [], b""
