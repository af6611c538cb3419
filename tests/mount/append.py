#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`append`: one write(2) is one entry, stored whole or not at all."""

import errno
import mmap
import os
import resource
import signal

import lib
from lib import APPEND_MAX, case, equal, fails_with


def page_aligned(size):
    """A buffer that begins at a page, filled with bytes that differ from place to place."""
    buffer = mmap.mmap(-1, size)
    pattern = bytes(range(251)) * 4096
    for at in range(0, size, len(pattern)):
        part = pattern[:min(len(pattern), size - at)]
        buffer[at:at + len(part)] = part
    return buffer


@case("one write is one entry, byte for byte")
def _(m):
    t = m.topic()
    entries = [b"x", b"\n", b"\0", b"two\nlines\n", bytes(range(256)), b"no newline", b"\xff\xfe" * 999]
    fd = os.open(t.file("append"), os.O_WRONLY | os.O_APPEND)
    for entry in entries:
        equal(os.write(fd, entry), len(entry))
    os.close(fd)
    equal(t.status()["entries"], len(entries), "entries")
    equal(t.status()["bytes"], sum(map(len, entries)), "bytes")
    for entry in entries:
        equal(t.next(), entry)
    equal(t.next(), b"")


@case("a write of 1,044,480 bytes is one entry at every alignment, one byte more is refused whole")
def _(m):
    t = m.topic()
    buffer = memoryview(page_aligned(APPEND_MAX + 16384))
    fd = os.open(t.file("append"), os.O_WRONLY | os.O_APPEND)
    for alignment in (0, 1, 4095):
        with fails_with(errno.EMSGSIZE):
            os.write(fd, buffer[alignment:alignment + APPEND_MAX + 1])
        data = buffer[alignment:alignment + APPEND_MAX]
        equal(os.write(fd, data), APPEND_MAX)
        equal(t.next(), bytes(data), f"the entry written at alignment {alignment}")
    os.close(fd)
    equal(t.status()["entries"], 3, "entries")
    equal(t.status()["append_max"], APPEND_MAX, "append_max")


@case("a write of 3 MB leaves nothing behind, and the topic works on")
def _(m):
    t = m.topic()
    buffer = memoryview(page_aligned(3_004_096))
    for alignment in (0, 1, 4095):
        fd = os.open(t.file("append"), os.O_WRONLY)
        with fails_with(errno.EMSGSIZE):
            os.write(fd, buffer[alignment:alignment + 3_000_000])
        os.close(fd)
    equal(t.status()["entries"], 0, "entries")
    t.append(b"small")
    equal(t.next(), b"small")


@case("where a write goes in the file means nothing")
def _(m):
    t = m.topic()
    fd = os.open(t.file("append"), os.O_RDWR)
    os.pwrite(fd, b"far out", 1 << 20)
    os.lseek(fd, 77, os.SEEK_SET)
    os.write(fd, b"after a seek")
    equal(os.pread(fd, 100, 0), b"", "reading a producer file")
    os.close(fd)
    equal([t.next(), t.next(), t.next()], [b"far out", b"after a seek", b""])


@case("a limit on the size of files of the writer counts what it wrote through one open file, as the manual warns")
def _(m):
    t = m.topic()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            fd = os.open(t.file("append"), os.O_WRONLY | os.O_APPEND)
            equal((os.write(fd, b"a" * 600), os.write(fd, b"b" * 600)), (600, 400))
            with fails_with(errno.EFBIG):
                os.write(fd, b"c")
            lib.write_once(t.file("append"), b"d" * 600, os.O_APPEND)
            os._exit(0)
        finally:
            os._exit(1)
    equal(os.waitpid(pid, 0)[1], 0, "the writer's status")
    equal([t.next(), t.next(), t.next()], [b"a" * 600, b"b" * 400, b"d" * 600])


@case("truncating to nothing succeeds and changes nothing, to more is EINVAL")
def _(m):
    t = m.topic()
    t.append(b"kept")
    lib.write_once(t.file("append"), b"kept too", os.O_TRUNC | os.O_CREAT)
    os.truncate(t.file("append"), 0)
    with fails_with(errno.EINVAL):
        os.truncate(t.file("append"), 5)
    fd = os.open(t.file("append"), os.O_WRONLY)
    os.ftruncate(fd, 0)
    with fails_with(errno.EINVAL):
        os.ftruncate(fd, 1)
    os.close(fd)
    equal([t.next(), t.next(), t.next()], [b"kept", b"kept too", b""])


@case("writers that opened the file separately lose and mix nothing")
def _(m):
    t = m.topic()
    writers, each = 4, 100
    children = []
    for w in range(writers):
        pid = os.fork()
        if pid == 0:
            try:
                for i in range(each):
                    lib.write_once(t.file("append"), f"{w}:{i}:".encode() + b"x" * (i * 37))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    for pid in children:
        equal(os.waitpid(pid, 0)[1], 0, "a writer's status")
    equal(t.status()["entries"], writers * each, "entries")
    due = [0] * writers
    for _ in range(writers * each):
        w, i, rest = t.next().split(b":", 2)
        equal(int(i), due[int(w)], f"the order of writer {int(w)}")
        equal(rest, b"x" * (int(i) * 37))
        due[int(w)] += 1
    equal(due, [each] * writers)


@case("write errors are seen by cp, dd and cat")
def _(m):
    import subprocess
    t = m.topic()
    big = os.path.join(m.work, "big")
    with open(big, "wb") as f:
        f.write(b"y" * 3_000_000)
    done = subprocess.run(["dd", f"if={big}", f"of={t.file('append')}", "bs=3M", "status=none"],
                          stderr=subprocess.PIPE)
    assert done.returncode != 0, "dd of one write that is too large reports success"
    assert b"essage too long" in done.stderr, done.stderr
    equal(t.status()["entries"], 0, "entries")
    subprocess.run(["dd", f"if={big}", f"of={t.file('append')}", "bs=1000000", "status=none"], check=True)
    equal(t.status()["entries"], 3, "entries of three writes by dd")


if __name__ == "__main__":
    lib.main()
