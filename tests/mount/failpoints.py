#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# timeout: 600
"""The daemon dies, or a call of it fails, at a named point: SITE:HIT:ACTION of tests/power/failpoints.c, which finds the
sites by recording one run of the same 200 operations.  The operations go through three lives of the daemon: on a new
store, after a clean end, and after a kill; a point belongs to one of them.

In CI every site is killed at its first hit in each life, and fails there in a way drawn by seed.  As a campaign,
`failpoints.py --seconds N`, every hit of every site with every action, in an order drawn by seed; one point again:
`failpoints.py --seed S --point LIFE/SITE:HIT:ACTION`."""

import argparse
import errno
import os
import random
import shutil
import struct
import sys
import tempfile
import time

import lib
from faults import disks, rounds
from faults.crowd import Consumer, Crowd, Names, Producer

OPERATIONS, LIVES = 200, 3
FAILING = {"eio": errno.EIO, "enospc": errno.ENOSPC}
DEADLY = ("kill", "tear")
WRITES, READS = "pwritev2", "pread"
MODES = ("each,strict", "20,strict", "20,at-least-once:5")


class Gone(Exception):
    """The daemon died, as it was to."""


class Script(Crowd):
    """The operations, one after the other, drawn by the seed."""

    def __init__(self, seed, mode):
        super().__init__(seed, mode, blob_max=150_000)
        self.pause = 0
        self.done = 0

    def attach(self, m):
        """To a new life of the daemon."""
        self.path = m.path
        make = [(Producer, "t0", 0), (Producer, "t1", 0), (Consumer, "t0", 0), (Consumer, "t1", 0)]
        self.clients = [kind(self, topic, i, self.rng) for kind, topic, i in make]
        self.clients.append(Names(self, "t0", self.rng))

    def close(self):
        for client in self.clients:
            if isinstance(client, Producer) and client.fd is not None:
                lib.close_dead(client.fd)
                client.fd = None

    def operate(self):
        self.done += 1
        kind = self.rng.random()
        if kind < 0.12:
            self.rarely()
        elif kind < 0.24:
            self.clients[4].step()
        else:
            self.clients[self.rng.choice((0, 0, 0, 1, 1, 1, 2, 3))].step()

    def rarely(self):
        """What has no record of its own: it must work or fail, and break nothing."""
        t = lib.Topic(os.path.join(self.path, self.rng.choice(("t0", "t1"))))
        group = t.file("groups/other")
        what = self.rng.randrange(5)
        if what == 0 and os.path.isdir(group):
            os.rmdir(group)
        elif what == 0:
            os.mkdir(group)
        elif what == 1 and os.path.isdir(group):
            lib.write_once(os.path.join(group, "offset"), b"end\n")
        elif what == 2:
            lib.write_once(t.file("limit"), self.rng.choice((b"none\n", b"64M\n")))
        elif what == 3:
            os.chmod(t.file("append"), self.rng.choice((0o600, 0o644)))
        else:
            lib.read_all(t.file("peek"))


class Point:
    def __init__(self, text):
        life, self.text = text.split("/", 1)
        self.life = int(life)
        self.site, _, self.action = self.text.rpartition(":")
        self.site = self.site.rpartition(":")[0]


