// A test program in forty lines: TEST registers, CHECK reports and goes on, main() runs all tests or those named.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace simam::test {

struct Test {
  char const* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(char const* name, void (*run)()) { tests().push_back({name, run}); }
};

inline int failures = 0;  // only the thread of main() fails
constexpr int kShown = 20;

[[gnu::format(printf, 1, 2)]] inline std::string text(char const* format, ...) {
  char line[1024];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(line, sizeof line, format, values);
  va_end(values);
  return line;
}

inline void fail(char const* file, int line, std::string const& what) {
  if (++failures <= kShown) std::printf("  FAILED %s:%d: %s\n", file, line, what.c_str());
}

#define TEST(name)                                                   \
  static void name();                                                \
  static ::simam::test::Register const register_##name(#name, name); \
  static void name()

#define CHECK(condition, ...) \
  if (!(condition)) ::simam::test::fail(__FILE__, __LINE__, #condition ": " + ::simam::test::text(__VA_ARGS__))

// Sanitizers, valgrind and emulators are ten times slower: there, every so many sizes and seeds do.
inline bool thin() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return true;
#endif
#endif
  static bool const asked = std::getenv("SIMAM_TESTS_THIN") != nullptr;
  return asked;
}

// splitmix64: the same numbers everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t end) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(end)); }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double normal() {  // of variance 1, between -6 and 6
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  uint64_t state_;
};

inline int run_tests(int count, char** names) {
  for (Test const& test : tests()) {
    bool wanted = count <= 1;
    for (int i = 1; i < count; ++i) wanted |= std::strcmp(names[i], test.name) == 0;
    if (!wanted) continue;
    std::printf("%s\n", test.name);
    std::fflush(stdout);
    test.run();
  }
  if (failures > 0) std::printf("%d failed\n", failures);
  return failures > 0 ? 1 : 0;
}

}  // namespace simam::test
