// An operator as both providers have it: its name, its inputs, and what the optimisers of the graph ask.
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <new>

#include "node.h"

namespace simam::ort {

ONNXTensorElementDataType element_type(cpu::Type type) {
  switch (type) {
    case cpu::Type::f16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case cpu::Type::bf16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case cpu::Type::s8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case cpu::Type::u8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case cpu::Type::f32: break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

namespace {

bool is_parameter(Op const& op, size_t input) { return op.affine && (input == 1 || input == 2); }

// The sizes of x for y. A size is a number or a name, and ONNX Runtime takes the -1 that it gives for neither as a
// fixed size. So a size that is not known gets a name, one that nothing else has: equal names are equal sizes. A file
// that ONNX Runtime optimised and saved keeps names of an earlier process, so they do not begin at 0. The type is that
// of x, as one function serves the operators of all types; without one, ONNX Runtime takes y for float.
OrtStatus* set_type_and_shape(OrtShapeInferContext* context, OrtTensorTypeAndShapeInfo const* x,
                              OrtTensorTypeAndShapeInfo* y) {
  static std::atomic<int64_t> unknown{std::chrono::system_clock::now().time_since_epoch().count()};
  ONNXTensorElementDataType type{};
  std::array<int64_t, kRank> sizes{};
  std::array<char const*, kRank> names{};
  std::array<char[40], kRank> made{};
  SIMAM_RETURN_IF_FAILED(api()->GetTensorElementType(x, &type));
  SIMAM_RETURN_IF_FAILED(api()->GetDimensions(x, sizes.data(), kRank));
  SIMAM_RETURN_IF_FAILED(api()->GetSymbolicDimensions(x, names.data(), kRank));
  for (size_t i = 0; i < kRank; ++i) {
    if (sizes[i] >= 0 || (names[i] != nullptr && *names[i] != '\0')) continue;
    std::snprintf(made[i], sizeof made[i], "simam/unknown/%lld", static_cast<long long>(unknown++));
    names[i] = made[i];
  }
  SIMAM_RETURN_IF_FAILED(api()->SetTensorElementType(y, type));
  SIMAM_RETURN_IF_FAILED(api()->SetDimensions(y, sizes.data(), kRank));
  SIMAM_RETURN_IF_FAILED(api()->SetSymbolicDimensions(y, names.data(), kRank));
  return api()->ShapeInferContext_SetOutputTypeShape(context, 0, y);
}

OrtStatus* infer_shape(OrtCustomOp const*, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* x = nullptr;  // belongs to the context
  SIMAM_RETURN_IF_FAILED(api()->ShapeInferContext_GetInputTypeShape(context, 0, &x));
  size_t rank = 0;
  SIMAM_RETURN_IF_FAILED(api()->GetDimensionsCount(x, &rank));
  if (rank != kRank) return nullptr;  // 0 where it is not known; another is refused in a run
  OrtTensorTypeAndShapeInfo* y = nullptr;
  SIMAM_RETURN_IF_FAILED(api()->CreateTensorTypeAndShapeInfo(&y));
  OrtStatus* const status = set_type_and_shape(context, x, y);
  api()->ReleaseTensorTypeAndShapeInfo(y);
  return status;
}

// y in the place of x, or of the residual.
size_t may_inplace(int** inputs, int** outputs) {
  *inputs = new (std::nothrow) int[1]{0};
  *outputs = new (std::nothrow) int[1]{0};
  return *inputs != nullptr && *outputs != nullptr ? 1 : 0;
}

void release_inplace(int* inputs, int* outputs) {
  delete[] inputs;
  delete[] outputs;
}

}  // namespace

size_t input_count(Op const& op) { return 1U + (op.affine ? 2U : 0U) + (op.residual ? 1U : 0U); }

CustomOp::CustomOp(Op const& op_, cpu::Type type_, bool blocked_, uint32_t api_version)
    : OrtCustomOp{}, op(op_), type(type_), blocked(blocked_) {
  version = api_version;
  GetName = [](OrtCustomOp const* op) { return of(op).op.name; };
  GetInputTypeCount = [](OrtCustomOp const* op) { return input_count(of(op).op); };
  GetInputType = [](OrtCustomOp const* op, size_t i) {
    return is_parameter(of(op).op, i) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : element_type(of(op).type);
  };
  GetOutputTypeCount = [](OrtCustomOp const*) -> size_t { return 1; };
  GetOutputType = [](OrtCustomOp const* op, size_t) { return element_type(of(op).type); };
  GetInputCharacteristic = [](OrtCustomOp const*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](OrtCustomOp const*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](OrtCustomOp const*, size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](OrtCustomOp const*) { return 1; };
  GetVariadicInputHomogeneity = [](OrtCustomOp const*) { return 1; };
  GetVariadicOutputMinArity = [](OrtCustomOp const*) { return 1; };
  GetVariadicOutputHomogeneity = [](OrtCustomOp const*) { return 1; };
  InferOutputShapeFn = infer_shape;
  GetStartVersion = [](OrtCustomOp const*) { return kVersion; };
  GetEndVersion = [](OrtCustomOp const*) { return kVersion; };
  if (api_version >= kInplaceApi) {
    GetMayInplace = may_inplace;
    ReleaseMayInplace = release_inplace;
  }
}

}  // namespace simam::ort
