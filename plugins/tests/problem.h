// A problem for the kernel: its values in NCHW order, what must come out, and how far from that it may be.
#pragma once

#include <algorithm>

#include "inputs.h"
#include "memory.h"
#include "parallel.h"

namespace simam::test {

struct Problem {
  std::string name;
  Type type = Type::f32;
  Op op = kOps[0];
  int64_t images = 0, channels = 0, m = 0;
  float lambda = kDefaultLambda;
  std::vector<double> x, residual;  // what `type` holds
  std::vector<float> scale, bias;
  float x_scale = 1, residual_scale = 1, y_scale = 1;

  int64_t planes() const { return images * channels; }
  int64_t size() const { return planes() * m; }
};

// v as `type` holds it.
inline double held(Type type, double v, float scale) {
  uint32_t room = 0;
  encode(type, &room, 0, v, static_cast<double>(scale));
  return decode(type, &room, 0, static_cast<double>(scale));
}

inline double largest(double const* v, int64_t count) {
  double most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::fabs(v[i]));
  return most;
}

// x of this input; the rest follows x in size. Of one seed all operators have the same x.
inline Problem make(Type type, Input const& input, int64_t images, int64_t channels, int64_t m, uint64_t seed) {
  Problem p;
  p.name = text("%s %s %dx%dx%d", format(type).name, input.name, static_cast<int>(images), static_cast<int>(channels),
                static_cast<int>(m));
  p.type = type;
  p.images = images;
  p.channels = channels;
  p.m = m;
  p.lambda = input.lambda;
  Random random(seed);
  for (int64_t i = 0; i < p.size(); ++i) p.x.push_back(input.at(random, i % m, m));
  double const most = largest(p.x.data(), p.size());
  if (type == Type::s8) {
    p.x_scale = static_cast<float>(most / 127);
    p.residual_scale = static_cast<float>(most / 90);
    p.y_scale = static_cast<float>(most / 100);  // some are beyond it
  }
  for (double& v : p.x) v = held(type, v, p.x_scale);
  for (int64_t i = 0; i < p.size(); ++i)
    p.residual.push_back(held(type, most * (2 * random.uniform() - 1), p.residual_scale));
  for (int64_t i = 0; i < channels; ++i) {
    p.scale.push_back(static_cast<float>(4 * random.uniform() - 2));
    p.bias.push_back(static_cast<float>(most * (2 * random.uniform() - 1)));
  }
  return p;
}

inline std::vector<double> simam_of(Problem const& p, Formula const& formula = {}) {
  std::vector<double> y(p.x.size());
  for (int64_t i = 0; i < p.planes(); ++i) simam(&p.x[i * p.m], &y[i * p.m], p.m, p.lambda, formula);
  return y;
}

struct Expected {
  std::vector<double> y, tolerance, bar;  // bar: 2 eps of the terms of y
};

// Tolerance. The bar is what simam_cpu.h promises of float32: 2 eps of the terms of y = scale * simam(x) + bias +
// residual, which are |scale| max|x|, |bias| and |residual|. More is granted where more is rounded:
//   silu             : a slope of at most 1.1, and an exponential and a quotient of its own, 1.5 eps of y: half a bar
//   denormal numbers : what is rounded to them has an error of half of 2^-149, at most four times
//   f16, bf16        : half an ulp of the exact result more, which the one rounding to the type costs
//   s8               : half of y_scale; and as x = x_scale * q is rounded in float (eps/2), which where the mean is 127
//                      spreads changes x - mean by 127 eps/2 and the gate by less than 32 eps: 16 bars
inline Expected expect(Problem const& p, std::vector<double> const& simam_of_x) {
  Expected e;
  for (int64_t i = 0; i < p.planes(); ++i) {
    auto const c = static_cast<size_t>(i % p.channels);
    double const scale = p.op.affine ? static_cast<double>(p.scale[c]) : 1;
    double const bias = p.op.affine ? static_cast<double>(p.bias[c]) : 0;
    double const terms = std::fabs(scale) * largest(&p.x[i * p.m], p.m) + std::fabs(bias);
    for (int64_t j = i * p.m; j < (i + 1) * p.m; ++j) {
      double const residual = p.op.residual ? p.residual[j] : 0;
      double y = activate(p.op.activation, scale * simam_of_x[j] + bias + residual);
      double const bar = 2 * kEps * (terms + std::fabs(residual)) + 0x1p-147;
      double tolerance = bar * (p.op.activation == Activation::silu ? 1.5 : 1.0);
      if (p.type == Type::s8) {
        y = std::clamp(y, -128.0 * static_cast<double>(p.y_scale), 127.0 * static_cast<double>(p.y_scale));
        tolerance = 16 * tolerance + 0.5 * static_cast<double>(p.y_scale);
      } else if (p.type != Type::f32 && std::isfinite(y)) {
        tolerance += ulp(format(p.type), y) / 2;
      }
      e.y.push_back(y);
      e.tolerance.push_back(tolerance);
      e.bar.push_back(bar);
    }
  }
  return e;
}

// How it is run.
struct Way {
  cpu::Target const* target = &cpu::kTargets[0];
  int block = 1;
  enum class Output { apart, on_x, on_residual } output = Output::apart;
  int64_t misaligned = 0;  // elements; of y one more, of residual two more
  Parallel parallel = in_order();
};

