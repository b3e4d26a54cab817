#!/bin/sh
# The CUDA kernels and the plugin library for Jetson, cross-compiled: sh plugins/jetson.sh
# All compilers are fetched into build/jetson: gcc of Debian, nvcc of Debian (CUDA 12) and of PyPI (CUDA 13).
# PYTHON : the interpreter whose pip fetches. TENSORRT_INCLUDE_DIR : the folder of the device's NvInferRuntime.h.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
HERE=build/jetson

fail() {
    echo "$*" >&2
    exit 1
}

# Unpacks wheels into a folder, whole or not at all.
wheels() {
    into=$1
    shift
    [ -d "$into" ] && return
    rm -rf "$into.part"
    "$PYTHON" -m pip install -q --no-deps --only-binary=:all: --target "$into.part" "$@" && mv "$into.part" "$into"
}

# Those of the device's processor: the runtime that is linked.
device_wheels() {
    wheels "$@" --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64
}

debian() {
    "$PYTHON" plugins/fetch.py "$@"
}

# Debian's cross compiler, with what it links. Its libraries are not those of this machine, which may have none.
get_gcc() {
    debian --suite bookworm --into $HERE/gcc \
        g++-12-aarch64-linux-gnu gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu binutils-aarch64-linux-gnu \
        libgcc-12-dev-arm64-cross libstdc++-12-dev-arm64-cross libc6-dev-arm64-cross libc6-arm64-cross \
        libgcc-s1-arm64-cross libstdc++6-arm64-cross linux-libc-dev-arm64-cross \
        libisl23 libmpc3 libmpfr6 libgmp10 libjansson4 || return 1
    mkdir -p $HERE/gcc/bin
    cat >$HERE/gcc/bin/run <<'EOF'
#!/bin/sh
gcc=$(dirname "$(dirname "$(readlink -f "$0")")")
name=$(basename "$0")
export LD_LIBRARY_PATH="$gcc/usr/lib/x86_64-linux-gnu"
case $name in
*g++) exec "$gcc/usr/bin/$name-12" --sysroot="$gcc" "$@" ;;
*) exec "$gcc/usr/bin/$name" "$@" ;;
esac
EOF
    chmod +x $HERE/gcc/bin/run
    for tool in g++ ar ranlib readelf; do
        ln -sf run $HERE/gcc/bin/aarch64-linux-gnu-$tool
    done
}

# nvcc of CUDA 12 is in no wheel: Debian's, with the headers and the library of NVIDIA's wheels, laid out as nvcc expects.
get_cuda12() {
    cuda=$HERE/cuda12
    [ -d $cuda ] && return
    debian --suite trixie --component non-free --into $HERE/nvcc12 nvidia-cuda-toolkit=12.4.131~12.4.1-2 &&
        wheels $HERE/wheels12 nvidia-cuda-nvcc-cu12==12.4.131 nvidia-cuda-cccl-cu12==12.4.127.post1 &&
        device_wheels $HERE/runtime12 nvidia-cuda-runtime-cu12==12.4.127 || return 1
    rm -rf $cuda.part
    mkdir -p $cuda.part/nvvm/bin
    from=$HERE/nvcc12/usr/lib/nvidia-cuda-toolkit
    cp -r $HERE/nvcc12/usr/bin $from/libdevice $HERE/wheels12/nvidia/cuda_nvcc/include $cuda.part/
    cp -r $HERE/wheels12/nvidia/cuda_cccl/include $HERE/runtime12/nvidia/cuda_runtime/include $cuda.part/
    cp -r $HERE/runtime12/nvidia/cuda_runtime/lib $cuda.part/lib64
    cp -r $from/bin/nvcc $from/bin/crt $cuda.part/bin/
    cp $from/bin/cicc $cuda.part/nvvm/bin/
    mv $cuda.part/libdevice $cuda.part/nvvm/
    ln -s libcudart.so.12 $cuda.part/lib64/libcudart.so
    printf '!<arch>\n' >$cuda.part/lib64/libcudadevrt.a # CMake names it, and nothing here needs what is in it
    cat >$cuda.part/bin/nvcc.profile <<'EOF'
TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib64"
EOF
    mv $cuda.part $cuda && rm -rf $HERE/nvcc12 $HERE/wheels12 $HERE/runtime12
}

get_cuda13() {
    cuda=$HERE/cuda13
    [ -d $cuda ] && return
    wheels $HERE/wheels13 nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-cccl==13.0.85 && device_wheels $HERE/runtime13 nvidia-cuda-runtime==13.0.88 || return 1
    rm -rf $cuda.part
    cp -r $HERE/wheels13/nvidia/cu13 $cuda.part
    cp -r $HERE/runtime13/nvidia/cu13/include $HERE/runtime13/nvidia/cu13/lib $cuda.part/
    ln -s lib $cuda.part/lib64
    mv $cuda.part $cuda
}
# What looks at the libraries, and what runs them.
get_tools() {
    wheels $HERE/tools nvidia-cuda-cuobjdump==13.5.37 && debian --suite bookworm --into $HERE/qemu qemu-user-static
}

[ "$(uname -m)" = x86_64 ] || fail "native-cuda-aarch64 is for x86_64 machines; this is $(uname -m): \`make native-cuda\` compiles"
[ -n "${TENSORRT_INCLUDE_DIR:-}" ] ||
    fail "set TENSORRT_INCLUDE_DIR to the folder of NvInferRuntime.h, of the device's TensorRT: 10.3 for JetPack 6"
mkdir -p $HERE
for get in gcc cuda12 cuda13 tools; do
    "get_$get" || fail "$get, which is to be in $HERE, cannot be had; the lines above say why"
done
for cuda in 12 13; do
    build=build/native/jetson-cuda$cuda
    echo "compiling for CUDA $cuda; the first time takes minutes"
    cmake -S plugins --preset jetson-cuda$cuda >$HERE/cuda$cuda.log || fail "$(cat $HERE/cuda$cuda.log)"
    cmake --build $build -- --quiet || exit 1
    sed -n 's/^-- simam: /simam: /p' $HERE/cuda$cuda.log
    include=$(sed -n 's/^SIMAM_CUDA_HEADERS:[A-Z]*=//p' $build/CMakeCache.txt)
    $HERE/gcc/bin/aarch64-linux-gnu-g++ -std=c++17 -isystem "${TENSORRT_INCLUDE_DIR%%[:;]*}" -isystem "$include" \
        plugins/tests/aarch64_probe.cpp -o $build/probe || exit 1
    "$PYTHON" plugins/check_aarch64.py $build --cuda $cuda --probe $build/probe || exit 1
done
