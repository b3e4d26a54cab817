#!/bin/sh
# Builds the kernels and runs their C++ tests under each check: sh plugins/checks.sh [asan tsan clang aarch64 fuzz]
# What a check needs and this machine has not is fetched into build/, or the check is skipped with the reason.
# PYTHON : the interpreter whose pip fetches zig, which is a clang that also compiles for aarch64.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
export ZIG_GLOBAL_CACHE_DIR="$PWD/build/zig/cache"
ZIG="$PWD/build/zig/ziglang/zig"
QEMU="$PWD/build/qemu/usr/bin/qemu-aarch64-static"

find_clang() {
    for name in clang++ clang++-22 clang++-21 clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do
        command -v "$name" && return
    done
}

fetch_zig() {
    [ -x "$ZIG" ] || "$PYTHON" -m pip install -q -c constraints.txt --target build/zig ziglang
}

# Prints what the preset needs besides, one argument of cmake per line; or fails, having said why.
options() {
    case $1 in
    asan | tsan) ;;
    clang)
        clang=$(find_clang) || clang=
        [ -n "$clang" ] || { fetch_zig >&2 && clang="$ZIG;c++"; } || { echo "no clang++, and no zig from PyPI" >&2; return 1; }
        echo "-DCMAKE_CXX_COMPILER=$clang"
        ;;
    fuzz)
        clang=$(find_clang) || { echo "libFuzzer needs clang++" >&2; return 1; }
        echo "-DCMAKE_CXX_COMPILER=$clang"
        ;;
    aarch64)
        if ! command -v aarch64-linux-gnu-g++ >&2; then
            fetch_zig >&2 || { echo "no aarch64-linux-gnu-g++, and no zig from PyPI" >&2; return 1; }
            echo "-DCMAKE_CXX_COMPILER=$ZIG;c++;-target;aarch64-linux-musl;-static"
        fi
        if ! command -v qemu-aarch64 >&2; then
            "$PYTHON" plugins/fetch.py --suite bookworm --into build/qemu qemu-user-static >&2 || return 1
            echo "-DCMAKE_CROSSCOMPILING_EMULATOR=$QEMU"
        fi
        ;;
    *)
        echo "there is no check of this name" >&2
        return 1
        ;;
    esac
}

failed= skipped=
for check in ${*:-asan tsan clang aarch64 fuzz}; do
    echo "== $check"
    if ! more=$(options "$check"); then
        skipped="$skipped $check"
        continue
    fi
    IFS='
'
    # shellcheck disable=SC2086 # one argument per line
    cmake -S plugins --preset "$check" $more >/dev/null &&
        cmake --build "build/native/$check" -- --quiet &&
        ctest --test-dir "build/native/$check" --output-on-failure --no-tests=error || failed="$failed $check"
    unset IFS
done
echo "failed:${failed:- none}  skipped:${skipped:- none}"
[ -z "$failed" ]
