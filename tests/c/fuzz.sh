#!/bin/sh
# fuzz.sh [SECONDS [TARGET...]] — build the fuzz targets with clang and libFuzzer under the address
# and undefined-behaviour sanitizers and run each for SECONDS (60). New inputs go to build/fuzz/, what
# makes a target fail to build/fuzz/<target>/crash-*. Exits 3 when clang or libFuzzer is not there.
#
# FUZZ_MAX_LEN: longest input, 4096 bytes. FUZZ_LEDGER=1: add what was run to tests/c/fuzz-ledger.txt,
# a row for each target and state of its sources: executions without a finding are summed up, edges
# are those reached at last. A row of sources that have changed is replaced.
set -eu
cd "$(dirname "$0")/../.."

seconds=${1:-60}
longest=${FUZZ_MAX_LEN:-4096}
ledger=tests/c/fuzz-ledger.txt
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

# What a target's verdict depends on: its kernels, their headers and the target itself.
sources_of() {
    include=src/crosswire/include/crosswire
    case $1 in
    frame) echo "csrc/frame.c csrc/ops* $include/base.h $include/frame.h $include/ops.h" ;;
    utf8) echo "csrc/utf8.c csrc/ops* $include/base.h $include/utf8.h $include/ops.h" ;;
    inflate) echo "csrc/inflate.c csrc/deflate.c csrc/zlib_heap.h $include/base.h $include/heap.h
        $include/inflate.h $include/deflate.h tests/c/packed.h" ;;
    *) echo "csrc/* $include/*" ;;
    esac
    echo "tests/c/fuzz_$1.c"
}

# note TARGET EXECUTIONS EDGES — into the ledger
note() {
    # shellcheck disable=SC2046
    hash=$(cat $(sources_of "$1") | sha256sum | cut -c 1-16)
    {
        echo "# target  sources           executions  edges"
        awk -v target="$1" -v hash="$hash" -v more="$2" -v edges="$3" '
            /^#/ { next }
            $1 == target { if ($2 == hash) more += $3; next }
            { print }
            END { printf "%-9s %s %11d %6d\n", target, hash, more, edges }
        ' "$ledger" | sort
    } >"$ledger.new"
    mv "$ledger.new" "$ledger"
}

failed=0
[ "${FUZZ_LEDGER:-0}" != 1 ] || touch "$ledger"
[ $# -gt 0 ] || set -- $(ls tests/c/fuzz_*.c | sed 's|.*/fuzz_||; s|\.c$||' | grep -v '^main$')
for target in "$@"; do
    folder=$out/$target
    mkdir -p "$folder/corpus"
    # The target itself is not instrumented for coverage: its checks would be most of the edges.
    compile -fno-sanitize=fuzzer-no-link -c "tests/c/fuzz_$target.c" -o "$folder/target.o"
    compile -fsanitize=fuzzer "$folder/target.o" "$out"/objects/*.o -lm -lz \
        -o "$folder/fuzz_$target"
    result=ok
    "$folder/fuzz_$target" -max_total_time="$seconds" -max_len="$longest" -timeout=10 \
        -print_final_stats=1 -artifact_prefix="$folder/" "$folder/corpus" \
        "tests/c/corpus/$target" >"$folder/log" 2>&1 || result=FAILED
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$folder/log" | tail -n 1)
    echo "$target: $result, ${executions:-0} executions, ${edges:-0} edges, $seconds s"
    if [ "$result" != ok ]; then
        failed=1
        grep -a -m 12 -E 'ERROR|runtime error|does not hold|got |^    [a-z#]|Test unit written' \
            "$folder/log" | cut -c 1-300
    elif [ "${FUZZ_LEDGER:-0}" = 1 ]; then
        note "$target" "${executions:-0}" "${edges:-0}"
    fi
done
exit $failed
