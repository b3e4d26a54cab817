// The inputs that every kernel is tested with: a name, a lambda, and the elements of a plane.
#pragma once

#include <cmath>

#include "harness.h"
#include "reference.h"

namespace simam::test {

struct Input {
  char const* name;
  float lambda;
  bool half;  // float16 holds it
  bool byte;  // int8 holds it
  double (*at)(Random& random, int64_t i, int64_t m);
};

// Where the kernel looks to guess the mean.
inline bool is_sampled(int64_t i, int64_t m) {
  for (int64_t k = 0; k < 8; ++k)
    if (i == m * k / 8) return true;
  return false;
}

inline constexpr Input kInputs[] = {
    {"normal", 1e-4F, true, true, [](Random& r, int64_t, int64_t) { return r.normal(); }},
    {"lambda 0", 0, true, true, [](Random& r, int64_t, int64_t) { return r.normal(); }},
    {"lambda 0.1", 0.1F, true, true, [](Random& r, int64_t, int64_t) { return r.normal(); }},
    {"constant", 1e-4F, true, true, [](Random&, int64_t, int64_t) { return 0.7; }},
    {"offset 1e3", 1e-4F, true, true, [](Random& r, int64_t, int64_t) { return 1e3 + r.normal(); }},
    {"offset 1e5", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return 1e5 + r.normal(); }},
    {"faint offset", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return -1e3 + 1e-2 * r.normal(); }},
    {"faint", 1e-4F, true, true, [](Random& r, int64_t, int64_t) { return 1e-2 * r.normal(); }},
    {"fainter", 1e-4F, true, true, [](Random& r, int64_t, int64_t) { return 1e-3 * r.normal(); }},
    {"outlier", 1e-4F, false, false, [](Random& r, int64_t i, int64_t m) { return i == m / 3 ? 1e6 : r.normal(); }},
    {"outliers sampled", 1e-4F, true, true,
     [](Random& r, int64_t i, int64_t m) { return r.normal() + (is_sampled(i, m) ? 1e2 : 0); }},
    {"guess far off", 1e-4F, true, true,  // just not far enough to be summed again, where m is large
     [](Random& r, int64_t i, int64_t m) {
       return (is_sampled(i, m) ? 0.55 : r.below(2) == 0 ? 1.0 : -1.0);
     }},
    {"alternating", 1e-4F, true, true,
     [](Random& r, int64_t i, int64_t) { return (i % 2 == 0 ? 1e4 : 1e-3) * (1 + 0.1 * r.normal()); }},
    {"two values", 1e-4F, true, true, [](Random&, int64_t i, int64_t) { return i % 2 == 0 ? 1.3 : -1.3; }},
    {"ramp", 1e-4F, true, true,
     [](Random&, int64_t i, int64_t m) { return 10.0 * static_cast<double>(i) / static_cast<double>(m) - 3; }},
    {"sparse", 1e-4F, true, true, [](Random& r, int64_t, int64_t) { return r.below(10) == 0 ? r.normal() : 0.0; }},
    {"1e18", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return 1e18 * r.normal(); }},
    {"1e19", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return 1e19 * r.normal(); }},
    {"1e37", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return 1e37 * r.normal(); }},
    {"1e-6, lambda 0", 0, false, true, [](Random& r, int64_t, int64_t) { return 1e-6 * r.normal(); }},
    {"1e-20, lambda 0", 0, false, false, [](Random& r, int64_t, int64_t) { return 1e-20 * r.normal(); }},
    {"1e-20, lambda 1e-30", 1e-30F, false, false, [](Random& r, int64_t, int64_t) { return 1e-20 * r.normal(); }},
    {"1e-15, lambda 1e-30", 1e-30F, false, false, [](Random& r, int64_t, int64_t) { return 1e-15 * r.normal(); }},
    {"3e-21, lambda 1e-41", 1e-41F, false, false, [](Random& r, int64_t, int64_t) { return 3e-21 * r.normal(); }},
    {"1e-30, lambda 0", 0, false, false, [](Random& r, int64_t, int64_t) { return 1e-30 * r.normal(); }},
    {"denormals", 1e-4F, false, false, [](Random& r, int64_t, int64_t) { return 1e-41 * r.normal(); }},
};

inline bool holds(Type type, Input const& input) {
  return type == Type::f16 ? input.half : type != Type::s8 || input.byte;
}

}  // namespace simam::test
