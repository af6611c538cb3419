# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every system call and allocation of random programs and recoveries fails, with every errno: for 600 seconds.
if "$ROOT/build/tests/crash/crash_errors" -a -c 1000000 -t "${1:-600}"; then
    add 1 0 0
else
    add 0 1 0
fi
