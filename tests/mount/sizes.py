#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""st_size is true: readers that trust it work, alone and with others that compete."""

import os
import random
import shutil
import subprocess
import threading
import time

import lib
from lib import case, equal

SIZES = (1, 4095, 4096, 4097, 8193, 65536, 200_001, 1_000_000)


def by_cat(path, out):
    with open(out, "wb") as f:
        subprocess.run(["/bin/cat", path], stdout=f, check=True)


def by_busybox(path, out):
    with open(out, "wb") as f:
        subprocess.run(["busybox", "cat", path], stdout=f, check=True)


def by_busybox_pipe(path, out):
    with open(out, "wb") as f:
        done = subprocess.run(["busybox", "cat", path], stdout=subprocess.PIPE, check=True)
        f.write(done.stdout)


def by_copyfile(path, out):
    shutil.copyfile(path, out)


def by_cp(path, out):
    subprocess.run(["cp", path, out], check=True)


def by_sendfile(path, out):
    source = os.open(path, os.O_RDONLY)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        while os.sendfile(target, source, None, 1 << 20):
            pass
    finally:
        os.close(source)
        os.close(target)


def by_splice(path, out):
    source = os.open(path, os.O_RDONLY)
    target = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    r, w = os.pipe()
    try:
        while n := os.splice(source, w, 65536):
            while n > 0:
                n -= os.splice(r, target, n)
    finally:
        for fd in (source, target, r, w):
            os.close(fd)


def by_read(path, out):
    with open(out, "wb") as f:
        f.write(lib.read_all(path, 4096))


