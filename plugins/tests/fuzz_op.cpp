// Any operator, attributes, ranks, shapes, missing inputs and failing calls: it refuses in words, or computes what is
// right to compute. What it reads and writes beyond its arrays is for AddressSanitizer.
#include "bytes.h"
#include "node.h"

namespace simam::test {
namespace {

[[noreturn]] void stop(char const* what, std::string const& message) {
  std::printf("%s: %s\n", what, message.c_str());
  std::abort();
}

std::vector<int64_t> any_dims(Bytes& bytes, std::vector<int64_t> const& right) {
  if (bytes.byte() % 8 != 7) return right;
  std::vector<int64_t> dims(static_cast<size_t>(bytes.below(7)));
  bool const empty = bytes.coin();
  for (int64_t& dim : dims) dim = empty ? bytes.any<int64_t>() & INT64_MAX : bytes.below(9);
  if (empty && !dims.empty()) dims[static_cast<size_t>(bytes.below(static_cast<int64_t>(dims.size())))] = 0;
  return dims.empty() || !empty || elements(dims) == 0 ? dims : right;
}

void any_attribute(Bytes& bytes, OrtKernelInfo& info, char const* name) {
  switch (bytes.byte() % 6) {
    case 5: info.attributes.erase(name); break;
    case 1: info.attributes[name] = bytes.any<float>(); break;
    case 2: info.attributes[name] = bytes.any<int64_t>(); break;
    case 3: info.attributes[name] = std::string(static_cast<size_t>(bytes.below(200)), 'a'); break;
    default: break;
  }
}

bool is_right_int8(Node const& node) {
  using Input = simam::ort::Int8Input;
  std::vector<int64_t> const& x = node.inputs[0].value.dims;
  if (node.inputs.size() != node.op->GetInputTypeCount(node.op) || x.size() != 4) return false;
  if (x[1] == 1 && x[2] == 1 && elements(x) != 0) return false;
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    Input const input = simam::ort::int8_input(op_of(node.op).op, i);
    std::vector<int64_t> const& dims = node.inputs[i].value.dims;
    bool const parameter = input == Input::scale || input == Input::bias;
    bool const right = input == Input::residual ? dims == x
                       : parameter              ? dims == std::vector<int64_t>{x[3]}
                                                : dims.empty() || dims == std::vector<int64_t>{1};
    if (!right) return false;
  }
  return true;
}

// Whether an output of these inputs is right.
bool is_right(Node const& node) {
  ort::CustomOp const& custom = op_of(node.op);
  if (is_int8(custom)) return is_right_int8(node);
  std::vector<int64_t> const& x = node.inputs[0].value.dims;
  if (node.inputs.size() != node.op->GetInputTypeCount(node.op) || x.size() != 4) return false;
  if (x[2] == 1 && x[3] == 1 && elements(x) != 0) return false;
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    bool const parameter = custom.op.affine && i < 3;
    if (node.inputs[i].value.dims != (parameter ? std::vector<int64_t>{x[1]} : x)) return false;
  }
  auto const block = node.info.attributes.find("block");
  int64_t const* const number = block == node.info.attributes.end() ? nullptr : std::get_if<int64_t>(&block->second);
  return !custom.blocked || (number != nullptr && *number != 0 && x[1] % *number == 0);
}

}  // namespace
}  // namespace simam::test

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  using namespace simam::test;
  Bytes bytes(data, size);
  std::vector<OrtCustomOpDomain*> const& domains = registered().domains;
  OrtCustomOpDomain const& domain = *domains[bytes.byte() % domains.size()];
  OrtCustomOp const* const op = domain.operators[bytes.byte() % domain.operators.size()];
  int64_t const blocks = 1 + bytes.below(3);
  std::vector<int64_t> const dims{1 + bytes.below(3), block_here() * blocks + (bytes.byte() % 8 == 7 ? 3 : 0),
                                  1 + bytes.below(12), 1 + bytes.below(bytes.byte() % 8 == 7 ? 300 : 12)};
  Node node = right_node(op, dims);
  node.info.attributes[simam::kLambda] = 1e-4F;
  for (char const* const name : {simam::kLambda, "block", "machine"})
    if (bytes.byte() % 8 == 7) any_attribute(bytes, node.info, name);
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    Tensor& input = node.inputs[i];
    bool const is_float = op->GetInputType(op, i) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    size_t const element = is_float ? sizeof(float) : format(op_of(op).type).bytes;
    input = Tensor(any_dims(bytes, input.value.dims), element);
    Random random(bytes.byte());
    for (size_t k = 0; k < input.memory.size() && k < 4096; ++k) input.memory[k] = static_cast<char>(random.bits());
  }
  if (bytes.byte() % 16 == 15)
    node.inputs.resize(static_cast<size_t>(bytes.below(4)) % node.inputs.size() + 1, node.inputs[0]);
  bool const failing = bytes.byte() % 4 == 3;
  calls_to_fail = failing ? bytes.byte() % 32 : -1;
  Outcome const outcome = node.run();
  calls_to_fail = -1;
  if (handed_out != 0) stop("not released", std::to_string(handed_out));
  if (outcome.failed() && outcome.message().empty()) stop("no words", op->GetName(op));
  if (!outcome.failed() && !is_right(node)) stop("accepted", op->GetName(op));
  if (outcome.failed() && !failing && is_right(node) && !outcome.says("e_lambda") && !outcome.says("machine") &&
      !outcome.says("attribute") && !outcome.says("string") && !outcome.says("block is") &&
      !outcome.says("the scale of a tensor"))
    stop("refused", outcome.message());
  return 0;
}
