// One SimAM node in a TensorRT network or engine: the interfaces of the core, the build and the runtime in one object.
//
// Written to the interfaces of TensorRT 10.0, which later headers still have: PLUGIN_V3ONE_BUILD 1.0. No function here
// throws; each failure has a message for the host's logger and a code that is not 0, or null.
#pragma once

#include "cuda/simam_cuda.h"
#include "fields.h"
#include "layouts.h"

namespace simam::trt {

constexpr char kPluginVersion[] = "1";  // kVersion, as TensorRT has it; a change of meaning makes another
static_assert(kPluginVersion[0] == '0' + kVersion && kPluginVersion[1] == '\0');

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  // The strings live as long as the library. A parser looks a plugin up by name, version and namespace.
  Plugin(Op const& op, char const* plugin_namespace, Fields const& fields) noexcept;

  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  Plugin* clone() noexcept override;

  char const* getPluginName() const noexcept override { return op_.name; }
  char const* getPluginVersion() const noexcept override { return kPluginVersion; }
  char const* getPluginNamespace() const noexcept override { return namespace_; }

  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count, nvinfer1::DataType const* inputs,
                             int32_t count) const noexcept override;
  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t count, nvinfer1::DimsExprs const*, int32_t,
                          nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder&) noexcept override;
  bool supportsFormatCombination(int32_t position, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t count,
                                 int32_t output_count) noexcept override;
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t count,
                          nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t output_count) noexcept override;
  int32_t getNbTactics() noexcept override { return tactic_count_; }
  int32_t getValidTactics(int32_t* tactics, int32_t count) noexcept override;
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t count,
                          nvinfer1::DynamicPluginTensorDesc const* outputs,
                          int32_t output_count) const noexcept override;
  char const* getTimingCacheID() noexcept override;
  char const* getMetadataString() noexcept override;

  int32_t setTactic(int32_t tactic) noexcept override;
  int32_t onShapeChange(nvinfer1::PluginTensorDesc const* inputs, int32_t count,
                        nvinfer1::PluginTensorDesc const* outputs, int32_t output_count) noexcept override;
  int32_t enqueue(nvinfer1::PluginTensorDesc const* input, nvinfer1::PluginTensorDesc const* output,
                  void const* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
  Plugin* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

 private:
  bool has_counts(int32_t inputs, int32_t outputs) const noexcept;
  // Type, layout, sizes and numbers: all of the parameters but the pointers and the tactic. Unknown sizes are -1.
  bool describe(nvinfer1::PluginTensorDesc const* inputs, nvinfer1::PluginTensorDesc const& y,
                SimamParams& params) const noexcept;
  using Bound = nvinfer1::Dims nvinfer1::DynamicPluginTensorDesc::*;
  // The same at one end of a profile.
  bool describe_at(nvinfer1::DynamicPluginTensorDesc const* inputs, nvinfer1::DynamicPluginTensorDesc const& y,
                   Bound bound, SimamParams& params) const noexcept;

  Op const& op_;
  char const* namespace_;
  Fields fields_;
  int32_t tactic_ = SIMAM_AUTOMATIC;
  int32_t tactics_[SIMAM_SPLIT] = {};  // those that accept the profile
  int32_t tactic_count_ = 0;
  FieldList serialised_;
  char timing_id_[64] = {};
  char metadata_[160] = {};
};

}  // namespace simam::trt
