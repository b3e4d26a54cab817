#include "plugin.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cstdio>
#include <new>

#include "common/activation.h"
#include "logger.h"

namespace simam::trt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using Format = nvinfer1::TensorFormat;

constexpr int32_t kDone = 0, kFailed = -1;
constexpr size_t kMostInputs = 4;

// Runs `body`, behind which is other people's code, and lets no exception out.
template <class Result, class Body>
Result guarded(Op const& op, char const* where, Result failure, Body body) noexcept {
  try {
    return body();
  } catch (...) {
    refuse(op.name, "%s: an exception came out of the kernels", where);
    return failure;
  }
}

char const* input_name(Op const& op, int32_t input) {
  if (input == 0) return "x";
  if (is_parameter(op, input)) return input == 1 ? "scale" : "bias";
  return input < input_count(op) ? "residual" : "y";
}

bool known(SimamParams const& params) { return params.images >= 0 && params.channels >= 0 && params.pixels >= 0; }
bool empty(SimamParams const& params) { return params.images == 0 || params.channels == 0 || params.pixels == 0; }

}  // namespace

Plugin::Plugin(Op const& op, char const* plugin_namespace, Fields const& fields) noexcept
    : op_(op), namespace_(plugin_namespace), fields_(fields) {}

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
  }
  refuse(op_.name, "there is no capability %d", static_cast<int>(type));
  return nullptr;
}

Plugin* Plugin::clone() noexcept {
  auto* const made = new (std::nothrow) Plugin(op_, namespace_, fields_);
  if (made == nullptr) {
    refuse(op_.name, "out of memory");
    return nullptr;
  }
  made->tactic_ = tactic_;
  std::copy(std::begin(tactics_), std::end(tactics_), made->tactics_);
  made->tactic_count_ = tactic_count_;
  return made;
}

// The network ------------------------------------------------------------------------------------------------------

bool Plugin::has_counts(int32_t inputs, int32_t outputs) const noexcept {
  if (inputs == input_count(op_) && outputs == 1) return true;
  return refuse(op_.name, "takes %d inputs (x%s%s) and gives 1 output; there are %d and %d",
                static_cast<int>(input_count(op_)), op_.affine ? ", scale, bias" : "", op_.residual ? ", residual" : "",
                static_cast<int>(inputs), static_cast<int>(outputs));
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                                   int32_t count) const noexcept {
  if (!has_counts(count, output_count)) return kFailed;
  if (!has_type(inputs[0])) {
    refuse(op_.name, "x must be float32, float16, bfloat16 or int8; it has TensorRT's type %d",
           static_cast<int>(inputs[0]));
    return kFailed;
  }
  if (inputs[0] == DataType::kINT8 && !fields_.quantised()) {
    refuse(op_.name,
           "x is int8 and the plugin has no scales; give it the fields x_scale%s and y_scale, in an ONNX file with "
           "plugin_namespace \"\"",
           op_.residual ? ", residual_scale" : "");
    return kFailed;
  }
  for (int32_t i = 1; i < count; ++i) {
    DataType const wanted = is_parameter(op_, i) ? DataType::kFLOAT : inputs[0];
    if (inputs[i] == wanted) continue;
    refuse(op_.name, "%s must be %s; it has TensorRT's type %d and x has %d", input_name(op_, i),
           is_parameter(op_, i) ? "float32" : "of the type of x", static_cast<int>(inputs[i]),
           static_cast<int>(inputs[0]));
    return kFailed;
  }
  outputs[0] = inputs[0];
  return kDone;
}

int32_t Plugin::getOutputShapes(DimsExprs const* inputs, int32_t count, DimsExprs const*, int32_t, DimsExprs* outputs,
                                int32_t output_count, nvinfer1::IExprBuilder&) noexcept {
  if (!has_counts(count, output_count)) return kFailed;
  std::array<Dims, kMostInputs> dims{};
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    dims[i].nbDims = inputs[i].nbDims;
    for (int32_t k = 0; k < inputs[i].nbDims && k < Dims::MAX_DIMS; ++k)
      dims[i].d[k] = inputs[i].d[k]->isConstant() ? inputs[i].d[k]->getConstantValue() : -1;
  }
  Sizes sizes;
  if (!read_sizes(op_, dims.data(), sizes)) return kFailed;
  outputs[0] = inputs[0];
  return kDone;
}

