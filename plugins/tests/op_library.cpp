// The op library on a fake ONNX Runtime: what it registers, computes and refuses, and what it does when calls fail.
#include <limits>
#include <set>

#include "node.h"

namespace simam::test {
namespace {

// Those on floats; int8_op.cpp has the others.
template <class Work>
void for_operators(Work const& work) {
  for (OrtCustomOpDomain const* const domain : registered().domains)
    if (domain->name != kInt8Domain)
      for (OrtCustomOp const* const op : domain->operators) work(domain->name, op);
}

TEST(registered_operators) {
  size_t count = 0;
  for_operators([&](std::string const& domain, OrtCustomOp const* op) {
    ++count;
    ort::CustomOp const& custom = op_of(op);
    CHECK(domain == (custom.blocked ? kBlockedDomain : kDomain), "%s", domain.c_str());
    CHECK(op->GetStartVersion(op) == kVersion && op->GetEndVersion(op) == kVersion, "%s", op->GetName(op));
    size_t const inputs = op->GetInputTypeCount(op);
    CHECK(inputs == 1U + (custom.op.affine ? 2U : 0U) + (custom.op.residual ? 1U : 0U), "%zu inputs", inputs);
    for (size_t i = 0; i < inputs; ++i) {
      bool const parameter = custom.op.affine && (i == 1 || i == 2);
      CHECK((op->GetInputType(op, i) == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) == (parameter || custom.type == Type::f32),
            "%s input %zu", op->GetName(op), i);
    }
    CHECK(op->GetOutputType(op, 0) == op->GetInputType(op, 0), "%s", op->GetName(op));
    int* from = nullptr;
    int* to = nullptr;
    CHECK(op->GetMayInplace(&from, &to) == 1 && from[0] == 0 && to[0] == 0, "%s", op->GetName(op));
    op->ReleaseMayInplace(from, to);
  });
  CHECK(count == std::size(kOps) * 4, "%zu operators", count);  // f32, f16, bf16; blocked f32
}

// The values reach the kernel in the right places: against the formula.
TEST(computes) {
  for_operators([](std::string const&, OrtCustomOp const* op) {
    ort::CustomOp const& custom = op_of(op);
    Problem p = make(custom.type, kInputs[2], 2, 16, 35, 3);  // lambda 0.1
    p.op = custom.op;
    int const block = custom.blocked ? block_here() : 1;
    Node node = right_node(op, {2, 16, 5, 7});
    node.info.attributes[kLambda] = 0.1F;
    lay_out(p, block, p.x, 1, node.inputs[0].memory.data());
    if (p.op.affine) {
      std::memcpy(node.inputs[1].memory.data(), p.scale.data(), 64);
      std::memcpy(node.inputs[2].memory.data(), p.bias.data(), 64);
    }
    if (p.op.residual) lay_out(p, block, p.residual, 1, node.inputs.back().memory.data());
    Outcome const outcome = node.run();
    CHECK(!outcome.failed(), "%s: %s", custom.op.name, outcome.message().c_str());
    std::vector<double> got;
    for (int64_t i = 0; i < p.size(); ++i)
      got.push_back(decode(custom.type, node.output.data(), place(p, block, i / p.m, i % p.m), 1));
    Way way;
    way.block = block;
    compare(p, way, expect(p, simam_of(p)), got);
  });
  CHECK(handed_out == 0, "%d not released", handed_out);
}

TEST(attributes) {
  struct Case {
    std::variant<float, int64_t, std::string> lambda;
    char const* refusal;
  };
  float const inf = std::numeric_limits<float>::infinity();
  Case const cases[] = {{0.0F, nullptr},
                        {1e-4F, nullptr},
                        {1e30F, nullptr},
                        {-1e-9F, "e_lambda is -1e-09"},
                        {-inf, "not negative"},
                        {inf, "finite"},
                        {std::nanf(""), "finite"},
                        {int64_t{1}, "e_lambda must be a float"},
                        {std::string("1e-4"), "e_lambda must be a float"}};
  for (Case const& c : cases) {
    Node node = right_node(find_op(kDomain, "SimAM", Type::f32), {1, 2, 3, 3});
    node.info.attributes[kLambda] = c.lambda;
    Outcome const outcome = node.run();
    CHECK(outcome.failed() == (c.refusal != nullptr), "%s", outcome.message().c_str());
    CHECK(c.refusal == nullptr || (outcome.says(c.refusal) && outcome.says("SimAM")), "%s", outcome.message().c_str());
  }
  for (int64_t const block : {int64_t{0}, int64_t{1}, int64_t{5}, int64_t{-8}, int64_t{32}, int64_t{1} << 33}) {
    Node node = right_node(find_op(kBlockedDomain, "SimAM", Type::f32), {1, 32, 3, 3});
    node.info.attributes["block"] = block;
    CHECK(node.run().says(ort::block_size() != 0 ? "this file was changed" : "it must be 4, 8 or 16"), "%d",
          static_cast<int>(block));
  }
  for (int64_t const block : {4, 8, 16}) {
    Node node = right_node(find_op(kBlockedDomain, "SimAM", Type::f32), {1, 32, 3, 3});
    node.info.attributes["block"] = block;
    Outcome const outcome = node.run();
    bool const right = ort::block_size() == 0 || block == ort::block_size();
    CHECK(outcome.failed() != right, "block %d: %s", static_cast<int>(block), outcome.message().c_str());
    CHECK(right || outcome.says(text("block is %d, and on", static_cast<int>(block)).c_str()), "%s",
          outcome.message().c_str());
  }
  for (std::string const& machine : {std::string("z80"), std::string(1000, 'z'), std::string()}) {
    Node node = right_node(find_op(kBlockedDomain, "SimAM", Type::f32), {1, 32, 3, 3});
    node.info.attributes["machine"] = machine;
    CHECK(node.run().failed(), "%s", machine.c_str());
  }
  Node node = right_node(find_op(kBlockedDomain, "SimAM", Type::f32), {1, 32, 3, 3});
  node.info.attributes["machine"] = std::string("z80");
  Outcome const outcome = node.run();
  CHECK(outcome.says("specialised for 'z80'") && outcome.says(ort::machine()), "%s", outcome.message().c_str());
  CHECK(handed_out == 0, "%d not released", handed_out);
}

TEST(shapes) {
  int64_t const huge = int64_t{1} << 62;
  struct Case {
    std::vector<int64_t> dims;
    char const* refusal;
  };
  Case const cases[] = {{{}, "got 0 dimensions"},         {{4}, "got 1 dimensions"},
                        {{1, 2, 3}, "got 3 dimensions"},  {{1, 2, 3, 3, 1}, "got 5 dimensions"},
                        {{1, 2, 1, 1}, "1x1 map"},        {{1, 2, 1, 2}, nullptr},
                        {{3, 5, 7, 11}, nullptr},         {{1, 1, 300, 300}, nullptr},
                        {{0, 2, 3, 3}, nullptr},          {{0, 2, 1, 1}, nullptr},
                        {{1, 0, 3, 3}, nullptr},          {{1, 2, 0, 3}, nullptr},
                        {{0, huge, huge, huge}, nullptr}, {{huge, huge, 0, huge}, nullptr},
                        {{huge, 0, huge, huge}, nullptr}};
  for (Case const& c : cases) {
    Node node = right_node(find_op(kDomain, "SimAM", Type::f32), {1, 2, 3, 3});
    node.inputs[0] = Tensor(c.dims, sizeof(float));
    Outcome const outcome = node.run();
    CHECK(outcome.failed() == (c.refusal != nullptr), "rank %zu: %s", c.dims.size(), outcome.message().c_str());
    CHECK(c.refusal == nullptr || outcome.says(c.refusal), "%s", outcome.message().c_str());
  }
  Node node = right_node(find_op(kBlockedDomain, "SimAM", Type::f32), {1, 12, 3, 3});
  CHECK(node.run().says(text("12 channels do not fill blocks of %d", block_here()).c_str()), "blocks");
}

// Inputs 1 to 3 of another rank or length than x asks for.
TEST(other_inputs) {
  std::vector<int64_t> const all[] = {
      {}, {0}, {1}, {4}, {5}, {5, 1}, {1, 5, 1, 1}, {2, 5, 3, 4}, {2, 5, 12}, {2, 5, 3, 4, 1}, {2, 5, 4, 3}};
  for (std::vector<int64_t> const& dims : all)
    for (size_t i = 1; i < 4; ++i) {
      Node node = right_node(find_op(kDomain, "SimAMAffineAddRelu", Type::f32), {2, 5, 3, 4});
      bool const fits = dims == node.inputs[i].value.dims;
      node.inputs[i] = Tensor(dims, sizeof(float));
      Outcome const outcome = node.run();
      CHECK(outcome.failed() != fits, "input %zu of rank %zu: %s", i, dims.size(), outcome.message().c_str());
      char const* const words[] = {"scale must have 5", "bias must have 5", "residual must have"};
      CHECK(fits || outcome.says(words[i - 1]), "%s", outcome.message().c_str());
    }
  Node node = right_node(find_op(kDomain, "SimAMAffineAddRelu", Type::f32), {2, 5, 3, 0});
  node.inputs[3] = Tensor({2, 5, 3}, sizeof(float));
  CHECK(node.run().says("residual must have"), "a residual of the sizes of x, without the last, which is 0");
  CHECK(handed_out == 0, "%d not released", handed_out);
}

// Each call that can fail does, one run after the other: the failure comes back, and nothing is lost.
TEST(failing_calls) {
  for (char const* const name : {"SimAM", "SimAMAffineAddSilu"})
    for (char const* const domain : {kDomain, kBlockedDomain})
      for (int64_t const side : {3, 300}) {
        for (int i = 0;; ++i) {
          Node node = right_node(find_op(domain, name, Type::f32), {1, 16, side, side});
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
}

// y has the sizes of x. -1 is no size: such a one gets a name of its own, in every inference another.
TEST(shape_inference) {
  std::set<std::string> given;
  for_operators([&](std::string const&, OrtCustomOp const* op) {
    OrtShapeInferContext context{{{2, -1, -1, 5}, {"", "channels", "", ""}, op->GetInputType(op, 0)}, {}};
    Outcome const outcome(op->InferOutputShapeFn(op, &context));
    OrtTensorTypeAndShapeInfo const& y = context.output;
    CHECK(!outcome.failed() && context.set && y.dims == context.input.dims, "%s", outcome.message().c_str());
    CHECK(y.type == op->GetOutputType(op, 0), "%s: y has the type %d", op->GetName(op), y.type);
    CHECK(y.names[0].empty() && y.names[1] == "channels" && y.names[3].empty(), "%s", op->GetName(op));
    CHECK(!y.names[2].empty() && given.insert(y.names[2]).second, "'%s' again", y.names[2].c_str());
    CHECK(context.input.names[2].empty(), "x was changed: '%s'", context.input.names[2].c_str());
  });
  CHECK(handed_out == 0, "%d not released", handed_out);
}

// Where the rank is not known, ONNX Runtime says 0 dimensions; y is no scalar then.
TEST(shape_inference_of_another_rank) {
  OrtCustomOp const* const op = find_op(kDomain, "SimAM", Type::f32);
  for (size_t const rank : {0, 1, 3, 5}) {
    OrtShapeInferContext context{{std::vector<int64_t>(rank, -1), std::vector<std::string>(rank)}, {}};
    Outcome const outcome(op->InferOutputShapeFn(op, &context));
    CHECK(!outcome.failed() && !context.set, "rank %zu: %s", rank, outcome.message().c_str());
  }
}

TEST(failing_calls_of_shape_inference) {
  OrtCustomOp const* const op = find_op(kDomain, "SimAM", Type::f32);
  for (int i = 0;; ++i) {
    OrtShapeInferContext context{{{2, 3, -1, 5}, {"", "", "", ""}}, {}};
    calls_to_fail = i;
    Outcome const outcome(op->InferOutputShapeFn(op, &context));
    bool const all_succeeded = calls_to_fail >= 0;
    calls_to_fail = -1;
    CHECK(handed_out == 0, "call %d: %d not released", i, handed_out);
    CHECK(outcome.failed() != all_succeeded && context.set == all_succeeded, "call %d", i);
    if (all_succeeded) {
      CHECK(i == 10, "%d calls", i);
      break;
    }
  }
}

// An ONNX Runtime next to the first: it is refused by its own API, and gets none of the other's domains.
TEST(two_runtimes) {
  registered();
  static int made_by_the_other = 0;
  static OrtApi other = *fake_api();
  other.CreateStatus = [](OrtErrorCode code, char const* message) noexcept {
    ++made_by_the_other;
    return make_status(code, message);
  };
  OrtApiBase const base{[](uint32_t) noexcept -> OrtApi const* { return &other; }, []() noexcept { return "another"; }};
  OrtSessionOptions options;
  Outcome const outcome(RegisterCustomOps(&options, &base));
  CHECK(outcome.says("in use by another ONNX Runtime in this process; give this one a copy of the file"), "%s",
        outcome.message().c_str());
  CHECK(made_by_the_other == 1 && options.domains.empty(), "%d statuses", made_by_the_other);
  CHECK(!Outcome(RegisterCustomOps(&options, fake_base())).failed(), "the first goes on");
}

TEST(unknown_instructions) {
  registered();
  char const* const set = std::getenv("SIMAM_CPU");
  std::string const before = set != nullptr ? set : "";
  OrtSessionOptions options;
  for (std::string const& name : {std::string("avx9"), std::string("AVX2"), std::string(1000, 'z')}) {
    setenv("SIMAM_CPU", name.c_str(), 1);
    Outcome const outcome(RegisterCustomOps(&options, fake_base()));
    CHECK(outcome.says(("SIMAM_CPU is '" + name.substr(0, 40)).c_str()) && outcome.says("this processor has"), "%s",
          outcome.message().c_str());
    for_targets([&](cpu::Target const& target) { CHECK(outcome.says(target.name), "%s", outcome.message().c_str()); });
    CHECK(options.domains.empty(), "it was registered all the same");
  }
  setenv("SIMAM_CPU", "", 1);
  CHECK(!Outcome(RegisterCustomOps(&options, fake_base())).failed(), "set to nothing");
  for_targets([&](cpu::Target const& target) {
    setenv("SIMAM_CPU", target.name, 1);
    CHECK(!Outcome(RegisterCustomOps(&options, fake_base())).failed(), "%s", target.name);
  });
  set != nullptr ? setenv("SIMAM_CPU", before.c_str(), 1) : unsetenv("SIMAM_CPU");
}

TEST(registered_again) {
  OrtSessionOptions options;
  Outcome const outcome(RegisterCustomOps(&options, fake_base()));
  CHECK(!outcome.failed() && options.domains == registered().domains, "%s", outcome.message().c_str());
  calls_to_fail = 1;
  OrtSessionOptions half;
  CHECK(Outcome(RegisterCustomOps(&half, fake_base())).failed() && half.domains.size() == 1, "a domain was refused");
  calls_to_fail = -1;
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
