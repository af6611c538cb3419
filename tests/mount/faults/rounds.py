# SPDX-License-Identifier: MIT
"""rounds.py - many seeded rounds of one rig, in CI a few, as a campaign many.

A rig is a function play(round): it does to the store in round.mount what the rig is for, draws whatever is random
from round.rng, raises when a rule is broken, and returns how many cycles (kills, cuts) it made.  All that a round
does follows from (seed, n, fs, mode), as far as the scheduler lets it; a failure prints these and the command
that plays the round again.

As a test the file plays each variant a few times, with a seed of WALRUSFS_SEED or the clock.  With arguments
it is a campaign: `FILE --seconds 600`, `FILE --seed S --n N --fs ext4 --mode each,strict`.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import time

import lib
from faults import disks

MODES = ("each,strict", "20,strict", "never,strict", "each,at-least-once:5", "20,at-least-once:5",
         "never,at-least-once:5")
BLOCK_SIZE = 65536  # small, so that blocks fill, are sealed and reclaimed within a second


class Mode:
    def __init__(self, text):
        self.text = text
        self.fsync, consistency = text.split(",")
        self.strict = consistency == "strict"
        self.persist_every = 0 if self.strict else int(consistency.split(":")[1])
        self.consistency = consistency

    def options(self):
        return ("-o", f"fsync={self.fsync},consistency={self.consistency},block_size={BLOCK_SIZE},blocks_per_file=8")


class Round:
    def __init__(self, seed, n, fs, mode, work):
        self.seed, self.n, self.fs, self.mode = seed, n, fs, Mode(mode)
        self.rng = random.Random(f"{seed} {n} {fs} {mode}")
        self.work = work
        self.mount = lib.Mount(work, self.mode.options())

    def crowd_seed(self):
        return self.rng.getrandbits(48)


def play_one(play, seed, n, fs, mode, show=True):
    """Returns (cycles, text of the failure)."""
    if mode is None:
        mode = random.Random(f"{seed} {n} mode").choice(MODES)
    work = tempfile.mkdtemp(prefix="walrusfs-round.")
    this = Round(seed, n, fs, mode, work)
    text = None
    try:
        cycles = play(this)
        bad = [line for line in this.mount.stderr().splitlines() if lib.DEADLY.search(line)]
        assert not bad, "\n".join(bad)
        return cycles, None
    except lib.Skip:
        raise
    except Exception as e:
        me = os.path.relpath(sys.argv[0])
        text = (f"FAILED seed={seed} n={n} fs={fs} mode={mode}\n{lib.told(e)}\n"
                f"the daemon wrote:\n{this.mount.stderr()[-3000:]}\n"
                f"replay: {me} --seed {seed} --n {n} --fs {fs} --mode {mode}")
        return 0, text
    finally:
        if this.mount.daemon is not None:
            this.mount.kill()
        this.mount.detach()
        if not any(disks.is_mounted(os.path.join(work, name)) for name in os.listdir(work)):
            shutil.rmtree(work, ignore_errors=True)


def seed_of_today():
    return int(os.environ.get("WALRUSFS_SEED") or time.time_ns() // 1_000_000 % 1_000_000_000)


def ci(play, fs, cycles):
    """Rounds until there were so many cycles."""
    seed, done = seed_of_today(), 0
    n = first = random.Random(seed).randrange(1000)
    print(f"  # seed={seed} fs={fs}", flush=True)
    while done < cycles:
        count, text = play_one(play, seed, n, fs, None)
        assert text is None, text
        done += count
        n += 1
    print(f"  # {done} cycles in {n - first} rounds", flush=True)


def campaign(play, filesystems, argv):
    parser = argparse.ArgumentParser(description="a campaign, or one round again")
    parser.add_argument("--seed", type=int, default=seed_of_today())
    parser.add_argument("--n", help="a round, or FIRST:END; the default goes on for --seconds")
    parser.add_argument("--fs", choices=filesystems, help="default: all in turn")
    parser.add_argument("--mode", choices=MODES, help="default: drawn for each round")
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args(argv)
    first, end = 0, 1 << 60
    if options.n:
        first, _, last = options.n.partition(":")
        first = int(first)
        end = int(last) if last else first + 1
    chosen = [options.fs] if options.fs else filesystems
    begin, cycles, failures = time.monotonic(), dict.fromkeys(chosen, 0), 0
    print(f"seed={options.seed}", flush=True)
    n = first
    while n < end and (options.n or time.monotonic() - begin < options.seconds):
        for fs in chosen:
            try:
                count, text = play_one(play, options.seed, n, fs, options.mode)
            except lib.Skip as e:
                print(f"skipped fs={fs}: {e}")
                return 77
            cycles[fs] += count
            if text:
                failures += 1
                print(text, flush=True)
        n += 1
    took = time.monotonic() - begin
    for fs in chosen:
        print(f"{fs}: {cycles[fs]} cycles in {n - first} rounds, {took:.0f} s for all filesystems")
    total = sum(cycles.values())
    print(f"{total} cycles, {3600 * total / max(took, 1e-9):.0f} an hour; {n - first} rounds; {failures} failures", flush=True)
    return 1 if failures else 0


def main(play, filesystems, cycles, sentence):
    """The whole of a rig's file: CI without arguments, else a campaign.  `sentence` names what holds, `cycles` is how
    many in CI for each filesystem."""
    if len(sys.argv) > 1:
        sys.exit(campaign(play, filesystems, sys.argv[1:]))
    for fs in filesystems:
        lib.case(f"{sentence}, on {fs}", mounted=False)(lambda m, fs=fs: ci(play, fs, cycles))
    lib.main()
