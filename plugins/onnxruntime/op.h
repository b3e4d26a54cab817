// One operator of ours as ONNX Runtime sees it.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_c_api.h>
#if ORT_API_VERSION < 18
#error "simam's op library is built with the header of ONNX Runtime 1.18 or later, and runs in 1.17 or later"
#endif

#include "../cpu/simam_cpu.h"

namespace simam::ort {

// The lowest API that has what we use: KernelContext_ParallelFor and InferOutputShapeFn (ONNX Runtime 1.17). From 18 on
// an output may take the place of its input.
inline constexpr uint32_t kLowestApi = 17;
inline constexpr uint32_t kInplaceApi = 18;

// Set before the first operator is registered. The same for all sessions of a process.
OrtApi const* api();
void set_api(OrtApi const* api);

// An operator for one type of x, in NCHW or in the blocked layout.
struct CustomOp : OrtCustomOp {
  CustomOp(Op const& op, cpu::Type type, bool blocked, uint32_t api_version);

  Op const& op;
  cpu::Type type;
  bool blocked;
};

// What the blocked layout depends on: a file specialised elsewhere is refused. As in "x86_64 avx512f".
char const* machine();

// The channels that ONNX Runtime puts in a block on this machine; 0 where that is not known: the file says it.
int block_size();

}  // namespace simam::ort
