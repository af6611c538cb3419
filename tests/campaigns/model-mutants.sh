# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# The model test notices mistakes in the driver and the engine: ten, or those that are named.
check "the model test notices mistakes" "$ROOT/tests/mount/model.py" --mutants "$@"
