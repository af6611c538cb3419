# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# libFuzzer on stores with hostile bytes and on the decoders, by clang, with sanitizers: SECONDS each (600).
fuzz_build() {
    local directory=$ROOT/build-fuzz
    [ -e "$directory/build.ninja" ] || export CC=clang
    # shellcheck disable=SC2034 # build reads it
    TARGETS=(fuzz_store fuzz_format)
    build "$directory" -Db_sanitize=address,undefined -Db_lundef=false \
        "-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=all"
}

if check "a build for libFuzzer" fuzz_build; then
    for target in fuzz_format fuzz_store; do
        mkdir -p "$ROOT/build-fuzz/found-$target"
        check "$target under libFuzzer" "$ROOT/build-fuzz/tests/fuzz/$target" -max_total_time="${1:-600}" \
            -max_len=1024 -print_final_stats=1 -artifact_prefix="$ROOT/build-fuzz/$target-" \
            "$ROOT/build-fuzz/found-$target" "$ROOT/tests/fuzz/corpus/$target"
    done
fi
