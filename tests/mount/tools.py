#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""Programs that know nothing of walrusfs do their work with its files: each case is what a kind of program
does, with what it stored and took compared byte for byte.  A program that is missing is a skip."""

import asyncio
import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import lib
from lib import Skip, case, equal

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEM_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
ENTRY = b"".join(b"line %04d of the first entry\n" % i for i in range(300))  # larger than a page, no multiple
SECOND = b"the second entry\n"


def need(name):
    program = shutil.which(name, path=SYSTEM_PATH)
    if program is None:
        raise Skip(f"{name} is not installed")
    return program


def run(*command, data=b"", status=0, **variables):
    """Runs a program that has to end with `status`; returns its stdout."""
    env = dict(os.environ, LC_ALL="C", **variables)
    env.pop("LESSOPEN", None)
    done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=120)
    equal(done.returncode, status, f"status of {command[:3]}, which said {done.stderr[-2000:]!r}")
    return done.stdout


def entries(t):
    """Takes everything; the entries one by one."""
    found = []
    while entry := t.next():
        found.append(entry)
    return found


def fill(t, *data):
    for entry in data:
        t.append(entry)


def slurp(path):
    with open(path, "rb") as f:
        return f.read()


def spill(m, name, data):
    path = os.path.join(m.work, name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def after(seconds, action):
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


# -------------------------------------------------------------------------------------------------- shells


def shell_stores_and_takes(m, shell):
    t = m.topic()
    run(shell, "-c", """
        echo one > "$T/append" && printf '%s' two > "$T/append" && echo three >> "$T/append" &&
        exec 3> "$T/append" && echo four >&3 && printf five >&3 && exec 3>&- &&
        { echo six; printf 'sev'; printf 'en\\neight'; } > "$T/lines" &&
        cat > "$T/append" <<END
