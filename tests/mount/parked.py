#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ten thousand readers that wait for an entry cost the daemon no threads, little memory and no time.

The cases that only measure print figures, and run when PARKED_MEASURE is set; then the ratio that is
promised is asserted too.  PARKED_COUNT (default 10000): how many wait.
"""
# timeout: 600
# slow

import os
import shutil
import statistics
import subprocess
import threading
import time

import lib
from lib import Skip, case, equal

HERE = os.path.dirname(os.path.abspath(__file__))
COUNT = int(os.environ.get("PARKED_COUNT", "10000"))
PER_PROCESS = 2500
FIRST = 20  # readers that come one after the other, for the order
KIB = 5 if lib.URING else 1  # for each; a request that waits at an io_uring has a page there
RATIO = 1.5  # of what calls may cost beside many that wait


def build(work):
    if shutil.which("cc") is None:
        raise Skip("no C compiler here")
    program = os.path.join(work, "parked")
    done = subprocess.run(["cc", "-D_GNU_SOURCE", "-std=gnu11", "-O1", "-pthread", "-o", program,
                           os.path.join(HERE, "parked.c")], stderr=subprocess.PIPE, text=True)
    equal((done.returncode, done.stderr), (0, ""), "what the compiler said")
    return program


def threads_of(m):
    return len(os.listdir(f"/proc/{m.daemon.pid}/task"))


def entry(number):
    return b"%015d." % number


class Crowd:
    """Processes full of readers of a topic; a context, at whose end they are gone."""

    def __init__(self, program, t):
        self.program, self.t, self.processes = program, t, []
        self.count = t.status()["waiting"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def add(self, count, *files):
        while count > 0:
            some = min(count, PER_PROCESS)
            paths = [self.t.file(name) for name in files]
            self.processes.append(subprocess.Popen([self.program, str(some), *paths],
                                                   stdout=subprocess.PIPE))
            count -= some
            self.count += some
            lib.until(f"{self.count} wait", self.all_wait)

    def all_wait(self):
        for process in self.processes:
            assert process.poll() is None, f"readers ended with {process.returncode}"
        return self.t.status()["waiting"] == self.count

    def read(self):
        """What the readers of each process read; they have all ended then."""
        lines = []
        for process in self.processes:
            out, _ = process.communicate(timeout=120)
            equal(process.returncode, 0, "status of a process of readers")
            lines.append(out.splitlines())
        self.processes = []
        return lines

    def kill(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            process.stdout.close()
        self.processes = []


@case(f"{COUNT} waiting readers cost no thread and less than {KIB} KiB each, and each gets an entry",
      "-o", "fsync=never")
def _(m):
    t = m.topic()
    program = build(m.work)
    with Crowd(program, t) as crowd:
        crowd.add(100, "wait", "follow", "batch")
        threads, before = threads_of(m), lib.memory(m)
        crowd.add(COUNT, "wait", "follow", "batch")
        grown = (lib.memory(m) - before) >> 10
        print(f"# {grown / COUNT:.3f} KiB each, {threads_of(m)} threads ({threads} before)")
        assert grown < KIB * COUNT or lib.is_sanitized(m), f"{grown} KiB more for {COUNT} readers"
        assert threads_of(m) <= threads + 4, f"{threads_of(m)} threads, {threads} before"
        for i in range(COUNT + 100):
            t.append(entry(i))
        got = sorted(line for lines in crowd.read() for line in lines)
    equal(len(got), COUNT + 100, "what was read")
    wrong = [(g, entry(i)) for i, g in enumerate(got) if g != entry(i)]
    equal(wrong[:5], [], "each entry was read once")
    t.settled(waiting=0, claimed=0, pending=0)


@case("those who came first wake first, whatever they read with", "-o", "fsync=never")
def _(m):
    t = m.topic()
    program = build(m.work)
    with Crowd(program, t) as crowd:
        for i in range(FIRST):
            crowd.add(1, ("wait", "follow", "batch")[i % 3])
        crowd.add(min(COUNT, 2000), "wait", "follow", "batch")
        for i in range(crowd.count):
            t.append(entry(i))
        got = crowd.read()
    equal([lines[0] for lines in got[:FIRST]], [entry(i) for i in range(FIRST)])


@case(f"{COUNT} waiting readers killed at once leave the mount as it was", "-o", "fsync=never")
def _(m):
    t = m.topic()
    program = build(m.work)
    after = []

    def grew():
        return after[-1] > after[-2] + 2048 + (KIB - 1) * COUNT and not lib.is_sanitized(m)
    # What is lost for each reader is lost in every round; a new thread and its buffers are not.
    while len(after) < 2 or (len(after) < 5 and grew()):
        with Crowd(program, t) as crowd:
            crowd.add(COUNT, "wait", "follow", "batch")
            crowd.kill()
        lib.until("none waits", lambda: t.status()["waiting"] == 0)
        after.append(lib.memory(m) >> 10)
    assert not grew(), f"KiB after each round: {after}"
    t.append(b"for who comes now")
    equal(t.next(), b"for who comes now")
    t.settled(waiting=0, claimed=0, pending=0)


@case("a removed topic, and the end of the daemon, wake all that wait", "-o", "fsync=never")
def _(m):
    t = m.topic("gone")
    program = build(m.work)
    count = min(COUNT, 2000)
    with Crowd(program, t) as crowd:
        crowd.add(count, "wait", "follow", "batch")
        os.rmdir(t.path)
        equal([set(lines) for lines in crowd.read()], [{b"errno 19"}], "ENODEV")
    t = m.topic()
    with Crowd(program, t) as crowd:
        crowd.add(count, "wait", "follow", "batch")
        m.daemon.terminate()
        equal([set(lines) for lines in crowd.read()], [{b"errno 108"}], "ESHUTDOWN")
    m.wait_exit()


def seconds_of(count, call):
    """The median time of a call."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@case("beside waiting readers ls and echo are as fast as without", "-o", "fsync=never")
