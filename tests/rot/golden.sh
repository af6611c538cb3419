#!/bin/sh
# SPDX-License-Identifier: MIT
# golden.sh PROGRAM DIRECTORY: the stores that earlier versions made are read as they were written.
set -eu
program=$1 golden=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0
for image in "$golden"/*.tar.xz; do
    name=$(basename "$image" .tar.xz)
    mkdir "$work/$name"
    tar -xJf "$image" -C "$work/$name"
    "$program" show "$work/$name" >"$work/$name.txt"
    diff -u "$golden/$name.txt" "$work/$name.txt" || status=1
done
exit $status
