#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
# serial
"""The main job: nginx logs 100,000 requests into a topic, four shell consumers take the lines, two of
them are SIGKILLed on the way, and the daemon is SIGKILLed once and mounted again.

How a line is accounted for.  Every request has a number of its own in its URI, and nginx writes one line
a request with one write(2) into `append`, always to a live mount: the requests pause, and the log has
to hold all of them, before the daemon is killed; nginx opens its log again (USR1) before they go on.  So

  1. the log holds each of the numbers exactly once.  This is read from the log itself at the end: the
     topic retains everything, is sought back to its beginning, and is drained once more.

A consumer is a shell loop of `cat next` or `cat drain` that appends to a file of its own.  A line counts
as seen when it stands whole in such a file.  Lines that were handed out and yet are not there were lost
between cat's read(2) and its write(2), or between the daemon and cat, because one of them was killed:

  2. A killed `next` consumer takes at most 1 line with it, a killed `drain` consumer at most the lines of
     which a part was in one read(2) of cat (READ_SIZE bytes).
  3. The kill of the daemon meets each living consumer at most in one such read: in strict mode a line
     counts as consumed, durably, before its first byte is handed out, and cannot come again.

So in strict mode no number is seen twice, and the missing ones are at most the sum of 2 and 3.  In
at-least-once mode a line is consumed when it was delivered: what is missing is at most the sum of 2 (the
consumer had them, and died), and what is seen again was delivered since the position was last stored: at
most N entries, and those in the hands of the living consumers, when the daemon died.  In both modes each
consumer sees the numbers of one cat in rising order, and never a byte that nginx did not write.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import lib
from lib import case, equal

READ_SIZE = 1 << 20  # what cat of coreutils asks for: the st_blksize of consumer files
REQUESTS = int(os.environ.get("WALRUSFS_MAIN_JOB_REQUESTS", "100000"))
LINE = re.compile(r"/request/(\d{6}) 127\.0\.0\.1 \[[^]]+\] \"GET /request/(\d{6})\?q=[a-z]{40} HTTP/1\.1\" 200 3 end")
LINE_MIN = 130  # bytes, with its newline

CONF = """
user root;
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/nginx.err warn;
events {{ worker_connections 64; }}
http {{
    log_format numbered '$uri $remote_addr [$time_local] "$request" $status $body_bytes_sent end';
    access_log {topic}/append numbered;
    keepalive_requests 1000000;
    client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3;
    uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok\\n"; }} }}
}}
"""

# A cat that fails, or ends within a line, leaves a mark, so that what follows begins on a line of its own.
CONSUMER = r"""
while [ ! -e "$STOP" ]; do
    if ! cat "$T/$KIND" >>"$OUT" 2>>"$OUT.err"; then
        sleep 0.05
    fi
    printf '\n#\n' >>"$OUT"
    sleep 0.002
