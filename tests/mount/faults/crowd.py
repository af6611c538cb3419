# SPDX-License-Identifier: MIT
"""crowd.py - producers and consumers at work on a mount, each with a record of what it was told.

Every client is a thread that does random operations until it is stopped or a call fails: with one of FAULTS, which
ends the client (its last operation stays in doubt), or with ENOSPC, after which it goes on.
"""

import errno
import os
import random
import struct
import threading
import time

import lib
from faults.record import HEAD, Record

FAULTS = (errno.EIO, *lib.DYING, errno.ESHUTDOWN, errno.ENODEV, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT)
READ_SIZE = 65536
SIZES = (16, 31, 32, 33, 100, 100, 500, 500, 1000, 4064, 4096, 4128, 8000, 20000)


def batch_record(data):
    return struct.pack("<IIQQ", len(data), 0, 0, 0) + data + bytes(-len(data) % 8)


def batch_parse(data):
    at, found = 0, []
    while at < len(data):
        size, _, seq, _ = struct.unpack_from("<IIQQ", data, at)
        found.append((seq, data[at + 24:at + 24 + size]))
        at += 24 + size + -size % 8
    return found


class Stopped(Exception):
    pass


class Client(threading.Thread):
    def __init__(self, crowd, topic, name, rng):
        super().__init__(daemon=True)
        self.crowd, self.topic, self.rng = crowd, topic, rng
        self.record = crowd.records[topic]
        self.label = name
        self.error = None

    def path(self, name):
        return os.path.join(self.crowd.path, self.topic, name)

    def run(self):
        try:
            while not self.crowd.stopping:
                try:
                    self.step()
                except OSError as e:
                    if e.errno not in FULL:
                        raise
                    time.sleep(0.002)
        except OSError as e:
            if e.errno not in FAULTS:
                self.error = e
        except Stopped:
            pass
        except Exception as e:
            self.error = e


class Producer(Client):
    def __init__(self, crowd, topic, index, rng):
        super().__init__(crowd, topic, f"producer {index}", rng)
        self.index = index
        self.number = crowd.next_number.get((topic, index), 0)
        self.fd = None

    def begin(self, sizes):
        numbers = range(self.number, self.number + len(sizes))
        self.number += len(sizes)
        self.crowd.next_number[self.topic, self.index] = self.number
        return self.record.begin(self.index, numbers, sizes)

    def write(self, unit, path, data, flags=0, fd=None):
        """What is full refuses the whole of it; any other failure leaves it in doubt."""
        try:
            done = os.write(fd, data) if fd is not None else lib.write_once(path, data, flags)
        except OSError as e:
            if e.errno in FULL:
                self.record.refused(unit)
            raise
        lib.equal(done, len(data), "what write(2) returned")
        self.record.ack(unit, durable=bool(flags) or self.crowd.each)

    def step(self):
        kind, rng = self.rng.random(), self.rng
        if self.fd is None:
            self.fd = os.open(self.path("append"), os.O_WRONLY)
        if kind < 0.55:
            unit, (data,) = self.begin([rng.choice(SIZES)])
            self.write(unit, None, data, fd=self.fd)
        elif kind < 0.65:
            unit, (data,) = self.begin([rng.choice(SIZES)])
            self.write(unit, self.path("append"), data, os.O_DSYNC)
        elif kind < 0.75:
            unit, datas = self.begin([rng.choice(SIZES) for _ in range(rng.randint(2, 6))])
            self.write(unit, self.path("batch"), b"".join(map(batch_record, datas)))
        elif kind < 0.8:
            self.blob(rng.randint(1, self.crowd.blob_max))
        elif kind < 0.93:
            count = self.record.sync_begins()
            os.fsync(self.fd)
            self.record.sync_done(count)
        else:
            status = lib.read_all(self.path("status")).decode().split()
            self.record.told_durable(int(status[status.index("durable") + 1]))

    def blob(self, size):
        """Committed by close(2)."""
        unit, (data,) = self.begin([size + HEAD.size])
        fd = os.open(self.path("blob"), os.O_WRONLY)
        view = memoryview(data)
        try:
            try:
                while view:
                    view = view[os.write(fd, view[:100_000]):]
            except OSError:
                lib.close_dead(fd)
                raise
            os.close(fd)
        except OSError as e:
            if e.errno in FULL:
                self.record.refused(unit)
            raise
        self.record.ack(unit, durable=self.crowd.each)


class Consumer(Client):
    def __init__(self, crowd, topic, index, rng):
        super().__init__(crowd, topic, f"consumer {index}", rng)

    def step(self):
        kind = self.rng.random()
        if kind < 0.6:
            self.take_next()
        elif kind < 0.9:
            self.take_batch()
        else:
            fd = os.open(self.path("next"), os.O_RDONLY)  # and gives it back
            os.close(fd)

    def take_next(self):
        fd = os.open(self.path("next"), os.O_RDONLY)
        try:
            self.record.reads(self, 1)
            data = b""
            while len(data) < HEAD.size or len(data) < HEAD.unpack_from(data)[-1]:
                part = os.read(fd, 1 << 20)
                if not part:
                    break
                data += part
            if data:
                self.record.got([data])
                lib.equal(os.read(fd, 1), b"", "what follows an entry")
        finally:
            lib.close_dead(fd)
        self.record.closed(self)
        if not data:
            time.sleep(0.001)

    def take_batch(self):
        size = self.rng.choice((8192, READ_SIZE, 1 << 20))
        fd = os.open(self.path("batch"), os.O_RDONLY | os.O_NONBLOCK)
        try:
            self.record.reads(self, size // 40 + 1)
            datas = [d for _, d in batch_parse(os.read(fd, size))]
            self.record.got(datas)
            self.record.took(self, len(datas))
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EINVAL):  # nothing there; larger than the buffer
                raise
            self.record.took(self, 0)
        finally:
            lib.close_dead(fd)
        self.record.closed(self)


