#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/tour.md, run from its beginning to its end in a copy of this machine.

The copy is an overlay over /, with mounts and processes of its own, into which the build under test is installed as
the packages would be.  WALRUSFS_TOUR_ROOT names another system instead, in which the packages are installed
(tests/campaigns/package.sh).  Stand-ins: `apt` does nothing, and where systemd is not process 1 `systemctl` starts
and stops what ExecStart= of the unit says."""

import os
import shutil
import socket
import subprocess

import lib
import transcript
from lib import case

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
SYSTEMCTL = r"""#!/bin/bash
unit=/etc/systemd/system/$2.service
case $1 in
start)
    command=$(sed -n "s/^ExecStart=\/bin\/sh -c '\(.*\)'$/\1/p" "$unit" | sed 's/\$\$/$/g')
    setsid sh -c "$command" <&- >/dev/null 2>&1 &
    echo $! > "/run/$2.pid"
    ;;
stop) kill -- -"$(cat "/run/$2.pid")" 2>/dev/null || true ;;
esac
"""
SYSTEM = r"""
root=$1; shift
if [ ! -e "$root/usr" ]; then
    mount -t tmpfs none "$2"
    mkdir "$2/upper" "$2/work"
    mount -t overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" none "$root" || exit 77
fi
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc" || exit 77
for directory in run tmp srv mnt var/lib/queue; do
    mkdir -p "$root/$directory"
done
mount -t tmpfs none "$root/run" && mount -t tmpfs none "$root/srv" && mount -t tmpfs none "$root/mnt"
if [ -n "$1" ]; then
    mount -t tmpfs none "$root/tmp"
    DESTDIR=$root/tmp/new meson install -C "$1" --no-rebuild >/dev/null || exit 1
    cp -a "$root/tmp/new/usr/local/." "$root/usr/"
    chroot "$root" ldconfig
fi
cp "$3" "$root/usr/local/bin/systemctl"
exec chroot "$root" /bin/bash --noprofile --norc
"""
STANDS_IN = """apt() { :; }
command -v curl >/dev/null || curl() { busybox wget -q -O /dev/null "${@: -1}"; }"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def need():
    if os.geteuid() != 0:
        raise lib.Skip("needs root")
    if subprocess.run(["unshare", "-m", "-p", "--fork", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise lib.Skip("no namespaces here")
    for program in ("nginx", "busybox", "meson"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise lib.Skip(f"{program} is not installed")


@case("the tour goes as its page says", mounted=False)
def _(m):
    need()
    system = os.environ.get("WALRUSFS_TOUR_ROOT", "")
    build = "" if system else os.path.realpath(os.path.join(os.path.dirname(lib.WALRUSFS), ".."))
    overlay, systemctl = os.path.join(m.work, "overlay"), os.path.join(m.work, "systemctl")
    os.mkdir(overlay)
    with open(systemctl, "w", encoding="utf-8") as f:
        f.write(SYSTEMCTL)
    os.chmod(systemctl, 0o755)
    command = ["unshare", "-m", "-p", "--fork", "--kill-child", "sh", "-c", SYSTEM, "sh", system or m.path, build, overlay,
               systemctl]
    shell = transcript.Shell({"127.0.0.1:8080": f"127.0.0.1:{free_port()}"}, command,
                             env=dict(os.environ, LC_ALL="C.UTF-8", PATH="/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))

    def write_file(path, text):
        status, output = shell.run(f"mkdir -p '{os.path.dirname(path)}'; cat > '{path}' <<'END-OF-FILE'\n{text}END-OF-FILE")
        assert status == 0, output
    try:
        try:
            shell.run(STANDS_IN)
        except (AssertionError, BrokenPipeError):
            if shell.process.wait(120) == 77:
                raise lib.Skip("no overlay over this system") from None
            raise
        for heading, blocks in transcript.sections(os.path.join(ROOT, "docs", "tour.md")):
            if heading:
                transcript.run_section(blocks, shell, write_file)
    finally:
        shell.close()


if __name__ == "__main__":
    lib.main()
