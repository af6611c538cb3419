#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""When an entry counts as durable: fsync(2), O_SYNC, O_DSYNC, RWF_DSYNC and the mount option."""

import os
import subprocess

import lib
from lib import case, equal

NEVER = ("-o", "fsync=never")


def durable(t):
    status = t.status()
    assert status["durable"] <= status["tail"], status
    return status["durable"]


@case("without a sync nothing is called durable; fsync and fdatasync of any file make it so", *NEVER)
def _(m):
    t = m.topic()
    due = 0
    for name, flags, sync in (("append", os.O_WRONLY, os.fsync), ("append", os.O_RDONLY, os.fdatasync),
                              ("lines", os.O_WRONLY, os.fdatasync), ("status", os.O_RDONLY, os.fsync),
                              ("peek", os.O_RDONLY, os.fsync)):
        t.append(b"x")
        due += 1
        equal(durable(t), due - 1, f"durable before the sync of {name}")
        fd = os.open(t.file(name), flags)
        sync(fd)
        equal(durable(t), due, f"durable after the sync of {name}")
        os.close(fd)


@case("sync FILE makes a topic durable", *NEVER)
def _(m):
    t = m.topic()
    t.append(b"x")
    equal(durable(t), 0)
    subprocess.run(["sync", t.file("append")], check=True)
    equal(durable(t), 1)


@case("a write through O_SYNC or O_DSYNC is durable when it returns", *NEVER)
def _(m):
    t = m.topic()
    due = 0
    for name in ("append", "lines"):
        for flags in (os.O_SYNC, os.O_DSYNC):
            lib.write_once(t.file(name), b"one\n", flags | os.O_APPEND)
            due += 1
            equal(durable(t), due, f"durable after a write to {name}, flags {flags:#o}")


@case("a write with RWF_DSYNC is durable when it returns, the next one without it is not", *NEVER)
def _(m):
    t = m.topic()
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.pwritev(fd, [b"synced"], 0, os.RWF_DSYNC)
    equal(durable(t), 1)
    os.pwritev(fd, [b"not"], 0, 0)
    equal(durable(t), 1)
    os.close(fd)


@case("fsync=each: every write is durable when it returns", "-o", "fsync=each")
def _(m):
    t = m.topic()
    for i in range(10):
        t.append(b"x")
        equal(durable(t), i + 1)


@case("fsync=MS: durable by itself within the time", "-o", "fsync=200")
def _(m):
    t = m.topic()
    t.append(b"x")
    lib.until("durable", lambda: durable(t) == 1)


@case("the default is a sync each second")
def _(m):
    t = m.topic()
    t.append(b"x")
    lib.until("durable", lambda: durable(t) == 1)


@case("strict reading makes the entry durable before its position is", *NEVER)
def _(m):
    t = m.topic()
    for _ in range(3):
        t.append(b"x")
    equal(t.next(), b"x")
    assert durable(t) >= 1, "an entry was consumed that is not durable"


@case("unmounting makes everything durable", *NEVER)
def _(m):
    t = m.topic()
    t.append(b"x")
    m.restart()
    equal(durable(m.find()), 1)


@case("options that make no sense are refused with a message", mounted=False)
def _(m):
    for option in ("fsync=often", "fsync=0", "fsync=-1", "fsync=", "consistency=maybe",
                   "consistency=at-least-once:x", "line_max=0x", "nosuchoption=1"):
        done = subprocess.run(m.command(("-o", option)), stderr=subprocess.PIPE, timeout=120, text=True)
        assert done.returncode != 0, f"-o {option} is taken"
        assert option.split("=")[0] in done.stderr, f"-o {option}: {done.stderr}"
        assert not os.path.ismount(m.path)


if __name__ == "__main__":
    lib.main()
