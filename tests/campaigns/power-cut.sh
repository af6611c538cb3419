# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Power cuts that keep any unflushed sectors, under ext4 and xfs: ten minutes, or --seconds N.
if "$ROOT/tests/mount/power_cut.py" --seconds 600 "$@"; then add 1 0 0; else add 0 1 0; fi
