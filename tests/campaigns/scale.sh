# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Opening large stores: 1 TB of sealed blocks, 100,000 topics, ten million entries after a kill.
for what in "blocks 1000" "topics 100000" "entries ${1:-10000000}"; do
    # shellcheck disable=SC2086
    if "$ROOT/build/tests/scale/scale" $what; then
        add 1 0 0
    else
        echo "FAIL scale $what"
        add 0 1 0
    fi
done
