#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rest of the tree and of the command line: `.walrusfs`, autocreate, namespaces, times, exit codes."""

import errno
import os
import re
import signal
import subprocess
import time

import lib
from lib import case, equal, fails_with


def meta(m, name):
    return lib.read_all(os.path.join(m.path, ".walrusfs", name)).decode()


@case(".walrusfs tells version and configuration, and lists as the rest", "-o", "fsync=250")
def _(m):
    equal(sorted(os.listdir(os.path.join(m.path, ".walrusfs"))), ["config", "errors", "metrics", "version"])
    done = subprocess.run([lib.WALRUSFS, "-V"], stdout=subprocess.PIPE, text=True, check=True)
    assert meta(m, "version").strip() in done.stdout, (meta(m, "version"), done.stdout)
    config = dict(line.split(" ", 1) for line in meta(m, "config").splitlines())
    equal((config["fsync"], config["consistency"], config["mountpoint"]), ("250", "strict", m.path))
    equal(meta(m, "errors"), "")


@case("metrics are Prometheus text, labelled by topic and group, and true")
def _(m):
    t = m.topic('a "quoted" one')
    for _ in range(3):
        t.append(b"12345")
    t.next()
    text = meta(m, "metrics")
    for line in text.splitlines():
        assert re.fullmatch(r'#.*|[a-zA-Z_:][a-zA-Z0-9_:]*(\{.*\})? [-+0-9.eE]+|.* (NaN|\+Inf)', line), line
    samples = [line for line in text.splitlines() if "quoted" in line]

    def value(name):
        found = [line for line in samples if line.startswith(f"walrusfs_{name}{{")]
        assert found, f"no walrusfs_{name} in:\n{text}"
        return float(found[0].rsplit(" ", 1)[1])
    equal((value("entries"), value("bytes"), value("pending")), (3, 15, 2))


@case("autocreate: the first write makes the topic, looking does not", "-o", "autocreate")
def _(m):
    t = m.find("new")
    os.stat(t.path)
    equal(sorted(os.listdir(t.path)), ["append", "batch", "blob", "lines"], "what can be opened there")
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], [])
    t.append(b"first")
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], ["new"])
    lib.write_once(m.find("other").file("lines"), b"line\n")
    equal((t.next(), m.find("other").next()), (b"first", b"line\n"))
    with fails_with(errno.ENAMETOOLONG):
        os.stat(os.path.join(m.path, "n" * 256))
    with fails_with(errno.ENOENT):
        os.stat(os.path.join(m.path, ".hidden"))
    m.kill()
    m.start()
    equal(m.find("new").status()["entries"], 1)


@case("autocreate: a file that was open before its topic was there stays with it, through rename and rmdir",
      "-o", "autocreate")
def _(m):
    t, other = m.find("new"), m.find("other")
    with open(t.file("append"), "wb", buffering=0) as f:
        f.write(b"1")
        lib.rename_with_flags(t.path, other.path, 0)
        f.write(b"2")
        os.fsync(f.fileno())
        equal((other.drain(), [n for n in os.listdir(m.path) if not n.startswith(".")]), (b"12", ["other"]))
        other.settled(claimed=0)
        os.rmdir(other.path)
        with fails_with(errno.ENODEV):
            f.write(b"3")
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], [])


@case("autocreate: a topic that the close of lines makes is found after it", "-o", "autocreate")
def _(m):
    for i in range(20):
        t = m.find(f"t{i}")
        lib.write_once(t.file("lines"), b"rest")
        equal(t.next(), b"rest")


@case("autocreate: a topic that the close of lines makes can be renamed after it", "-o", "autocreate")
def _(m):
    for i in range(50):
        t = m.find(f"t{i}")
        lib.write_once(t.file("lines"), b"abc")
        os.rename(t.path, os.path.join(m.path, f"u{i}"))
    equal(sorted(n for n in os.listdir(m.path) if n[0] != "."), sorted(f"u{i}" for i in range(50)))


@case("autocreate: a line is not taken for a topic that the same open file made and that was removed", "-o", "autocreate")
def _(m):
    t = m.find("t")
    fd = os.open(t.file("lines"), os.O_WRONLY)
    equal(os.write(fd, b"one\n"), 4)
    equal(t.next(), b"one\n")
    os.rmdir(t.path)
    with fails_with(errno.ENODEV):
        os.write(fd, b"two")
    os.close(fd)


@case("without autocreate a write to an unknown topic is ENOENT")
def _(m):
    with fails_with(errno.ENOENT):
        lib.write_once(m.find("new").file("append"), b"x")


@case("a key is a store of its own in the same directory")
def _(m):
    m.topic("a").append(b"x")
    m.restart("-o", "key=tenant")
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], [])
    m.topic("b").append(b"y")
    m.stop()
    m.options = ()
    m.start()
    equal([n for n in os.listdir(m.path) if not n.startswith(".")], ["a"])


@case("the mtime of append is that of the last entry, the atime of next that of the last taking")
def _(m):
    t = m.topic()
    start = time.time()
    time.sleep(0.05)
    t.append(b"x")
    time.sleep(0.05)
    written = os.stat(t.file("append")).st_mtime
    assert start < written <= time.time(), (start, written)
    t.next()
    t.settled(claimed=0)
    taken = os.stat(t.file("next")).st_atime
    assert written < taken <= time.time(), (written, taken)
    equal(os.stat(t.file("append")).st_mtime, written, "mtime after a taking")


@case("ls, find and du walk the whole tree without taking anything")
def _(m):
    t = m.topic()
    t.append(b"x")
    for command in (["ls", "-lR", m.path], ["find", m.path, "-type", "f"], ["du", "-a", m.path]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    equal(t.status()["pending"], 1)


@case("help and version exit with 0, nonsense with 1 and a hint", mounted=False)
def _(m):
    for arguments in (["-h"], ["--help"], ["-V"], ["--version"]):
        done = subprocess.run([lib.WALRUSFS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        equal(done.returncode, 0, arguments)
        assert b"walrusfs" in done.stdout
    for arguments in ([], ["one"], ["a", "b", "c"], ["--nonsense", m.store, m.path], ["-o", "nonsense", m.store, m.path]):
        done = subprocess.run([lib.WALRUSFS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        equal(done.returncode, 1, arguments)
        assert done.stderr, f"nothing said about {arguments}"


@case("options may stand before and after the operands, and those of fstab lines are dropped", mounted=False)
def _(m):
    command = [lib.WALRUSFS, m.store, m.path, "-o", "noauto,_netdev,nofail,user,x-systemd.automount,fsync=each", "-f"]
    with open(m.err_path, "ab") as err:
        m.daemon = subprocess.Popen(command, stderr=err)
    lib.until("the mount", m.ready)
    t = m.topic()
    t.append(b"x")
    equal(t.status()["durable"], 1)


@case("logfile gets what the daemon has to say", mounted=False)
def _(m):
    log = os.path.join(m.work, "log")
    m.start("-o", f"logfile={log}")
    m.daemon.send_signal(signal.SIGTERM)
    m.wait_exit()
    with open(log, encoding="utf-8") as f:
        assert "signal" in f.read(), "the log file does not say why the daemon ended"
    equal(m.stderr(), "")


if __name__ == "__main__":
    lib.main()
