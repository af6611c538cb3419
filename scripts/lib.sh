# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# lib.sh - what scripts/start, scripts/test and scripts/coverage share: the project's directory and the
# installation of Debian packages that are missing.  Nothing is asked of the network when all are there.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034
BUILD_PACKAGES=(build-essential meson ninja-build pkg-config libfuse3-dev fuse3 libisal-dev uthash-dev)
# python3 and busybox run and are the tests; nginx is what the main job is done with.  From dash on: programs
# whose work with a mount is tested (tests/mount/tools.py); Java is used when it is there.
# shellcheck disable=SC2034
TEST_PACKAGES=(libcriterion-dev scdoc python3 clang libclang-rt-14-dev clang-format shellcheck cppcheck abigail-tools busybox-static:busybox
    nginx-light:nginx e2fsprogs mount procps dash:dash less:less rsyslog:rsyslogd
    fio:fio parallel:parallel nodejs:node perl:perl python3-hypothesis btrfs-progs:mkfs.btrfs
    xfsprogs:mkfs.xfs xz-utils:xz)
# What scripts/bench-report needs: the plots, and the rivals.
# shellcheck disable=SC2034
BENCH_PACKAGES=(python3-pandas python3-matplotlib fio:fio redis-server:redis-server nats-server:nats-server
    libsqlite3-dev)

say() {
    printf '== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "not root, and sudo is missing: run as root: $*"
        sudo "$@"
    fi
}

# have_package NAME[:COMMAND]: NAME is installed, or COMMAND is there from wherever it came.
have_package() {
    local name=${1%%:*} command=
    [ "$name" = "$1" ] || command=${1#*:}
    if [ -n "$command" ] && PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null; then
        return 0
    fi
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ]
}

# need_packages NAME[:COMMAND]...: installs those that are missing, and only those.
need_packages() {
    local spec missing=()
    for spec; do
        have_package "$spec" || missing+=("${spec%%:*}")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    say "installing ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        echo "apt-get update failed; trying with what is known" >&2
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" || die "cannot install ${missing[*]}"
    # The tests bring these up themselves: the services that came with the packages are not wanted.
    for spec in nginx-light:nginx rsyslog:rsyslog redis-server:redis-server nats-server:nats-server; do
        if [[ " ${missing[*]} " == *" ${spec%%:*} "* && -d /run/systemd/system ]]; then
            as_root systemctl disable --quiet --now "${spec#*:}" || true
        fi
    done
}

# build DIRECTORY [MESON-OPTION...]: sets the build directory up and compiles.  One that is there is set up
# again, because that is when Meson sees new test files.  TARGETS limits what is compiled.
TARGETS=()
build() {
    local directory=$1 again=()
    shift
    mkdir -p "$directory"
    (
        flock 9 # Meson refuses a directory that another one is at work in; two campaigns may begin at once
        [ ! -e "$directory/build.ninja" ] || again=(--reconfigure)
        meson setup "${again[@]}" "$directory" "$ROOT" "$@" && meson compile -C "$directory" "${TARGETS[@]}"
    ) 9>"$directory/.lock"
}
