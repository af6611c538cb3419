#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Groups: each takes every entry for itself."""

import contextlib
import errno
import os
import threading

import lib
from lib import Topic, case, equal, fails_with


def group(t, name, make=True):
    path = os.path.join(t.path, "groups", name)
    if make:
        os.mkdir(path)
    return Topic(path)


def fill(t, count=5):
    for i in range(count):
        t.append(b"%d" % i)


@case("a group has an offset of its own and starts at the oldest retained entry")
def _(m):
    t = m.topic()
    fill(t)
    equal((t.next(), t.next()), (b"0", b"1"))
    audit = group(t, "audit")
    equal(audit.drain(), b"01234")
    equal((t.offset(), audit.offset()), (2, 5), "offsets")
    equal(t.next(), b"2")
    equal(sorted(os.listdir(os.path.join(t.path, "groups"))), ["audit", "default"])


@case("a topic's own consumer files are those of groups/default")
def _(m):
    t = m.topic()
    fill(t)
    default = group(t, "default", make=False)
    equal((default.next(), t.next(), default.next()), (b"0", b"1", b"2"))
    default.seek(1)
    equal(t.offset(), 1)


@case("groups and their offsets survive a kill")
def _(m):
    t = m.topic()
    group(t, "audit")
    fill(t)
    equal([group(t, "audit", False).next() for _ in range(3)], [b"0", b"1", b"2"])
    m.kill()
    m.start()
    equal(group(m.find(), "audit", False).next(), b"3")
    equal(m.find().next(), b"0")


@case("a group goes with unread entries; the only one is EBUSY; without default its files are ENXIO")
def _(m):
    t = m.topic()
    fill(t)
    with fails_with(errno.EBUSY):
        os.rmdir(group(t, "default", False).path)
    audit = group(t, "audit")
    os.rmdir(group(t, "default", False).path)
    with fails_with(errno.ENXIO):
        t.next()
    equal(audit.drain(), b"01234")
    with fails_with(errno.EBUSY):
        os.rmdir(audit.path)


@case("without default many may read one open batch at the same time, and get ENXIO")
def _(m):
    t = m.topic()
    group(t, "other")
    os.rmdir(os.path.join(t.path, "groups", "default"))
    fd = os.open(t.file("batch"), os.O_RDWR)
    told = []

    def read():
        for _ in range(500):
            try:
                os.read(fd, 4096)
            except OSError as e:
                told.append(e.errno)
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    equal((set(told), len(told)), ({errno.ENXIO}, 2000))


@case("a removed topic does not come back because a group of it changed meanwhile")
def _(m):
    for i in range(40):
        t = m.topic(f"t{i}")
        path = group(t, "g").path

        def change():
            with contextlib.suppress(OSError):
                while True:
                    os.chmod(path, 0o700)
                    os.chmod(path, 0o755)
        thread = threading.Thread(target=change)
        thread.start()
        os.rmdir(t.path)
        thread.join()
    m.restart()
    equal([n for n in os.listdir(m.path) if n[0] != "."], [])


@case("a topic is not empty while any group has unread entries")
def _(m):
    t = m.topic()
    audit = group(t, "audit")
    fill(t)
    t.drain()
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(t.path)
    audit.seek("end")
    os.rmdir(t.path)


@case("a group is renamed within its topic alone")
def _(m):
    t, other = m.topic(), m.topic("other")
    fill(t)
    audit = group(t, "audit")
    equal(audit.next(), b"0")
    os.rename(audit.path, os.path.join(t.path, "groups", "new"))
    equal(group(t, "new", False).next(), b"1")
    with fails_with(errno.EPERM):
        os.rename(group(t, "new", False).path, os.path.join(other.path, "groups", "new"))
    with fails_with(errno.EEXIST):
        os.rename(group(t, "new", False).path, group(t, "default", False).path)


@case("names of groups follow the rules of topics")
def _(m):
    t = m.topic()
    group(t, "g" * 255)
    with fails_with(errno.ENAMETOOLONG):
        group(t, "g" * 256)
    with fails_with(errno.EINVAL):
        group(t, ".g")
    with fails_with(errno.EEXIST):
        group(t, "default")


@case("status of a group has its own counters")
def _(m):
    t = m.topic()
    fill(t)
    audit = group(t, "audit")
    audit.next()
    audit.settled(claimed=0)
    status = audit.status()
    equal({k: status[k] for k in ("offset", "pending", "claimed", "waiting")},
          dict(offset=1, pending=4, claimed=0, waiting=0))


@case("space is not given back before the slowest group has passed it")
def _(m):
    t = m.topic()
    audit = group(t, "audit")
    data = os.urandom(900_000)
    for _ in range(60):
        t.append(data)
    t.drain()
    equal(len(audit.drain()), 60 * len(data), "what the slow group still gets")
    lib.until("the space came back", lambda: t.status()["disk_bytes"] < 35_000_000)


if __name__ == "__main__":
    lib.main()
