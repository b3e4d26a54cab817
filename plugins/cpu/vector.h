// One vector of floats, as wide as the target has them, in the compiler's own vector extension (gcc, clang).
//
// Included by kernel.cpp alone, which is compiled once per target with SIMAM_WIDTH floats in a vector. All is in an
// anonymous namespace, and no header with inline code is used: what is compiled for AVX-512 must not be linked into
// code that runs elsewhere.
#pragma once

#include <cstdint>

namespace {

constexpr int kWidth = SIMAM_WIDTH;

using Float [[gnu::vector_size(kWidth * 4)]] = float;
using Int [[gnu::vector_size(kWidth * 4)]] = int32_t;
using Word [[gnu::vector_size(kWidth * 4)]] = uint32_t;
using Double [[gnu::vector_size(kWidth * 8)]] = double;

struct Half {
  uint16_t bits;
};
struct Bfloat {
  uint16_t bits;
};

// Bits and bytes --------------------------------------------------------------------------------------------------

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class Vector>
inline Vector at(void const* address) {  // at any alignment
  Vector v;
  __builtin_memcpy(&v, address, sizeof v);
  return v;
}

inline Float all(float value) { return Float{} + value; }

inline Int lane_numbers() {
  Int lanes;
  for (int i = 0; i < kWidth; ++i) lanes[i] = i;
  return lanes;
}

// Reading and writing ---------------------------------------------------------------------------------------------

inline Float load(float const* x, float) { return at<Float>(x); }

inline Float load(int8_t const* x, float scale) {
  using Bytes [[gnu::vector_size(kWidth)]] = int8_t;
  return __builtin_convertvector(at<Bytes>(x), Float) * scale;
}

inline Word load_16_bits(void const* x) {
  using Shorts [[gnu::vector_size(kWidth * 2)]] = uint16_t;
  return __builtin_convertvector(at<Shorts>(x), Word);
}

// bfloat16 and float16 to float: of a vector, or of one number.
template <class F, class W>
inline F from_bfloat(W v) {
  return bits<F>(v << 16);
}

// The exponent moves from bias 15 to bias 127. A subnormal is 2^-14 * 0.m: 2^-14 * 1.m less 2^-14.
template <class F, class W>
inline F from_half(W half) {
  W const magnitude = (half & 0x7FFFU) << 13;
  W const normal = magnitude + (112U << 23);
  W const infinite = magnitude | 0x7F800000U;
  F const subnormal = bits<F>(magnitude + (113U << 23)) - bits<F>(W{} + (113U << 23));
  W wide = magnitude >= (31U << 23) ? infinite : normal;
  wide = magnitude < (1U << 23) ? bits<W>(subnormal) : wide;
  return bits<F>(wide | ((half & 0x8000U) << 16));
}

inline Float load(Bfloat const* x, float) { return from_bfloat<Float>(load_16_bits(x)); }
inline Float load(Half const* x, float) { return from_half<Float>(load_16_bits(x)); }

inline float load_one(float const* x, float) { return *x; }
inline float load_one(int8_t const* x, float scale) { return static_cast<float>(*x) * scale; }
inline float load_one(Bfloat const* x, float) { return from_bfloat<float>(uint32_t{x->bits}); }
inline float load_one(Half const* x, float) { return from_half<float>(uint32_t{x->bits}); }

inline void store(float* y, Float v, float) { __builtin_memcpy(y, &v, sizeof v); }

inline void store(int8_t* y, Float v, float inverse_scale) {
  using Bytes [[gnu::vector_size(kWidth)]] = int8_t;
  Float q = v * inverse_scale;
  q = q > 127.0F ? all(127.0F) : q;
  q = q > -128.0F ? q : all(-128.0F);   // a NaN too: there is none in int8
  q = (q + 12582912.0F) - 12582912.0F;  // 1.5 * 2^23: rounds to nearest even
  Bytes const narrow = __builtin_convertvector(__builtin_convertvector(q, Int), Bytes);
  __builtin_memcpy(y, &narrow, sizeof narrow);
}

inline void store_16_bits(void* y, Word v) {
  using Shorts [[gnu::vector_size(kWidth * 2)]] = uint16_t;
  Shorts const narrow = __builtin_convertvector(v, Shorts);
  __builtin_memcpy(y, &narrow, sizeof narrow);
}

inline void store(Bfloat* y, Float v, float) {
  Word const wide = bits<Word>(v);
  Word const rounded = (wide + 0x7FFFU + ((wide >> 16) & 1U)) >> 16;
  store_16_bits(y, (wide & 0x7FFFFFFFU) > 0x7F800000U ? (wide >> 16) | 0x40U : rounded);
}

inline void store(Half* y, Float v, float) {
  Word const wide = bits<Word>(v);
  Word const magnitude = wide & 0x7FFFFFFFU;
  Word const normal = (magnitude - (112U << 23) + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  Word const subnormal = bits<Word>(bits<Float>(magnitude) + 0.5F) - bits<Word>(all(0.5F));  // 0.5 has ulp 2^-24
  Word half = magnitude < (113U << 23) ? subnormal : normal;
  half = magnitude >= (143U << 23) ? Word{} + 0x7C00U : half;  // 2^16 and infinity
  half = magnitude > 0x7F800000U ? Word{} + 0x7E00U : half;
  store_16_bits(y, half | ((wide & 0x80000000U) >> 16));
}

// Arithmetic ------------------------------------------------------------------------------------------------------

constexpr float kLog2e = 1.44269504088896341F;

// 1 + 2^a. 2^a = 2^n 2^f, |f| <= 1/2; the polynomial is minimax for 2^f, relative error 7.5e-8, of which the share
// 2^a / (1 + 2^a) reaches the result. A NaN stays one; below -126 a is taken for that.
inline Float one_plus_exp2(Float a) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: n is in the low bits of a + kRound
  a = a < -126.0F ? all(-126.0F) : a;
  Float const shifted = a + kRound;
  Float const f = a - (shifted - kRound);
  Float p = f * 0x1.5c08e4p-10F + 0x1.3d0c54p-7F;
  p = p * f + 0x1.c6b6e4p-5F;
  p = p * f + 0x1.ebf918p-3F;
  p = p * f + 0x1.62e428p-1F;
  p = p * f + 0x1.000002p+0F;
  Float const power = bits<Float>((bits<Word>(shifted) << 23) + 0x3F800000U);
  return p * power + 1.0F;
}

template <int count>
struct Floats {
  using Vector [[gnu::vector_size(count * 4)]] = float;

  static float total(Vector v) {
    typename Floats<count / 2>::Vector low, high;
    __builtin_memcpy(&low, &v, sizeof low);
    __builtin_memcpy(&high, reinterpret_cast<char const*>(&v) + sizeof low, sizeof high);
    return Floats<count / 2>::total(low + high);
  }
};

template <>
struct Floats<2> {
  using Vector [[gnu::vector_size(8)]] = float;

  static float total(Vector v) { return v[0] + v[1]; }
};

inline float total(Float v) { return Floats<kWidth>::total(v); }

}  // namespace
