// A node of the op library on the fake: an operator, its attributes, its inputs.
#pragma once

#include "fake_ort.h"
#include "problem.h"

namespace simam::test {

inline OrtSessionOptions const& registered() {
  static OrtSessionOptions const options = [] {
    OrtSessionOptions made;
    if (OrtStatus* const failed = RegisterCustomOps(&made, fake_base())) {
      std::printf("  RegisterCustomOps: %s\n", failed->message.c_str());
      std::abort();
    }
    return made;
  }();
  return options;
}

inline ort::CustomOp const& op_of(OrtCustomOp const* op) { return *static_cast<ort::CustomOp const*>(op); }

inline OrtCustomOp const* find_op(char const* domain, char const* name, Type type,
                                  char const* provider = ort::CpuOp::kProvider) {
  for (OrtCustomOpDomain const* const candidate : registered().domains)
    for (OrtCustomOp const* const op : candidate->operators)
      if (candidate->name == domain && std::strcmp(op->GetName(op), name) == 0 && op_of(op).type == type &&
          std::strcmp(op->GetExecutionProviderType(op), provider) == 0)
        return op;
  return nullptr;
}

// A tensor with memory of its own, exactly as large as it is.
struct Tensor {
  Tensor(std::vector<int64_t> dims, size_t element)
      : memory(static_cast<size_t>(elements(dims)) * element), value{std::move(dims), memory.data(), {}} {}

  std::vector<char> memory;
  OrtValue value;
};

// "" if all went well; what was left unreleased and what was not said are failures too.
class Outcome {
 public:
  explicit Outcome(OrtStatus* status) : failed_(status != nullptr) {
    if (failed_) message_ = status->message;
    fake_api()->ReleaseStatus(status);
  }
  bool failed() const { return failed_; }
  std::string const& message() const { return message_; }
  bool says(char const* words) const { return message_.find(words) != std::string::npos; }

 private:
  bool failed_;
  std::string message_;
};

// The block that a file made on this machine has.
inline int block_here() { return ort::block_size() != 0 ? ort::block_size() : 8; }

struct Node {
  OrtCustomOp const* op;
  OrtKernelInfo info;
  std::vector<Tensor> inputs;
  std::vector<char> output;
  void* stream = nullptr;  // of the provider
  bool on_x = false;       // y is to be made in the place of x

  // Makes the node, runs it once and takes it down.
  Outcome run() {
    void* kernel = nullptr;
    if (OrtStatus* const failed = op->CreateKernelV2(op, fake_api(), &info, &kernel)) return Outcome(failed);
    OrtKernelContext context;
    for (Tensor& tensor : inputs) context.inputs.push_back(&tensor.value);
    context.memory = on_x ? nullptr : &output;
    context.stream = stream;
    context.element = format(op_of(op).type).bytes;
    Outcome const outcome(op->KernelComputeV2(kernel, &context));
    op->KernelDestroy(kernel);
    return outcome;
  }
};

inline bool is_int8(ort::CustomOp const& op) { return op.type == Type::u8 || op.type == Type::s8; }

// A node that is right, on 8-bit integers: `dims` is (N, H, W, C), the scales are 1 and the zero points 0.
inline Node right_int8_node(OrtCustomOp const* op, std::vector<int64_t> const& dims) {
  using Input = ort::Int8Input;
  ort::CustomOp const& custom = op_of(op);
  Node node{op, {}, {}, {}, nullptr, false};
  for (size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
    Input const input = ort::int8_input(custom.op, i);
    bool const map = input == Input::x || input == Input::residual;
    bool const parameter = input == Input::scale || input == Input::bias;
    bool const is_float = op->GetInputType(op, i) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    node.inputs.emplace_back(map         ? dims
                             : parameter ? std::vector<int64_t>{dims[3]}
                                         : std::vector<int64_t>{},
                             is_float ? sizeof(float) : 1);
    float const one = 1;
    if (is_float && !parameter) std::memcpy(node.inputs.back().memory.data(), &one, sizeof one);
  }
  return node;
}

// A node that is right, of `dims`.
inline Node right_node(OrtCustomOp const* op, std::vector<int64_t> const& dims) {
  ort::CustomOp const& custom = op_of(op);
  if (is_int8(custom)) return right_int8_node(op, dims);
  Node node{op, {}, {}, {}, nullptr, false};
  if (custom.blocked) {
    node.info.attributes["block"] = int64_t{block_here()};
    node.info.attributes["machine"] = std::string(ort::machine());
  }
  for (size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
    bool const parameter = custom.op.affine && (i == 1 || i == 2);
    node.inputs.emplace_back(parameter ? std::vector<int64_t>{dims[1]} : dims,
                             parameter ? sizeof(float) : format(custom.type).bytes);
  }
  return node;
}

}  // namespace simam::test
