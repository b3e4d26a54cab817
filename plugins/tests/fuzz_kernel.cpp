// Any task that simam_cpu.h allows, on every target, against the formula in long double.
#include "bytes.h"
#include "problem.h"

extern "C" int LLVMFuzzerTestOneInput(uint8_t const* data, size_t size) {
  using namespace simam;
  using namespace simam::test;
  Bytes bytes(data, size);
  Type const type = bytes.one_of(kTypes);
  Op const op = bytes.one_of(kOps);
  int const block = bytes.one_of({1, 1, 4, 8, 16});
  Input input = bytes.one_of(kInputs);
  if (!holds(type, input)) input = kInputs[0];
  int64_t const channels = block == 1 ? 1 + bytes.below(20) : block * (1 + bytes.below(3));
  int64_t const m = 2 + bytes.below(bytes.byte() % 16 == 0 ? 20000 : 300);
  Problem p = make(type, input, 1 + bytes.below(2), channels, m, bytes.byte());
  // Some elements are others; as large as the plane's own, or the exact result is not in the type.
  double const most = largest(p.x.data(), p.size());
  for (int64_t i = bytes.below(64); i > 0; --i)
    p.x[static_cast<size_t>(bytes.below(p.size()))] = held(type, most * (bytes.byte() / 128.0 - 1), p.x_scale);
  p.op = op;
  Random random(size);
  Parallel const parallels[] = {in_order(), backwards(), shuffled(random)};
  Way way;
  way.block = block;
  way.misaligned = bytes.byte();
  way.output = static_cast<Way::Output>(bytes.byte() % (op.residual ? 3 : 2));
  way.parallel = bytes.one_of(parallels);
  Expected const expected = expect(p, simam_of(p));
  for_targets([&](cpu::Target const& target) {
    way.target = &target;
    compare(p, way, expected, run(p, way));
  });
  if (failures != 0) std::abort();
  return 0;
}
