#include "features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace simam::cpu {
namespace {

#if defined(__x86_64__)
bool has(unsigned value, unsigned bits) { return (value & bits) == bits; }

// Intel's manual, volume 1: 14.3 and 14.7 for AVX and AVX2, 15.2 for AVX-512.
Features read() {
  constexpr unsigned kYmm = 0x06, kZmm = 0xE6;  // of XCR0: the registers that the system saves
  Features found;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || !has(c, bit_OSXSAVE | bit_AVX)) return found;
  unsigned saved = 0, high = 0;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (!has(saved, kYmm)) return found;
  found.fma = has(c, bit_FMA);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
  found.avx2 = has(b, bit_AVX2);
  if (!has(saved, kZmm)) return found;
  found.avx512f = has(b, bit_AVX512F);
  found.avx512bw = has(b, bit_AVX512BW);
  found.avx512dq = has(b, bit_AVX512DQ);
  found.avx512vl = has(b, bit_AVX512VL);
  return found;
}
#else
Features read() { return {}; }
#endif

}  // namespace

Features const& features() {
  static Features const found = read();
  return found;
}

}  // namespace simam::cpu
