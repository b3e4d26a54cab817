// What a plugin is made with: right and wrong fields, and what an engine keeps of them.
#include <cmath>
#include <iterator>
#include <limits>

#include "tensorrt_host.h"

namespace simam::test {
namespace {

IPluginV3* create(Op const& op, FieldValues& fields, TensorRTPhase phase = TensorRTPhase::kBUILD) {
  return creator_of(op).createPlugin("block", fields.get(), phase);
}

float serialised(Made const& made, char const* name) {
  nvinfer1::PluginFieldCollection const* const fields = made.runtime->getFieldsToSerialize();
  for (int32_t i = 0; i < fields->nbFields; ++i)
    if (std::strcmp(fields->fields[i].name, name) == 0) {
      float value = 0;
      std::memcpy(&value, fields->fields[i].data, sizeof value);
      return value;
    }
  return std::nanf("");
}

TEST(right_fields) {
  for (Op const& op : kOps)
    for (bool const quantised : {false, true})
      for (float const lambda : {0.0F, 1e-4F, 0.1F, 1e30F}) {
        Made const made = make(op, quantised, lambda);
        CHECK(made.plugin && quiet(), "%s", op.name);
        if (!made.plugin) continue;
        CHECK(serialised(made, kLambda) == lambda, "%g", static_cast<double>(lambda));
      }
}

TEST(python_floats) {
  Op const& op = op_named("SimAMAffineAdd");
  FieldValues fields;
  fields.f64("residual_scale", 0.5).f64("y_scale", 0.3).f64(kLambda, 1e-4).f64("x_scale", 0.7);
  Made const made(create(op, fields));
  CHECK(made.plugin && quiet(), "refused");
  if (!made.plugin) return;
  CHECK(serialised(made, kLambda) == 1e-4F && serialised(made, "x_scale") == 0.7F &&
            serialised(made, "residual_scale") == 0.5F && serialised(made, "y_scale") == 0.3F,
        "other values");
}

struct Wrong {
  FieldValues fields;
  char const* op;
  char const* words;
};

TEST(wrong_fields) {
  float const inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  float const two[] = {1e-4F, 1e-4F};
  std::string const longest(2000, 'z');
  auto const with = [](char const* name, PluginFieldType type, void const* data, int32_t length) {
    FieldValues fields;
    fields.raw(PluginField(name, data, type, length));
    return fields;
  };
  auto const good = [](float value = 0.1F) {
    FieldValues fields;
    fields.f32(kLambda, value);
    return fields;
  };
  auto const scaled = [&](float x, float y) {
    FieldValues fields = good();
    fields.f32("x_scale", x).f32("y_scale", y);
    return fields;
  };
  std::vector<Wrong> cases;
  auto const add = [&](FieldValues fields, char const* op, char const* words) {
    cases.push_back({std::move(fields), op, words});
  };
  add(FieldValues(), "SimAM", "'e_lambda' is missing");
  add(good(-1e-9F), "SimAM", "e_lambda is -1e-09; it must be finite and not negative");
  add(good(-inf), "SimAM", "finite");
  add(good(inf), "SimAM", "finite");
  add(good(nan), "SimAMAffineAddRelu", "e_lambda is nan");
  add(std::move(FieldValues().f64(kLambda, 1e300)), "SimAM", "e_lambda is inf");
  add(std::move(FieldValues().i32(kLambda, 1)), "SimAM", "must be one float of 32 or 64 bits; it has type 5");
  add(with(kLambda, PluginFieldType::kFLOAT32, two, 2), "SimAM", "length 2");
  add(with(kLambda, PluginFieldType::kFLOAT32, two, 0), "SimAM", "length 0");
  add(with(kLambda, PluginFieldType::kFLOAT32, nullptr, 1), "SimAM", "must be one float");
  add(with(kLambda, PluginFieldType::kUNKNOWN, two, 1), "SimAM", "it has type 8");
  add(with(nullptr, PluginFieldType::kFLOAT32, two, 1), "SimAM", "there is no field ''");
  add(std::move(good().f32("lambda", 0.1F)), "SimAM",
      "there is no field 'lambda'; there are e_lambda and, for int8, x_scale and y_scale");
  add(std::move(good().f32("epilogue", 1)), "SimAMAffineAdd", "x_scale, residual_scale and y_scale");
  add(std::move(good().i32("version", 1)), "SimAM", "there is no field 'version'");
  add(std::move(good().f32(kLambda, 0.1F)), "SimAM", "'e_lambda' is given twice");
  add(std::move(good().f32(longest.c_str(), 0.1F)), "SimAM", "there is no field '");
  add(std::move(good().f32("x_scale", 0.1F)), "SimAM",
      "'y_scale' is missing; int8 needs all the scales: x_scale and y_scale");
  add(std::move(good().f32("y_scale", 0.1F)), "SimAM", "'x_scale' is missing");
  add(std::move(good().f32("residual_scale", 0.1F)), "SimAMAffineAdd", "'x_scale' is missing");
  add(scaled(0.1F, 0.1F), "SimAMAffineAdd",
      "'residual_scale' is missing; int8 needs all the scales: x_scale, residual_scale");
  add(std::move(scaled(0.1F, 0.1F).f32("residual_scale", 0.1F)), "SimAMAffine", "there is no field 'residual_scale'");
  add(scaled(0, 0.1F), "SimAM", "x_scale is 0; it must be finite and greater than 0");
  add(scaled(0.1F, -1), "SimAM", "y_scale is -1");
  add(scaled(nan, 0.1F), "SimAM", "x_scale is nan");
  add(scaled(0.1F, inf), "SimAM", "y_scale is inf");
  for (Wrong& wrong : cases) {
    Op const& op = op_named(wrong.op);
    Made const made(create(op, wrong.fields));
    CHECK(!made.plugin, "%s was accepted", wrong.words);
    CHECK(complained(wrong.words), "%s", op.name);
  }
}

TEST(no_list) {
  IPluginCreatorV3One& creator = creator_of(kOps[0]);
  nvinfer1::PluginFieldCollection negative{-1, nullptr}, empty{1, nullptr};
  CHECK(creator.createPlugin("block", nullptr, TensorRTPhase::kBUILD) == nullptr && complained("'e_lambda' is missing"),
        "null");
  CHECK(creator.createPlugin("block", &negative, TensorRTPhase::kBUILD) == nullptr && complained("-1 entries"), "-1");
  CHECK(creator.createPlugin("block", &empty, TensorRTPhase::kBUILD) == nullptr && complained("no data"), "no data");
  CHECK(creator.createPlugin(nullptr, nullptr, TensorRTPhase::kBUILD) == nullptr && complained("layer ''"), "no name");
  std::string const longest(5000, 'n');
  CHECK(creator.createPlugin(longest.c_str(), nullptr, TensorRTPhase::kBUILD) == nullptr, "a name that is too long");
  CHECK(complained("SimAM: layer 'nnn"), "a name that is too long");
}

TEST(into_an_engine_and_back) {
  for (Op const& op : kOps)
    for (bool const quantised : {false, true})
      for (char const* const plugin_namespace : {"", "simam"}) {
        FieldValues fields = fields_for(op, quantised, 0.3F);
        Made const built(creator_of(op, plugin_namespace).createPlugin("block", fields.get(), TensorRTPhase::kBUILD));
        if (!built.plugin) continue;
        std::unique_ptr<IPluginV3> const copy(built.plugin->clone());
        CHECK(copy != nullptr, "%s", op.name);
        // The engine keeps copies: the plugin that was built is gone.
        FieldValues kept;
        nvinfer1::PluginFieldCollection const* const saved = built.runtime->getFieldsToSerialize();
        CHECK(saved->nbFields == 2 + (quantised ? 2 + (op.residual ? 1 : 0) : 0), "%d fields", saved->nbFields);
        for (int32_t i = 0; i < saved->nbFields; ++i) {
          PluginField const& field = saved->fields[i];
          CHECK(field.length == 1, "%s", field.name);
          int32_t bits = 0;
          std::memcpy(&bits, field.data, sizeof bits);
          float value = 0;
          std::memcpy(&value, field.data, sizeof value);
          field.type == PluginFieldType::kINT32 ? kept.i32(field.name, bits) : kept.f32(field.name, value);
        }
        Made const loaded(creator_of(op, plugin_namespace).createPlugin("block", kept.get(), TensorRTPhase::kRUNTIME));
        CHECK(loaded.plugin && quiet(), "%s", op.name);
        if (!loaded.plugin) continue;
        CHECK(serialised(loaded, kLambda) == 0.3F, "lambda");
        CHECK(!quantised || (serialised(loaded, "x_scale") == kX && serialised(loaded, "y_scale") == kY), "scales");
        CHECK(!quantised || !op.residual || serialised(loaded, "residual_scale") == kResidual, "residual_scale");
        CHECK(std::strcmp(loaded.core->getPluginNamespace(), plugin_namespace) == 0, "%s", plugin_namespace);
        CHECK(std::strcmp(loaded.build->getMetadataString(), built.build->getMetadataString()) == 0, "%s", op.name);
      }
}

TEST(engines_that_do_not_fit) {
  Op const& op = kOps[0];
  auto const load = [&](FieldValues fields) { return create(op, fields, TensorRTPhase::kRUNTIME) == nullptr; };
  int64_t const wide = 1;
  CHECK(load(std::move(FieldValues().f32(kLambda, 0.1F).i32("version", 2).f32("something_new", 1))) &&
            complained("built with version 2 of the plugin and this library is version 1; build the engine again"),
        "of the next version");
  CHECK(load(std::move(FieldValues().i32("version", -1))) && complained("version -1"), "of no version");
  CHECK(load(std::move(FieldValues().f32(kLambda, 0.1F))) && complained("has no field 'version'"), "without one");
  CHECK(load(std::move(FieldValues().f32("version", 1).f32(kLambda, 0.1F))) && complained("'version' is no int32"),
        "f32");
  CHECK(load(std::move(FieldValues().raw(PluginField("version", &wide, PluginFieldType::kINT64, 1)))) &&
            complained("'version' is no int32"),
        "int64");
  CHECK(load(std::move(FieldValues().i32("version", 1))) && complained("'e_lambda' is missing"), "without e_lambda");
  CHECK(load(std::move(FieldValues().i32("version", 1).f32(kLambda, 0.1F).f32("other", 1))) &&
            complained("no field 'other'"),
        "with another field");
  CHECK(load(std::move(FieldValues().i32("version", 1).f32(kLambda, -1))) && complained("e_lambda is -1"), "damaged");
  CHECK(load(FieldValues()) && complained("has no field 'version'"), "empty");
}

// The timing of a plugin is that of its operator: neither lambda nor the scales change it.
TEST(timing_cache) {
  std::vector<std::string> ids;
  for (Op const& op : kOps) {
    Made const a = make(op, false, 0.1F), b = make(op, false, 0.2F), c = make(op, true, 0.2F);
    if (!a.plugin || !b.plugin || !c.plugin) continue;
    std::string const id = a.build->getTimingCacheID();
    char const* const pointer = a.build->getTimingCacheID();
    CHECK(a.build->getMetadataString() != nullptr && id == pointer, "the one string is not the other's");
    CHECK(id == b.build->getTimingCacheID() && id == c.build->getTimingCacheID(), "%s", id.c_str());
    CHECK(id == text("simam1;%s", op.name), "%s", id.c_str());
    ids.push_back(id);
    CHECK(std::strcmp(a.build->getMetadataString(), "e_lambda=0.100000001") == 0, "%s", a.build->getMetadataString());
    char const* const scales =
        op.residual ? ";x_scale=0.25;residual_scale=0.5;y_scale=0.125" : ";x_scale=0.25;residual_scale=0;y_scale=0.125";
    CHECK(std::strstr(c.build->getMetadataString(), scales) != nullptr, "%s", c.build->getMetadataString());
  }
  CHECK(ids.size() == std::size(kOps), "%zu", ids.size());
}

}  // namespace
}  // namespace simam::test
