#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon is killed, or asked to end: what survives, and what is delivered again."""

import errno
import os
import signal
import subprocess
import time

import lib
from lib import case, equal, fails_with

N = 5


@case("what write(2) acknowledged survives the death of the daemon", "-o", "fsync=never")
def _(m):
    t = m.topic()
    for i in range(1000):
        t.append(b"entry %d\n" % i)
    lib.write_once(t.file("lines"), b"".join(b"line %d\n" % i for i in range(1000)))
    m.kill()
    m.start()
    t = m.find()
    equal(t.status()["entries"], 2000, "entries")
    equal(t.drain(), b"".join([b"entry %d\n" % i for i in range(1000)] + [b"line %d\n" % i for i in range(1000)]))
    t.append(b"and on")
    equal(t.next(), b"and on")


@case("strict: what was read is never delivered again, what was not is there")
def _(m):
    t = m.topic()
    for i in range(30):
        t.append(b"%02d" % i)
    seen = []
    for _ in range(3):
        seen += [t.next() for _ in range(5)]
        m.kill()
        m.start()
        t = m.find()
    while entry := t.next():
        seen.append(entry)
    equal(seen, [b"%02d" % i for i in range(30)])


@case("strict: an entry in hand unread comes back, one begun does not")
def _(m):
    t = m.topic()
    for i in range(3):
        t.append(b"entry %d" % i)
    begun = os.open(t.file("next"), os.O_RDONLY)
    equal(os.read(begun, 2), b"en")
    unread = os.open(t.file("next"), os.O_RDONLY)
    m.kill()
    lib.close_dead(begun)
    lib.close_dead(unread)
    m.start()
    t = m.find()
    equal([t.next(), t.next(), t.next()], [b"entry 1", b"entry 2", b""])


@case("at-least-once: at most N come again after a kill, and none is skipped",
      "-o", f"consistency=at-least-once:{N}")
def _(m):
    t = m.topic()
    for i in range(60):
        t.append(b"%02d" % i)
    seen = []
    for round_ in range(4):
        seen += [t.next() for _ in range(7)]
        m.kill()
        m.start()
        t = m.find()
        position = t.offset()
        due = len(set(seen))
        assert due - N <= position <= due, f"round {round_}: offset {position} after {due} were read"
    while entry := t.next():
        seen.append(entry)
    equal(sorted(set(seen)), [b"%02d" % i for i in range(60)], "each was seen")
    assert len(seen) <= 60 + 4 * N, f"{len(seen)} deliveries of 60 entries after 4 kills, N = {N}"


@case("at-least-once: at most N come again also when readers close at once and do not wait for the disk",
      "-o", f"consistency=at-least-once:{N}")
def _(m):
    t = m.topic()
    with open(t.file("append"), "wb", buffering=0) as f:
        for i in range(6000):
            f.write(b"%d" % i)
    due = 0
    for round_ in range(3):
        for i in range(due, due + 2000):
            fd = os.open(t.file("next"), os.O_RDONLY)
            equal(os.read(fd, 100), b"%d" % i)
            os.close(fd)
        m.kill()
        m.start()
        t = m.find()
        position = t.offset()
        assert i + 1 - N <= position <= i + 1, f"round {round_}: offset {position} after {i + 1} were read"
        due = position


@case("at-least-once: a clean end stores the position", "-o", "consistency=at-least-once:1000")
def _(m):
    t = m.topic()
    for i in range(10):
        t.append(b"%d" % i)
    equal([t.next() for _ in range(4)], [b"0", b"1", b"2", b"3"])
    m.restart()
    t = m.find()
    equal(t.next(), b"4")
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    m.start()
    equal(m.find().next(), b"5")


@case("at-least-once: fsync of a consumer file stores the position", "-o", "consistency=at-least-once:1000")
def _(m):
    t = m.topic()
    for i in range(10):
        t.append(b"%d" % i)
    equal([t.next() for _ in range(4)], [b"0", b"1", b"2", b"3"])
    fd = os.open(t.file("peek"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    m.kill()
    m.start()
    equal(m.find().next(), b"4")


@case("positions of every topic survive unmounting")
def _(m):
    for name in ("a", "b", "c"):
        t = m.topic(name)
        for i in range(10):
            t.append(name.encode() + b"%d" % i)
    equal(m.find("a").next(), b"a0")
    equal(m.find("b").drain()[:2], b"b0")
    m.restart()
    equal(sorted(n for n in os.listdir(m.path) if not n.startswith(".")), ["a", "b", "c"])
    equal(m.find("a").next(), b"a1")
    equal(m.find("b").next(), b"")
    equal(m.find("c").next(), b"c0")
    equal(m.find("b").status()["entries"], 10, "entries")


@case("a dead daemon leaves ENOTCONN, and mounting again works")
def _(m):
    t = m.topic()
    t.append(b"kept")
    m.die()
    with fails_with(*lib.GONE):
        os.listdir(m.path)

    def dead():
        try:
            os.listdir(m.path)
        except OSError as e:
            return e.errno == errno.ENOTCONN
        return False
    lib.until("the mount is dead", dead)
    with fails_with(errno.ENOTCONN):
        lib.write_once(t.file("append"), b"x")
    refused = subprocess.run(m.command(), stderr=subprocess.PIPE, timeout=120, text=True)
    assert refused.returncode != 0, "a mount over a dead one succeeds without being asked to"
    assert "fusermount3 -u" in refused.stderr, f"no advice in: {refused.stderr}"
    subprocess.run(["fusermount3", "-u", m.path], check=True)
    m.start()
    equal(m.find().next(), b"kept")


@case("clean_stale takes a dead mount away")
def _(m):
    m.topic().append(b"kept")
    m.die()
    m.start("-o", "clean_stale")
    equal(m.find().next(), b"kept")


@case("SIGTERM and SIGINT end the daemon with 0 and take the mount away")
def _(m):
    for number in (signal.SIGTERM, signal.SIGINT):
        if not os.path.isdir(m.find().path):
            m.topic()
        m.find().append(b"x")
        m.daemon.send_signal(number)
        m.wait_exit()
        assert not os.path.ismount(m.path), "still mounted"
        m.start()
    equal(m.find().drain(), b"xx")


@case("SIGTERM ends the daemon although a file is open")
def _(m):
    t = m.topic()
    t.append(b"x")
    fd = os.open(t.file("next"), os.O_RDONLY)
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    lib.close_dead(fd)
    m.detach()
    m.start()
    equal(m.find().next(), b"x")


@case("fusermount3 -u is refused while a file is open, and works after")
def _(m):
    t = m.topic()
    fd = os.open(t.file("append"), os.O_WRONLY)
    done = subprocess.run(["fusermount3", "-u", m.path], stderr=subprocess.PIPE)
    assert done.returncode != 0, "unmounted under an open file"
    os.write(fd, b"still works")
    os.close(fd)
    m.restart()
    equal(m.find().next(), b"still works")


@case("twenty kills in a row, with a writer at work, lose nothing that was acknowledged")
def _(m):
    m.topic()
    acknowledged = 0
    for _ in range(20):
        fd = os.open(m.find().file("append"), os.O_WRONLY)
        end = time.monotonic() + 0.03
        while time.monotonic() < end:
            os.write(fd, b"%09d" % acknowledged)
            acknowledged += 1
        m.daemon.kill()
        lib.close_dead(fd)
        m.kill()
        m.start()
    equal(m.find().drain(), b"".join(b"%09d" % i for i in range(acknowledged)))


if __name__ == "__main__":
    lib.main()
