#!/bin/sh
# coverage.sh [BUILD-DIR] — branch coverage of the codec's kernels (gcov) by the C tests and by the
# fuzz targets on their corpus. Prints every branch that was not taken, but for those listed with a
# reason in tests/c/coverage-exclusions.txt; exits 1 when there is one, or when an exclusion excludes
# nothing. Asserts are left out: their other side is a fault of ours. Needs gcc and gcov; GCOV names another one.
set -eu
cd "$(dirname "$0")/../.."

out=${1:-build/coverage}
gcov=${GCOV:-gcov}
codec="buffer frame utf8 receiver inflate deflate"
tests="buffer frame utf8 receiver inflate deflate compressed ops line"
vectors=ops_base # where masks, ASCII and UTF-8 are compiled for vectors: the best that runs here
grep -qw avx2 /proc/cpuinfo && vectors=ops_avx2
targets="frame utf8 receiver inflate"
flags="-std=c11 -O0 -g -DNDEBUG --coverage -fprofile-abs-path -Isrc/crosswire/include -Icsrc"
command -v "$gcov" >/dev/null || {
    echo "no gcov here: branch coverage needs gcc and gcov" >&2
    exit 3
}

rm -rf "$out"
mkdir -p "$out"
objects=
for source in csrc/*.c; do
    object=$out/$(basename "$source" .c).o
    # shellcheck disable=SC2086
    gcc $flags -c "$source" -o "$object"
    objects="$objects $object"
done
for name in $tests; do
    # shellcheck disable=SC2086
    gcc -std=c11 -O1 -Isrc/crosswire/include -Icsrc "tests/c/test_$name.c" $objects --coverage \
        -lm -lz -o "$out/test_$name"
    "$out/test_$name" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
done
for name in $targets; do
    # shellcheck disable=SC2086
    gcc -std=c11 -O1 -Isrc/crosswire/include -Icsrc "tests/c/fuzz_$name.c" tests/c/fuzz_main.c \
        $objects --coverage -lm -lz -o "$out/fuzz_$name"
    "$out/fuzz_$name" -runs=20000 -seed=1 "tests/c/corpus/$name" >"$out/log" 2>&1 ||
        { cat "$out/log"; exit 1; }
done
for name in $codec $vectors; do # a header is reported as the last of them includes it
    (cd "$out" && "$gcov" -b -c -o . "$name.o" >/dev/null)
done
awk -v exclusions=tests/c/coverage-exclusions.txt -f tests/c/coverage.awk \
    $(for name in $codec; do echo "$out/$name.c.gcov"; done) \
    "$out/ops_wide.h.gcov" "$out/ops_utf8.h.gcov"
