// The formula on floats: moments of parts made one, the gate, and what follows it.
//
// Accuracy. The mean is (mean + rest): the first is a rounded mean, the second what it misses, so x - mean - rest is
// good to an ulp of itself where the mean is 1e5 spreads. The gate of float32 takes ex2.approx, 2 ulp in NVIDIA's PTX
// manual, and a corrected rcp.approx, 1 ulp; with those errors put in, the emulator's results stay within 2 eps max|x|.
// The narrower types take one tanh.approx: 2^-11 by the manual, measured by others at 1.1e-5, half of it in the gate.
#pragma once

#include "numbers.h"
#include "problem.h"

namespace simam::cuda {

SIMAM_DEVICE float reciprocal(float v) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return 1 / v;
#endif
}

// Of 1 or more, infinity too: rcp.approx.ftz takes one instruction where the other takes five.
SIMAM_DEVICE float reciprocal_of_large(float v) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return 1 / v;
#endif
}

SIMAM_DEVICE float exp2_of(float v) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return std::exp2(v);
#endif
}

SIMAM_DEVICE float tanh_of(float v) {
#if defined(__CUDA_ARCH__)
  float r;
  asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
#else
  return std::tanh(v);
#endif
}

SIMAM_DEVICE float fused_multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}

// x / d for d from 1 to 2: what rcp.approx and the product miss is made good.
SIMAM_DEVICE float quotient(float x, float d) {
  float const r = reciprocal_of_large(d);
  float const rough = x * r;
  return fused_multiply_add(fused_multiply_add(-d, rough, x), r, rough);
}

constexpr float kLog2e = 1.44269504F;

// Of a power of two.
SIMAM_DEVICE int log2_of(int power) {
#if defined(__CUDA_ARCH__)
  return 31 - __clz(power);
#else
  int log = 0;
  while (power >> log > 1) ++log;
  return log;
#endif
}

// Sums over the threads of a warp. All of them get the same bits, and all must come here.
template <class Block, class Number>
SIMAM_DEVICE Number sum_of(Block const& block, Number v) {
  SIMAM_UNROLL
  for (int bit = 16; bit > 0; bit /= 2) v += block.other(v, bit);
  return v;
}

// Over each `lanes` of them, a power of two.
template <class Block, class Number, int kSums>
SIMAM_DEVICE void sum_over(Block const& block, int lanes, Number (&v)[kSums]) {
  SIMAM_ROLLED
  for (int bit = 1; bit < lanes; bit *= 2)
    for (Number& each : v) each += block.other(each, bit);
}

// Of `count` values with sum of (x - centre) `off` and of (x - centre)^2 `squares`.
SIMAM_DEVICE Moments about(float centre, float count, float off, float squares) {
  float const rest = off * reciprocal(count);
  float const m2 = fused_multiply_add(-off, rest, squares);
  return {count, centre, rest, m2 < 0 ? 0 : m2};  // NaN stays
}

// Of `count` integers with this sum and sum of squares: exact but for its rounding.
SIMAM_DEVICE Moments of_integers(int count, int sum, int squares) {
  auto const number = static_cast<float>(count);
  float const per = reciprocal(number);
  float const mean = static_cast<float>(sum) * per;
  float const rest = fused_multiply_add(-mean, number, static_cast<float>(sum)) * per;
  int64_t const m2 = static_cast<int64_t>(count) * squares - static_cast<int64_t>(sum) * sum;  // times count
  return {number, mean, rest, static_cast<float>(m2) * per};
}

// Parts are merged in two rounds: the mean first, about the first part's; then all about that mean. One round would
// subtract large sums from one another where the first part is unlike the others.

// Where a part's mean lies from `mean + rest`.
SIMAM_DEVICE float apart_of(Moments const& part, float mean, float rest) {
  return ((part.mean - mean) + part.rest) - rest;
}

// The mean, of the sum of count * apart about `centre`: a float and what it misses. m2 is 0.
SIMAM_DEVICE Moments mean_of(float centre, float count, float off) {
  float const shift = off * reciprocal(count);
  float const mean = centre + shift;
  float const back = mean - centre;
  return {count, mean, (centre - (mean - back)) + (shift - back), 0};
}

