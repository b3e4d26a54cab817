// A problem of problem.h run by the CUDA kernels on the emulator.
#pragma once

#include <algorithm>

#include "emulated.h"
#include "problem.h"

namespace simam::test {

inline constexpr cuda::Device kHopper{132, 90, int64_t{60} << 20};
inline constexpr cuda::Device kOrin{16, 87, int64_t{4} << 20};
inline constexpr cuda::Device kTiny{1, 90, int64_t{16} << 10};  // all planes are many, and few fit its cache

struct CudaWay {
  cuda::Device device = kHopper;
  SimamTactic tactic = SIMAM_AUTOMATIC;
  int group = 1;
  Way::Output output = Way::Output::apart;
  int x_off = 0, y_off = 0, residual_off = 0;  // elements behind a multiple of 16 bytes
  Order order = Order::forward;
  int64_t launch = 0;  // units of a launch, at most; small planes: rounded up to those of a block. 0: as planned
};

inline std::string describe(Problem const& p, CudaWay const& way) {
  char const* const outputs[] = {"", " on x", " on residual"};
  return text("%s %s sm_%d tactic %d group %d%s +%d +%d +%d order %d", p.name.c_str(), p.op.name, way.device.capability,
              way.tactic, way.group, outputs[static_cast<int>(way.output)], way.x_off, way.y_off, way.residual_off,
              static_cast<int>(way.order));
}

inline int64_t groups(Problem const& p, int group) { return (p.channels + group - 1) / group; }

// Where element j of plane i lies.
inline int64_t place(Problem const& p, CudaWay const& way, int64_t i, int64_t j) {
  int64_t const image = i / p.channels;
  int64_t const channel = i % p.channels;
  return ((image * groups(p, way.group) + channel / way.group) * p.m + j) * way.group + channel % way.group;
}

inline SimamParams params_of(Problem const& p, CudaWay const& way) {
  SimamParams params{};
  SimamType const types[] = {SIMAM_F32, SIMAM_F16, SIMAM_BF16, SIMAM_S8};
  params.type = types[static_cast<int>(p.type)];
  params.activation = static_cast<int32_t>(p.op.activation);
  params.tactic = way.tactic;
  params.group = way.group;
  params.scale = p.op.affine ? p.scale.data() : nullptr;
  params.bias = p.op.affine ? p.bias.data() : nullptr;
  params.images = p.images;
  params.channels = p.channels;
  params.pixels = p.m;
  params.lambda = p.lambda;
  params.x_scale = p.x_scale;
  params.residual_scale = p.residual_scale;
  params.y_scale = p.y_scale;
  return params;
}

struct CudaResult {
  bool accepted = false;
  cuda::Plan plan{};
  std::vector<double> y;    // in NCHW order
  std::vector<char> bytes;  // as it lies in memory
};

// As run() of problem.h: NaN around x and residual and in the padding of channels, numbers around y and in it.
inline CudaResult run(Problem const& p, CudaWay const& way) {
  CudaResult result;
  size_t const element = format(p.type).bytes;
  int64_t const elements = p.images * groups(p, way.group) * way.group * p.m;
  size_t const bytes = static_cast<size_t>(elements) * element;
  auto const guard = [&](int off) { return 64 + static_cast<size_t>(off) * element; };
  Guarded x(bytes, guard(way.x_off), 0, 0xFF);
  Guarded residual(p.op.residual ? bytes : 0, guard(way.residual_off), 0, 0xFF);
  Guarded y(bytes, guard(way.y_off), 64, 0x5A);
  std::memset(x.data(), 0xFF, bytes);
  if (p.op.residual) std::memset(residual.data(), 0xFF, bytes);
  for (int64_t i = 0; i < p.planes(); ++i)
    for (int64_t j = 0; j < p.m; ++j) {
      int64_t const at = place(p, way, i, j);
      encode(p.type, x.data(), at, p.x[i * p.m + j], static_cast<double>(p.x_scale));
      if (p.op.residual)
        encode(p.type, residual.data(), at, p.residual[i * p.m + j], static_cast<double>(p.residual_scale));
    }
  SimamParams params = params_of(p, way);
  params.x = x.data();
  params.residual = p.op.residual ? residual.data() : nullptr;
  params.y = way.output == Way::Output::on_x          ? x.data()
             : way.output == Way::Output::on_residual ? residual.data()
                                                      : y.data();
  char const* const why = cuda::refuse(params);
  CHECK(why == nullptr, "%s: %s", describe(p, way).c_str(), why);
  if (why != nullptr || !cuda::make_plan(params, way.device, result.plan)) return result;
  result.accepted = true;
  if (way.launch > 0) {
    int64_t const block = std::max(1, result.plan.problem.per_block);
    result.plan.per_launch = std::min(result.plan.per_launch, (way.launch + block - 1) / block * block);
  }
  Guarded workspace(static_cast<size_t>(result.plan.workspace), 0, 64, 0xFF);
  params.workspace = workspace.data();
  params.workspace_size = static_cast<size_t>(result.plan.workspace);
  std::vector<char> const before(x.data(), x.data() + bytes);
  int const error = launch_emulated(params, result.plan, way.order);
  CHECK(error == 0, "%s: error %d", describe(p, way).c_str(), error);
  CHECK(x.intact() && residual.intact() && y.intact() && workspace.intact(), "%s: written outside",
        describe(p, way).c_str());
  if (way.output != Way::Output::on_x)
    CHECK(std::memcmp(before.data(), x.data(), bytes) == 0, "%s: x was changed", describe(p, way).c_str());
  auto const* const at = static_cast<char const*>(params.y);
  result.bytes.assign(at, at + bytes);
  for (int64_t i = 0; i < p.planes(); ++i)
    for (int64_t j = 0; j < p.m; ++j)
      result.y.push_back(decode(p.type, at, place(p, way, i, j), static_cast<double>(p.y_scale)));
  for (int64_t image = 0; image < p.images; ++image)
    for (int64_t c = p.channels; c < groups(p, way.group) * way.group; ++c)
      for (int64_t j = 0; j < p.m; ++j) {
        int64_t const where = ((image * groups(p, way.group) + c / way.group) * p.m + j) * way.group + c % way.group;
        double const v = decode(p.type, at, where, 1.0);
        CHECK(v == 0, "%s: padding of channel %d is %g", describe(p, way).c_str(), static_cast<int>(c), v);
      }
  return result;
}

// Runs, compares with the formula, and gives the largest error as a share of the tolerance.
inline double check(Problem const& p, CudaWay const& way, bool must_accept = true) {
  CudaResult const result = run(p, way);
  CHECK(result.accepted || !must_accept, "%s: not accepted", describe(p, way).c_str());
  if (!result.accepted) return 0;
  Expected const expected = expect(p, simam_of(p));
  return compare(p, describe(p, way), expected, result.y).of_tolerance;
}

}  // namespace simam::test
