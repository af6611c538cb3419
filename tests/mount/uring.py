#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`-o io_uring`: the other transport does what the default one does, and every way to its end is clean.

Some tests of the mount are run again over it; `scripts/test --campaign mount-uring` runs them all.  The
kernel's switch is turned on for the time of this test and then put back.
"""

import atexit
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time

import lib
from faults import disks
from lib import Skip, case, equal

HERE = os.path.dirname(os.path.abspath(__file__))
SWITCH = "/sys/module/fuse/parameters/enable_uring"
AGAIN = ("hello.sh", "waiting.py", "crash.py", "append.py")
URING = ("-o", "io_uring")
USED = "requests come through io_uring"


def switch(value):
    with open(SWITCH, "w", encoding="ascii") as f:
        f.write(value)


def take_switch():
    """Nobody else who runs this test moves it meanwhile."""
    if not os.access(SWITCH, os.W_OK):
        print(f"skipped: no FUSE over io_uring, or not root: {SWITCH} is not there to be written")
        sys.exit(77)
    held = open(SWITCH, encoding="ascii")
    fcntl.flock(held, fcntl.LOCK_EX)
    before = held.read().strip()
    atexit.register(lambda: (switch(before), held.close()))
    switch("Y")


def read_or_none(fd):
    try:
        return os.read(fd, 100)
    except OSError:
        return None


class Reader(threading.Thread):
    """Reads one entry from `wait`; `result` is the entry or the errno."""

    def __init__(self, t):
        super().__init__(daemon=True)
        self.path, self.result = t.file("wait"), None
        self.start()

    def run(self):
        try:
            self.result = lib.read_all(self.path)
        except OSError as e:
            self.result = e.errno

    def value(self):
        self.join(120)
        assert not self.is_alive(), "the reader still waits"
        return self.result


def parked(t, count):
    lib.until(f"{count} readers wait", lambda: t.status()["waiting"] == count)


def ended(m):
    equal(m.daemon.wait(120), 0, "the daemon's exit status")
    m.daemon = None
    lib.until("the directory is plain", lambda: not os.path.ismount(m.path))


@case("io_uring is used when it is asked for, and the log says so", *URING)
def _(m):
    t = m.topic()
    t.append(b"x" * lib.APPEND_MAX)
    equal(len(t.next()), lib.APPEND_MAX)
    assert USED in m.stderr(), m.stderr()


@case("when the administrator has not enabled it the mount works without, and one line says why", mounted=False)
def _(m):
    switch("N")
    try:
        m.start(*URING)
    finally:
        switch("Y")
    t = m.topic()
    t.append(b"all the same")
    equal(t.next(), b"all the same")
    lines = [line for line in m.stderr().splitlines() if "io_uring" in line]
    assert len(lines) == 1 and "has not enabled it" in lines[0], lines


@case("at-least-once: an entry whose reply the kernel was not given when the daemon was killed comes again", mounted=False)
def _(m):
    disks.need_failpoints()  # or nothing can be preloaded
    if shutil.which("cc") is None:
        raise Skip("no C compiler here")
    library, hold = os.path.join(m.work, "unsubmitted.so"), os.path.join(m.work, "hold")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", library, os.path.join(HERE, "unsubmitted.c")],
                   check=True)
    options = (*URING, "-o", "consistency=at-least-once:1")
    for name in ("next", "follow"):  # answered by a thread of the transport, and by another
        m.environment = {"LD_PRELOAD": library, "WALRUSFS_HOLD": hold}
        m.start(*options)
        t = m.topic(name)
        t.append(b"not given")
        fd = os.open(t.file(name), os.O_RDONLY)
        with open(hold, "wb"):
            pass
        given = []
        reader = threading.Thread(target=lambda fd=fd, given=given: given.append(read_or_none(fd)), daemon=True)
        reader.start()
        time.sleep(0.5)  # for what is not to happen
        m.kill()
        reader.join(120)
        os.close(fd)
        os.unlink(hold)
        equal(given, [None], "what the reader got")
        m.environment = {}
        m.start(*options)
        equal(m.find(name).next(), b"not given", name)
        m.stop()


@case("auto_unmount goes before io_uring, and a line says so", *URING, "-o", "auto_unmount")
def _(m):
    assert "without io_uring: auto_unmount" in m.stderr(), m.stderr()


@case("readers that wait, many more than a queue begins with, leave their core to others", *URING)
def _(m):
    cores = os.sched_getaffinity(0)
    t, other = m.topic(), m.topic("other")
    try:
        os.sched_setaffinity(0, {min(cores)})  # and the threads that come from here
        readers = [Reader(t) for _ in range(100)]
        parked(t, 100)
        other.append(b"through")
        equal(other.next(), b"through")
        for i in range(100):
            t.append(b"%d" % i)
        equal(sorted(int(r.value()) for r in readers), list(range(100)))
    finally:
        os.sched_setaffinity(0, cores)


@case("readers that are killed at once, on every core, leave nothing behind", *URING)
def _(m):
    t = m.topic()
    for how in ("-TERM", "-KILL"):
        cats = [subprocess.Popen(["cat", t.file("wait")], stdout=subprocess.PIPE) for _ in range(20)]
        parked(t, 20)
        subprocess.run(["kill", how, *(str(cat.pid) for cat in cats)], check=True)
        for cat in cats:
            equal(cat.communicate(timeout=120)[0], b"")
        t.settled(waiting=0)
    t.append(b"still here")
    equal(t.next(), b"still here")


@case("an aborted connection ends the daemon, and who waits gets an error", *URING)
def _(m):
    abort = f"/sys/fs/fuse/connections/{os.minor(os.stat(m.path).st_dev)}/abort"
    if not os.path.exists(abort):
        raise Skip(f"{abort} is not there: fusectl is not mounted")
    t = m.topic()
    t.append(b"kept")
    equal(t.peek(), b"kept")
    readers = [Reader(m.topic("empty"))]
    parked(m.find("empty"), 1)
    with open(abort, "w", encoding="ascii") as f:
        f.write("1")
    assert readers[0].value() in lib.DYING, readers[0].value()
    ended(m)
    m.start()
    equal(m.find().next(), b"kept")


@case("detached with a reader that waits: it gets the next entry, and the daemon ends after it", *URING)
def _(m):
    t = m.topic()
    reader = Reader(t)
    parked(t, 1)
    fd = os.open(t.file("append"), os.O_WRONLY)
    subprocess.run(["umount", "-l", m.path], check=True)
    os.write(fd, b"last")
    os.close(fd)
    equal(reader.value(), b"last")
    ended(m)


@case("a killed daemon leaves nobody waiting", *URING)
def _(m):
    t = m.topic()
    readers = [Reader(t) for _ in range(20)]
    parked(t, 20)
    m.kill()
    for reader in readers:
        assert reader.value() in lib.DYING, reader.result


def again(name):
    @case(f"{name} passes over io_uring", mounted=False)
    def _(m):
        done = subprocess.run([os.path.join(HERE, name)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, WALRUSFS_MOUNT_OPTIONS="io_uring", WALRUSFS_CASE="", TMPDIR=m.work),
                              text=True, errors="replace")
        bad = [line for line in done.stdout.splitlines() if not line.startswith(("ok ", "1.."))]
        assert done.returncode == 0, f"{name} ended with {done.returncode}:\n" + "\n".join(bad)


for test in AGAIN:
    again(test)
take_switch()
lib.main()
