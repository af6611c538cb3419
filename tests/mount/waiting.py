#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`wait` and `follow`: readers that wait for entries, wake in order, and can be interrupted."""

import errno
import mmap
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time

import lib
from lib import case, equal, fails_with


class Reader(threading.Thread):
    """Opens a file and reads once, or to its end; `result` is the bytes or the errno."""

    def __init__(self, path, whole=True):
        super().__init__(daemon=True)
        self.path, self.whole, self.result = path, whole, None
        self.start()

    def run(self):
        try:
            fd = os.open(self.path, os.O_RDONLY)
            try:
                self.result = lib.read_fd(fd) if self.whole else os.read(fd, 1 << 20)
            finally:
                os.close(fd)
        except OSError as e:
            self.result = e.errno

    def value(self, seconds=120):
        self.join(seconds)
        assert not self.is_alive(), "the reader still waits"
        return self.result


class LargeReader(Reader):
    """One read(2) of 4 MiB, in pages of its own: the kernel cuts it after each MiB that was filled."""

    def __init__(self, fd):
        self.fd = fd
        super().__init__(None)

    def run(self):
        with mmap.mmap(-1, 4 << 20) as pages:
            self.result = pages[:os.readv(self.fd, [pages])]


def parked(t, count):
    lib.until(f"{count} readers wait", lambda: t.status()["waiting"] == count)


@case("wait gives one entry at once when there is one")
def _(m):
    t = m.topic()
    t.append(b"a")
    t.append(b"b")
    equal((lib.read_all(t.file("wait")), lib.read_all(t.file("wait"))), (b"a", b"b"))


@case("wait waits, and wakes with the entry that comes")
def _(m):
    t = m.topic()
    reader = Reader(t.file("wait"))
    parked(t, 1)
    t.append(b"here")
    equal(reader.value(), b"here")
    equal((t.status()["waiting"], t.status()["entries"], t.next()), (0, 1, b""))


@case("waiting readers wake in the order they came, each with an entry of its own")
def _(m):
    t = m.topic()
    readers = []
    for i in range(10):
        readers.append(Reader(t.file("wait")))
        parked(t, i + 1)
    for i in range(10):
        t.append(b"%d" % i)
    equal([r.value() for r in readers], [b"%d" % i for i in range(10)])


@case("a reader that looked when there was a longer entry keeps its place")
def _(m):
    t = m.topic()
    t.append(b"x" * 1000)
    looked = os.open(t.file("wait"), os.O_PATH)
    equal(len(t.next()), 1000)
    first = Reader(f"/proc/self/fd/{looked}")
    parked(t, 1)
    second = Reader(t.file("wait"))
    parked(t, 2)
    t.append(b"1")
    equal(first.value(), b"1")
    t.append(b"2")
    equal(second.value(), b"2")
    os.close(looked)


@case("a waiting reader that a signal ends takes nothing")
def _(m):
    t = m.topic()
    for how in (signal.SIGTERM, signal.SIGKILL):
        cat = subprocess.Popen(["cat", t.file("wait")], stdout=subprocess.PIPE)
        parked(t, 1)
        cat.send_signal(how)
        equal((cat.communicate(timeout=120)[0], cat.returncode), (b"", -how))
    parked(t, 0)
    t.append(b"still there")
    equal(t.next(), b"still there")


EINTR_READER = """
import ctypes, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.siginterrupt(signal.SIGUSR1, False)
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.open(sys.argv[1].encode(), 0)
got = libc.read(fd, ctypes.create_string_buffer(100), 100) if fd >= 0 else -1
print(got, ctypes.get_errno())
"""


@case("a signal with SA_RESTART, and a stop that is continued, end a wait with EINTR, too")
def _(m):
    t = m.topic()
    for name in ("wait", "follow", "batch"):
        for how in (signal.SIGUSR1, signal.SIGSTOP):
            reader = subprocess.Popen([sys.executable, "-c", EINTR_READER, t.file(name)], stdout=subprocess.PIPE)
            parked(t, 1)
            reader.send_signal(how)
            parked(t, 0)
            reader.send_signal(signal.SIGCONT)
            equal(reader.communicate(timeout=120)[0].split(), [b"-1", b"%d" % errno.EINTR], f"{name} {how!r}")
    t.append(b"still there")
    equal(t.next(), b"still there")


