#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`next` and `drain`: what an open claims, what reading takes, what a close gives back."""

import os
import signal
import stat

import lib
from lib import case, equal, read_fd

AT_LEAST_ONCE = ("-o", "consistency=at-least-once:1")


def killed_after(path, size):
    """A process opens `path`, reads `size` bytes and is killed with the file open; returns what it read."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fd = os.open(path, os.O_RDONLY)
            os.write(w, os.read(fd, size) if size else b"-")
            signal.pause()
        finally:
            os._exit(1)
    os.close(w)
    got = os.read(r, 65536)
    os.close(r)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return got


@case("an open of next gives one entry, again and again from the start, then its end")
def _(m):
    t = m.topic()
    t.append(b"first")
    t.append(b"second")
    fd = os.open(t.file("next"), os.O_RDONLY)
    equal(os.read(fd, 100), b"first")
    equal(os.read(fd, 100), b"", "reading at the end")
    equal(os.pread(fd, 100, 0), b"first", "reading from the start again")
    equal(os.pread(fd, 3, 2), b"rst", "reading from the middle")
    equal(os.lseek(fd, 0, os.SEEK_END), 5, "SEEK_END")
    equal(os.read(fd, 100), b"")
    os.close(fd)
    equal(t.next(), b"second")


@case("short reads of next go on where the last one ended")
def _(m):
    t = m.topic()
    data = bytes(range(256)) * 40
    t.append(data)
    fd = os.open(t.file("next"), os.O_RDONLY)
    equal(read_fd(fd, 7), data)
    os.close(fd)
    equal(t.next(), b"")


@case("an empty next is an empty file and stays one while it is open")
def _(m):
    t = m.topic()
    fd = os.open(t.file("next"), os.O_RDONLY)
    equal(os.fstat(fd).st_size, 0, "size")
    equal(os.read(fd, 100), b"")
    t.append(b"late")
    equal(os.read(fd, 100), b"", "after an append")
    equal(os.pread(fd, 100, 0), b"", "from the start, after an append")
    os.close(fd)
    equal(t.next(), b"late")


@case("no two open handles hold the same entry, and closing unread gives back in order")
def _(m):
    t = m.topic()
    for i in range(6):
        t.append(b"%d" % i)
    fds = [os.open(t.file("next"), os.O_RDONLY) for _ in range(4)]
    equal(t.status()["claimed"], 4, "claimed")
    equal(t.status()["pending"], 2, "pending")
    equal(t.peek(), b"4", "the first entry that nobody holds")
    equal(os.read(fds[1], 10), b"1")
    equal(os.read(fds[1], 10), b"")
    for fd in fds:
        os.close(fd)
    t.settled(claimed=0, pending=5)
    equal([t.next() for _ in range(6)], [b"0", b"2", b"3", b"4", b"5", b""])


@case("peek shows the next entry and takes nothing")
def _(m):
    t = m.topic()
    equal(t.peek(), b"")
    t.append(b"a")
    t.append(b"b")
    equal([t.peek(), t.peek()], [b"a", b"a"])
    equal(t.status()["pending"], 2, "pending")
    equal([t.next(), t.peek(), t.next(), t.peek()], [b"a", b"b", b"b", b""])


@case("a reader that is killed before it reads gives the entry back")
def _(m):
    t = m.topic()
    t.append(b"entry")
    equal(killed_after(t.file("next"), 0), b"-")
    t.settled(claimed=0, pending=1)
    equal(t.next(), b"entry")


@case("at-least-once: a reader that is killed after half an entry gives it back", *AT_LEAST_ONCE)
def _(m):
    t = m.topic()
    t.append(b"12345678")
    t.append(b"after")
    equal(killed_after(t.file("next"), 4), b"1234")
    t.settled(claimed=0, pending=2)
    equal([t.next(), t.next(), t.next()], [b"12345678", b"after", b""])


@case("at-least-once: an entry is taken when all of it was read, backwards and after its end too", *AT_LEAST_ONCE)
def _(m):
    t = m.topic()
    for name in ("next", "wait", "drain"):
        data = bytes(range(100))
        t.append(data)
        fd = os.open(t.file(name), os.O_RDONLY)
        for at in range(100, 110):
            equal(os.pread(fd, 1, at), b"")
        for at in reversed(range(100)):
            equal(os.pread(fd, 1, at), data[at:at + 1])
        os.close(fd)
        t.settled(claimed=0, pending=0)


@case("strict: what a killed reader had begun is not delivered again, and can be sought back")
def _(m):
    t = m.topic()
    t.append(b"12345678")
    t.append(b"after")
    equal(killed_after(t.file("next"), 4), b"1234")
    t.settled(claimed=0, pending=1)
    equal([t.next(), t.next()], [b"after", b""])
    t.seek(0)
    equal([t.next(), t.next()], [b"12345678", b"after"])


@case("drain gives everything that was pending when it was opened, then ends")
def _(m):
    t = m.topic()
    for i in range(1000):
        t.append(b"%d," % i)
    whole = b"".join(b"%d," % i for i in range(1000))
    fd = os.open(t.file("drain"), os.O_RDONLY)
    equal(os.fstat(fd).st_size, len(whole), "the size of the open handle")
    t.append(b"late")
    equal(t.next(), b"late", "what came after the open is not the drain's")
    equal(os.read(fd, 100), whole[:100])
    equal(read_fd(fd), whole[100:])
    equal(os.pread(fd, 50, 10), whole[10:60], "what was read can be read again")
    os.close(fd)
    equal(t.drain(), b"")


@case("while a drain is open others find the group empty; its unread entries go back")
def _(m):
    t = m.topic()
    for i in range(10):
        t.append(b"entry%d" % i)
    fd = os.open(t.file("drain"), os.O_RDONLY)
    equal(t.next(), b"")
    equal(t.drain(), b"")
    equal(os.read(fd, 12), b"entry0entry1")
    os.close(fd)
    t.settled(claimed=0, pending=8)
    equal(t.drain(), b"".join(b"entry%d" % i for i in range(2, 10)))


@case("at-least-once: drain gives back from the first entry not fully read", *AT_LEAST_ONCE)
def _(m):
    t = m.topic()
    for i in range(4):
        t.append(b"entry%d" % i)
    fd = os.open(t.file("drain"), os.O_RDONLY)
    equal(os.read(fd, 9), b"entry0ent")
    os.close(fd)
    t.settled(claimed=0, pending=3)
    equal(t.drain(), b"entry1entry2entry3")


@case("consumer files are plain files that only their owner may read")
def _(m):
    t = m.topic()
    for name in ("next", "drain", "peek"):
        mode = os.stat(t.file(name)).st_mode
        assert stat.S_ISREG(mode), name
        equal(oct(stat.S_IMODE(mode)), "0o400", name)
    equal(oct(stat.S_IMODE(os.stat(t.file("offset")).st_mode)), "0o600", "offset")


@case("wc, head and less-like readers take what they read and no second entry")
def _(m):
    import subprocess
    t = m.topic()
    for i in range(3):
        t.append(b"line %d\n" % i * 3)
    out = subprocess.run(["head", "-n", "1", t.file("next")], stdout=subprocess.PIPE, check=True)
    equal(out.stdout, b"line 0\n")
    t.settled(claimed=0)
    equal(t.next(), b"line 1\n" * 3)
    out = subprocess.run(["grep", "-c", "line 2", t.file("next")], stdout=subprocess.PIPE, check=True)
    equal(out.stdout, b"3\n")
    equal(t.next(), b"")


if __name__ == "__main__":
    lib.main()
