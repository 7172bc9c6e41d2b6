#!/bin/sh
# run.sh [BUILD-DIR [build]] — build csrc/ with the sanitizers, then build and run every C test, and
# every fuzz target on its corpus and a bounded number of inputs made from it. Stops at the first
# failure. With `build` as second word it only builds. Needs zlib's headers. CC chooses the compiler, FUZZ_RUNS the number.
set -eu
cd "$(dirname "$0")/../.."

out=${1:-build/ctests}
cc=${CC:-gcc}
jobs=$(nproc 2>/dev/null || echo 2)
common="-std=c11 -g -fno-omit-frame-pointer -Wall -Wextra -Werror -Isrc/crosswire/include -Icsrc"
checked="$common -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
plain="$common -O2 -ffp-contract=off -fno-builtin"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
began=$(date +%s)

# Compile and link lines, one command a line, run side by side; the first that fails is shown.
in_parallel() { tr '\n' '\0' | xargs -0 -P "$jobs" -n 1 sh -ec; }

objects() { # objects FOLDER FLAGS
    for source in csrc/*.c; do
        echo "$cc $2 -c $source -o $out/$1/$(basename "$source" .c).o"
    done
}

mkdir -p "$out/checked" "$out/plain"
{ objects checked "$checked" && objects plain "$plain"; } | in_parallel
for kind in checked plain; do
    rm -f "$out/$kind.a"
    ar rcs "$out/$kind.a" "$out/$kind"/*.o
done
{
    for test in tests/c/test_*.c; do
        name=$(basename "$test" .c)
        case $name in # its allocator is its own
        test_alloc) echo "$cc $plain $test $out/plain.a -lm -lz -o $out/$name" ;;
        *) echo "$cc $checked $test $out/checked.a -lm -lz -o $out/$name" ;;
        esac
    done
    for target in tests/c/fuzz_*.c; do
        name=$(basename "$target" .c)
        [ "$name" = fuzz_main ] ||
            echo "$cc $checked $target tests/c/fuzz_main.c $out/checked.a -lm -lz -o $out/$name"
    done
} | in_parallel
[ "${2:-run}" = build ] && exit 0

passed=0
built=$(date +%s)
for test in tests/c/test_*.c; do
    name=$(basename "$test" .c)
    echo "== $name"
    "$out/$name" || { echo "FAILED: $name"; exit 1; }
    passed=$((passed + 1))
done
for target in tests/c/fuzz_*.c; do
    name=$(basename "$target" .c)
    [ "$name" = fuzz_main ] && continue
    echo "== $name"
    "$out/$name" -runs="${FUZZ_RUNS:-20000}" -seed=1 "tests/c/corpus/${name#fuzz_}" ||
        { echo "FAILED: $name"; exit 1; }
    passed=$((passed + 1))
done
echo "all $passed programs passed: built in $((built - began)) s, run in $(($(date +%s) - built)) s"
