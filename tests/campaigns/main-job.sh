# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# nginx, consumers and kills: the main job, ten times.
for i in $(seq "${1:-10}"); do
    say "round $i"
    mount_tests "$ROOT/build/fs/walrusfs" main_job
done
