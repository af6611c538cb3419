#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Disks that fail: a failed sync is final, a sector that cannot be read costs one request, and the daemon lives.

The disk is cutdisk (tests/power/cutdisk.c) below ext4 and xfs; what fails is chosen by where the bytes of a file lie."""

import errno
import os
import signal

import lib
from faults import disks
from lib import case, equal, fails_with

NEVER, EACH, SOON = ("-o", "fsync=never"), ("-o", "fsync=each"), ("-o", "fsync=20")
TWICE = ("-o", "consistency=at-least-once:2")
DATA = 65536  # where the first block of a log file begins
SIZE = 3000


def on_disks(sentence, *options):
    """A case for each filesystem; the function gets the mount, mounted on a cutdisk, and the disk."""
    def mark(function):
        for fs in ("ext4", "xfs"):
            def run(m, fs=fs):
                disk = disks.CutDisk(m.work, fs).make()
                m.store = os.path.join(disk.path, "store")
                try:
                    m.start()
                    function(m, disk)
                    if m.daemon is not None:
                        m.stop()
                finally:
                    m.kill()
                    disk.remove()
            case(f"{sentence}, on {fs}", *options, mounted=False, allow=".")(run)
        return function
    return mark


def entry(i):
    return b"%06d " % i + bytes([65 + i % 26]) * SIZE


def wal(m):
    return os.path.join(m.store, "wal_0001.log")


def spoil(disk, how, path, off, size):
    for start, end in disks.places(path, off, size):
        disk.tell(f"{how} {start} {end}")


def synced(t, first, end):
    for i in range(first, end):
        t.append(entry(i))
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)


def end_degraded(m):
    """The daemon ends when asked to, and its exit status tells that not everything is durable."""
    assert m.daemon.poll() is None, "I5: the daemon died"
    m.daemon.send_signal(signal.SIGTERM)
    status = m.daemon.wait(120)
    m.daemon = None
    m.detach()
    assert status > 0, f"exit status {status} of a daemon that could not sync"


def is_degraded(m, t, durable):
    """What a topic says and does after a sync failed, though the disk is well again."""
    status = t.status()
    equal((status["degraded"], status["durable"]), (1, durable), "degraded, durable")
    metrics = lib.read_all(os.path.join(m.path, ".walrusfs", "metrics")).decode()
    assert 'walrusfs_degraded{topic="t"} 1' in metrics, "not in the metrics"
    assert b"doubtful" in lib.read_all(os.path.join(m.path, ".walrusfs", "errors"))
    with fails_with(errno.EIO):
        t.append(b"refused")
    for name in ("append", "peek", "status"):
        fd = os.open(t.file(name), os.O_WRONLY if name == "append" else os.O_RDONLY)
        with fails_with(errno.EIO):
            os.fsync(fd)
        os.close(fd)
    equal(lib.read_all(t.file("entries/1")), entry(1), "reading goes on")
    equal(t.next(), entry(0), "taking goes on")


def failed_sync(m, disk):
    """Three durable entries and two whose sync fails.  The disk is well again after it."""
    t = m.topic()
    synced(t, 0, 3)
    old = os.open(t.file("append"), os.O_WRONLY)
    t.append(entry(3))
    t.append(entry(4))
    spoil(disk, "badwrite", wal(m), DATA, 10 << 20)
    with fails_with(errno.EIO):
        os.fsync(old)
    disk.tell("heal")
    for _ in range(2):
        with fails_with(errno.EIO):
            os.fsync(old)
    os.close(old)
    is_degraded(m, t, 3)
    end_degraded(m)


@on_disks("a failed fsync is final: nothing it covered is called durable later, and the topic says so", *NEVER)
def _(m, disk):
    failed_sync(m, disk)
    disk.tell("cut 0 1 0")  # what was only in memory is gone
    disk.again()
    m.start()
    t = m.find()
    equal(t.status()["degraded"], 0, "degraded after mounting again")
    t.settled(tail=3, durable=3)  # what the disk holds, and not more
    equal([t.next(), t.next(), t.next()], [entry(1), entry(2), b""])
    synced(t, 5, 6)
    equal(t.next(), entry(5))


@on_disks("after a failed fsync a remount makes durable what it shows", *NEVER)
def _(m, disk):
    failed_sync(m, disk)
    m.start()  # the page cache still has the two, clean, and not on the disk
    t = m.find()
    shown = t.status()["tail"]
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)
    disk.tell("cut 0 1 0")
    m.kill()
    disk.again()
    m.start()
    equal(m.find().status()["tail"], shown, "tail")
    for i in range(1, shown):
        equal(m.find().next(), entry(i))


@on_disks("fsync=each: the write whose sync fails is told, and what follows is refused", *EACH)
def _(m, disk):
    t = m.topic()
    for i in range(3):
        t.append(entry(i))
    spoil(disk, "badwrite", wal(m), DATA, 10 << 20)
    with fails_with(errno.EIO):
        t.append(entry(3))
    disk.tell("heal")
    is_degraded(m, t, 3)
    end_degraded(m)


@on_disks("fsync=MS: a sync that fails in the background is seen by the next write and in status", *SOON)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 3)
    spoil(disk, "badwrite", wal(m), DATA, 10 << 20)
    t.append(entry(3))
    lib.until("degraded", lambda: t.status()["degraded"] == 1)
    disk.tell("heal")
    is_degraded(m, t, 3)
    end_degraded(m)


@on_disks("a flush that the disk refuses is a failed sync", *NEVER)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 3)
    t.append(entry(3))
    disk.tell("badflush")
    fd = os.open(t.file("append"), os.O_WRONLY)
    with fails_with(errno.EIO):
        os.fsync(fd)
    disk.tell("heal")
    with fails_with(errno.EIO):
        os.fsync(fd)
    os.close(fd)
    equal(t.status()["degraded"], 1, "degraded")
    end_degraded(m)


@on_disks("strict: an offset that cannot be stored is EIO and takes nothing, also later", *NEVER)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 5)
    equal(t.next(), entry(0))
    spoil(disk, "badwrite", os.path.join(m.store, "read_offset_idx_index.db"), 0, 1 << 20)
    with fails_with(errno.EIO):
        t.next()
    disk.tell("heal")
    with fails_with(errno.EIO):
        t.next()
    equal(lib.read_all(t.file("entries/1")), entry(1), "reading without taking goes on")
    t.append(entry(5))
    end_degraded(m)
    disk.tell("cut 0 1 0")
    disk.again()
    m.start()
    equal(m.find().next(), entry(1), "what comes next")


@on_disks("at-least-once:2: when what was taken cannot be stored, taking ends with EIO, and nothing is skipped", *NEVER, *TWICE)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 2)
    for i in range(2, 100):
        t.append(b"%06d " % i)
    spoil(disk, "badwrite", wal(m), DATA, 10 << 20)
    equal([t.next(), t.next()], [entry(0), entry(1)])
    taken = 2
    with fails_with(errno.EIO):
        while taken < 100:  # those that are in hand when the store fails come on top of the two
            equal(t.next(), b"%06d " % taken)
            taken += 1
    assert 4 <= taken < 100, f"{taken} entries were taken"
    disk.tell("heal")
    for name in ("next", "drain", "next"):
        with fails_with(errno.EIO):
            lib.read_all(t.file(name))
    equal(lib.read_all(t.file("entries/50")), b"%06d " % 50, "reading without taking goes on")
    end_degraded(m)
    m.start()
    again = int(m.find().next()[:6])
    assert again <= taken, f"entry {again} comes after {taken - 1}"


@on_disks("a sector that cannot be read costs the entries on it, and neither the daemon nor another", *NEVER)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 30)
    m.stop()
    disks.drop_caches()
    off = find(wal(m), entry(10))
    spoil(disk, "badread", wal(m), off // 4096 * 4096, 4096)
    disks.drop_caches()
    m.start()
    t = m.find()
    for _ in range(2):
        with fails_with(errno.EIO):
            lib.read_all(t.file("entries/10"))
    got, failed = [], 0
    while len(got) + failed < 30:
        try:
            got.append(int(t.next()[:6]))
        except OSError as e:
            equal(e.errno, errno.EIO)
            failed += 1
    lost = sorted(set(range(30)) - set(got))
    equal(got, [i for i in range(30) if i not in lost], "the others, in order")
    assert 10 in lost and set(lost) <= {9, 10, 11}, f"one page costs {lost}"
    equal(t.next(), b"")
    t.append(entry(30))
    equal(t.next(), entry(30))
    disk.tell("heal")


def find(path, what):
    with open(path, "rb") as f:
        f.seek(DATA)
        at = f.read(1 << 20).find(what)
    assert at >= 0, "the entry is not in the log file"
    return DATA + at


@on_disks("one copy of any metadata that cannot be read is made good by the other", *NEVER)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 12)
    equal(t.next(), entry(0))
    pieces = (("wal_0001.log", 0, 4096), ("wal_0001.log", 4096, 28672), ("wal_0001.log", 32768, 28672),
              ("wal_0001.log", 61440, 4096), ("SUPER", 0, 4096), ("SUPER", 4096, 4096), ("topics.db", 0, 4096),
              ("topics.db", 4096, 4096), ("read_offset_idx_index.db", 0, 4096),
              ("read_offset_idx_index.db", 32768, 4096))
    for n, (name, off, size) in enumerate(pieces, 1):
        m.stop()
        spoil(disk, "badread", os.path.join(m.store, name), off, size)
        disks.drop_caches()
        try:
            m.start()
        except AssertionError as e:
            raise AssertionError(f"{name} {off}: {e}") from None
        t = m.find()
        got = int(t.next()[:6])
        assert n - 1 <= got <= n, f"{name} {off}: {got} comes next, {n} is due, and a copy may be one step older"
        disk.tell("heal")
        t.seek(n + 1)


@on_disks("a log file that root cuts short costs the requests that meet it, and the daemon lives", *NEVER)
def _(m, disk):
    t = m.topic()
    synced(t, 0, 30)
    off = find(wal(m), entry(20))
    size = os.path.getsize(wal(m))
    os.truncate(wal(m), off // 4096 * 4096)
    equal(lib.read_all(t.file("entries/3")), entry(3))
    with fails_with(errno.EIO):
        lib.read_all(t.file("entries/25"))
    for _ in range(3):
        try:
            t.append(entry(30))
        except OSError as e:
            equal(e.errno, errno.EIO)  # or it works, where taking more space made the file longer again
    equal(t.next(), entry(0))
    assert m.daemon.poll() is None, "the daemon died"
    m.kill()
    m.start()
    equal(os.path.getsize(wal(m)), size, "size of the file, made whole")
    t = m.find()
    equal(t.next(), entry(1))
    other = m.topic("other")
    synced(other, 0, 3)
    equal(other.next(), entry(0))


if __name__ == "__main__":
    lib.main()
