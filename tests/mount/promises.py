#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""Promises of the manual page that need other users, other disks or limits of the system to be shown."""

import contextlib
import errno
import fcntl
import os
import re
import resource
import shutil
import signal
import struct
import subprocess

import lib
from lib import WALRUSFS, case, equal, fails_with

MIB = 1 << 20
FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), of ext4 and XFS
SHUTDOWN_WITHOUT_FLUSH = 2


def need(*programs):
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    for name in programs:
        if not shutil.which(name):
            raise lib.Skip(f"{name} is not installed")


@contextlib.contextmanager
def disk_of(m, megabytes, *mkfs):
    """A filesystem of its own for the store; gives the directory that is its root."""
    need(mkfs[0])
    image, disk = os.path.join(m.work, "image"), os.path.join(m.work, "disk")
    os.mkdir(disk)
    with open(image, "wb") as f:
        f.truncate(megabytes * MIB)
    subprocess.run([*mkfs, image], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["mount", "-o", "loop", image, disk], stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise lib.Skip(f"no loop device, or no such filesystem: {done.stderr.strip()}")
    m.store = os.path.join(disk, "store")
    try:
        yield disk
    finally:
        m.kill()
        subprocess.run(["umount", disk], check=True)


def is_sanitized():
    with open(WALRUSFS, "rb") as f:
        return b"__asan_init" in f.read()


def errors(m):
    return lib.read_all(os.path.join(m.path, ".walrusfs", "errors")).decode().splitlines()


def end(m):
    """SIGTERM; the exit status of the daemon."""
    m.daemon.send_signal(signal.SIGTERM)
    status = m.daemon.wait(120)
    m.daemon = None
    return status


# ----------------------------------------------------------------------------------- options and exit status


@case("-d and -o debug stay in the foreground and show each request, as -f does not", mounted=False)
def _(m):
    for options, shown in ((("-d",), True), (("-o", "debug"), True), (("-f",), False)):
        with open(m.err_path, "wb") as err:
            m.daemon = subprocess.Popen([WALRUSFS, *options, m.store, m.path], stderr=err)
        lib.until("the mount", m.ready)
        before = m.stderr()
        t = m.find()
        with contextlib.suppress(FileExistsError):
            os.mkdir(t.path)
        t.append(b"x")
        equal(m.daemon.poll(), None, "the process that was started")
        told = m.stderr()[len(before):]
        for request in ("LOOKUP", "OPEN", "WRITE"):
            equal(bool(re.search(rf"\b{request}\b", told)), shown, f"{options} shows {request}")
        equal(end(m), 0)


ALLOW_ROOT = """
set -eu
work=$1 walrusfs=$2 option=$3 mine=$1/mine
as() { user=$1; shift; setpriv --reuid="$user" --regid="$user" --clear-groups "$@"; }
tries() { as "$1" sh -c "$2" > "$work/out" 2>&1 && echo "$1 yes" || echo "$1 no"; }

mknod "$work/fuse" c 10 229
chmod 666 "$work/fuse"
mount --bind "$work/fuse" /dev/fuse
echo '# nothing' > "$work/conf"
mount --bind "$work/conf" /etc/fuse.conf
mkdir "$mine" "$mine/m"
chown -R 65534:65534 "$mine"
as 65534 "$walrusfs" -o "$option" "$mine/store" "$mine/m" 2> "$work/refused" && exit 7
echo user_allow_other > "$work/conf"
as 65534 "$walrusfs" -o "$option" "$mine/store" "$mine/m" 2> "$work/err" || cat "$work/err"
cd "$mine/m"
tries 65534 'mkdir t && echo x > t/append'
tries 65533 'cat t/status'
tries 0 'cat t/status'
cd /
umount "$mine/m"
"""


@case("allow_root lets in root and no other, and needs user_allow_other", mounted=False)
def _(m):
    need("unshare", "setpriv", "fusermount3")
    os.chmod(m.work, 0o755)
    if not os.path.exists("/etc/fuse.conf"):
        raise lib.Skip("there is no /etc/fuse.conf")
    for option, others in (("allow_root", "no"), ("allow_other", "yes")):
        work = os.path.join(m.work, option)
        os.mkdir(work, 0o755)
        # A mount namespace of its own: /dev/fuse and /etc/fuse.conf stay as they are.
        done = subprocess.run(["unshare", "-m", "sh", "-c", ALLOW_ROOT, "sh", work, os.path.abspath(WALRUSFS), option],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        equal((done.returncode, done.stdout.split("\n")),
              (0, ["65534 yes", f"65533 {others}", "0 yes", ""]), option)
        with open(os.path.join(work, "refused")) as f:
            text = f.read()
        assert "user_allow_other" in text, text


@case("a store whose disk fails before the end makes the status 2, and what was synced is there", mounted=False,
      allow=".")
def _(m):
    with disk_of(m, 64, "mkfs.ext4", "-q", "-F", "-m", "0") as disk:
        m.start("-o", "fsync=never")
        t = m.topic()
        t.append(b"synced")
        fd = os.open(t.file("append"), os.O_WRONLY)
        os.fsync(fd)
        os.write(fd, b"not synced")
        os.close(fd)
        root = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(root, FS_IOC_SHUTDOWN, struct.pack("I", SHUTDOWN_WITHOUT_FLUSH))
        os.close(root)
        equal(end(m), 2, "the exit status")
        subprocess.run(["umount", disk], check=True)
        subprocess.run(["mount", "-o", "loop", os.path.join(m.work, "image"), disk], check=True)
        m.start()
        equal(m.find().next(), b"synced")
        equal(end(m), 0, "the exit status")


@case("a line that cannot be stored at the end is told, and leaves the status 0, as the manual warns",
      allow="not ended")
def _(m):
    t = m.topic()
    lib.write_once(t.file("limit"), b"20K")
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"z" * 30_000)
    try:
        equal(end(m), 0, "the exit status")
    finally:
        lib.close_dead(fd)
    assert "error: the last 30000 bytes of a line" in m.stderr(), m.stderr()


@case("no descriptors, or no process for the background, is status 4", mounted=False)
def _(m):
    need()
    os.chmod(m.work, 0o755)

    def no_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))

    def no_processes():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        os.setgroups([])
        os.setgid(64977)
        os.setuid(64977)
    for command, prepare in ((m.command(), no_descriptors), ([WALRUSFS, m.store, m.path], no_processes)):
        done = subprocess.run(command, preexec_fn=prepare, stderr=subprocess.PIPE, text=True, timeout=120,
                              env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))  # it needs a process itself
        equal(done.returncode, 4, f"status after {done.stderr!r}")
        assert "walrusfs: error: cannot" in done.stderr, done.stderr
    assert not os.path.ismount(m.path)


