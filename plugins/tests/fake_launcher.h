// The calls of cuda/simam_cuda.h without a GPU: what is asked is written down, and the answers are set here.
#pragma once

#include <vector>

#include "cuda/simam_cuda.h"

namespace simam::test::launcher {

struct Launch {
  SimamParams params;
  void* stream;
};

inline std::vector<Launch> launches;
inline int prepared = 0;  // calls of simam_prepare

inline int launch_result = 0;
inline int prepare_result = 0;
inline int accepts = 1;
inline size_t workspace = 0;

}  // namespace simam::test::launcher
