// What a plugin is made with, and what an engine keeps of it: fields, by name.
//
//   e_lambda        float, needed          finite, >= 0
//   x_scale         float, int8 alone      finite, > 0; the real value is scale * q. These three come together, and
//   residual_scale  the same, where the operator has a residual            without them the plugin refuses int8.
//   y_scale         the same
//   version         int32, in an engine alone: kVersion of the library that made it
#pragma once

#include <array>

#include <NvInferRuntime.h>

#include "common/simam.h"

namespace simam::trt {

struct Fields {
  float lambda = 0;
  float x_scale = 0, residual_scale = 0, y_scale = 0;  // all 0 where no int8 was asked for

  bool quantised() const { return y_scale > 0; }
};

// Floats may be of 64 bits, as Python's are. `layer` is what the messages say; false, with a message, where a field is
// unknown, missing, given twice, of another type or length, or out of range, or the version is not this library's.
bool read_fields(Op const& op, char const* layer, nvinfer1::PluginFieldCollection const* collection,
                 nvinfer1::TensorRTPhase phase, Fields& fields) noexcept;

// Fields as TensorRT takes them. They point into this object and into the `Fields` they were made of.
class FieldList {
 public:
  // The names that a parser reads from a node, without values. It warns of each that the node lacks.
  void advertise(Op const& op, bool scales) noexcept;
  // What an engine is to keep.
  void serialise(Op const& op, Fields const& fields) noexcept;

  nvinfer1::PluginFieldCollection const* get() const noexcept { return &collection_; }

 private:
  void add(char const* name, void const* value, nvinfer1::PluginFieldType type) noexcept;

  std::array<nvinfer1::PluginField, 5> fields_{};
  nvinfer1::PluginFieldCollection collection_{};
};

}  // namespace simam::trt
