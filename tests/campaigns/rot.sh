# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Damage to a closed store: every bit of metadata, 524,288 of data, every sector in four ways, every cut.
check "rot, all of it" "$ROOT/build/tests/rot/rot" --all
for i in $(seq "${1:-0}"); do
    check "rot, sample $i" "$ROOT/build/tests/rot/rot" --flips 100000 --sectors 20000 --cuts 500
done
