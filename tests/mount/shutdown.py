#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""The filesystem below a store is shut down under it at random times, clients at work: a power cut as ext4 and xfs offer
it.  What was durable is there, what was not is there up to a point, and the daemon lives until it is told to go.  See
faults/rounds.py for campaigns and replay."""

import signal
import time

import lib
from faults import disks, rounds
from faults.crowd import Crowd


def end_daemon(m):
    """Its disk is gone: it has to end when asked to, by itself; that it could not sync is its exit status."""
    assert m.daemon.poll() is None, f"I5: the daemon died with {m.daemon.returncode}"
    m.daemon.send_signal(signal.SIGTERM)
    status = m.daemon.wait(120)
    m.daemon = None
    assert status >= 0, f"I5: the daemon died by signal {-status}"
    m.detach()


def play(r):
    """A disk with a store, and up to four shutdowns."""
    disk = disks.make_disk(r.work, r.fs)
    m, crowd = r.mount, Crowd(r.crowd_seed(), r.mode)
    m.store = f"{disk.path}/store"
    cuts = r.rng.randint(1, 4)
    try:
        m.start()
        crowd.set_up(m)
        for _ in range(cuts):
            crowd.start(m)
            if r.rng.random() < 0.9:  # else 0 ms after the mount
                time.sleep(r.rng.random() ** 2 * 0.4)
            crowd.power_goes()
            disk.shutdown(r.rng.choice((disks.SHUTDOWN_LOG, disks.SHUTDOWN_NOTHING)))
            if r.rng.random() < 0.5:
                time.sleep(r.rng.random() * 0.05)  # clients meet the dead disk
            crowd.stop()
            end_daemon(m)
            disk.again()
            m.start()
            crowd.judge(m, power=True)
        crowd.finish(m)
    finally:
        m.kill()
        disk.remove()
    return cuts


if __name__ == "__main__":
    rounds.main(play, ["ext4", "xfs"], 10, "shutdowns of the filesystem lose nothing durable and repeat nothing")