# ------------------------------------------------------------------------------------------ files and writing


@case("errors keeps the latest 1000, oldest first", allow="not ended")
def _(m):
    early, late = m.topic("early"), m.topic("late")

    def provoke(t, size, count):
        lib.write_once(t.file("limit"), b"20K")
        for _ in range(count):
            lib.write_once(t.file("lines"), b"z" * size)

    def counts():
        lines = errors(m)
        return [sum(f"last {size} bytes" in line for line in lines) for size in (30_000, 40_000)], len(lines)
    start = len(errors(m))  # what the start was warned of
    provoke(early, 30_000, 100 - start)
    lib.until("100 errors", lambda: counts() == ([100 - start, 0], 100))
    first = errors(m)
    provoke(late, 40_000, 900)
    lib.until("1000 errors", lambda: counts() == ([100 - start, 900], 1000))
    equal(errors(m)[:100], first, "the first lines")
    provoke(late, 40_000, 50)
    lib.until("50 of the first are gone", lambda: counts() == ([50, 950], 1000))
    equal(errors(m)[:50], first[50:], "the oldest that are left")
    provoke(late, 40_000, 80)
    lib.until("all of the first are gone", lambda: counts() == ([0, 1000], 1000))


@case("a blob takes little memory: 128 MiB written grow the daemon by less than 4 MiB")
def _(m):
    def anonymous():
        with open(f"/proc/{m.daemon.pid}/status") as f:
            return int(re.search(r"RssAnon:\s+(\d+) kB", f.read()).group(1)) * 1024
    if is_sanitized():
        raise lib.Skip("a sanitizer keeps memory that was freed")
    t = m.topic()
    data = os.urandom(MIB)
    with open(t.file("blob"), "wb", buffering=0) as f:  # what the daemon takes for any write
        for _ in range(4):
            f.write(data)
    t.drain()
    before, most = anonymous(), 0
    with open(t.file("blob"), "wb", buffering=0) as f:
        for _ in range(128):
            f.write(data)
            most = max(most, anonymous())
    equal(os.stat(t.file("next")).st_size, 128 * MIB, "the entry")
    assert most - before < 4 * MIB, f"grew by {(most - before) >> 10} KiB"


