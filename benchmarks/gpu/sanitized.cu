// What compute-sanitizer looks at: each kernel once or more on memory of exactly its size, or a planted defect, which
// the tool must find if its silence on the kernels is to mean anything.
//
//   sanitized kernels
//   sanitized memcheck | racecheck | cluster | initcheck | synccheck
#include <cuda_runtime.h>

#include <cooperative_groups.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "../../plugins/cuda/simam_cuda.h"

namespace {

void must(int error, char const* what) {
  if (error == 0) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
  std::exit(3);
}

// Device memory with small numbers of the type in it, or with nothing.
class Memory {
 public:
  explicit Memory(size_t size) : size_(size) {
    if (size > 0) must(cudaMalloc(&at_, size), "cudaMalloc");
  }
  Memory(size_t size, int32_t type) : Memory(size) {
    std::vector<uint32_t> words(size / 4 + 1);
    uint32_t state = 12345;
    for (uint32_t& word : words) {
      state = state * 1664525U + 1013904223U;
      uint32_t const bits = state >> 9;
      // Between 1 and 2, or any byte.
      word = type == SIMAM_F32    ? 0x3F800000U | (bits & 0x7FFFFFU)
             : type == SIMAM_F16  ? 0x3C003C00U | (bits & 0x03FF03FFU)
             : type == SIMAM_BF16 ? 0x3F803F80U | (bits & 0x007F007FU)
                                  : state;
    }
    if (size > 0) must(cudaMemcpy(at_, words.data(), size, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  Memory(Memory const&) = delete;
  Memory& operator=(Memory const&) = delete;
  ~Memory() { cudaFree(at_); }

  void* at() const { return at_; }
  // initcheck sees here what was never written.
  void read() const {
    std::vector<char> bytes(size_);
    must(cudaMemcpy(bytes.data(), at_, size_, cudaMemcpyDeviceToHost), "cudaMemcpy");
  }

 private:
  void* at_ = nullptr;
  size_t size_;
};

constexpr int kChannels = 9;
int too_large = 0;  // launches for which a tool's own registers left no room

int run(int32_t type, int32_t group, int64_t pixels, int32_t tactic, bool epilogue) {
  size_t const element = type == SIMAM_F32 ? 4 : type == SIMAM_S8 ? 1 : 2;
  int64_t const groups = (kChannels + group - 1) / group;
  size_t const size = static_cast<size_t>(groups * group * pixels) * element;
  Memory const x(size, type);
  Memory const y(size);
  Memory const residual(epilogue ? size : 0, type);
  Memory const scale(4 * kChannels, SIMAM_F32);
  SimamParams params{};
  params.type = type;
  params.activation = epilogue ? SIMAM_SILU : SIMAM_NONE;
  params.tactic = tactic;
  params.group = group;
  params.x = x.at();
  params.y = y.at();
  params.residual = residual.at();
  params.scale = epilogue ? static_cast<float const*>(scale.at()) : nullptr;
  params.bias = params.scale;
  params.images = 1;
  params.channels = kChannels;
  params.pixels = pixels;
  params.lambda = 1e-4F;
  params.x_scale = params.residual_scale = params.y_scale = 0.01F;
  if (simam_accepts(&params) == 0) return 0;
  params.workspace_size = simam_workspace(&params);
  Memory const workspace(params.workspace_size);
  params.workspace = workspace.at();
  int const error = simam_launch(&params, nullptr);
  if (error == cudaErrorLaunchOutOfResources) {
    ++too_large;
    return 0;
  }
  must(error, "simam_launch");
  must(cudaDeviceSynchronize(), "simam_launch");
  y.read();
  return 1;
}

int kernels() {
  int done = 0;
  for (int32_t const type : {SIMAM_F32, SIMAM_F16, SIMAM_BF16, SIMAM_S8})
    for (int32_t const group : {1, 16, 32, 4})
      for (int64_t const pixels : {2, 49, 225, 400, 784, 3136, 12544, 51200})
        for (int32_t const tactic : {SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
          for (bool const epilogue : {false, true}) {
            if (pixels > 20000 && (epilogue || group > 16)) continue;
            done += run(type, group, pixels, tactic, epilogue);
          }
  std::printf("%d launches", done);
  if (too_large > 0) std::printf(", and %d refused: too large under this tool", too_large);
  std::printf("\n");
  return done > 0 ? 0 : 3;
}

// The defects -----------------------------------------------------------------------------------------------------

__global__ void outside(int* at, int count) { at[threadIdx.x + static_cast<unsigned>(count)] = 1; }

__global__ void race(int* to) {
  __shared__ int shared[64];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  to[threadIdx.x] = shared[63 - threadIdx.x];  // no barrier
}

// A block reads what the next one may not have written.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define OF_TWO_BLOCKS __cluster_dims__(2)
#else
#define OF_TWO_BLOCKS
#endif

__global__ void OF_TWO_BLOCKS race_of_cluster(int* to) {
#if __CUDA_ARCH__ >= 900
  namespace groups = cooperative_groups;
  auto const cluster = groups::this_cluster();
  __shared__ int shared[64];
  cluster.sync();
  cluster.map_shared_rank(shared, cluster.block_rank() ^ 1U)[threadIdx.x] = static_cast<int>(threadIdx.x);
  to[threadIdx.x] = shared[63 - threadIdx.x];
  cluster.sync();
#endif
}

__global__ void unwritten(int const* from, int* to) { to[threadIdx.x] = from[threadIdx.x]; }

__global__ void half_a_barrier(int* to) {
  if (threadIdx.x % 32 < 16) __syncthreads();
  to[threadIdx.x] = 1;
}

int planted(char const* tool) {
  bool const reads = std::strcmp(tool, "initcheck") == 0;
  Memory const a(256);
  Memory const b(reads ? 256 : 0);  // else what is outside of a might be b
  auto* const to = static_cast<int*>(a.at());
  if (std::strcmp(tool, "memcheck") == 0)
    outside<<<1, 64>>>(to, 64);
  else if (std::strcmp(tool, "racecheck") == 0)
    race<<<1, 64>>>(to);
  else if (std::strcmp(tool, "cluster") == 0)
    race_of_cluster<<<2, 64>>>(to);
  else if (reads)
    unwritten<<<1, 64>>>(static_cast<int*>(b.at()), to);
  else if (std::strcmp(tool, "synccheck") == 0)
    half_a_barrier<<<1, 64>>>(to);
  else
    return 3;
  cudaDeviceSynchronize();
  return 0;
}

}  // namespace

int main(int count, char** words) {
  if (count != 2) return 3;
  return std::strcmp(words[1], "kernels") == 0 ? kernels() : planted(words[1]);
}
