// cuda/simam_cuda.cpp on a fake CUDA runtime: what each call refuses, which device it asks, and what it passes on.
#include <cuda_runtime_api.h>

#include "../cuda/entry.h"
#include "harness.h"

using namespace simam;
using namespace simam::test;

namespace {

struct Gpu {
  int multiprocessors, capability, l2;
};

// Device 2 is another chip than device 1; what lies beyond 64 is not remembered.
Gpu gpu_of(int number) {
  if (number == 1) return {132, 90, 60 << 20};
  return number == 2 ? Gpu{16, 87, 4 << 20} : Gpu{108, 80, 40 << 20};
}

struct Fake {
  int device = 1;
  int get_error = 0, attribute_error = 0, launch_error = 0;
  int failing_format = -1;            // of load_all
  int asked = 0;                      // attributes
  std::vector<int> launched, loaded;  // formats, as SimamType
  bool clusters = false;              // as the last load was told
  void* stream = nullptr;
  cuda::Plan plan{};
} fake;

template <int kType>
int launch(cuda::Plan const& plan, void* stream) {
  fake.launched.push_back(kType);
  fake.stream = stream;
  fake.plan = plan;
  return fake.launch_error;
}

template <int kType>
int load(bool clusters) {
  fake.loaded.push_back(kType);
  fake.clusters = clusters;
  return kType == fake.failing_format ? 209 : 0;
}

int stream_of_the_test = 0;
alignas(16) float memory[4];

SimamParams good(int32_t type = SIMAM_F32) {
  SimamParams p{};
  p.type = type;
  p.group = 1;
  p.images = 2;
  p.channels = 3;
  p.pixels = 49;
  p.lambda = 1e-4F;
  p.x_scale = p.y_scale = 0.1F;
  p.x = p.y = memory;
  return p;
}

// Large enough for the automatic tactic to be a split where there are no clusters.
SimamParams large(int32_t tactic) {
  SimamParams p = good(SIMAM_F16);
  p.images = 1;
  p.channels = 2;
  p.pixels = 33600;
  p.tactic = tactic;
  return p;
}

}  // namespace

cudaError_t cudaGetDevice(int* device) {
  *device = fake.device;
  return static_cast<cudaError_t>(fake.get_error);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  ++fake.asked;
  Gpu const gpu = gpu_of(device);
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = gpu.multiprocessors; break;
    case cudaDevAttrL2CacheSize: *value = gpu.l2; break;
    case cudaDevAttrComputeCapabilityMajor: *value = gpu.capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = gpu.capability % 10; break;
  }
  return static_cast<cudaError_t>(fake.attribute_error);
}

namespace simam::cuda {
#define SIMAM_FAKE(T, type)                                              \
  template <>                                                            \
  int launch_on<T>(SimamParams const&, Plan const& plan, void* stream) { \
    return ::launch<type>(plan, stream);                                 \
  }                                                                      \
  template <>                                                            \
  int load_all<T>(bool clusters) {                                       \
    return ::load<type>(clusters);                                       \
  }
SIMAM_FAKE(F32, SIMAM_F32)
SIMAM_FAKE(F16, SIMAM_F16)
SIMAM_FAKE(BF16, SIMAM_BF16)
SIMAM_FAKE(S8, SIMAM_S8)
#undef SIMAM_FAKE
}  // namespace simam::cuda

// First of all: nothing is remembered of a device that could not be asked.
TEST(a_device_that_fails) {
  SimamParams const p = good();
  for (bool const first : {true, false}) {
    fake = {};
    (first ? fake.get_error : fake.attribute_error) = 100;
    CHECK(simam_launch(&p, nullptr) == 100 && fake.launched.empty(), "a launch");
    CHECK(simam_accepts(&p) == 0, "accepted");
    SimamParams const split = large(SIMAM_SPLIT);
    CHECK(simam_workspace(&split) == 0, "a workspace");
    CHECK(simam_prepare() == 100 && fake.loaded.empty(), "loaded");
  }
}

TEST(each_type_goes_to_its_kernels) {
  for (int32_t type = SIMAM_F32; type <= SIMAM_S8; ++type)
    for (int const error : {0, 719}) {
      fake = {};
      fake.launch_error = error;
      SimamParams const p = good(type);
      CHECK(simam_launch(&p, &stream_of_the_test) == error, "type %d", type);
      CHECK(fake.launched == std::vector<int>{type} && fake.stream == &stream_of_the_test, "type %d", type);
      CHECK(fake.plan.units == 6 && fake.plan.problem.pixels == 49, "type %d: another plan", type);
    }
}

