// 8-bit integers with the channels last (N, H, W, C), as integer convolutions have them. Included by kernel.cpp alone.
//
// A vector of words holds kQuad neighbouring bytes: word l has the channels 4 l to 4 l + 3. Byte k of
// all words is one vector of floats. So no byte changes its lane, and all numbers of a channel are kept in that order:
// see slot().
// The sums of q and q^2 are exact. The gate is computed in units of the scale of x, so lambda is divided by its square.
// Its polynomials leave a relative error of 8e-6: 2 % of a step of y where the terms of y are 10 times its range.
// int8 becomes uint8 by its flipped sign bit, and its zero point moves by 128 with it.
#pragma once

#include "loops.h"
#include "vector.h"

namespace {

using simam::Activation;
using simam::cpu::kMaxLanes;
using simam::cpu::Lanes;
using simam::cpu::Moments;
using simam::cpu::Task;

using Shorts [[gnu::vector_size(kWidth * 4)]] = uint16_t;  // the halves of words

constexpr int kQuad = 4 * kWidth;
constexpr int kMostWidth = 320;
constexpr int64_t kTile = 64;      // rows that stay in the first cache; 64 * 255 fits into 16 bits
constexpr int64_t kExact = 65536;  // pixels; times 255^2 is less than 2^32

// Where the numbers of byte i of a row are.
constexpr int slot(int i) { return i / kQuad * kQuad + i % 4 * kWidth + i % kQuad / 4; }

// Some channels of all pixels of an image, as rows of bytes. A row is the channels of one pixel; or of `copies` pixels,
// all their channels, that fill vectors.
struct Channels {
  int64_t offset, stride;  // of the first row, and from row to row
  int count, copies, width;
  int shift;  // of zero points
  uint32_t flip;

  Channels(Task const& task, Lanes lanes, int64_t from)
      : offset((lanes.first / task.channels * task.m + from) * task.channels + lanes.first % task.channels),
        count(lanes.count),
        copies(lanes.count == task.channels ? filling(lanes.count) : 1),
        shift(task.type == simam::cpu::Type::s8 ? 128 : 0) {
    stride = task.channels * copies;
    width = count * copies;
    flip = shift != 0 ? 0x80808080U : 0;
  }

  // Pixels that together fill vectors; 1 if so many are too long.
  static int filling(int channels) {
    int copies = 1;
    while (copies * channels % kQuad != 0 && copies * channels <= kMostWidth) ++copies;
    return copies * channels <= kMostWidth ? copies : 1;
  }