// Asked about each type in each format: it says no to most, and that is no error.
bool Plugin::supportsFormatCombination(int32_t position, DynamicPluginTensorDesc const* tensors, int32_t count,
                                       int32_t output_count) noexcept {
  if (!has_counts(count, output_count) || position < 0 || position > count) return false;
  PluginTensorDesc const& asked = tensors[position].desc;
  PluginTensorDesc const& x = tensors[0].desc;
  if (is_parameter(op_, position)) return asked.type == DataType::kFLOAT && asked.format == Format::kLINEAR;
  if (position > 0) return asked.type == x.type && asked.format == x.format;
  if (x.type == DataType::kINT8 && !fields_.quantised()) {
    log(Severity::kVERBOSE, "%s: no int8: the plugin was made without scales", op_.name);
    return false;
  }
  return find_layout(x.type, x.format, x.dims.nbDims) != nullptr;
}

// Types, formats and sizes of one call -----------------------------------------------------------------------------

bool Plugin::describe(PluginTensorDesc const* inputs, PluginTensorDesc const& y, SimamParams& params) const noexcept {
  PluginTensorDesc const& x = inputs[0];
  int32_t const count = input_count(op_);
  std::array<Dims, kMostInputs> dims{};
  for (int32_t i = 0; i < count; ++i) dims[static_cast<size_t>(i)] = inputs[i].dims;
  Sizes sizes;
  if (!read_sizes(op_, dims.data(), sizes)) return false;
  if (x.type == DataType::kINT8 && !fields_.quantised())
    return refuse(op_.name, "x is int8 and the plugin has no scales");
  Layout const* const layout = find_layout(x.type, x.format, x.dims.nbDims);
  if (layout == nullptr)
    return refuse(op_.name, "TensorRT's type %d in its format %d and %d dimensions is not supported",
                  static_cast<int>(x.type), static_cast<int>(x.format), static_cast<int>(x.dims.nbDims));
  for (int32_t i = 1; i <= count; ++i) {
    PluginTensorDesc const& tensor = i < count ? inputs[i] : y;
    bool const fits = is_parameter(op_, i) ? tensor.type == DataType::kFLOAT && tensor.format == Format::kLINEAR
                                           : tensor.type == x.type && tensor.format == x.format;
    if (!fits)
      return refuse(op_.name, "%s must be %s; it has TensorRT's type %d and format %d, x has %d and %d",
                    input_name(op_, i), is_parameter(op_, i) ? "float32 and linear" : "of the type and format of x",
                    static_cast<int>(tensor.type), static_cast<int>(tensor.format), static_cast<int>(x.type),
                    static_cast<int>(x.format));
  }
  int64_t const group = sizes.channels < 1 ? 1 : layout->group(std::min<int64_t>(sizes.channels, INT64_MAX / 2));
  if (group > INT32_MAX) return refuse(op_.name, "%lld channels are too many", static_cast<long long>(sizes.channels));
  params = {};
  params.type = layout->simam_type;
  params.activation = activation_of(op_.activation);
  params.tactic = SIMAM_AUTOMATIC;
  params.group = static_cast<int32_t>(group);
  params.images = sizes.images;
  params.channels = sizes.channels;
  params.pixels = sizes.pixels;
  params.lambda = fields_.lambda;
  params.x_scale = fields_.x_scale;
  params.residual_scale = fields_.residual_scale;
  params.y_scale = fields_.y_scale;
  return true;
}

bool Plugin::describe_at(DynamicPluginTensorDesc const* inputs, DynamicPluginTensorDesc const& y, Bound bound,
                         SimamParams& params) const noexcept {
  std::array<PluginTensorDesc, kMostInputs> at{};
  for (size_t i = 0; i < static_cast<size_t>(input_count(op_)); ++i) {
    at[i] = inputs[i].desc;
    if ((inputs[i].*bound).nbDims == inputs[i].desc.dims.nbDims) at[i].dims = inputs[i].*bound;
  }
  return describe(at.data(), y.desc, params);
}

// Building ---------------------------------------------------------------------------------------------------------

int32_t Plugin::configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t count,
                                DynamicPluginTensorDesc const* outputs, int32_t output_count) noexcept {
  if (!has_counts(count, output_count)) return kFailed;
  return guarded(op_, "configurePlugin", kFailed, [&] {
    std::array<SimamParams, 3> shapes{};
    size_t shape_count = 0;
    using Desc = DynamicPluginTensorDesc;
    for (Bound const bound : {&Desc::min, &Desc::opt, &Desc::max}) {
      SimamParams& params = shapes[shape_count];
      if (!describe_at(inputs, outputs[0], bound, params)) return kFailed;
      if (known(params) && !empty(params)) ++shape_count;
    }
    tactic_count_ = 0;
    for (int32_t const tactic : {SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT}) {
      bool accepted = shape_count > 0;
      for (size_t i = 0; i < shape_count; ++i) {
        shapes[i].tactic = tactic;
        accepted = accepted && simam_accepts(&shapes[i]) == 1;
      }
      if (accepted) tactics_[tactic_count_++] = tactic;
    }
    return kDone;
  });
}

