// The same bits in any order, on any number of threads, among any other planes; and many runs at once.
#include <utility>

#include "problem.h"

namespace simam::test {
namespace {

// Bits, so that NaN is itself.
bool same(std::vector<double> const& a, std::vector<double> const& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

struct Size {
  int64_t images, channels, m;
  int block;
};

// From one short plane to many, and few long ones, which are split; odd lengths, and groups that are not full.
Size const kSizes[] = {{1, 3, 49, 1},      {2, 1024, 49, 1},  {3, 35, 197, 1},   {1, 1, 70001, 1},  {1, 2, 102400, 1},
                       {1, 7, 65537, 1},   {1, 15, 65536, 1}, {1, 20, 70001, 1}, {1, 1, 500009, 1}, {1, 16, 6400, 16},
                       {1, 16, 25601, 16}, {1, 8, 102400, 8}, {1, 12, 70001, 4}, {1, 4, 100003, 4}, {2, 64, 197, 16}};

TEST(order_and_threads_change_nothing) {
  for (Size const& size : kSizes) {
    if (thin() && size.images * size.channels * size.m > 300000) continue;
    for (Type const type : {Type::f32, Type::bf16}) {
      Problem p = make(type, kInputs[4], size.images, size.channels, size.m, 19);
      p.op = kOps[type == Type::f32 ? 0 : 4];
      for_targets([&](cpu::Target const& target) {
        Way way;
        way.target = &target;
        way.block = size.block;
        std::vector<double> const expected = run(p, way);
        Random random(23);
        int count = type == Type::f32 ? 8 : 3;
        Parallel const ways[] = {backwards(), shuffled(random), on_threads(count)};
        bool const threads = &target == &cpu::best_target() && size.channels < 16;  // starting them takes long
        for (int i = 0; i < (threads ? 3 : 2); ++i) {
          way.parallel = ways[i];
          way.output = i % 2 == 0 ? Way::Output::on_x : Way::Output::apart;
          CHECK(same(run(p, way), expected), "%s: way %d differs", describe(p, way).c_str(), i);
        }
      });
    }
  }
}

// Few long planes are split: their parts are merged to what the formula says of the whole.
TEST(long_planes_are_right) {
  for (Size const& size : kSizes) {
    if (size.m < 6000 || (thin() && size.channels * size.m > 300000)) continue;
    for (int const input : {0, 5, 6, 9, 14}) {  // normal, offsets, outlier, ramp
      if (size.channels > 4 && input != 5) continue;
      Problem const p = make(Type::f32, kInputs[input], size.images, size.channels, size.m, 29);
      Expected const expected = expect(p, simam_of(p));
      for_targets([&](cpu::Target const& target) {
        Way way;
        way.target = &target;
        way.block = size.block;
        compare(p, way, expected, run(p, way));
      });
    }
  }
}

// Plane by plane the same bits, when all other planes are others, and when the planes are moved.
TEST(a_plane_depends_on_itself_alone) {
  for (Size const& size : kSizes) {
    if (thin() && size.images * size.channels * size.m > 300000) continue;
    Problem p = make(Type::f32, kInputs[0], size.images, size.channels, size.m, 31);
    Problem other = p;
    Random random(37);
    for (int64_t i = 0; i < p.planes(); ++i)
      for (int64_t j = 0; j < p.m; ++j) {
        if (i % 3 != 0) other.x[i * p.m + j] = i % 3 == 1 ? std::nan("") : 1e30 * random.normal();
      }
    Problem moved = p;
    std::rotate(moved.x.begin(), moved.x.begin() + p.m, moved.x.end());
    for_targets([&](cpu::Target const& target) {
      Way way;
      way.target = &target;
      way.block = size.block;
      std::vector<double> const expected = run(p, way);
      std::vector<double> const among_others = run(other, way);
      for (int64_t i = 0; i < p.planes(); i += 3)
        CHECK(std::equal(&expected[i * p.m], &expected[i * p.m] + p.m, &among_others[i * p.m]),
              "%s: plane %d depends on others", describe(p, way).c_str(), static_cast<int>(i));
      std::vector<double> rotated = run(moved, way);
      std::rotate(rotated.begin(), rotated.end() - p.m, rotated.end());
      CHECK(same(rotated, expected), "%s: a plane depends on its place", describe(p, way).c_str());
    });
  }
}

// A NaN or infinity, anywhere in one plane, makes that plane NaN and leaves the others as they are, bit by bit.
TEST(a_nan_stays_in_its_plane) {
  for (Type const type : {Type::f32, Type::f16, Type::bf16})
    for (Size const& size :
         {Size{2, 16, 7, 1}, Size{2, 16, 50, 1}, Size{1, 16, 50, 16}, Size{1, 16, 9, 4}, Size{1, 3, 70001, 1}})
      for (double const bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        Problem p = make(type, kInputs[0], size.images, size.channels, size.m, 41);
        for_targets([&](cpu::Target const& target) {
          Way way;
          way.target = &target;
          way.block = size.block;
          std::vector<double> const expected = run(p, way);
          for (int64_t const j : {int64_t{0}, p.m / 2, p.m - 1}) {
            double& element = p.x[p.m + j];
            double const before = std::exchange(element, bad);
            std::vector<double> const got = run(p, way);
            element = before;
            for (int64_t i = 0; i < p.size(); ++i)
              CHECK(i / p.m == 1 ? std::isnan(got[i]) : got[i] == expected[i], "%s: %g at %d: element %d is %g",
                    describe(p, way).c_str(), bad, static_cast<int>(j), static_cast<int>(i), got[i]);
          }
        });
      }
}

// relu and silu keep a NaN, of x and of residual.
TEST(a_nan_survives_the_activation) {
  for (int const op : {2, 3, 5, 6}) {
    Problem p = make(Type::f32, kInputs[0], 1, 4, 21, 43);
    p.op = kOps[op];
    p.x[5] = std::nan("");
    p.residual[30] = std::nan("");
    for_targets([&](cpu::Target const& target) {
      Way way;
      way.target = &target;
      std::vector<double> const y = run(p, way);
      for (int i = 0; i < 84; ++i)
        CHECK(std::isnan(y[i]) == (i < 21 || (p.op.residual && i == 30)), "%s: %d is %g", describe(p, way).c_str(), i,
              y[i]);
    });
  }
}

TEST(many_at_once) {
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; round < (thin() ? 5 : 40); ++round) {
        int64_t const m = round % 10 == 9 ? 70001 : 49 + t;
        std::vector<float> x(static_cast<size_t>(m) * 3);
        std::vector<float> y(x.size());
        std::vector<float> again(x.size());
        Random random(static_cast<uint64_t>(100 * t + round));
        for (float& v : x) v = static_cast<float>(random.normal());
        int two = 2;
        cpu::Task task;
        task.x = x.data();
        task.y = y.data();
        task.planes = 3;
        task.channels = 3;
        task.m = m;
        cpu::run(task, m > 1000 ? on_threads(two) : in_order());
        task.y = again.data();
        cpu::run(task, backwards());
        wrong += y != again;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0, "%d runs differ", wrong.load());
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
