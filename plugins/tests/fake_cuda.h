// The calls of cuda/simam_cuda.h without a GPU: they note what they were asked, and answer what a test wants.
#pragma once

#include <cstddef>
#include <vector>

#include "cuda/simam_cuda.h"

namespace simam::test {

struct Launch {
  SimamParams params;
  void* stream;
};

struct FakeCuda {
  std::vector<Launch> launches;
  std::vector<SimamParams> asked;  // of simam_accepts
  std::vector<SimamParams> sized;  // of simam_workspace
  int prepared = 0;

  bool (*accepts)(SimamParams const&) = [](SimamParams const&) { return true; };
  size_t (*workspace)(SimamParams const&) = [](SimamParams const& p) {
    return p.tactic == SIMAM_SPLIT ? static_cast<size_t>(p.images * p.channels) * 12 : 0;
  };
  int launch_error = 0;
  int prepare_error = 0;
  bool throws = false;
};

extern FakeCuda fake_cuda;

}  // namespace simam::test
