#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Bytes that changed on disk: the entry is EIO once, counted and named, and the others are delivered."""

import errno
import mmap
import os

import lib
from lib import case, equal, fails_with


HEADER_SIZE = 40  # of a record, before its data


def change_on_disk(m, pattern, before=0):
    """Changes the first byte of `pattern`, or one so many bytes before it, in the log files of the store, which is not
    mounted."""
    for name in os.listdir(m.store):
        if not name.startswith("wal_"):
            continue
        path = os.path.join(m.store, name)
        with open(path, "r+b") as f, mmap.mmap(f.fileno(), 0) as data:
            at = data.find(pattern)
            if at >= 0:
                data[at - before] ^= 0x40
                return
    raise AssertionError("the entry is not in the store as it was written")


def damaged_third(m, before=0):
    """A topic of five entries, mounted again, of which the third is damaged, in its data or so many bytes before."""
    t = m.topic()
    for i in range(5):
        t.append(b"payload number %d" % i)
    m.stop()
    change_on_disk(m, b"payload number 2", before)
    m.start()
    return m.find()


@case("a damaged entry is EIO to one reader, is counted and named, and the next open goes on behind it", allow=".")
def _(m):
    t = damaged_third(m)
    equal([t.next(), t.next()], [b"payload number 0", b"payload number 1"])
    with fails_with(errno.EIO):
        t.next()
    equal([t.next(), t.next(), t.next()], [b"payload number 3", b"payload number 4", b""])
    assert t.status()["damaged"] >= 1, t.status()
    errors = lib.read_all(os.path.join(m.path, ".walrusfs", "errors"))
    assert b"t" in errors and b"2" in errors, errors
    m.restart()
    equal(m.find().next(), b"", "after a restart")


@case("drain gives EIO at a damaged entry, and the next read goes on behind it", allow=".")
def _(m):
    t = damaged_third(m)
    fd = os.open(t.file("drain"), os.O_RDONLY)
    got, errors = b"", 0
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError as e:
            equal(e.errno, errno.EIO)
            errors += 1
            assert errors == 1, "EIO again and again"
            continue
        if not part:
            break
        got += part
    os.close(fd)
    equal(got, b"".join(b"payload number %d" % i for i in (0, 1, 3, 4)))
    equal(errors, 1, "readings that failed")


@case("entries/N of a damaged entry is EIO each time", allow=".")
def _(m):
    t = damaged_third(m)
    for _ in range(2):
        with fails_with(errno.EIO):
            lib.read_all(t.file("entries/2"))
    equal(lib.read_all(t.file("entries/3")), b"payload number 3")


@case("an entry whose header is damaged is EIO like another, and no empty file", allow=".")
def _(m):
    t = damaged_third(m, HEADER_SIZE)
    for _ in range(2):
        with fails_with(errno.EIO):
            lib.read_all(t.file("entries/2"))
    equal([t.next(), t.next()], [b"payload number 0", b"payload number 1"])
    with fails_with(errno.EIO):
        t.peek()
    with fails_with(errno.EIO):
        t.next()
    equal([t.next(), t.next(), t.next()], [b"payload number 3", b"payload number 4", b""])


@case("wait and drain tell of a damaged header too", allow=".")
def _(m):
    t = damaged_third(m, HEADER_SIZE)
    equal([t.next(), t.next()], [b"payload number 0", b"payload number 1"])
    t.seek(2)
    with fails_with(errno.EIO):
        lib.read_all(t.file("wait"))
    t.seek(2)
    with fails_with(errno.EIO):
        t.drain()
    equal(t.drain(), b"payload number 3payload number 4")


if __name__ == "__main__":
    lib.main()