@case("two that wait in one open file: each can be killed, and takes nothing")
def _(m):
    t = m.topic()
    for name in ("follow", "batch", "wait"):
        fd = os.open(t.file(name), os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(fd, True)  # so that the open of `wait` did not wait, and reads do
        readers = []
        for _ in range(2):  # the second READ waits for the first
            pid = os.fork()
            if pid == 0:
                try:
                    _ = os.pread(fd, 4096, 0) if name == "wait" else os.read(fd, 4096)
                finally:
                    os._exit(0)
            readers.append(pid)
            lib.until("the reader sleeps", lambda pid=pid: lib.process_state(pid) == b"S")
        parked(t, 1)
        for pid in reversed(readers):
            os.kill(pid, signal.SIGKILL)
            lib.until(f"a reader of {name} is dead", lambda pid=pid: os.waitpid(pid, os.WNOHANG)[0] == pid)
        parked(t, 0)
        t.append(b"still there")
        os.close(fd)
        equal(t.next(), b"still there")


@case("a signal ends a read of follow that has many entries of no bytes before it")
def _(m):
    t = m.topic()
    for _ in range(5):
        lib.write_once(t.file("batch"), bytes(24 * 40_000))
    done = subprocess.run(["timeout", "-s", "KILL", "0.1", "cat", t.file("follow")], stdout=subprocess.PIPE)
    equal(done.stdout, b"")
    parked(t, 0)
    assert t.status()["pending"] > 0, "all were consumed first"


def take_interrupted(m):
    """Six readers that an alarm interrupts all the time take all entries, each once."""
    if shutil.which("cc") is None:
        raise lib.Skip("no C compiler here")
    t = m.topic()
    program = os.path.join(m.work, "interrupted")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-std=gnu11", "-O1", "-o", program,
                    os.path.join(os.path.dirname(os.path.abspath(__file__)), "interrupted.c")], check=True)
    readers = [subprocess.Popen([program, t.file("wait"), "end"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(6)]
    for i in range(1500):
        t.append(b"%d\n" % i)
        if i % 10 == 0:
            time.sleep(0.005)  # so that they wait now and then
    for _ in readers:
        t.append(b"end")
    told = [r.communicate(timeout=120) for r in readers]
    equal([r.returncode for r in readers], [0] * 6, f"status ({told})")
    assert sum(int(err) for _, err in told) > 0, "nobody was interrupted"
    equal(sorted(int(n) for out, _ in told for n in out.split()), list(range(1500)), "what was taken")
    t.settled(pending=0, claimed=0, waiting=0)


@case("strict: interrupts at any moment lose nothing and take nothing twice", "-o", "consistency=strict")
def _(m):
    take_interrupted(m)


@case("at-least-once: the same", "-o", "consistency=at-least-once:10")
def _(m):
    take_interrupted(m)


@case("O_NONBLOCK gives EAGAIN, and poll tells when to come back")
def _(m):
    t = m.topic()
    fd = os.open(t.file("wait"), os.O_RDONLY | os.O_NONBLOCK)
    with fails_with(errno.EAGAIN):
        os.read(fd, 100)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    equal(poll.poll(50), [], "poll while there is nothing")
    timer = threading.Timer(0.2, t.append, (b"now",))
    timer.start()
    events = poll.poll(120_000)
    assert events and events[0][1] & select.POLLIN, f"poll: {events}"
    equal(os.read(fd, 100), b"now")
    os.close(fd)
    timer.join()


@case("O_NONBLOCK: the first read of an entry that came later may be from its middle on")
def _(m):
    t = m.topic()
    fd = os.open(t.file("wait"), os.O_RDONLY | os.O_NONBLOCK)
    t.append(b"an entry")
    equal((os.pread(fd, 100, 3), os.pread(fd, 2, 0), os.pread(fd, 100, 8)), (b"entry", b"an", b""))
    os.close(fd)
    equal(t.next(), b"")


@case("an edge-triggered epoll client gets every entry of follow")
def _(m):
    t = m.topic()
    fd = os.open(t.file("follow"), os.O_RDONLY | os.O_NONBLOCK)
    epoll = select.epoll()
    epoll.register(fd, select.EPOLLIN | select.EPOLLET)
    writer = threading.Thread(target=lambda: [(t.append(b"%d" % i), time.sleep(0.002)) for i in range(100)])
    writer.start()
    got = []
    while len(got) < 100:
        try:
            got.append(os.read(fd, 4096))
        except BlockingIOError:
            assert epoll.poll(120), "epoll does not wake"
    writer.join()
    equal(got, [b"%d" % i for i in range(100)])
    os.close(fd)


@case("follow takes at most one entry a read, and the rest of a long one in the next")
def _(m):
    t = m.topic()
    for entry in (b"one", b"longer one", b"three"):
        t.append(entry)
    fd = os.open(t.file("follow"), os.O_RDONLY)
    equal([os.read(fd, 100), os.read(fd, 4), os.read(fd, 100), os.read(fd, 100)],
          [b"one", b"long", b"er one", b"three"])
    os.close(fd)
    t.settled(claimed=0)
    equal(t.next(), b"")


@case("a read of more than a request does not wait, nor take more, when an entry fills the request")
def _(m):
    t = m.topic()
    for name, head in (("follow", 0), ("batch", 24)):
        data = os.urandom((1 << 20) - head)  # with the head of its record as long as a request
        fd = os.open(t.file(name), os.O_RDONLY)
        for behind in (b"", b"next"):
            with open(t.file("blob"), "wb", buffering=0) as f:
                equal(f.write(data), len(data))
            if behind:
                t.append(behind)
            reader = LargeReader(fd)
            got = reader.value()
            equal((len(got), got[head:]), (1 << 20, data), name)
        equal(LargeReader(fd).value()[head:].rstrip(b"\0"), b"next", name)
        os.close(fd)


@case("splice finds follow and batch empty, and takes nothing")
def _(m):
    t = m.topic()
    t.append(b"entry")
    into, out = os.pipe()
    for name in ("follow", "batch"):
        fd = os.open(t.file(name), os.O_RDONLY)
        equal(os.splice(fd, out, 100), 0, name)
        os.close(fd)
    os.close(into)
    os.close(out)
    equal((t.status()["pending"], t.next()), (1, b"entry"))


@case("cat follow prints what comes for as long as it runs")
def _(m):
    t = m.topic()
    out = os.path.join(m.work, "out")
    with open(out, "wb") as f:
        cat = subprocess.Popen(["cat", t.file("follow")], stdout=f)
    for i in range(20):
        t.append(b"%d\n" % i)
    want = b"".join(b"%d\n" % i for i in range(20))
    lib.until("cat printed all", lambda: os.path.getsize(out) == len(want))
    cat.send_signal(signal.SIGTERM)
    cat.wait(120)
    with open(out, "rb") as f:
        equal(f.read(), want)
    t.settled(claimed=0, pending=0, waiting=0)


@case("rmdir wakes what waits with ENODEV")
def _(m):
    t = m.topic()
    readers = [Reader(t.file("wait")), Reader(t.file("follow"), whole=False)]
    parked(t, 2)
    os.rmdir(t.path)
    equal([r.value() for r in readers], [errno.ENODEV] * 2)


@case("SIGTERM to the daemon wakes what waits with ESHUTDOWN, and ends with 0")
def _(m):
    t = m.topic()
    readers = [Reader(t.file("wait")), Reader(t.file("follow"), whole=False)]
    parked(t, 2)
    m.daemon.send_signal(signal.SIGTERM)
    equal([r.value() for r in readers], [errno.ESHUTDOWN] * 2)
    m.wait_exit()
    m.detach()


@case("two hundred waiting readers leave ls and other readers at work")
def _(m):
    t, other = m.topic(), m.topic("other")
    readers = [Reader(t.file("wait")) for _ in range(200)]
    parked(t, 200)
    os.listdir(m.path)
    other.append(b"x")
    equal(other.next(), b"x")
    equal(t.status()["waiting"], 200)
    lib.write_once(t.file("lines"), b"".join(b"%d\n" % i for i in range(200)))
    equal(sorted(int(r.value()) for r in readers), list(range(200)))


@case("workers on wait share the entries, none lost, none twice")
def _(m):
    t = m.topic()
    script = 'for i in $(seq 50); do cat "$F"; done'
    workers = [subprocess.Popen(["bash", "-c", script], env=dict(os.environ, F=t.file("wait")),
                                stdout=subprocess.PIPE) for _ in range(4)]
    for i in range(200):
        t.append(b"%d\n" % i)
    got = b"".join(w.communicate(timeout=120)[0] for w in workers)
    equal(sorted(int(x) for x in got.split()), list(range(200)))


if __name__ == "__main__":
    lib.main()
