#include "plan.h"

#include <algorithm>
#include <initializer_list>

namespace simam::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kMostParts = 8;            // of a cluster anywhere
constexpr int kMostPartsOfPlane = 16;    // where the device has clusters of 16: a plane for which 8 are too few
constexpr int kNarrowTile = 64;          // pixels of a part of tiles without vectors, at least
constexpr int kSmall = 1024;             // pixels of a small plane
constexpr int64_t kMostMoments = 65536;  // of the workspace, but for a plane with more parts
constexpr int64_t kMostUnits = 1 << 30;
constexpr float kMostLambda = 1e37F;  // four times it and of a variance is a float
constexpr int64_t kMostBlocks = INT32_MAX;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t to) { return divide_up(a, to) * to; }

int power_of_two(int64_t least, int most) {
  int power = 1;
  while (power < least && power < most) power *= 2;
  return power;
}

// What the kernels are told of the sizes and the numbers.
Problem describe(SimamParams const& params) {
  Problem p{};
  p.pixels = static_cast<int32_t>(params.pixels);
  p.channels = static_cast<int32_t>(params.channels);
  p.group = params.group;
  p.groups = static_cast<int32_t>(divide_up(params.channels, params.group));
  p.activation = params.activation;
  p.lambda = std::min(params.lambda, kMostLambda);
  p.per_rest = static_cast<float>(1 / static_cast<double>(params.pixels - 1));
  p.parts = 1;
  p.part = p.pixels;
  p.fold = 1;
  if (params.type == SIMAM_S8) {
    double const x = params.x_scale;
    bool const epilogue = params.scale != nullptr || params.residual != nullptr || params.activation != SIMAM_NONE;
    p.lambda = static_cast<float>(std::min(params.lambda / (x * x), static_cast<double>(kMostLambda)));
    p.in_scale = epilogue ? params.x_scale : static_cast<float>(x / params.y_scale);
    p.residual_scale = params.residual_scale;
    p.out_scale = static_cast<float>(1 / static_cast<double>(params.y_scale));
  }
  return p;
}

// Several tries at a plan, each of which says whether it accepts.
class Planner {
 public:
  Planner(SimamParams const& params, Device const& device, Plan& plan)
      : params_(params), device_(device), plan_(plan), size_(element_size(params.type)) {
    plan_ = Plan{};
    plan_.problem = describe(params);
    plan_.epilogue = params.scale != nullptr || params.residual != nullptr || params.activation != SIMAM_NONE;
    plan_.units = params.group == 1 ? params.images * params.channels : params.images * plan_.problem.groups;
    plan_.per_launch = std::min(plan_.units, kMostUnits);
    bool const aligned =
        misaligned(params.x, 16) == 0 && misaligned(params.y, 16) == 0 && misaligned(params.residual, 16) == 0;
    if (aligned && params.group > 1) fold();
    int64_t const side = params.group == 1 ? params.pixels : plan_.problem.group;  // what lies side by side
    plan_.wide = aligned && side * size_ % 16 == 0;
    count_ = plan_.wide ? 16 / size_ : 1;
    chunks_ = side / count_;
    aligned_ = aligned && plan_.units % 16 * (params.pixels % 16) * size_ % 16 == 0;
  }

  bool make() {
    if (!choose()) return false;
    Problem const& p = plan_.problem;
    plan_.per_launch = std::min(plan_.per_launch, kMostBlocks / (int64_t{p.parts} * std::max(1, p.tiles)));
    return true;
  }

 private:
  // Pixels make a chunk where the channels side by side are too few for one.
  void fold() {
    Problem& p = plan_.problem;
    int const side_by_side = 16 / size_;
    if (p.group >= side_by_side || side_by_side % p.group != 0) return;
    if (p.pixels % (side_by_side / p.group) != 0) return;
    p.fold = side_by_side / p.group;
    p.group *= p.fold;
    p.pixels /= p.fold;
  }

