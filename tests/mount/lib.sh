# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# lib.sh - what a shell test of a mounted store begins with: source it, call mount_start, use $M.
#
# It gives the script a directory of its own ($WORK) with a store ($S) and a mount point ($M), runs the
# daemon in the foreground with its stderr in $WORK/daemon.err, and waits for the mount itself, never
# for a time.  When the script ends, however it ends, the trap unmounts; a daemon that then does not
# exit with 0, or that wrote something suspicious, fails the test.  The Python twin is lib.py.
#
# From the environment: WALRUSFS, the daemon's program; WALRUSFS_MOUNT_OPTIONS, more options of every
# mount.

set -u
export LC_ALL=C
: "${WALRUSFS:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/fs/walrusfs}"
WORK=$(mktemp -d "${TMPDIR:-/tmp}/walrusfs-test.XXXXXX") || exit 1
S=$WORK/store
M=$WORK/m
DAEMON=
mkdir "$M"

# Ends the test as failed, with the reason.
fail() {
    echo "not as it should be: $*"
    exit 1
}

# Ends the test as skipped, with the reason.
skip() {
    echo "skipped: $*"
    exit 77
}

[ -w /dev/fuse ] || skip "/dev/fuse is not usable here"
[ -x "$WALRUSFS" ] || fail "$WALRUSFS is not there: build first"

# mount_start [OPTION...]: mounts $S at $M and returns when it answers.
mount_start() {
    "$WALRUSFS" -f ${WALRUSFS_MOUNT_OPTIONS:+-o "$WALRUSFS_MOUNT_OPTIONS"} "$@" "$S" "$M" 2>>"$WORK/daemon.err" &
    DAEMON=$!
    until mountpoint -q "$M"; do
        kill -0 "$DAEMON" 2>/dev/null || {
            DAEMON=
            fail "the daemon ended before the mount was there"
        }
        sleep 0.02
    done
}

# mount_stop: unmounts; the daemon has to end with 0.
mount_stop() {
    local tries=0 status=0
    until fusermount3 -u "$M" 2>"$WORK/umount.err"; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "cannot unmount: $(cat "$WORK/umount.err")"
        sleep 0.1
    done
    wait "$DAEMON" || status=$?
    DAEMON=
    [ "$status" -eq 0 ] || fail "the daemon ended with status $status"
}

# equal WHAT EXPECTED GOT
equal() {
    [ "$2" = "$3" ] || fail "$1: expected '$2', got '$3'"
}

# status_of FILE KEY: one number from a status file.
status_of() {
    sed -n "s/^$2 //p" "$1"
}

at_exit() {
    local result=$?
    trap - EXIT
    if [ -n "$DAEMON" ]; then
        (mount_stop) || {
            [ "$result" -ne 0 ] || result=1
            kill -9 "$DAEMON" 2>/dev/null
            fusermount3 -u -z "$M" 2>/dev/null
        }
    fi
    if grep -E 'Sanitizer|runtime error:|[Aa]ssert|^(walrusfs: )?error' "$WORK/daemon.err" 2>/dev/null; then
        echo "the daemon's stderr has lines that should not be there"
        [ "$result" -ne 0 ] || result=1
    fi
    if [ "$result" -ne 0 ] && [ "$result" -ne 77 ] && [ -s "$WORK/daemon.err" ]; then
        sed 's/^/daemon: /' "$WORK/daemon.err" | tail -n 40
    fi
    mountpoint -q "$M" || rm -rf --one-file-system "$WORK"
    exit "$result"
}
trap at_exit EXIT
trap 'exit 143' TERM INT
