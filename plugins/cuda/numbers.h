// The number formats, 16 bytes at a time or one by one. The same code is compiled for a GPU and, in the tests, for the
// host, where it is slower and gives the same bits.
#pragma once

#if defined(__CUDACC__)
#define SIMAM_DEVICE __device__ __forceinline__
#define SIMAM_UNROLL _Pragma("unroll")
#define SIMAM_UNROLL_BY_4 _Pragma("unroll 4")
#define SIMAM_ROLLED _Pragma("unroll 1")
#else
#define SIMAM_DEVICE inline
#define SIMAM_UNROLL
#define SIMAM_UNROLL_BY_4
#define SIMAM_ROLLED
#endif

#if !defined(__CUDACC_RTC__)
#include <cmath>
#include <cstdint>
#include <cstring>
#endif

namespace simam::cuda {

struct alignas(16) Bytes16 {
  uint32_t w[4];
};

SIMAM_DEVICE float as_float(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
#endif
}

SIMAM_DEVICE uint32_t as_bits(float v) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(v);
#else
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return bits;
#endif
}

// Each format: Element is how it lies in memory; kScaled: a real value is a scale times it; kCoarse: it has so few
// digits that what a float mean misses of the mean is nothing beside a spread. widen is exact, narrow rounds to nearest
// even.

struct F32 {
  using Element = float;
  static constexpr bool kScaled = false;
  static constexpr bool kCoarse = false;

  static SIMAM_DEVICE float widen(float v) { return v; }
  static SIMAM_DEVICE float narrow(float v) { return v; }
  static SIMAM_DEVICE void widen(Bytes16 const& from, float (&v)[4]) {
    for (int i = 0; i < 4; ++i) v[i] = as_float(from.w[i]);
  }
  static SIMAM_DEVICE Bytes16 narrow(float const (&v)[4]) {
    return {{as_bits(v[0]), as_bits(v[1]), as_bits(v[2]), as_bits(v[3])}};
  }
};

struct F16 {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static constexpr bool kCoarse = false;

  static SIMAM_DEVICE float widen(uint16_t v) {
#if defined(__CUDA_ARCH__)
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(v));
    return wide;
#else
    uint32_t const sign = (v & 0x8000U) << 16;
    uint32_t const rest = v & 0x7FFFU;
    if (rest >= 0x7C00U) return as_float(sign | 0x7F800000U | (rest & 0x3FFU) << 13);
    float const scaled = as_float(rest << 13) * 0x1p112F;  // exact, denormal numbers too
    return as_float(sign | as_bits(scaled));
#endif
  }

  static SIMAM_DEVICE uint16_t narrow(float v) {
#if defined(__CUDA_ARCH__)
    uint16_t low;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(low) : "f"(v));
    return low;
#else
    uint32_t const bits = as_bits(v);
    uint32_t const sign = bits >> 16 & 0x8000U;
    uint32_t const rest = bits & 0x7FFFFFFFU;
    if (rest > 0x7F800000U) return 0x7FFFU;  // NaN
    if (rest >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);
    if (rest < 0x38800000U)  // denormal: the sum's last place is 2^-24
      return static_cast<uint16_t>(sign | ((as_bits(as_float(rest) + 0.5F) & 0x7FFU)));
    return static_cast<uint16_t>(sign | ((rest - 0x38000000U + 0xFFFU + (rest >> 13 & 1U)) >> 13));
#endif
  }

  static SIMAM_DEVICE void widen(Bytes16 const& from, float (&v)[8]) {
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = widen(static_cast<uint16_t>(from.w[i] & 0xFFFFU));
      v[2 * i + 1] = widen(static_cast<uint16_t>(from.w[i] >> 16));
    }
  }

  static SIMAM_DEVICE Bytes16 narrow(float const (&v)[8]) {
    Bytes16 to;
    for (int i = 0; i < 4; ++i) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(to.w[i]) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
#else
      to.w[i] = narrow(v[2 * i]) | static_cast<uint32_t>(narrow(v[2 * i + 1])) << 16;
#endif
    }
    return to;
  }
};

struct BF16 {
  using Element = uint16_t;
  static constexpr bool kScaled = false;
  static constexpr bool kCoarse = false;

  static SIMAM_DEVICE float widen(uint16_t v) { return as_float(static_cast<uint32_t>(v) << 16); }