  bool choose() {
    bool const planes = params_.group == 1;
    switch (params_.tactic) {
      case SIMAM_REGISTERS: return planes ? small() || planes_whole() : tiles_kept(1);
      case SIMAM_CLUSTER: return planes ? planes_cluster() : tiles_kept(kMostParts);
      case SIMAM_SPLIT: return planes ? planes_split() : tiles_split();
      default: break;
    }
    if (!planes) return tiles_kept(has_clusters() ? kMostParts : 1) || tiles_split();
    if (small()) return true;
    bool const few = plan_.units < device_.multiprocessors;  // and long enough to be worth sharing
    bool const share = plan_.wide && (chunks_ > slab() || (few && chunks_ >= 1024));
    if (share && planes_cluster()) return true;
    if (few && chunks_ >= 4096 && 2 * plan_.units < device_.multiprocessors && !has_clusters()) return planes_split();
    return planes_whole() || planes_split();
  }

  int held(Held held) const { return held_of(held, size_); }

  // Chunks of a block that leave room for a second one on its multiprocessor.
  int64_t slab() const { return int64_t{kPlaneThreads} / 2 * held(Held::many); }

  bool has_clusters() const { return device_.capability >= 90; }

  bool small() {
    int64_t const pixels = params_.pixels;
    // Planes of vectors stay in registers, unless too many of these were empty.
    if (pixels > kSmall || (plan_.wide && chunks_ <= most_of_lanes() && lanes_for(chunks_).full >= 0.6)) return false;
    Problem& p = plan_.problem;
    plan_.kernel = Kernel::small;
    plan_.mode = Mode::whole;
    plan_.wide = aligned_;
    p.team = power_of_two(divide_up(pixels, kHeldOfSmall), kWarp);
    while (p.team < kWarp && pixels >= 16 * p.team &&
           2 * p.team * plan_.units <= kLanesThreads * int64_t{device_.multiprocessors})
      p.team *= 2;
    int64_t const step = 16 / size_;  // planes of a block that make its piece a multiple of 16 bytes
    int64_t const spread = divide_up(plan_.units, 2 * static_cast<int64_t>(device_.multiprocessors));
    int64_t const at_once = kLanesThreads / p.team;
    int64_t const wanted = round_up(std::max<int64_t>(at_once, 8192 / (pixels * size_)), at_once);
    p.per_block = static_cast<int32_t>(round_up(std::clamp<int64_t>(spread, 1, wanted), step));
    int64_t const most = params_.residual == nullptr ? 32768 : 20480;
    while (p.per_block > step && p.per_block * pixels * size_ > most) p.per_block -= static_cast<int32_t>(step);
    plan_.threads =
        static_cast<int>(std::min<int64_t>(kLanesThreads, round_up(static_cast<int64_t>(p.per_block) * p.team, kWarp)));
    int64_t const room = (p.per_block * pixels * size_ + 31) / 16 * 16;
    plan_.shared = static_cast<int>(params_.residual == nullptr ? room : 2 * room);
    plan_.per_launch = std::min(plan_.units, kMostUnits / p.per_block * p.per_block);
    return true;
  }

  // The lanes of a warp that share a plane.
  struct Lanes {
    Held held;
    int count;
    double full;  // how much of what they can hold is used
  };

  int64_t most_of_lanes() const { return int64_t{kWarp} * held(Held::many); }

  // Of at most so many chunks. More to a lane leave fewer empty and add up less; but not at the cost of multiprocessors
  // that have nothing to do.
  Lanes lanes_for(int64_t chunks) const {
    Lanes best{};
    for (Held const held : {Held::few, Held::some, Held::many}) {
      int const count = power_of_two(divide_up(chunks, this->held(held)), kWarp);
      if (chunks > int64_t{count} * this->held(held)) continue;
      if (best.count > 0 && plan_.units * count < kLanesThreads * int64_t{device_.multiprocessors}) break;
      double const full = static_cast<double>(chunks) / (count * this->held(held));
      if (full >= best.full) best = {held, count, full};
    }
    return best;
  }

  // How much a thread of a block holds of a plane, or a part of one, of so many chunks. Many elements to a thread take
  // the fewest instructions, where they save threads; where there are few threads, fewer are done sooner.
  Held choose_held(int64_t chunks) const {
    int64_t const with_some = round_up(divide_up(chunks, held(Held::some)), kWarp);
    int64_t const with_many = round_up(divide_up(chunks, held(Held::many)), kWarp);
    if (plan_.mode == Mode::moments || with_some > kPlaneThreads) return Held::many;
    bool const saves = with_many < with_some && !scarce(plan_.units * plan_.problem.parts * with_many);
    return saves ? Held::many : Held::some;
  }

