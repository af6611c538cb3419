#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Owners and modes are kept, and the kernel holds everyone to them."""

import errno
import os
import stat
import subprocess

import lib
from lib import case, equal, fails_with

OTHER = 65534  # nobody


def as_other(function):
    """Runs function() in a child that is nobody; returns its errno, or 0."""
    pid = os.fork()
    if pid == 0:
        result = 255
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            function()
            result = 0
        except OSError as e:
            result = e.errno
        finally:
            os._exit(result)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shared(m):
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    os.chmod(m.work, 0o755)
    return m.topic()


def mode(path):
    return oct(stat.S_IMODE(os.stat(path).st_mode))


@case("others may not take, seek or store, unless they are let", "-o", "allow_other")
def _(m):
    t = shared(m)
    t.append(b"secret")
    for name in ("next", "drain", "peek"):
        equal(as_other(lambda: lib.read_all(t.file(name))), errno.EACCES, name)
    equal(as_other(lambda: t.seek(0)), errno.EACCES, "offset")
    equal(as_other(lambda: t.append(b"x")), errno.EACCES, "append")
    os.chmod(t.path, 0o777)
    equal(as_other(lambda: t.append(b"x")), 0, "append after chmod of the topic")
    equal(as_other(lambda: lib.read_all(t.file("next"))), errno.EACCES, "next after chmod of the topic")
    os.chmod(t.file("next"), 0o444)
    equal(as_other(lambda: lib.read_all(t.file("drain"))), 0, "drain after chmod of next")
    equal(as_other(lambda: os.mkdir(m.find("new").path)), errno.EACCES, "mkdir")
    os.chmod(m.path, 0o1777)
    equal(as_other(lambda: os.mkdir(m.find("new").path)), 0, "mkdir after chmod of the root")
    equal(os.stat(m.find("new").path).st_uid, OTHER, "the owner of the new topic")


@case("a group can be given to another user, who takes and seeks in that one alone", "-o", "allow_other")
def _(m):
    t = shared(m)
    t.append(b"for both")
    os.mkdir(t.file("groups/theirs"))
    theirs = lib.Topic(t.file("groups/theirs"))
    equal(as_other(lambda: lib.read_all(theirs.file("next"))), errno.EACCES, "next before")
    os.chown(theirs.path, OTHER, OTHER)
    equal(as_other(lambda: equal(theirs.next(), b"for both")), 0, "next")
    equal(as_other(lambda: theirs.seek("begin")), 0, "offset")
    equal(as_other(lambda: lib.read_all(t.file("next"))), errno.EACCES, "next of the default group")
    m.restart()
    equal(as_other(lambda: equal(theirs.drain(), b"for both")), 0, "drain after a restart")
    equal(t.next(), b"for both")


@case("who loses a topic by chown or chmod makes and removes no group in it from then on", "-o", "allow_other")
def _(m):
    t = shared(m)

    def seen():
        s = os.stat(t.file("groups"))
        return s.st_uid, stat.S_IMODE(s.st_mode)
    os.chown(t.path, OTHER, OTHER)
    equal(seen(), (OTHER, 0o755), "groups of the topic that was given away")
    os.chown(t.path, 0, 0)
    equal(as_other(lambda: os.mkdir(t.file("groups/late"))), errno.EACCES, "mkdir of a group after chown")
    os.chmod(t.path, 0o777)
    equal(seen(), (0, 0o777), "groups of the topic that is open to all")
    os.chmod(t.path, 0o755)
    equal(as_other(lambda: os.rmdir(t.file("groups/default"))), errno.EACCES, "rmdir of a group after chmod")
    equal(seen(), (0, 0o755), "groups of the topic that was closed")
    os.stat(m.find(".walrusfs").path)
    os.chown(m.path, OTHER, OTHER)
    equal(os.stat(m.find(".walrusfs").path).st_uid, OTHER, "the owner of .walrusfs")


@case("a directory with the setgid bit gives its group to what is made in it", "-o", "allow_other")
def _(m):
    t = shared(m)

    def group(path):
        s = os.stat(path)
        return s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)
    os.chown(m.path, 0, 77)
    os.chmod(m.path, 0o3777)
    new = m.topic("new")
    equal((group(new.path), group(new.file("append"))), ((0, 77, 0o2755), (0, 77, 0o644)), "a topic and its append")
    os.mkdir(new.file("groups/g"))
    equal((group(new.file("groups/g")), group(new.file("groups/g/next"))), ((0, 77, 0o2755), (0, 77, 0o400)), "a group")
    os.mkdir(t.file("groups/g"))
    equal(group(t.file("groups/g")), (0, 0, 0o755), "a group of a topic without the bit")
    m.restart("-o", "allow_other,autocreate")
    made = m.find("made")
    equal(as_other(lambda: made.append(b"x")), 0, "the first write")
    equal(group(made.path), (OTHER, 77, 0o2755), "a topic that a write made")


