#include "ahead.h"

#include <cstdio>
#include <string>

#include "launch.h"

namespace simam::cuda {
namespace {

// The name of a kernel's type, as source.
template <class>
struct Name;
template <>
struct Name<F32> {
  static std::string text() { return "F32"; }
};
template <>
struct Name<F16> {
  static std::string text() { return "F16"; }
};
template <>
struct Name<BF16> {
  static std::string text() { return "BF16"; }
};
template <>
struct Name<S8> {
  static std::string text() { return "S8"; }
};
template <class T>
struct Name<Vectors<T>> {
  static std::string text() { return "Vectors<" + Name<T>::text() + ">"; }
};
template <class T>
struct Name<Elements<T>> {
  static std::string text() { return "Elements<" + Name<T>::text() + ">"; }
};

std::string text(bool v) { return v ? "true" : "false"; }
std::string text(int v) { return std::to_string(v); }
std::string text(Team v) { return v == Team::lanes ? "Team::lanes" : "Team::block"; }
std::string text(Mode v) {
  constexpr char const* kNames[] = {"whole", "cluster", "moments", "gate"};
  return std::string("Mode::") + kNames[static_cast<int>(v)];
}

template <class T, int kHeld, bool kAligned, bool kEpilogue>
struct Name<Small<T, kHeld, kAligned, kEpilogue>> {
  static std::string text() {
    return "Small<" + Name<T>::text() + ", " + cuda::text(kHeld) + ", " + cuda::text(kAligned) + ", " +
           cuda::text(kEpilogue) + ">";
  }
};
template <class Access, int kHeld, Team team, Mode mode, bool kEpilogue>
struct Name<Planes<Access, kHeld, team, mode, kEpilogue>> {
  static std::string text() {
    return "Planes<" + Name<Access>::text() + ", " + cuda::text(kHeld) + ", " + cuda::text(team) + ", " +
           cuda::text(mode) + ", " + cuda::text(kEpilogue) + ">";
  }
};
template <class Access, int kHeld, Mode mode, bool kEpilogue>
struct Name<Tiles<Access, kHeld, mode, kEpilogue>> {
  static std::string text() {
    return "Tiles<" + Name<Access>::text() + ", " + cuda::text(kHeld) + ", " + cuda::text(mode) + ", " +
           cuda::text(kEpilogue) + ">";
  }
};

// Every number of a Problem, float as its bits. A new field changes the size, and is to be added here.
static_assert(sizeof(Problem) == 128, "ahead.cpp writes out every field of Problem");
std::string numbers(Problem const& p) {
  std::string out;
  auto const add = [&](char const* name, long long value) {
    out += std::string("  p.") + name + " = " + std::to_string(value) + ";\n";
  };
  auto const add_float = [&](char const* name, float value) {
    char bits[16];
    std::snprintf(bits, sizeof bits, "0x%08XU", static_cast<unsigned>(as_bits(value)));
    out += std::string("  p.") + name + " = as_float(" + bits + ");\n";
  };
  add("first", p.first);
  add("count", p.count);
  add("pixels", p.pixels);
  add("channels", p.channels);
  add("group", p.group);
  add("groups", p.groups);
  add("team", p.team);
  add("parts", p.parts);
  add("part", p.part);
  add("per_block", p.per_block);
  add("tiles", p.tiles);
  add("fold", p.fold);
  add("activation", p.activation);
  add_float("lambda", p.lambda);
  add_float("per_rest", p.per_rest);
  add_float("in_scale", p.in_scale);
  add_float("residual_scale", p.residual_scale);
  add_float("out_scale", p.out_scale);
  return out;
}

// A Launcher that writes the launch down.
struct Writing {
  SimamParams const& params;
  SimamAhead& ahead;

  template <class Kernel>
  int run(Problem const& problem, int64_t blocks, int threads, int shared, int cluster) {
    ahead.blocks = static_cast<int32_t>(blocks);
    ahead.threads = threads;
    ahead.shared = shared;
    ahead.cluster = cluster;
    std::string source = "#include \"ahead_of_time.cuh\"\n\nusing namespace simam::cuda;\nusing SimamKernel = ";
    source += Name<Kernel>::text() + ";\n";
    source += "static_assert(sizeof(Problem) == " + std::to_string(sizeof(Problem)) +
              ", \"headers of another version\");\n\n";
    source += "extern \"C\" __global__ void __launch_bounds__(" + std::to_string(threads) + ")";
    if (cluster > 1) source += " __cluster_dims__(" + std::to_string(cluster) + ", 1, 1)";
    source += "\n    SIMAM_ENTRY(void const* x";
    if (params.scale != nullptr) source += ", float const* scale, float const* bias";
    if (params.residual != nullptr) source += ", void const* residual";
    source += ", void* y) {\n  Problem p{};\n  p.x = x;\n  p.y = y;\n";
    if (params.scale != nullptr) source += "  p.scale = scale;\n  p.bias = bias;\n";
    if (params.residual != nullptr) source += "  p.residual = residual;\n";
    source += numbers(problem) + "  SimamKernel::run(p, Block{});\n}\n";
    int const length = std::snprintf(ahead.source, sizeof ahead.source, "%s", source.c_str());
    return length < static_cast<int>(sizeof ahead.source) ? 0 : kInvalid;
  }
};

template <class T>
int write(SimamParams const& params, Plan const& plan, Problem const& problem, SimamAhead& ahead) {
  Writing launcher{params, ahead};
  return Dispatch<T, Writing>(plan, launcher)(problem, plan.mode, blocks_of(plan, plan.units));
}

char const* refuse_or_write(SimamParams const& params, Device const& device, SimamAhead& ahead) {
  if (char const* const why = refuse(params)) return why;
  if (is_empty(params)) return "of an empty x there is nothing to do";
  Plan plan{};
  if (!make_plan(params, device, plan)) return "no kernel of this tactic holds a plane of this size on this device";
  if (plan.mode == Mode::moments) return "a plane of this size takes two launches and a workspace";
  if (plan.per_launch < plan.units || blocks_of(plan, plan.units) > INT32_MAX)
    return "a tensor of this size takes more than one launch";
  Problem problem = plan.problem;
  problem.count = static_cast<int32_t>(plan.units);
  int error = kInvalid;
  switch (params.type) {
    case SIMAM_F32: error = write<F32>(params, plan, problem, ahead); break;
    case SIMAM_F16: error = write<F16>(params, plan, problem, ahead); break;
    case SIMAM_BF16: error = write<BF16>(params, plan, problem, ahead); break;
    default: error = write<S8>(params, plan, problem, ahead); break;
  }
  return error == 0 ? nullptr : "the source is longer than its room; this is an error of simam-deploy";
}

}  // namespace
}  // namespace simam::cuda

extern "C" __attribute__((visibility("default"))) char const* simam_ahead(SimamParams const* params,
                                                                          SimamDevice const* device,
                                                                          SimamAhead* ahead) {
  if (params == nullptr || device == nullptr || ahead == nullptr) return "a pointer is null";
  try {
    return simam::cuda::refuse_or_write(*params, {device->multiprocessors, device->capability, device->l2}, *ahead);
  } catch (...) {
    return "no memory";
  }
}
