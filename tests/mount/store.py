#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""The store below the mount: one daemon at a time, foreign files, a lost offset index, disk space."""

import os
import struct
import subprocess

import lib
from lib import case, equal

INDEX = "read_offset_idx_index.db"


def refused(m, **kw):
    """Runs a daemon that has to refuse; returns what it says."""
    done = subprocess.run(m.command(**kw), stderr=subprocess.PIPE, timeout=120, text=True)
    assert done.returncode != 0, "it mounts"
    assert done.returncode > 0, f"it dies by signal {-done.returncode}"
    assert done.stderr.strip(), "it says nothing"
    return done.stderr


def contents(store):
    """Every file of the store with its bytes."""
    out = {}
    for name in sorted(os.listdir(store)):
        path = os.path.join(store, name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                out[name] = f.read() if os.path.getsize(path) < 1 << 20 else os.stat(path).st_mtime_ns
    return out


def names(store):
    return sorted(os.listdir(store))


@case("a second daemon on the store is refused with the pid of the first, which works on")
def _(m):
    t = m.topic()
    t.append(b"kept")
    other = os.path.join(m.work, "m2")
    os.mkdir(other)
    text = refused(m, path=other)
    assert str(m.daemon.pid) in text, f"no pid {m.daemon.pid} in: {text}"
    assert not os.path.ismount(other)
    t.append(b"still")
    equal((t.next(), t.next()), (b"kept", b"still"))


@case("a store of a newer format is refused and not touched", mounted=False)
def _(m):
    m.start()
    m.topic().append(b"kept")
    m.stop()
    path = os.path.join(m.store, "SUPER")
    with open(path, "rb") as f:
        original = f.read()
    for what, at, value in (("version", 12, 2), ("incompat", 24, 1), ("incompat", 24, 1 << 31)):
        changed = bytearray(original)
        for copy in (0, 4096):
            part = bytearray(changed[copy:copy + 4096])
            if not any(part):
                continue
            struct.pack_into("<I", part, at, value)
            struct.pack_into("<I", part, 8, 0)
            struct.pack_into("<I", part, 8, lib.crc32c(part))
            changed[copy:copy + 4096] = part
        with open(path, "wb") as f:
            f.write(changed)
        before = contents(m.store)
        text = refused(m)
        assert "newer" in text or "version" in text or "format" in text, f"{what}: {text}"
        after = contents(m.store)
        for files in (before, after):
            files.pop("LOCK", None)
        assert before == after, f"{what}: the refused store was changed"
    with open(path, "wb") as f:
        f.write(original)
    m.start()
    equal(m.find().next(), b"kept")


@case("a directory that holds something else is refused and left alone", mounted=False)
def _(m):
    os.mkdir(m.store)
    with open(os.path.join(m.store, "letter.txt"), "w") as f:
        f.write("dear reader\n")
    refused(m)
    equal(names(m.store), ["letter.txt"])


@case("a mount point that is missing, a file, or not empty is refused", mounted=False)
def _(m):
    full = os.path.join(m.work, "full")
    os.mkdir(full)
    with open(os.path.join(full, "file"), "w"):
        pass
    for path in (os.path.join(m.work, "missing"), os.path.join(full, "file"), full):
        refused(m, path=path)


@case("what is mounted already is not mounted again: the message says how to unmount it, or where to look for it")
def _(m):
    command = f"a store is mounted at {m.path} already; unmount it with: fusermount3 -u -- {m.path}"
    for store, path, words in ((m.store, m.path, command), (m.store + "2", m.path, command),
                               (m.store, m.store + ".m", "findmnt -t fuse.walrusfs")):
        os.makedirs(path, exist_ok=True)
        done = subprocess.run(m.command([], store, path), stderr=subprocess.PIPE, text=True, timeout=120)
        assert done.returncode in (2, 3) and words in done.stderr, (done.returncode, done.stderr)
    m.topic().append(b"x")


@case("a store inside its own mount point is refused", mounted=False)
def _(m):
    refused(m, store=os.path.join(m.path, "store"))


@case("foreign files in the store are left alone", allow=".")
def _(m):
    m.topic().append(b"kept")
    m.stop()
    foreign = {"notes.txt": b"hello", "wal_x.log": b"\0" * 100, "wal_.log": b"", "wal_-1.log": b"x",
               "read_offset_idx_index.db.bak": b"old", "x.db": os.urandom(5000)}
    for name, data in foreign.items():
        with open(os.path.join(m.store, name), "wb") as f:
            f.write(data)
    m.start()
    equal(m.find().next(), b"kept")
    m.stop()
    for name, data in foreign.items():
        with open(os.path.join(m.store, name), "rb") as f:
            equal(f.read(), data, name)


@case("a log file full of garbage, or empty, keeps no other from working", allow=".")
def _(m):
    t = m.topic()
    t.append(b"kept")
    m.stop()
    used = [n for n in names(m.store) if n.startswith("wal_")]
    for number, data in ((501, os.urandom(200_000)), (502, b""), (503, b"\0" * 70_000), (504, b"short")):
        with open(os.path.join(m.store, f"wal_{number}.log"), "wb") as f:
            f.write(data)
        os.chmod(os.path.join(m.store, f"wal_{number}.log"), 0o600)
    m.start()
    t = m.find()
    equal(t.next(), b"kept")
    t.append(b"more")
    equal(t.next(), b"more")
    m.restart()
    assert set(used) <= set(names(m.store)), "a log file that was in use is gone"


@case("left-over temporary files are removed")
def _(m):
    m.topic().append(b"kept")
    m.stop()
    for name in (f"{INDEX}.tmp", "topics.db.tmp", "wal_9.log.tmp"):
        with open(os.path.join(m.store, name), "wb") as f:
            f.write(b"half made")
        os.chmod(os.path.join(m.store, name), 0o600)
    m.start()
    equal(m.find().next(), b"kept")
    m.stop()
    equal([n for n in names(m.store) if n.endswith(".tmp")], [])


def with_index(m, change):
    """Ten entries, four taken, the daemon ends, `change` happens to the offset index, and it starts."""
    t = m.topic()
    for i in range(10):
        t.append(b"%d" % i)
    equal([t.next() for _ in range(4)], [b"0", b"1", b"2", b"3"])
    m.stop()
    change(os.path.join(m.store, INDEX))
    m.start()
    t = m.find()
    got = []
    while entry := t.next():
        got.append(entry)
    equal(got[-6:], [b"%d" % i for i in range(4, 10)], "what was never taken")
    equal(got, [b"%d" % i for i in range(10 - len(got), 10)], "the order")
    t.append(b"more")
    equal((t.next(), t.next()), (b"more", b""))
    m.restart()
    equal(m.find().next(), b"", "after one more restart")
    return got


@case("a missing offset index skips nothing", allow=".")
def _(m):
    equal(len(with_index(m, os.unlink)), 10, "entries delivered")


@case("an empty offset index skips nothing", allow=".")
def _(m):
    equal(len(with_index(m, lambda path: os.truncate(path, 0))), 10, "entries delivered")


@case("an offset index cut short skips nothing", allow=".")
def _(m):
    with_index(m, lambda path: os.truncate(path, 700))


@case("an offset index of garbage skips nothing", allow=".")
def _(m):
    def garble(path):
        size = os.path.getsize(path)
        with open(path, "r+b") as f:
            f.write(os.urandom(size))
    equal(len(with_index(m, garble)), 10, "entries delivered")


@case("names of topics and groups put no lines of their own into messages", allow=".")
def _(m):
    name = "a\nwalrusfs: error: forged \x1b[2J"
    m.topic(name)
    os.mkdir(m.find(name).file(f"groups/{name}"))
    m.stop()
    with open(os.path.join(m.store, INDEX), "r+b") as f:
        f.write(b"\x5a" * os.path.getsize(f.name))
    ctl = os.path.join(os.path.dirname(lib.WALRUSFS), "ctl", "walrusctl")
    told = [subprocess.run([ctl, what, m.store], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
            for what in ("dump", "verify")]
    m.start()
    for text in (*told, m.stderr(), lib.read_all(os.path.join(m.path, ".walrusfs/errors")).decode()):
        assert "forged" in text and "\x1b" not in text, text
        assert not [line for line in text.splitlines() if line.startswith("walrusfs: error: forged")], text


@case("one bad copy of an offset is made good by the other", allow=".")
def _(m):
    def garble(path):
        with open(path, "r+b") as f:
            f.write(b"\x5a" * 512)
    got = with_index(m, garble)
    assert len(got) in (6, 7), f"{len(got)} entries delivered of 6 due, with a copy at most one step older"


@case("twenty restarts add no file and keep everything")
def _(m):
    t = m.topic()
    for i in range(20):
        t.append(b"%d" % i)
    m.restart()
    files = names(m.store)
    used = lib.disk_used(m.store)
    for i in range(20):
        equal(m.find().next(), b"%d" % i)
        if i % 2:
            m.kill()
            m.start()
        else:
            m.restart()
    equal(names(m.store), files, "files of the store")
    assert lib.disk_used(m.store) <= used + (1 << 20), f"disk use grew from {used} to {lib.disk_used(m.store)}"
    equal(m.find().next(), b"")


@case("a store is small at first")
def _(m):
    m.topic().append(b"x")
    used = lib.disk_used(m.store)
    assert used < 4 << 20, f"{used} bytes on disk for one entry"


@case("disk space comes back when everything was consumed")
def _(m):
    t = m.topic()
    t2 = m.topic("slow")
    t2.append(b"a slow topic in the middle")
    data = os.urandom(1 << 16) * 15
    for round_ in range(2):
        for _ in range(100):
            t.append(data)
        assert lib.disk_used(m.store) > 90_000_000, "disk use before"
        equal(len(t.drain()), 100 * len(data), "bytes drained")
        lib.until("disk space came back", lambda: lib.disk_used(m.store) < 35_000_000)
    assert t.status()["disk_bytes"] < 35_000_000, "disk_bytes"
    t.append(b"on")
    equal((t.next(), t2.next()), (b"on", b"a slow topic in the middle"))


@case("the store and its files are the owner's alone")
def _(m):
    m.topic().append(b"x")
    equal(oct(os.stat(m.store).st_mode & 0o777), "0o700", "the directory")
    for name in names(m.store):
        equal(oct(os.stat(os.path.join(m.store, name)).st_mode & 0o777), "0o600", name)


if __name__ == "__main__":
    lib.main()