inline std::string describe(Problem const& p, Way const& way) {
  char const* const outputs[] = {"", " on x", " on residual"};
  return text("%s %s %s block %d%s +%d", p.name.c_str(), p.op.name, way.target->name, way.block,
              outputs[static_cast<int>(way.output)], static_cast<int>(way.misaligned));
}

// Where element j of plane i lies, of NCHW (block 1) or NCHWc.
inline int64_t place(Problem const& p, int block, int64_t i, int64_t j) {
  return (i / block * p.m + j) * block + i % block;
}

inline void lay_out(Problem const& p, int block, std::vector<double> const& values, float scale, char* array) {
  for (int64_t i = 0; i < p.planes(); ++i)
    for (int64_t j = 0; j < p.m; ++j)
      encode(p.type, array, place(p, block, i, j), values[i * p.m + j], static_cast<double>(scale));
}

inline cpu::Task task_of(Problem const& p, int block) {
  cpu::Task task;
  task.type = p.type;
  task.activation = p.op.activation;
  task.scale = p.op.affine ? p.scale.data() : nullptr;
  task.bias = p.op.affine ? p.bias.data() : nullptr;
  task.planes = p.planes();
  task.m = p.m;
  task.channels = p.channels;
  task.block = block;
  task.lambda = p.lambda;
  task.x_scale = p.x_scale;
  task.residual_scale = p.residual_scale;
  task.y_scale = p.y_scale;
  return task;
}

// y, in NCHW order. What lies around x and residual is NaN, around y and in it a number: neither may be used or change.
inline std::vector<double> run(Problem const& p, Way const& way) {
  size_t const element = format(p.type).bytes;
  size_t const bytes = static_cast<size_t>(p.size()) * element;
  auto const guard = [&](int64_t elements) { return static_cast<size_t>(elements % 64) * element; };
  Guarded x(bytes, guard(way.misaligned), 0, 0xFF);
  Guarded residual(p.op.residual ? bytes : 0, guard(way.misaligned + 2), 0, 0xFF);
  Guarded y(bytes, guard(way.misaligned + 33), 64 * element, 0x5A);
  lay_out(p, way.block, p.x, p.x_scale, x.data());
  if (p.op.residual) lay_out(p, way.block, p.residual, p.residual_scale, residual.data());
  cpu::Task task = task_of(p, way.block);
  task.x = x.data();
  task.residual = p.op.residual ? residual.data() : nullptr;
  task.y = way.output == Way::Output::on_x          ? x.data()
           : way.output == Way::Output::on_residual ? residual.data()
                                                    : y.data();
  std::vector<char> const before(x.data(), x.data() + bytes);
  cpu::run_with(*way.target, task, way.parallel);
  CHECK(x.intact() && residual.intact() && y.intact(), "%s: written outside", describe(p, way).c_str());
  if (way.output != Way::Output::on_x)
    CHECK(std::memcmp(before.data(), x.data(), bytes) == 0, "%s: x was changed", describe(p, way).c_str());
  std::vector<double> result(static_cast<size_t>(p.size()));
  for (int64_t i = 0; i < p.planes(); ++i)
    for (int64_t j = 0; j < p.m; ++j)
      result[i * p.m + j] = decode(p.type, task.y, place(p, way.block, i, j), static_cast<double>(p.y_scale));
  return result;
}

// The largest error as a share of the tolerance, and of the bar; beyond 1 the first is reported.
struct Error {
  double of_tolerance = 0, of_bar = 0;
};

inline Error compare(Problem const& p, std::string const& what, Expected const& expected,
                     std::vector<double> const& got, bool report = true) {
  Error worst;
  bool told = !report;
  for (size_t i = 0; i < got.size(); ++i) {
    double const off = std::fabs(got[i] - expected.y[i]);
    bool const both_nan = std::isnan(expected.y[i]) && (std::isnan(got[i]) || p.type == Type::s8);
    bool const beyond = std::isinf(got[i]) && std::fabs(expected.y[i]) > format(p.type).largest;
    double const of_tolerance = both_nan || beyond ? 0 : off / expected.tolerance[i];
    if (!(of_tolerance <= 1) && !told) {
      told = true;
      double const unit = p.type == Type::s8 ? static_cast<double>(p.y_scale) : ulp(format(p.type), expected.y[i]);
      CHECK(false, "%s: plane %d element %d: x %.9g expected %.9g got %.9g, off by %.3g = %.3g ulp, tolerance %.3g",
            what.c_str(), static_cast<int>(static_cast<int64_t>(i) / p.m),
            static_cast<int>(static_cast<int64_t>(i) % p.m), p.x[i], expected.y[i], got[i], off, off / unit,
            expected.tolerance[i]);
    }
    if (both_nan || beyond) continue;
    worst.of_tolerance = std::max(worst.of_tolerance, std::isnan(of_tolerance) ? 1e300 : of_tolerance);
    worst.of_bar = std::max(worst.of_bar, std::isnan(off) ? 1e300 : off / expected.bar[i]);
  }
  return worst;
}

inline Error compare(Problem const& p, Way const& way, Expected const& expected, std::vector<double> const& got,
                     bool report = true) {
  return compare(p, describe(p, way), expected, got, report);
}

// Each target that runs here.
template <class Work>
void for_targets(Work const& work) {
  for (int i = 0; i < cpu::kTargetCount; ++i)
    if (cpu::kTargets[i].supported()) work(cpu::kTargets[i]);
}

inline constexpr Type kTypes[] = {Type::f32, Type::f16, Type::bf16, Type::s8};

}  // namespace simam::test
