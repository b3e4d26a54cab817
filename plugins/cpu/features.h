// Vector instructions that this processor has, and whose registers its system saves. All false but on x86-64.
//
// __builtin_cpu_supports would say the same, but zig builds the wheels, and its runtime answers no to everything.
#pragma once

namespace simam::cpu {

struct Features {
  bool avx2 = false, fma = false;
  bool avx512f = false, avx512bw = false, avx512dq = false, avx512vl = false;
};

Features const& features();

}  // namespace simam::cpu
