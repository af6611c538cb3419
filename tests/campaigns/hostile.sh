# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Hostile clients; half an hour of the first case, which makes 45 minutes of all, or as many seconds as are given.
# Each case tells its figures, and whether it was skipped, as it ends.
if HOSTILE_SECONDS=${1:-1800} "$ROOT/tests/mount/hostile.py"; then
    echo "ok   whatever clients do, the daemon lives and the log is whole"
    add 1 0 0
else
    echo "FAIL whatever clients do, the daemon lives and the log is whole"
    add 0 1 0
fi
