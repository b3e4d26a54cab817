// All 65536 float16 and bfloat16 numbers, widened; all of them and what lies between, narrowed; int8 rounded and
// saturated. Built once per target, with its flags: of vector.h there is one copy for each.
#include <algorithm>

#include "../cpu/features.h"
#include "../cpu/vector.h"
#include "harness.h"
#include "reference.h"

namespace simam::test {
namespace {

template <class T>
struct Case;

template <>
struct Case<Half> {
  static constexpr Type type = Type::f16;
  static constexpr uint16_t infinity = 0x7C00;
};
template <>
struct Case<Bfloat> {
  static constexpr Type type = Type::bf16;
  static constexpr uint16_t infinity = 0x7F80;
};

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

template <class T>
void check_widened() {
  for (uint32_t first = 0; first < 65536; first += kWidth) {
    T narrow[kWidth];
    for (uint32_t i = 0; i < kWidth; ++i) narrow[i].bits = static_cast<uint16_t>(first + i);
    Float const wide = load(narrow, 1.0F);
    for (int i = 0; i < kWidth; ++i) {
      double const expected = decode(Case<T>::type, narrow, i, 1);
      CHECK(same(static_cast<double>(wide[i]), expected), "0x%04x: %g, not %g", narrow[i].bits,
            static_cast<double>(wide[i]), expected);
      CHECK(same(static_cast<double>(load_one(narrow + i, 1.0F)), expected), "0x%04x alone", narrow[i].bits);
    }
  }
}

template <class T>
void check_narrowed(Float wide) {
  T narrow[kWidth];
  store(narrow, wide, 1.0F);
  for (int i = 0; i < kWidth; ++i) {
    auto const exact = static_cast<double>(wide[i]);
    double const expected = round_to(format(Case<T>::type), exact);
    double const got = decode(Case<T>::type, narrow, i, 1);
    CHECK(same(got, expected), "%.9g: %.9g (0x%04x), not %.9g", exact, got, narrow[i].bits, expected);
  }
}

// Each number, the middle to the next, the floats around both, and seven floats of any bits at all; of both signs.
template <class T>
void check_all_narrowed() {
  Format const& f = format(Case<T>::type);
  Random random(1);
  std::vector<float> values;
  for (uint16_t b = 0; b < Case<T>::infinity; ++b) {
    double const v = decode(Case<T>::type, &b, 0, 1);
    for (double const exact : {v, v + ulp(f, v) / 2}) {
      auto const value = static_cast<float>(exact);
      values.insert(values.end(), {value, std::nextafter(value, 1e38F), std::nextafter(value, -1e38F)});
    }
    for (int i = 0; i < 7; ++i) values.push_back(bits<float>(static_cast<uint32_t>(random.bits())));
  }
  values.insert(values.end(), {HUGE_VALF, NAN, 65504.0F, 65519.99F, 65520.0F, 65536.0F, 3.4e38F, 1e-45F, 0.0F,
                               bits<float>(0x7F800001U), bits<float>(0x7FFFFFFFU)});
  while (values.size() % kWidth != 0) values.push_back(0);
  for (size_t i = 0; i < values.size(); i += kWidth) {
    check_narrowed<T>(at<Float>(&values[i]));
    check_narrowed<T>(-at<Float>(&values[i]));
  }
}

TEST(half_widened) { check_widened<Half>(); }
TEST(bfloat_widened) { check_widened<Bfloat>(); }
TEST(half_narrowed) { check_all_narrowed<Half>(); }
TEST(bfloat_narrowed) { check_all_narrowed<Bfloat>(); }

TEST(bytes) {
  for (int step = -4000; step <= 4000; ++step) {  // 16ths: the middles too
    Float const v = all(static_cast<float>(step) / 16);
    int8_t q[kWidth];
    store(q, v, 1.0F);
    double const expected = std::clamp(std::nearbyint(step / 16.0), -128.0, 127.0);
    CHECK(q[0] == expected && q[kWidth - 1] == expected, "%g: %d", step / 16.0, q[0]);
    if (step >= -128 && step < 128) {
      auto const byte = static_cast<int8_t>(step);
      std::memset(q, byte, sizeof q);
      CHECK(load(q, 0.5F)[kWidth - 1] == 0.5F * static_cast<float>(step) && load_one(&byte, 0.5F) == load(q, 0.5F)[0],
            "%d", step);
    }
  }
  for (float const v : {1e30F, HUGE_VALF, -1e30F, -HUGE_VALF}) {
    int8_t q[kWidth];
    store(q, all(v), 1.0F);
    CHECK(q[0] == (v > 0 ? 127 : -128), "%g: %d", static_cast<double>(v), q[0]);
  }
}

// 1 + 2^a against double, at every 2^-10. Of the polynomial 7.5e-8, of the last two steps of its evaluation eps/2 / 0.7
// and a third of that, of the sum eps/2: 2.5e-7 where 2^a is all of it. In the gate a < -0.72, and 2^a is 0.38 of it.
TEST(exponential) {
  double worst = 0;
  double worst_of_gate = 0;
  for (int step = -130 * 1024; step <= 126 * 1024; ++step) {
    double const a = step / 1024.0;
    double const exact = 1 + std::exp2(std::max(a, -126.0));
    auto const got = static_cast<double>(one_plus_exp2(all(static_cast<float>(a)))[0]);
    double& of_range = a < -0.72 ? worst_of_gate : worst;
    of_range = std::max(of_range, std::fabs(got - exact) / exact);
  }
  std::printf("  1 + 2^a is off by at most %.3g of it, in the gate by %.3g\n", worst, worst_of_gate);
  CHECK(worst < 2.6e-7, "off by %.3g", worst);
  CHECK(worst_of_gate < 1.4e-7, "off by %.3g", worst_of_gate);
  CHECK(std::isnan(one_plus_exp2(all(NAN))[0]), "NaN");
  CHECK(one_plus_exp2(all(-HUGE_VALF))[0] == 1, "-inf");
}

bool supported() {
#if SIMAM_WIDTH == 16
  return cpu::features().avx512f && cpu::features().avx512vl;
#elif SIMAM_WIDTH == 8
  return cpu::features().avx2;
#else
  return true;
#endif
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) {
  return simam::test::supported() ? simam::test::run_tests(count, names) : 77;  // 77: skipped
}
