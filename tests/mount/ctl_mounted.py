#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""walrusctl status, top, seek and bench, beside a mount and on a store that is not mounted."""

import json
import os
import pty
import re
import signal
import subprocess
import threading

import lib
from lib import case, equal

CTL = os.path.join(os.path.dirname(os.path.abspath(lib.WALRUSFS)), "ctl", "walrusctl")


def ctl(*arguments, status=0):
    done = subprocess.run([CTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    equal(done.returncode, status, f"status of {arguments}, which said {done.stderr!r} {done.stdout!r}")
    return done.stdout if status in (0, 2) else done.stderr


def parsed(*arguments, status=0):
    return json.loads(ctl(*arguments, "--json", status=status))


HOSTILE = ['a "quoted" one', "back\\slash", "new\nline", "ünï", "},{=", "n" * 255]


@case("status tells the same of the mountpoint, of the mounted store, and of the store when it is not mounted")
def _(m):
    for name in HOSTILE:
        t = m.topic(name)
        for i in range(5):
            t.append(b"%d" % i)
        os.mkdir(t.file("groups/audit"))
        t.next()
    os.mkdir(os.path.join(os.fsencode(m.path), b"\xff"))
    by_mount, by_store = parsed("status", m.path), parsed("status", m.store)
    equal((by_mount["mountpoint"], by_store["mountpoint"]), (m.path, m.path))
    equal(by_mount["topics"], by_store["topics"])
    equal(sorted(t["topic"] for t in by_mount["topics"]), sorted(["\\xff", *(n.replace("\n", "\\x0a") for n in HOSTILE)]))
    for topic in by_mount["topics"]:
        pending = {group["group"]: group["pending"] for group in topic["groups"]}
        equal((topic["entries"], pending), (0, {"default": 0}) if topic["topic"] == "\\xff" else
              (5, {"audit": 5, "default": 4}))
    m.stop()
    by_store = parsed("status", m.store)
    equal(by_store["mountpoint"], None)
    for now, then in zip(by_store["topics"], by_mount["topics"]):
        for key in ("topic", "entries", "bytes", "first", "tail", "damaged", "limit"):
            equal(now[key], then[key], key)
        equal([(g["group"], g["offset"], g["pending"]) for g in now["groups"]],
              [(g["group"], g["offset"], g["pending"]) for g in then["groups"]])
    assert "not mounted" in ctl("status", m.store)


@case("status of a store whose namespace is mounted is not that of the namespace, unless it is asked for", mounted=False)
def _(m):
    m.start()
    m.topic("outside").append(b"x")
    m.stop()
    m.start("-o", "key=tenant")
    m.topic("inside").append(b"x")
    shown = parsed("status", m.store)
    equal((shown["mountpoint"], [t["topic"] for t in shown["topics"]]), (None, ["outside"]))
    shown = parsed("status", "--key", "tenant", m.store)
    equal((shown["mountpoint"], [t["topic"] for t in shown["topics"]]), (m.path, ["inside"]))


@case("what cannot be done because the daemon died is said with the command that takes its mount away")
def _(m):
    m.topic().append(b"x")
    m.die()
    for command in (("status", m.path), ("top", m.path), ("seek", m.path, "t", "0"), ("bench", m.path)):
        assert "fusermount3 -u" in ctl(*command, status=3), command
    equal(parsed("status", m.store)["topics"][0]["entries"], 1)
    m.detach()
    m.start()


@case("status ends with 2 where entries are damaged, and with 3 where there is no store", allow=".")
def _(m):
    t = m.topic()
    t.append(b"x" * 1000)
    m.stop()
    with open(os.path.join(m.store, next(n for n in os.listdir(m.store) if n.startswith("wal_"))), "r+b") as f:
        f.seek(f.read(40 << 20).index(b"x" * 1000) + 500)
        f.write(b"y")
    m.start()
    with lib.fails_with(5):
        m.find().next()
    assert "DAMAGED" in ctl("status", m.path, status=2)
    assert "No such file" in ctl("status", os.path.join(m.work, "nowhere"), status=3)
    ctl("status", "--nonsense", m.path, status=1)
    ctl("status", status=1)


@case("top shows rates, pending entries, lag and disk use, in at most 80 columns whatever the names and numbers")
def _(m):
    for name in HOSTILE:
        os.mkdir(m.topic(name).file("groups/" + "g" * 200))
    t = m.topic("busy")
    stop = threading.Event()

    def write():
        while not stop.is_set():
            t.append(b"x" * 1000)
            stop.wait(0.001)

    def table():
        """What top prints, and the rows of the topic, when something came between the two tables."""
        text = ctl("top", "-n", "2", "-i", "0.5", m.path)
        rows = [line.split() for line in text.splitlines() if line.startswith(" busy ")]
        return (text, rows) if rows[1][2] != "0" else None
    writer = threading.Thread(target=write)
    writer.start()
    try:
        text, (first, second) = lib.until("a rate that is not 0", table, 120)
        rows = parsed("top", "-n", "1", m.store)
    finally:
        stop.set()
        writer.join()
    assert all(len(line) <= 80 for line in text.splitlines()), text
    heads = [line.split() for line in text.splitlines() if "PENDING" in line]
    equal(heads, [["TOPIC", "GROUP", "IN/s", "OUT/s", "PENDING", "LAG", "HELD", "WAIT", "DISK"]] * 2)
    equal((first[2], second[3]), ("-", "0"), "IN/s at first, OUT/s")
    assert second[4] != "0" and second[5] != "0", second
    equal(sorted(row["group"] for row in rows if row["topic"] == "ünï"), ["default", "g" * 200])


@case("top on a terminal has no more lines than that")
def _(m):
    for i in range(30):
        m.topic(f"topic-{i}")
    parent, child = pty.openpty()
    subprocess.run(["stty", "rows", "12", "cols", "80"], stdin=child, check=True)
    process = subprocess.Popen([CTL, "top", "-n", "1", m.path], stdout=child, stderr=child, stdin=child)
    os.close(child)
    text = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    os.close(parent)
    equal(process.wait(), 0)
    lines = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", text).decode().split("\r\n")
    equal(len(lines), 12, "lines on the screen")
    assert "and 22 more" in lines[-2], lines


@case("seek moves a group through the mount, and in a store that is not mounted")
def _(m):
    t = m.topic()
    os.mkdir(t.file("groups/audit"))
    for i in range(10):
        t.append(b"%d" % i)
    equal(ctl("seek", m.path, "t", "7"), "7\n")
    equal(ctl("seek", "-g", "audit", m.store, "t", "end"), "10\n")
    equal(ctl("seek", "-g", "audit", m.path, "t", "-3"), "7\n")
    equal((t.next(), lib.read_all(t.file("groups/audit/offset"))), (b"7", b"7\n"))
    m.stop()
    equal(ctl("seek", m.store, "t", "begin"), "0\n")
    equal(json.loads(ctl("seek", "--json", m.store, "t", "+2")), {"topic": "t", "group": "default", "offset": 2})
    assert "not retained" in ctl("seek", m.store, "t", "11", status=3)
    assert "no such" in ctl("seek", m.store, "nowhere", "0", status=3)
    for words in (("t", "nonsense"), ("a/b", "0"), ("..", "0"), ("t",)):
        ctl("seek", m.store, *words, status=1)
    m.start()
    equal(m.find().next(), b"2")


@case("bench measures appends and takes, durable ones too, and leaves nothing behind")
def _(m):
    m.topic()
    for options in ((), ("-t", "3"), ("-d", "-s", "10K")):
        shown = parsed("bench", "-n", "60", *options, m.path)
        equal(sorted(shown), ["append", "take"])
        for phase in shown.values():
            assert 0 < phase["p50_ns"] <= phase["p99_ns"] <= phase["max_ns"] and phase["per_second"] > 0, shown
    equal(sorted(os.listdir(m.path)), [".walrusfs", "t"])
    ctl("bench", "-s", "2M", m.path, status=1)
    m.stop()
    assert "p99.9" in ctl("bench", "-n", "100", "-t", "2", m.store)
    m.start()
    equal(sorted(os.listdir(m.path)), [".walrusfs", "t"])


@case("bench that is interrupted leaves nothing behind")
def _(m):
    process = subprocess.Popen([CTL, "bench", "-n", "50M", "-t", "2", m.path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lib.until("it works", lambda: any(m.find(n).status()["entries"] > 10 for n in os.listdir(m.path) if n[0] != "."))
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=120)
    equal((process.returncode, os.listdir(m.path)), (3, [".walrusfs"]), text)


if __name__ == "__main__":
    lib.main()