def by_stat(path, out):
    """Reads exactly as much as fstat says, as many programs do."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size) if size else b""
        equal(len(data), size, "what fstat announced")
        with open(out, "wb") as f:
            f.write(data)
    finally:
        os.close(fd)


READERS = (by_cat, by_busybox, by_busybox_pipe, by_copyfile, by_cp, by_sendfile, by_splice, by_read, by_stat)


def need_busybox():
    if not shutil.which("busybox"):
        raise lib.Skip("busybox is not installed")


def made(number, size):
    """An entry that tells its number and size, so that a cut or mixed one is seen."""
    head = b"%08d %08d " % (number, size)
    return (head + random.Random(number).randbytes(max(0, size - len(head))))[:size]


def slurp(path):
    with open(path, "rb") as f:
        return f.read()


@case("next announces the size of the entry, drain that of all pending")
def _(m):
    t = m.topic()
    equal([os.stat(t.file(n)).st_size for n in ("next", "peek", "drain")], [0, 0, 0])
    total = 0
    for i, size in enumerate(SIZES):
        t.append(made(i, size))
        total += size
        equal(os.stat(t.file("drain")).st_size, total, "drain")
    for i, size in enumerate(SIZES):
        equal(os.stat(t.file("next")).st_size, size, "next")
        equal(os.stat(t.file("peek")).st_size, size, "peek")
        fd = os.open(t.file("next"), os.O_RDONLY)
        equal(os.fstat(fd).st_size, size, "the open handle")
        equal(lib.read_fd(fd), made(i, size))
        equal(os.fstat(fd).st_size, size, "the open handle after reading")
        os.close(fd)
    equal(os.stat(t.file("next")).st_size, 0)


@case("each kind of reader gets each size whole from next")
def _(m):
    need_busybox()
    t = m.topic()
    out = os.path.join(m.work, "out")
    number = 0
    for reader in READERS:
        for size in SIZES:
            t.append(made(number, size))
            reader(t.file("next"), out)
            equal(slurp(out), made(number, size), f"{reader.__name__}, {size} bytes")
            number += 1
        reader(t.file("next"), out)
        equal(slurp(out), b"", f"{reader.__name__}, empty")


@case("each kind of reader gets everything from drain")
def _(m):
    need_busybox()
    t = m.topic()
    out = os.path.join(m.work, "out")
    for reader in READERS:
        if reader is by_stat:
            continue  # one read(2) of so much may be short
        whole = b""
        for i, size in enumerate(SIZES):
            t.append(made(i, size))
            whole += made(i, size)
        reader(t.file("drain"), out)
        equal(slurp(out), whole, reader.__name__)
        reader(t.file("drain"), out)
        equal(slurp(out), b"", f"{reader.__name__}, empty")


@case("programs that use sendfile on one file at the same time do not stop the mount", "-s")
def _(m):
    t = m.topic()
    lib.write_once(t.file("blob"), b"b" * 1_000_000)
    held = os.open(t.file("status"), os.O_RDONLY)
    device = os.minor(os.stat(m.path).st_dev)
    null = os.open("/dev/null", os.O_WRONLY)
    sent = []

    def send(path):
        total = 0
        for _ in range(200):
            fd = os.open(path, os.O_RDONLY)
            while n := os.sendfile(null, fd, None, 1 << 20):
                total += n
            os.close(fd)
        sent.append(total)

    # The latter is one inode for all who open it.
    for path in (t.file("entries/0"), f"/proc/self/fd/{held}"):
        threads = [threading.Thread(target=send, args=(path,), daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 120
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
        stuck = any(thread.is_alive() for thread in threads)
        if stuck:
            abort(device)
        assert not stuck, f"the readers of {path} do not end"
    equal(sent[:6], [200 * 1_000_000] * 6)
    os.close(held)
    os.close(null)


def abort(device):
    """A daemon whose threads wait for pages of its own mount cannot even be killed."""
    with open(f"/sys/fs/fuse/connections/{device}/abort", "w", encoding="ascii") as f:
        f.write("1")


def compete(m, count, size_of):
    """Eight consumers of different kinds take `count` entries that a writer appends meanwhile."""
    t = m.topic()
    taken, errors, lock = [], [], threading.Lock()
    written = threading.Event()

    def consumer(index, reader):
        out = os.path.join(m.work, f"out.{index}")
        try:
            while True:
                last = written.is_set()
                reader(t.file("next"), out)
                data = slurp(out)
                if data:
                    with lock:
                        taken.append(data)
                elif last and t.status()["claimed"] == 0 and t.status()["pending"] == 0:
                    return
        except Exception as e:  # the main thread reports it
            errors.append(f"{reader.__name__}: {e!r}")

    kinds = [by_cat, by_busybox, by_busybox_pipe, by_copyfile, by_sendfile, by_splice, by_read, by_stat]
    threads = [threading.Thread(target=consumer, args=(i, k)) for i, k in enumerate(kinds)]
    for thread in threads:
        thread.start()
    for number in range(count):
        t.append(made(number, size_of(number)))
    written.set()
    for thread in threads:
        thread.join(150)
        assert not thread.is_alive(), "a consumer does not end"
    equal(errors, [], "errors of consumers")
    numbers = []
    for data in taken:
        number, size = int(data[:8]), int(data[9:17])
        assert data == made(number, size_of(number)), f"entry {number} is cut or mixed: {len(data)} of {size}"
        numbers.append(number)
    equal(sorted(numbers), list(range(count)), "the numbers taken")


@case("eight consumers that compete lose, double and cut nothing", "-o", "fsync=never")
def _(m):
    need_busybox()
    sizes = (18, 4095, 4096, 4097, 8193, 100, 200_001, 40)
    compete(m, 600, lambda i: sizes[i % len(sizes)])


@case("the same in at-least-once mode", "-o", "consistency=at-least-once:50")
def _(m):
    need_busybox()
    random_sizes = [random.Random(7 + i).choice((18, 19, 4096, 4097, 12288, 150_000)) for i in range(600)]
    compete(m, 600, lambda i: random_sizes[i])


@case("the same for programs that are in none of the daemon's pid namespaces", mounted=False)
def _(m):
    if os.geteuid() != 0 or not shutil.which("unshare"):
        raise lib.Skip("needs root and unshare")
    need_busybox()
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", *m.command()], stderr=err)
    lib.until("the mount", m.ready)
    compete(m, 300, lambda i: (18, 4097, 100, 30_000, 40)[i % 5])


if __name__ == "__main__":
    lib.main()
