#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A full disk: the write fails whole, readers go on, and a retry works once there is room."""

import errno
import os
import shutil
import subprocess

import lib
from lib import case, equal, fails_with


def on_small_disk(m, megabytes):
    """Puts the store on an ext4 of its own.  Returns the directory that is its root."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        raise lib.Skip("needs root and mkfs.ext4")
    image, disk = os.path.join(m.work, "image"), os.path.join(m.work, "disk")
    os.mkdir(disk)
    with open(image, "wb") as f:
        f.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, disk], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise lib.Skip(f"no loop device: {done.stderr.strip()}")
    m.store = os.path.join(disk, "store")
    return disk


def release(m, disk):
    try:
        if m.daemon is not None:
            m.stop()
    finally:
        m.kill()
        subprocess.run(["umount", disk], check=True)


def fill(t, data):
    """Appends until the disk is full; returns how many it took."""
    count = 0
    while True:
        try:
            t.append(b"%08d" % count + data)
        except OSError as e:
            equal(e.errno, errno.ENOSPC, "errno")
            return count
        count += 1
        assert count < 100_000, "the disk does not fill"


@case("append on a full disk is ENOSPC, reading works, and a retry works when there is room", mounted=False)
def _(m):
    disk = on_small_disk(m, 64)
    try:
        m.start()
        t, other = m.topic(), m.topic("other")
        other.append(b"of the other")
        data = os.urandom(500_000)
        count = fill(t, data)
        assert count > 20, f"only {count} entries of 500,000 bytes on 64 MB"
        entries = t.status()["entries"]
        equal(entries, count, "entries: what failed left nothing")
        for _ in range(3):
            with fails_with(errno.ENOSPC):
                t.append(b"y" * 900_000)
        equal(t.status()["entries"], count, "entries")
        equal(t.peek(), b"%08d" % 0 + data, "peek")
        equal(t.next(), b"%08d" % 0 + data, "next on a full disk")
        equal(other.next(), b"of the other")
        for i in range(1, count):
            equal(t.next(), b"%08d" % i + data, f"entry {i}")
        equal(t.next(), b"")

        def room():
            try:
                t.append(b"again" * 100_000)
                return True
            except OSError as e:
                equal(e.errno, errno.ENOSPC)
                return False
        lib.until("a retry works", room)
        equal(t.next(), b"again" * 100_000)
    finally:
        release(m, disk)


@case("a store survives a kill and a restart on a full disk", mounted=False)
def _(m):
    disk = on_small_disk(m, 48)
    try:
        m.start()
        t = m.topic()
        count = fill(t, os.urandom(300_000))
        while True:  # and to the last byte, by another program
            try:
                with open(os.path.join(disk, "ballast"), "ab", buffering=0) as f:
                    while True:
                        f.write(b"z" * 4096)
            except OSError:
                break
        m.kill()
        m.start()
        t = m.find()
        equal(t.status()["entries"], count, "entries")
        equal(int(t.next()[:8]), 0)
        m.restart()
        equal(int(m.find().next()[:8]), 1)
        t = m.find()
        t.drain()
        os.unlink(os.path.join(disk, "ballast"))

        def removed():
            try:
                os.rmdir(t.path)
                return True
            except OSError as e:
                equal(e.errno, errno.ENOTEMPTY)
                return False
        lib.until("the topic can be removed", removed)
        m.topic("new").append(b"works")
        equal(m.find("new").next(), b"works")
    finally:
        release(m, disk)


@case("a mkdir on a full disk fails whole", mounted=False)
def _(m):
    disk = on_small_disk(m, 32)
    try:
        m.start()
        t = m.topic()
        fill(t, b"x" * 200_000)
        made = 0
        for i in range(50):
            try:
                os.mkdir(os.path.join(m.path, f"topic{i}"))
                made += 1
            except OSError as e:
                equal(e.errno, errno.ENOSPC)
        equal(len([n for n in os.listdir(m.path) if not n.startswith(".")]), made + 1, "topics")
        m.restart()
        equal(len([n for n in os.listdir(m.path) if not n.startswith(".")]), made + 1, "topics after a restart")
    finally:
        release(m, disk)


if __name__ == "__main__":
    lib.main()
