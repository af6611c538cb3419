# SPDX-License-Identifier: MIT
"""mutants.py - shows that model.py notices mistakes: it builds drivers that have one, and runs against each.

The source is copied to a directory of its own; a mistake is a piece of text that occurs exactly once in
a file, and what replaces it.  When the source has changed so that the piece is not found, that is an
error: the mistake has to be written anew.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
SECONDS = 300  # for one mistake; each is found in far less

# name: (what is wrong, file, text, what replaces it)
MUTANTS = {
    "claim-kept": (
        "a claim is not given back when its handle closes", "engine/reader.c",
        "else if (run_untouched(reader, run))\n            group_give_back(group, reader->seek_count, run);",
        "else if (run_untouched(reader, run))\n            run_free(run);"),
    "two-entries": (
        "one open of next delivers two entries", "fs/take.c",
        "return walrus_group_claim(key->group, 1, SIZE_MAX, ret_reader);",
        "return walrus_group_claim(key->group, 2, SIZE_MAX, ret_reader);"),
    "not-stored": (
        "strict: the offset is not stored before the reply", "engine/reader.c",
        "    if (store) {\n        r = group_store(reader->group);",
        "    if (store && size == SIZE_MAX) {\n        r = group_store(reader->group);"),
    "rmdir-unread": (
        "rmdir of a topic takes unread entries with it", "engine/topic.c",
        "r = -ENOTEMPTY;", "r = 0;"),
    "shared-offsets": (
        "all groups of a store share one place for their offset", "engine/group.c",
        "    group->slot = slot;", "    group->slot = slot * 0;"),
    "size-off-by-one": (
        "st_size of next is one too large", "engine/claim.c",
        "ret_stat->head_size = entry.size;", "ret_stat->head_size = entry.size + 1;"),
    "back-out-of-order": (
        "what is given back comes last instead of at its old place", "engine/claim.c",
        "LIST_ENTRY(at->prev, struct run, node)->pos.seq > run->pos.seq)",
        "LIST_ENTRY(at->prev, struct run, node)->pos.seq < run->pos.seq && false)"),
    "consumed-early": (
        "at-least-once: an entry counts when its first byte was delivered", "engine/reader.c",
        "reader->sent.offset + entry.size > offset))", "reader->sent.offset >= offset))"),
    "rest-lost": (
        "what lines holds is forgotten at the last close", "fs/produce.c",
        "        r = lines_commit(handle, durable);\n", "        r = 0;\n"),
    "seek-volatile": (
        "a seek is not stored", "engine/group.c",
        "    r = seek_store(group, target, again);",
        "    r = target == UINT64_MAX ? seek_store(group, target, again) : 0;"),
}


def copy_source(to):
    for name in ("meson.build", "meson_options.txt"):
        shutil.copy(os.path.join(ROOT, name), to)
    for name in ("engine", "fs"):
        shutil.copytree(os.path.join(ROOT, name), os.path.join(to, name))
    with open(os.path.join(to, "meson.build"), encoding="utf-8") as f:
        others = set(re.findall(r"subdir\('([^']*)'\)", f.read())) - {"engine", "fs"}
    for name in others:
        os.makedirs(os.path.join(to, name), exist_ok=True)
        with open(os.path.join(to, name, "meson.build"), "w", encoding="utf-8") as f:
            f.write("# not wanted here\n")


def compile_driver(source):
    build = os.path.join(source, "build")
    commands = [] if os.path.exists(build) else [["meson", "setup", build, source]]
    for command in [*commands, ["ninja", "-j", "1", "-C", build, "fs/walrusfs"]]:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"cannot build:\n{done.stdout}")
    return os.path.join(build, "fs", "walrusfs")


def replace(path, old, new):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    count = text.count(old)
    if count != 1:
        sys.exit(f"{path}: {count} times where once was expected:\n{old}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    return text


def strays():
    """The mistakes whose text is not in the source once, as it is now."""
    for name, (_, path, old, _) in MUTANTS.items():
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            count = f.read().count(old)
        if count != 1:
            yield f"{name}: its text is in {path} {count} times; see tests/mount/statemodel/mutants.py"


def is_noticed(program):
    """Runs model.py until it fails; the line that tells how, or None."""
    command = [sys.executable, os.path.join(ROOT, "tests", "mount", "model.py"), "--no-shrink",
               "--seconds", str(SECONDS)]
    done = subprocess.run(command, env=dict(os.environ, WALRUSFS=program), text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return None
    told = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("#   ")]
    return told[-1] if told else done.stdout[-300:]


def main(names):
    unknown = set(names) - set(MUTANTS)
    if unknown:
        sys.exit(f"no such mistake: {', '.join(sorted(unknown))}; there are {', '.join(MUTANTS)}")
    chosen = names or list(MUTANTS)
    failed = 0
    print(f"1..{len(chosen)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="walrusfs-mutants.") as source:
        copy_source(source)
        compile_driver(source)
        for number, name in enumerate(chosen, 1):
            what, path, old, new = MUTANTS[name]
            path = os.path.join(source, path)
            text = replace(path, old, new)
            start = time.monotonic()
            how = is_noticed(compile_driver(source))
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
            failed += how is None
            took = f"{time.monotonic() - start:.0f} s"
            print(f"{'not ok' if how is None else 'ok'} {number} - noticed: {what} ({took})", flush=True)
            print(f"  # {how}", flush=True)
    return 1 if failed else 0
