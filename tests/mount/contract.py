#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""Promises of the manual page that no other test shows: see docs/contract-tests.md."""

import contextlib
import errno
import fcntl
import mmap
import os
import resource
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time

import lib
from faults import disks
from lib import APPEND_MAX, Topic, case, equal, fails_with

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20


def record(data=b""):
    return struct.pack("<IIQQ", len(data), 0, 0, 0) + data + b"\0" * (-len(data) % 8)


def blob(t, size):
    fd = os.open(t.file("blob"), os.O_WRONLY)
    os.write(fd, b"z" * size)
    os.close(fd)


def sizes(t):
    """Takes everything; the sizes of the entries."""
    got = []
    while entry := t.next():
        got.append(len(entry))
    return got


def mode(path):
    return oct(stat.S_IMODE(os.stat(path).st_mode))


def topics(m):
    return [n for n in os.listdir(m.path) if not n.startswith(".")]


@contextlib.contextmanager
def held(path, flags=os.O_RDONLY):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        lib.close_dead(fd)


def need_root():
    if os.geteuid() != 0:
        raise lib.Skip("needs root")


# ---------------------------------------------------------------------------- command line, environment


@case("a store that cannot be opened is status 2, a mount point that cannot be used 3", mounted=False)
def _(m):
    other = os.path.join(m.work, "other")
    os.mkdir(other)
    with open(os.path.join(other, "file"), "w"):
        pass
    for store, path, status in (("/nonexistent/a/b", m.path, 2), (other, m.path, 2), (__file__, m.path, 2),
                                (m.store, "/nonexistent", 3), (m.store, other, 3),
                                (os.path.join(m.path, "s"), m.path, 1)):
        done = subprocess.run(m.command(store=store, path=path), stderr=subprocess.PIPE, timeout=120)
        equal(done.returncode, status, f"status of {store} at {path}: {done.stderr}")
    done = subprocess.run(m.command(("-o", "ro")), stderr=subprocess.PIPE, timeout=120)
    equal((done.returncode, os.path.exists(m.store)), (2, False), "a read-only mount of no store")
    done = subprocess.run(m.command(("-o", "logfile=/nonexistent/log")), stderr=subprocess.PIPE, timeout=120)
    equal(done.returncode, 1, "a log file that cannot be opened")


@case("flags of the kernel and one thread are taken, the last option of a kind counts",
      "-s", "-o", "noexec,noatime,comment=x,fsync=each,fsync=250,consistency=at-least-once:0,line_max=64K")
def _(m):
    config = dict(line.split(" ", 1) for line in
                  lib.read_all(os.path.join(m.path, ".walrusfs", "config")).decode().splitlines())
    equal((config["fsync"], config["consistency"], config["line_max"]), ("250", "at-least-once:1", "65536"))
    t = m.topic()
    t.append(b"x")
    equal(t.next(), b"x")


@case("block_size and blocks_per_file are those of a new store, and an old one keeps its own",
      "-o", "block_size=64K,blocks_per_file=7")
def _(m):
    def config():
        text = lib.read_all(os.path.join(m.path, ".walrusfs", "config")).decode()
        return [line for line in text.splitlines() if line.startswith("block")]
    want = ["block_size 65536", "blocks_per_file 7"]
    equal(config(), want)
    m.restart("-o", "block_size=1M,blocks_per_file=9")
    equal(config(), want)


@case("WALRUS_INSTANCE_KEY is a key, as the option is", mounted=False)
def _(m):
    os.environ["WALRUS_INSTANCE_KEY"] = "ten/ant"
    try:
        m.start()
        m.topic()
        m.stop()
    finally:
        del os.environ["WALRUS_INSTANCE_KEY"]
    equal(os.listdir(m.store), ["ten_ant"])
    m.start("-o", "key=ten_ant")
    equal(topics(m), ["t"])


@case("SIGHUP without a log file does nothing")
def _(m):
    m.daemon.send_signal(signal.SIGHUP)
    t = m.topic()
    t.append(b"x")
    equal((t.next(), m.daemon.poll()), (b"x", None))


@case("files that are open when SIGTERM comes get ENOTCONN")
def _(m):
    t = m.topic()
    with held(t.file("append"), os.O_WRONLY) as fd:
        m.daemon.send_signal(signal.SIGTERM)
        m.wait_exit()
        with fails_with(*lib.GONE):
            os.write(fd, b"x")


