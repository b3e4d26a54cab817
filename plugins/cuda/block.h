// What a kernel sees of the GPU: its place, the other threads, its memory. ../tests/emulator.h has it for the host.
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

  // What the thread of the warp has whose number differs in `bit`. All threads of the warp must come here.
  template <class Number>
  __device__ static Number other(Number v, int bit) {
    return __shfl_xor_sync(0xFFFFFFFFU, v, bit);
  }

  // From here on the block takes part; nothing that was written before need be seen.
  __device__ static void cluster_begin() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.relaxed.aligned;");
#else
    __trap();
#endif
  }
  // What was stored before is seen by all blocks of the cluster ...
  __device__ static void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
  }
  // ... that have waited, for all of which have come to the call before it.
  __device__ static void cluster_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
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

  // A pointer, worked out here once and not at each use of it. Only of vectors: of others nvcc would forget that it
  // points to device memory.
  template <class T>
  __device__ static T* settled(T* pointer) {
    if constexpr (sizeof(T) == sizeof(Bytes16)) asm("" : "+l"(pointer));
    return pointer;
  }

  // Device memory. x is read once: it stays out of L1. No ld.nc: y may be x.
  __device__ static Bytes16 load(Bytes16 const* from) {
    Bytes16 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.w[0]), "=r"(v.w[1]), "=r"(v.w[2]), "=r"(v.w[3])
                 : "l"(from));
    return v;
  }
  // Into L2: it is read later.
  __device__ static void prefetch(void const* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }
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