nine $T
END""", T=t.path)
    want = [b"one\n", b"two", b"three\n", b"four\n", b"five", b"six\n", b"seven\n", b"eight",
            b"nine %s\n" % os.fsencode(t.path)]
    equal(entries(t), want)


def shell_reads(m, shell):
    t = m.topic()
    fill(t, b"first a b\nrest\n", b"second", b"third x\n", b"l 1\n", b"l 2\nl", b" 3\n", b"last")
    out = run(shell, "-c", """
        read -r a b < "$T/next"; echo "$a|$b"
        echo "[$(cat "$T/next")]"
        read -r a b < "$T/wait"; echo "$a|$b"
        while read -r a b; do echo "$a-$b"; done < "$T/drain"
        echo "($(cat "$T/next"))"
        if read -r a < "$T/next"; then echo more; else echo none; fi""", T=t.path)
    equal(out, b"first|a b\n[second]\nthird|x\nl-1\nl-2\nl-3\n()\nnone\n")
    t.settled(pending=0, claimed=0)


def shell_follows(m, shell):
    t = m.topic()
    timer = after(0.3, lambda: fill(t, b"a 1\n", b"b 2\n", b"end\n"))
    out = run(shell, "-c", 'while read -r a b; do [ "$a" != end ] || exit 0; echo "$a+$b"; done < "$T/follow"',
              T=t.path)
    timer.join()
    equal(out, b"a+1\nb+2\n")


for _shell in ("bash", "dash"):
    @case(f"{_shell}: echo, printf and here-documents store, read, cat and loops of read take")
    def _(m, shell=_shell):
        need(shell)
        shell_stores_and_takes(m, shell)

    @case(f"{_shell}: read takes from next, wait and drain, and a loop of it from follow")
    def _(m, shell=_shell):
        need(shell)
        shell_reads(m, shell)
        os.rmdir(os.path.join(m.path, "t"))
        shell_follows(m, shell)


@case("bash: $(<next) takes one entry, mapfile all lines of drain")
def _(m):
    need("bash")
    t = m.topic()
    fill(t, ENTRY, SECOND, b"x\n", b"y\nz\n")
    out = run("bash", "-c", 'a=$(<"$T/next"); b=$(<"$T/peek"); mapfile -t c < "$T/drain"; echo "$a"; echo "$b"; '
              'echo "${#c[@]} ${c[*]}"; d=$(<"$T/next"); echo "[$d]"', T=t.path)
    equal(out, ENTRY + SECOND + b"4 the second entry x y z\n[]\n")


# ------------------------------------------------------------------------------ the tools of coreutils and busybox


def tools_take(m, prefix):
    """Each tool takes one entry from next, and the one behind it is still there."""
    t, out = m.topic(), os.path.join(m.work, "out")
    lines = ENTRY.splitlines(True)
    for arguments, want in ((("cat", "%s"), ENTRY),
                            (("head", "-n", "2", "%s"), b"".join(lines[:2])),
                            (("head", "-c", "7", "%s"), ENTRY[:7]),
                            (("tail", "-n", "2", "%s"), b"".join(lines[-2:])),
                            (("tail", "-c", "7", "%s"), ENTRY[-7:]),
                            (("cp", "%s", out), None),
                            (("dd", "if=%s", "of=" + out, "bs=1000"), None),
                            (("dd", "if=%s", "of=" + out, "bs=1M"), None)):
        fill(t, ENTRY, SECOND)
        got = run(*prefix, *(a.replace("%s", t.file("next")) for a in arguments))
        equal(slurp(out) if want is None else got, want or ENTRY, f"what {arguments[:3]} made of next")
        t.settled(claimed=0)
        equal(entries(t), [SECOND], f"what {arguments[:3]} left")
    fill(t, ENTRY, SECOND)
    equal(run(*prefix, "wc", t.file("next")).split()[:3], b"300 1800 8700".split(), "wc")
    equal(run(*prefix, "wc", "-c", t.file("peek")).split()[0], b"%d" % len(SECOND), "wc -c of peek")
    equal(t.next(), SECOND)


def tools_drain(m, prefix):
    t, out = m.topic("d"), os.path.join(m.work, "out")
    everything = ENTRY + SECOND + b"end"
    for arguments, want in ((("cat", "%s"), everything),
                            (("tail", "-n", "1", "%s"), b"end"),
                            (("wc", "-l", "%s"), b"301"),
                            (("cp", "%s", out), None),
                            (("dd", "if=%s", "of=" + out, "bs=777"), None)):
        fill(t, ENTRY, SECOND, b"end")
        got = run(*prefix, *(a.replace("%s", t.file("drain")) for a in arguments))
        got = got.split()[0] if arguments[0] == "wc" else got
        equal(slurp(out) if want is None else got, want or everything, f"what {arguments[:2]} made of drain")
        t.settled(claimed=0)
        t.drain()


def tools_store(m, prefix):
    t, u = m.topic("s"), m.topic("u")
    source = spill(m, "source", ENTRY)
    for arguments in (("cp", source, "%s"), ("dd", "if=" + source, "of=%s", "bs=1M"),
                      ("dd", "if=" + source, "of=%s", "bs=1M", "conv=notrunc")):
        run(*prefix, *(a.replace("%s", t.file("append")) for a in arguments))
        equal(entries(t), [ENTRY], f"what {arguments[:3]} stored")
    for arguments in (("tee",), ("tee", "-a")):  # what it reads at once is an entry: busybox's reads 1 KiB
        equal(run(*prefix, *arguments, t.file("append"), data=SECOND), SECOND, "what tee passed on")
        equal(run(*prefix, *arguments, u.file("lines"), data=ENTRY), ENTRY, "what tee passed on")
        equal((entries(t), entries(u)), ([SECOND], ENTRY.splitlines(True)), f"what {arguments} stored")
    run(*prefix, "dd", "if=" + source, "of=" + t.file("append"), "bs=100")
    equal(entries(t), [ENTRY[i:i + 100] for i in range(0, len(ENTRY), 100)], "one entry a write of dd")
    run(*prefix, "cp", source, t.file("blob"))
    fill(u, ENTRY)
    run(*prefix, "cp", u.file("next"), t.file("append"))
    equal(entries(t), [ENTRY, ENTRY], "cp to blob, and from topic to topic")


for _suite, _prefix in (("coreutils", ()), ("busybox", ("busybox",))):
    @case(f"cat, head, tail, wc, cp and dd of {_suite} take one entry of next, and all of drain")
    def _(m, prefix=_prefix):
        need(prefix[0] if prefix else "cat")
        tools_take(m, prefix)
        tools_drain(m, prefix)

    @case(f"cp, dd and tee of {_suite} store what they are given, a write an entry")
    def _(m, prefix=_prefix):
        need(prefix[0] if prefix else "cat")
        tools_store(m, prefix)


@case("cat from drain into lines moves lines of any length from one topic to another")
def _(m):
    need("cat")
    a, b = m.topic("a"), m.topic("b")
    lines = [b"%d " % i + b"x" * (i * i * 997 % 300_000) + b"\n" for i in range(60)] + [b"no newline"]
    fill(a, *lines)
    for prefix in ((), ("busybox",)) if shutil.which("busybox") else ((),):
        run("sh", "-c", '"$@" > "$OUT"', "sh", *prefix, "cat", a.file("drain"), OUT=b.file("lines"))
        equal(entries(b), lines, f"{prefix}")
        equal(entries(a), [], "left")
        fill(a, *lines)


@case("dd copies batch to batch with the boundaries of entries")
def _(m):
    need("dd")
    a, b = m.topic("a"), m.topic("b")
    want = [os.urandom(size) for size in (1, 7, 8, 9, 4096, 300_000, 700_000, 900_000)] + [b"%d" % i for i in range(500)]
    fill(a, *want)
    run("dd", f"if={a.file('batch')}", f"of={b.file('batch')}", "bs=1M", "iflag=nonblock", status=1)
    equal((entries(b), a.status()["pending"]), (want, 0))


@case("sort, tac, shuf and split read drain, and sort -o and split --filter store")
def _(m):
    need("shuf")
    t, u = m.topic(), m.topic("u")
    lines = [b"b\n", b"a\n", b"c\n"]
    fill(t, *lines)
    run("sort", "-o", u.file("lines"), t.file("drain"))
    equal(entries(u), sorted(lines))
    fill(t, *lines)
    equal(run("tac", t.file("drain")), b"".join(reversed(lines)))
    fill(t, *lines)
    equal(sorted(run("shuf", t.file("drain")).splitlines(True)), sorted(lines))
    fill(t, *lines)
    run("split", "-l", "1", t.file("drain"), os.path.join(m.work, "part."))
    equal(sorted(slurp(os.path.join(m.work, n)) for n in os.listdir(m.work) if n.startswith("part.")), sorted(lines))
    run("split", "-l", "2", "--filter", 'cat > "$U/append"', data=b"1\n2\n3\n", U=u.path)
    equal(entries(u), [b"1\n2\n", b"3\n"])


@case("programs that remove a file before they write it, or make one beside it, fail and change nothing")
def _(m):
    t = m.topic()
    t.append(b"kept\n")
    source = spill(m, "source", b"data")
    for command in (("install", source, t.file("append")), ("install", source, t.file("new")),
                    ("mv", source, t.file("append")), ("mv", source, t.path), ("cp", source, t.path),
                    ("cp", "-b", source, t.file("append")), ("cp", "--remove-destination", source, t.file("append")),
                    ("split", source, t.file("part.")), ("sed", "-i", "s/k/x/", t.file("next")),
                    ("ln", "-f", t.file("append"), t.file("lines"))):
        need(command[0])
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout=120)
        assert done.returncode != 0 and done.stderr, f"{command} says nothing"
        equal(slurp(source), b"data", f"the source after {command}")
        t.settled(pending=1, claimed=0)
    equal(entries(t), [b"kept\n"])


@case("tail -f of follow shows nothing and takes, as the manual warns; of drain it shows what was there")
def _(m):
    need("tail")
    t, out = m.topic(), os.path.join(m.work, "out")
    for name, want in (("follow", b""), ("drain", b"1\n2\n")):
        fill(t, b"1\n", b"2\n")
        with open(out, "wb") as f:
            tail = subprocess.Popen(["tail", "-f", t.file(name)], stdout=f)
        try:
            t.settled(pending=0)
            lib.until("tail shows it", lambda: slurp(out) == want)
        finally:
            tail.kill()
            tail.wait()
        equal(slurp(out), want, f"what tail -f showed of {name}")
    t.settled(pending=0, claimed=0)


# ------------------------------------------------------------------------------------------- less, grep, awk, perl


def page(path, keys):
    """less on a terminal of its own, with `keys` typed one after the other; returns what it showed."""
    master, slave = os.openpty()
    env = dict(os.environ, TERM="vt100", LESS="", LC_ALL="C", LINES="24", COLUMNS="80")
    env.pop("LESSOPEN", None)
    process = subprocess.Popen(["less", path], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
    os.close(slave)
    shown = b""
    try:
        for key in keys:
            end = time.monotonic() + 120
            while select.select([master], [], [], 0.3)[0] or not shown:
                assert time.monotonic() < end, f"less shows nothing, or for ever: {shown[-200:]!r}"
                shown += os.read(master, 65536)
            os.write(master, key)
        with contextlib.suppress(OSError):  # EIO: less has gone
            while select.select([master], [], [], 120)[0]:
                shown += os.read(master, 65536)
        equal(process.wait(120), 0, "less ended with")
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return shown


@case("less shows one entry of next from end to beginning on a terminal, and all of drain through a pipe")
def _(m):
    need("less")
    t = m.topic()
    fill(t, ENTRY, SECOND)
    shown = page(t.file("next"), (b"G", b"g", b"/0150\n", b"q"))
    for number in (0, 160, 299):  # 150 itself is highlighted
        assert b"line %04d of the first entry" % number in shown, f"line {number} was not shown: {shown[-500:]!r}"
    assert SECOND.strip() not in shown, "less showed the second entry"
    t.settled(pending=1, claimed=0)
    assert SECOND.strip() in page(t.file("peek"), (b"q",))
    t.append(ENTRY)
    equal(run("less", t.file("drain")), SECOND + ENTRY)
    t.settled(pending=0, claimed=0)


@case("grep finds lines in next, drain and entries")
def _(m):
    need("grep")
    t = m.topic()
    lib.write_once(t.file("retention"), b"all\n", os.O_TRUNC)
    fill(t, ENTRY, SECOND, b"a third line\n", b"fourth")
    equal(run("grep", "-n", "0042", t.file("next")), b"43:line 0042 of the first entry\n")
    equal(run("grep", "-c", "line", t.file("entries/0")), b"300\n")
    equal(run("grep", "t[rh]", t.file("drain")), b"the second entry\na third line\nfourth\n")
    run("grep", "x", t.file("next"), status=1)
    equal(t.status()["pending"], 0)


@case("awk reads drain and next, and prints into append and lines")
def _(m):
    need("awk")
    t, u = m.topic(), m.topic("u")
    fill(t, b"1 2\n", b"3 4\n5 6\n")
    equal(run("awk", "{ a += $1; b += $2 } END { print a, b, NR }", t.file("drain")), b"9 12 3\n")
    fill(t, b"seven\n", b"eight\n")
    out = run("awk", 'BEGIN { f = ENVIRON["T"] "/next"; while ((getline line < f) > 0) { print "got", line; close(f) } }',
              T=t.path)
    equal(out, b"got seven\ngot eight\n")
    run("awk", '{ print $2, $1 > (ENVIRON["U"] "/lines"); f = ENVIRON["T"] "/append"; printf "%s", $1 > f; close(f) }',
        data=b"a b\nc d\n", T=t.path, U=u.path)
    equal((entries(u), entries(t)), ([b"b a\n", b"d c\n"], [b"a", b"c"]))


@case("perl reads, writes and appends")
def _(m):
    need("perl")
    t, u = m.topic(), m.topic("u")
    fill(t, ENTRY, SECOND, b"x\n", b"y\nz")
    out = run("perl", "-we", r"""
        use strict; my ($t, $u) = @ARGV;
        open(my $f, '<', "$t/next") or die; my $all = do { local $/; <$f> }; close $f or die;
        open($f, '<', "$t/wait") or die; sysread($f, my $second, 100000) or die; close $f or die;
        open($f, '<', "$t/drain") or die; my @rest = <$f>; close $f or die;
        open($f, '>', "$u/append") or die; print $f $all; close $f or die;
        open($f, '>>', "$u/append") or die; syswrite($f, $second) or die; close $f or die;
        open($f, '>', "$u/lines") or die; print $f "$_\n" for 1 .. 2000; close $f or die;
        print scalar(@rest), '|', @rest; print -s "$t/next" ? 'more' : 'empty';
    """, t.path, u.path)
    equal(out, b"3|x\ny\nzempty")
    got = entries(u)
    equal((b"".join(got[:-2001]), got[-2001]), (ENTRY, SECOND), "print, whose buffer may make several writes; syswrite")
    equal(got[-2000:], [b"%d\n" % i for i in range(1, 2001)])


# ------------------------------------------------------------------------------------------- languages with a runtime


@case("python: open, os, pathlib and shutil read and write")
def _(m):
    t, u = m.topic(), m.topic("u")
    base, target = pathlib.Path(t.path), pathlib.Path(u.path)
    fill(t, ENTRY, SECOND, b"third", b"fourth\n", b"5\n6\n", b"7")
    equal((base / "next").read_bytes(), ENTRY)
    with open(base / "next", encoding="ascii") as f:
        equal(f.readlines(), [SECOND.decode()])
    shutil.copyfile(base / "next", os.path.join(m.work, "copy"))
    equal(slurp(os.path.join(m.work, "copy")), b"third")
    equal((base / "wait").read_text(), "fourth\n")
    with open(base / "drain", encoding="ascii") as f:
        equal(list(f), ["5\n", "6\n", "7"])
    equal((base / "next").read_text(), "")
    (target / "append").write_bytes(b"1")
    for mode in ("wb", "ab", "r+b"):
        with open(target / "append", mode) as f:
            f.write(mode.encode())
    with open(target / "append", "w", buffering=1, encoding="ascii") as f:
        print("line 1", file=f)
        print("line 2", file=f)
    shutil.copyfile(os.path.join(m.work, "copy"), target / "append")
    with open(target / "lines", "w", encoding="ascii") as f:
        f.writelines(f"{i}\n" for i in range(5000))
    equal(entries(u), [b"1", b"wb", b"ab", b"r+b", b"line 1\n", b"line 2\n", b"third",
                       *(b"%d\n" % i for i in range(5000))])


async def gather(path, count):
    """What an asyncio reader of `path` gets; the end of the file opens it again."""
    loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()
    fds = [os.open(path, os.O_RDONLY | os.O_NONBLOCK)]

    def ready():
        try:
            data = os.read(fds[0], 65536)
        except BlockingIOError:
            return
        if data:
            got.append(data)
        else:
            loop.remove_reader(fds[0])
            os.close(fds[0])
            fds[0] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            loop.add_reader(fds[0], ready)
        if len(got) == count:
            done.set()
    loop.add_reader(fds[0], ready)
    try:
        await asyncio.wait_for(done.wait(), 120)
    finally:
        loop.remove_reader(fds[0])
        os.close(fds[0])
    return got


@case("python: an asyncio loop gets what comes from follow and wait through add_reader")
def _(m):
    for name in ("follow", "wait"):
        t = m.topic(name)
        want = [b"%s %d" % (name.encode(), i) for i in range(60)]

        def write(t=t, want=want):
            for i, entry in enumerate(want):
                t.append(entry)
                time.sleep(0.02 if i % 10 == 0 else 0)
        timer = after(0.2, write)
        equal(asyncio.run(gather(t.file(name), len(want))), want, name)
        timer.join()
        t.settled(pending=0, claimed=0)


@case("node: readFile, streams and appendFile")
def _(m):
    need("node")
    t, u = m.topic(), m.topic("u")
    rest = [os.urandom(100_000), b"y\n", b"z"]
    fill(t, ENTRY, SECOND, *rest)
    out = run("node", "-e", """
        const fs = require('fs'), [t, u] = process.argv.slice(1), { pipeline } = require('stream/promises');
        async function main() {
            const all = await fs.promises.readFile(t + '/next');
            const second = await fs.promises.readFile(t + '/wait');
            await fs.promises.appendFile(u + '/append', all);
            fs.appendFileSync(u + '/append', second);
            fs.writeFileSync(u + '/append', 'three');
            const parts = [];
            for await (const part of fs.createReadStream(t + '/drain')) parts.push(part);
            await pipeline(async function* () { for (let i = 0; i < 1000; i++) yield i + '\\n'; },
                           fs.createWriteStream(u + '/lines'));
            const empty = fs.readFileSync(t + '/next').length;
            console.log(JSON.stringify([Buffer.concat(parts).toString('hex'), empty]));
        }
        main().catch(e => { console.error(e); process.exit(1); });
    """, t.path, u.path)
    equal(json.loads(out), [b"".join(rest).hex(), 0])
    equal(entries(u), [ENTRY, SECOND, b"three", *(b"%d\n" % i for i in range(1000))])


JAVA = """
import java.io.*;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.*;

