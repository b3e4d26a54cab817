// The kernels of one number format, SIMAM_FORMAT: F32, F16, BF16 or S8.
#include <cuda_runtime_api.h>

#include "block.h"
#include "entry.h"
#include "launch.h"

namespace simam::cuda {
namespace {

// Of a block, at most, and blocks of a multiprocessor, at least.
struct Bounds {
  int threads, blocks;
};
template <class Kernel>
constexpr Bounds kBounds{kPlaneThreads, 1};
template <class Access, int kHeld, Mode mode, bool kEpilogue>
constexpr Bounds kBounds<Planes<Access, kHeld, Team::lanes, mode, kEpilogue>>{kLanesThreads, 5};
template <class Access, int kHeld, Mode mode, bool kEpilogue>
constexpr Bounds kBounds<Tiles<Access, kHeld, mode, kEpilogue>>{kTileThreads, 1};
template <class T, int kHeld, bool kAligned, bool kEpilogue>
constexpr Bounds kBounds<Small<T, kHeld, kAligned, kEpilogue>>{kLanesThreads, kEpilogue ? 4 : 5};

template <class Kernel>
__global__ void __launch_bounds__(kBounds<Kernel>.threads, kBounds<Kernel>.blocks)
    entry(__grid_constant__ Problem const problem) {
  Kernel::run(problem, Block{});
}

struct OnStream {
  cudaStream_t stream;

  template <class Kernel>
  int run(Problem const& problem, int64_t blocks, int threads, int shared, int cluster) const {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = static_cast<size_t>(shared);
    config.stream = stream;
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
    config.attrs = &attribute;
    config.numAttrs = cluster > 1 ? 1 : 0;
    if (cluster > 8) {
      auto const allow = cudaFuncAttributeNonPortableClusterSizeAllowed;
      if (cudaError_t const error = cudaFuncSetAttribute(entry<Kernel>, allow, 1)) return error;
    }
    return cudaLaunchKernelEx(&config, entry<Kernel>, problem);
  }
};

// Loads each kernel and launches none.
struct Loading {
  template <class Kernel>
  int run(Problem const&, int64_t, int, int, int) const {
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, entry<Kernel>);
  }
};

}  // namespace

template <>
int launch_on<SIMAM_FORMAT>(SimamParams const& params, Plan const& plan, void* stream) {
  OnStream launcher{static_cast<cudaStream_t>(stream)};
  return launch_plan<SIMAM_FORMAT>(params, plan, launcher);
}

template <>
int load_all<SIMAM_FORMAT>(bool clusters) {
  Loading loading;
  return for_all<SIMAM_FORMAT>(loading, clusters);
}

}  // namespace simam::cuda
