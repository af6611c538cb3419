#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Topics come, go and change their names; what else may be done to control files."""

import ctypes
import errno
import mmap
import os
import subprocess
import time

import lib
from lib import LIBC, case, equal, fails_with, rename_with_flags

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


@case("rmdir of a topic with unread or claimed entries is ENOTEMPTY, after drain or seek it works")
def _(m):
    t = m.topic()
    t.append(b"x")
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(t.path)
    fd = os.open(t.file("next"), os.O_RDONLY)
    equal(t.status()["pending"], 0, "pending while the entry is claimed")
    with fails_with(errno.ENOTEMPTY):
        os.rmdir(t.path)
    os.close(fd)
    t.settled(claimed=0)
    equal(t.next(), b"x")
    t.settled(claimed=0)
    os.rmdir(t.path)
    with fails_with(errno.ENOENT):
        os.stat(t.path)
    t = m.topic()
    t.append(b"y")
    t.seek("end")
    os.rmdir(t.path)


@case("rm -rf does not remove a topic, nor take from it")
def _(m):
    t = m.topic()
    t.append(b"x")
    done = subprocess.run(["rm", "-rf", t.path], stderr=subprocess.DEVNULL)
    assert done.returncode != 0, "rm -rf reports success"
    equal(t.next(), b"x")


@case("handles of a removed topic answer ENODEV, also when it is made again")
def _(m):
    t = m.topic()
    fds = {name: os.open(t.file(name), os.O_WRONLY if name in ("append", "lines") else os.O_RDONLY)
           for name in ("append", "lines", "next", "drain")}
    os.rmdir(t.path)
    t = m.topic()
    t.append(b"of the new one")
    for name in ("append", "lines"):
        with fails_with(errno.ENODEV):
            os.write(fds[name], b"late\n")
    for name in ("next", "drain"):
        try:
            equal(os.read(fds[name], 100), b"", f"an empty {name} of the removed topic")
        except OSError as e:
            equal(e.errno, errno.ENODEV, name)
    for fd in fds.values():
        os.close(fd)
    equal(t.next(), b"of the new one")


@case("a topic made again under the same name is a new one, after a restart too")
def _(m):
    t = m.topic()
    for i in range(5):
        t.append(b"old")
    t.drain()
    t.settled(claimed=0)
    os.rmdir(t.path)
    t = m.topic()
    equal((t.status()["entries"], t.offset(), t.next()), (0, 0, b""))
    t.append(b"new")
    m.kill()
    m.start()
    t = m.find()
    equal((t.status()["entries"], t.next(), t.next()), (1, b"new", b""))


@case("a removed topic stays removed")
def _(m):
    m.topic("gone")
    m.topic("kept")
    os.rmdir(m.find("gone").path)
    m.kill()
    m.start()
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], ["kept"])


@case("rename keeps entries, position and open handles, and is durable")
def _(m):
    t = m.topic("old")
    for i in range(4):
        t.append(b"%d" % i)
    equal(t.next(), b"0")
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.rename(t.path, m.find("new").path)
    with fails_with(errno.ENOENT):
        os.stat(t.path)
    os.write(fd, b"4")
    os.close(fd)
    m.kill()
    m.start()
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], ["new"])
    equal([m.find("new").next() for _ in range(5)], [b"1", b"2", b"3", b"4", b""])


@case("rename onto an existing topic is EEXIST, an exchange EINVAL, and nothing changes")
def _(m):
    a, b = m.topic("a"), m.topic("b")
    a.append(b"of a")
    b.append(b"of b")
    with fails_with(errno.EEXIST):
        os.rename(a.path, b.path)
    with fails_with(errno.EEXIST):
        rename_with_flags(a.path, b.path, RENAME_NOREPLACE)
    with fails_with(errno.EINVAL):
        rename_with_flags(a.path, b.path, RENAME_EXCHANGE)
    rename_with_flags(a.path, m.find("c").path, RENAME_NOREPLACE)
    equal((m.find("c").next(), b.next()), (b"of a", b"of b"))


@case("any other rename within the mount is EPERM, and mv takes nothing")
def _(m):
    a, b = m.topic("a"), m.topic("b")
    a.append(b"x")
    for old, new in ((a.file("next"), a.file("taken")), (a.file("next"), b.file("append")),
                     (a.file("append"), a.file("lines")), (a.path, b.file("a")),
                     (a.file("next"), os.path.join(m.path, "next"))):
        with fails_with(errno.EPERM):
            os.rename(old, new)
        done = subprocess.run(["mv", "-f", old, new], stderr=subprocess.DEVNULL)
        assert done.returncode != 0, f"mv {old} {new} reports success"
    equal(b.status()["entries"], 0, "entries of b")
    equal(a.next(), b"x")


