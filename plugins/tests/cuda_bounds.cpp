// Memory: what the CUDA kernels touch, wherever x, y and residual begin.
#include "cuda_problem.h"

using namespace simam;
using namespace simam::test;

namespace {

Problem problem(Type type, int64_t images, int64_t channels, int64_t m, int op) {
  Problem p = make(type, kInputs[0], images, channels, m, 11);
  p.op = kOps[op];
  return p;
}

}  // namespace

TEST(misaligned_by_every_element) {
  for (Type const type : kTypes) {
    int const vector = static_cast<int>(16 / format(type).bytes);
    for (int off = 0; off < vector; ++off)
      for (int64_t const m : {49, 64, 1000, 1024})
        for (SimamTactic const tactic : {SIMAM_AUTOMATIC, SIMAM_SPLIT}) {
          CudaWay way;
          way.tactic = tactic;
          way.x_off = off;
          check(problem(type, 1, 3, m, 0), way);
          way.y_off = off;  // as x
          way.residual_off = (off + 1) % vector;
          check(problem(type, 1, 3, m, 5), way);
          way.x_off = 0;
          check(problem(type, 1, 3, m, 4), way);
        }
  }
}

TEST(misaligned_channels_last) {
  for (Type const type : kTypes)
    for (int const off : {1, 3})
      for (int const group : {8, 16, 5}) {
        CudaWay way;
        way.group = group;
        way.x_off = off;
        way.y_off = off + 1;
        check(problem(type, 2, 5, 50, 5), way);
      }
}

TEST(in_place) {
  for (Type const type : kTypes)
    for (int const group : {1, 8, 32})
      for (SimamTactic const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
        for (int64_t const m : {49, 400, 2048})
          for (auto const output : {Way::Output::on_x, Way::Output::on_residual}) {
            CudaWay way;
            way.group = group;
            way.tactic = tactic;
            way.output = output;
            way.order = Order::mixed;
            check(problem(type, 1, 3, m, output == Way::Output::on_x ? 0 : 5), way, tactic == SIMAM_AUTOMATIC);
          }
}

// Sizes at which something fills up: lanes, chunks, blocks, parts, and one more and one less.
TEST(sizes_around_what_fills) {
  for (Type const type : kTypes)
    for (int64_t const full : {64, 128, 256, 512, 1024, 2048, 4096, 8192, 24576})
      for (int64_t const more : {-16, -1, 0, 1, 16})
        for (cuda::Device const& device : {kHopper, kOrin}) {
          if (thin() && full > 3000) continue;
          CudaWay way;
          way.device = device;
          check(problem(type, 1, 1, full + more, 2), way);
        }
}

TEST(many_small_planes) {
  for (Type const type : kTypes)
    for (int64_t const planes : {1, 15, 16, 17, 31, 33, 100, 257})
      for (int64_t const m : {2, 3, 49, 196}) {
        CudaWay way;
        way.device = kTiny;
        check(problem(type, 1, planes, m, 5), way);
      }
}

int main(int count, char** names) { return run_tests(count, names); }