// The moments, of the sums about `mean`.
SIMAM_DEVICE Moments merged(Moments const& mean, float off, float squares) {
  Moments all = about(mean.mean, mean.count, off, squares);
  all.rest += mean.rest;
  return all;
}

// A sum of many: what an addition loses is kept for the next one (Kahan 1965).
struct LongSum {
  float sum = 0, lost = 0;

  SIMAM_DEVICE void add(float v) {
    float const wanted = v - lost;
    float const next = sum + wanted;
    lost = (next - sum) - wanted;
    sum = next;
  }
};

// The gate of one plane: off * (by * off + slope) + base, where off is x - mean, is the argument of exp2 or tanh, by *
// (off - rest)^2 and what is added to it.
struct alignas(16) Gate {
  float mean, by, slope, base;
};

template <class T>
constexpr bool kExact = sizeof(typename T::Element) == 4;

template <class T>
SIMAM_DEVICE Gate gate_of(Moments const& m, Problem const& p) {
  float const v = m.m2 * p.per_rest;
  float const four = 4 * (v + p.lambda);
  float by = reciprocal(four);
  // Of infinity, a sum of squares beyond floats, this makes NaN, and not a gate of sigmoid(1/2).
  by = fused_multiply_add(fused_multiply_add(-four, by, 1), by, by) * (kExact<T> ? -kLog2e : 0.5F);
  // The nearest float, and what that misses: of a rounded quotient more is missed, and off would be small beside rest.
  float const mean = m.mean + m.rest;
  float const rest = (m.mean - mean) + m.rest;
  float const steep = by * rest;
  return {mean, by, -2 * steep, fused_multiply_add(steep, rest, kExact<T> ? -0.5F * kLog2e : 0.25F)};
}

// x * sigmoid(d + 1/2)
template <class T>
SIMAM_DEVICE float simam_of(float x, Gate const& gate) {
  float const off = x - gate.mean;
  float const at = T::kCoarse ? fused_multiply_add(off * off, gate.by, 0.25F)
                              : fused_multiply_add(fused_multiply_add(off, gate.by, gate.slope), off, gate.base);
  if constexpr (kExact<T>) return quotient(x, 1 + exp2_of(at));
  float const half = 0.5F * x;
  return fused_multiply_add(half, tanh_of(at), half);
}

// scale * simam(x) + bias + residual and its activation. Parameters of one channel.
struct Epilogue {
  float scale, bias;
};

template <class T>
SIMAM_DEVICE Epilogue epilogue_of(Problem const& p, int channel) {
  Epilogue epilogue{1, 0};
  if (p.scale != nullptr && channel < p.channels) epilogue = {p.scale[channel], p.bias[channel]};
  if constexpr (T::kScaled) epilogue.scale *= p.in_scale;
  return epilogue;
}

template <int kCount>
SIMAM_DEVICE void activate(float (&v)[kCount], int activation) {
  if (activation == 1) {
    for (float& each : v) each = each < 0 ? 0 : each;
  } else if (activation == 2) {
    for (float& each : v) each *= reciprocal_of_large(1 + exp2_of(-kLog2e * each));
  }
}

// From x to what is stored. residual: zeros where there is none. gate(j), of(j): gate and epilogue of element j. Where
// !kEpilogue nothing follows simam(x) but int8's scale.
template <class T, bool kEpilogue, int kCount, class GateOf, class EpilogueOf>
SIMAM_DEVICE void apply_epilogue(float (&v)[kCount], float const (&residual)[kCount], GateOf const& gate,
                                 EpilogueOf const& of, Problem const& p) {
  for (int j = 0; j < kCount; ++j) {
    v[j] = simam_of<T>(v[j], gate(j));
    if constexpr (kEpilogue) {
      float const more = T::kScaled ? residual[j] * p.residual_scale : residual[j];
      v[j] = fused_multiply_add(of(j).scale, v[j], of(j).bias + more);
    } else if constexpr (T::kScaled) {
      v[j] *= p.in_scale;
    }
  }
  if constexpr (kEpilogue) {
    activate(v, p.activation);
    if constexpr (T::kScaled)
      for (float& each : v) each *= p.out_scale;
  }
}

}  // namespace simam::cuda
