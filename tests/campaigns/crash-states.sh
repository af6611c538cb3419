# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Simulated crash states of random programs, recovered: five million, or as many seconds as are given.
if "$ROOT/build/tests/crash/crash_states" -j 2 ${1:+-t "$1"} 5000000; then
    add 1 0 0
else
    add 0 1 0
fi
