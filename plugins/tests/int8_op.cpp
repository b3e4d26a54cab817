// The operators on 8-bit integers, on a fake ONNX Runtime: what they take, compute and refuse.
#include "channels_last.h"
#include "node.h"

namespace simam::test {
namespace {

using Input = ort::Int8Input;

template <class Work>
void for_int8_operators(Work const& work) {
  for (OrtCustomOpDomain const* const domain : registered().domains)
    if (domain->name == kInt8Domain)
      for (OrtCustomOp const* const op : domain->operators) work(op);
}

size_t place_of(OrtCustomOp const* op, Input input) {
  size_t i = 0;
  while (ort::int8_input(op_of(op).op, i) != input) ++i;
  return i;
}

template <class T>
void put(Node& node, Input input, std::vector<T> const& values) {
  std::memcpy(node.inputs[place_of(node.op, input)].memory.data(), values.data(), values.size() * sizeof(T));
}

void put_step(Node& node, Input scale, Input zero, Step const& step) {
  put(node, scale, std::vector<float>{step.scale});
  put(node, zero, std::vector<char>{static_cast<char>(step.zero)});
}

std::vector<char> as_bytes(std::vector<int> const& values) { return {values.begin(), values.end()}; }

TEST(registered_operators) {
  size_t count = 0;
  for_int8_operators([&](OrtCustomOp const* op) {
    ++count;
    Op const& own = op_of(op).op;
    size_t const inputs = op->GetInputTypeCount(op);
    CHECK(inputs == 5U + (own.affine ? 2U : 0U) + (own.residual ? 3U : 0U), "%s: %zu inputs", own.name, inputs);
    bool const is_signed = op_of(op).type == Type::s8;
    auto const integers = is_signed ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    CHECK(op->GetInputType(op, 0) == integers && op->GetInputType(op, inputs - 1) == integers, "%s", own.name);
    CHECK(op->GetInputType(op, inputs - 2) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "%s", own.name);
    CHECK(op->GetOutputType(op, 0) == integers, "%s", own.name);
  });
  CHECK(count == std::size(kOps) * 2, "%zu operators", count);
}

// The values reach the kernel in the right places.
TEST(computes) {
  for_int8_operators([](OrtCustomOp const* op) {
    ort::CustomOp const& custom = op_of(op);
    Int8Problem const p = make_int8(custom.type, custom.op, 2, 35, 24, 3);
    Node node = right_node(op, {2, 5, 7, 24});
    node.info.attributes[kLambda] = p.lambda;
    put(node, Input::x, as_bytes(p.x));
    put_step(node, Input::x_scale, Input::x_zero_point, p.x_step);
    put_step(node, Input::y_scale, Input::y_zero_point, p.y_step);
    if (custom.op.affine) {
      put(node, Input::scale, p.scale);
      put(node, Input::bias, p.bias);
    }
    if (custom.op.residual) {
      put(node, Input::residual, as_bytes(p.residual));
      put_step(node, Input::residual_scale, Input::residual_zero_point, p.residual_step);
    }
    Outcome const outcome = node.run();
    CHECK(!outcome.failed(), "%s: %s", custom.op.name, outcome.message().c_str());
    CHECK(node.output == as_bytes(run_int8(p, cpu::best_target())), "%s", custom.op.name);
  });
  CHECK(handed_out == 0, "%d not released", handed_out);
}

TEST(refusals) {
  struct Case {
    Input input;
    std::vector<int64_t> dims;
    char const* refusal;
  };
  Case const cases[] = {{Input::x, {2, 3, 4}, "(N, H, W, C); got 3 dimensions"},
                        {Input::x, {2, 1, 1, 5}, "1x1 map"},
                        {Input::x_scale, {5}, "one number for the whole tensor"},
                        {Input::y_zero_point, {1, 1}, "one number for the whole tensor"},
                        {Input::scale, {4}, "scale must have 5"},
                        {Input::bias, {5, 1}, "bias must have 5"},
                        {Input::residual, {2, 3, 4, 4}, "residual must have the shape of x"}};
  OrtCustomOp const* const op = find_op(kInt8Domain, "SimAMAffineAddRelu", Type::u8);
  for (Case const& c : cases) {
    Node node = right_node(op, {2, 3, 4, 5});
    size_t const place = place_of(op, c.input);
    bool const is_float = op->GetInputType(op, place) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    node.inputs[place] = Tensor(c.dims, is_float ? sizeof(float) : 1);
    Outcome const outcome = node.run();
    CHECK(outcome.says(c.refusal) && outcome.says("SimAMAffineAddRelu"), "'%s': %s", c.refusal,
          outcome.message().c_str());
  }
  for (float const scale : {0.0F, -1.0F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Node node = right_node(op, {2, 3, 4, 5});
    put(node, Input::residual_scale, std::vector<float>{scale});
    CHECK(node.run().says("the scale of a tensor must be finite and above 0"), "%g", static_cast<double>(scale));
  }
  Node empty = right_node(op, {0, 3, 4, 5});
  CHECK(!empty.run().failed(), "no images");
  CHECK(handed_out == 0, "%d not released", handed_out);
}

// Each call that can fail does, one run after the other: the failure comes back, and nothing is lost.
TEST(failing_calls) {
  for (char const* const name : {"SimAM", "SimAMAffineAddSilu"})
    for (int i = 0;; ++i) {
      Node node = right_node(find_op(kInt8Domain, name, Type::s8), {1, 60, 60, 16});
      node.info.attributes[kLambda] = 0.1F;
      calls_to_fail = i;
      Outcome const outcome = node.run();
      bool const all_succeeded = calls_to_fail >= 0;
      calls_to_fail = -1;
      CHECK(handed_out == 0, "%s, call %d: %d not released", name, i, handed_out);
      if (all_succeeded) {
        CHECK(!outcome.failed() && i > 5, "%s", outcome.message().c_str());
        break;
      }
      CHECK(outcome.failed(), "%s: call %d failed and nobody noticed", name, i);
    }
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
