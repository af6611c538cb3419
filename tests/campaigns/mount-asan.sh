# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every test on a real mount, the daemon under the address and undefined-behaviour sanitizers.
asan_build && mount_tests "$ROOT/build-asan/fs/walrusfs"
