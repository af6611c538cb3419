# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Shutdowns of ext4 and xfs below the store, clients at work: ten minutes, or --seconds N.
if "$ROOT/tests/mount/shutdown.py" --seconds 600 "$@"; then add 1 0 0; else add 0 1 0; fi
