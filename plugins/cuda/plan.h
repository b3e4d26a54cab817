// Which kernel, and how many threads and blocks of it: a function of the sizes and the device, and of nothing else.
#pragma once

#include "problem.h"
#include "simam_cuda.h"

namespace simam::cuda {

// What is to be known of a device.
struct Device {
  int multiprocessors;
  int capability;  // 10 * major + minor
  int64_t l2;      // bytes
};

enum class Kernel { small, planes, tiles };

// Chunks of 16 bytes in a thread's registers: few, some or many elements, of 4, 2 and 1 bytes.
enum class Held { few, some, many };
constexpr int held_of(Held held, int element) {
  constexpr int kTable[3][3] = {{4, 2, 1}, {8, 4, 2}, {13, 7, 3}};
  return kTable[static_cast<int>(held)][element == 4 ? 0 : element == 2 ? 1 : 2];
}
constexpr int kHeldElements = 16;  // where there are no vectors; of tiles, 8
constexpr int kHeldOfTile = 8;
constexpr int kHeldOfSmall = 64;

// Threads of a block, at most: a quarter of the warps shares 16384 registers: 96 and 128 for a thread.
constexpr int kPlaneThreads = 640;
constexpr int kTileThreads = 512;
constexpr int kLanesThreads = 128;  // of a block with several planes

// Sizes are those of one launch; a large problem, and one whose two kernels are to meet in L2, takes several.
struct Plan {
  Kernel kernel;
  Mode mode;                  // Mode::moments: each launch is followed by one of Mode::gate
  bool wide;                  // 16 bytes at a time; of small planes: everything is aligned
  bool epilogue;              // something follows simam(x)
  Held held;                  // in a thread's registers
  int threads;                // of a block
  int shared;                 // bytes of a block's memory
  int64_t units, per_launch;  // planes, or images' groups: of all, and of a launch
  int64_t workspace;          // bytes that make every launch possible
  Problem problem;            // but for the pointers, `first` and `count`
};

// Null, or why these parameters are none.
char const* refuse(SimamParams const& params);
int element_size(int32_t type);         // bytes
int misaligned(void const* p, int by);  // bytes behind a multiple of `by`

// The plan of params.tactic, or of the best one for SIMAM_AUTOMATIC. false: it does not accept this shape here.
// `params` is one that was not refused, and not empty.
bool make_plan(SimamParams const& params, Device const& device, Plan& plan);

// Blocks of a launch of so many units.
int64_t blocks_of(Plan const& plan, int64_t units);

}  // namespace simam::cuda
