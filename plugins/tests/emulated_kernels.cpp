// Every CUDA kernel, compiled for the emulator; once, for all tests.
#include "emulated.h"

namespace simam::test {
namespace {

struct OnEmulator {
  Emulator emulator;

  template <class Kernel>
  int run(cuda::Problem const& problem, int64_t blocks, int threads, int shared, int cluster) {
    emulator.launch([&](Emulator::View const& view) { Kernel::run(problem, view); }, blocks, threads, shared, cluster);
    return 0;
  }
};

}  // namespace

int launch_emulated(SimamParams const& params, cuda::Plan const& plan, Order order) {
  thread_local OnEmulator launcher;  // its coroutines serve the next launch too
  launcher.emulator.order = order;
  switch (params.type) {
    case SIMAM_F32: return cuda::launch_plan<cuda::F32>(params, plan, launcher);
    case SIMAM_F16: return cuda::launch_plan<cuda::F16>(params, plan, launcher);
    case SIMAM_BF16: return cuda::launch_plan<cuda::BF16>(params, plan, launcher);
    default: return cuda::launch_plan<cuda::S8>(params, plan, launcher);
  }
}

}  // namespace simam::test