@case("SIGTERM drops a blob that is being written")
def _(m):
    t = m.topic()
    with held(t.file("blob"), os.O_WRONLY) as fd:
        os.write(fd, b"so far")
        m.daemon.send_signal(signal.SIGTERM)
        m.wait_exit()
    m.start()
    equal(m.find().next(), b"")


@case("loglevel hides what is less important, nonempty mounts over files", mounted=False)
def _(m):
    with open(os.path.join(m.path, "file"), "w"):
        pass
    m.start("-o", "loglevel=warning,nonempty")
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    equal(m.stderr(), "", "messages at loglevel=warning")
    m.start("-o", "nonempty")
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    assert "signal" in m.stderr(), m.stderr()


@case("after umount -l the daemon ends when the last file is closed")
def _(m):
    need_root()
    t = m.topic()
    with held(t.file("append"), os.O_WRONLY) as fd:
        subprocess.run(["umount", "-l", m.path], check=True)
        os.write(fd, b"late")
        time.sleep(0.3)
        equal(m.daemon.poll(), None, "the daemon while a file is open")
    m.wait_exit()
    m.start()
    equal(m.find().next(), b"late")


@case("a connection that ends while a request is read, that of the last close, is no error", mounted=False)
def _(m):
    disks.need_failpoints()  # or nothing can be preloaded
    if shutil.which("cc") is None:
        raise lib.Skip("no C compiler here")
    library = os.path.join(m.work, "aborted.so")
    subprocess.run(["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", library, os.path.join(HERE, "aborted.c")],
                   check=True)
    m.environment = {"LD_PRELOAD": library}
    m.start("-o", "loglevel=warning")
    m.topic().append(b"x")
    m.stop()
    equal(m.stderr(), "", "messages")


@case("SIGTERM to a daemon whose mount was detached leaves alone what is mounted there since")
def _(m):
    need_root()
    t = m.topic()
    with held(t.file("append"), os.O_WRONLY):
        subprocess.run(["umount", "-l", m.path], check=True)
        first = m.daemon
        m.store += ".2"
        m.start()
        m.topic("second").append(b"x")
        first.send_signal(signal.SIGTERM)
        equal(first.wait(120), 0, "the first daemon's exit status")
    equal(m.find("second").next(), b"x")


@case("readers that wait when the daemon is killed get ECONNABORTED or ENOTCONN")
def _(m):
    t = m.topic()
    got = []

    def reader():
        try:
            got.append(lib.read_all(t.file("wait")))
        except OSError as e:
            got.append(e.errno)
    thread = threading.Thread(target=reader)
    thread.start()
    t.settled(waiting=1)
    m.kill()
    thread.join(120)
    assert got and got[0] in (errno.ECONNABORTED, errno.ENOTCONN), got


# ------------------------------------------------------------------------------------ the files themselves


@case("directories list the files of the manual")
def _(m):
    t = m.topic()
    group = "batch next wait drain follow peek offset status".split()
    equal(sorted(os.listdir(t.path)),
          sorted(group + "append lines blob retention limit entries groups".split()))
    equal(sorted(os.listdir(t.file("groups/default"))), sorted(group))


@case("nothing is made, removed or given modes where the tree is fixed")
def _(m):
    t = m.topic()
    t.append(b"x")
    for path in (t.file("x"), t.file("entries/7"), t.file("groups/default/x"), os.path.join(m.path, ".walrusfs/x")):
        with fails_with(errno.EACCES):
            os.mkdir(path)
    for path in (t.file("groups"), t.file("entries"), os.path.join(m.path, ".walrusfs")):
        with fails_with(errno.EPERM):
            os.rmdir(path)
        with fails_with(errno.EPERM):
            os.rename(path, os.path.join(os.path.dirname(path), "new"))
    for name in ("status", "groups", "entries", "entries/0", "../.walrusfs/errors"):
        with fails_with(errno.EPERM):
            os.chmod(t.file(name), 0o600)
    equal(t.next(), b"x")


