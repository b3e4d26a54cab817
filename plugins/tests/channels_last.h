// A problem for the kernel on 8-bit integers with the channels last, and what must come out.
#pragma once

#include "memory.h"
#include "parallel.h"
#include "reference.h"

namespace simam::test {

struct Step {
  float scale;
  int zero;  // of the type
};

struct Int8Problem {
  Type type = Type::u8;
  Op op = kOps[0];
  int64_t images = 1, m = 2, channels = 1;
  float lambda = 1e-4F;
  Step x_step{0.05F, 0}, residual_step{0.03F, 0}, y_step{0.06F, 0};
  std::vector<int> x, residual;  // (N, M, C)
  std::vector<float> scale, bias;

  int64_t size() const { return images * m * channels; }
  int lowest() const { return type == Type::s8 ? -128 : 0; }
};

inline double real(Step const& step, int q) { return static_cast<double>(step.scale) * (q - step.zero); }

// Planes of unequal spread: the widest fills the type, the narrowest has three values, and every 7th is constant.
inline Int8Problem make_int8(Type type, Op const& op, int64_t images, int64_t m, int64_t channels, uint64_t seed) {
  Int8Problem p;
  p.type = type;
  p.op = op;
  p.images = images;
  p.m = m;
  p.channels = channels;
  Random random(seed);
  for (Step* const step : {&p.x_step, &p.residual_step, &p.y_step})
    step->zero = p.lowest() + static_cast<int>(random.below(4) == 0 ? 255 * random.below(2) : random.below(256));
  for (int64_t i = 0; i < p.size(); ++i) {
    int64_t const c = i % channels;
    double const spread = c % 7 == 6 ? 0 : 64 / (1.0 + static_cast<double>(c % 5 * 10));
    double const q = p.lowest() + 40.0 + static_cast<double>(c * 37 % 180) + spread * random.normal();
    p.x.push_back(std::clamp(static_cast<int>(std::nearbyint(q)), p.lowest(), p.lowest() + 255));
    p.residual.push_back(p.lowest() + static_cast<int>(random.below(256)));
  }
  for (int64_t c = 0; c < channels; ++c) {
    p.scale.push_back(static_cast<float>(3 * random.uniform() - 1.5));
    p.bias.push_back(static_cast<float>(4 * random.uniform() - 2));
  }
  return p;
}

// y by the formula, before it is rounded.
inline std::vector<double> exact(Int8Problem const& p) {
  std::vector<double> made(static_cast<size_t>(p.size()));
  std::vector<double> plane(static_cast<size_t>(p.m)), y(static_cast<size_t>(p.m));
  for (int64_t n = 0; n < p.images; ++n)
    for (int64_t c = 0; c < p.channels; ++c) {
      auto const at = [&](int64_t i) { return static_cast<size_t>((n * p.m + i) * p.channels + c); };
      for (int64_t i = 0; i < p.m; ++i) plane[static_cast<size_t>(i)] = real(p.x_step, p.x[at(i)]);
      simam(plane.data(), y.data(), p.m, p.lambda);
      double const a = p.op.affine ? static_cast<double>(p.scale[static_cast<size_t>(c)]) : 1;
      double const b = p.op.affine ? static_cast<double>(p.bias[static_cast<size_t>(c)]) : 0;
      for (int64_t i = 0; i < p.m; ++i) {
        double const r = p.op.residual ? real(p.residual_step, p.residual[at(i)]) : 0;
        made[at(i)] = activate(p.op.activation, a * y[static_cast<size_t>(i)] + b + r);
      }
    }
  return made;
}

enum class Output8 { apart, on_x, on_residual };

// y, as integers of the type. What lies around x, residual and y may not change.
inline std::vector<int> run_int8(Int8Problem const& p, cpu::Target const& target, Output8 output = Output8::apart,
                                 Parallel parallel = in_order(), size_t misaligned = 0) {
  auto const bytes = static_cast<size_t>(p.size());
  Guarded x(bytes, misaligned, 0, 0xFF), residual(bytes, misaligned + 2, 0, 0xFF), y(bytes, misaligned + 33, 64, 0x5A);
  for (size_t i = 0; i < bytes; ++i) {
    x.data()[i] = static_cast<char>(p.x[i]);
    residual.data()[i] = static_cast<char>(p.residual[i]);
  }
  cpu::Task task;
  task.type = p.type;
  task.channels_last = true;
  task.activation = p.op.activation;
  task.x = x.data();
  task.residual = p.op.residual ? residual.data() : nullptr;
  task.y = output == Output8::on_x ? x.data() : output == Output8::on_residual ? residual.data() : y.data();
  task.scale = p.op.affine ? p.scale.data() : nullptr;
  task.bias = p.op.affine ? p.bias.data() : nullptr;
  task.planes = p.images * p.channels;
  task.m = p.m;
  task.channels = p.channels;
  task.lambda = p.lambda;
  task.x_scale = p.x_step.scale;
  task.x_zero = p.x_step.zero;
  task.residual_scale = p.residual_step.scale;
  task.residual_zero = p.residual_step.zero;
  task.y_scale = p.y_step.scale;
  task.y_zero = p.y_step.zero;
  cpu::run_with(target, task, parallel);
  CHECK(x.intact() && residual.intact() && y.intact(), "written outside");
  auto const* const made = static_cast<uint8_t const*>(task.y);
  std::vector<int> result;
  for (size_t i = 0; i < bytes; ++i)
    result.push_back(p.type == Type::s8 ? int{static_cast<int8_t>(made[i])} : int{made[i]});
  return result;
}

template <class Work>
void for_targets_8(Work const& work) {
  for (int i = 0; i < cpu::kTargetCount; ++i)
    if (cpu::kTargets[i].supported()) work(cpu::kTargets[i]);
}

}  // namespace simam::test
