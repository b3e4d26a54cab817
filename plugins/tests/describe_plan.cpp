// What cuda/plan.h decides, in words, for Python: which kernel a device takes for these parameters, and how much of it.
#include <cstdio>

#include "../cuda/plan.h"

// Writes a line of at most `size` bytes and gives 1, or gives 0: refused, or not accepted by the tactic.
extern "C" int simam_describe_plan(SimamParams const* params, int multiprocessors, int capability, int64_t l2,
                                   char* line, size_t size) {
  using namespace simam::cuda;
  char const* const kernels[] = {"small", "planes", "tiles"};
  char const* const modes[] = {"whole", "cluster", "split", "gate"};
  if (refuse(*params) != nullptr || params->images * params->channels * params->pixels == 0) return 0;
  Plan plan{};
  if (!make_plan(*params, Device{multiprocessors, capability, l2}, plan)) return 0;
  int const element = params->type == SIMAM_F32 ? 4 : params->type == SIMAM_S8 ? 1 : 2;
  int64_t const launches = (plan.units + plan.per_launch - 1) / plan.per_launch;
  int held = plan.wide ? held_of(plan.held, element) : plan.kernel == Kernel::tiles ? kHeldOfTile : kHeldElements;
  if (plan.kernel == Kernel::small) held = kHeldOfSmall;
  std::snprintf(line, size, "%s %s%s held %d, team %d, %d threads, %lld blocks, %d parts, %d B%s%.0lld",
                kernels[static_cast<int>(plan.kernel)], modes[static_cast<int>(plan.mode)], plan.wide ? "" : " narrow",
                held, plan.problem.team, plan.threads, static_cast<long long>(blocks_of(plan, plan.per_launch)),
                plan.problem.parts, plan.shared, launches > 1 ? ", launches " : "",
                static_cast<long long>(launches > 1 ? launches : 0));
  return 1;
}