@case("files that are not for writing give EACCES, streams cannot seek, and there are no extended attributes")
def _(m):
    t = m.topic()
    for name in ("next", "wait", "drain", "follow", "peek", "status", "groups/default/batch"):
        for flags in (os.O_WRONLY, os.O_RDWR):
            with fails_with(errno.EACCES):
                os.open(t.file(name), flags | os.O_NONBLOCK)
    for name in ("follow", "batch"):
        with held(t.file(name), os.O_RDONLY | os.O_NONBLOCK) as fd:
            with fails_with(errno.ESPIPE):
                os.lseek(fd, 0, os.SEEK_SET)
            with fails_with(errno.ESPIPE):
                os.pread(fd, 100, 0)
    with fails_with(errno.ENOTSUP):
        os.setxattr(t.path, "user.x", b"1")


@case("flock and fcntl locks are ENOLCK, giving up a lock is not")
def _(m):
    t = m.topic()
    with held(t.file("append"), os.O_WRONLY) as fd:
        for lock in (fcntl.flock, fcntl.lockf):
            with fails_with(errno.ENOLCK):
                lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock(fd, fcntl.LOCK_UN)


@case("poll calls the files that never wait ready at all times")
def _(m):
    t = m.topic()
    for name in ("next", "drain", "peek", "status", "append"):
        with held(t.file(name)) as fd:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            assert poll.poll(0), name


@case("truncating a consumer file to nothing takes nothing, to more is EINVAL")
def _(m):
    t = m.topic()
    t.append(b"x")
    os.truncate(t.file("next"), 0)
    with fails_with(errno.EINVAL):
        os.truncate(t.file("next"), 1)
    equal(t.status()["pending"], 1)


@case("directories of topics have the time of the last entry")
def _(m):
    t = m.topic()
    for _ in range(3):
        time.sleep(0.02)
        t.append(b"x")
        equal(os.stat(t.path).st_mtime_ns, os.stat(t.file("append")).st_mtime_ns)


def open_many(path, count):
    """A child that opens `path` `count` times, or until it fails, and holds the files until its stdin ends."""
    script = f"""
import os, sys, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
opened, error = 0, 0
try:
    while opened < {count}:
        os.open({path!r}, os.O_RDONLY | os.O_NONBLOCK)
        opened += 1
except OSError as e:
    error = e.errno
print(opened, error, flush=True)
sys.stdin.read()
"""
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@case("131,072 open files are the most, then open is EMFILE, and what is open works")
def _(m):
    t = m.topic()
    t.append(b"kept")
    each = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 64
    if each < 4096:
        raise lib.Skip(f"a process may open {each} files only")
    children, opened, error = [], 0, 0
    try:
        while error == 0 and opened < 140_000:
            child = open_many(t.file("follow"), each)
            children.append(child)
            count, error = map(int, child.stdout.readline().split())
            opened += count
        equal((opened, error), (131_072, errno.EMFILE))
        with fails_with(errno.EMFILE):
            t.next()
    finally:
        for child in children:
            child.communicate()
    equal(t.next(), b"kept")


# ------------------------------------------------------------------------------------------------ producers


@case("unfinished lines take 64 MiB at most in all, ENOMEM keeps what was held")
def _(m):
    t = m.topic()
    fds = [os.open(t.file("lines"), os.O_WRONLY) for _ in range(6)]
    count = 0
    with fails_with(errno.ENOMEM):
        for fd in fds:
            for _ in range(15):
                os.write(fd, b"k" * 1_000_000)
                count += 1
    assert 40 <= count <= 67, f"{count} MB were held"
    for fd in fds:
        os.close(fd)
    equal(len(t.drain()), count * 1_000_000, "bytes that became entries at close")


@case("a held line is outside of O_SYNC, and one that cannot be stored at close is in errors", allow="not ended")
def _(m):
    t = m.topic()
    with held(t.file("lines"), os.O_WRONLY | os.O_SYNC) as fd:
        os.write(fd, b"held")
        equal(t.status()["entries"], 0)
    equal(t.next(), b"held")
    lib.write_once(t.file("limit"), b"20K")
    lib.write_once(t.file("lines"), b"z" * 30_000)
    lib.until("the error is told", lambda: b"30000 bytes of a line" in
              lib.read_all(os.path.join(m.path, ".walrusfs", "errors")))


