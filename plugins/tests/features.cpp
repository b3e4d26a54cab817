// The processor's features, against what the system lists of it.
#include <fstream>
#include <set>
#include <sstream>

#include "../cpu/features.h"
#include "../cpu/simam_cpu.h"
#include "harness.h"

namespace simam::test {
namespace {

// The flags of the first processor; empty where the system lists none.
std::set<std::string> flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("flags", 0) == 0) {
      std::istringstream words(line);
      std::set<std::string> all;
      for (std::string word; words >> word;) all.insert(word);
      return all;
    }
  return {};
}

TEST(as_the_system_lists_them) {
  std::set<std::string> const listed = flags();
  if (listed.empty()) return;
  cpu::Features const& found = cpu::features();
  struct {
    char const* name;
    bool found;
  } const features[] = {{"avx2", found.avx2},         {"fma", found.fma},           {"avx512f", found.avx512f},
                        {"avx512bw", found.avx512bw}, {"avx512dq", found.avx512dq}, {"avx512vl", found.avx512vl}};
  for (auto const& feature : features)
    CHECK(feature.found == (listed.count(feature.name) == 1), "%s is %d", feature.name, feature.found);
}

TEST(the_widest_target_is_best) {
  if (std::getenv("SIMAM_CPU") != nullptr) return;
  cpu::Features const& found = cpu::features();
  bool const narrow = !found.avx2 || !found.fma;
  bool const wide = found.avx512f && found.avx512bw && found.avx512dq && found.avx512vl;
  char const* const expected = narrow ? "baseline" : wide ? "avx512" : "avx2";
  CHECK(std::strcmp(cpu::best_target().name, expected) == 0, "%s, not %s", cpu::best_target().name, expected);
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
