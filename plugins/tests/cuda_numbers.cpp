// cuda/numbers.h on the host: every number there and back, and what lies between two of them.
#include <cmath>
#include <limits>

#include "../cuda/numbers.h"
#include "harness.h"

using namespace simam;
using namespace simam::test;

namespace {

// 16 bytes at a time as one by one.
template <class T, int kCount>
void check_wide(float const (&values)[kCount]) {
  typename T::Element single[kCount];
  for (int i = 0; i < kCount; ++i) single[i] = T::narrow(values[i]);
  cuda::Bytes16 const wide = T::narrow(values);
  CHECK(std::memcmp(&wide, single, sizeof wide) == 0, "narrow: %g ...", static_cast<double>(values[0]));
  float back[kCount];
  T::widen(wide, back);
  for (int i = 0; i < kCount; ++i) {
    float const one = T::widen(single[i]);
    CHECK(std::memcmp(&back[i], &one, sizeof one) == 0, "widen: %g of %d", static_cast<double>(back[i]), i);
  }
}

// Bits of the magnitude: up to that of infinity. Half of the way to the next one goes to the even one.
template <class T>
void check_float(uint32_t infinity, int digits, double largest) {
  CHECK(static_cast<double>(T::widen(static_cast<uint16_t>(infinity - 1))) == largest, "the largest");
  CHECK(std::isinf(T::widen(static_cast<uint16_t>(infinity))), "infinity");
  for (uint32_t sign : {0U, 0x8000U})
    for (uint32_t bits = 0; bits < infinity; ++bits) {
      auto const here = static_cast<uint16_t>(sign | bits);
      auto const next = static_cast<uint16_t>(here + 1);
      float const v = T::widen(here);
      CHECK(T::narrow(v) == here && std::signbit(v) == (sign != 0), "%04x", here);
      double const after = bits + 1 == infinity ? std::copysign(largest + std::ldexp(largest, -digits), v)
                                                : static_cast<double>(T::widen(next));
      // Exact in float, but for the space behind the largest of bfloat16.
      auto const middle = static_cast<float>((static_cast<double>(v) + after) / 2);
      if (std::isinf(middle)) continue;
      CHECK(bits + 1 == infinity || T::narrow(middle) == (bits % 2 == 0 ? here : next), "behind %04x", here);
      CHECK(T::narrow(std::nextafter(middle, v)) == here, "before the middle behind %04x", here);
      if (bits + 1 < infinity)
        CHECK(T::narrow(std::nextafter(middle, static_cast<float>(after))) == next, "past the middle behind %04x",
              here);
      float values[8];
      for (int i = 0; i < 8; ++i) values[i] = i % 3 == 0 ? v : static_cast<float>(i) * middle;
      if (bits % 64 == 0) check_wide<T>(values);
    }
  float const inf = std::numeric_limits<float>::infinity();
  CHECK(T::narrow(inf) == infinity && T::narrow(-inf) == (0x8000U | infinity), "infinity");
  CHECK(std::isnan(T::widen(T::narrow(std::nanf("")))), "NaN");
  CHECK(std::isnan(T::widen(T::narrow(cuda::as_float(0x7FFFFFFFU)))), "NaN, all bits");
  CHECK(std::isnan(T::widen(static_cast<uint16_t>(infinity + 1))), "the first NaN");
}

}  // namespace

TEST(float16) {
  check_float<cuda::F16>(0x7C00, 11, 65504);
  CHECK(cuda::F16::narrow(65520.0F) == 0x7C00 && cuda::F16::narrow(65519.0F) == 0x7BFF, "where infinity begins");
  CHECK(cuda::F16::narrow(-1e30F) == 0xFC00, "beyond");
}

TEST(bfloat16) { check_float<cuda::BF16>(0x7F80, 8, std::ldexp(255.0, 120)); }

TEST(int8) {
  struct {
    float v;
    int q;
  } const cases[] = {{0.5F, 0},         {1.5F, 2},       {2.5F, 2},       {-0.5F, 0},      {-1.5F, -2},
                     {126.5F, 126},     {127.0F, 127},   {127.6F, 127},   {1e30F, 127},    {INFINITY, 127},
                     {-127.5F, -128},   {-128.0F, -128}, {-128.4F, -128}, {-128.6F, -128}, {-1e30F, -128},
                     {-INFINITY, -128}, {NAN, 0}};
  for (auto const& each : cases)
    CHECK(cuda::S8::narrow(each.v) == each.q, "%g is %d", static_cast<double>(each.v), cuda::S8::narrow(each.v));
  for (int q = -128; q < 128; ++q) {
    CHECK(cuda::S8::narrow(cuda::S8::widen(static_cast<int8_t>(q))) == q, "%d", q);
    float values[16];
    for (int i = 0; i < 16; ++i) values[i] = static_cast<float>((q + 7 * i) % 128);
    check_wide<cuda::S8>(values);
    uint32_t const a = 0x01010101U * static_cast<uint8_t>(q);
    CHECK(cuda::multiply_bytes(a, 0x80FF017FU, 5) == 5 + q * (-128 - 1 + 1 + 127), "the bytes of %d", q);
  }
}

int main(int count, char** names) { return run_tests(count, names); }
