#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""SIGKILL of the daemon at random times, clients at work: nothing acknowledged is lost, nothing is torn, in strict mode
nothing is delivered twice.  See faults/rounds.py for campaigns and replay."""

import os
import time

from faults import rounds
from faults.crowd import Crowd


def play(r):
    """A store, and up to twenty kills of its daemon."""
    crowd = Crowd(r.crowd_seed(), r.mode)
    m = r.mount
    m.start()
    crowd.set_up(m)
    kills = r.rng.randint(1, 20)
    for _ in range(kills):
        crowd.start(m)
        if r.rng.random() < 0.9:
            time.sleep(r.rng.random() ** 2 * 0.15)
        m.die()
        crowd.stop()
        m.detach()
        if r.rng.random() < 0.2:  # recovery is killed too
            m.begin()
            time.sleep(r.rng.random() * 0.02)
            m.kill()
        m.start()
        crowd.judge(m, power=False)
    crowd.finish(m)
    return kills


if __name__ == "__main__":
    rounds.main(play, ["here"], 100, "kills at random times lose nothing and repeat nothing")
