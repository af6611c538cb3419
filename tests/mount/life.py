#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The daemon as an operator meets it: started by systemd, by mount(8) and from fstab, its messages, its log."""

import contextlib
import errno
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess

import lib
from faults import disks
from lib import WALRUSFS, case, equal, fails_with


def need_namespace():
    """Tests that change what is in /dev, /etc or /sbin do so in a mount namespace of their own."""
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise lib.Skip("no mount namespaces here")


def in_namespace(script, *arguments, **variables):
    """Runs a shell script in a mount namespace; gives the status and all that was said."""
    need_namespace()
    done = subprocess.run(["unshare", "-m", "sh", "-euc", script, "sh", *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, env=dict(os.environ, **variables))
    return done.returncode, done.stdout


# ----------------------------------------------------------------------------------------------- systemd


class Notify:
    """The socket of a service manager."""

    def __init__(self, m, name="notify"):
        self.path = os.path.join(m.work, name)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(120)
        self.seen = []

    def until(self, word):
        while not any(word in message for message in self.seen):
            self.seen.append(self.socket.recv(4096).decode())
        return self.seen


@case("systemd is told of the recovery, of the mount once it works, and of the end before the last sync", mounted=False)
def _(m):
    m.start("-o", "blocks_per_file=1,block_size=64K")
    t = m.topic()
    for i in range(40):
        t.append(b"x" * 20000)
    m.kill()
    notify = Notify(m)
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen(m.command(), stderr=err, env=dict(os.environ, NOTIFY_SOCKET=notify.path))
    notify.until("READY=1")
    assert os.path.ismount(m.path), "READY=1 before the mount"
    equal(m.find().status()["entries"], 40)
    assert any(re.match(r"STATUS=recovering, log file \d+ of \d+\nEXTEND_TIMEOUT_USEC=\d+$", message)
               for message in notify.seen[:-1]), notify.seen
    m.daemon.send_signal(signal.SIGTERM)
    notify.until("STOPPING=1")
    m.wait_exit()


def leave_log_files(m, count):
    """A store at rest with so many log files, of an entry each."""
    m.start("-o", "block_size=64K,blocks_per_file=1")
    topic = m.topic()
    for _ in range(count):
        topic.append(b"x" * 60000)
    m.stop()


@case("a long recovery is shown on a terminal, from the background too, and nowhere else", mounted=False)
def _(m):
    disks.need_failpoints()
    leave_log_files(m, 15)
    # Each log file takes 20 ms or more to open: longer than the wait for the first line.
    m.environment = {"LD_PRELOAD": disks.built("failpoints.so"), "WALRUSFS_FAIL": "openat:wal:1+:sleep"}
    parent, child = pty.openpty()
    subprocess.run([WALRUSFS, m.store, m.path], stdin=child, stdout=child, stderr=child, check=True, timeout=120,
                   env=dict(os.environ, **m.environment))
    os.close(child)
    text = b""
    with contextlib.suppress(OSError):  # the daemon has let go of the terminal
        while part := os.read(parent, 4096):
            text += part
    os.close(parent)
    lines = re.findall(rb"\rwalrusfs: recovering, log file (\d+) of (\d+)", text)
    assert lines and all(0 < int(done) <= int(total) for done, total in lines), text
    assert re.search(rb"recovering, log file \d+ of \d+\r\n", text), f"the line is not ended: {text}"
    pid = int(lib.read_all(os.path.join(m.store, "LOCK")))
    subprocess.run(["fusermount3", "-u", m.path], check=True)
    lib.until("the daemon has ended", lambda: lib.has_ended(pid))
    m.start()
    assert "recovering" not in m.stderr(), m.stderr()


@case("who interrupts the command during a long recovery has no mount afterwards, and no daemon", mounted=False)
def _(m):
    disks.need_failpoints()
    leave_log_files(m, 3)
    lock = os.path.join(m.store, "LOCK")
    os.unlink(lock)
    command = subprocess.Popen([WALRUSFS, m.store, m.path], env=dict(
        os.environ, LD_PRELOAD=disks.built("failpoints.so"), WALRUSFS_FAIL="openat:wal:2:stop"))
    lib.until("the recovery", lambda: os.path.exists(lock) and lib.read_all(lock))
    pid = int(lib.read_all(lock))
    lib.until("the daemon is stopped in the middle of it", lambda: lib.process_state(pid) == b"T")
    try:
        command.send_signal(signal.SIGINT)
        equal(command.wait(120), -signal.SIGINT)
    finally:
        os.kill(pid, signal.SIGCONT)
    lib.until("the daemon has ended", lambda: lib.has_ended(pid))
    assert not os.path.ismount(m.path), "it is mounted"
    m.start()
    equal(m.find().status()["entries"], 3)


@case("a notify socket in the abstract namespace is served, a path that is none harms nothing", mounted=False)
def _(m):
    name = f"walrusfs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("\0" + name)
        s.settimeout(120)
        for path, told in (("@" + name, True), ("nonsense", False), ("/" + "n" * 200, False)):
            with open(m.err_path, "ab") as err:
                m.daemon = subprocess.Popen(m.command(), stderr=err, env=dict(os.environ, NOTIFY_SOCKET=path))
            lib.until("the mount", m.ready)
            while told and "READY=1" not in s.recv(4096).decode():
                pass
            m.stop()


@case("messages to the journal begin with their priority", mounted=False)
def _(m):
    with open(m.err_path, "ab") as err:
        stat = os.fstat(err.fileno())
        m.daemon = subprocess.Popen(m.command(), stderr=err,
                                    env=dict(os.environ, JOURNAL_STREAM=f"{stat.st_dev}:{stat.st_ino}"))
    lib.until("the mount", m.ready)
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    assert re.search(r"^<6>ending on signal 15$", m.stderr(), re.M), m.stderr()


@case("in the background messages go to syslog", mounted=False)
def _(m):
    script = """
        mkdir "$2/dev"; for file in fuse null; do touch "$2/dev/$file"; mount --bind "/dev/$file" "$2/dev/$file"; done
        mount --rbind "$2/dev" /dev
        python3 -c 'import socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.settimeout(100)
s.bind("/dev/log")
while True:
    line = s.recv(4096).decode()
    print(line, flush=True)
    if "signal" in line: break' &
        until [ -e /dev/log ]; do sleep 0.02; done
        "$1" "$2/store" "$2/m"
        kill -TERM "$(cut -d' ' -f1 "$2/store/LOCK")"
        wait
    """
    status, text = in_namespace(script, WALRUSFS, m.work)
    equal(status, 0, text)
    assert re.search(r"<30>.*walrusfs\[\d+\]: ending on signal 15", text), text


# ------------------------------------------------------------------------------------------------- the log


@case("SIGHUP opens the log file anew, as logrotate wants it", mounted=False)
def _(m):
    log = os.path.join(m.work, "log")
    m.start("-o", f"logfile={log}")
    os.rename(log, log + ".1")
    m.daemon.send_signal(signal.SIGHUP)
    lib.until("a new log file", lambda: os.path.exists(log))
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    with open(log, encoding="utf-8") as new, open(log + ".1", encoding="utf-8") as old:
        assert "signal" in new.read() and "signal" not in old.read()


@case("SIGUSR2 shows each request and who makes it, and a second one ends that")
def _(m):
    t = m.topic()
    t.append(b"silent")
    assert "pid" not in m.stderr(), m.stderr()
    m.daemon.send_signal(signal.SIGUSR2)
    lib.until("the level changed", lambda: "level debug" in m.stderr())
    t.append(b"shown")
    lib.until("the request is in the log",
              lambda: re.search(rf"WRITE \(16\) of node \d+, pid {os.getpid()}, uid {os.getuid()}", m.stderr()))
    m.daemon.send_signal(signal.SIGUSR2)
    lib.until("the level changed", lambda: "level info" in m.stderr())
    count = m.stderr().count("WRITE (16)")
    t.append(b"silent again")
    equal(m.stderr().count("WRITE (16)"), count, "writes in the log")


# ------------------------------------------------------------------------------- mount(8), fstab, and their options


def helper(m, name="mount.walrusfs"):
    path = os.path.join(m.work, name)
    os.symlink(os.path.abspath(WALRUSFS), path)
    return path


def end_background(m):
    with open(os.path.join(m.store, "LOCK"), encoding="ascii") as f:
        pid = int(f.read().split()[0])
    subprocess.run(["fusermount3", "-u", m.path], check=True)
    lib.until("the daemon ended", lambda: lib.has_ended(pid))


def mount_options(path):
    with open("/proc/self/mounts", encoding="utf-8") as f:
        return next(line.split()[3].split(",") for line in f if line.split()[1] == path)


NOISE = ["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "rw", "dev", "suid",
         "nodev", "nosuid", "relatime", "nodiratime", "x-systemd.automount", "x-gvfs-hide", "comment=bla", "silent", "loud"]


@case("a helper named mount.walrusfs takes the words of mount(8), goes to the background, and drops fstab's words",
      mounted=False)
def _(m):
    program = helper(m)
    for words in (["-o", "ro"], ["-f", "-o", "ro"], ["-n", "-v", "-s", "-o", ",".join(["fsync=each", *NOISE])],
                  ["-t", "walrusfs", "-o", "noexec,noatime"]):
        done = subprocess.run([program, m.store, m.path, *words], stderr=subprocess.PIPE, text=True, timeout=120)
        if words == ["-o", "ro"]:
            equal(done.returncode, 2, "status: a read-only mount makes no store")
            continue
        equal(done.returncode, 0, done.stderr)
        equal(os.path.ismount(m.path), "-f" not in words, words)
        if "-f" in words:
            continue
        if "noexec" in done.args[-1]:
            options = mount_options(m.path)
            assert {"noexec", "noatime", "nosuid", "nodev"} <= set(options), options
        end_background(m)


@case("a helper names what it cannot do: a misspelt option, a remount", mounted=False)
def _(m):
    program = helper(m, "mount.fuse.walrusfs")
    for option, said in (("fsinc=each", "fsinc"), ("remount,ro", "unmount")):
        done = subprocess.run([program, m.store, m.path, "-o", option], stderr=subprocess.PIPE, text=True, timeout=120)
        equal(done.returncode, 1, option)
        assert said in done.stderr, done.stderr


@case("mount -t walrusfs and a line of fstab mount, and umount ends the daemon", mounted=False)
def _(m):
    script = """
        mkdir "$2/upper" "$2/work"
        mount -t tmpfs none "$2/upper"; mkdir "$2/upper/u" "$2/upper/w"
        mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$2/upper/u,workdir=$2/upper/w" none /usr/sbin || exit 77
        ln -s "$1" /usr/sbin/mount.walrusfs; ln -s "$1" /usr/sbin/mount.fuse.walrusfs
        check() { mkdir "$2/$1"; echo "$1" > "$2/$1/append"; [ "$(cat "$2/$1/next")" = "$1" ]; umount "$2"
                  pid=$(cut -d' ' -f1 "$3/LOCK")
                  while grep -q '^State:.[^Z]' "/proc/$pid/status" 2>/dev/null; do sleep 0.02; done; }
        mount -t walrusfs "$2/store" "$2/m"
        check plain "$2/m" "$2/store"
        mount -t fuse.walrusfs -o noatime,fsync=each "$2/store" "$2/m"
        check subtype "$2/m" "$2/store"
        for type in walrusfs fuse.walrusfs; do
            echo "$2/store $2/m $type defaults,noauto,user,nofail,_netdev,x-systemd.automount,noatime,fsync=each 0 0" > "$2/fstab"
            mount -T "$2/fstab" "$2/m"
            mount -a -T "$2/fstab"
            check "fstab-$type" "$2/m" "$2/store"
        done
        mount -t walrusfs -o ro "$2/store" "$2/m"
        [ "$(ls "$2/m" | wc -l)" = 4 ]
        ! mkdir "$2/m/more" 2>/dev/null
        umount "$2/m"
        ! mount -t walrusfs "$2/nowhere/store" "$2/m"
    """
    status, text = in_namespace(script, os.path.abspath(WALRUSFS), m.work)
    if status == 77:
        raise lib.Skip("no overlay over /usr/sbin")
    equal(status, 0, text)
    assert "cannot find the store" in text, text


# ----------------------------------------------------------------------------------------------- inotify


IN_MODIFY, IN_CREATE = 0x2, 0x100


def events(fd):
    """(mask, name) of all that inotify has."""
    found, data, at = [], os.read(fd, 65536), 0
    while at < len(data):
        _, mask, _, size = struct.unpack_from("iIII", data, at)
        found.append((mask, data[at + 16:at + 16 + size].rstrip(b"\0").decode()))
        at += 16 + size
    return found


@case("umount -f of a mount that is in use ends the daemon, and stores what unfinished lines hold")
def _(m):
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    t = m.topic()
    reader = subprocess.Popen(["cat", t.file("wait")], stderr=subprocess.PIPE)
    t.settled(waiting=1)
    fd = os.open(t.file("lines"), os.O_WRONLY)
    os.write(fd, b"unfinished")
    subprocess.run(["umount", "-f", m.path], stderr=subprocess.DEVNULL)  # says that it is busy
    m.wait_exit()
    assert reader.wait(120) != 0, "who waited got nothing and no error"
    with fails_with(*lib.GONE):
        os.write(fd, b"x")
    lib.close_dead(fd)
    m.detach()
    m.start()
    equal(m.find().drain(), b"unfinished")


@case("inotify sees writes to append through the mount, and topics that are made")
def _(m):
    t = m.topic()
    fd = lib.LIBC.inotify_init1(0)
    try:
        assert lib.LIBC.inotify_add_watch(fd, os.fsencode(t.file("append")), IN_MODIFY) >= 0
        assert lib.LIBC.inotify_add_watch(fd, os.fsencode(m.path), IN_CREATE) >= 0
        t.append(b"x")
        equal(events(fd), [(IN_MODIFY, "")])
        m.topic("new")
        equal([(mask & IN_CREATE, name) for mask, name in events(fd)], [(IN_CREATE, "new")])
        lib.write_once(t.file("lines"), b"line\n")  # another file, as the manual warns
        t.append(b"y")
        equal(events(fd), [(IN_MODIFY, "")])
    finally:
        os.close(fd)


# ---------------------------------------------------------------------------------------------- messages


@case("without /dev/fuse the message names modprobe and the flags of containers, and no store is made", mounted=False)
def _(m):
    status, text = in_namespace('mount -t tmpfs none /dev; exec "$1" "$2/store" "$2/m"', WALRUSFS, m.work)
    equal(status, 3, text)
    assert "modprobe fuse" in text and "--cap-add SYS_ADMIN" in text, text
    assert not os.path.exists(m.store), "a store was made"


@case("allow_other of a user names the line that /etc/fuse.conf lacks", mounted=False)
def _(m):
    script = """
        : > "$2/conf"; mount --bind "$2/conf" /etc/fuse.conf
        chmod 755 "$2"; mkdir "$2/home" "$2/home/m"; chown -R 65534:65534 "$2/home"
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$1" -o allow_other "$2/home/store" "$2/home/m"
    """
    program = os.path.join(m.work, "walrusfs")
    with open(WALRUSFS, "rb") as source, open(program, "wb") as target:
        target.write(source.read())
    os.chmod(program, 0o755)
    if not os.path.exists("/etc/fuse.conf"):
        raise lib.Skip("no /etc/fuse.conf")
    status, text = in_namespace(script, program, m.work)
    equal(status, 3, text)
    assert "user_allow_other" in text and "/etc/fuse.conf" in text, text
    assert not os.path.exists(os.path.join(m.work, "home", "store")), "a store was made"


@case("a dead mount is named with the command that takes it away, and that command works", mounted=False)
def _(m):
    m.start()
    m.die()
    done = subprocess.run([WALRUSFS, m.store, m.path], stderr=subprocess.PIPE, text=True, timeout=120)
    equal(done.returncode, 3, done.stderr)
    command = re.search(r"fusermount3 -u -- (\S+)", done.stderr)
    assert command and command.group(1) == m.path, done.stderr
    subprocess.run(command.group(0).split(), check=True)
    m.start()


@case("started without standard input, output and error, none of the store's files takes their place", mounted=False)
def _(m):
    def close_all():
        for fd in range(3):
            os.close(fd)
    done = subprocess.Popen([WALRUSFS, m.store, m.path], preexec_fn=close_all)
    try:
        equal(done.wait(120), 0)
    finally:
        done.kill()
    with open(os.path.join(m.store, "LOCK"), encoding="ascii") as f:
        pid = int(f.read())
    equal([os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
    m.topic().append(b"x")
    m.detach()
    lib.until("the daemon ended", lambda: lib.has_ended(pid))
    m.daemon = subprocess.Popen([WALRUSFS, "-f", m.store, m.path], preexec_fn=close_all)
    lib.until("the mount", m.ready)
    equal([os.readlink(f"/proc/{m.daemon.pid}/fd/{fd}") for fd in range(3)], ["/dev/null"] * 3)
    equal(m.find().next(), b"x")
    m.stop()
    ctl = os.path.join(os.path.dirname(WALRUSFS), "ctl", "walrusctl")
    equal(subprocess.run([ctl, "verify", m.store], preexec_fn=close_all).returncode, 3, "a result that nobody gets")
    equal(subprocess.run([ctl, "verify", m.store], stdout=subprocess.DEVNULL).returncode, 0)


@case("a limit on the size of files fails what needs a larger one, as a full disk does, and is told at the start",
      mounted=False)
def _(m):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 8 << 20))
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen([WALRUSFS, "-f", "-o", "block_size=1M,blocks_per_file=4", m.store, m.path],
                                    preexec_fn=limit, stderr=err)
    lib.until("the mount", m.ready)
    assert "8388608 bytes at most (ulimit -f)" in m.stderr(), m.stderr()
    resource.prlimit(m.daemon.pid, resource.RLIMIT_FSIZE, (2 << 20, 8 << 20))
    t = m.topic()
    with fails_with(errno.ENOSPC):
        t.append(b"x")
    resource.prlimit(m.daemon.pid, resource.RLIMIT_FSIZE, (8 << 20, 8 << 20))
    t.append(b"y")
    equal(t.next(), b"y")


@case("relative paths, that of the log file too, hold in the background", mounted=False)
def _(m):
    done = subprocess.run([os.path.abspath(WALRUSFS), "-o", "logfile=log", "store", "m"], cwd=m.work,
                          stderr=subprocess.PIPE, text=True, timeout=120)
    equal(done.returncode, 0, done.stderr)
    m.topic().append(b"x")
    os.rename(os.path.join(m.work, "log"), os.path.join(m.work, "log.1"))
    with open(os.path.join(m.store, "LOCK"), encoding="ascii") as f:
        pid = int(f.read().split()[0])
    os.kill(pid, signal.SIGHUP)
    lib.until("a new log file", lambda: os.path.exists(os.path.join(m.work, "log")))
    os.kill(pid, signal.SIGTERM)
    lib.until("the daemon ended", lambda: lib.has_ended(pid))


if __name__ == "__main__":
    lib.main()
