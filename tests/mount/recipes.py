#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every recipe of docs/recipes.md works as it stands there."""

import os
import re
import shutil
import socket
import subprocess

import lib
import transcript
from lib import case

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NEEDS = {"nginx": "nginx", "rsyslog": "rsyslogd", "container": "unshare"}
# What the page has and the machine may not: a client for HTTP.
STANDS_IN = 'command -v curl >/dev/null || curl() { busybox wget -q -O /dev/null "${@: -1}"; }'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def write_file(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def shell_for(m):
    work = os.path.realpath(m.work)
    places = {"/usr/share/doc/libwalrus-dev/examples": os.path.realpath(os.path.join(ROOT, "docs", "examples")),
              "/mnt/queue": os.path.join(work, "m"), "/var/lib/queue": os.path.join(work, "store"),
              "127.0.0.1:8080": f"127.0.0.1:{free_port()}"}
    for path in ("/etc/", "/run/", "/srv/", "/mnt/", "/var/log/", "/var/lib/"):
        places[path] = f"{work}/root{path}"
        os.makedirs(places[path], exist_ok=True)
    os.mkdir(os.path.join(work, "root", "mnt", "other"))
    binary = os.path.dirname(os.path.abspath(lib.WALRUSFS))
    path = os.pathsep.join([binary, os.path.join(binary, "ctl"), os.environ["PATH"], "/usr/sbin", "/sbin"])
    return transcript.Shell(places, env=dict(os.environ, PATH=path, LC_ALL="C.UTF-8"))


def run_recipe(m, heading, blocks):
    for word, program in NEEDS.items():
        if word in heading and not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise lib.Skip(f"{program} is not installed")
    if "container" in heading and (os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"]).returncode != 0):
        raise lib.Skip("needs root, and mount namespaces")
    shell = shell_for(m)
    try:
        shell.run(STANDS_IN)
        if "Moving" in heading:  # it goes on with the topic of the section before
            m.topic("orders")
            for i in range(5):
                m.find("orders").append(b"%d" % i)
            m.find("orders").drain()
        transcript.run_section(blocks, shell, write_file)
    finally:
        shell.close()


for _heading, _blocks in transcript.sections(os.path.join(ROOT, "docs", "recipes.md")):
    if any(re.search(r"\bconsole\b", info) for info, _ in _blocks):
        @case(_heading)
        def _(m, heading=_heading, blocks=_blocks):
            run_recipe(m, heading, blocks)


if __name__ == "__main__":
    lib.main()
