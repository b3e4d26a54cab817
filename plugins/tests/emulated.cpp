// The calls of cuda/simam_cuda.h on the emulator, as a shared library: what drives a GPU from Python is tested with it
// where there is none. "Device memory" is the host's and the stream is ignored: a launch is done when it returns.
//
// SIMAM_EMULATED_DEVICE   multiprocessors,capability,bytes of L2; 132,90,62914560 where it is not set
#include "../cuda/simam_cuda.h"

#include <cstdio>
#include <cstdlib>

#include "emulated.h"

#define SIMAM_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using namespace simam;

bool ask(cuda::Device& device) {
  char const* const said = std::getenv("SIMAM_EMULATED_DEVICE");
  long long l2 = 0;
  char more = 0;
  if (std::sscanf(said != nullptr ? said : "132,90,62914560", "%d,%d,%lld%c", &device.multiprocessors,
                  &device.capability, &l2, &more) != 3 ||
      device.multiprocessors < 1 || l2 < 1) {
    std::fprintf(stderr, "SIMAM_EMULATED_DEVICE is '%s'; it must be like 132,90,62914560\n", said);
    return false;
  }
  device.l2 = l2;
  return true;
}

constexpr int kNoDevice = 100;  // cudaErrorNoDevice

}  // namespace

SIMAM_EXPORT int simam_launch(SimamParams const* params, void*) {
  if (params == nullptr || cuda::refuse(*params) != nullptr) return cuda::kInvalid;
  if (cuda::is_empty(*params)) return 0;
  if (params->x == nullptr || params->y == nullptr) return cuda::kInvalid;
  cuda::Device device{};
  if (!ask(device)) return kNoDevice;
  cuda::Plan plan{};
  if (!cuda::choose_plan(*params, device, plan)) return cuda::kInvalid;
  return test::launch_emulated(*params, plan, test::Order::forward);
}

SIMAM_EXPORT int simam_accepts(SimamParams const* params) {
  cuda::Device device{};
  cuda::Plan plan{};
  if (params == nullptr || cuda::refuse(*params) != nullptr) return 0;
  return cuda::is_empty(*params) || (ask(device) && cuda::make_plan(*params, device, plan)) ? 1 : 0;
}

SIMAM_EXPORT size_t simam_workspace(SimamParams const* params) {
  cuda::Device device{};
  cuda::Plan plan{};
  if (params == nullptr || cuda::refuse(*params) != nullptr || cuda::is_empty(*params) || !ask(device)) return 0;
  return cuda::make_plan(*params, device, plan) ? static_cast<size_t>(plan.workspace) : 0;
}

SIMAM_EXPORT int simam_prepare(void) {
  cuda::Device device{};
  return ask(device) ? 0 : kNoDevice;
}
