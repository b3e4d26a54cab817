// An operator as both providers have it: its name, its inputs, and what the optimisers of the graph ask.
#include <new>

#include "node.h"

namespace simam::ort {
namespace {

ONNXTensorElementDataType element_type(cpu::Type type) {
  switch (type) {
    case cpu::Type::f16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case cpu::Type::bf16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case cpu::Type::s8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case cpu::Type::f32: break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

bool is_parameter(Op const& op, size_t input) { return op.affine && (input == 1 || input == 2); }

OrtStatus* infer_shape(OrtCustomOp const*, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  SIMAM_RETURN_IF_FAILED(api()->ShapeInferContext_GetInputTypeShape(context, 0, &info));
  return api()->ShapeInferContext_SetOutputTypeShape(context, 0, info);  // info belongs to the context
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
