// TensorRT's types and formats in the words of simam_cuda.h.
#pragma once

#include <cstdint>

#include <NvInferRuntime.h>

#include "common/simam.h"

namespace simam::trt {

// One type in one format. Vector formats count their dimension from the end: it is the channels' in one rank alone.
struct Layout {
  nvinfer1::DataType type;
  nvinfer1::TensorFormat format;
  int32_t rank;        // of x; 0: each
  int32_t simam_type;  // SimamType
  int32_t unit;        // channels side by side,
  bool whole;          // or all of them, padded to a multiple of `unit`

  int64_t group(int64_t channels) const { return whole ? (channels + unit - 1) / unit * unit : unit; }
};

constexpr int32_t kLowestRank = 3, kHighestRank = 5;  // (N, C, and one to three dimensions to reduce over)

// Null where x cannot be had like this.
Layout const* find_layout(nvinfer1::DataType type, nvinfer1::TensorFormat format, int32_t rank) noexcept;
bool has_type(nvinfer1::DataType type) noexcept;

// The sizes of one call. -1: not known while the engine is being built.
struct Sizes {
  int64_t images = -1, channels = -1, pixels = -1;

  bool known() const { return images >= 0 && channels >= 0 && pixels >= 0; }
  bool empty() const { return images == 0 || channels == 0 || pixels == 0; }
};

// The inputs' dimensions are x's, those of scale and bias, the residual's: as many as the operator has. False, with a
// message, where they do not fit each other, or H * W is 1.
bool read_sizes(Op const& op, nvinfer1::Dims const* inputs, Sizes& sizes) noexcept;

inline int32_t input_count(Op const& op) { return 1 + (op.affine ? 2 : 0) + (op.residual ? 1 : 0); }
inline bool is_parameter(Op const& op, int32_t input) { return op.affine && (input == 1 || input == 2); }

}  // namespace simam::trt
