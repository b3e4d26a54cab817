// Memory: what the CUDA kernels touch, wherever x, y and residual begin.
#include <csignal>

#include "cuda_problem.h"
#include "memory.h"

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

// Against a page that nobody may touch, on either side: elsewhere AddressSanitizer alone sees what is read outside.
TEST(nothing_outside_is_read) {
  std::signal(SIGSEGV, report_fault);
  for (Type const type : kTypes)
    for (int const group : {1, 8, 16})
      // 1028, 1032 and 1040: one chunk for the second warp, with 4, 2 and 1 bytes of an element
      for (int64_t const m : {49, 1000, 1024, 1028, 1032, 1040, 2048})
        for (SimamTactic const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
          for (auto const against : {Fenced::Against::begin, Fenced::Against::end}) {
            Problem const p = problem(type, 1, 3, m, 5);
            CudaWay way;
            way.tactic = tactic;
            way.group = group;
            std::snprintf(current, sizeof current, "%s", describe(p, way).c_str());
            size_t const bytes = static_cast<size_t>(group == 1 ? 3 * m : group * m) * format(type).bytes;
            size_t const each = p.scale.size() * sizeof(float);
            Fenced x(bytes), residual(bytes), y(bytes), scale(each), bias(each);
            SimamParams params = params_of(p, way);
            params.x = x.array(bytes, against);
            params.residual = residual.array(bytes, against);
            params.y = y.array(bytes, against);
            params.scale = static_cast<float*>(std::memcpy(scale.array(each, against), p.scale.data(), each));
            params.bias = static_cast<float*>(std::memcpy(bias.array(each, against), p.bias.data(), each));
            cuda::Plan plan{};
            if (!cuda::make_plan(params, kHopper, plan)) continue;
            Fenced workspace(static_cast<size_t>(plan.workspace) + 16);
            params.workspace = workspace.array(static_cast<size_t>(plan.workspace), against);
            CHECK(launch_emulated(params, plan, Order::forward) == 0, "%s", current);
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
      for (int64_t const m : {2, 3, 49, 196})
        for (int const off : {0, 3}) {  // a block's piece is full, and begins behind a multiple of 16
          CudaWay way;
          way.device = kTiny;
          way.x_off = off;
          way.residual_off = off / 3;
          check(problem(type, 1, planes, m, 5), way);
        }
}

int main(int count, char** names) { return run_tests(count, names); }
