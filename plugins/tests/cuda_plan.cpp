// The plan: what it may not exceed, whatever the sizes; that every kernel is some plan's; what is refused.
#include <set>
#include <string>

#include "cuda_problem.h"

using namespace simam;
using namespace simam::test;

namespace {

SimamParams params(int32_t type, int64_t images, int64_t channels, int64_t pixels, int32_t group = 1) {
  SimamParams p{};
  p.type = type;
  p.group = group;
  p.images = images;
  p.channels = channels;
  p.pixels = pixels;
  p.lambda = 1e-4F;
  p.x_scale = p.y_scale = p.residual_scale = 0.1F;
  return p;
}

int64_t bytes_of(int32_t type) { return type == SIMAM_F32 ? 4 : type == SIMAM_S8 ? 1 : 2; }

// What the kernels rely on.
void check_plan(SimamParams const& p, cuda::Device const& device, cuda::Plan const& plan) {
  std::string const what =
      text("type %d tactic %d group %d, %dx%dx%d on sm_%d", p.type, p.tactic, p.group, static_cast<int>(p.images),
           static_cast<int>(p.channels), static_cast<int>(p.pixels), device.capability);
  cuda::Problem const& q = plan.problem;
  int64_t const size = bytes_of(p.type);
  int64_t const count = plan.wide && plan.kernel != cuda::Kernel::small ? 16 / size : 1;
  CHECK(plan.threads > 0 && plan.threads % 32 == 0, "%s: %d threads", what.c_str(), plan.threads);
  CHECK(plan.shared >= 0 && plan.shared <= 48 * 1024 && plan.shared % 16 == 0, "%s: %d shared", what.c_str(),
        plan.shared);
  CHECK(plan.per_launch >= 1 && plan.per_launch <= plan.units, "%s: units of a launch", what.c_str());
  int64_t const blocks = cuda::blocks_of(plan, plan.per_launch);
  CHECK(blocks >= 1 && blocks <= INT32_MAX, "%s: blocks", what.c_str());
  CHECK(q.pixels * q.fold == p.pixels && q.group == p.group * q.fold, "%s: %d pixels a chunk", what.c_str(), q.fold);
  CHECK(q.parts >= 1 && int64_t{q.part} * q.parts >= q.pixels && int64_t{q.part} * (q.parts - 1) < q.pixels,
        "%s: %d parts of %d", what.c_str(), q.parts, q.part);
  // Clusters of 16 are those of the data centre's chips alone.
  bool const sixteen = device.capability == 90 || device.capability == 100 || device.capability == 103;
  if (plan.mode == cuda::Mode::cluster)
    CHECK(device.capability >= 90 &&
              (q.parts == 2 || q.parts == 4 || q.parts == 8 || (q.parts == 16 && p.group == 1 && sixteen)),
          "%s: a cluster of %d", what.c_str(), q.parts);
  cuda::Mode const modes[] = {plan.mode, cuda::Mode::whole, cuda::Mode::cluster, cuda::Mode::moments};
  CHECK(plan.mode == modes[p.tactic], "%s: another tactic's", what.c_str());
  if (plan.mode == cuda::Mode::whole) CHECK(q.parts == 1, "%s: whole in parts", what.c_str());
  CHECK((plan.mode == cuda::Mode::moments) == (plan.workspace > 0), "%s: workspace", what.c_str());
  int64_t const held = plan.wide ? cuda::held_of(plan.held, static_cast<int>(size)) : cuda::kHeldElements;
  switch (plan.kernel) {
    case cuda::Kernel::small: {
      CHECK(p.pixels <= cuda::kHeldOfSmall * q.team && q.team <= 32 && (q.team & (q.team - 1)) == 0, "%s: lanes",
            what.c_str());
      CHECK(q.per_block * p.pixels * size % 16 == 0, "%s: a block's piece", what.c_str());
      // Of each piece, and for where it begins: a vector more.
      CHECK((q.per_block * p.pixels * size + 16) * (p.residual != nullptr ? 2 : 1) <= plan.shared, "%s: room",
            what.c_str());
      CHECK(plan.per_launch == plan.units || plan.per_launch % q.per_block == 0, "%s: launches", what.c_str());
      CHECK(plan.threads <= cuda::kLanesThreads, "%s: %d threads", what.c_str(), plan.threads);
      break;
    }
    case cuda::Kernel::planes:
      CHECK(plan.threads <= cuda::kPlaneThreads, "%s: %d threads", what.c_str(), plan.threads);
      CHECK(q.part % count == 0 && q.part <= held * q.team * count, "%s: a part does not fit", what.c_str());
      CHECK(plan.mode != cuda::Mode::moments || plan.per_launch * q.parts * 16 <= plan.workspace, "%s: workspace",
            what.c_str());
      break;
    case cuda::Kernel::tiles: {
      int64_t const rows = plan.threads / q.team;
      int64_t const pixels = rows * (plan.wide ? held : cuda::kHeldOfTile);
      CHECK(plan.threads <= cuda::kTileThreads && plan.threads >= q.team * count, "%s: %d threads", what.c_str(),
            plan.threads);
      CHECK(q.team <= 32 && (q.team & (q.team - 1)) == 0 && q.team * count <= 128, "%s: team", what.c_str());
      CHECK(int64_t{q.tiles} * q.team * count >= q.group, "%s: tiles", what.c_str());
      CHECK(q.fold == 1 || (plan.wide && q.team == 1 && q.group == count), "%s: a chunk of %d", what.c_str(), q.group);
      CHECK(q.part <= pixels, "%s: a part does not fit", what.c_str());
      CHECK(plan.mode != cuda::Mode::moments ||
                plan.per_launch * q.parts * q.tiles * q.team * count * 16 <= plan.workspace,
            "%s: workspace", what.c_str());
      break;
    }
  }
}

// The names of the kernels, in place of running them.
struct Names {
  std::set<std::string> seen;

