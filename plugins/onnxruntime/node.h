// What the operators do alike for every execution provider: read a node's attribute, inputs and output, or refuse it.
#pragma once

#include <array>
#include <cstdio>

#include "op.h"

namespace simam::ort {

template <class... Values>
OrtStatus* fail(OrtErrorCode code, char const* format, Values... values) {
  char message[512];
  std::snprintf(message, sizeof message, format, values...);
  return api()->CreateStatus(code, message);
}

#define SIMAM_RETURN_IF_FAILED(expression) \
  if (OrtStatus* const failure = (expression)) return failure

inline constexpr size_t kRank = 4;  // of x, (N, C, H, W)

using Dims = std::array<int64_t, kRank>;

// Input `index` of a node in a run; dims are read where the rank is at most kRank.
OrtStatus* read_input(OrtKernelContext* context, size_t index, OrtValue const*& value, void const*& data, Dims& dims,
                      size_t& rank);

// Input `index` as one float32 for each channel.
OrtStatus* read_parameter(OrtKernelContext* context, size_t index, char const* what, char const* name, int64_t channels,
                          float const*& data);

// The attribute e_lambda, or its default.
OrtStatus* read_lambda(OrtKernelInfo const* info, char const* name, float& lambda);

// Addresses of the values of a node in a run, in the memory of its provider. Null for values that the operator lacks.
struct Values {
  void const* x = nullptr;
  void const* residual = nullptr;
  float const* scale = nullptr;
  float const* bias = nullptr;
  void* y = nullptr;
  OrtValue* output = nullptr;  // y's
  Dims shape{};
  bool empty = false;  // nothing is computed: the sizes may be anything, and their product is not taken
};

// All of it, made sure of: the rank and shapes, H * W > 1, and channels that fill blocks of `block`.
OrtStatus* read_values(OrtKernelContext* context, Op const& op, int block, Values& values);

}  // namespace simam::ort
