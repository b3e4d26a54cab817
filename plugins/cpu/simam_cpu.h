// SimAM on a CPU. Pointers and sizes only; nothing is thrown, allocated, locked or printed.
//
// Accuracy, float32: within 2 eps max|y's terms| of the float64 formula, for mean / spread up to 1e5 (see kernel.cpp);
// the worst planes that a search found are 0.8 of that.
// It ends where floats do: where x is more than 3.4e38 from the mean, and of lambda 0 where the spread is denormal.
// float16 and bfloat16 are widened, computed in float32 and rounded once, to nearest even; int8 likewise, saturating.
// A NaN or infinity makes its own plane NaN and touches no other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../common/simam.h"

namespace simam::cpu {

enum class Type : uint8_t { f32, f16, bf16, s8, u8 };

// What is computed: y = activation(scale * simam(x) + bias + residual).
//
//   x, y, residual : `planes` planes of m elements of `type`, aligned as one element is. y may be x or residual, the
//                    whole of it, and must not overlap them otherwise. residual may be null.
//   block          : 1: plane after plane (NCHW). 4, 8 or 16: so many planes are interleaved (NCHWc), and `planes` and
//                    `channels` are multiples of it.
//   m              : elements of a plane, >= 2 (1 is 0/0: the shell refuses it)
//   channels_last  : NHWC, of s8 and u8; block is 1. u8 has no other layout.
//   scale, bias    : float32 of length `channels`, both or neither; plane p has number p % channels
//   x_scale ...    : s8 and u8 only: the real value is scale * (q - zero), with zero of the type, and 0 but with
//                    channels_last
struct Task {
  Type type = Type::f32;
  Activation activation = Activation::none;
  void const* x = nullptr;
  void* y = nullptr;
  void const* residual = nullptr;
  float const* scale = nullptr;
  float const* bias = nullptr;
  int64_t planes = 0;
  int64_t m = 0;
  int64_t channels = 1;
  int block = 1;
  bool channels_last = false;
  float lambda = kDefaultLambda;
  float x_scale = 1, residual_scale = 1, y_scale = 1;
  int32_t x_zero = 0, residual_zero = 0, y_zero = 0;
};

// Runs work(data, i) for i in [0, count), in any order, at once or not, and returns when all are done.
struct Parallel {
  void (*run)(void* pool, void (*work)(void* data, size_t i), size_t count, void* data);
  void* pool;
};

// A set of instructions that the kernel was compiled for.
struct Target {
  char const* name;  // "avx512", "avx2", "baseline"
  int width;         // floats in a vector
  bool (*supported)();
  void const* loops;
};

extern Target const kTargets[];  // widest first
extern int const kTargetCount;

// The one of this name, if this processor supports it; else null.
Target const* find_target(char const* name);

// The widest that this processor supports, or the one that the environment variable SIMAM_CPU names, if supported.
Target const& best_target();

// Whole, in parallel: split by planes, and inside of planes where they are few and long.
void run(Task const& task, Parallel parallel);
void run_with(Target const& target, Task const& task, Parallel parallel);

}  // namespace simam::cpu
