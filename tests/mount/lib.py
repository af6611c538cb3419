# SPDX-License-Identifier: MIT
"""lib.py - what a Python test of a mounted store is written with.

A test file is a list of functions marked @case("a sentence about behaviour"), and ends with
lib.main().  Every case gets a Mount of its own: a store and a mount point in a directory of its own,
the daemon in the foreground with its stderr captured.  After the case it is unmounted, the daemon has
to exit with 0, and its stderr must hold nothing suspicious but what the case allows.  The results go
to stdout as TAP, one line a case; tests/mount/run counts them.  The shell twin is lib.sh.

From the environment: WALRUSFS, the daemon's program; WALRUSFS_MOUNT_OPTIONS, more options of every
mount (io_uring, say); WALRUSFS_CASE, a regular expression that picks the cases to run.
"""

import contextlib
import ctypes
import errno
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

WALRUSFS = os.environ.get("WALRUSFS") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "..", "build", "fs", "walrusfs")
MOUNT_OPTIONS = os.environ.get("WALRUSFS_MOUNT_OPTIONS")
URING = "io_uring" in (MOUNT_OPTIONS or "")
DYING = (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.EINTR)  # what a call may meet while io_uring ends
GONE = DYING if URING else (errno.ENOTCONN,)  # when the daemon is dead
APPEND_MAX = 1044480  # bytes in one write to `append`: max_write less one page
DEADLY = re.compile(r"Sanitizer|runtime error:|[Aa]ssert")  # never fine
SUSPICIOUS = re.compile(r"^(walrusfs: )?error|\bERROR\b")  # fine where a case damages something
LIBC = ctypes.CDLL(None, use_errno=True)

_cases = []


# Before mkfs.btrfs: it asks each mount of the machine whether it is the image, and gives up at one whose store lies on a
# disk that another test has just broken.  Without a table of mounts it asks none.
WITHOUT_MOUNTS = ["unshare", "-m", "sh", "-c",
                  'mount -t tmpfs none /proc && mkdir /proc/self && : > /proc/self/mounts && exec "$@"', "sh"]


class Skip(Exception):
    """The test cannot be run here; the text says why."""


def case(sentence, *options, mounted=True, allow=None):
    """Marks a test.  `options` go to the daemon; `allow` matches error lines that are fine."""
    def mark(function):
        _cases.append((sentence, function, options, mounted, allow))
        return function
    return mark


@contextlib.contextmanager
def fails_with(*numbers):
    """What is inside has to fail with one of these errno values."""
    names = "/".join(errno.errorcode[n] for n in numbers)
    try:
        yield
    except OSError as e:
        assert e.errno in numbers, f"expected {names}, got {errno.errorcode.get(e.errno)}: {e}"
        return
    raise AssertionError(f"expected {names}, but it worked")


def until(what, condition, seconds=120):
    """Waits until condition() holds; fails the test when it does not within the time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def equal(got, expected, what="value"):
    def short(v):
        text = repr(v)
        return text if len(text) < 300 else f"{text[:300]}... ({len(v)})"
    assert got == expected, f"{what}: expected {short(expected)}, got {short(got)}"


def write_once(path, data, flags=0):
    """One open, one write(2), one close."""
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def read_all(path, size=1 << 20):
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_fd(fd, size)
    finally:
        os.close(fd)


def read_fd(fd, size=1 << 20):
    parts = []
    while part := os.read(fd, size):
        parts.append(part)
    return b"".join(parts)


def crc32c(data):
    """The checksum of the format on disk, for tests that change a store by hand."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def close_dead(fd):
    """Closes a file of a mount that is gone; close(2) may or may not say so."""
    with contextlib.suppress(OSError):
        os.close(fd)


def rename_with_flags(old, new, flags):
    if LIBC.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def process_state(pid):
    """The letter of proc(5)."""
    with open(f"/proc/{pid}/stat", "rb") as f:
        return f.read().rsplit(b")", 1)[1].split()[0]


def has_ended(pid):
    """A daemon in the background: gone, or dead and not yet collected by init."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return process_state(pid) == b"Z"
    return True


def disk_used(path):
    """Bytes on disk that the files below `path` take."""
    total = 0
    for top, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total


class Topic:
    """A topic's directory, with the calls that tests make most."""

    def __init__(self, path):
        self.path = path

    def file(self, name):
        return os.path.join(self.path, name)

    def append(self, data):
        equal(write_once(self.file("append"), data), len(data), "what write(2) returned")

    def next(self):
        return read_all(self.file("next"))

    def drain(self):
        return read_all(self.file("drain"))

    def peek(self):
        return read_all(self.file("peek"))

    def offset(self):
        return int(read_all(self.file("offset")))

    def seek(self, text):
        write_once(self.file("offset"), str(text).encode() + b"\n", os.O_TRUNC)

    def status(self):
        lines = read_all(self.file("status")).decode().splitlines()
        return {key: int(value) for key, value in (line.split(" ", 1) for line in lines)}

    def settled(self, **want):
        """Waits for values in status: a close gives back in the background."""
        until(f"{want} in {self.status()}",
              lambda: all(self.status()[k] == v for k, v in want.items()))


