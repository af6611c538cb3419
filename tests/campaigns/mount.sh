# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every test on a real mount, ten times.
for i in $(seq "${1:-10}"); do
    say "round $i"
    mount_tests "$ROOT/build/fs/walrusfs"
done
