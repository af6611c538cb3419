# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Hostile clients; half an hour of the first case, which makes 45 minutes of all, or as many seconds as are given.
HOSTILE_SECONDS=${1:-1800} check "whatever clients do, the daemon lives and the log is whole" \
    "$ROOT/tests/mount/hostile.py"