  template <class Kernel>
  int run(cuda::Problem const&, int64_t, int, int, int) {
    seen.insert(__PRETTY_FUNCTION__);
    return 0;
  }
};

template <class T>
void all_kernels_are_planned(int32_t type) {
  Names all;
  cuda::for_all<T>(all, true);
  Names planned;
  for (cuda::Device const& device : {kHopper, kOrin, kTiny})
    for (int32_t const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
      for (int32_t const group : {1, 4, 16, 64})
        for (int64_t const pixels : {4, 49, 64, 196, 289, 400, 512, 700, 1024, 1536, 2048, 12544, 51200, 102400})
          for (int64_t const images : {1, 100})
            for (int const misaligned : {0, 4})
              for (int32_t const activation : {SIMAM_NONE, SIMAM_RELU}) {
                SimamParams p = params(type, images, 64, pixels, group);
                p.tactic = tactic;
                p.activation = activation;
                p.x = reinterpret_cast<void const*>(static_cast<uintptr_t>(misaligned));
                cuda::Plan plan{};
                if (cuda::make_plan(p, device, plan)) cuda::launch_plan<T>(p, plan, planned);
              }
  for (std::string const& each : all.seen) CHECK(planned.seen.count(each) == 1, "no plan takes %s", each.c_str());
  CHECK(all.seen.size() == planned.seen.size() && all.seen.size() > 30, "%d kernels, %d planned",
        static_cast<int>(all.seen.size()), static_cast<int>(planned.seen.size()));
}

}  // namespace

TEST(random_sizes) {
  Random random(12);
  int accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    auto const size = [&](int64_t most) { return 1 + random.below(1 + random.below(1 + random.below(most))); };
    SimamParams p = params(static_cast<int32_t>(random.below(4)), size(100), size(3000), 1 + size(2000000));
    int32_t const groups[] = {
        1, 1, 2, 4, 32, static_cast<int32_t>((p.channels + 7) / 8 * 8), static_cast<int32_t>(p.channels)};
    p.group = groups[random.below(7)];
    p.tactic = static_cast<int32_t>(random.below(4));
    p.activation = static_cast<int32_t>(random.below(3));
    p.x = reinterpret_cast<void const*>(static_cast<uintptr_t>(random.below(4) == 0 ? 8 : 16));
    p.residual = reinterpret_cast<void const*>(static_cast<uintptr_t>(i % 8 < 4 ? 0 : i % 8 == 4 ? 8 : 16));
    cuda::Device const devices[] = {kHopper, kOrin, kTiny, {1, 75, 0}, {160, 120, int64_t{128} << 20}};
    cuda::Device const& device = devices[random.below(5)];
    cuda::Plan plan{};
    if (!cuda::make_plan(p, device, plan)) {
      CHECK(p.tactic == SIMAM_REGISTERS || p.tactic == SIMAM_CLUSTER, "tactic %d refuses", p.tactic);
      continue;
    }
    ++accepted;
    check_plan(p, device, plan);
  }
  CHECK(accepted > 100000, "%d accepted", accepted);
}

