// TensorRT's side of a plugin, without TensorRT: its logger, its dimensions, its tensors, and a plugin library that was
// opened as it would open it.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <NvInferRuntime.h>

#include "common/simam.h"
#include "fake_cuda.h"
#include "harness.h"

namespace simam::test {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::IPluginCreatorV3One;
using nvinfer1::IPluginV3;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorRTPhase;
using Format = nvinfer1::TensorFormat;
using Severity = nvinfer1::ILogger::Severity;

// What was logged ----------------------------------------------------------------------------------------------------

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, char const* message) noexcept override { lines.emplace_back(severity, message); }

  std::vector<std::pair<Severity, std::string>> lines;
};

class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override {
    if (throws) throw 1;
    return logger;
  }

  nvinfer1::ILogger* logger = nullptr;
  bool throws = false;
};

inline Logger host_logger;
inline Finder host_finder;

// One error since the last look, and these words are in it.
inline bool complained(char const* words) {
  auto const lines = std::exchange(host_logger.lines, {});
  bool const right =
      lines.size() == 1 && lines[0].first == Severity::kERROR && lines[0].second.find(words) != std::string::npos;
  if (!right) {
    std::printf("  wanted one error with '%s', got %zu:\n", words, lines.size());
    for (auto const& line : lines) std::printf("    %d %s\n", static_cast<int>(line.first), line.second.c_str());
  }
  return right;
}

inline bool quiet() {
  auto const lines = std::exchange(host_logger.lines, {});
  for (auto const& line : lines)
    if (line.first <= Severity::kINFO) {
      std::printf("  unasked: %s\n", line.second.c_str());
      return false;
    }
  return true;
}

// The library under test ---------------------------------------------------------------------------------------------

struct PluginLibrary {
  std::string path;
  void* handle = nullptr;
  std::vector<IPluginCreatorV3One*> creators;
  void (*set_logger_finder)(nvinfer1::ILoggerFinder*) = nullptr;
};

PluginLibrary& plugin_library();  // opened by main(), which has set the finder

inline IPluginCreatorV3One& creator_of(Op const& op, char const* plugin_namespace = kDomain) {
  for (IPluginCreatorV3One* const creator : plugin_library().creators)
    if (std::strcmp(creator->getPluginName(), op.name) == 0 &&
        std::strcmp(creator->getPluginNamespace(), plugin_namespace) == 0)
      return *creator;
  std::printf("no creator of %s in '%s'\n", op.name, plugin_namespace);
  std::abort();
}

inline Op const& op_named(char const* name) {
  for (Op const& op : kOps)
    if (std::strcmp(op.name, name) == 0) return op;
  std::abort();
}

inline int32_t inputs_of(Op const& op) { return 1 + (op.affine ? 2 : 0) + (op.residual ? 1 : 0); }

// Fields -------------------------------------------------------------------------------------------------------------

// Owns the values that the fields point to.
class FieldValues {
 public:
  FieldValues& f32(char const* name, float value) { return add(name, PluginFieldType::kFLOAT32, &value, sizeof value); }
  FieldValues& f64(char const* name, double value) {
    return add(name, PluginFieldType::kFLOAT64, &value, sizeof value);
  }
  FieldValues& i32(char const* name, int32_t value) { return add(name, PluginFieldType::kINT32, &value, sizeof value); }
  FieldValues& raw(PluginField const& field) {
    fields_.push_back(field);
    return *this;
  }

  nvinfer1::PluginFieldCollection const* get() {
    collection_.nbFields = static_cast<int32_t>(fields_.size());
    collection_.fields = fields_.data();
    return &collection_;
  }

 private:
  FieldValues& add(char const* name, PluginFieldType type, void const* value, size_t size) {
    values_.push_back(std::make_unique<double>());
    std::memcpy(values_.back().get(), value, size);
    fields_.emplace_back(name, values_.back().get(), type, 1);
    return *this;
  }

  std::vector<std::unique_ptr<double>> values_;
  std::vector<PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
};

constexpr float kX = 0.25F, kResidual = 0.5F, kY = 0.125F;

inline FieldValues fields_for(Op const& op, bool quantised, float lambda = 0.1F) {
  FieldValues fields;
  fields.f32(kLambda, lambda);
  if (quantised) {
    fields.f32("x_scale", kX).f32("y_scale", kY);
    if (op.residual) fields.f32("residual_scale", kResidual);
  }
  return fields;
}

