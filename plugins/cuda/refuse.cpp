#include <cmath>

#include "plan.h"

namespace simam::cuda {
namespace {

bool is_scale(float v) { return std::isfinite(v) && v > 0; }

}  // namespace

int element_size(int32_t type) { return type == SIMAM_F32 ? 4 : type == SIMAM_S8 ? 1 : 2; }

int misaligned(void const* p, int by) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(by));
}

char const* refuse(SimamParams const& params) {
  int64_t constexpr kMost = 1 << 30;
  if (params.type < SIMAM_F32 || params.type > SIMAM_S8) return "type is none of SimamType";
  if (params.activation < SIMAM_NONE || params.activation > SIMAM_SILU) return "activation is none of SimamActivation";
  if (params.tactic < SIMAM_AUTOMATIC || params.tactic > SIMAM_SPLIT) return "tactic is none of SimamTactic";
  if (params.images < 0 || params.channels < 0 || params.pixels < 0) return "a size is negative";
  if (params.group < 1) return "group is less than 1";
  if (!(std::isfinite(params.lambda) && params.lambda >= 0)) return "lambda must be finite and not negative";
  if ((params.scale == nullptr) != (params.bias == nullptr)) return "scale and bias come both or neither";
  if (params.type == SIMAM_S8 && !(is_scale(params.x_scale) && is_scale(params.y_scale)))
    return "int8 needs x_scale and y_scale, finite and above 0";
  if (params.type == SIMAM_S8 && params.residual != nullptr && !is_scale(params.residual_scale))
    return "an int8 residual needs residual_scale, finite and above 0";
  if (params.images == 0 || params.channels == 0 || params.pixels == 0) return nullptr;
  if (params.pixels == 1) return "of one pixel the variance is 0/0";
  if (params.pixels > kMost || params.channels > kMost || params.group > kMost ||
      params.images > kMost / params.channels)
    return "images * channels, group and pixels must be at most 2^30";
  int const size = element_size(params.type);
  if (misaligned(params.x, size) != 0 || misaligned(params.y, size) != 0 || misaligned(params.residual, size) != 0)
    return "x, y or residual is not aligned as its elements are";
  if (misaligned(params.scale, 4) != 0 || misaligned(params.bias, 4) != 0 || misaligned(params.workspace, 16) != 0)
    return "scale, bias or workspace is misaligned";
  return nullptr;
}

}  // namespace simam::cuda