@case("modes and owners survive a restart")
def _(m):
    t = shared(m)
    os.chmod(t.path, 0o750)
    os.chown(t.path, 12, 34)
    os.chmod(t.file("next"), 0o440)
    os.chmod(m.path, 0o1777)
    m.kill()
    m.start()
    t = m.find()
    s = os.stat(t.path)
    equal((mode(t.path), s.st_uid, s.st_gid), ("0o750", 12, 34), "the topic")
    equal((mode(t.file("next")), mode(t.file("drain")), mode(t.file("offset"))), ("0o440", "0o440", "0o600"))
    equal(mode(m.path), "0o1777", "the root")


@case("locks of flock hold across opens, or are refused")
def _(m):
    t = m.topic()
    import fcntl
    a, b = (os.open(t.file("append"), os.O_WRONLY) for _ in range(2))
    try:
        fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        assert e.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK), e
    else:
        with fails_with(errno.EAGAIN):
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    os.close(b)


@case("a lock of flock on a directory holds across opens")
def _(m):
    import fcntl
    t = m.topic()
    a, b = (os.open(t.path, os.O_RDONLY) for _ in range(2))
    fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with fails_with(errno.EAGAIN):
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(b)


@case("lsattr and chattr have nothing to show or set, and take nothing")
def _(m):
    import fcntl
    t = m.topic()
    t.append(b"kept")
    get_flags = 0x80086601
    for path, number in ((t.path, errno.EOPNOTSUPP), (t.file("append"), errno.ESTALE), (t.file("next"), errno.ESTALE)):
        fd = os.open(path, os.O_RDONLY)
        with fails_with(number, errno.ENOTTY):
            fcntl.ioctl(fd, get_flags, bytes(8))
        os.close(fd)
    equal(t.next(), b"kept")


@case("chown -R sets all that has an owner of its own, and names the rest")
def _(m):
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    t = m.topic()
    t.append(b"kept")
    done = subprocess.run(["chown", "-R", "7:8", t.path], stderr=subprocess.PIPE, env=dict(os.environ, LC_ALL="C"))
    refused = sorted(line.split(b"'")[1].decode() for line in done.stderr.splitlines())
    equal((done.returncode, refused),
          (1, [t.file(n) for n in ("entries", "entries/0", "groups", "groups/default/status", "status")]))
    for top, directories, names in os.walk(t.path):
        for name in directories + names:
            equal(os.stat(os.path.join(top, name)).st_uid, 7, os.path.join(top, name))
    equal(t.next(), b"kept")


@case("a read-only mount shows and changes nothing", mounted=False)
def _(m):
    m.start()
    t = m.topic()
    t.append(b"one")
    t.append(b"two")
    m.restart("-o", "ro")
    t = m.find()
    equal((t.peek(), t.peek(), t.offset()), (b"one", b"one", 0))
    equal(t.status()["pending"], 2)
    for call in (lambda: t.append(b"x"), t.next, lambda: t.seek(1), lambda: os.mkdir(m.find("n").path),
                 lambda: os.rmdir(t.path)):
        with fails_with(errno.EROFS):
            call()
    m.stop()
    m.options = ()
    m.start()
    equal(m.find().peek(), b"one")


@case("walrusfs in the background is mounted when it returns, and says why when it cannot", mounted=False)
def _(m):
    done = subprocess.run([lib.WALRUSFS, m.store, m.path], stderr=subprocess.PIPE, timeout=120)
    equal(done.returncode, 0, done.stderr.decode())
    assert os.path.ismount(m.path), "not mounted yet"
    m.topic().append(b"x")
    other = os.path.join(m.work, "m2")
    os.mkdir(other)
    second = subprocess.run([lib.WALRUSFS, m.store, other], stderr=subprocess.PIPE, timeout=120)
    assert second.returncode != 0 and second.stderr, "a second daemon in the background says nothing"
    with open(os.path.join(m.store, "LOCK"), encoding="ascii") as f:
        pid = int(f.read().split()[0])
    subprocess.run(["fusermount3", "-u", m.path], check=True)
    lib.until("the daemon ended", lambda: lib.has_ended(pid))


if __name__ == "__main__":
    lib.main()
