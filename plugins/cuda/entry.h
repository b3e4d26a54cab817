// What kernels.cu, compiled once for each number format, gives to simam_cuda.cpp.
#pragma once

#include "numbers.h"
#include "plan.h"

namespace simam::cuda {

// Enqueues the launches of the plan; a cudaError_t.
template <class T>
int launch_on(SimamParams const& params, Plan const& plan, void* stream);

// Loads the format's kernels into the current device; a cudaError_t.
template <class T>
int load_all(bool clusters);

#define SIMAM_DECLARE(T)                                                       \
  template <>                                                                  \
  int launch_on<T>(SimamParams const& params, Plan const& plan, void* stream); \
  template <>                                                                  \
  int load_all<T>(bool clusters);
SIMAM_DECLARE(F32)
SIMAM_DECLARE(F16)
SIMAM_DECLARE(BF16)
SIMAM_DECLARE(S8)
#undef SIMAM_DECLARE

}  // namespace simam::cuda
