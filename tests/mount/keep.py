#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is kept: `retention`, `limit` and `entries/`."""

import errno
import os

import lib
from lib import case, equal, fails_with


def written(t, name, text):
    lib.write_once(t.file(name), text, os.O_TRUNC)


@case("retention is consumed at first, takes all, sizes and ages, and is kept")
def _(m):
    t = m.topic()
    equal(lib.read_all(t.file("retention")), b"consumed\n")
    for text in (b"all", b"10G", b"512K", b"3M", b"1T", b"7d", b"30s", b"5m", b"2h", b"consumed", b"all"):
        written(t, "retention", text + b"\n")
        equal(lib.read_all(t.file("retention")), text + b"\n")
    for text in (b"", b"some", b"-1", b"1x", b"10 G", b"all all", b"\0"):
        if text:
            with fails_with(errno.EINVAL):
                written(t, "retention", text + b"\n")
    m.kill()
    m.start()
    equal(lib.read_all(m.find().file("retention")), b"all\n")


@case("with retention all everything can be replayed")
def _(m):
    t = m.topic()
    written(t, "retention", b"all\n")
    data = os.urandom(1_000_000)
    for i in range(40):
        t.append(b"%04d" % i + data)
    t.drain()
    t.append(b"last")
    m.restart()
    t = m.find()
    equal(t.status()["first"], 0, "first")
    t.seek("begin")
    equal(t.next(), b"0000" + data)
    t.seek(39)
    equal((t.next(), t.next()), (b"0039" + data, b"last"))


@case("entries/N is the entry, takes nothing, and only the retained ones are there")
def _(m):
    t = m.topic()
    entries = t.file("entries")
    equal(os.listdir(entries), [])
    for i in range(10):
        t.append(b"entry %d" % i)
    t.drain()
    equal(sorted(os.listdir(entries)), ["0", "9"])
    for i in range(10):
        path = os.path.join(entries, str(i))
        equal((lib.read_all(path), os.stat(path).st_size), (b"entry %d" % i, 7))
    for name in ("10", "00", "01", "-1", "+1", "x", "1 ", "18446744073709551616", "0x1"):
        with fails_with(errno.ENOENT):
            os.stat(os.path.join(entries, name))
    equal(t.status()["pending"], 0)
    with fails_with(errno.EPERM):
        os.rmdir(entries)


@case("limit makes an append beyond it ENOSPC, for that topic alone")
def _(m):
    t, other = m.topic(), m.topic("other")
    equal(lib.read_all(t.file("limit")), b"none\n")
    written(t, "limit", b"20M\n")
    data = os.urandom(1_000_000)
    count = 0
    with fails_with(errno.ENOSPC):
        while count < 100:
            t.append(data)
            count += 1
    assert 5 <= count <= 20, f"{count} MB fit into a limit of 20M"
    equal(t.status()["entries"], count)
    other.append(data)
    equal(len(t.drain()), count * len(data))

    def room():
        try:
            t.append(data)
            return True
        except OSError as e:
            equal(e.errno, errno.ENOSPC)
    lib.until("room after draining", room)
    for text in (b"much\n", b"-1\n", b"1.5M\n"):
        with fails_with(errno.EINVAL):
            written(t, "limit", text)
    written(t, "limit", b"none\n")
    equal(lib.read_all(t.file("limit")), b"none\n")


if __name__ == "__main__":
    lib.main()
