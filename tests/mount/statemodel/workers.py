# SPDX-License-Identifier: MIT
"""workers.py - the processes that hold the files open in which model.py reads and writes.

A worker is forked once and does one call after the other, as machine.py asks: a function of `os`, or
one of the short programs below that make several workers run at the same time.  It can be killed with
all that it has open.  One that does not answer within PATIENCE seconds fails the test.
"""

import contextlib
import ctypes
import errno
import multiprocessing
import os
import signal

PATIENCE = 60  # seconds; a call on a mount takes milliseconds
PR_SET_PDEATHSIG = 1


class Hangs(AssertionError):
    """A call did not return."""


def take_many(path, count):
    """Opens `path`, reads it to its end and closes it, `count` times; returns what was read."""
    got = []
    for _ in range(count):
        fd = os.open(path, os.O_RDONLY)
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        os.close(fd)
        got.append(b"".join(parts))
    return got


def append_many(path, entries):
    fd = os.open(path, os.O_WRONLY)
    for entry in entries:
        os.write(fd, entry)
    os.close(fd)


def write_once(path, data, flags):
    fd = os.open(path, os.O_WRONLY | flags)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def size_of(fd):
    return os.fstat(fd).st_size


def close_all(fds):
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


PROGRAMS = {f.__name__: f for f in (take_many, append_many, write_once, size_of, close_all)}


def serve(pipe):
    while True:
        name, arguments = pipe.recv()
        try:
            function = PROGRAMS.get(name) or getattr(os, name)
            pipe.send((0, function(*arguments)))
        except OSError as e:
            pipe.send((e.errno, None))


class Worker:
    def __init__(self):
        self.pid = None

    def start(self):
        self.pipe, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the test itself ends it
                serve(theirs)
            except (EOFError, KeyboardInterrupt, BrokenPipeError):
                pass
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, name, *arguments):
        if self.pid is None:
            self.start()
        self.pipe.send((name, arguments))

    def answer(self):
        """What the call returned; its error is raised."""
        if not self.pipe.poll(PATIENCE):
            raise Hangs(f"a call does not return within {PATIENCE} s")
        number, value = self.pipe.recv()
        if number != 0:
            raise OSError(number, os.strerror(number))
        return value

    def do(self, name, *arguments):
        self.ask(name, *arguments)
        return self.answer()

    def kill(self):
        if self.pid is None:
            return
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pipe.close()
        self.pid = None


def name_of(number):
    return errno.errorcode.get(number, str(number))
