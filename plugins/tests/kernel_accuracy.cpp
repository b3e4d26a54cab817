// Every target, type, layout and operator against the formula in long double, at every size where a loop has an end.
#include <map>

#include "problem.h"

namespace simam::test {
namespace {

std::map<std::string, Error> worst;  // by type and input, and by operator

void record(Problem const& p, Input const& input, Error const& error) {
  bool const alone = std::strcmp(p.op.name, "SimAM") == 0;
  std::string const key = text("%-5s%s", format(p.type).name, alone ? input.name : p.op.name);
  worst[key].of_tolerance = std::max(worst[key].of_tolerance, error.of_tolerance);
  worst[key].of_bar = std::max(worst[key].of_bar, error.of_bar);
}

void check(Problem& p, Input const& input, std::vector<int> const& blocks, std::vector<Op> const& ops) {
  std::vector<double> const simam_of_x = simam_of(p);
  for (Op const& op : ops) {
    p.op = op;
    Expected const expected = expect(p, simam_of_x);
    for_targets([&](cpu::Target const& target) {
      for (int const block : blocks) {
        Way way;
        way.target = &target;
        way.block = block;
        way.misaligned = (p.m + block) % 17;
        record(p, input, compare(p, way, expected, run(p, way)));
        if (block != 1 && p.m > 70) continue;
        way.output = op.residual && p.m % 2 == 0 ? Way::Output::on_residual : Way::Output::on_x;
        compare(p, way, expected, run(p, way));
      }
    });
  }
}

std::vector<Op> const all_ops(std::begin(kOps), std::end(kOps));

TEST(every_size) {
  std::vector<int64_t> sizes;
  for (int64_t m = 2; m <= 70; m += thin() ? 7 : 1) sizes.push_back(m);
  for (int64_t const m : {49, 196, 400}) sizes.push_back(m);
  for (Type const type : kTypes)
    for (Input const& input : kInputs)
      for (int64_t const m : sizes) {
        bool const plain = &input == &kInputs[0];
        if (!holds(type, input) || (type != Type::f32 && !plain && m % 3 != 1)) continue;
        Problem p = make(type, input, 1, 16, m, static_cast<uint64_t>(m));
        check(p, input, {1, 4, 8, 16}, plain || m % 9 == 4 ? all_ops : std::vector<Op>{kOps[0]});
      }
}

// Channels that do not fill a group of lanes, more planes than channels.
TEST(odd_channels) {
  for (Type const type : kTypes)
    for (int64_t const m : {2, 7, 49, 196})
      for (int64_t const channels : {1, 3, 5, 17}) {
        Problem p = make(type, kInputs[0], 3, channels, m, 7);
        check(p, kInputs[0], {1}, all_ops);
      }
}

TEST(large_maps) {
  for (Input const& input : kInputs)
    for (int64_t const m : {3136, 6400, 25600, 102400}) {
      bool const telling = std::strstr("normal offset 1e5 alternating sparse", input.name) != nullptr;
      if (m > 6400 && (thin() || !telling)) continue;
      for (Type const type : {Type::f32, Type::f16}) {
        if (!holds(type, input) || (type == Type::f16 && m != 6400)) continue;
        Problem p = make(type, input, 1, 4, m, 11);
        check(p, input, {1, 4}, {kOps[0]});
      }
    }
  for (Type const type : kTypes) {
    Problem p = make(type, kInputs[0], 1, 16, thin() ? 3136 : 25600, 13);
    check(p, kInputs[0], {1, 8, 16}, {kOps[0], kOps[6]});
  }
}

struct Run {
  int length;
  float value;
};

// The planes that a search for large errors ended at: few values, and where the kernel looks to guess the mean another
// one, as far from it as goes without another sum. The sums then round alike over and over, and lose the most digits.
std::vector<Run> const kFound[] = {{{1, 0x1.6bd7cap+1F},
                                    {31, -0x1.97a2f6p+0F},
                                    {1, 0x1.6bd7cap+1F},
                                    {11, -0x1.97a2f6p+0F},
                                    {1, 0x1.32e07ep+2F},
                                    {19, 0x1.ea2b3cp+0F},
                                    {1, 0x1.6bd7cap+1F},
                                    {31, 0x1.ea2b3cp+0F},
                                    {1, 0x1.6bd7cap+1F},
                                    {31, 0x1.ea2b3cp+0F}},
                                   {{1, 0x1.21521ap-6F},
                                    {24, 0x1.78ba8cp-2F},
                                    {103, -0x1.0cb2fep-5F},
                                    {1, 0x1.214b38p-6F},
                                    {127, -0x1.0cb2fep-5F},
                                    {1, 0x1.215312p-6F},
                                    {127, -0x1.0cb2fep-5F},
                                    {1, 0x1.21520ap-6F},
                                    {127, -0x1.0cb2fep-5F},
                                    {1, 0x1.2133f8p-6F},
                                    {90, -0x1.0cb2fep-5F},
                                    {37, 0x1.c3c99cp-3F},
                                    {1, 0x1.214f24p-6F},
                                    {127, 0x1.c3c99cp-3F},
                                    {1, 0x1.214e6ap-6F},
                                    {127, 0x1.c3c99cp-3F},
                                    {1, 0x1.21526p-6F},
                                    {127, 0x1.c3c99cp-3F}},
                                   {{1, -0x1.62195ap+1F},
                                    {2, -0x1.43286ap+0F},
                                    {6, 0x1.05d9ecp+1F},
                                    {31, -0x1.854ap+0F},
                                    {1, -0x1.5a947ep+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.622eap+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.62307p+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.6230b6p+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.622d36p+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.6232eap+1F},
                                    {39, -0x1.854ap+0F},
                                    {1, -0x1.622286p+1F},
                                    {39, -0x1.854ap+0F}},
                                   {{1, 0x1.1483ep-1F},
                                    {10, -0x1.37dadp-1F},
                                    {1, 0x1.809d5ep-1F},
                                    {116, 0x1.02c8dcp-1F},
                                    {1, 0x1.1483d4p-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.1483b2p-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.1483b4p-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.1381bap-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.14848p-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.1483c4p-1F},
                                    {127, 0x1.02c8dcp-1F},
                                    {1, 0x1.1483f8p-1F},
                                    {127, 0x1.02c8dcp-1F}}};

void check_found(std::vector<double> const& x) {
  for (float const lambda : {0.0F, 1e-4F}) {
    Problem p;
    p.name = text("found of %d elements, lambda %g", static_cast<int>(x.size()), static_cast<double>(lambda));
    p.images = p.channels = 1;
    p.m = static_cast<int64_t>(x.size());
    p.lambda = lambda;
    p.x = x;
    check(p, {"found", 0, false, false, nullptr}, {1}, {kOps[0]});
  }
}

TEST(found) {
  for (std::vector<Run> const& runs : kFound) {
    std::vector<double> x;
    for (Run const& run : runs) x.insert(x.end(), static_cast<size_t>(run.length), static_cast<double>(run.value));
    check_found(x);
  }
  for (int64_t const samples : {4, 8}) {
    int64_t const m = 2071;
    std::vector<double> x;
    for (int64_t i = 0; i < m; ++i) x.push_back(i % 64 < 13 ? 0x1.79c1d6p+0 : 0x1.166f74p-3);
    for (int64_t k = 0; k < samples; ++k) x[static_cast<size_t>(m * k / samples)] = 0x1.0fd1d2p+0;
    check_found(x);
  }
}

TEST(worst_errors) {
  std::printf("  %-28s %s\n", "", "largest error / tolerance, / (2 eps max|x|)");
  for (auto const& [name, error] : worst)
    std::printf("  %-28s %8.3f %12.3f\n", name.c_str(), error.of_tolerance, error.of_bar);
}

// The tolerance tells the formula from what is nearly the formula: each mistake exceeds it tenfold, where it matters.
TEST(a_wrong_formula_exceeds_the_tolerance) {
  struct Wrong {
    char const* name;
    Formula formula;
    int input;
    int64_t m;
  };
  Wrong const all[] = {{"population variance", {0, 1, 0.5L}, 0, 3136},
                       {"lambda 1 % off", {1, 1.01L, 0.5L}, 7, 3136},  // faint
                       {"no 1/2", {1, 1, 0}, 0, 49},
                       {"1/2 off by 1e-5", {1, 1, 0.50001L}, 0, 49}};
  for (Wrong const& wrong : all) {
    Problem const p = make(Type::f32, kInputs[wrong.input], 1, 4, wrong.m, 17);
    Error const error = compare(p, Way{}, expect(p, simam_of(p)), simam_of(p, wrong.formula), false);
    CHECK(error.of_tolerance > 4, "%s: only %.3g tolerances from the formula", wrong.name, error.of_tolerance);
    std::printf("  %-28s %8.1f tolerances\n", wrong.name, error.of_tolerance);
  }
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
