#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`.walrusfs/metrics` as Prometheus reads it, held to its text format by rules of our own, and by promtool if it is there."""

import math
import os
import re
import shutil
import subprocess

import lib
from lib import case, equal

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = rf'(?:{NAME}="(?:[^"\\\n]|\\\\|\\"|\\n)*",?)*'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABELS})\}})? ([-+0-9.eEInfNa]+)")
SUFFIXES = ("_bucket", "_sum", "_count")


def parse(text):
    """{(name, labels): value}, or an assertion on what Prometheus would refuse or promtool complain about."""
    kinds, helped, closed, values, current = {}, set(), set(), {}, None
    assert text.endswith("\n"), "no newline at the end"
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, words = line[7:].split(" ", 1)
            assert name not in helped and words.strip(), line
            helped.add(name)
            continue
        if line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert kind in ("counter", "gauge", "histogram", "untyped"), line
            assert name in helped and name not in kinds, line
            assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
            assert kind == "histogram" or not name.endswith(SUFFIXES), name
            kinds[name] = kind
            continue
        found = SAMPLE.fullmatch(line)
        assert found, f"not a sample: {line!r}"
        name, labels, value = found.group(1), found.group(2) or "", float(found.group(3))
        family = next((name[:-len(s)] for s in SUFFIXES if name.endswith(s) and kinds.get(name[:-len(s)]) == "histogram"),
                      name)
        assert family in kinds, f"no TYPE before {line!r}"
        if family != current:
            assert family not in closed, f"samples of {family} stand apart"
            closed.add(family)
            current = family
        assert (name, labels) not in values, f"twice: {line!r}"
        assert name.startswith("walrusfs_") and not math.isnan(value), line
        values[name, labels] = value
    return values


def metrics(m):
    return lib.read_all(os.path.join(m.path, ".walrusfs", "metrics")).decode()


@case("metrics keep to the text format with hostile names, and their numbers are true", "-o", "fsync=each")
def _(m):
    names = ['a "quoted" one', "back\\slash", "new\nline", "ünïcödé", "}{,="]
    for name in names:
        t = m.topic(name)
        for _ in range(3):
            t.append(b"12345")
        os.mkdir(t.file('groups/g"1'))
    t.next()
    os.mkdir(os.path.join(os.fsencode(m.path), b"not\xffutf8"))
    text = metrics(m)
    values = parse(text)
    equal(len([1 for name, _ in values if name == "walrusfs_entries"]), len(names) + 1, "topics with numbers")
    equal(values["walrusfs_entries", 'topic="back\\\\slash"'], 3)
    equal(values["walrusfs_durable", 'topic="}{,="'], 3)
    equal(values["walrusfs_pending", 'topic="}{,=",group="default"'], 2)
    equal(values["walrusfs_pending", 'topic="}{,=",group="g\\"1"'], 3)
    equal(values["walrusfs_topics", ""], len(names) + 1)
    taken = values["walrusfs_last_take_seconds", 'topic="}{,=",group="default"']
    assert abs(taken - os.stat(t.file("next")).st_atime) < 0.01, taken
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        equal((done.returncode, done.stdout), (0, ""), "promtool")


@case("the histogram of syncs counts each sync once, in rising buckets", "-o", "fsync=each")
def _(m):
    t = m.topic()
    for _ in range(10):
        t.append(b"x")
    values = parse(metrics(m))
    buckets = [(float(labels[4:-1]), value) for (name, labels), value in values.items() if name.endswith("_bucket")]
    equal(buckets, sorted(buckets), "buckets")
    equal([v for _, v in buckets], sorted(v for _, v in buckets), "what they count")
    equal(buckets[-1], (math.inf, values["walrusfs_sync_seconds_count", ""]))
    assert values["walrusfs_sync_seconds_count", ""] >= 10 and values["walrusfs_sync_seconds_sum", ""] > 0


@case("damage and a limit show in the metrics", allow=".")
def _(m):
    t = m.topic()
    t.append(b"x" * 1000)
    t.append(b"behind")
    lib.write_once(t.file("limit"), b"20M\n")
    m.stop()
    with open(os.path.join(m.store, next(n for n in os.listdir(m.store) if n.startswith("wal_"))), "r+b") as f:
        data = f.read(40 << 20)
        f.seek(data.index(b"x" * 1000) + 500)
        f.write(b"y")
    m.start()
    with lib.fails_with(5):
        m.find().next()
    values = parse(metrics(m))
    equal((values["walrusfs_damaged", 'topic="t"'], values["walrusfs_limit_bytes", 'topic="t"']), (1, 20 << 20))
    equal(values["walrusfs_degraded", 'topic="t"'], 0)


if __name__ == "__main__":
    lib.main()
