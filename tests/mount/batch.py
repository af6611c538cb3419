#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`batch`: framed records, many in one call."""

import errno
import os
import struct
import subprocess

import lib
from lib import case, equal, fails_with


def record(data, time_ns=0, flags=0, seq=0):
    return struct.pack("<IIQQ", len(data), flags, seq, time_ns) + data + b"\0" * (-len(data) % 8)


def records(data):
    """What a read gave, as a list of (seq, time, data)."""
    got, at = [], 0
    while at < len(data):
        size, flags, seq, time_ns = struct.unpack_from("<IIQQ", data, at)
        equal(flags, 0, "flags")
        at += 24
        got.append((seq, time_ns, data[at:at + size]))
        at += size + -size % 8
    equal(at, len(data), "where the last record ends")
    return got


def read_batch(t, size=1 << 20):
    fd = os.open(t.file("batch"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        return records(os.read(fd, size))
    finally:
        os.close(fd)


@case("records written in one call are entries, a length of zero and a time of their own included")
def _(m):
    t = m.topic()
    lib.write_once(t.file("batch"), record(b"one") + record(b"") + record(b"x" * 1000, time_ns=5_000_000_000))
    equal(t.status()["entries"], 3, "entries")
    got = read_batch(t)
    equal([(seq, data) for seq, _, data in got], [(0, b"one"), (1, b""), (2, b"x" * 1000)])
    equal(got[2][1], 5_000_000_000, "the time of the third")


@case("a malformed record is EINVAL, and nothing of the call is stored")
def _(m):
    t = m.topic()
    good = record(b"good")
    for bad in (b"x", record(b"y")[:-1], record(b"y")[:20], record(b"yy", flags=1),
                struct.pack("<IIQQ", 1, 0, 0, 0) + b"y" + b"\1" * 7, struct.pack("<IIQQ", 100, 0, 0, 0) + b"short"):
        with fails_with(errno.EINVAL):
            lib.write_once(t.file("batch"), good + bad)
    equal(t.status()["entries"], 0, "entries")


@case("a read gives as many whole records as fit; a buffer too small is EINVAL and takes nothing")
def _(m):
    t = m.topic()
    for i in range(4):
        t.append(b"%d" % i * 100)
    fd = os.open(t.file("batch"), os.O_RDONLY | os.O_NONBLOCK)
    with fails_with(errno.EINVAL):
        os.read(fd, 64)
    size = len(record(b"x" * 100))
    equal([r[0] for r in records(os.read(fd, 2 * size + 10))], [0, 1])
    equal([r[0] for r in records(os.read(fd, 65536))], [2, 3])
    with fails_with(errno.EAGAIN):
        os.read(fd, 65536)
    os.close(fd)


@case("a buffer too small for an entry of no bytes is EINVAL, too, and the entry stays")
def _(m):
    for consistency in ("strict", "at-least-once:1"):
        m.restart("-o", f"consistency={consistency}")
        t = m.topic(consistency[:2])
        lib.write_once(t.file("batch"), record(b""))
        fd = os.open(t.file("batch"), os.O_RDONLY | os.O_NONBLOCK)
        with fails_with(errno.EINVAL):
            os.read(fd, 23)
        equal(t.status()["pending"], 1, "pending")
        equal([r[2] for r in records(os.read(fd, 24))], [b""])
        os.close(fd)
        t.settled(pending=0)


@case("dd copies the entries of a topic to another with their boundaries")
def _(m):
    a, b = m.topic("a"), m.topic("b")
    entries = [os.urandom(i * 13) for i in range(1, 300)]
    for entry in entries:
        a.append(entry)
    done = subprocess.run(["dd", f"if={a.file('batch')}", f"of={b.file('batch')}", "bs=1M", "iflag=nonblock",
                           "status=none"], stderr=subprocess.PIPE)
    assert b"temporarily unavailable" in done.stderr, done.stderr
    equal((a.status()["pending"], b.status()["entries"]), (0, len(entries)))
    equal([b.next() for _ in entries], entries)


@case("one write of more than 1,044,480 bytes has to be one record")
def _(m):
    t = m.topic()
    with fails_with(errno.EMSGSIZE):
        lib.write_once(t.file("batch"), record(b"x" * 600_000) * 2)
    equal(t.status()["entries"], 0, "entries")


if __name__ == "__main__":
    lib.main()
