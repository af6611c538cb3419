#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The memory that a busy moment took goes back to the system."""

import os

import lib
from lib import case

MIB = 1 << 20


def need_plain_malloc(m):
    if lib.is_sanitized(m):
        raise lib.Skip("a sanitizer keeps what is freed")


@case("what a burst of open files took is given back when they are closed, also if the last one stays", "-o", "fsync=never")
def _(m):
    need_plain_malloc(m)
    t = m.topic()
    t.append(b"x")
    files = [os.open(t.file("lines"), os.O_WRONLY) for _ in range(800)]
    before = lib.memory(m)
    for fd in files:
        os.write(fd, b"x" * 30000)  # without an end: the daemon holds it
    held = lib.memory(m)
    assert held > before + 20 * MIB, f"{held - before} bytes for 800 lines of 30,000 bytes"
    last = os.open(t.file("lines"), os.O_WRONLY)
    os.write(last, b"y" * 30000)
    for fd in files:
        os.close(fd)
    lib.until("the memory is given back", lambda: lib.memory(m) < before + 8 * MIB)
    os.close(last)


@case("what files took that somebody looked at is given back when the kernel forgets them", "-o", "fsync=never")
def _(m):
    need_plain_malloc(m)
    count = 60000
    t = m.topic()
    lib.write_once(t.file("lines"), b"x\n" * count)
    before = lib.memory(m)
    for number in range(count):
        os.stat(t.file(f"entries/{number}"))
    held = lib.memory(m)
    assert held > before + 10 * MIB, f"{held - before} bytes for {count} files"
    t.drain()
    os.rmdir(t.path)
    lib.until("the memory is given back", lambda: lib.memory(m) < before + 4 * MIB)


if __name__ == "__main__":
    lib.main()
