// A kernel ahead of time: the one that a launch would take, as the source of a translation unit with one entry, all
// numbers compiled in. For TensorRT's ahead-of-time plugins, which carry PTX. No GPU and nothing of CUDA is needed.
#pragma once

#include "simam_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

struct SimamDevice {
  int32_t multiprocessors;
  int32_t capability;  // 10 * major + minor
  int64_t l2;          // bytes
};

// The launch of `source`: a grid of `blocks`, in clusters of `cluster`; `shared` bytes of a block's dynamic memory.
struct SimamAhead {
  int32_t blocks, threads, shared, cluster;
  char source[4096];  // ends with 0
};

// Null, or why there is no such kernel. It is one launch without a workspace: SIMAM_SPLIT is none.
//
// Of params' pointers their alignment counts, and which of them are null. The source includes ahead_of_time.cuh of this
// folder, and its entry is SIMAM_ENTRY, to be defined by the compiler's caller:
//
//   SIMAM_ENTRY(x, y) or (x, scale, bias, y) or (x, scale, bias, residual, y)
char const* simam_ahead(struct SimamParams const* params, struct SimamDevice const* device, struct SimamAhead* ahead);

#ifdef __cplusplus
}
#endif
