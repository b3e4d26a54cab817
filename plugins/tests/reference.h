// The formula in long double, the number formats bit by bit, and how far a kernel may be from them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/simam_cpu.h"

namespace simam::test {

using cpu::Type;

inline constexpr double kEps = 0x1p-23;

// Formats ---------------------------------------------------------------------------------------------------------

struct Format {
  char const* name;
  size_t bytes;
  int digits;        // of the significand, the hidden one too
  int min_exponent;  // of normal numbers
  double largest;
};

inline Format const& format(Type type) {
  static Format const formats[] = {{"f32", 4, 24, -126, 0x1.fffffep127},
                                   {"f16", 2, 11, -14, 65504},
                                   {"bf16", 2, 8, -126, 0x1.fep127},
                                   {"s8", 1, 0, 0, 127},
                                   {"u8", 1, 0, 0, 255}};
  return formats[static_cast<int>(type)];
}

// The distance of the numbers around v.
inline double ulp(Format const& f, double v) {
  int const exponent = v == 0 ? f.min_exponent : std::max(std::ilogb(v), f.min_exponent);
  return std::ldexp(1.0, exponent - f.digits + 1);
}

// To nearest even; beyond the largest by half an ulp and more, infinity.
inline double round_to(Format const& f, double v) {
  if (!std::isfinite(v)) return v;
  double const unit = ulp(f, v);
  double const rounded = std::nearbyint(v / unit) * unit;
  return std::fabs(rounded) > f.largest ? std::copysign(std::numeric_limits<double>::infinity(), v) : rounded;
}

// 16 bits, of which `mantissa` follow the exponent.
inline double decode_16_bits(uint32_t bits, int mantissa, int bias) {
  int const exponent = static_cast<int>((bits & 0x7FFFU) >> mantissa);
  int const fraction = static_cast<int>(bits & ((1U << mantissa) - 1));
  int const special = (1 << (15 - mantissa)) - 1;
  double v = std::ldexp(exponent == 0 ? fraction : fraction + (1 << mantissa), std::max(exponent, 1) - bias - mantissa);
  if (exponent == special) v = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
  return (bits & 0x8000U) != 0 ? -v : v;
}

inline double decode_half(uint16_t bits) { return decode_16_bits(bits, 10, 15); }
inline double decode_bfloat(uint16_t bits) { return decode_16_bits(bits, 7, 127); }

// Of a finite v that the format represents.
inline uint16_t encode_16_bits(double v, int mantissa, int bias) {
  uint16_t const sign = std::signbit(v) ? 0x8000U : 0;
  v = std::fabs(v);
  if (std::isinf(v)) return static_cast<uint16_t>(sign | (((1U << (15 - mantissa)) - 1) << mantissa));
  if (v == 0) return sign;
  int const exponent = std::max(std::ilogb(v), 1 - bias);
  auto const scaled = static_cast<int>(std::ldexp(v, mantissa - exponent));  // the hidden digit counts as an exponent
  return static_cast<uint16_t>(sign | (scaled + ((exponent + bias - 1) << mantissa)));
}

inline uint16_t encode_half(double v) { return encode_16_bits(v, 10, 15); }
inline uint16_t encode_bfloat(double v) { return encode_16_bits(v, 7, 127); }

// Element i of an array. `scale`: of int8.
inline double decode(Type type, void const* array, int64_t i, double scale) {
  static std::vector<double> const tables = [] {
    std::vector<double> all(2 * 65536);
    for (uint32_t b = 0; b < 65536; ++b) {
      all[b] = decode_half(static_cast<uint16_t>(b));
      all[65536 + b] = decode_bfloat(static_cast<uint16_t>(b));
    }
    return all;
  }();
  char const* const at = static_cast<char const*>(array) + i * static_cast<int64_t>(format(type).bytes);
  if (type == Type::s8) return scale * *reinterpret_cast<signed char const*>(at);
  if (type == Type::f32) {
    float v;
    std::memcpy(&v, at, sizeof v);
    return static_cast<double>(v);
  }
  uint16_t v;
  std::memcpy(&v, at, sizeof v);
  return tables[(type == Type::f16 ? 0U : 65536U) + v];
}

inline void encode(Type type, void* array, int64_t i, double v, double scale) {
  char* const at = static_cast<char*>(array) + i * static_cast<int64_t>(format(type).bytes);
  if (type == Type::s8) {
    *at = static_cast<char>(static_cast<int>(std::nearbyint(v / scale)));
  } else if (type == Type::f32) {
    auto const narrow = static_cast<float>(v);
    std::memcpy(at, &narrow, sizeof narrow);
  } else {
    bool const half = type == Type::f16;
    double const rounded = round_to(format(type), v);
    uint16_t narrow = half ? 0x7E00U : 0x7FC0U;
    if (!std::isnan(v)) narrow = half ? encode_half(rounded) : encode_bfloat(rounded);
    std::memcpy(at, &narrow, sizeof narrow);
  }
}

// The formula -----------------------------------------------------------------------------------------------------

// What is computed; the defaults are the formula, anything else is a mistake that a test must notice.
struct Formula {
  int64_t less = 1;           // variance over m - less
  long double lambda_by = 1;  // lambda is multiplied by
  long double half = 0.5L;    // what is added in the gate
};

inline long double sigmoid(long double t) { return 1 / (1 + std::exp(-t)); }

inline void simam(double const* x, double* y, int64_t m, float lambda, Formula const& formula = {}) {
  long double mean = 0;
  long double sum = 0;
  for (int64_t i = 0; i < m; ++i) mean += x[i];
  mean /= static_cast<long double>(m);
  for (int64_t i = 0; i < m; ++i) sum += (x[i] - mean) * (x[i] - mean);
  long double const v = sum / static_cast<long double>(m - formula.less);
  for (int64_t i = 0; i < m; ++i) {
    long double const d = (x[i] - mean) * (x[i] - mean);
    y[i] = static_cast<double>(x[i] * sigmoid(d / (4 * (v + lambda * formula.lambda_by)) + formula.half));
  }
}

inline double activate(Activation activation, double v) {
  if (activation == Activation::relu) return v < 0 ? 0 : v;
  if (activation == Activation::silu) return static_cast<double>(v * sigmoid(v));
  return v;
}

}  // namespace simam::test
