#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""records.py - entries of a topic as a stream of records, and back: for backups and for other machines.

`out` takes what is pending in a group and writes its records to standard output; it ends when nothing is left.
`in` reads such a stream, from a file or a pipe, and stores it: sequence numbers are given anew, times are kept.
Nothing but file I/O; a record is what walrusfs(8) says of `batch`.

usage: records.py out GROUP-OR-TOPIC-DIRECTORY
       records.py in TOPIC-DIRECTORY
"""

import os
import struct
import sys

HEAD = struct.Struct("<IIQQ")  # size of the data, flags, sequence number, time
WRITE_MAX = 1044480  # bytes that one write(2) may have, unless it is one record alone


def records_out(directory):
    fd = os.open(os.path.join(directory, "batch"), os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            data = os.read(fd, 1 << 20)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except BlockingIOError:  # nothing is pending
        pass
    finally:
        os.close(fd)


def records_in(directory):
    fd = os.open(os.path.join(directory, "batch"), os.O_WRONLY | os.O_DSYNC)
    count, unit = 0, b""
    while head := sys.stdin.buffer.read(HEAD.size):
        padded = -(-HEAD.unpack(head)[0] // 8) * 8 if len(head) == HEAD.size else -1
        data = sys.stdin.buffer.read(max(padded, 0))
        if len(data) != padded:
            sys.exit(f"records.py: the stream ends within a record; {count} were stored")
        if unit and len(unit) + HEAD.size + padded > WRITE_MAX:
            os.write(fd, unit)
            unit = b""
        unit += head + data
        count += 1
    if unit:
        os.write(fd, unit)
    os.close(fd)
    print(f"{count} entries")


if __name__ == "__main__":
    {"out": records_out, "in": records_in}[sys.argv[1]](sys.argv[2])
