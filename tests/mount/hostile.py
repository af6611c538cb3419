#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Eight hostile clients (hostile.c) do whatever a program can do to a mount, for a while.

Afterwards the daemon lives, answers, and has its memory and descriptors back; the log of the witness,
who appended all the time, is whole and in order; and after an abort of the connection, or a lazy
unmount with files open, it still is.

From the environment: HOSTILE_SECONDS (default 30; 1800 for a campaign, without tests/mount/run, which
allows less time), HOSTILE_SEED (default: any; it is printed), HOSTILE_OPTIONS (mount options,
comma-separated).
"""
# timeout: 600
# slow

import errno
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib

import lib
from lib import Skip, case, equal

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = int(os.environ.get("HOSTILE_SECONDS", "30"))
SEED = int(os.environ.get("HOSTILE_SEED", "0")) or random.randrange(1, 1 << 31)
OPTIONS = ["-o", "allow_other"]
if os.environ.get("HOSTILE_OPTIONS"):
    OPTIONS += ["-o", os.environ["HOSTILE_OPTIONS"]]
# What the daemon may say: topics are full, or go, while somebody has a line in the making.
ALLOWED = r"cannot read from /dev/fuse|a line that was not ended could not be stored"
# Bytes that the daemon may keep: each of up to 20 threads has a buffer for the largest request.
MEMORY_MOST = 64 << 20
STORE_ROOM = 1 << 30  # bytes on disk from which on the topics of the actors are emptied
HEADER = struct.Struct("<8sIII")
RECORD = struct.Struct("<IIQQ")


def build(work):
    if shutil.which("cc") is None:
        raise Skip("no C compiler here")
    program = os.path.join(work, "hostile")
    done = subprocess.run(["cc", "-D_GNU_SOURCE", "-std=gnu11", "-O1", "-o", program,
                           os.path.join(HERE, "hostile.c"), os.path.join(HERE, "hostile_calls.c")],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return program


def descriptors(m):
    """Open files of the daemon, apart from the store's log files."""
    count = 0
    path = f"/proc/{m.daemon.pid}/fd"
    for name in os.listdir(path):
        try:
            target = os.readlink(f"{path}/{name}")
        except FileNotFoundError:
            continue
        count += not re.search(r"wal_[^/]*\.log", target)
    return count


def sweep(m):
    """Empties and removes the topics of the actors, as far as they let us."""
    for name in os.listdir(m.path):
        if name.startswith(".") or name == "witness":
            continue
        groups = os.path.join(m.path, name, "groups")
        try:
            for group in os.listdir(groups):
                lib.write_once(os.path.join(groups, group, "offset"), b"end\n")
            os.rmdir(os.path.join(m.path, name))
        except OSError:
            continue


