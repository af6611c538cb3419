# SPDX-License-Identifier: MIT
"""transcript - runs the commands that a page of docs/ shows, and holds their output to what the page shows.

A block marked `console` is a transcript: a line `$ COMMAND` (with `> MORE` lines behind it) is run, and the lines
that follow, up to the next command, are what it has to print, on stdout or stderr.  In those, `...` alone stands for
any lines, and within a line for anything; `(status N)` at the end says that the command ends with N, which else has
to be 0.  A block marked with `file=PATH` (```nginx file=/etc/nginx/nginx.conf) is written to that file.

All commands of a section (a heading of level 2) run in one bash, so that variables, directories and jobs stay.
Paths and ports of the page are put in place of others by `replace`; in the output the other way round.
"""

import os
import re
import select
import subprocess
import time

MARK = "--transcript-mark--"


def sections(path):
    """[(heading, [block])]; a block is (info string, lines)."""
    found, block, info = [], None, None
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines():
            if block is not None:
                if line.startswith("```"):
                    found[-1][1].append((info, block))
                    block = None
                else:
                    block.append(line)
            elif line.startswith("```"):
                info, block = line[3:].strip(), []
            elif line.startswith("## "):
                found.append((line[3:], []))
            if not found:
                found.append(("", []))
    return found


def commands(lines):
    """[(command, [expected line], status)]"""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append([line[2:], [], 0])
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0] += "\n" + line[2:]
        elif found and (status := re.fullmatch(r"\(status (\d+)\)", line)):
            found[-1][2] = int(status.group(1))
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"a transcript begins with a command, not with {line!r}")
    return found


def matches(expected, got):
    """Whether the lines are those that the page shows."""
    pattern = []
    for line in expected:
        if line == "...":
            pattern.append(r"(?:.*\n)*?")
        else:
            pattern.append(".*?".join(re.escape(part) for part in line.split("...")) + r"\n")
    return re.fullmatch("".join(pattern), "".join(line + "\n" for line in got)) is not None


class Shell:
    """A bash that runs one command after the other.  `command` starts it, in a chroot for one."""

    def __init__(self, replace, command=("bash", "--noprofile", "--norc"), **popen):
        self.replace = replace
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, start_new_session=True, **popen)
        self.rest = b""

    def translate(self, text):
        for old, new in self.replace.items():
            text = text.replace(old, new)
        return text

    def run(self, command, seconds=60):
        """(status, output lines) of one command."""
        script = f"{self.translate(command)}\nprintf '\\n%s %s\\n' {MARK} $?\n"
        self.process.stdin.write(script.encode())
        self.process.stdin.flush()
        end = time.monotonic() + seconds
        while not (found := re.search(rb"(?s)(.*?)\n" + MARK.encode() + rb" (\d+)\n", self.rest)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            part = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            assert part, f"{command!r} did not end, after {self.rest.decode(errors='replace')!r}"
            self.rest += part
        self.rest = self.rest[found.end():]
        output = found.group(1).decode(errors="replace")
        for old, new in self.replace.items():
            output = output.replace(new, old)
        return int(found.group(2)), output.splitlines()

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def run_section(blocks, shell, write_file):
    for info, lines in blocks:
        target = re.search(r"\bfile=(\S+)", info)
        if target:
            write_file(shell.translate(target.group(1)), shell.translate("\n".join(lines) + "\n"))
        elif info.split()[:1] == ["console"]:
            for command, expected, status in commands(lines):
                got_status, got = shell.run(command)
                if (got_status, matches(expected, got)) != (status, True):
                    raise AssertionError(f"$ {command}\nstatus {got_status}, and it printed:\n" + "\n".join(got) +
                                         f"\nbut the page has status {status}, and:\n" + "\n".join(expected))