class Run:
    """The operations with a failpoint (or none) on a store of its own."""

    def __init__(self, seed, mode, point=None):
        self.point = point
        self.work = tempfile.mkdtemp(prefix="walrusfs-round.")
        self.disk = disks.Tmpfs(self.work, megabytes=256)
        self.mount = lib.Mount(self.work, rounds.Mode(mode).options())
        self.mount.store = os.path.join(self.disk.path, "store")
        self.script = Script(seed, rounds.Mode(mode))
        self.hits = {}  # (life, site) -> how often
        self.failed = False

    def sites_file(self, life):
        return os.path.join(self.work, f"sites.{life}")

    def play(self):
        self.disk.make()
        try:
            for life in range(LIVES):
                self.live(life)
                if self.failed:  # what is lost now is lost; the next life is not to blame
                    self.start({})
                    self.check(True)
                    self.failed = False
                    self.end(kill=False)
            self.start({})
            self.check(False)
            self.script.finish(self.mount)
        finally:
            self.script.close()
            self.mount.kill()
            self.disk.remove()

    def environment(self, life):
        env = {"LD_PRELOAD": disks.built("failpoints.so"), "WALRUSFS_FAIL_SITES": self.sites_file(life)}
        if self.point and self.point.life == life:
            env["WALRUSFS_FAIL"] = self.point.text
        return env

    def live(self, life):
        """From the start of a daemon to its end."""
        m = self.mount
        try:
            self.start(self.environment(life))
            if life == 0:
                self.set_up()
            self.work_on((life + 1) * OPERATIONS // LIVES)
            self.end(kill=life == 1)
        except Gone:
            self.after_death(life)
        self.read_sites(life)
        assert m.daemon is None

    def after_death(self, life):
        """The rest of this life is lived by a daemon without failpoints."""
        self.script.close()
        self.mount.detach()
        self.start({})
        if life == 0 and not os.path.exists(os.path.join(self.mount.path, "t1")):
            self.set_up()
        self.check(self.failed)
        self.failed = False
        self.work_on((life + 1) * OPERATIONS // LIVES)
        self.end(kill=False)

    def start(self, environment):
        """A start that fails because a call did is made again without the failpoint."""
        m = self.mount
        m.environment = environment
        try:
            m.begin()
            lib.until("the mount", self.ready)
        except Gone:
            m.detach()
            m.environment = {}
            m.start()
        self.script.attach(m)

    def ready(self):
        try:
            return self.mount.ready()
        except AssertionError:  # the daemon ended
            status = self.mount.daemon.wait()
        self.mount.daemon = None
        self.expect_end(status)
        raise Gone

    def expect_end(self, status):
        if self.point and self.point.action in DEADLY:
            lib.equal(status, -9, "how the daemon ended")
        else:
            assert self.point and status > 0, f"I5: the daemon ended with {status}"
            self.failed = True

    def set_up(self):
        for name, record in self.script.records.items():
            path = os.path.join(self.mount.path, name)
            self.attempt(lambda path=path: os.path.isdir(path) or os.mkdir(path))
            if record.keeps:
                self.attempt(lambda path=path: lib.write_once(os.path.join(path, "retention"), b"all\n", os.O_TRUNC))

    def attempt(self, operation):
        """An operation of the set-up: when it fails twice, what failed first was final."""
        for _ in range(2):
            try:
                operation()
                return
            except OSError as e:
                self.judge_error(e)
        self.end(kill=False)  # a degraded daemon is told to go
        raise Gone

    def judge_error(self, e):
        """Raises Gone when the daemon is dead; returns when the error is one that the failpoint explains."""
        action = self.point.action if self.point else None
        if e.errno in lib.DYING or action in DEADLY:
            status = self.mount.daemon.wait(120)
            self.mount.daemon = None
            self.expect_end(status)
            raise Gone from None
        assert action in FAILING, f"an operation failed: {e!r}"
        assert e.errno in (FAILING[action], errno.EIO), f"a failure of another kind: {e!r}"
        self.failed = True

    def work_on(self, upto):
        while self.script.done < upto:
            try:
                self.script.operate()
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    self.judge_error(e)
            for record in self.script.records.values():
                assert not record.broken, record.broken[0]

    def end(self, kill):
        """Ends the daemon; a kill leaves a store for recovery."""
        m = self.mount
        self.script.close()
        if kill:
            m.kill()
            for record in self.script.records.values():
                record.stopped()
            return
        try:
            m.stop()
        except AssertionError:
            if m.daemon is not None:
                raise
            self.ended_badly()

    def ended_badly(self):
        """The daemon's exit was not 0: the failpoint hit while it ended."""
        assert self.point and (self.point.action in DEADLY or self.failed or self.point.action in FAILING)
        self.mount.detach()
        self.failed |= self.point.action in FAILING

    def check(self, doubt):
        """`doubt`: a sync failed, and what it covered may be lost."""
        self.script.judge(self.mount, power=doubt)

    def read_sites(self, life):
        with open(self.sites_file(life), "rb") as f:
            data = f.read()
        for at in range(0, len(data), 48):
            name, count = struct.unpack_from("40sQ", data, at)
            if count:
                self.hits[life, name.rstrip(b"\0").decode()] = count


def play(seed, mode, point=None):
    """Returns (the run, text of the failure)."""
    run = Run(seed, mode, Point(point) if point else None)
    try:
        run.play()
        bad = [line for line in run.mount.stderr().splitlines() if lib.DEADLY.search(line)]
        assert not bad, "\n".join(bad)
        return run, None
    except lib.Skip:
        raise
    except Exception as e:
        return run, (f"FAILED seed={seed} n={point} fs=tmpfs mode={mode}\n{lib.told(e)}\n"
                     f"the daemon wrote:\n{run.mount.stderr()[-2000:]}\n"
                     f"replay: {os.path.relpath(sys.argv[0])} --seed {seed} --mode {mode} --point {point or 'none'}")
    finally:
        if not disks.is_mounted(run.disk.path) and not disks.is_mounted(run.mount.path):
            shutil.rmtree(run.work, ignore_errors=True)


def actions(site):
    call = site.split(":")[0]
    return ["kill", "eio"] + (["enospc"] if call not in (READS, "msync", "openat") else []) + \
        (["tear"] if call == WRITES else [])


def recorded(seed, mode):
    """The sites of a run without a failpoint, and how often each is hit."""
    run, text = play(seed, mode)
    assert text is None, text
    return run.hits


@lib.case("the daemon is killed, or a call fails, at the first hit of every site: nothing acknowledged is lost or repeated",
          mounted=False)
def _(m):
    disks.need_failpoints()
    seed = rounds.seed_of_today()
    rng = random.Random(seed)
    mode = rng.choice(MODES)
    print(f"  # seed={seed} mode={mode}", flush=True)
    hits = recorded(seed, mode)
    points = []
    for life, site in sorted(hits):
        points.append(f"{life}/{site}:1:kill")
        if rng.random() < 0.34:
            points.append(f"{life}/{site}:1:{rng.choice(actions(site)[1:])}")
    for point in points:
        _, text = play(seed, mode, point)
        assert text is None, text
    print(f"  # {len(hits)} sites, {len(points)} points", flush=True)


def campaign(argv):
    parser = argparse.ArgumentParser(description="every hit of every site with every action, or one point again")
    parser.add_argument("--seed", type=int, default=rounds.seed_of_today())
    parser.add_argument("--mode", choices=MODES, default=MODES[0])
    parser.add_argument("--point", help="LIFE/SITE:HIT:ACTION, or `none`")
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args(argv)
    if options.point:
        _, text = play(options.seed, options.mode, options.point if options.point != "none" else None)
        print(text or "passed")
        return 1 if text else 0
    hits = recorded(options.seed, options.mode)
    points = [f"{life}/{site}:{hit}:{action}" for (life, site), count in sorted(hits.items())
              for hit in range(1, count + 1) for action in actions(site)]
    random.Random(options.seed).shuffle(points)
    print(f"seed={options.seed} mode={options.mode}: {len(hits)} sites, {sum(hits.values())} hits, {len(points)} points",
          flush=True)
    begin, failures, done = time.monotonic(), 0, 0
    for point in points:
        if time.monotonic() - begin > options.seconds:
            break
        _, text = play(options.seed, options.mode, point)
        done += 1
        if text:
            failures += 1
            print(text, flush=True)
    took = time.monotonic() - begin
    print(f"{done} of {len(points)} points, {took:.0f} s, {3600 * done / took:.0f} an hour; {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(campaign(sys.argv[1:]))
    lib.main()
