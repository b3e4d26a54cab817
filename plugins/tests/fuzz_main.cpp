// Where there is no libFuzzer: the files that are named, or some thousands of random inputs.
#include <chrono>
#include <fstream>
#include <iterator>

#include "harness.h"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size);

int main(int count, char** names) {
  for (int i = 1; i < count; ++i) {
    std::ifstream file(names[i], std::ios::binary);
    std::vector<char> const bytes{std::istreambuf_iterator<char>(file), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<uint8_t const*>(bytes.data()), bytes.size());
  }
  auto const start = std::chrono::steady_clock::now();
  for (uint64_t seed = 0; count <= 1 && seed < 20000; ++seed) {
    if (seed % 100 == 0 && std::chrono::steady_clock::now() - start > std::chrono::seconds(10)) break;
    simam::test::Random random(seed);
    std::vector<uint8_t> bytes(static_cast<size_t>(random.below(64)));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.bits());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return 0;
}
