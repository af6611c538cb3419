# SPDX-License-Identifier: MIT
"""machine.py - the random programs of model.py: each step is done to the mount and to the model.

A step chooses among what there is by numbers, so that hypothesis can shorten a program that fails.
After each step the counters, offsets and sizes of every topic have to be those of the model; what the
daemon does behind a close is waited for.  What the contract leaves open (the order of rests that a
killed process held, what a limit refuses, what reclaim frees, what at-least-once delivers again after
the daemon was killed) is read from the mount, checked to be allowed, and taken over into the model.
"""

import errno
import os
import signal
import time

import lib
from hypothesis import strategies as st
from hypothesis.stateful import precondition

from .mounted import LINE_MAX, TOPICS, WORKERS, Mounted, rule
from .plain import APPEND_MAX, Group, Reader, Topic, Writer, record, record_size, split_records
from .workers import name_of

GROUPS = ("default", "g", "h")
SIZES = (5, 1, 60, 700, 5000, 30000, 70000)  # the blocks of these stores have 64 KiB

picks = st.integers(0, 11)
sizes = st.sampled_from(SIZES)
workers = st.integers(0, len(WORKERS) - 1)


class Store(Mounted):
    """The steps."""

    # ------------------------------------------------------------------- topics, groups, their names

    @rule(name=st.integers(0, 2))
    def make_topic(self, name):
        name = TOPICS[name]
        with self.refused(*[errno.EEXIST] * (name in self.topics)):
            os.mkdir(self.path(name))
        if name not in self.topics:
            self.topics[name] = Topic(name)
        self.check()

    @rule(number=picks)
    def remove_topic(self, number):
        topic = self.topic(number)
        if topic is None:
            with self.refused(errno.ENOENT):
                os.rmdir(self.path("a"))
            return
        # Counters are settled, so nothing is about to be consumed.
        with self.refused(*[errno.ENOTEMPTY] * topic.unread()):
            os.rmdir(self.path(topic.name))
        if not topic.unread():
            topic.removed = True
            del self.topics[topic.name]
            for writer in [w for w in self.writers if w.topic is topic and w.kind != "append"]:
                self.close_writer(writer)
        self.check()

    @rule(number=picks, name=st.integers(0, 2))
    def rename_topic(self, number, name):
        topic, name = self.topic(number), TOPICS[name]
        if topic is None or topic.name == name:
            return
        taken = name in self.topics
        with self.refused(*[errno.EEXIST] * taken):
            os.rename(self.path(topic.name), self.path(name))
        if not taken:
            del self.topics[topic.name]
            topic.name = name
            self.topics[name] = topic
        self.check()

    @rule(number=picks, name=st.integers(0, 2))
    def make_group(self, number, name):
        topic, name = self.topic(number), GROUPS[name]
        if topic is None:
            return
        before = topic.first
        taken = name in topic.groups
        with self.refused(*[errno.EEXIST] * taken):
            os.mkdir(self.path(topic.name, "groups", name))
        if not taken:
            low = int(self.text(self.file(topic, "offset", name, short=False)))
            assert before <= low <= self.status(topic)["first"], f"a new group begins at {low}"
            topic.groups[name] = Group(low)
        self.check()

    @rule(number=picks, group=picks)
    def remove_group(self, number, group):
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        last = len(topic.groups) == 1
        with self.refused(*[errno.EBUSY] * last):
            os.rmdir(self.path(topic.name, "groups", name))
        if not last:
            topic.groups.pop(name).removed = True
        self.check()

    @rule(number=picks, group=picks, name=st.integers(0, 2))
    def rename_group(self, number, group, name):
        topic, name = self.topic(number), GROUPS[name]
        if topic is None:
            return
        old = self.name_of_group(topic, group)
        if old == name:
            return
        taken = name in topic.groups
        with self.refused(*[errno.EEXIST] * taken):
            os.rename(self.path(topic.name, "groups", old), self.path(topic.name, "groups", name))
        if not taken:
            topic.groups[name] = topic.groups.pop(old)
        self.check()

    @rule(number=picks, group=picks, mode=st.sampled_from((0o700, 0o755, 0o777, 0o440)), of=st.booleans())
    def change_mode(self, number, group, mode, of):
        """Of a topic's directory, or of one consumer file."""
        topic = self.topic(number)
        if topic is None:
            return
        if of:
            os.chmod(self.path(topic.name), mode)
            topic.mode = mode
        else:
            name = self.name_of_group(topic, group)
            os.chmod(self.file(topic, "drain", name, short=False), mode)
            topic.groups[name].mode = mode
        self.check_modes()

    # ------------------------------------------------------------------------------------- producing

    def stored(self, topic, entries, times=()):
        for i, entry in enumerate(entries):
            if i < len(times) and times[i]:
                topic.times[topic.tail] = times[i]
            topic.entries.append(entry)

    def produce(self, topic, entries, call, times=()):
        """A write that stores all the entries, unless the topic has a limit."""
        try:
            call()
        except OSError as e:
            if topic.removed:
                assert e.errno == errno.ENODEV, f"{name_of(e.errno)} from a removed topic"
                return False
            assert e.errno == errno.ENOSPC and topic.limit is not None, f"{name_of(e.errno)} from a write"
            return False
        assert not topic.removed or not entries, "a write to a removed topic works"
        self.stored(topic, entries, times)
        return True

    @rule(number=picks, size=sizes, worker=workers, sync=st.booleans())
    def append(self, number, size, worker, sync):
        topic = self.topic(number)
        if topic is None:
            return
        data = self.fresh(size)
        flags = os.O_DSYNC if sync else 0
        done = self.produce(topic, [data], lambda: WORKERS[worker].do(
            "write_once", self.path(topic.name, "append"), data, flags))
        if sync and done:
            lib.equal(self.status(topic)["durable"], topic.tail, "durable, after a write with O_DSYNC")
        self.check()

    @rule(number=picks, few=st.lists(st.sampled_from((0, *SIZES)), min_size=1, max_size=6),
          worker=workers, timed=st.booleans(), broken=st.sampled_from((None, None, None, "cut", "flags")))
    def write_batch(self, number, few, worker, timed, broken):
        topic = self.topic(number)
        if topic is None:
            return
        entries = [self.fresh(size) for size in few]
        times = [1_700_000_000_000_000_000 + self.counter if timed else 0] * len(few)
        text = b"".join(record(e, time=t) for e, t in zip(entries, times))
        path = self.path(topic.name, "batch")
        if broken:
            text = text[:-1] if broken == "cut" else text + record(b"x").replace(b"\0\0\0\0", b"\1\0\0\0", 1)
            with self.refused(errno.EINVAL):
                WORKERS[worker].do("write_once", path, text, 0)
        else:
            self.produce(topic, entries, lambda: WORKERS[worker].do("write_once", path, text, 0), times)
        self.check()

    @rule(number=picks, worker=workers)
    def append_too_much(self, number, worker):
        topic = self.topic(number)
        if topic is None:
            return
        with self.refused(errno.EMSGSIZE):
            WORKERS[worker].do("write_once", self.path(topic.name, "append"), bytes(APPEND_MAX + 1), 0)
        self.check()

    @rule(number=picks, worker=workers, kind=st.sampled_from(("lines", "blob", "append")))
    def open_writer(self, number, worker, kind):
        topic = self.topic(number)
        if topic is None:
            return
        worker = WORKERS[worker]
        fd = worker.do("open", self.path(topic.name, kind), os.O_WRONLY)
        self.writers.append(Writer(kind, topic, worker, fd))

    @precondition(lambda self: self.writers)
    @rule(number=picks, parts=st.lists(st.sampled_from((b"\n", 1, 30, 400, 600)), min_size=1, max_size=5))
    def write(self, number, parts):
        writer = self.pick(self.writers, number)
        data = b"".join(p if isinstance(p, bytes) else self.fresh(p) for p in parts)
        def call():
            lib.equal(writer.worker.do("write", writer.fd, data), len(data), "what write(2) returned")
        topic = writer.topic
        if writer.kind == "append":
            self.produce(topic, [data], call)
        elif writer.kind == "blob":
            if self.produce(topic, [], call):
                writer.blob += data
            else:
                self.drop_blob(writer)
        else:
            before = writer.rest.held, writer.rest.dropping
            entries = writer.rest.write(data, LINE_MAX)
            if entries is None:
                with self.refused(errno.EMSGSIZE):
                    call()
            elif not self.produce(topic, entries, call):
                writer.rest.held, writer.rest.dropping = before
        self.check()

    @precondition(lambda self: any(w.kind == "blob" for w in self.writers))
    @rule(number=picks, back=st.booleans())
    def write_blob_elsewhere(self, number, back):
        """A gap or an overwrite drops the whole blob."""
        writer = self.pick([w for w in self.writers if w.kind == "blob"], number)
        at = writer.worker.do("lseek", writer.fd, 0, os.SEEK_CUR)
        if back and at == 0:
            return
        with self.refused(errno.EINVAL):
            writer.worker.do("pwrite", writer.fd, b"x", 0 if back else at + 1)
        writer.blob, writer.error = b"", errno.EINVAL
        self.close_writer(writer)
        self.check()

    @precondition(lambda self: self.writers)
    @rule(number=picks)
    def sync_writer(self, number):
        """fsync makes an entry of what is held, and all entries durable."""
        writer = self.pick(self.writers, number)
        held = writer.blob if writer.kind == "blob" else writer.rest.held
        if self.produce(writer.topic, [held] if held else [],
                        lambda: writer.worker.do("fsync", writer.fd)):
            writer.blob, writer.rest.held = b"", b""
            lib.equal(self.status(writer.topic)["durable"], writer.topic.tail, "durable, after fsync")
        elif writer.kind == "blob":
            self.drop_blob(writer)
        self.check()

    def drop_blob(self, writer):
        """A write or a sync of it has failed; produce() has seen that it may."""
        writer.error = errno.ENODEV if writer.topic.removed else errno.ENOSPC
        writer.blob = b""
        self.close_writer(writer)

    def close_dropped(self, writer):
        try:
            writer.worker.do("close", writer.fd)
        except OSError as e:
            lib.equal(name_of(e.errno), name_of(writer.error), "the error of a dropped blob's close")

    def close_writer(self, writer):
        self.writers.remove(writer)
        must = [writer.rest.held] if writer.rest.held else []
        if writer.error:
            self.close_dropped(writer)
        elif writer.kind == "blob":
            held = [writer.blob] if writer.blob else []
            self.produce(writer.topic, held, lambda: writer.worker.do("close", writer.fd))
        else:
            writer.worker.do("close", writer.fd)
            self.adopt(writer.topic, must)

    @precondition(lambda self: self.writers)
    @rule(number=picks)
    def close_one_writer(self, number):
        self.close_writer(self.pick(self.writers, number))
        self.check()

    def adopt(self, topic, must, may=()):
        """Entries that come without a write that says in which order; `may`: or not at all."""
        if topic.removed or not (must or may):
            return
        if topic.limit is not None:
            must, may = [], [*must, *may]
            time.sleep(0.05)
        least = topic.tail + len(must)
        lib.until(f"{least} entries", lambda: self.status(topic)["entries"] >= least)
        got = [lib.read_all(self.path(topic.name, "entries", str(n)))
               for n in range(topic.tail, self.status(topic)["entries"])]
        left = list(got)
        for entry in must:
            assert entry in left, f"no entry {entry[:40]!r} among {left}"
            left.remove(entry)
        for entry in left:
            assert entry in may, f"an entry from nowhere: {entry[:40]!r}"
        self.stored(topic, got)

    @rule(number=picks, count=st.integers(1, 8))
    def race_of_writers(self, number, count):
        """Every worker appends at the same time; each one's entries keep their order."""
        topic = self.topic(number)
        if topic is None or topic.limit is not None:
            return
        lots = [[self.fresh(20) for _ in range(count)] for _ in WORKERS]
        for worker, lot in zip(WORKERS, lots):
            worker.ask("append_many", self.path(topic.name, "append"), lot)
        for worker in WORKERS:
            worker.answer()
        before = topic.tail
        self.adopt(topic, sum(lots, []))
        for lot in lots:
            lib.equal([e for e in topic.entries[before:] if e in lot], lot, "one writer's entries")
        self.check()

    # ------------------------------------------------------------------------------------- consuming

    def took(self, reader, begin, size, at_end=False):
        if self.every is None:
            reader.read_strict(begin, begin + size, at_end)
        else:
            reader.read_at_least_once(begin, begin + size, at_end)

    def may_be_gone(self, reader):
        return reader.topic.removed or (reader.group is not None and reader.group.removed)

    @rule(number=picks, group=picks, worker=workers, short=st.booleans(),
          kind=st.sampled_from(("next", "next", "wait", "drain", "follow", "batch", "peek")))
    def open_reader(self, number, group, worker, short, kind):
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        group, worker = topic.groups[name], WORKERS[worker]
        # Only `wait`, `follow` and `batch` ever wait; O_NONBLOCK changes nothing in the others.
        fd = worker.do("open", self.file(topic, kind, name, short), os.O_RDONLY | os.O_NONBLOCK)
        reader = Reader(kind, topic, group, worker, fd)
        self.readers.append(reader)
        pending = group.pending(topic.tail)
        if kind == "drain":
            reader.hold(pending)
        elif kind in ("next", "wait", "peek"):
            reader.hold(pending[:1], claim=kind != "peek")
            reader.late = kind == "wait" and not pending
        if kind not in ("follow", "batch"):
            lib.equal(worker.do("size_of", fd), len(reader.bytes), f"the size of the open {kind}")
        self.check()

    @rule(number=picks, worker=workers, seq=picks)
    def open_entry(self, number, worker, seq):
        topic = self.topic(number)
        if topic is None or not topic.entries:
            return
        seq %= topic.tail + 1
        path = self.path(topic.name, "entries", str(seq))
        try:
            fd = WORKERS[worker].do("open", path, os.O_RDONLY)
        except OSError as e:
            assert e.errno == errno.ENOENT, name_of(e.errno)
            assert seq == topic.tail or seq < self.status(topic)["first"], f"entry {seq} is not there"
            return
        assert topic.first <= seq < topic.tail, f"entry {seq} is there"
        reader = Reader("entry", topic, None, WORKERS[worker], fd)
        reader.hold([seq], claim=False)
        self.readers.append(reader)
        lib.equal(WORKERS[worker].do("size_of", fd), len(reader.bytes), "the size of the open entry")

    @precondition(lambda self: self.readers)
    @rule(number=picks, size=st.sampled_from((1, 3, 50, 300, 6000, 100_000, 1 << 20)),
          at=st.sampled_from((None, None, None, 0, 1, 40, 5000, 1 << 20)))
    def read(self, number, size, at):
        reader = self.pick(self.readers, number)
        if reader.kind == "batch":
            self.read_batch(reader, size)
        elif reader.kind == "follow":
            self.read_follow(reader, size)
        else:
            self.read_file(reader, size, at)
        self.check()

    def read_file(self, reader, size, at):
        """next, wait, drain, peek and entries/N: `at` None is read(2), else pread(2)."""
        begin = reader.pos if at is None else at
        if reader.late:
            begin_claim = reader.group.pending(reader.topic.tail)[:1]
            if not self.may_be_gone(reader) and not begin_claim:
                with self.refused(errno.EAGAIN):
                    reader.worker.do("read", reader.fd, size)
                return
            if not self.may_be_gone(reader):
                reader.hold(begin_claim)
                reader.late, at, begin = False, None, reader.pos
        try:
            got = (reader.worker.do("read", reader.fd, size) if at is None
                   else reader.worker.do("pread", reader.fd, size, at))
        except OSError as e:
            assert e.errno == errno.ENODEV and self.may_be_gone(reader), f"{name_of(e.errno)} from read(2)"
            return
        want = reader.bytes[begin:begin + size]
        if not (self.may_be_gone(reader) and got == b""):
            lib.equal(got, want, f"a read of {size} at {begin} of {reader.kind}")
        if at is None:
            reader.pos += len(got)
        if self.may_be_gone(reader) or not reader.claims:
            return
        at_end = reader.kind == "drain" and begin >= len(reader.bytes) and reader.seqs != []
        if at_end and self.every is None:
            at_end, reader.ended = not reader.ended, True
        if want or at_end:
            self.took(reader, begin, len(want), at_end)

    def read_follow(self, reader, size):
        topic, group = reader.topic, reader.group
        gone = self.may_be_gone(reader)
        while not gone and not reader.seqs:
            head = group.pending(topic.tail)[:1]
            if not head:
                with self.refused(errno.EAGAIN):
                    reader.worker.do("read", reader.fd, size)
                return
            reader.hold(head)
            if not reader.bytes:  # nothing to show: consumed, and the next one is looked at
                reader.close()
            reader.given = 0
        try:
            got = reader.worker.do("read", reader.fd, size)
        except OSError as e:
            assert e.errno in (errno.ENODEV, errno.EAGAIN) and gone, f"{name_of(e.errno)} from follow"
            return
        if gone:
            return
        lib.equal(got, reader.bytes[reader.given:reader.given + size], "a read of follow")
        reader.given += len(got)
        if self.every is None or reader.given == len(reader.bytes):
            reader.consume(reader.seqs)
        if reader.given == len(reader.bytes):
            reader.close()

    def read_batch(self, reader, size):
        topic, group = reader.topic, reader.group
        gone = self.may_be_gone(reader)
        pending = [] if gone else group.pending(topic.tail)
        try:
            got = split_records(reader.worker.do("read", reader.fd, size))
        except OSError as e:
            if gone:
                assert e.errno in (errno.ENODEV, errno.EAGAIN), name_of(e.errno)
            elif not pending:
                assert e.errno == errno.EAGAIN, f"{name_of(e.errno)} from a batch with nothing in it"
            else:
                assert e.errno == errno.EINVAL, f"{name_of(e.errno)} from batch"
                assert record_size(len(topic.entries[pending[0]])) > size, "EINVAL, but it fits"
            return
        if gone:
            return
        lib.equal([seq for seq, _, _ in got], pending[:len(got)], "the numbers that batch gives")
        assert got, "a batch of nothing"
        for seq, when, data in got:
            lib.equal(data, topic.entries[seq], f"entry {seq} in a batch")
            assert when == topic.times.get(seq, when) != 0, f"the time of entry {seq} is {when}"
        used = sum(record_size(len(data)) for _, _, data in got)
        rest = [topic.entries[s] for s in pending[len(got):]]
        assert used <= size, f"{used} bytes of records for {size}"
        if rest and rest[0]:  # entries of no bytes may be left for the next read
            assert used + record_size(len(rest[0])) > min(size, APPEND_MAX), "more would have fit"
        for seq, _, _ in got:
            group.consume(seq, group.epoch)

    @rule(number=picks, group=picks, worker=workers, short=st.booleans(),
          size=st.sampled_from((30, 40, 50, 64, 100, 130, 800, 1 << 20)))
    def take_batch(self, number, group, worker, short, size):
        """One read of batch; what fits, and what is left, depends on records of a few bytes."""
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        worker = WORKERS[worker]
        fd = worker.do("open", self.file(topic, "batch", name, short), os.O_RDONLY | os.O_NONBLOCK)
        self.read_batch(Reader("batch", topic, topic.groups[name], worker, fd), size)
        worker.do("close", fd)
        self.check()

    @precondition(lambda self: self.readers)
    @rule(number=picks)
    def close_reader(self, number):
        self.close(self.pick(self.readers, number))
        self.check()

    def close(self, reader):
        self.readers.remove(reader)
        reader.worker.do("close", reader.fd)
        reader.close()

    @precondition(lambda self: self.readers)
    @rule(number=picks)
    def sync_reader(self, number):
        """fsync of a consumer file stores its group's position."""
        reader = self.pick(self.readers, number)
        if self.may_be_gone(reader) or reader.group is None:
            return
        reader.worker.do("fsync", reader.fd)
        reader.group.stored()
        self.check()

    @rule(number=picks, group=picks, worker=workers, short=st.booleans(),
          kind=st.sampled_from(("next", "wait", "drain", "peek")))
    def take(self, number, group, worker, short, kind):
        """What cat does."""
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        group = topic.groups[name]
        pending = group.pending(topic.tail)
        if kind == "wait" and not pending:
            return
        seqs = pending if kind == "drain" else pending[:1]
        path = self.file(topic, kind, name, short)
        lib.equal(WORKERS[worker].do("take_many", path, 1), [topic.data(seqs)], f"what {kind} gives")
        if kind != "peek":
            for seq in seqs:
                group.consume(seq, group.epoch)
        self.check()

    @rule(number=picks, group=picks, sizes=st.lists(st.sampled_from((0, 0, 1, 1 << 20)), min_size=2, max_size=4),
          order=st.permutations(range(4)))
    def juggle(self, number, group, sizes, order):
        """Several opens of next at once, read a little or whole or not at all, and closed in any order."""
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        for i, size in enumerate(sizes):
            worker = WORKERS[i % len(WORKERS)]
            fd = worker.do("open", self.file(topic, "next", name), os.O_RDONLY)
            reader = Reader("next", topic, topic.groups[name], worker, fd)
            reader.hold(reader.group.pending(topic.tail)[:1])
            self.readers.append(reader)
            if size:
                self.read_file(reader, size, None)
        mine = self.readers[-len(sizes):]
        for i in order:
            if i < len(mine):
                self.close(mine[i])
                self.check()  # or the daemon may see the closes in another order
        lib.equal(lib.read_all(self.file(topic, "peek", name)),
                  topic.data(topic.groups[name].pending(topic.tail)[:1]), "what peek shows")

    @rule(number=picks, group=picks, count=st.integers(1, 5))
    def race_of_readers(self, number, group, count):
        """Every worker takes at the same time: each entry goes to one of them, the first ones first."""
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        group = topic.groups[name]
        seqs = group.pending(topic.tail)[:count * len(WORKERS)]
        for worker in WORKERS:
            worker.ask("take_many", self.file(topic, "next", name), count)
        got = [worker.answer() for worker in WORKERS]
        lib.equal(sorted(e for lot in got for e in lot if e),
                  sorted(topic.entries[s] for s in seqs if topic.entries[s]), "what all took together")
        for seq in seqs:
            group.consume(seq, group.epoch)
        self.check()
        if self.every is not None:  # nobody knows in which order they were consumed
            fd = WORKERS[0].do("open", self.file(topic, "peek", name), os.O_RDONLY)
            WORKERS[0].do("fsync", fd)
            WORKERS[0].do("close", fd)
            group.stored()

    # ------------------------------------------------------------------------------------- controls

    @rule(number=picks, group=picks, how=st.sampled_from(("begin", "end", "to", "+", "-", "junk")),
          value=picks)
    def seek(self, number, group, how, value):
        topic = self.topic(number)
        if topic is None:
            return
        name = self.name_of_group(topic, group)
        group = topic.groups[name]
        path = self.file(topic, "offset", name)
        if how == "junk":
            with self.refused(errno.EINVAL):
                lib.write_once(path, self.pick((b"x\n", b"1 2\n", b"+\n", b"0x1\n", b"ende\n"), value))
            self.check()
            return
        value = value % (topic.tail + 2) if how == "to" else value
        text = {"to": str(value), "+": f"+{value}", "-": f"-{value}"}.get(how, how)
        target = {"begin": topic.first, "end": topic.tail, "to": value,
                  "+": group.low + value, "-": group.low - value}[how]
        try:
            lib.write_once(path, text.encode() + b"\n", os.O_TRUNC)
        except OSError as e:
            assert e.errno == errno.ERANGE, f"{name_of(e.errno)} from a seek"
            first = self.status(topic)["first"]  # reclaim may have moved it
            assert not first <= target <= topic.tail, f"ERANGE for {target} in {first}..{topic.tail}"
        else:
            if how == "begin":
                target = int(self.text(path))
            assert topic.first <= target <= topic.tail, f"a seek to {target} worked"
            group.seek(target)
        self.check()

    @rule(number=picks, text=st.sampled_from(("consumed", "all", "1G", "64K", "7d", "some")))
    def retain(self, number, text):
        topic = self.topic(number)
        if topic is None:
            return
        path = self.path(topic.name, "retention")
        with self.refused(*[errno.EINVAL] * (text == "some")):
            lib.write_once(path, text.encode() + b"\n", os.O_TRUNC)
        if text != "some":
            topic.first = self.status(topic)["first"]
            topic.retention = text
        lib.equal(self.text(path), topic.retention + "\n", "retention")
        self.check()

    @rule(number=picks, size=st.sampled_from((None, 1 << 17, 1 << 20, 1 << 30)))
    def set_limit(self, number, size):
        topic = self.topic(number)
        if topic is None:
            return
        path = self.path(topic.name, "limit")
        lib.write_once(path, f"{size}\n".encode() if size else b"none\n", os.O_TRUNC)
        topic.limit = size
        lib.equal(self.text(path), f"{size}\n" if size else "none\n", "limit")
        self.check()

    # ------------------------------------------------------------------------------ deaths and births

    @rule(worker=workers)
    def kill_worker(self, worker):
        """A process dies: rests of lines become entries, blobs do not, claims go back."""
        worker = WORKERS[worker]
        writers = [w for w in self.writers if w.worker is worker]
        readers = [r for r in self.readers if r.worker is worker]
        self.writers = [w for w in self.writers if w.worker is not worker]
        self.readers = [r for r in self.readers if r.worker is not worker]
        worker.kill()
        for reader in readers:
            reader.close()
        for topic in self.topics.values():
            self.adopt(topic, [w.rest.held for w in writers if w.topic is topic and w.rest.held])
        self.check()

    def forget_handles(self):
        for worker in WORKERS:
            worker.do("close_all", [h.fd for h in self.readers + self.writers if h.worker is worker])
        self.readers, self.writers = [], []

    @rule(term=st.booleans())
    def remount(self, term):
        """A clean end, by SIGTERM with files open, or by unmounting without."""
        if term:
            self.mount.daemon.send_signal(signal.SIGTERM)
            self.mount.wait_exit()
        writers = self.writers if term else []
        if not term:
            for writer in list(self.writers):
                self.close_writer(writer)
        for reader in self.readers:
            reader.close()
        self.forget_handles()
        if not term:
            self.mount.stop()
        self.mount.detach()
        self.mount.start()
        for topic in self.topics.values():
            for group in topic.groups.values():
                group.restart()
                group.stored()
            self.adopt(topic, [w.rest.held for w in writers if w.topic is topic and w.rest.held],
                       [w.blob for w in writers if w.topic is topic and w.blob])
        self.check()
        self.check_modes()

    @rule()
    def kill_daemon(self):
        """Rests and blobs are lost, entries never; positions as the mode promises."""
        self.mount.kill()
        self.forget_handles()
        self.mount.start()
        for topic in self.topics.values():
            for name, group in topic.groups.items():
                group.restart()
                if self.every is not None:
                    self.rewind(topic, name, group)
                group.stored()
        self.check()
        self.check_modes()

    def rewind(self, topic, name, group):
        """At-least-once: the position is one that the group had, at most N entries and one read ago."""
        status = self.status(topic, name)
        taken = topic.tail - status["pending"]
        found = [s for s in group.history if s[0] == status["offset"] and group.count_consumed(s) == taken]
        assert found, f"{topic.name}/{name}: {status} is no position that the group had: {group.history[-9:]}"
        lost = group.count_consumed(group.state()) - taken
        assert lost <= group.again(self.every), f"{lost} entries come again, {group.again(self.every)} are allowed"
        group.low, group.done = found[0][0], set(found[0][1])
