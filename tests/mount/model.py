#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 900
# slow
"""Random programs, from several processes, against a mount: it has to behave as a plain model of the contract.

Every program mounts a store of its own, in either mode of consistency and with any fsync, and does some
dozens of steps: topics and groups are made, renamed and removed; entries are written through every
producer file and read through every consumer file, with handles that stay open, are read in part, are
closed in any order or die with their process; offsets are moved; the daemon is ended, or killed, and
comes back.  statemodel/machine.py has the steps, statemodel/plain.py the model.  A program that fails
is shortened, and printed with a command that runs it again.

usage: model.py [--programs N] [--seconds N] [--steps N] [--seed N]   (200 programs, 40 steps at most;
                a machine that is too slow for that stops after 240 s)
       model.py --replay BLOB       runs the one program that a failure printed
       model.py --mutants [NAME...] shows that the test notices each of some mistakes (mutants.py)
From the environment: WALRUSFS_MODEL_PROGRAMS, WALRUSFS_MODEL_SECONDS, WALRUSFS_MODEL_SEED.
"""

import argparse
import os
import random
import re
import signal
import sys
import time
import traceback

DEBIAN_PYTHON = "/usr/bin/python3"  # where the package python3-hypothesis lies
try:
    import hypothesis
except ImportError:
    if sys.executable != DEBIAN_PYTHON and os.access(DEBIAN_PYTHON, os.X_OK):
        os.execv(DEBIAN_PYTHON, [DEBIAN_PYTHON, *sys.argv])
    print("skipped: python3-hypothesis is not installed")
    sys.exit(77)

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

from statemodel import machine, mounted, mutants

DEFAULT_PROGRAMS, DEFAULT_SECONDS = 200, 240  # whichever comes first, if nothing is asked for
ROUND = 40
SHRINK_SECONDS = 180  # it is printed as short as it is by then


def number(name, default):
    return int(os.environ.get(f"WALRUSFS_MODEL_{name}") or default)


def arguments():
    parser = argparse.ArgumentParser(description="random programs against a mount and a model of it")
    parser.add_argument("--programs", type=int, default=number("PROGRAMS", 0), help="how many; default 200")
    parser.add_argument("--seconds", type=int, default=number("SECONDS", 0), help="for how long instead")
    parser.add_argument("--steps", type=int, default=40, help="the longest program")
    parser.add_argument("--seed", type=int, default=number("SEED", -1), help="default: another each time")
    parser.add_argument("--replay", metavar="BLOB", help="run the program that a failure printed")
    parser.add_argument("--no-shrink", action="store_true", help="end at the first failure as it is")
    parser.add_argument("--verbose", action="store_true", help="print every step")
    parser.add_argument("--mutants", nargs="*", metavar="NAME", help="test the test")
    return parser.parse_args()


def run_once(options, seed, programs):
    """One run of hypothesis; raises what a program fails with."""
    phases = [Phase.generate] + ([] if options.no_shrink else [Phase.shrink])
    chosen = settings(
        max_examples=programs, stateful_step_count=options.steps, deadline=None, database=None,
        phases=phases, print_blob=True, report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.verbose if options.verbose else Verbosity.normal)

    class Machine(machine.Store):
        pass

    if options.replay:
        hypothesis.reproduce_failure(hypothesis.__version__, options.replay.encode())(Machine)
    else:
        hypothesis.seed(seed)(Machine)
    run_state_machine_as_test(Machine, settings=chosen)


def run_all(options, seed):
    """In rounds, each with the next seed, so that a slow machine ends in time."""
    end = time.monotonic() + (options.seconds or DEFAULT_SECONDS)
    left = options.programs or (10**9 if options.seconds else DEFAULT_PROGRAMS)
    while left > 0 and (time.monotonic() < end or (options.programs and not options.seconds)):
        programs = min(left, ROUND)
        print(f"# seed {seed}: {programs} programs", flush=True)
        run_once(options, seed, programs)
        left -= programs
        seed += 1
        if options.replay:
            return


def report(options, error):
    text = "".join(traceback.format_exception(error))
    blob = re.search(r"reproduce_failure\('[^']*', b'([^']*)'\)", text)
    print("not ok 1 - random programs do on a mount what they do in the model")
    print("".join(f"  # {line}\n" for line in text.splitlines()), end="")
    if blob:
        steps = f" --steps {options.steps}"
        print(f"  # again: tests/mount/model.py{steps} --replay '{blob.group(1)}'")


def end_now(*_):
    """hypothesis would take an exception for a failure of the program at hand."""
    if mounted.Mounted.current is not None:
        mounted.Mounted.current.abandon()
    os._exit(143)


def main():
    options = arguments()
    if not os.access("/dev/fuse", os.W_OK):
        print("skipped: /dev/fuse is not usable here")
        sys.exit(77)
    if options.mutants is not None:
        sys.exit(mutants.main(options.mutants))
    signal.signal(signal.SIGTERM, end_now)
    engine.MAX_SHRINKING_SECONDS = SHRINK_SECONDS
    seed = options.seed if options.seed >= 0 else random.SystemRandom().randrange(10**9)
    start = time.monotonic()
    print("1..1", flush=True)
    try:
        run_all(options, seed)
    except Exception as e:
        report(options, e)
        sys.exit(1)
    took = time.monotonic() - start
    print(f"ok 1 - {mounted.Mounted.programs} random programs do on a mount what they do in the model "
          f"({took:.0f} s)")


if __name__ == "__main__":
    main()
