# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Random programs against a mount and its model; half an hour, or as many seconds as are given.
check "random programs do on a mount what they do in the model" \
    "$ROOT/tests/mount/model.py" --seconds "${1:-1800}"
