#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""The power of the disk below a store is cut at the n-th block write, clients at work, and any subset of the sectors that
were not flushed survives: data, tables and the filesystem's own journal alike.  See faults/rounds.py for campaigns
and replay, tests/power/cutdisk.c for the disk."""

import time

from faults import disks, rounds
from faults.crowd import Crowd

KEEP = (0, 10, 50, 90, 100)


def play(r):
    """A disk with a store, and up to three cuts; also while recovery is at work."""
    disk = disks.CutDisk(r.work, r.fs).make()
    m, crowd = r.mount, Crowd(r.crowd_seed(), r.mode)
    m.store = f"{disk.path}/store"
    cuts = r.rng.randint(1, 3)
    try:
        m.start()
        crowd.set_up(m)
        for _ in range(cuts):
            cut(r, disk, m, crowd)
            if r.rng.random() < 0.3:
                cut_recovery(r, disk, m)
                cuts += 1
            m.start()
            crowd.judge(m, power=True)
        crowd.finish(m)
    finally:
        m.kill()
        disk.remove()
    return cuts


def arm(r, disk, most):
    disk.tell(f"cut {r.rng.randint(1, most)} {r.rng.getrandbits(32)} {r.rng.choice(KEEP)}")


def cut(r, disk, m, crowd):
    """Clients work until the power goes; the daemon goes with it."""
    arm(r, disk, 250)
    crowd.start(m)
    end = time.monotonic() + 2
    while not disk.counters()["cut"] and time.monotonic() < end:
        time.sleep(0.005)
    if not disk.counters()["cut"]:
        disk.tell(f"cut 0 {r.rng.getrandbits(32)} {r.rng.choice(KEEP)}")
    if r.rng.random() < 0.3:
        time.sleep(r.rng.random() * 0.05)  # a daemon whose disk is gone
        assert m.daemon.poll() is None, f"I5: the daemon died with {m.daemon.returncode}"
    m.die()
    crowd.stop()
    m.detach()
    disk.again()


def cut_recovery(r, disk, m):
    arm(r, disk, 40)
    m.begin()
    end = time.monotonic() + 0.5
    while not disk.counters()["cut"] and time.monotonic() < end:
        time.sleep(0.002)
    if not disk.counters()["cut"]:
        disk.tell(f"cut 0 {r.rng.getrandbits(32)} {r.rng.choice(KEEP)}")
    m.kill()
    disk.again()


if __name__ == "__main__":
    rounds.main(play, ["ext4", "xfs"], 10, "power cuts that keep any unflushed sectors lose nothing durable")
