// The emulator itself: it must notice what a GPU would do wrong.
#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

#include "emulator.h"

using namespace simam;
using namespace simam::test;

namespace {

// What a kernel of 64 threads and 2 blocks writes, in this order of its threads.
template <class Kernel>
std::vector<float> written(Kernel const& kernel, Order order, int cluster = 1) {
  std::vector<float> out(128, -1);
  Emulator emulator;
  emulator.order = order;
  emulator.launch([&](Emulator::View const& block) { kernel(block, out.data() + 64 * block.index()); }, 2, 64, 256,
                  cluster);
  return out;
}

template <class Kernel>
bool depends_on_order(Kernel const& kernel, int cluster = 1) {
  auto const first = written(kernel, Order::forward, cluster);
  auto const differs = [&](Order order) {
    auto const other = written(kernel, order, cluster);
    return std::memcmp(first.data(), other.data(), first.size() * sizeof(float)) != 0;
  };
  return differs(Order::backward) || differs(Order::mixed) || differs(Order::warp_by_warp);
}

// Each thread reads what the one opposite wrote.
template <bool kSync>
void exchange(Emulator::View const& block, float* out) {
  auto* const shared = reinterpret_cast<float*>(block.shared());
  shared[block.thread()] = static_cast<float>(block.thread());
  if (kSync) block.sync();
  out[block.thread()] = shared[63 - block.thread()];
}

// The same, and then each thread writes again. The threads of a warp have met, so that all of it have read.
template <bool kSync>
void write_again(Emulator::View const& block, float* out) {
  auto* const shared = reinterpret_cast<float*>(block.shared());
  shared[block.thread()] = static_cast<float>(block.thread());
  block.sync();
  out[block.thread()] = shared[63 - block.thread()];
  if (kSync) block.sync();
  cuda::sum_of(block, 1.0F);
  shared[block.thread()] = -1;
}

// A block writes into the other one's memory, which reads it.
template <bool kWait>
void exchange_in_cluster(Emulator::View const& block, float* out) {
  block.cluster_arrive();
  block.cluster_wait();
  auto* const slot = reinterpret_cast<cuda::Moments*>(block.shared());
  auto const index = static_cast<int>(block.index());
  if (block.thread() == 0) block.store_remote(slot, 1 - index, {static_cast<float>(index), 0, 0, 0});
  block.cluster_arrive();
  if (kWait) block.cluster_wait();
  out[block.thread()] = slot->count;
}

// Whether this ends the process with these words.
template <class Kernel>
bool dies(Kernel const& kernel, char const* words, int cluster = 1) {
  int pipes[2];
  if (pipe(pipes) != 0) std::abort();
  std::fflush(stdout);
  pid_t const child = fork();
  if (child == 0) {
    dup2(pipes[1], STDOUT_FILENO);
    close(pipes[0]);
    std::signal(SIGABRT, SIG_DFL);
    written(kernel, Order::forward, cluster);
    _exit(0);
  }
  close(pipes[1]);
  std::string said;
  char some[256];
  for (ssize_t count; (count = read(pipes[0], some, sizeof some)) > 0;) said.append(some, static_cast<size_t>(count));
  close(pipes[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return status != 0 && said.find(words) != std::string::npos;
}

}  // namespace

TEST(a_missing_barrier_is_seen) {
  CHECK(!depends_on_order(exchange<true>), "with a barrier the order matters");
  CHECK(depends_on_order(exchange<false>), "without a barrier the order does not matter");
}

TEST(a_warp_that_runs_ahead_is_seen) {
  CHECK(!depends_on_order(write_again<true>), "with a barrier the order matters");
  CHECK(depends_on_order(write_again<false>), "without a barrier the order does not matter");
}

TEST(two_blocks_that_write_one_place_are_seen) {
  auto const both = [](Emulator::View const& block, float* out) {
    out[block.thread() - 64 * static_cast<int>(block.index())] = static_cast<float>(block.index());
  };
  CHECK(depends_on_order(both), "the order of blocks does not matter");
}

TEST(a_missing_cluster_barrier_is_seen) {
  CHECK(!depends_on_order(exchange_in_cluster<true>, 2), "with a barrier the order matters");
  CHECK(depends_on_order(exchange_in_cluster<false>, 2), "without a barrier the order does not matter");
}

TEST(sums_are_of_the_lanes_asked_for) {
  auto const out = written(
      [](Emulator::View const& block, float* to) {
        float some[] = {static_cast<float>(block.thread() % 32)};
        cuda::sum_over(block, 8, some);
        to[block.thread()] = some[0] + 1000 * static_cast<float>(cuda::sum_of(block, 1));
      },
      Order::mixed);
  for (int i = 0; i < 128; ++i) CHECK(out[i] == 32000 + i % 32 / 8 * 64 + 28, "%g of thread %d", out[i], i);
}

TEST(what_is_wrong_ends_the_process) {
  CHECK(dies(
            [](Emulator::View const& b, float* out) {
              if (b.thread() == 3)
                *out = static_cast<float>(b.load(reinterpret_cast<cuda::Bytes16 const*>(b.shared() + 4)).w[0]);
            },
            "not aligned"),
        "a vector that is not aligned");
  CHECK(dies(
            [](Emulator::View const& b, float*) {
              if (b.thread() < 32) b.sync();
            },
            "different things"),
        "half of the threads wait");
  CHECK(dies(
            [](Emulator::View const& b, float*) {
              if (b.thread() != 5) cuda::sum_of(b, 1.0F);
            },
            "different things"),
        "a thread of a warp is missing");
  CHECK(
      dies([](Emulator::View const& b, float*) { b.store_remote(reinterpret_cast<cuda::Moments*>(b.shared()), 1, {}); },
           "has not begun", 2),
      "another block is written to too early");
#if !defined(SIMAM_ASAN)  // it says so on stderr
  CHECK(dies(
            [](Emulator::View const& b, float*) {
              if (b.thread() == 7) b.shared()[256] = 0;
            },
            "behind the shared memory"),
        "a byte behind the shared memory");
#endif
}

int main(int count, char** names) { return run_tests(count, names); }