public class Client {
    public static void main(String[] a) throws IOException {
        Path t = Path.of(a[0]), u = Path.of(a[1]);
        byte[] all = Files.readAllBytes(t.resolve("next"));
        byte[] second;
        try (InputStream in = new FileInputStream(t.resolve("wait").toFile())) { second = in.readAllBytes(); }
        try (OutputStream out = new FileOutputStream(u.resolve("append").toFile())) { out.write(all); }
        try (OutputStream out = new FileOutputStream(u.resolve("append").toFile(), true)) { out.write(second); }
        try (FileChannel out = FileChannel.open(u.resolve("append"), StandardOpenOption.WRITE)) {
            out.write(ByteBuffer.wrap("channel".getBytes()));
        }
        try (BufferedWriter out = Files.newBufferedWriter(u.resolve("lines"), StandardOpenOption.WRITE)) {
            for (String line : Files.readAllLines(t.resolve("drain"))) { out.write("<" + line + ">\\n"); }
        }
        System.out.print(Files.readAllBytes(t.resolve("next")).length);
    }
}
"""


@case("Java: Files.readAllBytes, FileInputStream, FileOutputStream and channels")
def _(m):
    need("java")
    need("javac")
    t, u = m.topic(), m.topic("u")
    rest = [b"%d\n" % i for i in range(500)]
    fill(t, ENTRY[:8000], SECOND, *rest)
    source = spill(m, "Client.java", JAVA.encode())
    equal(run("java", source, t.path, u.path), b"0")
    equal(entries(u), [ENTRY[:8000], SECOND, b"channel", *(b"<%d>\n" % i for i in range(500))])


class EpollClient:
    def __init__(self, m, *arguments):
        program = os.path.join(m.work, "epoll_client")
        if not os.path.exists(program):
            need("cc")
            run("cc", "-D_GNU_SOURCE", "-std=gnu11", "-Wall", "-Werror", "-o", program,
                os.path.join(HERE, "epoll_client.c"))
        self.process = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def says(self, *want):
        for line in want:
            got = self.process.stdout.readline()
            equal(got, line + b"\n", "what the client printed" +
                  ("" if got else f", which said {self.process.stderr.read()!r}"))

    def ends(self):
        out, err = self.process.communicate(timeout=120)
        equal((self.process.returncode, out, err), (0, b"", b""), "the end of the client")


@case("a client of epoll and O_NONBLOCK, as Go's runtime is, gets from follow and wait what comes later")
def _(m):
    t = m.topic()
    for how in ("nonblock", "later"):
        with EpollClient(m, how, t.file("follow"), "4") as client:
            client.says(b"again")
            fill(t, b"one")
            client.says(b"data one", b"again")
            time.sleep(0.1)
            lib.write_once(t.file("lines"), b"two\nthree\nfour\n")
            client.says(b"data two", b"", b"data three", b"", b"data four", b"")
            client.ends()
    with EpollClient(m, "nonblock", t.file("wait"), "4") as client:
        client.says(b"again")
        fill(t, b"five", b"six")
        client.says(b"data five", b"end")
        client.ends()
    equal(entries(t), [b"six"])


@case("a client of epoll and O_NONBLOCK, as Go's runtime is, stores an entry a write")
def _(m):
    t = m.topic()
    with EpollClient(m, "write", t.file("append"), "an entry", "100") as client:
        client.ends()
    equal(entries(t), [b"an entry"] * 100)


# ------------------------------------------------------------------------------------------------------- daemons


def stop(process, number):
    process.send_signal(number)
    try:
        process.wait(120)
    finally:
        process.kill()
        process.wait()


NGINX = """
user root;
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/nginx.err warn;
events {{ worker_connections 16; }}
http {{
    log_format short '$request_method $uri $status';
    access_log {topic}/append short;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} location /no {{ return 404; }} }}
}}
"""


def request(s, path):
    s.sendall(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        got = s.recv(65536)
        assert got, "nginx closed the connection"
        answer += got
    return answer


@case("nginx writes its access_log into append, a request an entry")
def _(m):
    program, t = need("nginx"), m.topic()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    conf = spill(m, "nginx.conf", NGINX.format(work=m.work, topic=t.path, port=port).encode())
    errors = os.path.join(m.work, "nginx.err")
    process = subprocess.Popen([program, "-p", m.work, "-c", conf, "-e", errors], stderr=subprocess.DEVNULL)

    def listens():
        assert process.poll() is None, "nginx ended: " + slurp(errors).decode()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    try:
        lib.until("nginx listens", listens)
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            for i in range(50):
                assert request(s, f"/path/{i}").startswith(b"HTTP/1.1 204")
        t.settled(entries=50)
    finally:
        stop(process, signal.SIGQUIT)
    equal(entries(t), [b"GET /path/%d 204\n" % i for i in range(50)])


RSYSLOG = """
global(workDirectory="{work}")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{work}/log" RateLimit.Interval="0")
template(name="plain" type="string" string="%syslogtag%%msg%\\n")
action(type="omfile" file="{topic}/lines" template="plain")
"""


@case("rsyslog writes messages into lines, a message an entry")
def _(m):
    program, t = need("rsyslogd"), m.topic()
    conf = spill(m, "rsyslog.conf", RSYSLOG.format(work=m.work, topic=t.path).encode())
    path = os.path.join(m.work, "log")
    process = subprocess.Popen([program, "-n", "-f", conf, "-i", os.path.join(m.work, "rsyslog.pid")],
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def listens():
        assert process.poll() is None, f"rsyslogd ended with {process.returncode}"
        return os.path.exists(path)
    try:
        lib.until("rsyslog listens", listens)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(path)
            for i in range(200):
                s.send(b"<13>Jan  1 00:00:00 walrus: message %d" % i)
        lib.until("the messages are stored", lambda: t.status()["entries"] >= 200)
    finally:
        stop(process, signal.SIGTERM)
    got = [entry for entry in entries(t) if entry.startswith(b"walrus:")]
    equal(got, [b"walrus: message %d\n" % i for i in range(200)])


# ----------------------------------------------------------------------------------------------- fio and workers


FIO_BLOCK, FIO_COUNT = 4096, 64


def fio(m, engine, path, *arguments):
    """One job of blocks that are their own offset, again and again: what fio reads, it compares."""
    return subprocess.run(["fio", "--name=job", "--minimal", f"--filename={path}", f"--ioengine={engine}",
                           f"--bs={FIO_BLOCK}", "--verify=pattern", "--verify_pattern=%o", "--iodepth=8", *arguments],
                          cwd=m.work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)


def need_fio(m, engine):
    need("fio")
    if fio(m, engine, os.path.join(m.work, "probe"), "--rw=write", f"--size={FIO_BLOCK}").returncode != 0:
        raise Skip(f"fio has no {engine} here, not even for a plain file")


for _engine in ("psync", "sync", "libaio", "io_uring"):
    @case(f"fio with {_engine}: each write to append is an entry, and drain gives all of them whole")
    def _(m, engine=_engine):
        need_fio(m, engine)
        t = m.topic()
        done = fio(m, engine, t.file("append"), "--rw=write", f"--size={FIO_BLOCK * FIO_COUNT}", "--file_append=1",
                   "--fallocate=none", "--do_verify=0")
        equal(done.returncode, 0, f"status of fio, which said {done.stdout[-2000:]!r}")
        want = [struct.pack("<Q", i * FIO_BLOCK) * (FIO_BLOCK // 8) for i in range(FIO_COUNT)]
        equal(sorted(entries(t)), sorted(want), "the entries")
        fill(t, *want)
        done = fio(m, engine, t.file("drain"), "--rw=read")
        equal(done.returncode, 0, f"status of fio, which said {done.stdout[-2000:]!r}")
        t.settled(pending=0, claimed=0)
        fill(t, want[0], want[2])
        assert fio(m, engine, t.file("drain"), "--rw=read").returncode != 0, "fio did not compare what it read"


WORKER = 'while job=$(cat "$T/wait") && [ "$job" != stop ]; do echo "$job" >> "$OUT.$1"; done'


def work(m, *command):
    """Four workers share 200 entries, each of them once; some wait before there are any."""
    t, out = m.topic(), os.path.join(m.work, "done")

    def write():
        for i in range(200):
            t.append(b"job %d\n" % i)
        for _ in range(4):
            t.append(b"stop\n")
    timer = after(0.3, write)
    run(*command, data=b"1\n2\n3\n4\n", T=t.path, OUT=out, WORKER=WORKER, SHELL="/bin/sh")
    timer.join()
    got = [line for i in range(1, 5) if os.path.exists(f"{out}.{i}") for line in slurp(f"{out}.{i}").splitlines()]
    equal(sorted(got), sorted(b"job %d" % i for i in range(200)))
    t.settled(pending=0, claimed=0)


@case("workers of xargs -P share the entries of wait")
def _(m):
    need("xargs")
    work(m, "xargs", "-P", "4", "-I{}", "sh", "-c", WORKER, "sh", "{}")


@case("workers of GNU parallel share the entries of wait")
def _(m):
    if b"GNU" not in run(need("parallel"), "--version", HOME=m.work):
        raise Skip("parallel is not GNU's")
    work(m, "env", "HOME=" + m.work, "parallel", "-j", "4", 'sh -c "$WORKER" sh {}')


if __name__ == "__main__":
    lib.main()