@case("shared mappings are ENODEV, fallocate is EOPNOTSUPP")
def _(m):
    t = m.topic()
    t.append(b"x" * 5000)
    fd = os.open(t.file("append"), os.O_RDWR)
    for prot in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
        got = LIBC.mmap(None, ctypes.c_size_t(4096), prot, mmap.MAP_SHARED, fd, ctypes.c_long(0))
        equal((got, ctypes.get_errno()), (-1, errno.ENODEV), f"mmap with protection {prot}")
    for mode in (0, 1, 3):
        result = LIBC.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(4096))
        equal((result, ctypes.get_errno()), (-1, errno.EOPNOTSUPP), f"fallocate mode {mode}")
    os.close(fd)
    equal(t.status()["entries"], 1, "entries")
    equal(t.next(), b"x" * 5000)


@case("setting times succeeds and changes nothing")
def _(m):
    t = m.topic()
    before = time.time() - 5
    t.append(b"x")
    for name in ("append", "next", "status"):
        os.utime(t.file(name), (1, 1))
    subprocess.run(["touch", t.file("append")], check=True)
    equal(t.status()["entries"], 1, "entries")
    assert os.stat(t.file("append")).st_mtime >= before, "the mtime of append is not the time of the last entry"


@case("what cannot be written or read says so")
def _(m):
    t = m.topic()
    with fails_with(errno.EACCES, errno.EBADF, errno.EPERM, errno.EINVAL):
        lib.write_once(t.file("next"), b"x")
    with fails_with(errno.EACCES, errno.EBADF, errno.EPERM, errno.EINVAL):
        lib.write_once(t.file("status"), b"x")
    with fails_with(errno.EISDIR):
        os.open(t.path, os.O_WRONLY)
    with fails_with(errno.ENOTDIR):
        os.listdir(t.file("append"))


@case("a hundred topics are listed, each with its own entries")
def _(m):
    names = [f"topic_{i:03d}" for i in range(100)]
    for name in names:
        m.topic(name).append(name.encode())
    equal(sorted(n for n in os.listdir(m.path) if not n.startswith(".")), names)
    m.restart()
    equal(sorted(n for n in os.listdir(m.path) if not n.startswith(".")), names)
    for name in names:
        equal(m.find(name).next(), name.encode())


@case("a listing that is read in pieces has each topic once, whatever is made and removed meanwhile")
def _(m):
    def name(i):
        return f"{i:03d}".ljust(255, "x")  # long, so that no piece holds all
    for i in range(300):
        os.mkdir(m.find(name(i)).path)
    writer = m.find(name(299))
    seen = []
    with os.scandir(m.path) as listing:
        for entry in listing:
            seen.append(entry.name)
            if len(seen) % 20 == 0:
                os.rmdir(m.find(entry.name).path)  # listed already
                os.mkdir(m.find(f"new {len(seen)}").path)
                writer.append(b"x")
    equal(sorted(n for n in seen if n.endswith("x")), [name(i) for i in range(300)])
    equal(len(set(seen)), len(seen), "names listed, each once")
    writer.drain()


@case("files have the same inode number where they are the same file, in listings too")
def _(m):
    t = m.topic()
    t.append(b"x")
    t.append(b"y")
    numbers = {}
    for top, directories, names in os.walk(m.path):
        for entry in os.scandir(top):
            equal(entry.inode(), os.stat(entry.path).st_ino, f"the number that is listed for {entry.path}")
        for name in directories + names:
            path = os.path.join(top, name)
            numbers.setdefault(os.stat(path).st_ino, []).append(os.path.relpath(path, t.path))
    equal(sorted(sorted(paths) for paths in numbers.values() if len(paths) > 1),
          [sorted([f"groups/default/{name}", name]) for name in
           ("drain", "follow", "next", "offset", "peek", "wait")])


@case("df of the mount shows the filesystem of the store")
def _(m):
    here, there = os.statvfs(m.path), os.statvfs(m.store)
    equal(here.f_blocks * here.f_frsize, there.f_blocks * there.f_frsize, "size")


if __name__ == "__main__":
    lib.main()
