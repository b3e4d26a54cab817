// The operators for CUDA on a fake ONNX Runtime and fakes of the kernels: what reaches the kernels, what is refused.
#include <limits>

#include "fake_cuda.h"
#include "node.h"

namespace simam::test {
namespace {

constexpr char const* kCuda = ort::CudaOp::kProvider;
constexpr Type kDeviceTypes[] = {Type::f32, Type::f16, Type::bf16};

int dummy = 0;
void* const kStream = &dummy;

// A node for CUDA that is right, on a stream, with everything that was written down before forgotten.
Node cuda_node(char const* name, Type type, std::vector<int64_t> const& dims) {
  fake_cuda = {};
  asked.clear();
  Node node = right_node(find_op(kDomain, name, type, kCuda), dims);
  node.stream = kStream;
  return node;
}

int activation_of(Activation activation) {
  return activation == Activation::relu ? SIMAM_RELU : activation == Activation::silu ? SIMAM_SILU : SIMAM_NONE;
}

// By the name that ONNX Runtime has built in, and by that of the plugin.
TEST(all_providers) {
  size_t count = 0, plugin = 0;
  for (OrtCustomOpDomain const* const domain : registered().domains)
    for (OrtCustomOp const* const op : domain->operators)
      if (std::string const provider = op->GetExecutionProviderType(op); provider != ort::CpuOp::kProvider) {
        ++(provider == "CudaPluginExecutionProvider" ? plugin : count);
        CHECK(provider == "CUDAExecutionProvider" || provider == "CudaPluginExecutionProvider", "%s", provider.c_str());
        CHECK(domain->name == kDomain && !op_of(op).blocked, "%s", domain->name.c_str());
        OrtCustomOp const* const other = find_op(kDomain, op->GetName(op), op_of(op).type);
        CHECK(other != nullptr && other != op, "%s is not there for the CPU", op->GetName(op));
        size_t const inputs = op->GetInputTypeCount(op);
        CHECK(inputs == other->GetInputTypeCount(other), "%zu inputs", inputs);
        for (size_t i = 0; i < inputs; ++i)
          CHECK(op->GetInputType(op, i) == other->GetInputType(other, i) &&
                    op->GetInputMemoryType(op, i) == OrtMemTypeDefault,
                "%s input %zu", op->GetName(op), i);
        int* from = nullptr;
        int* to = nullptr;
        CHECK(op->GetMayInplace(&from, &to) == 1 && from[0] == 0 && to[0] == 0, "%s", op->GetName(op));
        op->ReleaseMayInplace(from, to);
      }
  size_t const wanted = std::size(kOps) * std::size(kDeviceTypes);
  CHECK(count == wanted && plugin == wanted, "%zu operators, %zu for the plugin", count, plugin);
  Node node = cuda_node("SimAMAffine", Type::f16, {2, 6, 5, 7});
  node.op = find_op(kDomain, "SimAMAffine", Type::f16, ort::CudaOp::kPluginProvider);
  CHECK(!node.run().failed() && fake_cuda.launches.size() == 1, "the plugin's operator does not run");
}

TEST(what_is_launched) {
  int const types[] = {SIMAM_F32, SIMAM_F16, SIMAM_BF16};
  for (Op const& op : kOps)
    for (size_t t = 0; t < std::size(kDeviceTypes); ++t)
      for (bool const on_x : {false, true}) {
        Node node = cuda_node(op.name, kDeviceTypes[t], {2, 6, 5, 7});
        node.info.attributes[kLambda] = 0.1F;
        node.on_x = on_x;
        Outcome const outcome = node.run();
        CHECK(!outcome.failed(), "%s: %s", op.name, outcome.message().c_str());
        CHECK(fake_cuda.launches.size() == 1 && fake_cuda.prepared == 1, "%zu", fake_cuda.launches.size());
        if (fake_cuda.launches.size() != 1) continue;
        SimamParams const& p = fake_cuda.launches[0].params;
        CHECK(fake_cuda.launches[0].stream == kStream, "%s: another stream", op.name);
        CHECK(p.type == types[t] && p.activation == activation_of(op.activation), "%s: %d %d", op.name,
              static_cast<int>(p.type), static_cast<int>(p.activation));
        CHECK(p.tactic == SIMAM_AUTOMATIC && p.group == 1, "%s", op.name);
        CHECK(p.x == node.inputs[0].memory.data(), "%s: x", op.name);
        CHECK(p.y == (on_x ? node.inputs[0].memory.data() : node.output.data()), "%s: y", op.name);
        auto const input = [&](bool there, size_t i) { return there ? node.inputs[i].memory.data() : nullptr; };
        CHECK(static_cast<void const*>(p.scale) == input(op.affine, 1), "%s: scale", op.name);
        CHECK(static_cast<void const*>(p.bias) == input(op.affine, 2), "%s: bias", op.name);
        CHECK(p.residual == input(op.residual, node.inputs.size() - 1), "%s: residual", op.name);
        CHECK(p.images == 2 && p.channels == 6 && p.pixels == 35, "%s: sizes", op.name);
        CHECK(p.lambda == 0.1F && p.x_scale == 1 && p.residual_scale == 1 && p.y_scale == 1, "%s: numbers", op.name);
        CHECK(p.workspace == nullptr && p.workspace_size == 0 && asked.empty(), "%s: memory was asked for", op.name);
      }
  Node node = cuda_node("SimAM", Type::f32, {2, 6, 5, 7});
  CHECK(!node.run().failed() && fake_cuda.launches[0].params.lambda == kDefaultLambda, "the default of e_lambda");
  node = cuda_node("SimAM", Type::f32, {2, 6, 5, 7});
  node.stream = nullptr;
  CHECK(!node.run().failed() && fake_cuda.launches[0].stream == nullptr, "no stream: the provider's business");
  CHECK(handed_out == 0, "%d not released", handed_out);
}

// The output may be written where the output lies: with a stream as scratch, which waits for it, without as memory.
TEST(workspace) {
  for (bool const stream : {true, false}) {
    Node node = cuda_node("SimAMAffineAddRelu", Type::f16, {2, 6, 5, 7});
    fake_cuda.workspace = [](SimamParams const&) -> size_t { return 144; };
    node.stream = stream ? kStream : nullptr;
    Outcome const outcome = node.run();
    CHECK(!outcome.failed(), "%s", outcome.message().c_str());
    CHECK(asked.size() == 1 && asked[0].bytes == 144 && asked[0].scratch == stream, "%zu asked", asked.size());
    CHECK(asked[0].place != &node.inputs[0].value.memory, "memory next to the input");
    SimamParams const& p = fake_cuda.launches[0].params;
    CHECK(p.workspace != nullptr && p.workspace_size == 144, "%zu", p.workspace_size);
    CHECK(handed_out == 0, "%d not released", handed_out);
    fake_cuda.launch_error = 1;
    CHECK(node.run().failed() && handed_out == 0, "%d not released", handed_out);
  }
}

TEST(errors_of_cuda) {
  Node node = cuda_node("SimAMAffine", Type::f32, {2, 6, 5, 7});
  fake_cuda.launch_error = 700;
  Outcome const launched = node.run();
  CHECK(launched.says("SimAMAffine of x of shape (2, 6, 5, 7): the GPU's kernel failed: cudaError_t 700"), "%s",
        launched.message().c_str());
  node = cuda_node("SimAMAffine", Type::f32, {2, 6, 5, 7});
  fake_cuda.prepare_error = 209;
  Outcome const prepared = node.run();
  CHECK(prepared.says("SimAMAffine: its kernels cannot be loaded into this GPU: cudaError_t 209"), "%s",
        prepared.message().c_str());
  CHECK(fake_cuda.launches.empty() && handed_out == 0, "%d not released", handed_out);
}

// In the words of the CPU: both read a node with the same code, and each must call it.
TEST(refusals_are_those_of_the_cpu) {
  struct Case {
    char const* name;
    size_t input;
    std::vector<int64_t> dims;
    std::variant<float, int64_t, std::string> lambda;
    char const* words;
  };
  float const inf = std::numeric_limits<float>::infinity();
  std::vector<int64_t> const right{2, 5, 3, 4};
  Case const cases[] = {{"SimAM", 0, {2, 5, 1, 1}, 0.1F, "1x1 map is 0/0"},
                        {"SimAM", 0, {5, 3, 4}, 0.1F, "got 3 dimensions"},
                        {"SimAM", 0, {2, 5, 3, 4, 1}, 0.1F, "got 5 dimensions"},
                        {"SimAMAffine", 1, {4}, 0.1F, "scale must have 5 elements"},
                        {"SimAMAffine", 2, {5, 1}, 0.1F, "bias must have 5 elements"},
                        {"SimAMAffineAdd", 3, {2, 5, 4, 3}, 0.1F, "residual must have the shape of x"},
                        {"SimAM", 0, right, -1e-9F, "e_lambda is -1e-09"},
                        {"SimAM", 0, right, inf, "finite"},
                        {"SimAM", 0, right, std::nanf(""), "finite"},
                        {"SimAM", 0, right, int64_t{1}, "e_lambda must be a float"}};
  for (Case const& c : cases) {
    std::string messages[2];
    for (char const* const provider : {kCuda, ort::CpuOp::kProvider}) {
      Node node = cuda_node(c.name, Type::f32, right);
      node.op = find_op(kDomain, c.name, Type::f32, provider);
      node.inputs[c.input] = Tensor(c.dims, sizeof(float));
      node.info.attributes[kLambda] = c.lambda;
      messages[provider == kCuda] = node.run().message();
      CHECK(fake_cuda.launches.empty(), "%s: launched all the same", c.words);
    }
    CHECK(messages[0] == messages[1] && messages[1].find(c.words) != std::string::npos, "'%s', on the CPU '%s'",
          messages[1].c_str(), messages[0].c_str());
  }
}

TEST(nothing_to_do) {
  for (std::vector<int64_t> const& dims :
       {std::vector<int64_t>{0, 2, 1, 1}, {1, 0, 3, 3}, {1, 2, 0, int64_t{1} << 62}}) {
    Node node = cuda_node("SimAM", Type::f32, dims);
    fake_cuda.workspace = [](SimamParams const&) -> size_t { return 16; };
    CHECK(!node.run().failed() && fake_cuda.launches.empty() && asked.empty(), "an empty x");
  }
}

// Each call that can fail does, one run after the other: the failure comes back, and nothing is lost.
TEST(failing_calls) {
  for (int i = 0;; ++i) {
    Node node = cuda_node("SimAMAffineAddSilu", Type::f32, {1, 16, 3, 3});
    fake_cuda.workspace = [](SimamParams const&) -> size_t { return 1000; };
    node.info.attributes[kLambda] = 0.1F;
    calls_to_fail = i;
    Outcome const outcome = node.run();
    bool const all_succeeded = calls_to_fail >= 0;
    calls_to_fail = -1;
    CHECK(handed_out == 0, "call %d: %d not released", i, handed_out);
    if (all_succeeded) {
      CHECK(!outcome.failed() && i > 15, "%d calls: %s", i, outcome.message().c_str());
      break;
    }
    CHECK(outcome.failed() && fake_cuda.launches.empty(), "call %d failed and nobody noticed", i);
  }
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
