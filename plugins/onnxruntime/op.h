// Our operators as ONNX Runtime sees them.
#pragma once

#define ORT_API_MANUAL_INIT
#include <onnxruntime_c_api.h>
#if ORT_API_VERSION < 18
#error "simam's op library is built with the header of ONNX Runtime 1.18 or later, and runs in 1.17 or later"
#endif

#include "../cpu/simam_cpu.h"

namespace simam::ort {

// The lowest API that has what we use: KernelContext_ParallelFor and InferOutputShapeFn (ONNX Runtime 1.17); for CUDA
// KernelContext_GetScratchBuffer (1.18). From 18 on an output may take the place of its input.
inline constexpr uint32_t kInplaceApi = 18;
#ifdef SIMAM_WITH_CUDA
inline constexpr uint32_t kLowestApi = 18;
#define SIMAM_LOWEST_RUNTIME "1.18"
#else
inline constexpr uint32_t kLowestApi = 17;
#define SIMAM_LOWEST_RUNTIME "1.17"
#endif

// Set before the first operator is registered. The same for all sessions of a process.
OrtApi const* api();
void set_api(OrtApi const* api);

size_t input_count(Op const& op);
ONNXTensorElementDataType element_type(cpu::Type type);

// An operator for one type of x, in NCHW or in the blocked layout: its name, inputs and shapes. Who computes it is left
// to CpuOp and CudaOp.
struct CustomOp : OrtCustomOp {
  Op const& op;
  cpu::Type type;
  bool blocked;

  static CustomOp const& of(OrtCustomOp const* op) { return *static_cast<CustomOp const*>(op); }

 protected:
  CustomOp(Op const& op, cpu::Type type, bool blocked, uint32_t api_version);
};

struct CpuOp : CustomOp {
  static constexpr char kProvider[] = "CPUExecutionProvider";
  CpuOp(Op const& op, cpu::Type type, bool blocked, uint32_t api_version);
};

// On 8-bit integers with the channels last: the inputs of the operator, each integer tensor followed by its scale and
// zero point, and at the end those of y. Named as ONNX Runtime names those of its QLinear operators.
enum class Int8Input : uint8_t {
  x,
  x_scale,
  x_zero_point,
  scale,
  bias,
  residual,
  residual_scale,
  residual_zero_point,
  y_scale,
  y_zero_point
};

// The input that an operator takes at a place.
Int8Input int8_input(Op const& op, size_t index);

struct Int8Op : CustomOp {
  Int8Op(Op const& op, cpu::Type type, uint32_t api_version);
};

// On the session's stream, by the kernels of ../cuda. In NCHW. ONNX Runtime finds an operator by the name of the
// provider, and CUDA's has another where it is a plugin of its own.
struct CudaOp : CustomOp {
  static constexpr char kProvider[] = "CUDAExecutionProvider";
  static constexpr char kPluginProvider[] = "CudaPluginExecutionProvider";
  char const* provider;

  CudaOp(Op const& op, cpu::Type type, char const* provider, uint32_t api_version);
};

// What the blocked layout depends on: a file specialised elsewhere is refused. As in "x86_64 avx512f".
char const* machine();

// The channels that ONNX Runtime puts in a block on this machine; 0 where that is not known: the file says it.
int block_size();

}  // namespace simam::ort