@case("a quota that is used up is EDQUOT, nothing is stored, and a retry works when there is room", mounted=False)
def _(m):
    need("btrfs", "mkfs.btrfs")
    with disk_of(m, 256, *lib.WITHOUT_MOUNTS, "mkfs.btrfs", "-q") as disk:
        for command in (("quota", "enable", disk), ("subvolume", "create", m.store),
                        ("qgroup", "limit", "64M", m.store)):
            done = subprocess.run(["btrfs", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                raise lib.Skip(f"btrfs {command[0]}: {done.stderr.strip()}")
        m.start()
        t = m.topic()
        count = 0
        with fails_with(errno.EDQUOT):
            while count < 1000:
                t.append(b"%08d" % count + os.urandom(500_000))
                count += 1
        for _ in range(3):
            with fails_with(errno.EDQUOT):
                t.append(b"y" * 900_000)
        equal(t.status()["entries"], count, "entries: what failed left nothing")
        equal(int(t.peek()[:8]), 0)
        subprocess.run(["btrfs", "qgroup", "limit", "none", m.store], check=True)
        t.append(b"more")
        equal(t.status()["entries"], count + 1)
        m.stop()


# ------------------------------------------------------------------------------------------------------ notes


@case("a time limit of requests is warned of at the start", mounted=False)
def _(m):
    need("unshare")
    value = os.path.join(m.work, "value")
    with open(value, "w") as f:
        f.write("600\n")
    for name in ("default_request_timeout", "max_request_timeout"):
        path = f"/proc/sys/fs/fuse/{name}"
        if not os.path.exists(path):
            raise lib.Skip(f"this kernel has no {path}")
        # The value is seen by this daemon alone: other mounts would take the real one for good.
        script = f'mount --bind "$1" {path} && shift && exec "$@"'
        with open(m.err_path, "wb") as err:
            m.daemon = subprocess.Popen(["unshare", "-m", "sh", "-c", script, "sh", value, *m.command()], stderr=err)
        lib.until("the warning", lambda: f"warning: {path} is 600: a reader that waits longer" in m.stderr())
        equal(end(m), 0)


@case("the daemon makes no core dumps", mounted=False)
def _(m):
    need()

    def prepare():
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
        os.setgroups([])
        os.setgid(64977)
    os.chmod(m.work, 0o755)
    m.daemon = subprocess.Popen(m.command(("-o", "allow_other")), stderr=subprocess.DEVNULL, preexec_fn=prepare)
    lib.until("the mount", m.ready)
    proc = f"/proc/{m.daemon.pid}"
    with open(f"{proc}/limits") as f:
        line = next(line for line in f if line.startswith("Max core file size"))
    equal(line.split()[4:6], ["0", "0"], "the limits of a core file")
    # The kernel gives the files of a process that must not be dumped to root, whoever runs it.  The leak
    # checker of a sanitizer needs to look into the process.
    equal(os.stat(f"{proc}/status").st_gid, 64977 if is_sanitized() else 0, "the group of its files in /proc")
    equal(end(m), 0)


if __name__ == "__main__":
    lib.main()
