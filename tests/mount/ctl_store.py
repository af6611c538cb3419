#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""walrusctl verify, repair and dump: on whole and on damaged stores, mounted and not."""

import base64
import json
import os
import subprocess

import lib
from lib import case, equal

CTL = os.path.join(os.path.dirname(os.path.abspath(lib.WALRUSFS)), "ctl", "walrusctl")


def ctl(*arguments, status=0, stream="stdout"):
    done = subprocess.run([CTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    equal(done.returncode, status, f"status of {arguments}, which said {done.stderr!r} {done.stdout!r}")
    return getattr(done, stream)


def parsed(*arguments, status=0):
    return json.loads(ctl(arguments[0], "--json", *arguments[1:], status=status))


def spoil(store, name, offset, data):
    with open(os.path.join(store, name), "r+b") as f:
        f.seek(offset)
        f.write(data)


def fill(m):
    t = m.topic()
    for i in range(20):
        t.append(b"entry %d \xff\\" % i)
    equal(t.next(), b"entry 0 \xff\\")
    return t


@case("verify finds nothing wrong in a store that is mounted, or was")
def _(m):
    t = fill(m)
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)
    found = parsed("verify", m.store)
    equal((found["damaged"], found["in_use"]), (0, True))
    m.stop()
    found = parsed("verify", m.store)
    equal((found["damaged"], found["in_use"], found["clean"], found["entries"]), (0, False, True, 20))
    assert b"no damage" in ctl("verify", m.store)


@case("a wrong byte is named by verify, mended by repair where it can be, and the store mounts", allow="damaged")
def _(m):
    fill(m)
    ctl("repair", m.store, status=3)  # in use
    m.stop()
    spoil(m.store, "topics.db", 100, b"x")
    found = parsed("verify", m.store, status=2)
    equal([(d["file"], d["offset"], d["costs"]) for d in found["damage"]], [("topics.db", 0, "nothing")])
    found = parsed("repair", m.store)
    equal((found["damaged"], found["mended"]), (1, 1))
    assert os.path.exists(os.path.join(m.store, ".repair-1"))
    equal(parsed("verify", m.store)["damaged"], 0)
    spoil(m.store, "wal_0001.log", 65536 + 40 + 2, b"?")
    found = parsed("repair", m.store, status=2)
    equal([(d["topic"], d["first"], d["end"]) for d in found["damage"]], [("t", 0, 1)])
    m.start()
    equal(m.find().next(), b"entry 1 \xff\\")


@case("dump prints the entries of a store that is not mounted: as text, as they are, and as JSON")
def _(m):
    fill(m)
    ctl("dump", m.store, status=3)
    m.stop()
    lines = ctl("dump", m.store, "t").splitlines()
    equal(len(lines), 20)
    equal(lines[3].split(b" ", 4)[:2] + lines[3].split(b" ", 4)[3:], [b"t", b"3", b"10", b"entry 3 \\xff\\\\"])
    equal(ctl("dump", "--raw", m.store), b"".join(b"entry %d \xff\\" % i for i in range(20)))
    shown = parsed("dump", m.store)
    equal([(e["topic"], e["seq"], base64.b64decode(e["base64"])) for e in shown],
          [("t", i, b"entry %d \xff\\" % i) for i in range(20)])
    ctl("dump", m.store, "another", status=3)
    ctl("dump", status=1)
    ctl("dump", "--raw", "--json", m.store, status=1)


@case("what cannot be done to a store that is mounted, to a mountpoint, or without a store is said with the way out")
def _(m):
    def told(*arguments):
        return os.fsdecode(ctl(*arguments, status=3, stream="stderr"))

    for command in ("repair", "dump"):
        assert f"unmount it first, with fusermount3 -u -- {m.path}" in told(command, m.store), command
    for command in ("verify", "repair", "dump"):
        assert f"give the store that is mounted there, {m.store}" in told(command, m.path), command
    equal(told("dump", m.path).count("\n"), 1, "lines about dump of a mountpoint")
    for command in ("verify", "repair", "dump", "status", "top"):
        assert f"there is no store in {m.work}" in told(command, m.work), command
        assert "No such file" in told(command, m.store + "/nowhere"), command
    m.topic().append(b"x")
    equal(m.find().next(), b"x")


@case("a store may be named by a symbolic link, mounted or not")
def _(m):
    fill(m)
    link = os.path.join(m.work, "link")
    os.symlink("store", link)
    assert b"t: 20 entries" in ctl("status", link)
    ctl("verify", link)
    m.stop()
    for arguments in (("status", link), ("top", "-n", "1", link), ("verify", link), ("dump", link, "t"),
                      ("seek", link, "t", "begin"), ("bench", "-n", "1", link), ("repair", link)):
        ctl(*arguments)


@case("the help of each command goes to standard output, with status 0", mounted=False)
def _(m):
    commands = [line.split()[0] for line in ctl("--help").decode().splitlines() if line.startswith("  ") and line[2] != " "]
    assert "verify" in commands, commands
    for command in commands:
        assert ctl(command, "--help").startswith(f"usage: walrusctl {command} ".encode()), command
        equal(ctl(command, "-h"), ctl(command, "--help"))


@case("every command prints one JSON value, also with names and data of odd bytes, on whole and damaged stores", allow="damaged")
def _(m):
    name = b"\xff\x01\"\\\n\xc3\xa4{"
    shown = '\\xff\\x01"\\\\x0aä{'
    topic = os.path.join(os.fsencode(m.path), name)
    group = os.path.join(topic, b"groups", name)
    os.mkdir(topic)
    os.mkdir(group)
    for data in (b"\0\xff\n", b"spoilt"):
        lib.write_once(os.path.join(topic, b"append"), data)
    for path in (m.path, m.store):
        equal([t["topic"] for t in parsed("status", path)["topics"]], [shown])
        equal({row["group"] for row in parsed("top", "-n", "1", path)}, {"default", shown})
        equal(parsed("seek", "-g", name, path, name, "1"), {"topic": shown, "group": shown, "offset": 1})
        parsed("bench", "-n", "10", m.path)
    parsed("verify", m.store)
    assert parsed("repair", m.store, status=3)["error"]
    assert parsed("verify", m.path, status=3)["error"]
    m.stop()
    spoil(m.store, "wal_0001.log", 65536 + 40 + 3 + 40, b"?")
    assert [d["topic"] for d in parsed("verify", m.store, status=2)["damage"]] == [shown]
    assert [d["topic"] for d in parsed("repair", m.store, status=2)["damage"]] == [shown]
    dumped = parsed("dump", m.store, status=2)
    equal([(e["topic"], e["seq"], e.get("damaged", False)) for e in dumped], [(shown, 0, False), (shown, 1, True)])
    equal(parsed("dump", m.store, name, status=2), dumped)
    equal([t["topic"] for t in parsed("status", m.store)["topics"]], [shown])
    equal(parsed("seek", "-g", name, m.store, name, "begin")["offset"], 0)
    equal(len(parsed("top", "-n", "1", m.store)), 2)
    parsed("bench", "-n", "10", m.store)


if __name__ == "__main__":
    lib.main()
