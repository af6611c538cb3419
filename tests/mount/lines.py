#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`lines`: a newline ends an entry and belongs to it; a rest is held until fsync or the last close."""

import errno
import os
import shutil
import signal
import subprocess

import lib
from faults import disks
from lib import case, equal, fails_with

HERE = os.path.dirname(os.path.abspath(__file__))


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


@case("whatever is asked after the close sees the rest: its size, its number, and rmdir finds the topic not empty")
def _(m):
    t = m.topic()
    for i in range(100):
        lib.write_once(t.file("lines"), b"rest")
        equal(os.stat(t.file("next")).st_size, 4, f"size of next after close {i}")
        equal(t.next(), b"rest")
        lib.write_once(t.file("lines"), b"rest")
        equal(os.stat(t.file(f"entries/{2 * i + 1}")).st_size, 4)
        equal(t.drain(), b"rest")
    for i in range(100):
        lib.write_once(t.file("lines"), b"rest")
        with fails_with(errno.ENOTEMPTY):
            os.rmdir(t.path)
        equal(t.next(), b"rest")
        t.settled(claimed=0)


@case("the same when the daemon's threads come to the close in another order", mounted=False)
def _(m):
    disks.need_failpoints()  # or nothing can be preloaded
    if shutil.which("cc") is None:
        raise lib.Skip("no C compiler here")
    library = os.path.join(m.work, "late_release.so")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", library,
                    os.path.join(HERE, "late_release.c")], check=True)
    m.environment = {"LD_PRELOAD": library}
    m.start()
    t = m.topic()
    for i in range(20):
        lib.write_once(t.file("lines"), b"rest %d" % i)
        equal(t.next(), b"rest %d" % i)
    fd = os.open(t.file("blob"), os.O_WRONLY)
    if os.fork() == 0:
        os.write(fd, b"by a child")
        os._exit(0)
    os.close(fd)
    os.wait()
    equal(t.next(), b"by a child")


@case("a close that is not the last holds a consumer up for a moment only, and no rest is torn")
def _(m):
    t = m.topic()
    t.append(b"before")
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"begun, ")
    os.close(os.dup(fd))
    equal((t.next(), t.next()), (b"before", b""))
    os.write(fd, b"ended")
    os.close(fd)
    equal((t.next(), t.next()), (b"begun, ended", b""))


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


@case("a line that has not ended is not held for a topic that was removed")
def _(m):
    t = m.topic()
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.rmdir(t.path)
    for data in (b"begun", b"ended\n"):
        with fails_with(errno.ENODEV):
            os.write(fd, data)
    os.close(fd)


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


@case("that a line is too long is told to who writes more at once than the kernel sends in one piece",
      "-o", "line_max=2M")
def _(m):
    t = m.topic()
    for size in (2_500_000, 3_500_000):  # the line ends in the piece that is refused, or goes on behind it
        fd = os.open(t.file("lines"), os.O_WRONLY)
        data = memoryview(b"x" * size + b"\nlost with it\n")
        done = os.write(fd, data)  # short: what the kernel had sent before
        assert 0 < done < len(data), done
        with fails_with(errno.EMSGSIZE):
            os.write(fd, data[done:])
        os.write(fd, b"its end\nthe next one\n"[8 if size == 2_500_000 else 0:])
        os.close(fd)
        equal(entries_of(t), [b"the next one\n"])


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