@case("a blob and a batch through O_SYNC or O_DSYNC are durable", "-o", "fsync=never")
def _(m):
    t = m.topic()
    with held(t.file("blob"), os.O_WRONLY | os.O_SYNC) as fd:
        os.write(fd, b"x")
    equal(t.status()["durable"], 1, "after the blob")
    lib.write_once(t.file("batch"), record(b"x"), os.O_DSYNC)
    equal(t.status()["durable"], 2, "after the batch")
    with held(t.file("blob"), os.O_WRONLY) as fd:
        os.pwritev(fd, [b"x"], 0, os.RWF_DSYNC)
        os.pwrite(fd, b"y", 1)
    equal(t.status()["durable"], 3, "after a blob of which a part was written with RWF_DSYNC")


@case("fsync of a directory makes its topic durable, of the root all", "-o", "fsync=never")
def _(m):
    t, other = m.topic(), m.topic("other")
    t.append(b"x")
    other.append(b"x")
    with held(t.path) as fd:
        os.fsync(fd)
    equal((t.status()["durable"], other.status()["durable"]), (1, 0))
    with held(m.path) as fd:
        os.fsync(fd)
    equal(other.status()["durable"], 1)


@case("fifty writers with fsync=each lose nothing and wait for no reader", "-o", "fsync=each")
def _(m):
    t = m.topic()
    with held(t.file("drain")), held(t.file("wait"), os.O_RDONLY | os.O_NONBLOCK):
        threads = [threading.Thread(target=t.append, args=(b"%02d" % i,)) for i in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        equal((t.status()["entries"], t.status()["durable"]), (50, 50))


@case("after a write to blob that failed, all others and the close fail alike, and there is no entry")
def _(m):
    t = m.topic()
    lib.write_once(t.file("limit"), b"20M")
    fd = os.open(t.file("blob"), os.O_WRONLY)
    with fails_with(errno.ENOSPC):
        while True:
            os.write(fd, b"z" * 100_000)
    for _ in range(2):
        with fails_with(errno.ENOSPC):
            os.write(fd, b"more")
    with fails_with(errno.ENOSPC):
        os.close(fd)
    equal(t.status()["entries"], 0)


@case("a topic at its limit takes appends again once everything was consumed, however small the limit")
def _(m):
    t = m.topic()
    lib.write_once(t.file("limit"), b"1M")
    with fails_with(errno.ENOSPC):
        while True:
            t.append(b"z" * 100_000)
    t.drain()

    def room():
        try:
            return t.append(b"z" * 100_000) is None
        except OSError as error:
            equal(error.errno, errno.ENOSPC)
            return False
    lib.until("room after draining", room)


@case("an entry too large for a read of batch is EMSGSIZE and stays; up to 1 MiB comes by itself")
def _(m):
    t = m.topic()
    blob(t, 2 * MIB)
    with held(t.file("batch"), os.O_RDONLY | os.O_NONBLOCK) as fd:
        with fails_with(errno.EMSGSIZE):
            os.read(fd, 4 * MIB)
        equal(len(t.next()), 2 * MIB)
        t.settled(claimed=0)
        blob(t, APPEND_MAX)
        t.append(b"behind")
        equal(len(os.read(fd, 2 * MIB)), len(record(b"z" * APPEND_MAX)))
        equal(len(os.read(fd, 2 * MIB)), len(record(b"behind")))
        # The largest record: a buffer that begins inside a page cannot be asked for as many bytes.
        size = MIB - len(record(b""))
        blob(t, size)
        buffer = mmap.mmap(-1, 2 * MIB)
        with fails_with(errno.EINVAL):
            os.readv(fd, [memoryview(buffer)[8:]])
        equal(os.readv(fd, [buffer]), len(record(b"z" * size)))


@case("a write of no bytes is no entry; an entry of no bytes is consumed by the close of its holder")
def _(m):
    t = m.topic()
    equal(lib.write_once(t.file("append"), b""), 0)
    equal(t.status()["entries"], 0)
    lib.write_once(t.file("batch"), record() + record() + record(b"last"))
    for left in (2, 1):
        equal(t.next(), b"")
        t.settled(claimed=0, pending=left)
    equal(t.next(), b"last")


# ------------------------------------------------------------------------------------------------ consumers


@case("56 ranges above an entry in hand, then EBUSY, until the gap closes", "-o", "fsync=never")
def _(m):
    t = m.topic()
    for i in range(200):
        t.append(b"%03d" % i)
    fds, pieces = [], 0
    with fails_with(errno.EBUSY):
        while pieces < 100:
            fds.append(os.open(t.file("next"), os.O_RDONLY))
            t.next()
            pieces += 1
    equal(pieces, 56)
    for name in ("next", "drain"):
        with fails_with(errno.EBUSY):
            os.close(os.open(t.file(name), os.O_RDONLY))
    with held(t.file("wait"), os.O_RDONLY | os.O_NONBLOCK) as fd, fails_with(errno.EAGAIN):
        os.read(fd, 100)
    for fd in fds:
        os.close(fd)
    t.settled(claimed=0)
    first = t.drain()  # what closes gaps may come by itself
    equal(first[:6], b"000002")
    equal(len(first) + len(t.drain()), (200 - 56) * 3)


@case("a consumer file reached without its directory admits one open at a time")
def _(m):
    need_root()
    t = m.topic()
    t.append(b"a")
    t.append(b"b")
    bound = os.path.join(m.work, "bound")
    with open(bound, "w"):
        pass
    subprocess.run(["mount", "--bind", t.file("next"), bound], check=True)
    try:
        with held(bound) as fd:
            with fails_with(errno.EBUSY):
                os.open(bound, os.O_RDONLY)
            equal(os.read(fd, 10), b"a")
        t.settled(claimed=0)
        equal(lib.read_all(bound), b"b")
    finally:
        subprocess.run(["umount", bound], check=True)
    with held(t.file("next")) as fd, fails_with(errno.EBUSY):
        os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)