def _(m):
    if "PARKED_MEASURE" not in os.environ:
        raise Skip("a measurement: set PARKED_MEASURE")
    t, other = m.topic(), m.topic("other")
    program = build(m.work)
    calls = {
        "ls": lambda: subprocess.run(["ls", "-la", m.path], stdout=subprocess.DEVNULL),
        "echo > append": lambda: subprocess.run(["sh", "-c", "echo x > append"], cwd=other.path),
        "listdir(2)": lambda: os.listdir(m.path),
        "open, write, close": lambda: other.append(b"x"),
    }
    found = {name: ([], []) for name in calls}
    for _ in range(5):
        for parked in (0, 1):
            with Crowd(program, t) as crowd:
                crowd.add(COUNT * parked, "wait", "follow", "batch")
                for name, call in calls.items():
                    found[name][parked].append(seconds_of(60, call))
            lib.until("none waits", lambda: t.status()["waiting"] == 0)
    for name, (none, many) in found.items():
        alone, beside = statistics.median(none), statistics.median(many)
        print(f"# {name}: {alone * 1e6:.0f} us alone, {beside * 1e6:.0f} us beside {COUNT}, "
              f"ratio {beside / alone:.2f}", flush=True)
        if name in ("ls", "echo > append"):
            assert beside / alone < RATIO, f"{name}: ratio {beside / alone:.2f}"


@case("eight writers with fsync=each share flushes", "-o", "fsync=each")
def _(m):
    t = m.topic()
    seconds = 2 if "PARKED_MEASURE" in os.environ else 0.3
    total = 0

    def write(end, counts):
        fd = os.open(t.file("append"), os.O_WRONLY | os.O_APPEND)
        count = 0
        while time.monotonic() < end:
            equal(os.write(fd, b"x" * 100), 100)
            count += 1
        os.close(fd)
        counts.append(count)

    rates = {}
    for writers in (1, 8, 1, 8):
        counts = []
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=write, args=(end, counts)) for _ in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal(len(counts), writers, "writers without an error")
        total += sum(counts)
        rates[writers] = max(rates.get(writers, 0), sum(counts) / seconds)
    print(f"# durable entries a second: {rates[1]:.0f} by one writer, {rates[8]:.0f} by eight, "
          f"{rates[8] / rates[1]:.1f} times as many", flush=True)
    status = t.status()
    equal((status["entries"], status["durable"]), (total, total), "entries, and durable ones")


if __name__ == "__main__":
    lib.main()
