#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 600
# `cat FILE > T/lines; cat T/drain | cmp - FILE` holds for every file, whatever bytes are in it.
. "$(dirname "$0")/lib.sh"

mount_start
T=$M/t
mkdir "$T"

# roundtrip FILE ENTRIES: the file comes back, and was stored as so many entries.
roundtrip() {
    local before after
    before=$(status_of "$T/status" entries)
    cat "$1" >"$T/lines" || fail "cat $1 > lines"
    after=$(status_of "$T/status" entries)
    [ "$2" = any ] || equal "entries of $1" "$2" "$((after - before))"
    # shellcheck disable=SC2002 # cat is what is tested
    cat "$T/drain" | cmp - "$1" || fail "$1 does not come back"
    equal "pending after $1" 0 "$(status_of "$T/status" pending)"
}

seq 20000 >"$WORK/text"
roundtrip "$WORK/text" 20000
: >"$WORK/empty"
roundtrip "$WORK/empty" 0
printf 'no newline at the end' >"$WORK/open"
roundtrip "$WORK/open" 1
printf '\n\n\n' >"$WORK/newlines"
roundtrip "$WORK/newlines" 3
head -c 5000000 /dev/urandom >"$WORK/binary"
roundtrip "$WORK/binary" any
head -c 3000000 /dev/zero >"$WORK/oneline"
roundtrip "$WORK/oneline" 1
yes 'a line of a log that is about as long as such lines are, with numbers 12345 67890' |
    head -c 100000000 >"$WORK/large"
roundtrip "$WORK/large" any
head -c 100000000 /dev/urandom >"$WORK/largebinary"
roundtrip "$WORK/largebinary" any
mount_stop
