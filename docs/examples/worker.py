#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""worker.py - a worker on a topic of a mounted store, with nothing but file I/O.

Waits for an entry, works on it, and waits for the next.  What fails is tried again later: it goes to the
topic's end with the number of tries in front, and after three of them to the topic `failed`.

usage: worker.py TOPIC-DIRECTORY FAILED-TOPIC-DIRECTORY COMMAND...     (the entry is COMMAND's standard input)
"""

import os
import re
import subprocess
import sys

TRIES = 3


def take(topic):
    """One entry; waits until there is one.  Nobody else gets it."""
    with open(os.path.join(topic, "wait"), "rb") as f:
        return f.read()


def append(topic, data):
    """One write(2) is one entry, on disk when it returns."""
    fd = os.open(os.path.join(topic, "append"), os.O_WRONLY | os.O_DSYNC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def main():
    topic, failed, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    while True:
        entry = take(topic)
        marked = re.match(rb"try (\d+)\n", entry)
        tries, data = (int(marked[1]), entry[marked.end():]) if marked else (1, entry)
        if data == b"stop\n":
            return
        if subprocess.run(command, input=data).returncode == 0:
            continue
        if tries < TRIES:
            append(topic, b"try %d\n" % (tries + 1) + data)
        else:
            append(failed, data)


if __name__ == "__main__":
    main()
