#!/bin/sh
# fuzz.sh [SECONDS [TARGET...]] — build the fuzz targets with clang and libFuzzer under the address
# and undefined-behaviour sanitizers and run each for SECONDS (60). New inputs go to build/fuzz/, what
# makes a target fail to build/fuzz/<target>/crash-*. Exits 3 when clang or libFuzzer is not there.
set -eu
cd "$(dirname "$0")/../.."

seconds=${1:-60}
[ $# -gt 0 ] && shift
out=build/fuzz
clang=
for candidate in ${CLANG:-clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14}; do
    if command -v "$candidate" >/dev/null 2>&1; then
        clang=$candidate
        break
    fi
done
if [ -z "$clang" ]; then
    echo "no clang here: fuzzing needs clang with libFuzzer (tests/c/run.sh fuzzes with gcc)" >&2
    exit 3
fi
mkdir -p "$out"
echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) { return p && n > 9 ? 0 : 0; }' \
    >"$out/probe.c"
if ! "$clang" -fsanitize=fuzzer,address "$out/probe.c" -o "$out/probe" >"$out/probe.log" 2>&1; then
    echo "$clang has no libFuzzer or sanitizer runtime here:" >&2
    tail -n 3 "$out/probe.log" >&2
    exit 3
fi

flags="-std=c11 -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined
    -fno-sanitize-recover=all -Wall -Wno-unknown-pragmas -Isrc/crosswire/include -Icsrc"

# clang has no #pragma GCC target: the kernels of a level are compiled with its switches instead.
avx2="-mavx2 -mbmi -mbmi2 -mpopcnt"
avx512="$avx2 -mavx512f -mavx512bw -mavx512vl"

# shellcheck disable=SC2086
compile() { "$clang" $flags "$@" 2>"$out/build.log" || { tail -n 20 "$out/build.log" >&2; exit 1; }; }

mkdir -p "$out/objects"
for source in csrc/*.c; do
    level=
    case $source in
    *_avx2.c) level=$avx2 ;;
    *_avx512.c) level=$avx512 ;;
    esac
    # shellcheck disable=SC2086
    compile $level -c "$source" -o "$out/objects/$(basename "$source" .c).o"
done

failed=0
[ $# -gt 0 ] || set -- $(ls tests/c/fuzz_*.c | sed 's|.*/fuzz_||; s|\.c$||' | grep -v '^main$')
for target in "$@"; do
    folder=$out/$target
    mkdir -p "$folder/corpus"
    compile -fsanitize=fuzzer "tests/c/fuzz_$target.c" "$out"/objects/*.o -lm -lz \
        -o "$folder/fuzz_$target"
    result=ok
    "$folder/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$folder/" "$folder/corpus" "tests/c/corpus/$target" \
        >"$folder/log" 2>&1 || result=FAILED
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$folder/log" | tail -n 1)
    echo "$target: $result, ${executions:-0} executions, ${edges:-0} edges, $seconds s"
    if [ "$result" != ok ]; then
        failed=1
        grep -a -m 12 -E 'ERROR|runtime error|does not hold|got |^    [a-z#]|Test unit written' \
            "$folder/log" | cut -c 1-300
    fi
done
exit $failed
