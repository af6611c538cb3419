#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`lines`: a newline ends an entry and belongs to it; a rest is held until fsync or the last close."""

import errno
import os
import signal
import subprocess

import lib
from lib import case, equal, fails_with


def entries_of(t):
    """Takes everything, one entry at a time."""
    got = []
    while entry := t.next():
        got.append(entry)
    return got


@case("each line is an entry and keeps its newline")
def _(m):
    t = m.topic()
    lib.write_once(t.file("lines"), b"one\ntwo\n\nfour \0 zero\n")
    equal(entries_of(t), [b"one\n", b"two\n", b"\n", b"four \0 zero\n"])


@case("a rest without newline is an entry as soon as the file is closed")
def _(m):
    t = m.topic()
    for i in range(50):
        lib.write_once(t.file("lines"), b"whole\nrest %d" % i)
        equal([t.next(), t.next(), t.next()], [b"whole\n", b"rest %d" % i, b""])


@case("a rest goes on in the next write of the same open file, and is nobody else's")
def _(m):
    t = m.topic()
    a = os.open(t.file("lines"), os.O_WRONLY)
    b = os.open(t.file("lines"), os.O_WRONLY)
    os.write(a, b"a begins, ")
    os.write(b, b"b begins, ")
    equal(t.status()["entries"], 0, "entries while both are held")
    os.write(a, b"a ends\n")
    os.write(b, b"b ends\nand more")
    equal([t.next(), t.next(), t.next()], [b"a begins, a ends\n", b"b begins, b ends\n", b""])
    os.close(a)
    os.close(b)
    equal([t.next(), t.next()], [b"and more", b""])


@case("fsync makes the rest an entry")
def _(m):
    t = m.topic()
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"held")
    equal(t.status()["entries"], 0, "entries before fsync")
    os.fsync(fd)
    equal(t.next(), b"held")
    os.write(fd, b"another\n")
    equal(t.next(), b"another\n")
    os.close(fd)
    equal(t.status()["entries"], 2, "entries")


@case("bash builtins send a FLUSH each, and still make one line")
def _(m):
    t = m.topic()
    env = dict(os.environ, L=t.file("lines"))
    for script in ("{ printf a; printf b; printf 'c\\n'; } > \"$L\"",
                   "exec 3>>\"$L\"; printf a >&3; printf b >&3; printf 'c\\n' >&3; exec 3>&-",
                   "{ printf a; /bin/echo -n b; printf 'c\\n'; } >> \"$L\""):
        subprocess.run(["bash", "-c", script], env=env, check=True)
        equal(entries_of(t), [b"abc\n"], script)
    subprocess.run(["bash", "-c", "printf 'x\\ny\\nz' > \"$L\""], env=env, check=True)
    equal(entries_of(t), [b"x\n", b"y\n", b"z"])


@case("a line over line_max is refused, and dropped up to its newline", "-o", "line_max=65536")
def _(m):
    t = m.topic()
    equal(t.status()["line_max"], 65536, "line_max")
    fd = os.open(t.file("lines"), os.O_WRONLY)
    with fails_with(errno.EMSGSIZE):
        os.write(fd, b"first\n" + b"x" * 65537)
    equal(t.status()["entries"], 0, "entries: nothing of that write is stored")
    os.write(fd, b"still that line\nthe next one\n")
    os.close(fd)
    equal(entries_of(t), [b"the next one\n"])
    lib.write_once(t.file("lines"), b"y" * 65535 + b"\n")
    equal(entries_of(t), [b"y" * 65535 + b"\n"], "a line of exactly line_max")


@case("a line may come in many writes, up to line_max in all", "-o", "line_max=300000")
def _(m):
    t = m.topic()
    fd = os.open(t.file("lines"), os.O_WRONLY)
    for _ in range(29):
        os.write(fd, b"z" * 10000)
    os.write(fd, b"\n")
    equal(t.next(), b"z" * 290000 + b"\n")
    for _ in range(30):
        os.write(fd, b"z" * 10000)
    with fails_with(errno.EMSGSIZE):
        os.write(fd, b"z" * 10000)
    os.write(fd, b"\nfine\n")
    os.close(fd)
    equal(entries_of(t), [b"fine\n"])


@case("a clean end commits a rest that is held")
def _(m):
    t = m.topic()
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"done\nheld")
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    lib.close_dead(fd)
    m.detach()
    m.start()
    equal(entries_of(m.find()), [b"done\n", b"held"])


@case("the death of the daemon loses a held rest and nothing else")
def _(m):
    t = m.topic()
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"done\nheld")
    m.kill()
    lib.close_dead(fd)
    m.start()
    equal(entries_of(m.find()), [b"done\n"])


if __name__ == "__main__":
    lib.main()
