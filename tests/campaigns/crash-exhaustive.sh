# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# All programs of three calls, cut at every change with each single sector: all, or as many seconds as are given.
if "$ROOT/build/tests/crash/crash_exhaustive" -j 2 -s 911 ${1:+-t "$1"} 0; then
    add 1 0 0
else
    add 0 1 0
fi
