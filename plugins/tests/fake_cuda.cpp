#include "fake_cuda.h"

#include <stdexcept>

namespace simam::test {

FakeCuda fake_cuda;

namespace {
void throw_if_told() {
  if (fake_cuda.throws) throw std::runtime_error("the test wants it");
}
}  // namespace
}  // namespace simam::test

#define SIMAM_FAKE extern "C" __attribute__((visibility("default")))
using simam::test::fake_cuda;

SIMAM_FAKE int simam_launch(SimamParams const* params, void* stream) {
  simam::test::throw_if_told();
  fake_cuda.launches.push_back({*params, stream});
  return fake_cuda.launch_error;
}

SIMAM_FAKE int simam_accepts(SimamParams const* params) {
  simam::test::throw_if_told();
  fake_cuda.asked.push_back(*params);
  return fake_cuda.accepts(*params) ? 1 : 0;
}

SIMAM_FAKE size_t simam_workspace(SimamParams const* params) {
  simam::test::throw_if_told();
  fake_cuda.sized.push_back(*params);
  return fake_cuda.workspace(*params);
}

SIMAM_FAKE int simam_prepare(void) {
  simam::test::throw_if_told();
  ++fake_cuda.prepared;
  return fake_cuda.prepare_error;
}
