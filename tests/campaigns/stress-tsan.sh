# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# The stress tests under the thread sanitizer, twenty times.
tsan_build && meson_tests tsan "$ROOT/build-tsan" --suite stress --timeout-multiplier 3 --repeat "${1:-20}"