TEST(smallest_sizes) {
  for (int32_t type = SIMAM_F32; type <= SIMAM_S8; ++type)
    for (int32_t const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
      for (int32_t const group : {1, 4, 8, 32})
        for (int64_t pixels = 2; pixels <= 70; ++pixels) {
          SimamParams p = params(type, 1, 3, pixels, group);
          p.tactic = tactic;
          cuda::Plan plan{};
          if (cuda::make_plan(p, kHopper, plan)) check_plan(p, kHopper, plan);
        }
}

TEST(every_kernel_is_planned) {
  all_kernels_are_planned<cuda::F32>(SIMAM_F32);
  all_kernels_are_planned<cuda::F16>(SIMAM_F16);
  all_kernels_are_planned<cuda::BF16>(SIMAM_BF16);
  all_kernels_are_planned<cuda::S8>(SIMAM_S8);
}

// At the largest shape of a profile the workspace is enough for all smaller ones, wherever they lie.
TEST(the_workspace_of_the_largest_is_enough) {
  Random random(13);
  for (int i = 0; i < 50000; ++i) {
    SimamParams large = params(static_cast<int32_t>(random.below(4)), 1 + random.below(64), 1 + random.below(2000),
                               2 + random.below(i % 4 == 0 ? (int64_t{1} << 30) - 2 : 2000000));
    bool const planes = random.below(2) == 0;
    large.tactic = SIMAM_SPLIT;
    SimamParams small = large;
    small.images = 1 + random.below(large.images);
    small.channels = 1 + random.below(large.channels);
    small.pixels = 2 + random.below(large.pixels - 1);
    large.group = planes ? 1 : static_cast<int32_t>(large.channels);
    small.group = planes ? 1 : static_cast<int32_t>(small.channels);
    small.x = reinterpret_cast<void const*>(static_cast<uintptr_t>(random.below(2) * 4));
    cuda::Plan plan{};
    cuda::Plan other{};
    if (cuda::make_plan(large, kOrin, plan) && cuda::make_plan(small, kOrin, other))
      CHECK(other.workspace <= plan.workspace, "%d images of %d channels and %d pixels want more",
            static_cast<int>(small.images), static_cast<int>(small.channels), static_cast<int>(small.pixels));
  }
}

TEST(a_grid_has_less_than_2_31_blocks) {
  for (int32_t const tactic : {SIMAM_CLUSTER, SIMAM_SPLIT, SIMAM_REGISTERS})
    for (int32_t const group : {1, 4, 256}) {  // of the last one, 8 tiles
      SimamParams p = params(SIMAM_F32, 32768, 32768, 16, group);
      if (group == 256) p.images = int64_t{1} << 30, p.channels = 1;
      p.tactic = tactic;
      cuda::Plan plan{};
      if (cuda::make_plan(p, kHopper, plan)) check_plan(p, kHopper, plan);
    }
}

TEST(without_a_workspace_another_plan_is_taken) {
  SimamParams p = params(SIMAM_F16, 1, 2, 33600);
  cuda::Plan plan{};
  CHECK(cuda::make_plan(p, kOrin, plan) && plan.workspace > 0, "the automatic one is split");
  CHECK(cuda::choose_plan(p, kOrin, plan) && plan.workspace == 0, "another one is taken");
  p.tactic = SIMAM_SPLIT;
  CHECK(!cuda::choose_plan(p, kOrin, plan), "a split is asked for, and has no workspace");
}

TEST(refused) {
  SimamParams const good = params(SIMAM_S8, 2, 3, 49);
  CHECK(cuda::refuse(good) == nullptr, "%s", cuda::refuse(good));
  struct {
    char const* words;
    void (*spoil)(SimamParams& p);
  } const cases[] = {
      {"type is none", [](SimamParams& p) { p.type = 4; }},
      {"type is none", [](SimamParams& p) { p.type = -1; }},
      {"activation is none", [](SimamParams& p) { p.activation = -1; }},
      {"activation is none", [](SimamParams& p) { p.activation = 3; }},
      {"tactic is none", [](SimamParams& p) { p.tactic = -1; }},
      {"tactic is none", [](SimamParams& p) { p.tactic = 4; }},
      {"size is negative", [](SimamParams& p) { p.images = -1; }},
      {"size is negative", [](SimamParams& p) { p.channels = -1; }},
      {"size is negative", [](SimamParams& p) { p.pixels = -1; }},
      {"group is less", [](SimamParams& p) { p.group = 0; }},
      {"lambda must be", [](SimamParams& p) { p.lambda = NAN; }},
      {"lambda must be", [](SimamParams& p) { p.lambda = -1e-4F; }},
      {"lambda must be", [](SimamParams& p) { p.lambda = INFINITY; }},
      {"both or neither", [](SimamParams& p) { p.scale = &p.lambda; }},
      {"both or neither", [](SimamParams& p) { p.bias = &p.lambda; }},
      {"x_scale and y_scale", [](SimamParams& p) { p.x_scale = 0; }},
      {"x_scale and y_scale", [](SimamParams& p) { p.y_scale = NAN; }},
      {"residual_scale",
       [](SimamParams& p) {
         p.residual = &p;
         p.residual_scale = -1;
       }},
      {"x_scale and y_scale", [](SimamParams& p) { p.x_scale = INFINITY; }},
      {"0/0", [](SimamParams& p) { p.pixels = 1; }},
      {"0/0", [](SimamParams& p) { p.pixels = p.images = 1; }},
      {"at most 2^30", [](SimamParams& p) { p.images = 0x20000000, p.channels = 3; }},
      {"at most 2^30", [](SimamParams& p) { p.images = 1, p.channels = (int64_t{1} << 30) + 1; }},
      {"at most 2^30", [](SimamParams& p) { p.group = (1 << 30) + 1; }},
      {"at most 2^30", [](SimamParams& p) { p.images = int64_t{1} << 30; }},
      {"at most 2^30", [](SimamParams& p) { p.pixels = (int64_t{1} << 30) + 1; }},
      {"aligned as its elements",
       [](SimamParams& p) {
         p.type = SIMAM_F32;
         p.x = reinterpret_cast<void const*>(2);
       }},
      {"aligned as its elements",
       [](SimamParams& p) {
         p.type = SIMAM_F16;
         p.y = reinterpret_cast<void*>(1);
       }},
      {"aligned as its elements",
       [](SimamParams& p) {
         p.type = SIMAM_F32;
         p.residual = reinterpret_cast<void*>(6);
       }},
      {"misaligned",
       [](SimamParams& p) { p.scale = reinterpret_cast<float*>(2), p.bias = reinterpret_cast<float*>(4); }},
      {"misaligned",
       [](SimamParams& p) { p.scale = reinterpret_cast<float*>(4), p.bias = reinterpret_cast<float*>(2); }},
      {"misaligned", [](SimamParams& p) { p.workspace = reinterpret_cast<void*>(8); }},
  };
  // What is at its bound, or needs no scale, is taken.
  void (*const fine[])(SimamParams&) = {
      [](SimamParams& p) { p.lambda = 0; },
      [](SimamParams& p) { p.pixels = p.group = 1 << 30; },
      [](SimamParams& p) { p.images = 1, p.channels = 1 << 30; },
      [](SimamParams& p) { p.images = 0, p.pixels = 1; },
      [](SimamParams& p) { p.pixels = 0; },
      [](SimamParams& p) { p.residual_scale = 0; },
      [](SimamParams& p) { p.type = SIMAM_F16, p.x_scale = p.y_scale = NAN; },
      [](SimamParams& p) { p.type = SIMAM_F16, p.residual = &p, p.residual_scale = 0; }};
  for (auto const& change : fine) {
    SimamParams p = good;
    change(p);
    CHECK(cuda::refuse(p) == nullptr, "%s", cuda::refuse(p));
  }
  for (auto const& each : cases) {
    SimamParams bad = good;
    each.spoil(bad);
    char const* const why = cuda::refuse(bad);
    CHECK(why != nullptr && std::strstr(why, each.words) != nullptr, "%s: %s", each.words, why);
  }
}

int main(int count, char** names) { return run_tests(count, names); }