int32_t Plugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
  if (count != tactic_count_) {
    refuse(op_.name, "there are %d tactics, and room for %d", static_cast<int>(tactic_count_), static_cast<int>(count));
    return kFailed;
  }
  std::copy(tactics_, tactics_ + tactic_count_, tactics);
  return kDone;
}

// Enough for each tactic at the largest shape: which one runs, and at which shape, is known later.
size_t Plugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t count,
                                DynamicPluginTensorDesc const* outputs, int32_t output_count) const noexcept {
  if (!has_counts(count, output_count)) return 0;
  return guarded(op_, "getWorkspaceSize", size_t{0}, [&]() -> size_t {
    SimamParams params{};
    if (!describe_at(inputs, outputs[0], &DynamicPluginTensorDesc::max, params) || !known(params) || empty(params))
      return 0;
    size_t most = 0;
    for (int32_t const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT}) {
      params.tactic = tactic;
      most = std::max(most, simam_workspace(&params));
    }
    return most;
  });
}

// TensorRT adds shapes, types and formats. Times do not depend on lambda and the scales.
char const* Plugin::getTimingCacheID() noexcept {
  std::snprintf(timing_id_, sizeof timing_id_, "simam%d;%s", kVersion, op_.name);
  return timing_id_;
}

// What the engine inspector shows.
char const* Plugin::getMetadataString() noexcept {
  int const used = std::snprintf(metadata_, sizeof metadata_, "e_lambda=%.9g", static_cast<double>(fields_.lambda));
  if (fields_.quantised())
    std::snprintf(metadata_ + used, sizeof metadata_ - static_cast<size_t>(used),
                  ";x_scale=%.9g;residual_scale=%.9g;y_scale=%.9g", static_cast<double>(fields_.x_scale),
                  static_cast<double>(fields_.residual_scale), static_cast<double>(fields_.y_scale));
  return metadata_;
}

// Running ----------------------------------------------------------------------------------------------------------

int32_t Plugin::setTactic(int32_t tactic) noexcept {
  if (tactic < SIMAM_AUTOMATIC || tactic > SIMAM_SPLIT) {
    refuse(op_.name, "there is no tactic %d; the engine was built by another version of the plugin",
           static_cast<int>(tactic));
    return kFailed;
  }
  tactic_ = tactic;
  return kDone;
}

int32_t Plugin::onShapeChange(PluginTensorDesc const* inputs, int32_t count, PluginTensorDesc const* outputs,
                              int32_t output_count) noexcept {
  SimamParams params{};
  return has_counts(count, output_count) && describe(inputs, outputs[0], params) ? kDone : kFailed;
}

int32_t Plugin::enqueue(PluginTensorDesc const* input, PluginTensorDesc const* output, void const* const* inputs,
                        void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
  return guarded(op_, "enqueue", kFailed, [&] {
    SimamParams params{};
    if (!describe(input, output[0], params)) return kFailed;
    if (empty(params)) return kDone;
    if (!known(params)) {
      refuse(op_.name, "enqueue: a size of x is not known");
      return kFailed;
    }
    params.x = inputs[0];
    params.y = outputs[0];
    if (op_.affine) {
      params.scale = static_cast<float const*>(inputs[1]);
      params.bias = static_cast<float const*>(inputs[2]);
    }
    if (op_.residual) params.residual = inputs[input_count(op_) - 1];
    params.tactic = tactic_;
    if (tactic_ != SIMAM_AUTOMATIC && simam_accepts(&params) != 1) params.tactic = SIMAM_AUTOMATIC;
    params.workspace = workspace;
    params.workspace_size = simam_workspace(&params);  // grows with the sizes: no more than at the profile's largest
    int const error = simam_launch(&params, stream);
    if (error == 0) return kDone;
    refuse(op_.name, "the kernels failed with cudaError %d, at N, C, H*W = %lld, %lld, %lld, group %d, tactic %d",
           error, static_cast<long long>(params.images), static_cast<long long>(params.channels),
           static_cast<long long>(params.pixels), static_cast<int>(params.group), static_cast<int>(params.tactic));
    return static_cast<int32_t>(error);
  });
}

Plugin* Plugin::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
  return guarded(op_, "attachToContext", static_cast<Plugin*>(nullptr), [&]() -> Plugin* {
    if (int const error = simam_prepare()) {
      refuse(op_.name, "the kernels do not load into this device: cudaError %d", error);
      return nullptr;
    }
    return clone();
  });
}

nvinfer1::PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
  serialised_.serialise(op_, fields_);
  return serialised_.get();
}

}  // namespace simam::trt