@case("strict: reading the tail of a drain takes what was touched and nothing before it")
def _(m):
    t = m.topic()
    for i in range(5):
        t.append(b"%d" % i * 4)
    with held(t.file("drain")) as fd:
        os.lseek(fd, -4, os.SEEK_END)
        equal(os.read(fd, 10), b"4444")
    t.settled(claimed=0)
    equal((t.offset(), t.drain()), (0, b"0000111122223333"))


def damage(m, pattern):
    """Changes one byte of `pattern` in the log files of the store, which is not mounted."""
    found = 0
    for name in os.listdir(m.store):
        if not name.startswith("wal_"):
            continue
        with open(os.path.join(m.store, name), "r+b") as f:
            with mmap.mmap(f.fileno(), 0) as data:
                at = data.find(pattern)
                if at >= 0:
                    data[at] ^= 1
                    found += 1
    equal(found, 1, "places of the pattern")


@case("a damaged entry: peek is EIO while it is at the head, follow and batch are EIO once and go on", allow=".")
def _(m):
    t = m.topic()
    for name in ("f", "b"):
        os.mkdir(t.file(f"groups/{name}"))
    for i in range(3):
        t.append(b"entry number %d" % i)
    m.stop()
    damage(m, b"entry number 1")
    m.start()
    t = m.find()
    equal(t.next(), b"entry number 0")
    for _ in range(2):
        with fails_with(errno.EIO):
            t.peek()
    with held(t.file("groups/f/follow"), os.O_RDONLY | os.O_NONBLOCK) as fd:
        equal(os.read(fd, 100), b"entry number 0")
        with fails_with(errno.EIO):
            os.read(fd, 100)
        equal(os.read(fd, 100), b"entry number 2")
    with held(t.file("groups/b/batch"), os.O_RDONLY | os.O_NONBLOCK) as fd:
        assert b"entry number 0" in os.read(fd, 1000)
        with fails_with(errno.EIO):
            os.read(fd, 1000)
        assert b"entry number 2" in os.read(fd, 1000)


@case("metrics show bytes of names that are not UTF-8 as an escaped \\xNN")
def _(m):
    os.mkdir(os.path.join(os.fsencode(m.path), b"a\xff\x01b"))
    text = lib.read_all(os.path.join(m.path, ".walrusfs", "metrics"))
    assert b'walrusfs_entries{topic="a\\\\xff\\\\x01b"} 0\n' in text, text[:2000]