done
"""


class Nginx:
    def __init__(self, m, topic):
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
        if program is None:
            raise lib.Skip("nginx is not installed")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.err = os.path.join(m.work, "nginx.err")
        conf = os.path.join(m.work, "nginx.conf")
        with open(conf, "w") as f:
            f.write(CONF.format(work=m.work, topic=topic.path, port=self.port))
        self.process = subprocess.Popen([program, "-p", m.work, "-c", conf, "-e", self.err],
                                        stderr=subprocess.DEVNULL)
        lib.until("nginx listens", self.listens)

    def listens(self):
        assert self.process.poll() is None, "nginx ended: " + self.errors()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def errors(self):
        with open(self.err, errors="replace") as f:
            return f.read()

    def request(self, first, end):
        """Makes the requests first <= number < end over four connections, pipelined; each has to be
        answered with 200."""
        threads, errors = [], []

        def connection(numbers):
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as s:
                    for at in range(0, len(numbers), 20):
                        part = numbers[at:at + 20]
                        s.sendall(b"".join(b"GET /request/%06d?q=%s HTTP/1.1\r\nHost: x\r\n\r\n" % (n, b"abcdefghij" * 4)
                                           for n in part))
                        data = b""
                        while data.count(b"\r\n\r\nok\n") < len(part):
                            got = s.recv(65536)
                            assert got, "nginx closed the connection"
                            data += got
                        assert data.count(b"HTTP/1.1 200 ") == len(part), data[:200]
            except Exception as e:
                errors.append(repr(e))

        for i in range(4):
            threads.append(threading.Thread(target=connection, args=(range(first + i, end, 4),)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        equal(errors, [], "errors of requests")

    def reopen(self, topic):
        """nginx opens its log again; done when the worker holds the file of the new mount."""
        self.process.send_signal(signal.SIGUSR1)
        worker = lib.until("a worker", self.worker)
        device = os.stat(topic.path).st_dev

        def opened():
            for fd in os.listdir(f"/proc/{worker}/fd"):
                try:
                    if os.stat(f"/proc/{worker}/fd/{fd}").st_dev == device:
                        return True
                except OSError:
                    continue
            return False
        lib.until("nginx opened its log again", opened)

    def worker(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return (f.read().split() or [None])[0]

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(120)


class Consumer:
    def __init__(self, m, topic, kind, index):
        self.kind, self.out = kind, os.path.join(m.work, f"consumer.{index}")
        self.stop_file = os.path.join(m.work, "stop")
        env = dict(os.environ, T=topic.path, KIND=kind, OUT=self.out, STOP=self.stop_file)
        self.process = subprocess.Popen(["bash", "-c", CONSUMER], env=env, start_new_session=True)

    def kill(self):
        """The shell and the cat that it runs die at once."""
        assert self.process.poll() is None, f"the {self.kind} consumer ended by itself"
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def numbers(self):
        """The numbers in the whole lines, one list for each cat."""
        with open(self.out, encoding="ascii") as f:
            runs = f.read().split("\n#\n")
        result = []
        for run in runs:
            found = []
            lines = run.split("\n")
            for place, line in enumerate(lines):
                whole = LINE.fullmatch(line)
                if whole:
                    equal(whole[1], whole[2], "the number in a line")
                    found.append(int(whole[1]))
                else:  # only the last line that a cat wrote may be cut, by a kill
                    assert line == "" or place == len(lines) - 1, f"a line that nginx did not write: {line!r}"
            result.append(found)
        return result


def while_requested(nginx, topic, first, end, action):
    """Makes requests, and does `action` in the middle of them."""
    errors = []

    def requests():
        try:
            nginx.request(first, end)
        except Exception as e:
            errors.append(e)

    thread = threading.Thread(target=requests)
    thread.start()
    lib.until("half of the requests", lambda: errors or topic.status()["entries"] >= (first + end) // 2, 120)
    action()
    thread.join()
    if errors:
        raise errors[0]


def run(m, allowed_missing, allowed_again):
    topic = m.topic("access")
    lib.write_once(topic.file("retention"), b"all\n", os.O_TRUNC)
    nginx = Nginx(m, topic)
    consumers = [Consumer(m, topic, kind, i) for i, kind in enumerate(("next", "next", "drain", "drain"))]
    try:
        quarter = REQUESTS // 4
        while_requested(nginx, topic, 0, 2 * quarter, consumers[0].kill)
        lib.until("the log holds all lines so far", lambda: topic.status()["entries"] == 2 * quarter)
        m.kill()
        m.start()
        topic = m.find("access")
        nginx.reopen(topic)
        while_requested(nginx, topic, 2 * quarter, REQUESTS, consumers[2].kill)
        lib.until("the log holds all lines", lambda: topic.status()["entries"] == REQUESTS)
        lib.until("all lines were taken",
                  lambda: topic.status()["pending"] == 0 and topic.status()["claimed"] == 0, 120)
    finally:
        with open(os.path.join(m.work, "stop"), "w"):
            pass
        for i in (1, 3):
            consumers[i].process.wait(120)
        nginx.stop()
    judge(m, topic, consumers, allowed_missing, allowed_again)


def judge(m, topic, consumers, allowed_missing, allowed_again):
    times, runs = {}, []
    for consumer in consumers:
        runs += consumer.numbers()
    for number in (n for found in runs for n in found):
        times[number] = times.get(number, 0) + 1
    missing = [n for n in range(REQUESTS) if n not in times]
    again = sum(count - 1 for count in times.values())
    by_kind = {k: sum(len(f) for c in consumers if c.kind == k for f in c.numbers()) for k in ("next", "drain")}
    print(f"  # {REQUESTS} lines; taken by next: {by_kind['next']}, by drain: {by_kind['drain']}; "
          f"missing: {len(missing)} (at most {allowed_missing}), again: {again} (at most {allowed_again})", flush=True)
    topic.seek("begin")
    logged = [LINE.fullmatch(line) for line in topic.drain().decode().splitlines()]
    assert all(logged), "the log holds a line that nginx did not write"
    numbers = [int(line[1]) for line in logged]
    equal(sorted(numbers), list(range(REQUESTS)), "the numbers in the log")
    place = {number: i for i, number in enumerate(numbers)}
    for found in runs:
        places = [place[number] for number in found]
        assert places == sorted(set(places)), "a cat saw lines in another order than the log's"
    assert len(missing) <= allowed_missing, f"{len(missing)} lines are missing, at most {allowed_missing} may"
    assert again <= allowed_again, f"{again} lines were seen again, at most {allowed_again} may"
    assert by_kind["next"] > 0 and by_kind["drain"] > 0, "a kind of consumer took nothing"


IN_READ = READ_SIZE // LINE_MIN + 2  # lines of which a part is in one read of cat


@case("strict: 100,000 lines of nginx, none seen twice, missing is only what had begun")
def _(m):
    killed = 1 + IN_READ
    daemon = 1 + 2 * IN_READ  # the living: one next, two drain
    run(m, killed + daemon, 0)


@case("at-least-once: 100,000 lines of nginx, seen again only what the position had yet to count",
      "-o", "consistency=at-least-once:100")
def _(m):
    run(m, 1 + IN_READ, 100 + 1 + 2 * IN_READ)


if __name__ == "__main__":
    lib.main()
