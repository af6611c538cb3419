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


def ctl(*arguments, status=0):
    done = subprocess.run([CTL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300)
    equal(done.returncode, status, f"status of {arguments}, which said {done.stderr!r} {done.stdout!r}")
    return done.stdout


def parsed(*arguments, status=0):
    return json.loads(ctl(*arguments, "--json", status=status))


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


if __name__ == "__main__":
    lib.main()