class Names(Client):
    """Makes, renames and removes topics; what a call that returned did must last, what it began may."""

    def __init__(self, crowd, topic, rng):
        super().__init__(crowd, topic, "names", rng)
        self.names = crowd.names

    def change(self, call, *changes):
        for name, _ in changes:
            self.names[name] = None  # in doubt
        try:
            call()
        except OSError as e:
            if e.errno in FULL:
                for name, there in changes:
                    self.names[name] = not there
            raise
        if not self.record.cut:
            self.names.update(changes)

    def step(self):
        path = self.crowd.path
        known = [n for n, there in self.names.items() if there]
        if len(known) < 2 or self.rng.random() < 0.4:
            name = f"n{len(self.names)}"
            self.change(lambda: os.mkdir(os.path.join(path, name)), (name, True))
        elif self.rng.random() < 0.5:
            old, new = self.rng.choice(known), f"n{len(self.names)}"
            self.change(lambda: os.rename(os.path.join(path, old), os.path.join(path, new)), (old, False), (new, True))
        else:
            old = self.rng.choice(known)
            self.change(lambda: os.rmdir(os.path.join(path, old)), (old, False))
        time.sleep(self.rng.random() * self.crowd.pause)


class Crowd:
    """The clients of a store, over several mounts of it."""

    def __init__(self, seed, mode, topic_count=2, blob_max=200_000):
        self.seed, self.mode = seed, mode
        self.each = mode.fsync == "each"
        self.blob_max = blob_max
        self.pause = 0.02  # at most, between two changes of names
        self.rng = random.Random(seed)
        self.records = {f"t{i}": Record(seed, i, mode.strict, mode.persist_every, keeps=i % 2 == 0)
                        for i in range(topic_count)}
        self.next_number, self.names = {}, {}
        self.path = None
        self.clients, self.stopping = [], False

    def set_up(self, m):
        """On the first mount: the topics, durably."""
        for name, record in self.records.items():
            t = m.topic(name)
            if record.keeps:
                lib.write_once(t.file("retention"), b"all\n", os.O_TRUNC)

    def start(self, m):
        self.path, self.stopping, self.clients = m.path, False, []
        for topic in self.records:
            for i in range(self.rng.randint(1, 2)):
                self.clients.append(Producer(self, topic, i, random.Random(self.rng.random())))
            for i in range(self.rng.randint(1, 2)):
                self.clients.append(Consumer(self, topic, i, random.Random(self.rng.random())))
        self.clients.append(Names(self, next(iter(self.records)), random.Random(self.rng.random())))
        for client in self.clients:
            client.start()

    def stop(self):
        """Ends the clients and waits for them.  Their files stay open until then, as a program's do."""
        self.stopping = True
        for client in self.clients:
            client.join(60)
            assert not client.is_alive(), f"{client.topic}: {client.label} hangs"
            if isinstance(client, Producer) and client.fd is not None:
                lib.close_dead(client.fd)
        for client in self.clients:
            if client.error:
                raise AssertionError(f"{client.topic}: {client.label}: {client.error!r}") from client.error

    def power_goes(self):
        """From now on no sync is believed that returns: while ext4 is being shut down its fsync(2) can return 0 for
        data in extents that never become written."""
        for record in self.records.values():
            record.cut = True

    def judge(self, m, power):
        """After a fault and a remount: every record against what is there."""
        there = {n for n in os.listdir(m.path) if n.startswith("n")}
        for name, known in self.names.items():
            assert known is None or known == (name in there), \
                f"I1: topic {name} is {'not ' if known else ''}there, against what a call returned"
            self.names[name] = name in there
        assert there <= set(self.names), f"I2: topics that nobody made: {there - set(self.names)}"
        for name, record in self.records.items():
            t = m.find(name)
            try:
                offset = t.offset()
                record.judge(read_log(t), offset, power)
                lib.equal(t.status()["damaged"], 0, "damaged")
            except AssertionError as e:
                raise AssertionError(f"{name}: {e}") from None
            fd = os.open(t.file("append"), os.O_WRONLY)
            os.fsync(fd)
            os.close(fd)
            record.all_is_durable()

    def finish(self, m):
        """After another start all is as before, and the store is usable: an entry more goes in, and everything that is
        left comes out, once.  Unmounts."""
        m.restart()
        self.judge(m, power=False)
        for name, record in self.records.items():
            t = m.find(name)
            unit, (data,) = record.begin(9, [self.next_number.get((name, 9), 0)], [50])
            self.next_number[name, 9] = self.next_number.get((name, 9), 0) + 1
            t.append(data)
            record.ack(unit, durable=self.each)
            while data := t.next():
                record.got([data])
            assert not record.broken, f"{name}: {record.broken[0]}"
            left = record.undelivered()
            assert len(left) <= record.loose, f"I1, I3: {name}: {len(left)} entries never came out, " \
                f"{record.loose} may have been taken above the offset: {left[:3]}"
        m.stop()


def read_log(t):
    """All that the topic retains, (seq, data), by a group made for it; on a full disk one by one."""
    group = os.path.join(t.path, "groups", "check")
    try:
        os.mkdir(group)
    except OSError as e:
        if e.errno not in FULL:
            raise
        status = t.status()
        return [(n, lib.read_all(t.file(f"entries/{n}"))) for n in range(status["first"], status["tail"])]
    found = []
    fd = os.open(os.path.join(group, "batch"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            found += batch_parse(os.read(fd, 1 << 20))
    except OSError as e:
        lib.equal(e.errno, errno.EAGAIN, "errno")
    finally:
        os.close(fd)
    os.rmdir(group)
    return found
