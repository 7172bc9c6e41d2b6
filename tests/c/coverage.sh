#!/bin/sh
# coverage.sh [BUILD-DIR] — line and branch coverage of the codec (gcov): of its kernels by the C tests
# and by the fuzz targets on their corpus, of its Cython modules by their Python tests. Prints every line
# that never ran and every branch that was not taken, but for those listed with a reason in
# tests/c/coverage-exclusions.txt; exits 1 when there is one, or when an exclusion excludes nothing.
# Asserts are left out: their other side is a fault of ours. Needs gcc and gcov (GCOV names another one)
# and the interpreter that crosswire is built for, with its _testcapi, Cython and pytest (PYTHON,
# default .venv's).
set -eu
cd "$(dirname "$0")/../.."

out=${1:-build/coverage}
gcov=${GCOV:-gcov}
codec="buffer frame utf8 receiver inflate deflate"
tests="buffer frame utf8 receiver inflate deflate compressed ops line"
vectors=ops_base # where masks, ASCII and UTF-8 are compiled for vectors: the best that runs here
grep -qw avx2 /proc/cpuinfo && vectors=ops_avx2
targets="frame utf8 receiver inflate"
modules="codec connection"
module_tests="codec connection inflate no_memory"
python=${PYTHON:-.venv/bin/python}
flags="-std=c11 -O0 -g -DNDEBUG -fPIC --coverage -fprofile-abs-path -Isrc/crosswire/include -Icsrc"
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

# The package once more, with these modules in it: compiled from C that names their lines. The kernels
# were reported before, so that what Python's tests do to them does not count.
directives=$(sed -n '/compiler_directives=/,/}/s/^ *"\(.*\)": \(.*\),$/-X \1=\2/p' setup.py)
[ -n "$directives" ] || { echo "no compiler_directives in setup.py" >&2; exit 3; }
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
mkdir "$out/package"
cp -r src/crosswire "$out/package/"
for name in $modules; do
    source=src/crosswire/$name.pyx
    # shellcheck disable=SC2086
    "$python" -m cython $directives -X linetrace=True -Isrc "$source" -o "$out/$name.c" >"$out/log" 2>&1 ||
        { cat "$out/log"; exit 1; }
    awk -v module="$name.pyx" -v path="$source" -f tests/c/traced.awk "$out/$name.c" \
        >"$out/traced_$name.c"
    # shellcheck disable=SC2086
    gcc $flags -DCYTHON_PROFILE=0 -I"$include" -c "$out/traced_$name.c" -o "$out/traced_$name.o"
    # shellcheck disable=SC2086
    gcc -shared --coverage "$out/traced_$name.o" $objects -lm -lz \
        -o "$out/package/crosswire/$name$suffix"
done
# shellcheck disable=SC2046
PYTHONPATH=$out/package "$python" -m pytest -q $(printf 'tests/test_%s.py ' $module_tests)
for name in $modules; do
    (cd "$out" && "$gcov" -b -c -o . "traced_$name.o" >/dev/null)
done

awk -v exclusions=tests/c/coverage-exclusions.txt -f tests/c/coverage.awk \
    $(for name in $codec; do echo "$out/$name.c.gcov"; done) \
    "$out/ops_wide.h.gcov" "$out/ops_utf8.h.gcov" \
    $(for name in $modules; do echo "$out/$name.pyx.gcov"; done)