  // Whether the device has room for so many threads several times.
  bool scarce(int64_t threads) const { return threads < 512 * int64_t{device_.multiprocessors}; }

  bool hold(int64_t chunks) {
    Problem& p = plan_.problem;
    plan_.kernel = Kernel::planes;
    plan_.shared = 512 + kMostPartsOfPlane * static_cast<int>(sizeof(Moments));
    Lanes const lanes =
        plan_.wide && plan_.mode == Mode::whole && chunks <= most_of_lanes() ? lanes_for(chunks) : Lanes{};
    if (lanes.count > 0 && (lanes.held != Held::many || !scarce(plan_.units * lanes.count))) {
      plan_.held = lanes.held;
      p.team = lanes.count;
      int64_t const spread = round_up(divide_up(plan_.units * lanes.count, device_.multiprocessors), kWarp);
      plan_.threads = static_cast<int>(std::clamp<int64_t>(spread, kWarp, kLanesThreads));
      return true;
    }
    plan_.held = choose_held(chunks);
    int64_t const per_thread = plan_.wide ? held(plan_.held) : kHeldElements;
    int64_t const team = round_up(divide_up(chunks, per_thread), kWarp);
    if (team > kPlaneThreads) return false;
    p.team = plan_.threads = static_cast<int32_t>(team);
    return true;
  }

  void cut(int parts) {
    Problem& p = plan_.problem;
    p.part = static_cast<int32_t>(divide_up(chunks_, parts) * count_);
    p.parts = static_cast<int32_t>(divide_up(p.pixels, p.part));
  }

  bool planes_whole() {
    plan_.mode = Mode::whole;
    cut(1);
    return hold(chunks_);
  }

  bool planes_cluster() {
    if (!has_clusters() || !plan_.wide) return false;
    int parts = 2;
    while (parts < kMostParts &&
           (chunks_ > slab() * parts || (plan_.units * parts < 2 * device_.multiprocessors && chunks_ >= 512 * parts)))
      parts *= 2;
    bool const large = device_.capability == 90 || device_.capability == 100 || device_.capability == 103;
    if (large && chunks_ > int64_t{kPlaneThreads} * held(Held::many) * parts) parts = kMostPartsOfPlane;
    plan_.mode = Mode::cluster;
    cut(parts);
    return plan_.problem.parts == parts && hold(plan_.problem.part / count_);
  }

  // As few parts as a block's registers allow, for each block of the second kernel reads all of a plane's moments; but
  // blocks enough for the device.
  bool planes_split() {
    plan_.mode = Mode::moments;
    int64_t const per_thread = plan_.wide ? held(Held::many) : kHeldElements;
    int64_t const least = divide_up(chunks_, kPlaneThreads * per_thread);
    int64_t const most = divide_up(chunks_, 64 * per_thread);
    cut(static_cast<int>(std::clamp<int64_t>(divide_up(2 * device_.multiprocessors, plan_.units), least, most)));
    hold(plan_.problem.part / count_);
    split(params_.pixels * size_, plan_.problem.parts, divide_up(params_.pixels, 64 * kHeldElements));
    return true;
  }

  // So many units in a launch that the second kernel finds in L2 what the first one read, unless they leave most of the
  // device idle. bound: the moments of a unit,
  // at most, with and without vectors; so that a workspace does for smaller sizes and other alignments too.
  void split(int64_t bytes, int64_t moments, int64_t bound) {
    int64_t const in_l2 = device_.l2 * 4 / 10 / std::max<int64_t>(1, 2 * bytes);
    int64_t const to_fill =
        divide_up(2 * device_.multiprocessors, int64_t{plan_.problem.parts} * std::max(1, plan_.problem.tiles));
    int64_t const wanted = std::max(in_l2, to_fill);
    plan_.per_launch = std::clamp<int64_t>(std::min(wanted, kMostMoments / moments), 1, plan_.per_launch);
    plan_.workspace = std::max(kMostMoments, bound) * static_cast<int64_t>(sizeof(Moments));
  }

  void choose_tile(int lanes) {
    Problem& p = plan_.problem;
    p.team = power_of_two(chunks_, lanes);
    p.tiles = static_cast<int32_t>(divide_up(chunks_, p.team));
    plan_.kernel = Kernel::tiles;
  }

