// What run.cpp calls and kernel.cpp provides, once per target.
#pragma once

#include "simam_cpu.h"

namespace simam::cpu {

inline constexpr int kMaxLanes = 64;    // with channels last: a cache line of bytes
inline constexpr int kMostPlanes = 16;  // in the other layouts

// Planes that are worked on together, one per lane: some planes in a row, the interleaved planes of one block, or
// neighbouring channels of one image.
struct Lanes {
  int64_t first;  // plane; of a block its first
  int count;      // 1 to kMaxLanes; of a block task.block
};

// Of `count` elements of each plane.
struct Moments {
  double count;
  double mean[kMaxLanes];
  double m2[kMaxLanes];  // sum of (x - mean)^2
};

struct Loops {
  // The moments of the elements [from, to) of each plane; to > from.
  void (*moments)(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments& out);
  // y of these elements, given the moments of the whole planes.
  void (*gate)(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& of_planes);
};

}  // namespace simam::cpu
