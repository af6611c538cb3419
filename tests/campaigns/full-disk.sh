# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Disks that fill up, the end in steps of 64 KiB, on tmpfs, ext4, xfs, btrfs: ten minutes, or --seconds N.
if "$ROOT/tests/mount/full_disk.py" --seconds 600 "$@"; then add 1 0 0; else add 0 1 0; fi
