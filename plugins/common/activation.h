// The activation of an operator as the CUDA kernels number it.
#pragma once

#include "../cuda/simam_cuda.h"
#include "simam.h"

namespace simam {

inline int32_t activation_of(Activation activation) {
  switch (activation) {
    case Activation::relu: return SIMAM_RELU;
    case Activation::silu: return SIMAM_SILU;
    case Activation::none: break;
  }
  return SIMAM_NONE;
}

}  // namespace simam
