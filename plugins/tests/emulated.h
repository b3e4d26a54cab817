// The launches of cuda/launch.h on the emulator, for a device of one's choice.
#pragma once

#include "../cuda/launch.h"
#include "emulator.h"

namespace simam::test {

// All launches of the plan, one after another. Gives the launcher's error, which is 0.
int launch_emulated(SimamParams const& params, cuda::Plan const& plan, Order order);

}  // namespace simam::test