  // work(offset, rows, first byte in the row, bytes) for parts of `pixels` pixels: a tile of rows, a vector of each.
  template <class Work>
  void for_parts(int64_t pixels, Work const& work) const {
    int64_t const rows = pixels / copies;
    for (int64_t row = 0; row < rows; row += kTile)
      for (int i = 0; i < width; i += kQuad)
        work(offset + row * stride + i, rows - row < kTile ? rows - row : kTile, i, width - i);
    int const rest = static_cast<int>(pixels % copies) * count;
    for (int i = 0; i < rest; i += kQuad) work(offset + rows * stride + i, int64_t{1}, i, rest - i);
  }
};

// `n` bytes, made uint8; the rest is 0, as it is summed too. whole: n is kQuad or more.
template <bool whole>
inline Word load_quad(uint8_t const* q, int n, uint32_t flip) {
  if (whole) return at<Word>(q) ^ flip;
  uint8_t padded[kQuad];
  __builtin_memset(padded, static_cast<int>(flip & 0xFFU), sizeof padded);
  __builtin_memcpy(padded, q, static_cast<size_t>(n));
  return at<Word>(padded) ^ flip;
}

template <bool whole>
inline void store_quad(uint8_t* q, Word bytes, int n, uint32_t flip) {
  bytes ^= flip;
  if (whole) {
    __builtin_memcpy(q, &bytes, sizeof bytes);
  } else {
    uint8_t padded[kQuad];
    __builtin_memcpy(padded, &bytes, sizeof bytes);
    __builtin_memcpy(q, padded, static_cast<size_t>(n));
  }
}

inline Word byte_of(Word quad, int k) { return k == 3 ? quad >> 24 : (quad >> (8 * k)) & 0xFFU; }

// Moments ---------------------------------------------------------------------------------------------------------

struct QuadSums {
  Word first[4]{}, second[4]{};  // by byte
};

// Bytes 0 and 2 of each word are worked on together, and 1 and 3, in 16 bits each.
template <bool whole>
inline void sum_tile(uint8_t const* q, int64_t rows, Channels const& of, int n, QuadSums& sums) {
  Shorts first[2]{};
  Word second[4]{};
  for (int64_t i = 0; i < rows; ++i) {
    Word const quad = load_quad<whole>(q + i * of.stride, n, of.flip);
    for (int k = 0; k < 2; ++k) {
      Shorts const two = bits<Shorts>((quad >> (8 * k)) & 0x00FF00FFU);
      Word const squares = bits<Word>(two * two);
      first[k] += two;
      second[k] += squares & 0xFFFFU;
      second[k + 2] += squares >> 16;
    }
  }
  for (int k = 0; k < 2; ++k) {
    sums.first[k] += bits<Word>(first[k]) & 0xFFFFU;
    sums.first[k + 2] += bits<Word>(first[k]) >> 16;
  }
  for (int k = 0; k < 4; ++k) sums.second[k] += second[k];
}

inline void moments_channels_last(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments& out) {
  double first[kMaxLanes]{}, second[kMaxLanes]{};
  auto const* const x = static_cast<uint8_t const*>(task.x);
  for (int64_t start = from; start < to; start += kExact) {
    Channels const of(task, lanes, start);
    QuadSums sums[kMostWidth / kQuad];
    of.for_parts(start + kExact < to ? kExact : to - start, [&](int64_t offset, int64_t rows, int i, int n) {
      n < kQuad ? sum_tile<false>(x + offset, rows, of, n, sums[i / kQuad])
                : sum_tile<true>(x + offset, rows, of, n, sums[i / kQuad]);
    });
    for (int i = 0; i < of.width; ++i) {
      QuadSums const& held = sums[i / kQuad];
      first[i % of.count] += held.first[i % 4][i % kQuad / 4];
      second[i % of.count] += held.second[i % 4][i % kQuad / 4];
    }
  }
  out.count = static_cast<double>(to - from);
  for (int i = 0; i < lanes.count; ++i) {
    double const mean = first[i] / out.count;
    double const m2 = second[i] - first[i] * mean;
    out.mean[i] = mean;
    out.m2[i] = m2 < 0 ? 0 : m2;
  }
}

// Gate ------------------------------------------------------------------------------------------------------------

// What the gate needs to know of each channel, in the order of slot(), and of the tensors.
//   y in steps = activation(gate(q) * (scale * q + offset) + bias + residual_scale * r), silu in units of y
struct Numbers {
  float hi[kMostWidth];    // mean of q, rounded
  float lo[kMostWidth];    // root * what rounding left of the mean
  float root[kMostWidth];  // sqrt(log2 e) / (2 sqrt(v + lambda)): gate = sigmoid(1/2 + (root (q - mean))^2 / log2 e)
  float scale[kMostWidth];
  float offset[kMostWidth];
  float bias[kMostWidth];
  float residual_scale, steps, lowest, highest;
  int32_t zero;

  Numbers(Task const& task, Lanes lanes, Moments const& moments, Channels const& of) {
    constexpr double kHalfRoot = 0.60056120439322491;  // sqrt(log2 e) / 2
    bool const silu = task.activation == Activation::silu;
    double const unit = silu ? 1 : task.y_scale, x_scale = task.x_scale, r_scale = task.residual_scale / unit;
    double const x_zero = task.x_zero + of.shift;
    double const r = task.residual == nullptr ? 0 : -r_scale * (task.residual_zero + of.shift);
    double const lambda = static_cast<double>(task.lambda) / (x_scale * x_scale);
    int64_t const channel = lanes.first % task.channels;
    for (int i = 0; i < (of.width + kQuad - 1) / kQuad * kQuad; ++i)
      hi[i] = lo[i] = root[i] = scale[i] = offset[i] = bias[i] = 0;
    for (int i = 0; i < of.count; ++i) {
      double const v = moments.m2[i] / (moments.count - 1);
      double const a = (task.scale == nullptr ? 1.0 : static_cast<double>(task.scale[channel + i])) * x_scale / unit;
      double const b = (task.bias == nullptr ? 0.0 : static_cast<double>(task.bias[channel + i])) / unit + r;
      auto const mean = static_cast<float>(moments.mean[i]);
      auto const scaled = static_cast<float>(kHalfRoot / __builtin_sqrt(v + lambda));
      for (int k = i; k < of.width; k += of.count) {
        int const s = slot(k);
        hi[s] = mean;
        root[s] = scaled;
        lo[s] = static_cast<float>(moments.mean[i] - static_cast<double>(mean)) * scaled;
        scale[s] = static_cast<float>(a);
        offset[s] = static_cast<float>(-a * x_zero);
        bias[s] = static_cast<float>(b);
      }
    }
    zero = task.y_zero + of.shift;
    residual_scale = static_cast<float>(r_scale);
    steps = silu ? 1.0F / task.y_scale : 1.0F;
    lowest = task.activation == Activation::relu ? 0.0F : static_cast<float>(-zero);
    highest = static_cast<float>(255 - zero);
  }
};

// 1 / (1 + 2^a) for a <= -log2(e) / 2. Both polynomials are minimax in the relative error: 2.6e-6 and 5.4e-6.
inline Float gate_of(Float a) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: n is in the low bits of a + kRound
  a = a < -126.0F ? all(-126.0F) : a;
  Float const shifted = a + kRound;
  Float const f = a - (shifted - kRound);
  Float p = f * 0x1.3997d4p-7F + 0x1.ca1440p-5F;
  p = p * f + 0x1.ec06dap-3F;
  p = p * f + 0x1.62e0dcp-1F;
  p = p * f + 0x1.ffffe8p-1F;
  p = p * bits<Float>((bits<Word>(shifted) << 23) + 0x3F800000U);
  Float g = p * -0x1.c617eep-3F + 0x1.4016f4p-1F;
  g = g * p - 0x1.cd0a26p-1F;
  g = g * p + 0x1.f95e3cp-1F;
  g = g * p - 0x1.ffab6ep-1F;
  return g * p + 0x1.ffff4cp-1F;
}

