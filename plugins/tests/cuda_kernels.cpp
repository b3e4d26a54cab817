// The CUDA kernels' own code on the emulator, against the formula.
#include "cuda_problem.h"

using namespace simam;
using namespace simam::test;

namespace {

Input const& input(char const* name) {
  for (Input const& each : kInputs)
    if (std::strcmp(each.name, name) == 0) return each;
  std::abort();
}

double worst = 0;

void checked(Problem const& p, CudaWay const& way, bool must_accept = true) {
  worst = std::max(worst, check(p, way, must_accept));
}

}  // namespace

TEST(every_size) {
  for (Type const type : kTypes)
    for (int64_t m = 2; m <= 600; m += thin() ? 7 : 1) checked(make(type, input("normal"), 1, 3, m, 1), {});
}

// Each kernel that there is for planes, at sizes with tails and at sizes without.
TEST(tactics) {
  for (Type const type : kTypes)
    for (SimamTactic const tactic : {SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
      for (int64_t const m : {int64_t{2}, int64_t{64}, int64_t{784}, int64_t{1000}, int64_t{3136}, int64_t{4225}, int64_t{12544}, int64_t{25600}})
        for (Op const& op : {kOps[0], kOps[5], kOps[3]}) {
          if (thin() && m > 5000 && op.affine) continue;
          Problem p = make(type, input("offset 1e3"), 1, 2, m, 2);
          p.op = op;
          CudaWay way;
          way.tactic = tactic;
          checked(p, way, tactic == SIMAM_SPLIT);
        }
}

TEST(channels_last) {
  for (Type const type : kTypes)
    for (SimamTactic const tactic : {SIMAM_AUTOMATIC, SIMAM_REGISTERS, SIMAM_CLUSTER, SIMAM_SPLIT})
      for (int const channels : {1, 3, 8, 25, 64, 70})
        for (int const group : {(channels + 7) / 8 * 8, (channels + 15) / 16 * 16, channels, 32, 4})
          for (int64_t const m : {int64_t{2}, int64_t{49}, int64_t{400}, int64_t{961}}) {
            if (group == 1 || (m > 900 && channels > 25) || (thin() && m > 400)) continue;
            Problem p = make(type, input("normal"), 2, channels, m, 3);
            p.op = kOps[m % 7];
            CudaWay way;
            way.tactic = tactic;
            way.group = group;
            way.device = m == 49 ? kOrin : kHopper;
            checked(p, way, tactic == SIMAM_SPLIT || tactic == SIMAM_AUTOMATIC);
          }
}

TEST(zz_worst) { std::printf("  largest error: %.2f of the tolerance\n", worst); }

int main(int count, char** names) { return run_tests(count, names); }
