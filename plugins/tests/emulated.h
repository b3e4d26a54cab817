// The launches of cuda/launch.h on the emulator, for a device of one's choice.
#pragma once

#include "../cuda/launch.h"
#include "emulator.h"

namespace simam::test {

struct OnEmulator {
  Emulator emulator;
  int launches = 0;

  template <class Kernel>
  int run(cuda::Problem const& problem, int64_t blocks, int threads, int shared, int cluster) {
    ++launches;
    emulator.launch([&](Emulator::View const& view) { Kernel::run(problem, view); }, blocks, threads, shared, cluster);
    return 0;
  }
};

inline int launch_emulated(SimamParams const& params, cuda::Plan const& plan, OnEmulator& launcher) {
  switch (params.type) {
    case SIMAM_F32: return cuda::launch_plan<cuda::F32>(params, plan, launcher);
    case SIMAM_F16: return cuda::launch_plan<cuda::F16>(params, plan, launcher);
    case SIMAM_BF16: return cuda::launch_plan<cuda::BF16>(params, plan, launcher);
    default: return cuda::launch_plan<cuda::S8>(params, plan, launcher);
  }
}

}  // namespace simam::test