// A plugin and its three sides.
struct Made {
  explicit Made(IPluginV3* made) : plugin(made) {
    if (!plugin) return;
    using Kind = nvinfer1::PluginCapabilityType;
    core = static_cast<nvinfer1::IPluginV3OneCore*>(plugin->getCapabilityInterface(Kind::kCORE));
    build = static_cast<nvinfer1::IPluginV3OneBuild*>(plugin->getCapabilityInterface(Kind::kBUILD));
    runtime = static_cast<nvinfer1::IPluginV3OneRuntime*>(plugin->getCapabilityInterface(Kind::kRUNTIME));
  }

  std::unique_ptr<IPluginV3> plugin;
  nvinfer1::IPluginV3OneCore* core = nullptr;
  nvinfer1::IPluginV3OneBuild* build = nullptr;
  nvinfer1::IPluginV3OneRuntime* runtime = nullptr;
};

inline Made make(Op const& op, bool quantised = false, float lambda = 0.1F) {
  FieldValues fields = fields_for(op, quantised, lambda);
  return Made(creator_of(op).createPlugin("block", fields.get(), TensorRTPhase::kBUILD));
}

// Tensors ------------------------------------------------------------------------------------------------------------

inline Dims dims_of(std::vector<int64_t> const& sizes) {
  Dims dims{};
  dims.nbDims = static_cast<int32_t>(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) dims.d[i] = sizes[i];
  return dims;
}

inline PluginTensorDesc tensor(std::vector<int64_t> const& sizes, DataType type, Format format = Format::kLINEAR) {
  return {dims_of(sizes), type, format, -1.0F};
}

// All tensors of one node, y last, as they fit each other.
inline std::vector<PluginTensorDesc> tensors_of(Op const& op, std::vector<int64_t> const& x, DataType type,
                                                Format format = Format::kLINEAR) {
  std::vector<PluginTensorDesc> all{tensor(x, type, format)};
  if (op.affine) all.insert(all.end(), 2, tensor({x[1]}, DataType::kFLOAT));
  if (op.residual) all.push_back(all[0]);
  all.push_back(all[0]);
  return all;
}

// The same with a profile: x is -1 where `low` and `high` differ.
inline std::vector<DynamicPluginTensorDesc> profile_of(Op const& op, std::vector<int64_t> const& low,
                                                       std::vector<int64_t> const& best,
                                                       std::vector<int64_t> const& high, DataType type,
                                                       Format format = Format::kLINEAR) {
  std::vector<int64_t> x = low;
  for (size_t i = 0; i < x.size(); ++i)
    if (low[i] != high[i]) x[i] = -1;
  auto const desc = tensors_of(op, x, type, format), a = tensors_of(op, low, type), b = tensors_of(op, best, type),
             c = tensors_of(op, high, type);
  std::vector<DynamicPluginTensorDesc> all;
  for (size_t i = 0; i < desc.size(); ++i) all.push_back({desc[i], a[i].dims, c[i].dims, b[i].dims});
  return all;
}

inline std::vector<DynamicPluginTensorDesc> fixed(Op const& op, std::vector<int64_t> const& x, DataType type,
                                                  Format format = Format::kLINEAR) {
  return profile_of(op, x, x, x, type, format);
}

// Dimensions of a network that is being built ------------------------------------------------------------------------

class Dimension final : public nvinfer1::IDimensionExpr {
 public:
  explicit Dimension(int64_t value) : value_{value} { mImpl = &value_; }
  ~Dimension() noexcept override = default;

 private:
  struct Value final : nvinfer1::apiv::VDimensionExpr {
    explicit Value(int64_t value_) : value(value_) {}
    bool isConstant() const override { return value >= 0; }
    int64_t getConstantValue() const override { return value >= 0 ? value : INT64_MIN; }  // as the real one
    bool isSizeTensor() const override { return false; }
    int64_t value;
  };

  Value value_;
};

class Builder final : public nvinfer1::IExprBuilder {
 public:
  Builder() { mImpl = &refusing_; }
  ~Builder() noexcept override = default;

 private:
  struct Refusing final : nvinfer1::apiv::VExprBuilder {  // the shape of y is x's: nothing is to be computed
    nvinfer1::IDimensionExpr const* constant(int64_t) override { std::abort(); }
    nvinfer1::IDimensionExpr const* operation(nvinfer1::DimensionOperation, nvinfer1::IDimensionExpr const&,
                                              nvinfer1::IDimensionExpr const&) override {
      std::abort();
    }
    nvinfer1::IDimensionExpr const* declareSizeTensor(int32_t, nvinfer1::IDimensionExpr const&,
                                                      nvinfer1::IDimensionExpr const&) override {
      std::abort();
    }
  };

  Refusing refusing_;
};

}  // namespace simam::test