class Mount:
    def __init__(self, work, options=()):
        self.work = work
        self.store = os.path.join(work, "store")
        self.path = os.path.join(work, "m")
        self.err_path = os.path.join(work, "daemon.err")
        self.options = options
        self.environment = {}  # added to that of the daemon
        self.daemon = None
        os.mkdir(self.path)

    def stderr(self):
        with contextlib.suppress(FileNotFoundError), open(self.err_path, errors="replace") as f:
            return f.read()
        return ""

    def command(self, options=None, store=None, path=None):
        more = ["-o", MOUNT_OPTIONS] if MOUNT_OPTIONS else []
        return [WALRUSFS, "-f", *more, *(self.options if options is None else options),
                store or self.store, path or self.path]

    def start(self, *options):
        """Mounts, with other options than before if some are given."""
        if options:
            self.options = options
        self.begin()
        try:
            until("the mount", self.ready)
        except BaseException:
            self.kill()
            raise

    def begin(self):
        """Starts the daemon, without waiting for the mount."""
        with open(self.err_path, "ab") as err:
            self.daemon = subprocess.Popen(self.command(), stderr=err, stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, env=dict(os.environ, **self.environment))

    def ready(self):
        assert self.daemon.poll() is None, f"the daemon ended with {self.daemon.returncode}"
        with contextlib.suppress(OSError):
            os.statvfs(self.path)  # asks the daemon; stat may be answered for a dead one
            return os.path.ismount(self.path)
        return False

    def wait_exit(self, seconds=120):
        status = self.daemon.wait(seconds)
        self.daemon = None
        equal(status, 0, "the daemon's exit status")

    def stop(self):
        """Unmounts as a user does; the daemon has to end with 0.  A file that was closed just now
        may keep the mount busy for a moment."""
        def unmounted():
            done = subprocess.run(["fusermount3", "-u", self.path], stderr=subprocess.PIPE)
            return done.returncode == 0
        until("unmounted", unmounted)
        self.wait_exit()

    def die(self):
        """The daemon dies at once; the dead mount stays.  With io_uring it takes a moment to be dead."""
        self.daemon.kill()
        self.daemon.wait()
        self.daemon = None
        until("the mount is dead", lambda: not self.answers())

    def answers(self):
        try:
            os.stat(self.path)
        except OSError:
            return False
        return os.path.ismount(self.path)

    def kill(self):
        """The daemon dies at once; the dead mount is taken away."""
        if self.daemon is not None:
            self.die()
        self.detach()

    def detach(self):
        subprocess.run(["fusermount3", "-u", "-z", self.path], stderr=subprocess.DEVNULL)

    def restart(self, *options):
        self.stop()
        self.start(*options)

    def topic(self, name="t"):
        path = os.path.join(self.path, name)
        os.mkdir(path)
        return Topic(path)

    def find(self, name="t"):
        return Topic(os.path.join(self.path, name))


def memory(m):
    """Bytes of its own that the daemon has; what it maps of the store is the page cache's."""
    with open(f"/proc/{m.daemon.pid}/status", encoding="ascii") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1]) << 10


def is_sanitized(m):
    """Whether memory is that of a sanitizer rather than the daemon's."""
    with open(f"/proc/{m.daemon.pid}/maps", encoding="utf-8", errors="replace") as f:
        return re.search(r"lib[a-z]+san\.so|asan", f.read()) is not None


def told(error):
    """What went wrong, and where in the test; the inside of this file is of no interest."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    places = [f"{os.path.basename(f.filename)}:{f.lineno}: {f.line}" for f in frames]
    if not isinstance(error, (AssertionError, OSError)):
        places.append(traceback.format_exc())
    return "\n".join([*places, f"{type(error).__name__}: {error}"])


def _run(function, options, mounted, allow):
    """Runs one case; returns (result, text)."""
    work = tempfile.mkdtemp(prefix="walrusfs-test.")
    mount = Mount(work, options)
    result, text = "ok", ""
    try:
        if mounted:
            mount.start()
        function(mount)
        if mount.daemon is not None:
            mount.stop()
    except Skip as e:
        result, text = "skip", str(e)
    except Exception as e:
        result, text = "not ok", told(e)
    finally:
        try:
            if mount.daemon is not None:
                mount.kill()
        finally:
            mount.detach()
    err = mount.stderr()
    bad = [line for line in err.splitlines()
           if DEADLY.search(line)
           or (SUSPICIOUS.search(line) and not (allow and re.search(allow, line)))]
    if bad and result == "ok":
        result, text = "not ok", "suspicious lines in the daemon's stderr:\n" + "\n".join(bad)
    if result == "not ok" and err:
        text += "\nthe daemon wrote:\n" + err[-4000:]
    if not os.path.ismount(mount.path):
        shutil.rmtree(work, ignore_errors=True)
    return result, text


def main():
    if not os.access("/dev/fuse", os.W_OK):
        print("skipped: /dev/fuse is not usable here")
        sys.exit(77)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A shell starts what runs in its background with this one ignored, and all that starts from here would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pick = re.compile(os.environ.get("WALRUSFS_CASE", ""))
    chosen = [c for c in _cases if pick.search(c[0])]
    print(f"1..{len(chosen)}", flush=True)
    failed = False
    for number, (sentence, function, options, mounted, allow) in enumerate(chosen, 1):
        start = time.monotonic()
        result, text = _run(function, options, mounted, allow)
        took = f"({time.monotonic() - start:.1f} s)"
        if result == "skip":
            print(f"ok {number} - {sentence} # SKIP {text}", flush=True)
        else:
            print(f"{result} {number} - {sentence} {took}", flush=True)
        if result == "not ok":
            failed = True
            for line in text.splitlines():
                print(f"  # {line}", flush=True)
    sys.exit(1 if failed else 0)
