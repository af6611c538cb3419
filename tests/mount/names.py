#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Which names a topic may have."""

import errno
import os
import stat

import lib
from lib import Topic, case, equal, fails_with


@case("names of 1 to 255 bytes, of any bytes but / and NUL, work and survive")
def _(m):
    names = [b"a", b"x" * 255, b"with space", b"new\nline", "grüße".encode(), b"\xff\xfe\x80", b"-rf", b"~",
             b"a.b", b"*", b"\\", b"%s%n", b"wal_1.log", b"topics.db", "木".encode() * 85]
    root = os.fsencode(m.path)
    for name in names:
        os.mkdir(os.path.join(root, name))
        Topic(os.path.join(m.path, os.fsdecode(name))).append(b"of " + name)
    m.restart()
    equal(sorted(n for n in os.listdir(root) if not n.startswith(b".")), sorted(names))
    for name in names:
        equal(Topic(os.path.join(m.path, os.fsdecode(name))).next(), b"of " + name)
    for name in os.listdir(m.store):
        assert os.fsencode(name) not in names or name in ("topics.db", "wal_1.log"), f"{name} is a file in the store"
    equal([n for n in os.listdir(m.store) if os.path.isdir(os.path.join(m.store, n))], [], "directories in the store")


@case("names of 256 to 4090 bytes are too long, in every call")
def _(m):
    here = os.open(m.path, os.O_RDONLY | os.O_DIRECTORY)
    m.topic("short")
    for size in (256, 257, 1000, 1024, 1025, 2048, 4090):
        name = "n" * size
        with fails_with(errno.ENAMETOOLONG):
            os.mkdir(name, dir_fd=here)
        with fails_with(errno.ENAMETOOLONG):
            os.stat(name, dir_fd=here)
        with fails_with(errno.ENAMETOOLONG):
            os.rename("short", name, src_dir_fd=here, dst_dir_fd=here)
        with fails_with(errno.ENAMETOOLONG):
            os.rmdir(name, dir_fd=here)
    os.close(here)
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], ["short"])


@case("a name that begins with a dot is EINVAL to make, and ENOENT to find")
def _(m):
    m.topic("plain")
    for name in (".x", "..x", "...", ".walrus", ".x" + "y" * 200):
        path = os.path.join(m.path, name)
        with fails_with(errno.EINVAL):
            os.mkdir(path)
        with fails_with(errno.EINVAL):
            os.rename(os.path.join(m.path, "plain"), path)
        with fails_with(errno.ENOENT):
            os.stat(path)
    with fails_with(errno.EEXIST):
        os.mkdir(os.path.join(m.path, "."))
    with fails_with(errno.EEXIST):
        os.mkdir(os.path.join(m.path, "plain"))


@case("making a file of an unknown name is EACCES, in the root and in a topic")
def _(m):
    t = m.topic()
    for path in (os.path.join(m.path, "file"), t.file("newfile"), t.file("append.log"), t.file(".hidden")):
        with fails_with(errno.EACCES):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        with fails_with(errno.ENOENT):
            os.stat(path)
    with fails_with(errno.ENOENT):
        lib.write_once(t.file("nosuchfile"), b"x")


@case("links, devices and sockets cannot be made, and control files cannot be removed")
def _(m):
    t = m.topic()
    t.append(b"kept")
    for path in (os.path.join(m.path, "new"), t.file("new")):
        with fails_with(errno.EPERM):
            os.symlink("target", path)
        with fails_with(errno.EPERM):
            os.link(t.file("append"), path)
        with fails_with(errno.EPERM):
            os.mknod(path, stat.S_IFIFO | 0o600)
        with fails_with(errno.EPERM):
            os.mknod(path, stat.S_IFSOCK | 0o600)
    for name in ("append", "lines", "next", "drain", "peek", "offset", "status"):
        with fails_with(errno.EPERM):
            os.unlink(t.file(name))
    with fails_with(errno.EISDIR, errno.EPERM):
        os.unlink(t.path)
    equal(t.next(), b"kept")


if __name__ == "__main__":
    lib.main()
