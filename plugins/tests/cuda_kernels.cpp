// The CUDA kernels' own code on the emulator, against the formula.
#include <iterator>

#include "cuda_problem.h"

using namespace simam;
using namespace simam::test;

namespace {

constexpr SimamTactic kTactics[] = {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT};

Input const& input(char const* name) {
  for (Input const& each : kInputs)
    if (std::strcmp(each.name, name) == 0) return each;
  std::abort();
}

struct {
  double error = 0;
  std::string where;
} worst[std::size(kTypes)];

bool checked(Problem const& p, CudaWay const& way, bool must_accept = true) {
  double const error = check(p, way, must_accept);
  auto& of_type = worst[static_cast<size_t>(p.type)];
  if (error > of_type.error) of_type = {error, describe(p, way)};
  return error > 0;
}

Problem with(Problem p, Op const& op) {
  p.op = op;
  return p;
}

}  // namespace

TEST(every_size) {
  for (Type const type : kTypes)
    for (int64_t m = 2; m <= 600; m += thin() ? 7 : 1) checked(make(type, input("normal"), 1, 3, m, 1), {});
}

// simam_cuda.h: where the sum of squares is beyond floats y is NaN, and not a gate of sigmoid(1/2); where lambda is 0
// and the squares are below floats, y is not computed.
bool is_beyond(Input const& each) {
  return std::strncmp(each.name, "1e18", 4) == 0 || std::strncmp(each.name, "1e19", 4) == 0 ||
         std::strncmp(each.name, "1e37", 4) == 0;
}
bool is_below(Input const& each) {
  return each.lambda < 1e-37F && (std::strncmp(each.name, "1e-20", 5) == 0 ||
                                  std::strncmp(each.name, "3e-21", 5) == 0 || std::strncmp(each.name, "1e-30", 5) == 0);
}

TEST(every_input) {
  for (Type const type : kTypes)
    for (Input const& each : kInputs)
      for (int64_t const m : {49, 784, 1025, 6400})
        for (SimamTactic const tactic : kTactics) {
          if (!holds(type, each) || is_beyond(each) || is_below(each) || (thin() && m > 1100)) continue;
          CudaWay way;
          way.tactic = tactic;
          checked(make(type, each, 1, 2, m, 4), way, tactic == SIMAM_SPLIT);
        }
}

TEST(a_sum_of_squares_beyond_floats_is_nan) {
  for (int64_t const m : {49, 3136})
    for (SimamTactic const tactic : kTactics) {
      CudaWay way;
      way.tactic = tactic;
      CudaResult const result = run(make(Type::f32, input("1e37"), 1, 2, m, 4), way);
      for (double const y : result.y) CHECK(std::isnan(y), "%g of m %d, tactic %d", y, static_cast<int>(m), tactic);
    }
}

TEST(every_operator) {
  for (Type const type : kTypes)
    for (Op const& op : kOps)
      for (int64_t const m : {49, 256, 289, 1024, 3136, 12544})
        for (SimamTactic const tactic : kTactics) {
          if (thin() && m > 300) continue;
          CudaWay way;
          way.tactic = tactic;
          way.device = m == 1024 ? kOrin : kHopper;
          checked(with(make(type, input("offset 1e3"), 2, 3, m, 2), op), way, tactic == SIMAM_SPLIT);
        }
}

// simam_cuda.h takes each part alone, though no shell's operator does.
TEST(what_follows_alone) {
  constexpr Op kAlone[] = {{"residual alone", false, true, Activation::none},
                           {"relu alone", false, false, Activation::relu},
                           {"residual, silu", false, true, Activation::silu}};
  for (Type const type : kTypes)
    for (Op const& op : kAlone)
      for (int const group : {1, 8})
        for (int64_t const m : {49, 1024})
          for (SimamTactic const tactic : {SIMAM_AUTOMATIC, SIMAM_SPLIT}) {
            CudaWay way;
            way.tactic = tactic;
            way.group = group;
            checked(with(make(type, input("offset 1e3"), 1, 3, m, 16), op), way);
          }
}

// Of each regime up to where it ends: 320 x 320, and 640 x 640 of which a block has an eighth.
TEST(large_planes) {
  for (Type const type : kTypes)
    for (int64_t const m : {6400, 25600, 50176, 50177, 102400, 409600})
      for (cuda::Device const& device : {kHopper, kOrin}) {
        if (thin() && m > 30000) continue;
        CudaWay way;
        way.device = device;
        checked(make(type, input("normal"), 1, 1, m, 5), way);
      }
}

