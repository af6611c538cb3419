#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`status`: a `key value` a line, numbers in plain decimal, and true."""

import os
import re

import lib
from lib import case, equal

KEYS = ("entries", "bytes", "first", "tail", "pending", "claimed", "waiting", "damaged", "degraded", "disk_bytes",
        "append_max", "line_max", "durable")


@case("every promised key is there once, with a plain number")
def _(m):
    t = m.topic()
    text = lib.read_all(t.file("status")).decode()
    for line in text.splitlines():
        assert re.fullmatch(r"[a-z_]+ (0|[1-9][0-9]*)", line), f"a line of status: {line!r}"
    keys = [line.split()[0] for line in text.splitlines()]
    equal([k for k in KEYS if keys.count(k) != 1], [], "keys that are missing or there twice")
    assert text.endswith("\n")


@case("the values follow what happens")
def _(m):
    t = m.topic()
    for size in (10, 20, 30):
        t.append(b"x" * size)
    want = dict(entries=3, bytes=60, first=0, tail=3, pending=3, claimed=0, waiting=0, damaged=0, degraded=0,
                append_max=lib.APPEND_MAX, line_max=16 << 20)
    equal({k: t.status()[k] for k in want}, want)
    assert t.status()["disk_bytes"] >= 60, "disk_bytes"
    fd = os.open(t.file("next"), os.O_RDONLY)
    equal((t.status()["pending"], t.status()["claimed"]), (2, 1), "pending and claimed")
    lib.read_fd(fd)
    os.close(fd)
    t.settled(pending=2, claimed=0)
    equal(t.status()["entries"], 3, "entries ever")


@case("the announced size is that of the text, and an open handle keeps what it has read")
def _(m):
    t = m.topic()
    t.append(b"x")
    text = lib.read_all(t.file("status"))
    equal(os.stat(t.file("status")).st_size, len(text), "size")
    fd = os.open(t.file("status"), os.O_RDONLY)
    head = os.read(fd, 20)
    for _ in range(20):
        t.append(b"y" * 1000)
    rest = lib.read_fd(fd)
    equal(head + rest, os.pread(fd, 1 << 16, 0), "read in two parts and in one")
    equal(dict(line.split() for line in (head + rest).decode().splitlines())["entries"], "1",
          "entries in the text of the open handle")
    os.close(fd)


if __name__ == "__main__":
    lib.main()
