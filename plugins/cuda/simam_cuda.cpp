// The C calls: what the current device is, the plan for it, and on to the kernels of the type.
#include <cuda_runtime_api.h>

#include <atomic>
#include <initializer_list>
#include <new>

#include "entry.h"
#include "launch.h"

#define SIMAM_EXPORT extern "C" __attribute__((visibility("default")))

namespace simam::cuda {

namespace {

constexpr int kMostDevices = 64;

int ask(Device& device) {
  int number = 0;
  if (int const error = cudaGetDevice(&number)) return error;
  static std::atomic<Device*> known[kMostDevices];
  Device* const found = number < kMostDevices ? known[number].load(std::memory_order_acquire) : nullptr;
  if (found != nullptr) {
    device = *found;
    return 0;
  }
  int major = 0;
  int minor = 0;
  int l2 = 0;
  struct {
    int* value;
    cudaDeviceAttr attribute;
  } const wanted[] = {{&device.multiprocessors, cudaDevAttrMultiProcessorCount},
                      {&major, cudaDevAttrComputeCapabilityMajor},
                      {&minor, cudaDevAttrComputeCapabilityMinor},
                      {&l2, cudaDevAttrL2CacheSize}};
  for (auto const& each : wanted)
    if (int const error = cudaDeviceGetAttribute(each.value, each.attribute, number)) return error;
  device.capability = 10 * major + minor;
  device.l2 = l2;
  if (number < kMostDevices) {
    auto* mine = new (std::nothrow) Device(device);  // kept for as long as the process lives
    Device* none = nullptr;
    if (!known[number].compare_exchange_strong(none, mine, std::memory_order_release)) delete mine;
  }
  return 0;
}

int launch(SimamParams const& params, Plan const& plan, void* stream) {
  switch (params.type) {
    case SIMAM_F32: return launch_on<F32>(params, plan, stream);
    case SIMAM_F16: return launch_on<F16>(params, plan, stream);
    case SIMAM_BF16: return launch_on<BF16>(params, plan, stream);
    default: return launch_on<S8>(params, plan, stream);
  }
}

}  // namespace
}  // namespace simam::cuda

SIMAM_EXPORT int simam_launch(SimamParams const* params, void* stream) {
  using namespace simam::cuda;
  if (params == nullptr || refuse(*params) != nullptr) return cudaErrorInvalidValue;
  if (is_empty(*params)) return cudaSuccess;
  if (params->x == nullptr || params->y == nullptr) return cudaErrorInvalidValue;
  Device device{};
  if (int const error = ask(device)) return error;
  Plan plan{};
  if (!choose_plan(*params, device, plan)) return cudaErrorInvalidValue;
  return launch(*params, plan, stream);
}

SIMAM_EXPORT int simam_accepts(SimamParams const* params) {
  using namespace simam::cuda;
  Device device{};
  Plan plan{};
  if (params == nullptr || refuse(*params) != nullptr) return 0;
  return is_empty(*params) || (ask(device) == 0 && make_plan(*params, device, plan)) ? 1 : 0;
}

SIMAM_EXPORT size_t simam_workspace(SimamParams const* params) {
  using namespace simam::cuda;
  Device device{};
  Plan plan{};
  if (params == nullptr || refuse(*params) != nullptr || is_empty(*params) || ask(device) != 0) return 0;
  return make_plan(*params, device, plan) ? static_cast<size_t>(plan.workspace) : 0;
}

SIMAM_EXPORT int simam_prepare(void) {
  using namespace simam::cuda;
  Device device{};
  if (int const error = ask(device)) return error;
  bool const clusters = device.capability >= 90;
  for (auto const load : {load_all<F32>, load_all<F16>, load_all<BF16>, load_all<S8>})
    if (int const error = load(clusters)) return error;
  return cudaSuccess;
}
