#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`offset`: where a group stands, and how it is moved."""

import errno
import os

import lib
from lib import case, equal, fails_with


def ten(m):
    t = m.topic()
    for i in range(10):
        t.append(b"%d" % i)
    return t


@case("offset is the lowest number that is not consumed, and ends with a newline")
def _(m):
    t = ten(m)
    equal(lib.read_all(t.file("offset")), b"0\n")
    t.next()
    t.next()
    equal(lib.read_all(t.file("offset")), b"2\n")
    equal(os.stat(t.file("offset")).st_size, 2, "its size")
    held = os.open(t.file("next"), os.O_RDONLY)
    equal(t.next(), b"3")
    equal(t.offset(), 2, "offset below an entry in hand")
    os.close(held)
    t.settled(claimed=0)
    equal([t.next(), t.next()], [b"2", b"4"])
    equal(t.offset(), 5)


@case("a number, begin, end, +N and -N move it")
def _(m):
    t = ten(m)
    for text, number in (("7", 7), ("+2", 9), ("-5", 4), ("begin", 0), ("end", 10), ("-1", 9), ("0", 0),
                         ("+0", 0), ("10", 10), ("-10", 0)):
        t.seek(text)
        equal(t.offset(), number, f"offset after {text}")
        equal(t.peek(), b"%d" % number if number < 10 else b"", f"peek after {text}")
    t.seek("3")
    equal(t.drain(), b"3456789")
    t.seek("begin")
    equal(t.drain(), b"0123456789")


@case("the text may end with a newline or not, and come through a shell")
def _(m):
    import subprocess
    t = ten(m)
    lib.write_once(t.file("offset"), b"4")
    equal(t.offset(), 4)
    for shell in ("bash", "dash"):
        subprocess.run([shell, "-c", f"echo 6 > '{t.file('offset')}'"], check=True)
        equal(t.offset(), 6)
        t.seek("begin")


@case("text that is none of these is EINVAL and moves nothing")
def _(m):
    t = ten(m)
    t.seek(5)
    for text in (b"x", b"5x", b"5 6", b"--1", b"+", b"-", b"0x5", b"beginning", b"1.5", b"\n", b"5\0", b"end\n\n5"):
        with fails_with(errno.EINVAL):
            lib.write_once(t.file("offset"), text)
        equal(t.offset(), 5, f"offset after {text!r}")


@case("a number outside what is retained is ERANGE and moves nothing")
def _(m):
    t = ten(m)
    t.seek(5)
    for text in (b"11", b"+6", b"-6", b"18446744073709551615", b"99999999999999999999999", b"+18446744073709551615",
                 b"-18446744073709551615"):
        with fails_with(errno.ERANGE):
            lib.write_once(t.file("offset"), text)
        equal(t.offset(), 5, f"offset after {text!r}")


@case("a move is durable when write(2) returns")
def _(m):
    t = ten(m)
    t.drain()
    t.seek(3)
    m.kill()
    m.start()
    t = m.find()
    equal(t.offset(), 3)
    t.seek("end")
    m.kill()
    m.start()
    equal(m.find().next(), b"")


@case("what a forward move passed does not come back from a holder")
def _(m):
    t = ten(m)
    held = os.open(t.file("next"), os.O_RDONLY)
    t.seek(5)
    os.close(held)
    t.settled(claimed=0)
    equal(t.next(), b"5")


@case("a new topic has offset 0 and can be moved to its end")
def _(m):
    t = m.topic()
    equal(t.offset(), 0)
    t.seek("end")
    t.seek("begin")
    equal(t.offset(), 0)
    with fails_with(errno.ERANGE):
        t.seek(1)


if __name__ == "__main__":
    lib.main()
