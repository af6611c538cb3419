# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# SIGKILL of the daemon at random times, clients at work: ten minutes, or --seconds N.
if "$ROOT/tests/mount/kill.py" --seconds 600 "$@"; then add 1 0 0; else add 0 1 0; fi
