# SPDX-License-Identifier: MIT
"""disks.py - filesystems of their own for a store, and what can happen to them.

    Disk       a file below a loop device; shutdown() is the power cut that the filesystem itself offers
    CutDisk    the same on cutdisk (tests/power/cutdisk.c): sectors that were not flushed are lost at random,
               and ranges of it can be made to fail
    Tmpfs

All are made with make() and taken away with remove(), which leaves no mount and no loop device behind whatever
happened.  A disk that cannot be had here raises lib.Skip with the reason.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess

import lib

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32): ext4 and xfs
SHUTDOWN_LOG, SHUTDOWN_NOTHING = 1, 2  # flush the journal first, or nothing: a power cut
FIEMAP = 0xC020660B

MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"],
    # Without the first option it makes nothing below 300 MB.  Given a device, it asks every mount of the machine
    # whether it is that device, and hangs at one whose daemon is stopped: it is given the file below.
    "xfs": ["mkfs.xfs", "--unsupported", "-q", "-f", "-K"],
    "btrfs": [*lib.WITHOUT_MOUNTS, "mkfs.btrfs", "-q", "-f", "-K"],
}
MEGABYTES = {"ext4": 96, "xfs": 96, "btrfs": 128, "tmpfs": 64}


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                          timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout.strip()}"
    return done.stdout.strip()


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def built(name):
    """A program or library of tests/power, from the build directory of the daemon."""
    return os.path.join(os.path.dirname(lib.WALRUSFS), "..", "tests", "power", name)


def need_failpoints():
    if not os.path.exists(built("failpoints.so")):
        raise lib.Skip("failpoints.so was not built")
    done = subprocess.run([lib.WALRUSFS, "-V"], env=dict(os.environ, LD_PRELOAD=built("failpoints.so")),
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise lib.Skip(f"nothing can be preloaded into this build: {done.stderr.strip()[:100]}")


def is_known(fs):
    with open("/proc/filesystems") as f:
        if any(line.split()[-1] == fs for line in f):
            return True
    return subprocess.run(["modprobe", "-q", fs], stderr=subprocess.DEVNULL).returncode == 0


def is_mounted(path):
    """os.path.ismount() asks the filesystem, which may be shut down."""
    with open("/proc/self/mounts") as f:
        return any(line.split()[1] == path for line in f)


class Disk:
    def __init__(self, work, fs, megabytes=0):
        if os.geteuid() != 0:
            raise lib.Skip("needs root, for mounts")
        if not is_known(fs) or not tool(f"mkfs.{fs}"):
            raise lib.Skip(f"no {fs} here")
        self.fs, self.size = fs, (megabytes or MEGABYTES[fs]) << 20
        self.path = os.path.join(work, "disk")
        self.image = os.path.join(work, "image")
        self.loop = None
        os.makedirs(self.path, exist_ok=True)

    def make(self):
        try:
            self.make_image()
            run(*MKFS[self.fs], self.image)
            self.attach()
            self.mount()
        except BaseException:
            self.remove()
            raise
        return self

    def make_image(self):
        with open(self.image, "wb") as f:
            f.truncate(self.size)

    def attach(self):
        done = subprocess.run(["losetup", "-f", "--show", self.image], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise lib.Skip(f"no loop device: {done.stderr.strip()}")
        self.loop = done.stdout.strip()

    def mount(self):
        try:
            # A mount namespace that somebody made just then may keep the dead one, and xfs wants each UUID once.
            options = ["-o", "nouuid"] if self.fs == "xfs" else []
            run("mount", "-t", self.fs, *options, self.loop, self.path)
        except AssertionError as e:
            kernel = subprocess.run(["dmesg"], stdout=subprocess.PIPE, text=True, errors="replace").stdout
            name = os.path.basename(self.loop)
            raise AssertionError("\n".join([str(e), *[s for s in kernel.splitlines() if name in s][-8:]])) from None

    def umount(self):
        """A process that is just gone may keep it busy for a moment."""
        def tried():
            return subprocess.run(["umount", self.path], stderr=subprocess.DEVNULL).returncode == 0
        if is_mounted(self.path):
            lib.until(f"umount of {self.path}", tried)

    def detach(self):
        if self.loop:
            run("losetup", "-d", self.loop)
            self.loop = None

    def remove(self):
        try:
            self.umount()
        finally:
            subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL)
            self.detach()
            if os.path.exists(self.image):
                os.unlink(self.image)

    def shutdown(self, flag):
        """Everything that the disk was not told to keep is lost.  Umount and mount to go on."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(fd)

    def again(self):
        """After a shutdown: the filesystem's own recovery, without anything from the page cache.  A process elsewhere
        that made a mount namespace just then keeps the dead filesystem for a moment, and mount(2) gives it again."""
        def alive():
            self.umount()
            self.mount()
            try:
                os.close(os.open(os.path.join(self.path, "store", "SUPER"), os.O_RDONLY))
            except OSError as e:
                return e.errno != errno.EIO
            return True
        lib.until("the filesystem is alive again", alive)