inline Float as_float(Word byte) { return __builtin_convertvector(bits<Int>(byte), Float); }

template <bool residual, Activation activation, bool whole>
inline void gate_tile(Task const& task, Numbers const& numbers, int first, Channels const& of, int64_t offset,
                      int64_t rows, int n) {
  auto const* const x = static_cast<uint8_t const*>(task.x) + offset;
  auto const* const r = static_cast<uint8_t const*>(task.residual) + (residual ? offset : 0);
  auto* const y = static_cast<uint8_t*>(task.y) + offset;
  Float const residual_scale = all(numbers.residual_scale), lowest = all(numbers.lowest),
              highest = all(numbers.highest);
  float const steps = numbers.steps;
  Word const zero = bits<Word>(Int{} + numbers.zero);
  for (int64_t i = 0; i < rows; ++i) {
    int64_t const here = i * of.stride;
    Word const quad = load_quad<whole>(x + here, n, of.flip);
    Word const other = residual ? load_quad<whole>(r + here, n, of.flip) : Word{};
    Word made{};
    for (int k = 0; k < 4; ++k) {
      int const s = first + k * kWidth;
      Float const q = as_float(byte_of(quad, k));
      Float const z = (q - at<Float>(numbers.hi + s)) * at<Float>(numbers.root + s) - at<Float>(numbers.lo + s);
      Float const value = q * at<Float>(numbers.scale + s) + at<Float>(numbers.offset + s);
      Float v = value * gate_of(-0.5F * kLog2e - z * z) + at<Float>(numbers.bias + s);
      if (residual) v = v + as_float(byte_of(other, k)) * residual_scale;
      if (activation == Activation::silu) {
        Float const a = v * -kLog2e;
        v = v / one_plus_exp2(a > 126.0F ? all(126.0F) : a) * steps;
      }
      v = v < highest ? v : highest;
      v = v > lowest ? v : lowest;
      Word const rounded = bits<Word>(v + 12582912.0F) + zero;  // to nearest even; the low byte is what is wanted
      made |= (k == 3 ? rounded : rounded & 0xFFU) << (8 * k);
    }
    store_quad<whole>(y + here, made, n, of.flip);
  }
}

template <bool residual, Activation activation>
void gate_rows(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  Channels const of(task, lanes, from);
  Numbers const numbers(task, lanes, moments, of);
  of.for_parts(to - from, [&](int64_t offset, int64_t rows, int i, int n) {
    n < kQuad ? gate_tile<residual, activation, false>(task, numbers, i, of, offset, rows, n)
              : gate_tile<residual, activation, true>(task, numbers, i, of, offset, rows, n);
  });
}

template <bool residual>
void gate_activated(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  switch (task.activation) {
    case Activation::none: return gate_rows<residual, Activation::none>(task, lanes, from, to, moments);
    case Activation::relu: return gate_rows<residual, Activation::relu>(task, lanes, from, to, moments);
    case Activation::silu: return gate_rows<residual, Activation::silu>(task, lanes, from, to, moments);
  }
}

inline void gate_channels_last(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  return task.residual != nullptr ? gate_activated<true>(task, lanes, from, to, moments)
                                  : gate_activated<false>(task, lanes, from, to, moments);
}

}  // namespace