class Tormentor:
    """Runs hostile.c on the mount; stops the daemon now and then, and keeps the store small."""

    def __init__(self, m, seconds, seed):
        self.m, self.seconds, self.seed = m, seconds, seed
        self.process = subprocess.Popen([build(m.work), m.path, str(seed), str(seconds)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        start_new_session=True, text=True)
        self.said = {}

    def watch(self):
        """Until the actors hold their files and do nothing more."""
        dice = random.Random(self.seed)
        reader = threading.Thread(target=self.listen, daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(0.1 + dice.random())
            assert self.m.daemon.poll() is None, f"the daemon ended with {self.m.daemon.returncode}"
            if dice.random() < 0.3:
                self.m.daemon.send_signal(signal.SIGSTOP)
                time.sleep(dice.random() * 0.1)
                self.m.daemon.send_signal(signal.SIGCONT)
            if lib.disk_used(self.m.store) > STORE_ROOM or len(os.listdir(self.m.path)) > 300:
                sweep(self.m)
        assert "held" in self.said, f"the actors did not come to their end: {self.said}"
        print(f"# seed {self.seed}: {self.said['calls']} calls by {self.said['starts']} processes, "
              f"{self.said['witness']} entries of the witness", flush=True)

    def listen(self):
        for line in self.process.stdout:
            word, _, value = line.strip().partition(" ")
            self.said[word] = value
            if word == "held":
                return

    def end(self):
        """The actors are killed with their files open."""
        self.process.stdin.close()
        equal(self.process.wait(120), 0, "status of the actors")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def torment(m, seconds=SECONDS, seed=SEED):
    print(f"# replay: HOSTILE_SEED={SEED} HOSTILE_SECONDS={SECONDS} {sys.argv[0]}", flush=True)
    os.chmod(m.path, 0o1777)
    if "witness" not in os.listdir(m.path):
        try:
            m.topic("witness")
        except FileExistsError:  # autocreate: the name can be looked up already
            m.find("witness").append(b"first")
        os.chmod(m.find("witness").path, 0o777)
        os.mkdir(m.find("witness").file("groups/check"))
    return Tormentor(m, seconds, seed)


def records(t):
    """All entries of the witness's topic, as (sequence number, data)."""
    fd = os.open(t.file("groups/check/batch"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                data = os.read(fd, 1 << 20)
            except OSError as e:
                if e.errno != errno.EMSGSIZE:
                    raise
                # Somebody's blob, larger than any record can be.
                number = int(lib.read_all(t.file("groups/check/offset")))
                yield number, lib.read_all(t.file("groups/check/next"))
                continue
            at = 0
            while at < len(data):
                size, _, number, _ = RECORD.unpack_from(data, at)
                yield number, data[at + RECORD.size:at + RECORD.size + size]
                at += (RECORD.size + size + 7) // 8 * 8
    except BlockingIOError:
        return
    finally:
        os.close(fd)


def check_log(m, count):
    """The log holds the witness's `count` entries in order, and nothing torn."""
    t = m.find("witness")
    status = t.status()
    equal((status["damaged"], status["degraded"]), (0, 0), "damaged and degraded")
    expected, due, foreign, seen = 0, None, 0, 0
    for number, data in records(t):
        seen += 1
        if due is not None:
            equal(number, due, "sequence number")
        due = number + 1
        if data[:8] not in (b"WITNESS ", b"FOREIGN ") or len(data) < HEADER.size:
            continue
        mark, own, size, total = HEADER.unpack_from(data)
        if mark == b"WITNESS ":
            equal(own, expected, f"the witness's number in entry {number}")
            expected += 1
        elif len(data) != HEADER.size + size:
            continue  # a piece of a longer one that an actor wrote otherwise
        else:
            foreign += 1
        equal(zlib.adler32(data[HEADER.size:]), total, f"checksum of entry {number}")
        equal(len(data) - HEADER.size, size, f"size of entry {number}")
    equal(expected, count, "entries of the witness")
    equal(due, status["tail"], "the entry behind the last")
    print(f"# log: {seen} entries, {count} of the witness, {foreign} of others with a checksum",
          flush=True)


def look(m):
    """ls, which must not wait."""
    subprocess.run(["ls", "-la", m.path], stdout=subprocess.DEVNULL, check=True, timeout=120)


def back_to(m, what, measure, most):
    lib.until(f"{what} of {measure(m)} back at {most}", lambda: measure(m) <= most)


@case("whatever clients do, the daemon lives, and has its memory and descriptors back", *OPTIONS,
      allow=ALLOWED)
def _(m):
    for seconds, seed in ((max(2, SECONDS // 10), SEED ^ 1), (SECONDS, SEED)):
        # The first round is shorter: what the daemon keeps from it, it needs to work at all.
        tormentor = torment(m, seconds, seed)
        try:
            tormentor.watch()
            look(m)
            tormentor.end()
        finally:
            tormentor.kill()
        check_log(m, int(tormentor.said["witness"]))
        lib.until("the topics of the actors are gone",
                  lambda: sweep(m) or os.listdir(m.path) in (["witness"], [".walrusfs", "witness"]))
        if seed != SEED:
            before = lib.memory(m), descriptors(m)
    look(m)
    print(f"# memory {before[0] >> 10} KiB before, {lib.memory(m) >> 10} KiB after; "
          f"descriptors {before[1]} and {descriptors(m)}", flush=True)
    back_to(m, "descriptors", descriptors, before[1] + 2)
    # What the kernel remembers of files that are gone, the daemon has to as well.
    lib.write_once("/proc/sys/vm/drop_caches", b"2\n")
    if not lib.is_sanitized(m):
        back_to(m, "memory", lib.memory, MEMORY_MOST)


@case("umount -l under hostile clients: the daemon goes on until the last file is closed", *OPTIONS,
      allow=ALLOWED)
def _(m):
    tormentor = torment(m, max(2, SECONDS // 5))
    try:
        tormentor.watch()
        held = os.open(m.find("witness").file("append"), os.O_WRONLY)
        subprocess.run(["umount", "-l", m.path], check=True)
        os.write(held, b"after the unmounting")
        tormentor.end()
        assert m.daemon.poll() is None, "the daemon ended under an open file"
        os.close(held)
        m.wait_exit()
    finally:
        tormentor.kill()
    m.start()
    check_log(m, int(tormentor.said["witness"]))


@case("an abort of the connection under hostile clients ends the daemon, and loses nothing", *OPTIONS,
      allow=ALLOWED)
def _(m):
    number = os.minor(os.stat(m.path).st_dev)
    abort = f"/sys/fs/fuse/connections/{number}/abort"
    if not os.path.exists(abort):
        subprocess.run(["mount", "-t", "fusectl", "none", "/sys/fs/fuse/connections"])
    if not os.path.exists(abort):
        raise Skip("no /sys/fs/fuse/connections here")
    tormentor = torment(m, 3600)
    try:
        time.sleep(max(2, SECONDS // 5))
        with open(abort, "w", encoding="ascii") as f:
            f.write("1")
        equal(m.daemon.wait(120), 0, "the daemon's exit status")
        tormentor.listen()  # the witness's next write fails, and that is the end
    finally:
        tormentor.kill()
    m.daemon = None
    m.detach()
    m.start()
    t = m.find("witness")
    # The log is read twice: what the first time consumes has to stay.
    lib.write_once(t.file("retention"), b"all\n")
    stored = sum(data[:8] == b"WITNESS " for _, data in records(t))
    acknowledged = int(tormentor.said["witness"])
    assert stored in (acknowledged, acknowledged + 1), f"{stored} of {acknowledged} are there"
    lib.write_once(t.file("groups/check/offset"), b"begin\n")
    check_log(m, stored)
    lib.write_once(t.file("append"), b"and on")
    look(m)


if __name__ == "__main__":
    lib.main()