TEST(refused_and_empty) {
  fake = {};
  fake.get_error = 100;  // neither needs a device
  auto const refused = [](auto spoil) {
    SimamParams p = good();
    spoil(p);
    return simam_launch(&p, nullptr) == cudaErrorInvalidValue && fake.launched.empty();
  };
  CHECK(simam_launch(nullptr, nullptr) == cudaErrorInvalidValue, "null");
  CHECK(refused([](SimamParams& p) { p.x = nullptr; }), "no x");
  CHECK(refused([](SimamParams& p) { p.y = nullptr; }), "no y");
  CHECK(refused([](SimamParams& p) { p.lambda = -1; }), "lambda");
  CHECK(refused([](SimamParams& p) { p.lambda = -1, p.images = 0; }), "lambda of nothing");
  CHECK(simam_accepts(nullptr) == 0 && simam_workspace(nullptr) == 0, "null");
  SimamParams p = good();
  p.images = 0;
  p.x = p.y = nullptr;
  CHECK(simam_launch(&p, nullptr) == 0 && fake.launched.empty(), "of an empty x it does nothing");
  CHECK(simam_accepts(&p) == 1 && simam_workspace(&p) == 0, "an empty x");
  p.lambda = -1;
  CHECK(simam_accepts(&p) == 0, "accepted");
  fake = {};
  p = large(SIMAM_SPLIT);
  CHECK(simam_workspace(&p) > 0, "a split");
  p.images = 0;
  CHECK(simam_accepts(&p) == 1 && simam_workspace(&p) == 0, "a split of nothing");
  p = large(SIMAM_SPLIT);
  p.lambda = -1;
  CHECK(simam_workspace(&p) == 0, "a workspace for what is refused");
}

// The plan is that of the current device, each of which is asked once: the numbers are four.
TEST(each_device_has_its_own_plans) {
  SimamParams const cluster = large(SIMAM_CLUSTER);
  SimamParams const automatic = large(SIMAM_AUTOMATIC);
  for (int const device : {1, 2, 63, 64, 1000, 1, 2, 63}) {
    fake = {};
    fake.device = device;
    CHECK(simam_accepts(&cluster) == (device == 1 ? 1 : 0), "clusters of device %d", device);
    CHECK((simam_workspace(&automatic) > 0) == (device != 1), "the workspace of device %d", device);
    CHECK(simam_launch(&cluster, nullptr) == (device == 1 ? 0 : 1), "device %d", device);
    CHECK(fake.launched.size() == (device == 1 ? 1 : 0), "device %d", device);
    CHECK(fake.asked <= (device < 64 ? 4 : 12), "device %d was asked %d times", device, fake.asked);
  }
  fake = {};
  CHECK(simam_accepts(&cluster) == 1 && fake.asked == 0, "asked again");
}

// As many units in a launch as suit its L2.
TEST(the_plan_knows_the_whole_device) {
  for (int const device : {1, 2, 3}) {
    fake = {};
    fake.device = device;
    SimamParams p = large(SIMAM_SPLIT);
    p.images = 10000;
    p.workspace = memory;
    p.workspace_size = simam_workspace(&p);
    Gpu const gpu = gpu_of(device);
    cuda::Plan wanted{};
    CHECK(cuda::make_plan(p, {gpu.multiprocessors, gpu.capability, gpu.l2}, wanted) && simam_launch(&p, nullptr) == 0,
          "device %d", device);
    CHECK(fake.plan.per_launch == wanted.per_launch && fake.plan.problem.parts == wanted.problem.parts,
          "device %d: %d in a launch", device, static_cast<int>(fake.plan.per_launch));
  }
}

TEST(workspace) {
  fake = {};
  fake.device = 2;
  SimamParams p = large(SIMAM_SPLIT);
  size_t const wanted = simam_workspace(&p);
  CHECK(wanted > 0 && simam_launch(&p, nullptr) == cudaErrorInvalidValue && fake.launched.empty(), "without one");
  p.workspace = memory;
  p.workspace_size = wanted - 1;
  CHECK(simam_launch(&p, nullptr) == cudaErrorInvalidValue && fake.launched.empty(), "a byte less");
  p.workspace_size = wanted;
  CHECK(simam_launch(&p, nullptr) == 0 && fake.plan.workspace == static_cast<int64_t>(wanted), "as asked");
  p = large(SIMAM_AUTOMATIC);
  CHECK(simam_launch(&p, nullptr) == 0 && fake.plan.workspace == 0, "another plan is taken");
}

TEST(prepare) {
  std::vector<int> const all{SIMAM_F32, SIMAM_F16, SIMAM_BF16, SIMAM_S8};
  for (int const device : {1, 2}) {
    fake = {};
    fake.device = device;
    CHECK(simam_prepare() == 0 && fake.loaded == all && fake.clusters == (device == 1), "device %d", device);
  }
  for (int const format : all) {
    fake = {};
    fake.failing_format = format;
    CHECK(simam_prepare() == 209, "format %d does not load", format);
  }
}

int main(int count, char** names) { return run_tests(count, names); }
