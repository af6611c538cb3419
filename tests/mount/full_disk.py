#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Disks that fill up: before clients work, all but N times 64 KiB of the filesystem is taken, so that over all N each
allocation meets the end once.  What fails is ENOSPC and has left nothing; reading, taking and removing go on; a kill and
a start on the full disk lose nothing; and once there is room everything works.  See faults/rounds.py for campaigns and
replay: there N goes round."""

import os
import random

import lib
from faults import disks, rounds
from faults.crowd import FULL, Consumer, Crowd, Names, Producer

STEP, STEPS = 65536, 24
OPERATIONS = 120


def operate(crowd, clients, rng):
    """Operations one after the other.  Returns how many met the full disk."""
    full = 0
    for _ in range(OPERATIONS):
        client = rng.choice(clients)
        names = dict(crowd.names)
        try:
            client.step()
        except OSError as e:
            assert e.errno in FULL, f"{client.label}: {e!r}"
            assert not isinstance(client, Consumer), f"taking fails on a full disk: {e!r}"
            gone = [n for n, there in names.items() if there and not crowd.names.get(n, True)]
            assert not gone, f"a topic is gone: {gone}"
            full += 1
        for record in crowd.records.values():
            assert not record.broken, record.broken[0]
    for client in clients:
        if isinstance(client, Producer) and client.fd is not None:
            os.close(client.fd)
            client.fd = None
    return full


def make_clients(crowd, m, rng):
    crowd.path = m.path
    make = [(Producer, "t0"), (Producer, "t0"), (Producer, "t1"), (Consumer, "t0"), (Consumer, "t1")]
    clients = [kind(crowd, topic, i, random.Random(rng.random())) for i, (kind, topic) in enumerate(make)]
    clients.append(Names(crowd, "t0", random.Random(rng.random())))
    return clients


def removable(m):
    """A drained topic can be removed on a full disk."""
    os.rmdir(os.path.join(m.path, "spare"))


def play(r):
    disk = disks.make_disk(r.work, r.fs)
    m, crowd = r.mount, Crowd(r.crowd_seed(), r.mode, blob_max=150_000)
    crowd.pause = 0
    m.store = os.path.join(disk.path, "store")
    try:
        m.start()
        crowd.set_up(m)
        spare = m.topic("spare")
        spare.append(b"x")
        spare.seek("end")
        filler = disks.fill(disk, r.n % STEPS * STEP)
        full = operate(crowd, make_clients(crowd, m, r.rng), r.rng)
        if r.rng.random() < 0.5:
            m.kill()
            m.start()
            crowd.judge(m, power=False)
            full += operate(crowd, make_clients(crowd, m, r.rng), r.rng)
        removable(m)
        assert m.daemon.poll() is None, "I5: the daemon died"
        os.unlink(filler)
        for name in crowd.records:
            lib.until(f"an append to {name} works", lambda name=name: works(crowd, m, name))
        crowd.judge(m, power=False)
        crowd.finish(m)
        left = [name for name in os.listdir(m.store) if name.endswith(".tmp")]
        assert not left, f"half-made files: {left}"
    finally:
        m.kill()
        disk.remove()
    return 1


def works(crowd, m, topic):
    client = Producer(crowd, topic, 8, random.Random(0))
    unit, (data,) = client.begin([100])
    try:
        client.write(unit, client.path("append"), data)
        return True
    except OSError as e:
        assert e.errno in FULL, e
        return False


if __name__ == "__main__":
    rounds.main(play, ["tmpfs", "ext4", "xfs", "btrfs"], 4, "whatever meets a full disk fails whole")
