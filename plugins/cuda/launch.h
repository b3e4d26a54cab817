// From a plan to its launches. A Launcher has
//
//   template <class Kernel> int run(Problem const& problem, int64_t blocks, int threads, int shared, int cluster)
//
// that enqueues Kernel::run for each thread and gives 0 or an error. The same code drives the GPU and the emulator.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "plan.h"
#include "small.h"
#include "tiles.h"

namespace simam::cuda {

constexpr int kInvalid = 1;  // cudaErrorInvalidValue

// One launch of the kernel that the plan names.
template <class T, class Launcher>
class Dispatch {
 public:
  Dispatch(Plan const& plan, Launcher& launcher) : plan_(plan), launcher_(launcher) {}

  int operator()(Problem const& problem, Mode mode, int64_t blocks) {
    problem_ = &problem;
    blocks_ = blocks;
    mode_ = mode;
    return plan_.epilogue ? choose<true>() : choose<false>();
  }

 private:
  template <bool kEpilogue>
  int choose() {
    switch (plan_.kernel) {
      case Kernel::small: return plan_.wide ? small<true, kEpilogue>() : small<false, kEpilogue>();
      case Kernel::planes: return planes<kEpilogue>();
      case Kernel::tiles: return tiles<kEpilogue>();
    }
    return kInvalid;
  }

  template <bool kAligned, bool kEpilogue>
  int small() {
    return run<Small<T, kHeldOfSmall, kAligned, kEpilogue>>();
  }

  static constexpr int kFew = held_of(Held::few, sizeof(typename T::Element));
  static constexpr int kSome = held_of(Held::some, sizeof(typename T::Element));
  static constexpr int kMany = held_of(Held::many, sizeof(typename T::Element));
  using Wide = Vectors<T>;
  using Narrow = Elements<T>;

  template <bool kEpilogue>
  int planes() {
    switch (mode_) {
      case Mode::whole:
        if (!plan_.wide) return run<Planes<Narrow, kHeldElements, Team::block, Mode::whole, kEpilogue>>();
        if (plan_.problem.team <= kWarp) return plane_of_lanes<kEpilogue>();
        if (plan_.held == Held::some) return run<Planes<Wide, kSome, Team::block, Mode::whole, kEpilogue>>();
        return run<Planes<Wide, kMany, Team::block, Mode::whole, kEpilogue>>();
      case Mode::cluster:
        if (plan_.held == Held::some) return run<Planes<Wide, kSome, Team::block, Mode::cluster, kEpilogue>>();
        return run<Planes<Wide, kMany, Team::block, Mode::cluster, kEpilogue>>();
      case Mode::moments:  // nothing follows it
        if (plan_.wide) return run<Planes<Wide, kMany, Team::block, Mode::moments, false>>();
        return run<Planes<Narrow, kHeldElements, Team::block, Mode::moments, false>>();
      case Mode::gate:
        if (plan_.wide) return run<Planes<Wide, kMany, Team::block, Mode::gate, kEpilogue>>();
        return run<Planes<Narrow, kHeldElements, Team::block, Mode::gate, kEpilogue>>();
    }
    return kInvalid;
  }

  template <bool kEpilogue>
  int plane_of_lanes() {
    switch (plan_.held) {
      case Held::few: return run<Planes<Wide, kFew, Team::lanes, Mode::whole, kEpilogue>>();
      case Held::some: return run<Planes<Wide, kSome, Team::lanes, Mode::whole, kEpilogue>>();
      case Held::many: return run<Planes<Wide, kMany, Team::lanes, Mode::whole, kEpilogue>>();
    }
    return kInvalid;
  }

  template <bool kEpilogue>
  int tiles() {
    switch (mode_) {
      case Mode::whole:
        if (plan_.held == Held::some) return run<Tiles<Wide, kSome, Mode::whole, kEpilogue>>();
        return run<Tiles<Wide, kMany, Mode::whole, kEpilogue>>();
      case Mode::cluster: return run<Tiles<Wide, kMany, Mode::cluster, kEpilogue>>();
      case Mode::moments:
        if (plan_.wide) return run<Tiles<Wide, kMany, Mode::moments, false>>();
        return run<Tiles<Narrow, kHeldOfTile, Mode::moments, false>>();
      case Mode::gate:
        if (plan_.wide) return run<Tiles<Wide, kMany, Mode::gate, kEpilogue>>();
        return run<Tiles<Narrow, kHeldOfTile, Mode::gate, kEpilogue>>();
    }
    return kInvalid;
  }

  template <class Kernel>
  int run() {
    int const cluster = mode_ == Mode::cluster ? problem_->parts : 1;
    return launcher_.template run<Kernel>(*problem_, blocks_, plan_.threads, plan_.shared, cluster);
  }

  Plan const& plan_;
  Launcher& launcher_;
  Problem const* problem_ = nullptr;
  int64_t blocks_ = 0;
  Mode mode_ = Mode::whole;
};

// All launches of a plan.
template <class T, class Launcher>
int launch_plan(SimamParams const& params, Plan const& plan, Launcher& launcher) {
  Problem problem = plan.problem;
  problem.x = params.x;
  problem.y = params.y;
  problem.residual = params.residual;
  problem.scale = params.scale;
  problem.bias = params.bias;
  problem.workspace = static_cast<Moments*>(params.workspace);
  Dispatch<T, Launcher> dispatch(plan, launcher);
  for (problem.first = 0; problem.first < plan.units; problem.first += plan.per_launch) {
    int64_t const count = std::min(plan.per_launch, plan.units - problem.first);
    problem.count = static_cast<int32_t>(count);
    int64_t const blocks = blocks_of(plan, count);
    if (int const error = dispatch(problem, plan.mode, blocks)) return error;
    if (plan.mode == Mode::moments)
      if (int const error = dispatch(problem, Mode::gate, blocks)) return error;
  }
  return 0;
}

// Each kernel of a format once or more; their sizes are made up.
template <class T, class Launcher>
int for_all(Launcher& launcher, bool clusters) {
  for (Kernel const kernel : {Kernel::small, Kernel::planes, Kernel::tiles})
    for (Mode const mode : {Mode::whole, Mode::cluster, Mode::moments, Mode::gate})
      for (Held const held : {Held::few, Held::some, Held::many})
        for (bool const wide : {false, true})
          for (bool const epilogue : {false, true}) {
            if (mode == Mode::cluster && !clusters) continue;
            Plan plan{};
            plan.kernel = kernel;
            plan.wide = wide;
            plan.epilogue = epilogue;
            plan.held = held;
            for (int32_t const team : {kWarp, 2 * kWarp}) {
              plan.problem.team = team;
              if (int const error = Dispatch<T, Launcher>(plan, launcher)(Problem{}, mode, 1)) return error;
            }
          }
  return 0;
}

inline bool is_empty(SimamParams const& params) {
  return params.images == 0 || params.channels == 0 || params.pixels == 0;
}

// The plan that a launch takes: where the workspace is too small for the automatic one, one that needs none.
inline bool choose_plan(SimamParams const& params, Device const& device, Plan& plan) {
  if (!make_plan(params, device, plan)) return false;
  if (plan.workspace == 0) return true;
  if (params.workspace != nullptr && params.workspace_size >= static_cast<size_t>(plan.workspace)) return true;
  if (params.tactic != SIMAM_AUTOMATIC) return false;
  SimamParams other = params;
  for (int32_t const tactic : {SIMAM_REGISTERS, SIMAM_CLUSTER}) {
    other.tactic = tactic;
    if (make_plan(other, device, plan)) return true;
  }
  return false;
}

}  // namespace simam::cuda
