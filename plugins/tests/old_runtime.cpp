// An ONNX Runtime that is too old, or lacks what is newer: in a process of its own, as the first one is remembered.
#include "node.h"

int main(int count, char** values) {
  using namespace simam::test;
  newest_api = count > 1 ? static_cast<uint32_t>(std::atoi(values[1])) : 16;
  if (newest_api < simam::ort::kLowestApi) {
    OrtSessionOptions options;
    Outcome const outcome(RegisterCustomOps(&options, fake_base()));
    CHECK(outcome.says("needs ONNX Runtime " SIMAM_LOWEST_RUNTIME) && options.domains.empty(), "%s",
          outcome.message().c_str());
  } else {
    OrtCustomOp const* const op = find_op(simam::kDomain, "SimAM", Type::f32);
    CHECK(op->version == newest_api && op->GetMayInplace == nullptr, "version %u", op->version);
    Node node = right_node(op, {1, 2, 3, 3});
    CHECK(!node.run().failed(), "a run");
  }
  return failures > 0 ? 1 : 0;
}
