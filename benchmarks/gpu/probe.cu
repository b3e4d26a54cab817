// Two small kernels for the checks and the timing: the kernels' own gate by itself, and a plain copy. Compiled as C++
// for the emulator, where they are loops.
#include "../../plugins/cuda/arithmetic.h"

using namespace simam::cuda;

namespace {

// x = 2 and a mean of 1: the square is 1, so the gate is that of d / (4 (v + lambda)) = square. Twice of it.
SIMAM_DEVICE float gate_at(float square) { return simam_of<F16>(2.0F, Gate{1.0F, 0.5F * square, 0.0F, 0.25F}); }

}  // namespace

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>

namespace {

__global__ void gate(float const* square, float* to, int64_t count) {
  int64_t const i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = gate_at(square[i]);
}

constexpr int kAtOnce = 4;  // vectors of a thread

__global__ void __launch_bounds__(256) copy(uint4 const* from, uint4* to, int64_t count) {
  int64_t const first = static_cast<int64_t>(blockIdx.x) * (256 * kAtOnce) + threadIdx.x;
  uint4 v[kAtOnce];
#pragma unroll
  for (int i = 0; i < kAtOnce; ++i)
    if (first + i * 256 < count) v[i] = __ldcs(from + first + i * 256);
#pragma unroll
  for (int i = 0; i < kAtOnce; ++i)
    if (first + i * 256 < count) __stcs(to + first + i * 256, v[i]);
}

}  // namespace

extern "C" int probe_gate(void const* square, void* to, int64_t count, void* stream) {
  gate<<<static_cast<unsigned>((count + 255) / 256), 256, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<float const*>(square), static_cast<float*>(to), count);
  return cudaGetLastError();  // and forget it: it is this launch's alone
}

extern "C" int probe_copy(void const* from, void* to, int64_t bytes, void* stream) {
  int64_t const count = bytes / 16;
  int64_t const per_block = 256 * kAtOnce;
  copy<<<static_cast<unsigned>((count + per_block - 1) / per_block), 256, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<uint4 const*>(from), static_cast<uint4*>(to), count);
  return cudaGetLastError();
}
#else
extern "C" int probe_gate(void const* square, void* to, int64_t count, void*) {
  for (int64_t i = 0; i < count; ++i) static_cast<float*>(to)[i] = gate_at(static_cast<float const*>(square)[i]);
  return 0;
}

extern "C" int probe_copy(void const* from, void* to, int64_t bytes, void*) {
  memcpy(to, from, static_cast<size_t>(bytes));
  return 0;
}
#endif
