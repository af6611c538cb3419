#!/bin/bash
# SPDX-License-Identifier: MIT
# The first five minutes: mkdir makes a topic, echo stores an entry, cat takes it, in every shell.
. "$(dirname "$0")/lib.sh"

mount_start
mkdir "$M/orders" || fail "mkdir"
echo hello >"$M/orders/append" || fail "echo"
equal "the entry" hello "$(cat "$M/orders/next")"

equal "a second cat" "" "$(cat "$M/orders/next")"
cat "$M/orders/next" >"$WORK/out" || fail "cat of an empty topic has a status other than 0"
[ ! -s "$WORK/out" ] || fail "cat of an empty topic printed something"

for shell in bash dash "busybox sh"; do
    # shellcheck disable=SC2086
    $shell -c "echo 'from a shell' >> '$M/orders/append'" || fail "echo >> in $shell"
    # shellcheck disable=SC2086
    equal "read in $shell" "from a shell" "$($shell -c "read -r x < '$M/orders/next'; printf %s \"\$x\"")"
done

printf 'one\n' >"$M/orders/append"
equal "bash \$(<next)" one "$(<"$M/orders/next")"

for i in 1 2 3; do echo "$i" >"$M/orders/append"; done
equal "tail -n 1 of three in drain" 3 "$(tail -n 1 "$M/orders/drain")"

ls -l "$M" "$M/orders" >"$WORK/ls" || fail "ls -l"
for name in append lines next drain offset status; do
    grep -q " $name\$" "$WORK/ls" || fail "ls does not list $name"
done
rmdir "$M/orders" || fail "rmdir of a drained topic"
[ ! -e "$M/orders" ] || fail "the topic is still there after rmdir"
mount_stop
