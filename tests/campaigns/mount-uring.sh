# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Every test on a real mount, with FUSE over io_uring: those of hostile clients and parked readers too.
uring_switch=/sys/module/fuse/parameters/enable_uring
[ -w "$uring_switch" ] || die "this kernel has no FUSE over io_uring: there is no $uring_switch"
uring_before=$(cat "$uring_switch")
# shellcheck disable=SC2064
trap "echo $uring_before >$uring_switch" EXIT
echo Y >"$uring_switch"
export WALRUSFS_MOUNT_OPTIONS=io_uring
mount_tests "$ROOT/build/fs/walrusfs" "$@"
