# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every hit of every site killed, or failing, drawn by seed: ten minutes, or --seconds N.
if "$ROOT/tests/mount/failpoints.py" --seconds 600 "$@"; then add 1 0 0; else add 0 1 0; fi
