// What a builder asks: types, formats, shapes, tactics, workspace.
#include <iterator>

#include "tensorrt_host.h"
#include "tensorrt_layouts.h"

namespace simam::test {
namespace {

constexpr int kTypes = 16, kFormats = 16;  // beyond what any header has

TEST(formats) {
  for (Op const& op : kOps)
    for (bool const quantised : {false, true}) {
      Made const made = make(op, quantised);
      if (!made.plugin) continue;
      int32_t const count = inputs_of(op);
      for (size_t rank = 0; rank <= 8; ++rank)
        for (int t = 0; t < kTypes; ++t)
          for (int f = 0; f < kFormats; ++f) {
            auto const type = static_cast<DataType>(t);
            auto const format = static_cast<Format>(f);
            // -1: sizes are not known when this is asked. What is behind the position that is asked for is not set.
            std::vector<DynamicPluginTensorDesc> all(static_cast<size_t>(count) + 1);
            for (auto& one : all) one.desc = {dims_of({}), static_cast<DataType>(77), static_cast<Format>(77), 0};
            all[0].desc = tensor(std::vector<int64_t>(rank, -1), type, format);
            bool const wanted =
                expected_group(type, format, static_cast<int>(rank), 5) > 0 && (type != DataType::kINT8 || quantised);
            bool const got = made.build->supportsFormatCombination(0, all.data(), count, 1);
            CHECK(got == wanted, "%s, x of rank %zu: type %d in format %d", op.name, rank, t, f);
            if (!got) continue;
            for (int32_t i = 1; i <= count; ++i) {  // the others, in each type and format
              bool const parameter = op.affine && i < 3;
              auto& one = all[static_cast<size_t>(i)].desc;
              for (int t2 = 0; t2 < kTypes; ++t2)
                for (int f2 = 0; f2 < kFormats; ++f2) {
                  one = tensor(std::vector<int64_t>(parameter ? 1 : rank, -1), static_cast<DataType>(t2),
                               static_cast<Format>(f2));
                  bool const fits =
                      parameter ? one.type == DataType::kFLOAT && one.format == Format::kLINEAR : t2 == t && f2 == f;
                  CHECK(made.build->supportsFormatCombination(i, all.data(), count, 1) == fits,
                        "%s, tensor %d: type %d in format %d, x has %d in %d", op.name, i, t2, f2, t, f);
                }
              one = parameter ? tensor({-1}, DataType::kFLOAT) : all[0].desc;
            }
          }
      CHECK(quiet(), "%s: to say no is no error", op.name);
      std::vector<DynamicPluginTensorDesc> all = fixed(op, {2, 5, 3, 4}, DataType::kFLOAT);
      for (int32_t const position : {-1, count + 1})
        CHECK(!made.build->supportsFormatCombination(position, all.data(), count, 1), "position %d", position);
      CHECK(!made.build->supportsFormatCombination(0, all.data(), count + 1, 1) && complained("inputs (x"), "inputs");
      CHECK(!made.build->supportsFormatCombination(0, all.data(), count, 2) && complained("gives 1 output"), "outputs");
    }
}

TEST(output_types) {
  for (Op const& op : kOps)
    for (bool const quantised : {false, true}) {
      Made const made = make(op, quantised);
      if (!made.plugin) continue;
      int32_t const count = inputs_of(op);
      for (int t = 0; t < kTypes; ++t) {
        auto const type = static_cast<DataType>(t);
        std::vector<DataType> inputs(static_cast<size_t>(count), type);
        if (op.affine) inputs[1] = inputs[2] = DataType::kFLOAT;
        bool const float_type = type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
        bool const wanted = float_type || (type == DataType::kINT8 && quantised);
        DataType output{};
        bool const got = made.build->getOutputDataTypes(&output, 1, inputs.data(), count) == 0;
        CHECK(got == wanted, "%s: type %d", op.name, t);
        if (got) {
          CHECK(output == type && quiet(), "%s: type %d", op.name, t);
        } else {
          CHECK(
              complained(type == DataType::kINT8 ? "x is int8 and the plugin has no scales; give it the fields x_scale"
                                                 : "must be float32, float16, bfloat16 or int8"),
              "%s: type %d", op.name, t);
        }
        for (int32_t i = 1; wanted && i < count; ++i) {
          std::vector<DataType> other = inputs;
          auto& changed = other[static_cast<size_t>(i)];
          changed = changed == DataType::kHALF ? DataType::kFLOAT : DataType::kHALF;
          CHECK(made.build->getOutputDataTypes(&output, 1, other.data(), count) != 0, "%s: input %d", op.name, i);
          CHECK(complained(!op.affine || i > 2 ? "residual must be of the type of x"
                           : i == 1            ? "scale must be float32"
                                               : "bias must be float32"),
                "%s", op.name);
        }
        CHECK(made.build->getOutputDataTypes(&output, 1, inputs.data(), count - 1) != 0 &&
                  complained(text("takes %d inputs (x", count).c_str()),
              "%s", op.name);
        CHECK(made.build->getOutputDataTypes(&output, 2, inputs.data(), count) != 0 && complained("gives 1 output"),
              "%s", op.name);
      }
    }
}

// The shapes of all inputs; -1 is a size that is not constant.
struct Shapes {
  std::vector<std::vector<int64_t>> inputs;
  char const* refusal;
};

int32_t infer(Made const& made, Shapes const& shapes, bool& same) {
  std::vector<std::unique_ptr<Dimension>> owned;
  std::vector<DimsExprs> inputs;
  for (auto const& sizes : shapes.inputs) {
    DimsExprs dims{};
    dims.nbDims = static_cast<int32_t>(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
      owned.push_back(std::make_unique<Dimension>(sizes[i]));
      dims.d[i] = owned.back().get();
    }
    inputs.push_back(dims);
  }
  DimsExprs output{};
  Builder builder;
  auto const count = static_cast<int32_t>(inputs.size());
  int32_t const code = made.build->getOutputShapes(inputs.data(), count, nullptr, 0, &output, 1, builder);
  same = output.nbDims == inputs[0].nbDims;
  for (int32_t i = 0; same && i < output.nbDims; ++i) same = output.d[i] == inputs[0].d[i];
  return code;
}

TEST(shapes) {
  int64_t const huge = int64_t{1} << 62;
  Shapes const alone[] = {{{{2, 5, 3, 4}}, nullptr},
                          {{{2, 5, 12}}, nullptr},
                          {{{2, 5, 2, 2, 3}}, nullptr},
                          {{{-1, -1, -1, -1}}, nullptr},
                          {{{-1, 5, 1, -1}}, nullptr},
                          {{{1, 1, 1, 2}}, nullptr},
                          {{{1, 5, 1, 1}}, "1x1 map"},
                          {{{-1, -1, 1, 1}}, "1x1 map"},
                          {{{2, 5, 1}}, "1x1 map"},
                          {{{2, 5, 1, 1, 1}}, "1x1 map"},
                          {{{0, 5, 1, 1}}, nullptr},
                          {{{2, 5, 0, 1}}, nullptr},
                          {{{2, 5, -1, 0}}, nullptr},
                          {{{}}, "it has 0"},
                          {{{5}}, "it has 1"},
                          {{{2, 5}}, "3, 4 or 5 dimensions, as in (N, C, H, W); it has 2"},
                          {{{1, 2, 3, 4, 5, 6}}, "it has 6"},
                          {{{1, 2, 3, 4, 5, 6, 7, 8}}, "it has 8"},
                          {{{1, 1, huge, huge}}, "beyond 64 bits"},
                          {{{1, 1, huge, huge, 0}}, nullptr},
                          {{{2, 5, 3, 4}, {5}}, "takes 1 inputs (x) and gives 1 output; there are 2"},
                          {{{2, 5, 3, 4}, {5}, {5}, {2, 5, 3, 4}}, "there are 4"}};
  Shapes const whole[] = {{{{2, 5, 3, 4}, {5}, {5}, {2, 5, 3, 4}}, nullptr},
                          {{{-1, 5, -1, -1}, {5}, {5}, {-1, 5, -1, -1}}, nullptr},
                          {{{2, -1, 3, 4}, {5}, {-1}, {2, 7, 3, -1}}, nullptr},
                          {{{2, 5, 3, 4}, {4}, {5}, {2, 5, 3, 4}}, "scale must have one dimension of 5"},
                          {{{2, 5, 3, 4}, {5}, {1}, {2, 5, 3, 4}},
                           "bias must have one dimension of 5, one element for each channel of x; it has 1, of 1"},
                          {{{2, 5, 3, 4}, {1, 5, 1, 1}, {5}, {2, 5, 3, 4}}, "scale must have one dimension"},
                          {{{2, 5, 3, 4}, {5}, {}, {2, 5, 3, 4}}, "bias must have one dimension"},
                          {{{2, 5, 3, 4}, {5, 1}, {5}, {2, 5, 3, 4}}, "it has 2, the first of 5"},
                          {{{2, 5, 3, 4}, {5}, {5}, {2, 5, 3, 4, 1}}, "residual must have the shape of x"},
                          {{{2, 5, 2, 2, 3}, {5}, {5}, {2, 5, 2, 2, 4}}, "residual must have the shape of x"},
                          {{{2, 5, 3, 4}, {5}, {5}, {2, 5, 4, 3}}, "residual must have the shape of x"},
                          {{{2, 5, 3, 4}, {5}, {5}, {1, 5, 3, 4}}, "no broadcasting"},
                          {{{2, 5, 3, 4}, {5}, {5}, {2, 5, 12}}, "residual must have"},
                          {{{2, 5, 3, 4}, {5}, {5}}, "takes 4 inputs (x, scale, bias, residual)"}};
  auto const check = [](Op const& op, Shapes const& shapes) {
    Made const made = make(op);
    if (!made.plugin) return;
    bool same = false;
    int32_t const code = infer(made, shapes, same);
    CHECK((code != 0) == (shapes.refusal != nullptr), "%s: %s", op.name, shapes.refusal);
    if (shapes.refusal == nullptr) {
      CHECK(same && quiet(), "%s: y is not of x's dimensions", op.name);
    } else {
      CHECK(complained(shapes.refusal), "%s", op.name);
    }
  };
  for (Shapes const& shapes : alone) check(op_named("SimAM"), shapes);
  for (Shapes const& shapes : whole) check(op_named("SimAMAffineAddSilu"), shapes);
}

std::vector<int32_t> tactics_of(Made const& made) {
  std::vector<int32_t> tactics(static_cast<size_t>(made.build->getNbTactics()), -1);
  CHECK(made.build->getValidTactics(tactics.data(), static_cast<int32_t>(tactics.size())) == 0, "tactics");
  return tactics;
}

int32_t configure(Made const& made, std::vector<DynamicPluginTensorDesc> const& all) {
  auto const count = static_cast<int32_t>(all.size()) - 1;
  return made.build->configurePlugin(all.data(), count, &all.back(), 1);
}

TEST(tactics) {
  for (Op const& op : kOps) {
    fake_cuda = {};
    Made const made = make(op);
    if (!made.plugin) continue;
    CHECK(tactics_of(made).empty(), "before a profile is known");
    auto const all = profile_of(op, {1, 5, 7, 7}, {2, 5, 20, 20}, {8, 5, 64, 64}, DataType::kHALF, Format::kHWC8);
    CHECK(configure(made, all) == 0 && tactics_of(made) == (std::vector<int32_t>{1, 2, 3}), "%s", op.name);
    bool seen[3] = {};
    for (SimamParams const& p : fake_cuda.asked) {
      CHECK(p.type == SIMAM_F16 && p.group == 8 && p.channels == 5, "%d %d", p.type, p.group);
      seen[0] |= p.images == 1 && p.pixels == 49;
      seen[1] |= p.images == 2 && p.pixels == 400;
      seen[2] |= p.images == 8 && p.pixels == 4096;
    }
    CHECK(seen[0] && seen[1] && seen[2], "%s: a shape of the profile was not asked about", op.name);
    // One that refuses one shape of the profile is none.
    fake_cuda.accepts = [](SimamParams const& p) {
      return p.tactic == SIMAM_REGISTERS ? p.pixels < 4096 : p.tactic == SIMAM_CLUSTER ? p.pixels > 49 : true;
    };
    CHECK(configure(made, all) == 0 && tactics_of(made) == std::vector<int32_t>{3}, "%s", op.name);
    auto const small = fixed(op, {1, 5, 7, 7}, DataType::kHALF);
    CHECK(configure(made, small) == 0 && tactics_of(made) == (std::vector<int32_t>{1, 3}), "%s", op.name);
    std::unique_ptr<IPluginV3> clone(made.plugin->clone());
    CHECK(tactics_of(Made(clone.release())) == (std::vector<int32_t>{1, 3}), "%s: cloned", op.name);
    fake_cuda.accepts = [](SimamParams const& p) { return p.tactic == SIMAM_CLUSTER && p.pixels == 400; };
    CHECK(configure(made, all) == 0 && tactics_of(made).empty(), "%s: then TensorRT takes 0, the automatic", op.name);
    CHECK(quiet(), "%s", op.name);
    int32_t room[2] = {-7, -7};
    CHECK(made.build->getValidTactics(room, 2) != 0 && room[0] == -7, "%s", op.name);
    CHECK(complained("there are 0 tactics, and room for 2"), "%s", op.name);
    // Sizes that are not known yet, and none at all: the kernels are not asked, and would say yes.
    fake_cuda = {};
    auto unknown = fixed(op, {2, 5, -1, -1}, DataType::kFLOAT);
    CHECK(configure(made, unknown) == 0 && tactics_of(made).empty() && quiet(), "%s: unknown", op.name);
    for (auto& one : unknown) one.min = one.opt = one.max = Dims{};
    CHECK(configure(made, unknown) == 0 && tactics_of(made).empty() && quiet(), "%s: no profile", op.name);
    CHECK(configure(made, fixed(op, {0, 5, 3, 3}, DataType::kFLOAT)) == 0 && tactics_of(made).empty() && quiet(),
          "%s: empty", op.name);
    CHECK(fake_cuda.asked.empty(), "%s: %zu asked", op.name, fake_cuda.asked.size());
    CHECK(configure(made, profile_of(op, {0, 5, 3, 3}, {2, 5, 3, 3}, {4, 5, 3, 3}, DataType::kFLOAT)) == 0 && quiet() &&
              tactics_of(made) == (std::vector<int32_t>{1, 2, 3}) && fake_cuda.asked.size() == 6,
          "%s: a profile that begins with nothing: %zu asked", op.name, fake_cuda.asked.size());
  }
  fake_cuda = {};
}

TEST(refused_profiles) {
  Op const& op = op_named("SimAMAffineAddRelu");
  Made const made = make(op);
  if (!made.plugin) return;
  auto const good = fixed(op, {2, 5, 3, 4}, DataType::kFLOAT);
  auto const refused = [&](auto change, char const* words) {
    auto all = good;
    change(all);
    CHECK(configure(made, all) != 0 && complained(words), "%s", words);
  };
  using All = std::vector<DynamicPluginTensorDesc>;
  CHECK(configure(made, good) == 0 && quiet(), "as it should be");
  CHECK(configure(made, profile_of(op, {1, 5, 1, 1}, {2, 5, 4, 4}, {2, 5, 8, 8}, DataType::kFLOAT)) != 0 &&
            complained("1x1 map"),
        "a profile that begins with 1x1");
  refused([](All& a) { a[0].desc.type = DataType::kINT8; }, "x is int8 and the plugin has no scales");
  refused([](All& a) { a[0].desc.type = DataType::kINT32; }, "type 3 in its format 0 and 4 dimensions");
  refused([](All& a) { a[0].desc.format = Format::kHWC8; }, "type 0 in its format 2");
  refused([](All& a) { a[1].desc.type = DataType::kHALF; }, "scale must be float32 and linear");
  refused([](All& a) { a[2].desc.format = Format::kCHW32; }, "bias must be float32 and linear");
  refused([](All& a) { a[3].desc.type = DataType::kHALF; }, "residual must be of the type and format of x");
  refused([](All& a) { a[3].desc.format = Format::kHWC; }, "residual must be of the type and format of x");
  refused([](All& a) { a[4].desc.format = Format::kHWC; }, "y must be of the type and format of x");
  refused([](All& a) { a[1].max = dims_of({4}); }, "scale must have one dimension of 5");
  refused([](All& a) { a[3].min = dims_of({2, 5, 3, 3}); }, "residual must have the shape of x");
  refused([](All& a) { a.pop_back(); }, "takes 4 inputs");
  CHECK(made.build->configurePlugin(good.data(), 4, good.data() + 4, 0) != 0 && complained("gives 1 output"), "no y");
  auto wide = fixed(op_named("SimAM"), {1, int64_t{1} << 40, 1, 2}, DataType::kFLOAT, Format::kHWC);
  CHECK(configure(make(op_named("SimAM")), wide) != 0 && complained("channels are too many"), "2^40 channels");
  wide = fixed(op_named("SimAM"), {1, int64_t{1} << 31, 1, 2}, DataType::kFLOAT, Format::kHWC);
  CHECK(configure(make(op_named("SimAM")), wide) != 0 && complained("channels are too many"), "2^31 channels");
  wide = fixed(op_named("SimAM"), {1, INT64_MAX, 1, 2}, DataType::kHALF, Format::kHWC16);
  CHECK(configure(make(op_named("SimAM")), wide) != 0 && complained("channels are too many"), "2^63 - 1 channels");
}

// Enough at the largest shape for whichever tactic will run: the automatic one may take the largest at a smaller shape.
TEST(workspace) {
  Op const& op = op_named("SimAM");
  fake_cuda = {};
  Made const made = make(op);
  if (!made.plugin) return;
  auto const all = profile_of(op, {1, 5, 7, 7}, {2, 5, 20, 20}, {8, 5, 64, 64}, DataType::kFLOAT);
  auto const size = [&] { return made.build->getWorkspaceSize(all.data(), 1, &all[1], 1); };
  CHECK(size() == 8 * 5 * 12, "%zu", size());
  for (SimamParams const& p : fake_cuda.sized)
    CHECK(p.images == 8 && p.channels == 5 && p.pixels == 4096 && p.type == SIMAM_F32 && p.group == 1, "%d",
          static_cast<int>(p.pixels));
  for (int32_t const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER}) {
    static int32_t largest;
    largest = tactic;
    fake_cuda.workspace = [](SimamParams const& p) -> size_t { return p.tactic == largest ? 1000 : 10; };
    CHECK(size() == 1000, "tactic %d: %zu", tactic, size());
  }
  CHECK(quiet(), "workspace");
  CHECK(made.build->getWorkspaceSize(all.data(), 2, &all[1], 1) == 0 && complained("takes 1 inputs"), "inputs");
  auto const empty = fixed(op, {0, 5, 7, 7}, DataType::kFLOAT), unknown = fixed(op, {-1, 5, 7, 7}, DataType::kFLOAT);
  for (auto const& none : {empty, unknown})
    CHECK(made.build->getWorkspaceSize(none.data(), 1, &none[1], 1) == 0 && quiet(), "nothing is known");
  fake_cuda = {};
}

}  // namespace
}  // namespace simam::test
