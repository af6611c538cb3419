# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# clang-tidy, with the checks of .clang-tidy, over the library, the daemon, walrusctl and the benchmarks.
tidy_all() {
    local files=("$ROOT"/engine/*.c "$ROOT"/engine/base/*.c "$ROOT"/fs/*.c "$ROOT"/fs/ctl/*.c
        "$ROOT"/bench/*.c "$ROOT"/bench/lib/*.c "$ROOT"/bench/seed/*.c)
    printf '%s\0' "${files[@]}" | xargs -0 -P 2 -n 4 clang-tidy -p "$ROOT/build" --quiet
}

need_packages clang-tidy
check "clang-tidy finds nothing" tidy_all