class CutDisk(Disk):
    def __init__(self, work, fs, megabytes=0):
        super().__init__(work, fs, megabytes)
        self.device = os.path.join(work, "cutdisk")
        self.image = os.path.join(self.device, "disk")
        self.daemon = None
        os.makedirs(self.device, exist_ok=True)

    def make_image(self):
        program = built("cutdisk")
        if not os.path.exists(program):
            raise lib.Skip(f"{program} was not built")
        self.daemon = subprocess.Popen([program, str(self.size), self.device], stdin=subprocess.DEVNULL)
        lib.until("cutdisk is mounted", lambda: os.path.exists(self.image))

    def tell(self, command):
        lib.write_once(os.path.join(self.device, "ctl"), command.encode())

    def counters(self):
        fd = os.open(os.path.join(self.device, "ctl"), os.O_RDONLY)
        lines = os.read(fd, 1000).decode().splitlines()  # in one piece, or it is not of one moment
        os.close(fd)
        return {key: int(value) for key, value in (line.split() for line in lines)}

    def again(self):
        """After a cut: the power is back."""
        self.umount()
        self.detach()
        self.tell("power")
        self.attach()
        self.mount()

    def remove(self):
        try:
            self.umount()
        finally:
            subprocess.run(["umount", "-l", self.path], stderr=subprocess.DEVNULL)
            try:
                self.detach()
            finally:
                if self.daemon:
                    subprocess.run(["fusermount3", "-u", "-z", self.device], stderr=subprocess.DEVNULL)
                    self.daemon.wait(120)
                    self.daemon = None


class Tmpfs(Disk):
    """Memory: does not survive a power cut, but can be full."""

    def __init__(self, work, fs="tmpfs", megabytes=0):
        if os.geteuid() != 0:
            raise lib.Skip("needs root, for mounts")
        self.fs, self.size = fs, (megabytes or MEGABYTES[fs]) << 20
        self.path = os.path.join(work, "disk")
        self.loop = self.image = None
        os.makedirs(self.path, exist_ok=True)

    def make(self):
        run("mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path)
        return self

    def remove(self):
        self.umount()


def make_disk(work, fs, megabytes=0):
    return (Tmpfs if fs == "tmpfs" else Disk)(work, fs, megabytes).make()


def fill(disk, free):
    """Takes what is there but for `free` bytes."""
    path = os.path.join(disk.path, "filler")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    size, piece = 0, 64 << 20
    while piece >= 4096:
        try:
            os.posix_fallocate(fd, size, piece)
            size += piece
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            piece //= 2
    os.ftruncate(fd, max(0, size - free))
    os.close(fd)
    return path


def extents(path):
    """Where the bytes of a file lie on its disk: (offset in the file, offset on the disk, size)."""
    fd = os.open(path, os.O_RDONLY)
    try:
        found, start = [], 0
        while True:
            room = 64
            request = bytearray(struct.pack("=QQIIII", start, (1 << 64) - 1 - start, 0, 0, room, 0)
                                + bytes(56 * room))
            fcntl.ioctl(fd, FIEMAP, request)
            count = struct.unpack_from("=I", request, 20)[0]
            for i in range(count):
                logical, physical, size, _, _, flags = struct.unpack_from("=QQQQQI", request, 32 + 56 * i)
                found.append((logical, physical, size))
                start = logical + size
            if count < room:
                return found
    finally:
        os.close(fd)


def places(path, off, size):
    """The same for a part of a file: ranges (start, end) of the disk."""
    found = []
    for logical, physical, length in extents(path):
        low, high = max(off, logical), min(off + size, logical + length)
        if low < high:
            found.append((physical + low - logical, physical + high - logical))
    return found


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
