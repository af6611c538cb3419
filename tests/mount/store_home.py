#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where a store may live: on btrfs without copy on write, full too, on tmpfs with a warning, on FUSE and the network not at all, on a
filesystem that is read-only only to be read."""

import errno
import fcntl
import os
import struct
import subprocess

import lib
from faults import disks
from lib import case, equal, fails_with

FS_IOC_GETFLAGS, NOCOW = 0x80086601, 0x00800000


def flags_of(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8)))[0]
    finally:
        os.close(fd)


def lives_on(m, fs):
    """Mounts a store on a filesystem of its own and uses it; the caller takes the disk away."""
    disk = disks.make_disk(m.work, fs)
    m.store = os.path.join(disk.path, "store")
    m.start()
    t = m.topic()
    for i in range(100):
        t.append(b"%d" % i * 100)
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)
    equal(t.next(), b"0" * 100)
    m.kill()
    m.start()
    equal(m.find().next(), b"1" * 100)
    return disk


def works(t, i):
    try:
        t.append(b"%d" % i * 100)
        return True
    except OSError as e:
        equal(e.errno, errno.ENOSPC)
        return False


@case("a store on btrfs switches copy on write off for its files", mounted=False)
def _(m):
    disk = lives_on(m, "btrfs")
    try:
        for name in os.listdir(m.store):
            if name not in ("LOCK", "SUPER"):
                assert flags_of(os.path.join(m.store, name)) & NOCOW, f"{name} is copied on write"
        assert flags_of(m.store) & NOCOW, "the directory is not marked"
        m.stop()
    finally:
        m.kill()
        disk.remove()


@case("on a full btrfs appends go on into the space that was taken, also across pages, and end with ENOSPC", mounted=False)
def _(m):
    disk = lives_on(m, "btrfs")
    try:
        t, count = m.topic("fresh"), 1
        t.append(b"%04d" % 0 * 300)  # takes space ahead
        filler = disks.fill(disk, 0)
        with fails_with(errno.ENOSPC):
            while count < 10_000:
                t.append(b"%04d" % count * 300)
                count += 1
        assert count > 10, f"there was space for {count}"
        os.unlink(filler)
        m.kill()
        m.start()
        t = m.find("fresh")
        for i in range(count):
            equal(t.next(), b"%04d" % i * 300)
        m.stop()
    finally:
        m.kill()
        disk.remove()


@case("on a full btrfs with a snapshot, where what was written takes space again, appends are ENOSPC and nothing is lost",
      mounted=False)
def _(m):
    disk = lives_on(m, "btrfs")
    try:
        t, count = m.find(), 101
        t.append(b"100" * 100)  # takes space ahead, which the snapshot then shares
        disks.run("btrfs", "subvolume", "snapshot", disk.path, os.path.join(disk.path, "snapshot"))
        filler = disks.fill(disk, 0)
        with fails_with(errno.ENOSPC):
            while count < 10_000:
                t.append(b"%d" % count * 100)
                count += 1
        with fails_with(errno.ENOSPC):
            t.append(b"a large one" * 20_000)
        equal(t.status()["tail"], count, "what was refused left nothing")
        os.unlink(filler)
        lib.until("an append works", lambda: works(t, count))
        m.kill()
        m.start()
        t = m.find()
        for i in range(2, count + 1):
            equal(t.next(), b"%d" % i * 100)
        m.stop()
    finally:
        m.kill()
        disk.remove()


@case("a store on tmpfs works, and is warned of", mounted=False)
def _(m):
    disk = lives_on(m, "tmpfs")
    try:
        m.stop()
        assert "tmpfs" in m.stderr() and "warning" in m.stderr(), m.stderr()
    finally:
        m.kill()
        disk.remove()


@case("a store on a FUSE filesystem is refused with the reason, and nothing is made there")
def _(m):
    inside = m.topic("inside").path
    before = sorted(os.listdir(inside))
    other = os.path.join(m.work, "other")
    os.mkdir(other)
    done = subprocess.run(m.command(store=inside, path=other), stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode > 0, f"exit status {done.returncode}"
    assert "FUSE" in done.stderr and "force" in done.stderr, done.stderr
    equal(sorted(os.listdir(inside)), before, "what is there")


@case("a store on a read-only filesystem can be read with -o ro, and with nothing else", mounted=False)
def _(m):
    disk = lives_on(m, "ext4")
    try:
        m.stop()
        disks.run("mount", "-o", "remount,ro", disk.path)
        done = subprocess.run(m.command(), stderr=subprocess.PIPE, text=True, timeout=120)
        assert done.returncode > 0, f"exit status {done.returncode}"
        assert "ead-only" in done.stderr, done.stderr
        m.start("-o", "ro")
        t = m.find()
        equal(t.peek(), b"2" * 100)
        equal(lib.read_all(t.file("entries/0")), b"0" * 100)
        with fails_with(errno.EROFS):
            t.append(b"no")
        with fails_with(errno.EROFS):
            t.next()
        m.stop()
    finally:
        m.kill()
        disk.remove()


if __name__ == "__main__":
    lib.main()
