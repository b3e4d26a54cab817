#!/bin/sh
# The CUDA kernels: sh plugins/cuda.sh build|check|update
#   build   compiles the preset `cuda`; where there is no nvcc, NVIDIA's wheels from PyPI are unpacked into build/nvcc
#   check   the same, and compares what nvcc made with plugins/cuda/budget.tsv; skipped with the reason where there is
#           no nvcc, which is not fetched for it
#   update  writes budget.tsv anew
# PYTHON : the interpreter whose pip fetches. CUDACXX : which nvcc, if several are there.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
BUILD=build/native/cuda
WHEELS=nvidia/cu13

# The first nvcc that is new enough. Status 1: there is none; 2: CUDACXX names something else.
find_nvcc() {
    for name in ${CUDACXX:-nvcc /usr/local/cuda/bin/nvcc "$PWD/build/nvcc/$WHEELS/bin/nvcc"}; do
        path=$(command -v "$name") || continue
        version=$("$path" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
        [ "${version:-0}" -ge 13 ] && echo "$path" && return
        echo "$path is of CUDA ${version:-?}; the kernels take 13.0 or newer" >&2
    done
    [ -z "${CUDACXX:-}" ] || { echo "CUDACXX is $CUDACXX; it is to name an nvcc of CUDA 13.0 or newer" >&2; return 2; }
    return 1
}

# Unpacks wheels into a folder of build/, whole or not at all.
fetch() {
    into=$1
    shift
    [ -d "$into" ] && return
    rm -rf "$into.part"
    "$PYTHON" -m pip install -q --no-deps --target "$into.part" "$@" && mv "$into.part" "$into"
}

# One version of them: nvcc's parts do not mix. It looks for its libraries in lib64.
fetch_nvcc() {
    fetch build/nvcc nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-runtime==13.0.88 nvidia-cuda-cccl==13.0.85 && ln -sfn lib "build/nvcc/$WHEELS/lib64"
}

# With this nvcc, of a target or all. CMake does not take another compiler into the folder of one.
build() {
    before=$(sed -n 's/^CMAKE_CUDA_COMPILER:[A-Z]*=//p' $BUILD/CMakeCache.txt 2>/dev/null)
    [ -z "$before" ] || [ "$before" = "$1" ] || rm -rf $BUILD
    CUDACXX=$1 cmake -S plugins --preset cuda >build/cuda.log || { cat build/cuda.log; return 1; }
    cmake --build $BUILD --target "${2:-all}" -- --quiet
}

mkdir -p build
nvcc=$(find_nvcc)
found=$?
[ $found = 2 ] && exit 1
case ${1:-} in
build)
    [ $found = 0 ] || { fetch_nvcc && nvcc=$(find_nvcc); } || {
        echo "no nvcc of CUDA 13.0 or newer on the PATH, in CUDACXX or in /usr/local/cuda, and none from PyPI" >&2
        exit 1
    }
    echo "compiling the CUDA kernels with $nvcc; the first time takes several minutes"
    build "$nvcc" || exit 1
    sed -n 's/^-- simam: /simam: /p' build/cuda.log  # which libraries were left out, and why
    built=$(sed -n 's/^SIMAM_CUDA_ARCHITECTURES:[A-Z]*=//p' $BUILD/CMakeCache.txt)
    echo "built by $nvcc, for the architectures ${built:-that CMake was told}:"
    ls "$PWD"/$BUILD/libsimam_*.so
    ;;
check | update)
    [ $found = 0 ] || {
        echo "skipped: the CUDA kernels were not compiled: no nvcc; \`make native-cuda\` fetches one"
        exit 0
    }
    build "$nvcc" simam_cuda_shared || exit 1
    fetch build/cuda-tools nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37 || {
        echo "skipped: the CUDA kernels were compiled and not looked at: no cuobjdump and nvdisasm from PyPI"
        exit 0
    }
    [ "$1" = update ] && set -- update --update
    shift
    "$PYTHON" plugins/cuda/check.py $BUILD --tools build/cuda-tools/$WHEELS/bin "$@"
    ;;
*)
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
    ;;
esac
