// What a kernel sees of the GPU: its place, its neighbours, its memory. ../tests/emulator.h has the same for the host.
#pragma once

#include "arithmetic.h"

namespace simam::cuda {

class Block {
 public:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int threads() { return static_cast<int>(blockDim.x); }
  __device__ static uint32_t index() { return blockIdx.x; }

  // The block's memory, aligned to 16; as large as the launch said.
  __device__ static char* shared() {
    extern __shared__ Bytes16 memory[];
    return reinterpret_cast<char*>(memory);
  }

  __device__ static void sync() { __syncthreads(); }

  // The sum over the threads of a warp whose number differs in the bits from `low` up to below `high`: powers of two, at
  // most 32. All of them get the same bits. All threads of the warp must come here.
  __device__ static float sum(float v, int low, int high) {
    for (int bit = low; bit < high; bit *= 2) v += __shfl_xor_sync(0xFFFFFFFFU, v, bit);
    return v;
  }
  template <class Number>
  __device__ static Number sum(Number v) {
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) v += __shfl_xor_sync(0xFFFFFFFFU, v, bit);
    return v;
  }

  // After both, all blocks of the cluster have come to the first, and what they stored in one another's memory is seen.
  __device__ static void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
#else
    __trap();
#endif
  }
  __device__ static void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
  }

  // Into the memory of another block of the cluster, at the place that `here` has in one's own.
  __device__ static void store_remote(Moments* here, int block, Moments const& value) {
#if __CUDA_ARCH__ >= 900
    auto const mine = static_cast<uint32_t>(__cvta_generic_to_shared(here));
    uint32_t there;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(mine), "r"(block));
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(value.count), "f"(value.mean),
                 "f"(value.rest), "f"(value.m2)
                 : "memory");
#endif
  }

  // Device memory. x is read once: it stays out of L1. No ld.nc: y may be x.
  __device__ static Bytes16 load(Bytes16 const* from) {
    Bytes16 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(from));
    return v;
  }
  __device__ static void store(Bytes16* to, Bytes16 const& v) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.w[0]), "r"(v.w[1]), "r"(v.w[2]),
                 "r"(v.w[3])
                 : "memory");
  }
  template <class T>
  __device__ static T load(T const* from) {
    return *from;
  }
  template <class T>
  __device__ static void store(T* to, T v) {
    *to = v;
  }
};

}  // namespace simam::cuda
