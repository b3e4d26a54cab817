// What is read and written: nothing outside of the arrays, all of y, whatever m, the alignment and the place of y.
#include "problem.h"

namespace simam::test {
namespace {

// Every array between two pages that may not be touched, against the one or the other.
struct Areas {
  Fenced x{8192}, y{8192}, residual{8192}, scale{64}, bias{64};
};

char* fill(Fenced& area, std::vector<float> const& values, Fenced::Against against) {
  char* const array = area.array(values.size() * sizeof(float), against);
  std::memcpy(array, values.data(), values.size() * sizeof(float));
  return array;
}

void run_fenced(Areas& areas, Problem const& p, Way const& way, Fenced::Against against) {
  std::string const words = describe(p, way) + (against == Fenced::Against::end ? " at the end" : " at the start");
  std::snprintf(current, sizeof current, "%s", words.c_str());
  size_t const bytes = static_cast<size_t>(p.size()) * format(p.type).bytes;
  char* const x = areas.x.array(bytes, against);
  char* const residual = areas.residual.array(bytes, against);
  lay_out(p, way.block, p.x, p.x_scale, x);
  lay_out(p, way.block, p.residual, p.residual_scale, residual);
  cpu::Task task = task_of(p, way.block);
  task.x = x;
  task.y = areas.y.array(bytes, against);
  task.residual = p.op.residual ? residual : nullptr;
  char* const scale = fill(areas.scale, p.scale, against);
  char* const bias = fill(areas.bias, p.bias, against);
  task.scale = p.op.affine ? reinterpret_cast<float const*>(scale) : nullptr;
  task.bias = p.op.affine ? reinterpret_cast<float const*>(bias) : nullptr;
  cpu::run_with(*way.target, task, way.parallel);
}

TEST(nothing_outside_is_touched) {
  std::signal(SIGSEGV, report_fault);
  std::signal(SIGBUS, report_fault);
  Areas areas;
  for (Type const type : kTypes)
    for (int64_t m = 2; m <= 70; m += thin() ? 5 : 1)
      for (int64_t const channels : {1, 3, 16}) {
        Problem p = make(type, kInputs[0], 1, channels, m, 3);
        for (Op const& op : {kOps[0], kOps[5]})
          for_targets([&](cpu::Target const& target) {
            p.op = op;
            Way way;
            way.target = &target;
            for (auto const against : {Fenced::Against::begin, Fenced::Against::end})
              for (int const block : {1, 4, 8, 16}) {
                way.block = block;
                if (channels % block == 0) run_fenced(areas, p, way, against);
              }
          });
      }
}

// The same bytes of y, wherever the arrays begin and whether y is apart, x or residual. run() checks what lies around.
TEST(alignment_and_place_change_nothing) {
  for (Type const type : kTypes)
    for (int64_t const m : {2, 3, 5, 8, 15, 16, 17, 31, 33, 49, 64, 70, 130, 3136}) {
      Problem p = make(type, kInputs[0], 2, m > 1000 ? 16 : 48, m, 5);
      for (Op const& op : {kOps[0], kOps[3], kOps[6]})
        for_targets([&](cpu::Target const& target) {
          p.op = op;
          for (int const block : {1, 4, 8, 16}) {
            Way way;
            way.target = &target;
            way.block = block;
            std::vector<double> const expected = run(p, way);
            for (int64_t shift = 1; shift < 64; shift += thin() || m > 100 ? 9 : block > 1 ? 4 : 1) {
              way.misaligned = shift;
              way.output = static_cast<Way::Output>(shift % (op.residual ? 3 : 2));
              CHECK(run(p, way) == expected, "%s: differs from aligned, apart", describe(p, way).c_str());
            }
          }
        });
    }
}

TEST(nothing_to_do) {
  cpu::Task task;
  task.m = 49;
  for_targets([&](cpu::Target const& target) { cpu::run_with(target, task, in_order()); });
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