  void share_tile() {
    int const parts = plan_.mode == Mode::cluster ? kMostParts * 128 : 1;
    int const of_warps = 2 * (plan_.threads / kWarp) * plan_.problem.team * count_;
    int const sums = plan_.mode == Mode::whole ? of_warps : std::max(of_warps, 3 * plan_.threads);
    plan_.shared =
        static_cast<int>(round_up(parts * static_cast<int>(sizeof(Moments)) + 128 * (4 + 16), 16)) + 4 * sums;
  }

  // Kept in the registers of a block, or of a cluster of at most `most`. A line of memory is 8 chunks; where the pixels
  // are too many, or the blocks too few, a tile has fewer. Of small blocks a multiprocessor has two or more: while one
  // loads, another stores.
  bool tiles_kept(int most) {
    if (!plan_.wide || (most > 1 && !has_clusters())) return false;
    Problem& p = plan_.problem;
    bool const must = params_.tactic == SIMAM_CLUSTER;
    struct Try {
      int threads, lanes;
    };
    for (Try const each : {Try{kTileThreads / 2, 8}, Try{kTileThreads / 2, 4}, Try{kTileThreads, 8},
                           Try{kTileThreads, 4}, Try{kTileThreads, 2}}) {
      choose_tile(each.lanes);
      int64_t const fit = int64_t{each.threads} / p.team * held(Held::many);
      int parts = must ? 2 : 1;
      while (parts < most && p.pixels > fit * parts) parts *= 2;
      if (p.pixels > fit * parts) continue;
      auto const few = [&] {  // blocks, each of which has much to do
        return plan_.units * p.tiles * parts < device_.multiprocessors && int64_t{p.pixels} * p.team >= 1024 * parts;
      };
      if (each.lanes > 2 && p.team > 2 && few()) continue;
      while (parts < most && few()) parts *= 2;
      p.part = static_cast<int32_t>(divide_up(p.pixels, parts));
      p.parts = static_cast<int32_t>(divide_up(p.pixels, p.part));
      if (p.parts != parts) return false;
      plan_.mode = parts == 1 ? Mode::whole : Mode::cluster;
      plan_.held = parts == 1 && p.part <= each.threads / p.team * held(Held::some) ? Held::some : Held::many;
      int64_t const wanted = round_up(divide_up(p.part, held(plan_.held)) * p.team, kWarp);
      plan_.threads = static_cast<int>(std::clamp<int64_t>(wanted, 128, each.threads));
      share_tile();
      return true;
    }
    return false;
  }

  bool tiles_split() {
    Problem& p = plan_.problem;
    choose_tile(plan_.wide ? 8 : kWarp);
    plan_.mode = Mode::moments;
    plan_.held = Held::many;
    plan_.threads = plan_.wide ? kTileThreads : 256;
    int64_t const rows = plan_.threads / p.team;
    p.part = static_cast<int32_t>(std::min<int64_t>(p.pixels, rows * (plan_.wide ? held(Held::many) : kHeldOfTile)));
    p.parts = static_cast<int32_t>(divide_up(p.pixels, p.part));
    share_tile();
    int64_t const most_channels = round_up(params_.group, 128);
    split(params_.pixels * params_.group * size_, int64_t{p.parts} * p.tiles * p.team * count_,
          divide_up(params_.pixels, kNarrowTile) * most_channels);
    return true;
  }

  SimamParams const& params_;
  Device const& device_;
  Plan& plan_;
  int const size_;
  int count_;       // elements of a chunk
  int64_t chunks_;  // of a plane, or of a group at one pixel
  bool aligned_;    // the whole begins and ends at multiples of 16 bytes
};

}  // namespace

bool make_plan(SimamParams const& params, Device const& device, Plan& plan) {
  return Planner(params, device, plan).make();
}

int64_t blocks_of(Plan const& plan, int64_t units) {
  Problem const& p = plan.problem;
  switch (plan.kernel) {
    case Kernel::small: return divide_up(units, p.per_block);
    case Kernel::planes: return divide_up(units, plan.threads / p.team) * p.parts;  // several of one warp, or one
    case Kernel::tiles: break;
  }
  return units * p.tiles * p.parts;
}

}  // namespace simam::cuda
