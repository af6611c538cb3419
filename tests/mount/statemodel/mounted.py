# SPDX-License-Identifier: MIT
"""mounted.py - what the random programs of machine.py stand on: a mount beside its model.

Makes the mount and takes it away, prints the first failure of a run as it comes, and compares
everything that the mount shows of itself with the model after a step.
"""

import contextlib
import errno
import functools
import os
import re
import shutil
import stat
import tempfile
import time

import lib
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize
from hypothesis.stateful import rule as plain_rule

from .plain import APPEND_MAX, Topic
from .workers import Worker, name_of

LINE_MAX = 500
TOPICS = ("a", "b", "c")
WORKERS = [Worker() for _ in range(3)]
# What was still held for a topic when that was removed, or reached its limit.
UNSTORED = re.compile(r"could not be stored.*(No such device|No space left)")


def rule(**strategies):
    """A step.  Its first failure is printed as it comes: one that depends on timing may not come again."""
    def wrap(function):
        @functools.wraps(function)
        def step(self, **values):
            try:
                function(self, **values)
            except HypothesisException:
                raise
            except Exception as e:
                self.failed = True
                Mounted.failures += 1
                if Mounted.failures == 1:
                    print("# failed, and is being shortened now:", flush=True)
                    print("".join(f"#   {line}\n" for line in lib.told(e).splitlines()), end="", flush=True)
                raise
        return plain_rule(**strategies)(step)
    return wrap


