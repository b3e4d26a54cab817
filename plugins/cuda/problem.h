// What a kernel is told: one structure, passed by value.
#pragma once

#if !defined(__CUDACC_RTC__)
#include <cstdint>
#endif

namespace simam::cuda {

// Moments of a part of a plane: their number, their mean as a sum of two floats, and the sum of squares about it.
struct alignas(16) Moments {
  float count, mean, rest, m2;
};

// What one launch does of: moments, exchange, gate.
enum class Mode { whole, cluster, moments, gate };

struct Problem {
  void const* x;
  void* y;
  void const* residual;  // null: none
  float const* scale;    // null: none
  float const* bias;
  Moments* workspace;  // of Mode::moments and Mode::gate

  int64_t first;     // the first plane, or image's group, of this launch
  int32_t count;     // how many of them
  int32_t pixels;    // of a plane; of tiles, what a plane has of `fold` pixels
  int32_t channels;  // of an image
  int32_t group;     // elements side by side: `fold` times the channels that are
  int32_t groups;    // of an image

  int32_t team;       // planes: threads of a plane. small: lanes of a plane. tiles: chunks side by side
  int32_t parts;      // blocks that share a plane
  int32_t part;       // pixels of a part, the last may be shorter
  int32_t per_block;  // small: planes of a block
  int32_t tiles;      // tiles: how many a group has
  int32_t fold;       // tiles: pixels of a chunk, where their channels do not fill it; a power of two

  int32_t activation;
  float lambda;    // of x as it lies in memory: int8 has lambda / x_scale^2
  float per_rest;  // 1 / (pixels - 1)
  float in_scale;  // int8: x_scale / y_scale of the bare operator, x_scale of the others
  float residual_scale;
  float out_scale;  // int8: 1 / y_scale
};

}  // namespace simam::cuda