@case("open files of a removed group are ENODEV, what they had in hand can be read from peek")
def _(m):
    t = m.topic()
    path = t.file("groups/audit")
    os.mkdir(path)
    group = Topic(path)
    t.append(b"entry")
    with held(group.file("peek")) as peek, held(group.file("next")) as next_, \
            held(group.file("follow"), os.O_RDONLY | os.O_NONBLOCK) as follow:
        os.rmdir(path)
        for fd in (next_, follow):
            with fails_with(errno.ENODEV):
                os.read(fd, 10)
        equal(os.read(peek, 10), b"entry")
    with fails_with(errno.ENOENT):
        group.next()
    equal(t.next(), b"entry")


@case("a topic without the group default: ENXIO, and batch can be written; made again, all works")
def _(m):
    t = m.topic()
    t.append(b"entry")
    os.rename(t.file("groups/default"), t.file("groups/old"))
    for name in ("next", "wait", "drain", "follow", "peek", "batch", "offset"):
        with fails_with(errno.ENXIO):
            os.open(t.file(name), os.O_RDONLY | os.O_NONBLOCK)
    lib.write_once(t.file("batch"), record(b"more"))
    equal((mode(t.file("entries/0")), lib.read_all(t.file("entries/1"))), ("0o400", b"more"))
    os.mkdir(t.file("groups/default"))
    equal((t.next(), t.next()), (b"entry", b"more"))
    equal(Topic(t.file("groups/old")).drain(), b"entrymore")
    with fails_with(errno.EACCES):
        lib.write_once(t.file("groups/old/batch"), record(b"x"))


# ---------------------------------------------------------------------------------- names, rights, autocreate


@case("autocreate: opening makes nothing, mkdir is EEXIST, blob and batch make topics too", "-o", "autocreate")
def _(m):
    t = m.find("new")
    os.close(os.open(t.file("append"), os.O_WRONLY))
    with fails_with(errno.EEXIST):
        os.mkdir(t.path)
    equal(topics(m), [])
    blob(m.find("a"), 10)
    lib.write_once(m.find("b").file("batch"), record(b"x"))
    equal(topics(m), ["a", "b"])
    done = subprocess.run(["mv", m.find("a").path, m.find("c").path], stderr=subprocess.DEVNULL)
    assert done.returncode != 0, "mv to a name that would be made"
    equal(topics(m), ["a", "b"])


@case("autocreate: who may not write the root makes nothing", "-o", "autocreate,allow_other")
def _(m):
    need_root()
    os.chmod(m.work, 0o755)
    path = m.find("new").file("append")
    script = f"import os; os.setgid(65534); os.setuid(65534); os.open({path!r}, os.O_WRONLY)"
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert "PermissionError" in done.stderr, done.stderr
    equal(topics(m), [])


@case("modes and owners follow the table of the manual")
def _(m):
    need_root()
    t = m.topic()
    t.append(b"x")
    group = Topic(t.file("groups/audit"))
    os.mkdir(group.path)
    equal({n: mode(t.file(n)) for n in ("append", "lines", "blob", "batch", "next", "offset", "limit", "status")},
          dict(append="0o644", lines="0o644", blob="0o644", batch="0o600", next="0o400", offset="0o600",
               limit="0o600", status="0o444"))
    os.chmod(t.path, 0o775)
    os.chmod(t.file("retention"), 0o640)
    os.chmod(group.file("batch"), 0o440)
    equal([mode(t.file(n)) for n in ("append", "blob", "limit", "batch", "next")],
          ["0o664", "0o664", "0o640", "0o600", "0o400"])
    equal([mode(group.file(n)) for n in ("next", "follow", "batch", "offset")], ["0o440"] * 3 + ["0o600"])
    os.chown(t.path, 7, 8)
    equal([os.stat(t.file(n)).st_uid for n in ("append", "batch", "retention", "status", "next", "groups/default")],
          [7, 7, 7, 7, 0, 0])
    os.chown(group.path, 9, 9)
    equal([os.stat(group.file(n)).st_uid for n in ("next", "batch", "offset")], [9, 9, 9])
    os.chown(t.file("peek"), 11, -1)
    equal([os.stat(t.file(n)).st_uid for n in ("next", "entries/0", "offset")], [11, 11, 0])