class Mounted(RuleBasedStateMachine):
    """A store, its mount, and the model of both."""

    programs = 0
    failures = 0
    current = None

    def __init__(self):
        super().__init__()
        Mounted.programs += 1
        Mounted.current = self
        self.topics = {}
        self.readers, self.writers = [], []
        self.counter = 0
        self.failed = False
        self.work = tempfile.mkdtemp(prefix="walrusfs-model.")
        self.mount = lib.Mount(self.work)

    # ------------------------------------------------------------------------------------ the mount

    @initialize(every=st.sampled_from((None, 1, 3)), fsync=st.sampled_from(("1000", "each", "never", "5")),
                files=st.integers(1, 3))
    def begin(self, every, fsync, files):
        self.every = every
        mode = "strict" if every is None else f"at-least-once:{every}"
        self.mount.start("-o", f"consistency={mode},fsync={fsync},line_max={LINE_MAX},"
                               f"block_size=64K,blocks_per_file={files}")
        os.umask(0o022)
        os.mkdir(self.path(TOPICS[0]))
        self.topics[TOPICS[0]] = Topic(TOPICS[0])
        self.check()

    def teardown(self):
        for worker in WORKERS:
            with contextlib.suppress(Exception):
                worker.do("close_all", [h.fd for h in self.readers + self.writers
                                        if h.worker is worker])
        try:
            if self.mount.daemon is not None and not self.failed:
                self.mount.stop()
        finally:
            if self.mount.daemon is not None:
                self.mount.kill()
            self.mount.detach()
            text = self.mount.stderr()
            shutil.rmtree(self.work, ignore_errors=True)
        bad = [line for line in text.splitlines()
               if lib.DEADLY.search(line) or (lib.SUSPICIOUS.search(line) and not UNSTORED.search(line))]
        assert not bad, "suspicious lines in the daemon's stderr:\n" + "\n".join(bad)

    def abandon(self):
        """Takes everything away at once: the test is to end."""
        for worker in WORKERS:
            worker.kill()
        self.mount.kill()
        shutil.rmtree(self.work, ignore_errors=True)

    def path(self, *parts):
        return os.path.join(self.mount.path, *parts)

    def file(self, topic, name, group="default", short=True):
        """A group's file; those of `default` also lie in the topic's own directory."""
        if group == "default" and short:
            return self.path(topic.name, name)
        return self.path(topic.name, "groups", group, name)

    def text(self, path):
        return lib.read_all(path).decode()

    def status(self, topic, group=None):
        path = self.path(topic.name, *(("groups", group) if group else ()), "status")
        pairs = (line.split(" ", 1) for line in self.text(path).splitlines())
        return {key: int(value) for key, value in pairs}

    # ------------------------------------------------------------------------------------- choosing

    def pick(self, things, number):
        things = list(things)
        return things[number % len(things)] if things else None

    def topic(self, number):
        return self.pick(self.topics.values(), number)

    def name_of_group(self, topic, number):
        return self.pick(sorted(topic.groups), number)

    def fresh(self, size):
        """`size` bytes that begin unlike those of the entries before."""
        self.counter += 1
        text = f"{self.counter:x}"[::-1].encode() + b"|"
        return (text * (size // len(text) + 1))[:size]

    @contextlib.contextmanager
    def refused(self, *numbers):
        """What is inside must fail so if any number is given, and else work."""
        try:
            yield
        except OSError as e:
            wanted = "/".join(map(name_of, numbers)) or "no error"
            assert e.errno in numbers, f"{name_of(e.errno)} where {wanted} was expected"
            return
        assert not numbers, f"it worked where {'/'.join(map(name_of, numbers))} was expected"

    # -------------------------------------------------------------------------------------- checking

    def expected(self, topic):
        want = {"entries": topic.tail, "tail": topic.tail, "bytes": sum(map(len, topic.entries)),
                "damaged": 0, "degraded": 0, "waiting": 0, "append_max": APPEND_MAX, "line_max": LINE_MAX}
        group = topic.groups.get("default")
        want["pending"] = len(group.pending(topic.tail)) if group else 0
        want["claimed"] = len(group.held) if group else 0
        return want

    def check(self):
        """The mount shows what the model holds."""
        listed = sorted(n for n in os.listdir(self.mount.path) if n != ".walrusfs")
        lib.equal(listed, sorted(self.topics), "the topics")
        for topic in self.topics.values():
            self.check_topic(topic)
            for name, group in topic.groups.items():
                self.check_group(topic, name, group)
            if "default" not in topic.groups:
                with self.refused(errno.ENXIO):
                    os.open(self.path(topic.name, "next"), os.O_RDONLY)

    def wait_for(self, want, get, where):
        """What a close gives back, and at-least-once counts, comes a moment later."""
        end = time.monotonic() + (60 if Mounted.failures == 0 else 3)  # less while a failure is shortened
        while True:
            got = get()
            wrong = {k: f"{got.get(k)}, not {v}" for k, v in want.items() if got.get(k) != v}
            if not wrong:
                return got
            assert time.monotonic() < end, f"{where}: {wrong}"
            time.sleep(0.0005)

    def check_topic(self, topic):
        got = self.wait_for(self.expected(topic), lambda: self.status(topic), f"status of {topic.name}")
        lows = [group.low for group in topic.groups.values()]
        assert topic.first <= got["first"] <= min(lows), f"first {got['first']}, offsets {lows}"
        # The times that write_batch gives lie years back.
        if topic.retention in ("all", "1G") or (topic.retention == "7d" and not topic.times):
            lib.equal(got["first"], topic.first, f"first, with retention {topic.retention}")
        topic.first = got["first"]
        assert got["durable"] <= topic.tail, f"durable {got['durable']} of {topic.tail}"
        lib.equal(sorted(os.listdir(self.path(topic.name, "groups"))), sorted(topic.groups), "the groups")
        ends = {str(topic.first), str(topic.tail - 1)} if topic.first < topic.tail else set()
        assert set(os.listdir(self.path(topic.name, "entries"))) == ends or \
            self.status(topic)["first"] != got["first"], "what entries/ lists"

    def check_group(self, topic, name, group):
        pending = group.pending(topic.tail)
        self.wait_for({"offset": group.low, "pending": len(pending), "claimed": len(group.held), "waiting": 0},
                      lambda: self.status(topic, name), f"status of {topic.name}/{name}")
        head = len(topic.entries[pending[0]]) if pending else 0
        sizes = {"next": head, "wait": head, "peek": head, "drain": sum(len(topic.entries[s]) for s in pending)}
        for file, size in sizes.items():
            lib.equal(os.stat(self.file(topic, file, name, short=False)).st_size, size, f"the size of {file}")
        lib.equal(self.text(self.file(topic, "offset", name)), f"{group.low}\n", "offset")
        group.settled()

    def check_modes(self):
        for topic in self.topics.values():
            want = {"": topic.mode, "append": 0o444 | (topic.mode & 0o222)}
            for name, group in topic.groups.items():
                want[f"groups/{name}/next"] = want[f"groups/{name}/batch"] = group.mode
            for name, mode in want.items():
                got = stat.S_IMODE(os.stat(self.path(topic.name, name)).st_mode)
                lib.equal(oct(got), oct(mode), f"the mode of {topic.name}/{name}")