TEST(channels_last) {
  for (Type const type : kTypes)
    for (SimamTactic const tactic : kTactics)
      for (int const channels : {1, 3, 25, 70})
        for (int const group : {(channels + 7) / 8 * 8, (channels + 15) / 16 * 16, channels, 32, 4, 2})
          for (int64_t const m : {2, 49, 400, 961}) {
            if (group == 1 || (m > 300 && channels > 25) || (thin() && m > 100)) continue;
            CudaWay way;
            way.tactic = tactic;
            way.group = group;
            way.device = m == 49 ? kOrin : kHopper;
            checked(with(make(type, input("offset 1e3"), m < 100 ? 2 : 1, channels, m, 3), kOps[(m + channels) % 7]),
                    way, tactic == SIMAM_SPLIT || tactic == SIMAM_AUTOMATIC);
          }
}

TEST(channels_last_of_large_planes) {
  for (Type const type : {Type::f16, Type::f32, Type::s8})
    for (int64_t const m : {3136, 12544})
      for (cuda::Device const& device : {kHopper, kOrin})
        for (int const group : {16, 4, 2}) {
          if (thin()) continue;
          CudaWay way;
          way.group = group;
          way.device = device;
          checked(with(make(type, input("offset 1e3"), 1, group == 16 ? 16 : 3, m, 6),
                       kOps[static_cast<size_t>(group) % 7]),
                  way);
        }
}

// More parts than a warp has threads: the second kernel gathers them with several warps.
TEST(many_parts) {
  for (Type const type : kTypes)
    for (int64_t const m : {40001, 480000}) {
      if (thin() && m > 50000) continue;
      CudaWay way;
      way.tactic = SIMAM_SPLIT;
      Problem const p = make(type, input("offset 1e3"), 1, 1, m, 17);
      checked(p, way);
      CudaResult const first = run(p, way);
      CHECK(first.plan.problem.parts > 32, "%s: as few parts as threads", describe(p, way).c_str());
      way.order = Order::warp_by_warp;
      CHECK(m > 50000 || run(p, way).bytes == first.bytes, "%s: other bits", describe(p, way).c_str());
    }
}

// Squares in an order that a long chain of additions loses most of.
TEST(squares_are_not_added_in_one_chain) {
  char const* const kOrder = "cbcbcbcbcbcbcbcbdbdbcbabcbdbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbcbc";
  constexpr double kValues[] = {-0x1.aa461cp+3, -0x1.d302b2p+1, 0x1.d302b2p+1, 0x1.aa3306p+3};
  CudaWay way;
  way.device = {1, 90, int64_t{60} << 20};
  Problem p = make(Type::f32, input("normal"), 1, 80, 63, 1);  // so many planes that one lane has each
  for (int64_t i = 0; i < p.size(); ++i) p.x[static_cast<size_t>(i)] = kValues[kOrder[i % 63] - 'a'];
  checked(p, way);
}

// The mean is so far from every float quotient that what it misses is more than lambda's root.
TEST(constant_planes) {
  for (float const value : {806413.0F, 1234567.0F, 9999999.0F, -3333333.0F})
    for (int64_t const m : {49, 63, 784, 3136})
      for (int const group : {1, 8}) {
        if (thin() && m > 100) continue;
        CudaWay way;
        way.group = group;
        Problem p = make(Type::f32, input("normal"), 1, 3, m, 1);
        for (double& v : p.x) v = static_cast<double>(value);
        checked(p, way);
      }
  for (double const scale : {30.0, 100.0, 300.0}) {
    Problem p = make(Type::s8, input("constant"), 1, 2, 586, 1);
    p.x_scale = p.residual_scale = p.y_scale = static_cast<float>(scale);
    for (double& v : p.x) v = 124 * scale;
    checked(p, {});
  }
}

// Where floats end: a lambda beyond them leaves a gate of sigmoid(1/2).
TEST(large_lambdas) {
  for (Type const type : kTypes)
    for (float const lambda : {3e37F, 1e38F, 3.4e38F}) {
      Problem p = make(type, input("normal"), 1, 3, 49, 1);
      p.lambda = lambda;
      checked(p, {});
    }
}

// Parts of a plane that are unlike one another: a bar on top, values in order.
TEST(parts_unlike_one_another) {
  double (*const kinds[])(Random&, int64_t, int64_t) = {
      [](Random& r, int64_t i, int64_t m) { return r.normal() + (i < m / 10 ? 1000.0 : 0); },
      [](Random& r, int64_t i, int64_t) { return r.normal() + (i < 512 ? 30.0 : 0); },
      [](Random& r, int64_t i, int64_t m) {
        return 300 + 3.0 * static_cast<double>(i) / static_cast<double>(m) + 1e-3 * r.normal();
      }};
  for (Type const type : {Type::f32, Type::f16})
    for (auto const kind : kinds)
      for (int const group : {1, 3, 8})
        for (int64_t const m : {25600, 102400})
          for (cuda::Device const& device : {kHopper, kOrin}) {
            if (thin() || (m > 50000 && group == 8)) continue;
            CudaWay way;
            way.group = group;
            way.device = device;
            checked(make(type, Input{"unlike", 1e-4F, true, true, kind}, 1, group == 1 ? 1 : 3, m, 14), way);
          }
}

