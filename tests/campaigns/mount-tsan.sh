# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Tests on a real mount, the daemon under the thread sanitizer.
[ "$#" -gt 0 ] || set -- waiting contract hostile sizes groups topics blob batch offset crash uring
tsan_build && mount_tests "$ROOT/build-tsan/fs/walrusfs" "$@"
