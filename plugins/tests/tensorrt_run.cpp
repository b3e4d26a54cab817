// What an execution context asks: what reaches the kernels is what was said.
#include "tensorrt_host.h"
#include "tensorrt_layouts.h"

namespace simam::test {
namespace {

alignas(16) char memory[6][64];

int activation_of(Op const& op) {
  std::string const name = op.name;
  auto const ends = [&](char const* with) {
    size_t const length = std::strlen(with);
    return name.size() > length && name.compare(name.size() - length, length, with) == 0;
  };
  return ends("Relu") ? SIMAM_RELU : ends("Silu") ? SIMAM_SILU : SIMAM_NONE;
}

// Runs a node: input i is memory[i], y is memory[4], the workspace memory[5].
int32_t run(Made const& made, std::vector<PluginTensorDesc> const& all) {
  void const* inputs[] = {memory[0], memory[1], memory[2], memory[3]};
  void* outputs[] = {memory[4]};
  return made.runtime->enqueue(all.data(), &all.back(), inputs, outputs, memory[5],
                               reinterpret_cast<cudaStream_t>(memory[0] + 1));
}

int32_t change(Made const& made, std::vector<PluginTensorDesc> const& all) {
  return made.runtime->onShapeChange(all.data(), static_cast<int32_t>(all.size()) - 1, &all.back(), 1);
}

// The object that a context has: of an engine that was loaded, or as it was built.
Made attach(Op const& op, bool quantised, float lambda) {
  Made const made = make(op, quantised, lambda);
  if (!made.plugin) return Made(nullptr);
  FieldValues kept = fields_for(op, quantised, lambda);
  kept.i32("version", 1);
  Made const loaded(creator_of(op).createPlugin("block", kept.get(), TensorRTPhase::kRUNTIME));
  CHECK(loaded.plugin != nullptr, "%s", op.name);
  return Made(loaded.plugin ? loaded.runtime->attachToContext(nullptr) : nullptr);
}

TEST(parameters) {
  for (Op const& op : kOps)
    for (ExpectedLayout const& layout : kExpected)
      for (int const channels : {5, 33})
        for (int rank = 3; rank <= 5; ++rank) {
          if (!has_rank(layout, rank)) continue;
          fake_cuda = {};
          bool const quantised = layout.type == DataType::kINT8;
          Made const made = attach(op, quantised, 0.3F);
          CHECK(made.plugin && fake_cuda.prepared == 1, "%s: the kernels are loaded before the first run", op.name);
          if (!made.plugin) continue;
          std::vector<int64_t> x{2, channels, 3};
          for (int i = 3; i < rank; ++i) x.push_back(i + 4);  // 3; 3 x 7; 3 x 7 x 8
          int64_t const pixels = rank == 3 ? 3 : rank == 4 ? 21 : 168;
          auto const all = tensors_of(op, x, layout.type, layout.format);
          int32_t const tactic = 1 + rank % 3;
          CHECK(change(made, all) == 0 && made.runtime->setTactic(tactic) == 0 && run(made, all) == 0, "%s", op.name);
          CHECK(quiet(), "%s", op.name);
          CHECK(fake_cuda.launches.size() == 1, "%zu", fake_cuda.launches.size());
          if (fake_cuda.launches.size() != 1) continue;
          SimamParams const& p = fake_cuda.launches[0].params;
          CHECK(fake_cuda.launches[0].stream == memory[0] + 1, "the stream");
          CHECK(p.type == layout.simam_type && p.activation == activation_of(op) && p.tactic == tactic, "%d %d %d",
                p.type, p.activation, p.tactic);
          CHECK(p.group == (channels == 5 ? layout.group_of_5 : layout.group_of_33), "%s: type %d format %d: %d",
                op.name, static_cast<int>(layout.type), static_cast<int>(layout.format), p.group);
          CHECK(p.images == 2 && p.channels == channels && p.pixels == pixels, "%d x %d x %d",
                static_cast<int>(p.images), static_cast<int>(p.channels), static_cast<int>(p.pixels));
          CHECK(p.x == memory[0] && p.y == memory[4], "x, y");
          CHECK(static_cast<void const*>(p.scale) == (op.affine ? memory[1] : nullptr), "scale");
          CHECK(static_cast<void const*>(p.bias) == (op.affine ? memory[2] : nullptr), "bias");
          CHECK(p.residual == (op.residual ? memory[op.affine ? 3 : 1] : nullptr), "residual");
          CHECK(p.lambda == 0.3F, "%g", static_cast<double>(p.lambda));
          CHECK(p.x_scale == (quantised ? kX : 0) && p.y_scale == (quantised ? kY : 0), "scales");
          CHECK(p.residual_scale == (quantised && op.residual ? kResidual : 0), "residual_scale");
          CHECK(p.workspace == memory[5], "workspace");
          CHECK(p.workspace_size == (tactic == SIMAM_SPLIT ? static_cast<size_t>(2 * channels * 12) : 0), "%zu",
                p.workspace_size);
        }
  fake_cuda = {};
}

// A plugin with scales is one for float types as well.
TEST(scales_of_floats) {
  Made const made = make(op_named("SimAM"), true);
  CHECK(made.plugin && run(made, tensors_of(op_named("SimAM"), {1, 5, 3, 3}, DataType::kHALF)) == 0, "float16");
  CHECK(fake_cuda.launches.size() == 1 && fake_cuda.launches[0].params.type == SIMAM_F16 && quiet(), "float16");
  fake_cuda = {};
}

TEST(chosen_tactics) {
  Op const& op = op_named("SimAMAffineAdd");
  for (int32_t tactic = SIMAM_AUTOMATIC; tactic <= SIMAM_SPLIT; ++tactic)
    for (bool const accepted : {true, false}) {
      fake_cuda = {};
      if (!accepted) fake_cuda.accepts = [](SimamParams const&) { return false; };
      Made const made = make(op);
      if (!made.plugin) continue;
      auto const all = tensors_of(op, {2, 5, 6, 7}, DataType::kFLOAT);
      CHECK(made.runtime->setTactic(tactic) == 0, "%d", tactic);
      Made const copy(made.plugin->clone());
      for (Made const* const each : {&made, &copy}) {
        CHECK(run(*each, all) == 0 && !fake_cuda.launches.empty() && quiet(), "%d", tactic);
        int32_t const ran = fake_cuda.launches.back().params.tactic;
        CHECK(ran == (accepted ? tactic : 0), "tactic %d, and %d ran", tactic, ran);
        size_t const room = fake_cuda.launches.back().params.workspace_size;
        CHECK(room == (ran == SIMAM_SPLIT ? 2 * 5 * 12 : 0), "of the tactic that runs: %zu", room);
      }
      // It is asked about what will run: the pointers count by their alignment.
      for (SimamParams const& p : fake_cuda.asked)
        CHECK(p.x == memory[0] && p.y == memory[4] && p.residual == memory[3] && p.tactic == tactic, "%d", p.tactic);
      CHECK(fake_cuda.asked.empty() == (tactic == SIMAM_AUTOMATIC), "%zu", fake_cuda.asked.size());
    }
  fake_cuda = {};
  Made const made = make(op);
  for (int32_t const tactic : {-1, 4, 1 << 30})
    CHECK(made.runtime->setTactic(tactic) != 0 && complained(text("there is no tactic %d", tactic).c_str()), "%d",
          tactic);
}

// Shapes that change between runs: nothing of the one is left in the next.
TEST(changing_shapes) {
  Op const& op = op_named("SimAM");
  Made const made = attach(op, false, 0.1F);
  if (!made.plugin) return;
  fake_cuda = {};
  for (int64_t const side : {3, 64, 5}) {
    auto const all = tensors_of(op, {side, 5, side, side}, DataType::kHALF, Format::kHWC8);
    CHECK(change(made, all) == 0 && run(made, all) == 0 && quiet(), "%d", static_cast<int>(side));
    CHECK(fake_cuda.launches.back().params.images == side && fake_cuda.launches.back().params.pixels == side * side,
          "%d", static_cast<int>(side));
  }
  std::vector<int64_t> const nothing[] = {{0, 5, 3, 3}, {2, 0, 3, 3}, {2, 5, 0, 3}, {0, 5, 1, 1}};
  for (std::vector<int64_t> const& none : nothing) {
    auto const all = tensors_of(op, none, DataType::kFLOAT);
    CHECK(change(made, all) == 0 && run(made, all) == 0 && fake_cuda.launches.size() == 3 && quiet(), "nothing to do");
  }
  fake_cuda = {};
}

TEST(refused_runs) {
  Op const& op = op_named("SimAMAffineAddRelu");
  Made const made = make(op);
  if (!made.plugin) return;
  auto const good = tensors_of(op, {2, 5, 3, 4}, DataType::kFLOAT);
  using All = std::vector<PluginTensorDesc>;
  auto const refused = [&](auto how, char const* words) {
    All all = good;
    how(all);
    CHECK(change(made, all) != 0 && complained(words), "onShapeChange: %s", words);
    CHECK(run(made, all) != 0 && complained(words), "enqueue: %s", words);
  };
  CHECK(change(made, good) == 0 && quiet(), "as it should be");
  refused([](All& a) { a[0].dims = dims_of({2, 5}); }, "it has 2");
  refused([](All& a) { a[0].dims.nbDims = -1; }, "it has -1");
  refused([](All& a) { a[0].dims.nbDims = 1000; }, "it has 1000");
  refused([](All& a) { a[0].dims = a[3].dims = dims_of({2, 5, 1, 1}); }, "1x1 map");
  refused([](All& a) { a[0].type = DataType::kINT8; }, "no scales");
  refused([](All& a) { a[0].type = DataType::kINT64; }, "type 8 in its format 0");
  refused([](All& a) { a[0].type = static_cast<DataType>(99); }, "type 99");
  refused([](All& a) { a[0].format = static_cast<Format>(99); }, "format 99");
  refused([](All& a) { a[1].dims = dims_of({6}); }, "scale must have one dimension of 5");
  refused([](All& a) { a[2].dims = dims_of({1, 5}); }, "bias must have one dimension of 5");
  refused([](All& a) { a[1].type = DataType::kBF16; }, "scale must be float32");
  refused([](All& a) { a[3].dims = dims_of({2, 5, 4, 3}); }, "residual must have the shape of x");
  refused([](All& a) { a[3].type = DataType::kHALF; }, "residual must be of the type");
  refused([](All& a) { a[4].type = DataType::kHALF; }, "y must be of the type");
  CHECK(made.runtime->onShapeChange(good.data(), 3, &good.back(), 1) != 0 && complained("takes 4 inputs"), "3 inputs");
  All unknown = good;
  for (PluginTensorDesc& one : unknown) one.dims.d[0] = -1;
  CHECK(run(made, unknown) != 0 && complained("a size of x is not known"), "-1 images");
  CHECK(fake_cuda.launches.empty(), "%zu ran", fake_cuda.launches.size());
}

TEST(failing_kernels) {
  Op const& op = op_named("SimAM");
  Made const made = make(op);
  if (!made.plugin) return;
  auto const all = tensors_of(op, {2, 5, 3, 4}, DataType::kHALF, Format::kHWC8);
  auto const profile = fixed(op, {2, 5, 3, 4}, DataType::kHALF);
  fake_cuda.launch_error = 719;
  CHECK(run(made, all) == 719 && complained("cudaError 719, at N, C, H*W = 2, 5, 12, group 8, tactic 0"), "launch");
  fake_cuda.prepare_error = 209;
  CHECK(made.runtime->attachToContext(nullptr) == nullptr && complained("do not load into this device: cudaError 209"),
        "prepare");
  fake_cuda.throws = true;
  CHECK(run(made, all) != 0 && complained("enqueue: an exception"), "enqueue");
  CHECK(made.runtime->attachToContext(nullptr) == nullptr && complained("attachToContext: an exception"), "attach");
  CHECK(made.build->configurePlugin(profile.data(), 1, &profile[1], 1) != 0 && complained("configurePlugin: an exc"),
        "configurePlugin");
  CHECK(made.build->getWorkspaceSize(profile.data(), 1, &profile[1], 1) == 0 && complained("getWorkspaceSize: an"),
        "getWorkspaceSize");
  fake_cuda = {};
}

}  // namespace
}  // namespace simam::test
