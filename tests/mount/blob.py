#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`blob`: everything from open to close is one entry."""

import errno
import os
import shutil
import signal
import subprocess
import threading

import lib
from lib import case, equal, fails_with


@case("what is written between open and close is one entry, there when close returns")
def _(m):
    t = m.topic()
    fd = os.open(t.file("blob"), os.O_WRONLY)
    for _ in range(10):
        os.write(fd, b"part ")
    equal(t.status()["entries"], 0, "entries while it is open")
    os.close(fd)
    equal((t.next(), t.next()), (b"part " * 10, b""))


@case("a file of 50 MB comes through cp and back, byte for byte")
def _(m):
    t = m.topic()
    source, target = os.path.join(m.work, "source"), os.path.join(m.work, "target")
    with open(source, "wb") as f:
        f.write(os.urandom(1 << 20) * 50)
    subprocess.run(["cp", source, t.file("blob")], check=True)
    equal(t.status()["entries"], 1, "entries")
    shutil.copyfile(t.file("next"), target)
    subprocess.run(["cmp", source, target], check=True)


@case("children that share the file write one blob")
def _(m):
    t = m.topic()
    subprocess.run(["bash", "-c", '{ /bin/echo a; /bin/echo b; } > "$0"', t.file("blob")], check=True)
    equal((t.next(), t.next()), (b"a\nb\n", b""))


@case("a copy that its opener closes ends a blob, as the manual warns")
def _(m):
    t = m.topic()
    fd = os.open(t.file("blob"), os.O_WRONLY)
    os.close(os.dup(fd))
    os.write(fd, b"one")
    os.close(os.dup(fd))
    os.write(fd, b"two")
    os.close(fd)
    equal([t.next(), t.next(), t.next()], [b"one", b"two", b""])


@case("nothing written is no entry")
def _(m):
    t = m.topic()
    os.close(os.open(t.file("blob"), os.O_WRONLY | os.O_TRUNC))
    equal(t.status()["entries"], 0, "entries")


@case("a gap or an overwrite is EINVAL and drops the blob")
def _(m):
    t = m.topic()
    for at in (20, 0):
        fd = os.open(t.file("blob"), os.O_WRONLY)
        os.write(fd, b"0123456789")
        with fails_with(errno.EINVAL):
            os.pwrite(fd, b"x", at)
        lib.close_dead(fd)
    equal(t.status()["entries"], 0, "entries")


@case("fsync commits, and what is written after it is another entry", "-o", "fsync=never")
def _(m):
    t = m.topic()
    fd = os.open(t.file("blob"), os.O_WRONLY)
    os.write(fd, b"first")
    os.fsync(fd)
    equal((t.status()["entries"], t.status()["durable"]), (1, 1), "entries and durable")
    os.write(fd, b"second")
    os.close(fd)
    equal([t.next(), t.next(), t.next()], [b"first", b"second", b""])


def writer_ends(t, data, end, threads, begin=lambda: None):
    """A process with so many more threads writes to `blob`, and ends by end(), without a close.  Returns its status."""
    pid = os.fork()
    if pid == 0:
        try:
            begin()
            for _ in range(threads):
                threading.Thread(target=signal.pause, daemon=True).start()
            os.write(os.open(t.file("blob"), os.O_WRONLY), data)
            end()
            signal.pause()
        finally:
            os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def exit_elsewhere():
    threading.Thread(target=os._exit, args=(0,)).start()


@case("a writer that a signal killed leaves no entry, and errors tells")
def _(m):
    t = m.topic()
    for threads in (0, 3):
        equal(writer_ends(t, b"half of it", kill_self, threads), -signal.SIGKILL)
    t.append(b"after")
    equal([t.next(), t.next()], [b"after", b""])
    equal(lib.read_all(os.path.join(m.path, ".walrusfs", "errors")).count(b"a signal killed its writer"), 2)


@case("a writer that exits without closing leaves an entry, whatever its threads do")
def _(m):
    t = m.topic()
    for threads in (0, 4):
        for number, end in enumerate((lambda: os._exit(0), lambda: os._exit(3), exit_elsewhere)):
            if threads == 0 and end is exit_elsewhere:
                continue
            for _ in range(5):
                equal(writer_ends(t, b"%d %d" % (threads, number), end, threads), (0, 3, 0)[number])
                equal(t.next(), b"%d %d" % (threads, number))


@case("the same without the right to look into the writer's process", mounted=False)
def _(m):
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise lib.Skip("needs root and setpriv")
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen(["setpriv", "--bounding-set=-sys_ptrace", *m.command(("-o", "allow_other"))],
                                    stderr=err, stdin=subprocess.DEVNULL)
    lib.until("the mount", m.ready)
    os.chmod(m.work, 0o755)
    t = m.topic()
    os.chmod(t.path, 0o777)

    def as_other(end, threads):
        def become():
            os.setgid(65534)
            os.setuid(65534)
        return writer_ends(t, b"blob", end, threads, become)
    for threads in (0, 4):
        equal(as_other(lambda: os._exit(0), threads), 0)
        equal(t.next(), b"blob")
        equal(as_other(kill_self, threads), -signal.SIGKILL)
        equal(t.next(), b"")


@case("close tells that the blob could not be committed")
def _(m):
    t = m.topic()
    fd = os.open(t.file("blob"), os.O_WRONLY)
    os.write(fd, b"for nobody")
    os.rmdir(t.path)
    with fails_with(errno.ENODEV):
        os.close(fd)


@case("the daemon's death in the middle of a blob leaves no entry, and takes no space")
def _(m):
    t = m.topic()
    t.append(b"before")
    before = lib.disk_used(m.store)
    fd = os.open(t.file("blob"), os.O_WRONLY)
    for _ in range(40):
        os.write(fd, b"b" * 1_000_000)
    assert lib.disk_used(m.store) > before + 30_000_000, (before, lib.disk_used(m.store))
    m.kill()
    lib.close_dead(fd)
    m.start()
    lib.until("the space came back", lambda: lib.disk_used(m.store) < before + 1_000_000)
    t = m.find()
    t.append(b"after")
    equal((t.next(), t.next(), t.next()), (b"before", b"after", b""))


if __name__ == "__main__":
    lib.main()