// What a launch does not take at once another one does.
TEST(several_launches) {
  for (Type const type : kTypes)
    for (int const group : {1, 8}) {
      CudaWay way;
      way.device = kTiny;
      way.tactic = SIMAM_SPLIT;
      way.group = group;
      Problem const p = with(make(type, input("normal"), 3, 8, 500, 7), kOps[5]);
      checked(p, way);
      CHECK(run(p, way).plan.per_launch < 24 / group, "one launch has all");
    }
}

// The same of each kernel: the plan has 2^30 planes in a launch.
TEST(several_launches_of_each_kernel) {
  for (Type const type : kTypes)
    for (SimamTactic const tactic : kTactics)
      for (int const group : {1, 8})
        for (int64_t const m : {49, 1024}) {
          CudaWay way;
          way.device = kTiny;
          way.tactic = tactic;
          way.group = group;
          way.launch = 5;
          Problem const p = with(make(type, input("normal"), 3, 11, m, 15), kOps[5]);
          checked(p, way, tactic == SIMAM_SPLIT || tactic == SIMAM_AUTOMATIC);
          CudaResult const result = run(p, way);
          CHECK(!result.accepted || result.plan.per_launch < result.plan.units, "one launch has all");
        }
}

// 8192: blocks of several warps, and parts. Group 128: a tile is full, or has others beside it.
TEST(the_order_of_threads_changes_nothing) {
  for (Type const type : kTypes)
    for (int const group : {1, 16, 128})
      for (SimamTactic const tactic : kTactics)
        for (int64_t const m : {49, 300, 1024, 8192}) {
          if ((group == 128 && m > 300) || (thin() && m > 1024)) continue;
          CudaWay way;
          way.tactic = tactic;
          way.group = group;
          Problem const p = with(make(type, input("normal"), 1, 3, m, 8), kOps[4]);
          CudaResult const first = run(p, way);
          for (Order const order : {Order::backward, Order::mixed, Order::block_by_block, Order::warp_by_warp}) {
            way.order = order;
            CHECK(run(p, way).bytes == first.bytes, "%s: other bits", describe(p, way).c_str());
          }
        }
}

TEST(nan_and_infinity_stay_in_their_plane) {
  for (Type const type : {Type::f32, Type::f16, Type::bf16})
    for (int const group : {1, 8})
      for (SimamTactic const tactic : kTactics)
        for (double const strange : {std::nan(""), static_cast<double>(INFINITY)})
          for (int64_t const m : {49, 1024}) {
            CudaWay way;
            way.tactic = tactic;
            way.group = group;
            Problem p = with(make(type, input("normal"), 1, 3, m, 9), kOps[m == 49 ? 5 : 0]);  // 5: relu of NaN
            p.x[m + m / 2] = strange;
            CudaResult const result = run(p, way);
            if (!result.accepted) continue;
            Expected const expected = expect(p, simam_of(p));
            for (int64_t i = 0; i < 3 * m; ++i) {
              double const off = std::fabs(result.y[i] - expected.y[i]);
              CHECK(i / m == 1 ? std::isnan(result.y[i]) : off <= expected.tolerance[i], "%s: %g at %d",
                    describe(p, way).c_str(), result.y[i], static_cast<int>(i));
            }
          }
}

// Another formula is beyond the tolerance: the tests could fail.
TEST(another_formula_is_seen) {
  for (Type const type : {Type::f32, Type::f16}) {
    Problem const p = make(type, input("faint"), 1, 2, 49, 10);
    CudaResult const result = run(p, CudaWay{});
    for (Formula const& other : {Formula{0, 1, 0.5L}, Formula{1, 1.01L, 0.5L}, Formula{1, 1, 0.501L}})
      CHECK(compare(p, "", expect(p, simam_of(p, other)), result.y, false).of_tolerance > 1, "another formula passes");
  }
}

// Of the narrow types nearly all of the tolerance is the one rounding, which takes nearly all of it somewhere.
TEST(zz_worst) {
  for (auto const& each : worst)
    std::printf("  largest error: %.6f of the tolerance, %s\n", each.error, each.where.c_str());
}

int main(int count, char** names) { return run_tests(count, names); }
