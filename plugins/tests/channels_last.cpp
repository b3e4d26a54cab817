// The kernel on 8-bit integers with the channels last, against the formula.
#include "channels_last.h"

namespace simam::test {
namespace {

double worst = 0;

// Half a step, for the rounding to y; and where y is computed, 1e-5 of its terms: the polynomials of the gate leave
// 8e-6, and rounding in float some 2^-23. An activation has a slope of at most 1.1.
void check(Int8Problem const& p, cpu::Target const& target, Output8 output = Output8::apart, size_t misaligned = 0) {
  std::vector<int> const got = run_int8(p, target, output, in_order(), misaligned);
  std::vector<double> const expected = exact(p);
  double const step = static_cast<double>(p.y_step.scale);
  for (size_t i = 0; i < got.size(); ++i) {
    auto const c = i % static_cast<size_t>(p.channels);
    double const terms =
        (p.op.affine ? std::fabs(static_cast<double>(p.scale[c])) : 1) * std::fabs(real(p.x_step, p.x[i])) +
        (p.op.affine ? std::fabs(static_cast<double>(p.bias[c])) : 0) +
        (p.op.residual ? std::fabs(real(p.residual_step, p.residual[i])) : 0);
    double const low = real(p.y_step, p.lowest()), high = real(p.y_step, p.lowest() + 255);
    double const off = std::fabs(real(p.y_step, got[i]) - std::clamp(expected[i], low, high));
    double const tolerance = 1.1e-5 * terms;
    worst = std::max(worst, (off - step / 2) / tolerance);
    if (off <= step / 2 + tolerance) continue;
    CHECK(false, "%s %s %s N %d M %d C %d: element %d: q %d, expected %.6g, got %d = %.6g, off by %.3g steps",
          target.name, format(p.type).name, p.op.name, static_cast<int>(p.images), static_cast<int>(p.m),
          static_cast<int>(p.channels), static_cast<int>(i), p.x[i], expected[i], got[i], real(p.y_step, got[i]),
          off / step);
    return;
  }
}

constexpr Type kBoth[] = {Type::u8, Type::s8};

// Whole vectors of each target, parts of them, and less than one; tiles and parts of them.
TEST(shapes) {
  for (Type const type : kBoth)
    for (int64_t const channels : {1, 3, 4, 5, 15, 16, 17, 24, 32, 33, 48, 64, 65, 96, 128, 130})
      for (int64_t const m : {2, 3, 49, 64, 65, 130})
        for (size_t i = 0; i < std::size(kOps); ++i) {
          if (thin() && (channels + m + static_cast<int64_t>(i)) % 5 != 0) continue;
          int64_t const images = 1 + (channels + m) % 3;
          Int8Problem p = make_int8(type, kOps[i], images, m, channels, static_cast<uint64_t>(channels * 1000 + m));
          for_targets_8([&](cpu::Target const& target) {
            check(p, target, Output8::apart, static_cast<size_t>(m % 7));
            check(p, target, Output8::on_x);
            if (p.op.residual) check(p, target, Output8::on_residual);
          });
        }
}

TEST(lambdas) {
  for (float const lambda : {0.1F, 1.0F, 1e-8F})
    for (Type const type : kBoth) {
      Int8Problem p = make_int8(type, kOps[5], 1, 49, 64, 3);
      p.lambda = lambda;
      for_targets_8([&](cpu::Target const& target) { check(p, target); });
    }
}

// Few long planes are split; many are not, and their squares are summed to more than 2^32.
TEST(long_planes) {
  for (Type const type : kBoth)
    for (int64_t const m : {2000, 65536, 65600, 70000}) {
      if (thin() && m > 2000) continue;
      Int8Problem p = make_int8(type, kOps[1], m == 70000 ? 16 : 1, m, m == 70000 ? 1 : 4, 5);
      for (size_t i = 0; i < p.x.size(); i += 2) p.x[i] = p.lowest() + (i % 400 == 0 ? 0 : 255);
      if (m == 70000) p.x.assign(p.x.size(), p.lowest() + 255);
      p.x[0] = p.lowest();
      for_targets_8([&](cpu::Target const& target) { check(p, target); });
    }
}

// y = r / 2 with steps that say so: to nearest even, on every zero point; and at both ends of the type.
TEST(rounding_and_saturation) {
  for (Type const type : kBoth)
    for (int const zero : {0, 1, 127, 254, 255}) {
      Int8Problem p = make_int8(type, kOps[4], 1, 256, 16, 7);
      p.scale.assign(16, 0.0F);
      p.bias.assign(16, 0.0F);
      p.residual_step = {1.0F, p.lowest() + 100};
      for (size_t i = 0; i < p.residual.size(); ++i) p.residual[i] = p.lowest() + static_cast<int>(i / 16);
      for (float const scale : {2.0F, 0.5F}) {
        p.y_step = {scale, p.lowest() + zero};
        for_targets_8([&](cpu::Target const& target) {
          std::vector<int> const got = run_int8(p, target);
          for (size_t i = 0; i < got.size(); ++i) {
            double const steps = real(p.residual_step, p.residual[i]) / static_cast<double>(scale);
            int const right =
                std::clamp(static_cast<int>(std::nearbyint(steps)) + p.y_step.zero, p.lowest(), p.lowest() + 255);
            CHECK(got[i] == right, "%s %s zero %d: %g steps became %d, not %d", target.name, format(type).name, zero,
                  steps, got[i], right);
          }
        });
      }
    }
}

TEST(order_and_threads_change_nothing) {
  for (int64_t const channels : {3, 64, 200})
    for (int64_t const m : {49, 1025, 5000}) {
      if (thin() && m > 1025) continue;
      Int8Problem const p = make_int8(Type::u8, kOps[5], 3, m, channels, 11);
      for_targets_8([&](cpu::Target const& target) {
        std::vector<int> const expected = run_int8(p, target);
        Random random(13);
        int count = 3;
        for (Parallel const& parallel : {backwards(), shuffled(random), on_threads(count)})
          CHECK(run_int8(p, target, Output8::apart, parallel) == expected, "%s C %d M %d", target.name,
                static_cast<int>(channels), static_cast<int>(m));
      });
    }
}

// A mistake in the formula is more than the tolerance: the variance over M, and the gate without 1/2.
TEST(a_wrong_formula_exceeds_the_tolerance) {
  Int8Problem const p = make_int8(Type::u8, kOps[0], 1, 49, 5, 17);
  std::vector<double> plane(49), right(49), wrong(49);
  for (size_t i = 0; i < 49; ++i) plane[i] = real(p.x_step, p.x[i * 5]);
  simam(plane.data(), right.data(), 49, p.lambda);
  for (Formula const& formula : {Formula{0, 1, 0.5L}, Formula{1, 1, 0.499L}}) {
    simam(plane.data(), wrong.data(), 49, p.lambda, formula);
    double most = 0;
    for (size_t i = 0; i < 49; ++i) most = std::max(most, std::fabs(wrong[i] - right[i]) / std::fabs(plane[i]));
    CHECK(most > 1.1e-4, "%g of x", most);
  }
}

TEST(worst_error) { std::printf("  beyond half a step: %.3f of the tolerance\n", worst); }

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