@case("a read-only mount: what can be read, and EROFS for the rest", mounted=False)
def _(m):
    m.start()
    t = m.topic()
    t.append(b"one")
    m.restart("-o", "ro")
    t = m.find()
    equal([lib.read_all(t.file(n)) for n in ("entries/0", "retention", "limit", "append")],
          [b"one", b"consumed\n", b"none\n", b""])
    for name in ("wait", "drain", "follow", "batch"):
        with fails_with(errno.EROFS):
            os.open(t.file(name), os.O_RDONLY)
    with fails_with(errno.EROFS):
        os.chmod(t.path, 0o700)
    with fails_with(errno.EROFS):
        lib.write_once(t.file("limit"), b"20M")


# ------------------------------------------------------------------------------------------ notes of the manual


@case("posix_fallocate makes entries of zero bytes, as the manual warns")
def _(m):
    t = m.topic()
    with held(t.file("append"), os.O_WRONLY) as fd:
        os.posix_fallocate(fd, 0, 20_000)
    assert t.status()["entries"] > 0, "glibc does something else now: tell the manual"
    assert set(t.drain()) == {0}


@case("sendfile cuts at 64 KiB, and a writev at 256 pages, as the manual warns; blob takes both whole")
def _(m):
    t = m.topic()
    source = os.path.join(m.work, "source")
    with open(source, "wb") as f:
        f.write(b"s" * 300_000)

    def send(name):
        with held(source) as fd, held(t.file(name), os.O_WRONLY) as out:
            while os.sendfile(out, fd, None, 300_000):
                pass
    send("append")
    equal(sizes(t), [65536] * 4 + [300_000 - 4 * 65536])
    send("blob")
    equal(sizes(t), [300_000])
    pieces = [b"v" * 10] * 1000
    for name, whole in (("append", False), ("blob", True)):
        with held(t.file(name), os.O_WRONLY) as fd:
            equal(os.writev(fd, pieces), 10_000)
        got = sizes(t)
        equal((sum(got), len(got) == 1), (10_000, whole), f"writev to {name}")


@case("mv out of the mount takes one entry and fails")
def _(m):
    t = m.topic()
    t.append(b"one")
    t.append(b"two")
    target = os.path.join(m.work, "target")
    done = subprocess.run(["mv", t.file("next"), target], stderr=subprocess.PIPE)
    equal(done.returncode, 1)
    with open(target, "rb") as f:
        equal(f.read(), b"one")
    equal(t.next(), b"two")


@case("grep -r of the tree consumes")
def _(m):
    t = m.topic()
    t.append(b"needle\n")
    subprocess.run(["timeout", "2", "grep", "-r", "needle", m.path], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    t.settled(claimed=0)
    equal(t.status()["pending"], 0)


@case("sync -f reports success and syncs nothing, as the manual warns", "-o", "fsync=never")
def _(m):
    t = m.topic()
    t.append(b"x")
    subprocess.run(["sync", "-f", t.file("append")], check=True)
    equal(t.status()["durable"], 0)


@case("auto_unmount takes the mount away when the daemon dies", "-o", "auto_unmount")
def _(m):
    m.topic()
    m.die()

    def plain():
        with contextlib.suppress(OSError):  # ENOTCONN for a moment
            return os.listdir(m.path) == []
    lib.until("the directory is plain", plain)


@case("a killed writer that the daemon cannot see commits its blob, as the manual warns", mounted=False)
def _(m):
    need_root()
    if not shutil.which("unshare"):
        raise lib.Skip("unshare is not installed")
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen(["unshare", "--pid", "--fork", *m.command()], stderr=err)
    lib.until("the mount", m.ready)
    t = m.topic()
    script = f"import os; os.write(os.open({t.file('blob')!r}, os.O_WRONLY), b'half'); os.kill(os.getpid(), 9)"
    equal(subprocess.run([sys.executable, "-c", script]).returncode, -9)
    equal(t.next(), b"half")


@case("a topic with a limit of two blocks goes on after taking, time and again")
def _(m):
    t = m.topic()
    lib.write_once(t.file("limit"), b"20M")
    data = b"y" * 500_000
    for _ in range(2):
        with fails_with(errno.ENOSPC):
            while True:
                t.append(data)
        t.drain()

        def room():
            try:
                t.append(data)
                return True
            except OSError as e:
                equal(e.errno, errno.ENOSPC)
        lib.until("room after draining", room)


if __name__ == "__main__":
    lib.main()