  static SIMAM_DEVICE uint16_t narrow(float v) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    uint16_t low;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(low) : "f"(v));
    return low;
#else
    uint32_t const bits = as_bits(v);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return 0x7FFFU;  // NaN
    return static_cast<uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
#endif
  }

  static SIMAM_DEVICE void widen(Bytes16 const& from, float (&v)[8]) {
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = as_float(from.w[i] << 16);
      v[2 * i + 1] = as_float(from.w[i] & 0xFFFF0000U);
    }
  }

  static SIMAM_DEVICE Bytes16 narrow(float const (&v)[8]) {
    Bytes16 to;
    for (int i = 0; i < 4; ++i) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(to.w[i]) : "f"(v[2 * i + 1]), "f"(v[2 * i]));
#else
      to.w[i] = narrow(v[2 * i]) | static_cast<uint32_t>(narrow(v[2 * i + 1])) << 16;
#endif
    }
    return to;
  }
};

// Saturates; NaN becomes 0.
struct S8 {
  using Element = int8_t;
  static constexpr bool kScaled = true;
  static constexpr bool kCoarse = true;

  // A conversion is slow on a GPU. A byte b below the exponent of 2^23 is 2^23 + b.
  static SIMAM_DEVICE float widen(int8_t v) {
    return as_float(0x4B000000U | static_cast<uint32_t>(static_cast<uint8_t>(v) ^ 0x80U)) - 8388736.0F;
  }

  static SIMAM_DEVICE int8_t narrow(float v) {
#if defined(__CUDA_ARCH__)
    int wide;
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(wide) : "f"(v));
    return static_cast<int8_t>(wide);
#else
    if (!(v > -128.5F)) return v != v ? 0 : -128;
    return static_cast<int8_t>(v > 127.0F ? 127.0F : std::nearbyintf(v));
#endif
  }

  static SIMAM_DEVICE void widen(Bytes16 const& from, float (&v)[16]) {
    for (int i = 0; i < 16; ++i) {
      uint32_t const bytes = from.w[i / 4] ^ 0x80808080U;  // 128 more
#if defined(__CUDA_ARCH__)
      uint32_t const bits = __byte_perm(bytes, 0x4B000000U, 0x7440U + static_cast<unsigned>(i % 4));
#else
      uint32_t const bits = 0x4B000000U | (bytes >> (8 * (i % 4)) & 0xFFU);
#endif
      v[i] = as_float(bits) - 8388736.0F;
    }
  }

  static SIMAM_DEVICE Bytes16 narrow(float const (&v)[16]) {
    Bytes16 to;
    for (int i = 0; i < 4; ++i) {
      uint32_t w = 0;
      for (int j = 3; j >= 0; --j) w = w << 8 | static_cast<uint8_t>(narrow(v[4 * i + j]));
      to.w[i] = w;
    }
    return to;
  }
};

// sum + the sum of a's bytes times b's: 4 of each, signed.
SIMAM_DEVICE int multiply_bytes(uint32_t a, uint32_t b, int sum) {
#if defined(__CUDA_ARCH__)
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
#else
  for (int i = 0; i < 4; ++i)
    sum += static_cast<int8_t>(a >> (8 * i) & 0xFFU) * static_cast<int8_t>(b >> (8 * i) & 0xFFU);
  return sum;
#endif
}

// How a kernel reaches memory: in vectors of 16 bytes, which must be aligned, or element by element.

template <class Format>
struct Vectors {
  using T = Format;
  using Chunk = Bytes16;
  static constexpr int kCount = 16 / sizeof(typename T::Element);  // elements of a chunk
  static constexpr bool kWide = true;
};

template <class Format>
struct Elements {
  using T = Format;
  using Chunk = typename T::Element;
  static constexpr int kCount = 1;
  static constexpr bool kWide = false;
};

template <class Access>
SIMAM_DEVICE void widen(typename Access::Chunk const& from, float (&v)[Access::kCount]) {
  if constexpr (Access::kWide)
    Access::T::widen(from, v);
  else
    v[0] = Access::T::widen(from);
}

template <class Access>
SIMAM_DEVICE typename Access::Chunk narrow(float const (&v)[Access::kCount]) {
  if constexpr (Access::kWide)
    return Access::T::narrow(v);
  else
    return Access::T::narrow(v[0]);
}

}  // namespace simam::cuda
