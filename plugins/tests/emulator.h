// A block of threads and a cluster of blocks on the host: each thread is a coroutine, run in turn until it waits. The
// kernels see what cuda/block.h shows them of a GPU. Slow, and strict: a vector that is not aligned, threads that wait
// for different things and a block that leaves too early are errors; shared memory begins as NaN, and is as large as
// asked to the byte. In what order the threads run is a choice: where a barrier is missing the results depend on it.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "../cuda/arithmetic.h"
#include "harness.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIMAM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMAM_ASAN 1
#endif
#endif
#if defined(SIMAM_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace simam::test {

enum class Order { forward, backward, mixed };

[[noreturn]] inline void emulator_error(char const* what) {
  std::printf("  FAILED: emulator: %s\n", what);
  std::fflush(stdout);
  std::abort();
}

constexpr int kWarpSize = 32;

class Emulator;

// What some threads wait for together.
struct Meeting {
  int expected = 0, arrived = 0;
  unsigned round = 0;
};

struct EmulatedWarp {
  Meeting meeting;
  uint32_t values[2][kWarpSize];
};

struct EmulatedBlock {
  uint32_t index = 0;
  std::vector<EmulatedWarp> warps;
  Meeting barrier;
  std::unique_ptr<cuda::Bytes16[]> storage;
  char* memory = nullptr;
  bool begun = false;
};

struct EmulatedThread {
  ucontext_t context{};
  EmulatedBlock* block = nullptr;
  int number = 0;
  bool done = false;
  unsigned sums = 0;             // how often this warp met: the slot of values
  unsigned cluster_round = 0;    // of the arrival that is to be waited for
};

class Emulator {
 public:
  explicit Emulator(Order order) : order_(order) {}

  // Runs body(view) for each thread of `blocks` blocks, cluster by cluster. body is any callable.
  template <class Body>
  void launch(Body const& body, int64_t blocks, int threads, int shared, int cluster) {
    if (threads % kWarpSize != 0 || threads > 1024 || blocks % cluster != 0) emulator_error("a wrong launch");
    body_ = &body;
    for (int64_t first = 0; first < blocks; first += cluster)
      run_cluster(reinterpret_cast<void (*)()>(start<Body>), first, threads, shared, cluster);
  }

  class View;

 private:
  static constexpr size_t kStack = 256 * 1024;

  void run_cluster(void (*entry)(), int64_t first, int threads, int shared, int cluster);
  void prepare(EmulatedThread& thread, size_t i, void (*entry)());

  template <class Body>
  static void start(unsigned low, unsigned high);

  // Until the meeting's round has passed, others run.
  void wait(Meeting const& meeting, unsigned round) {
    while (meeting.round == round) yield();
  }

  static bool arrive(Meeting& meeting) {
    if (++meeting.arrived < meeting.expected) return false;
    meeting.arrived = 0;
    ++meeting.round;
    return true;
  }

  void meet(Meeting& meeting) {
    unsigned const round = meeting.round;
    ++progress_;
    if (!arrive(meeting)) wait(meeting, round);
  }

  void yield() { switch_to(current_->context, main_); }

  void switch_to(ucontext_t& from, ucontext_t& to) {
#if defined(SIMAM_ASAN)
    void* fake = nullptr;
    bool const to_main = &to == &main_;
    __sanitizer_start_switch_fiber(current_->done ? nullptr : &fake, to_main ? main_stack_ : to.uc_stack.ss_sp,
                                   to_main ? main_size_ : to.uc_stack.ss_size);
    swapcontext(&from, &to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    swapcontext(&from, &to);
#endif
  }

  Order order_;
  ucontext_t main_{};
  EmulatedThread* current_ = nullptr;
  Meeting cluster_;
  std::vector<std::unique_ptr<EmulatedBlock>> blocks_;
  uint64_t progress_ = 0;
  void const* body_ = nullptr;
  void const* main_stack_ = nullptr;
  size_t main_size_ = 0;
  std::vector<char*> stacks_;

  char* stack(size_t i) {
    while (stacks_.size() <= i) {
      void* const made = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (made == MAP_FAILED) emulator_error("no memory for stacks");
      stacks_.push_back(static_cast<char*>(made));
    }
    return stacks_[i];
  }

 public:
  Emulator(Emulator const&) = delete;
  Emulator& operator=(Emulator const&) = delete;
  ~Emulator() {
    for (char* const each : stacks_) munmap(each, kStack);
  }
};

// What cuda::Block is on a GPU.
class Emulator::View {
 public:
  View(Emulator& emulator, EmulatedThread& thread, int threads)
      : emulator_(&emulator), thread_(&thread), threads_(threads) {}

  int thread() const { return thread_->number; }
  int threads() const { return threads_; }
  uint32_t index() const { return thread_->block->index; }
  char* shared() const { return thread_->block->memory; }
  void sync() const { emulator_->meet(thread_->block->barrier); }

  template <class Number>
  Number sum(Number v, int low = 1, int high = kWarpSize) const {
    EmulatedWarp& warp = thread_->block->warps[static_cast<size_t>(thread_->number / kWarpSize)];
    int const lane = thread_->number % kWarpSize;
    for (int bit = low; bit < high; bit *= 2) {
      uint32_t* const values = warp.values[thread_->sums++ % 2];
      std::memcpy(&values[lane], &v, sizeof v);
      emulator_->meet(warp.meeting);
      Number other;
      std::memcpy(&other, &values[lane ^ bit], sizeof other);
      v += other;
    }
    return v;
  }

  void cluster_arrive() const {
    thread_->cluster_round = emulator_->cluster_.round;
    ++emulator_->progress_;
    arrive(emulator_->cluster_);
  }
  void cluster_wait() const { emulator_->wait(emulator_->cluster_, thread_->cluster_round); }

  void store_remote(cuda::Moments* here, int block, cuda::Moments const& value) const {
    EmulatedBlock const& other = *emulator_->blocks_[static_cast<size_t>(block)];
    if (!other.begun) emulator_error("a block of the cluster was written to that has not begun");
    auto const offset = reinterpret_cast<char*>(here) - shared();
    std::memcpy(other.memory + offset, &value, sizeof value);
  }

  static cuda::Bytes16 load(cuda::Bytes16 const* from) {
    check_aligned(from);
    return *from;
  }
  static void store(cuda::Bytes16* to, cuda::Bytes16 const& v) {
    check_aligned(to);
    *to = v;
  }
  template <class T>
  static T load(T const* from) {
    return *from;
  }
  template <class T>
  static void store(T* to, T v) {
    *to = v;
  }

 private:
  static void check_aligned(void const* p) {
    if (reinterpret_cast<uintptr_t>(p) % 16 != 0) emulator_error("a vector that is not aligned");
  }

  Emulator* emulator_;
  EmulatedThread* thread_;
  int threads_;
};

template <class Body>
void Emulator::start(unsigned low, unsigned high) {
  auto* const self = reinterpret_cast<Emulator*>(static_cast<uintptr_t>(high) << 32 | low);
  EmulatedThread& thread = *self->current_;
#if defined(SIMAM_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &self->main_stack_, &self->main_size_);
#endif
  thread.block->begun = true;
  auto const threads = static_cast<int>(thread.block->warps.size()) * kWarpSize;
  (*static_cast<Body const*>(self->body_))(View(*self, thread, threads));
  thread.done = true;
  ++self->progress_;
  self->switch_to(thread.context, self->main_);
}

inline void Emulator::prepare(EmulatedThread& thread, size_t i, void (*entry)()) {
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = stack(i);
  thread.context.uc_stack.ss_size = kStack;
  thread.context.uc_link = nullptr;
  auto const self = reinterpret_cast<uintptr_t>(this);  // makecontext passes integers
  makecontext(&thread.context, entry, 2, static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
}

inline void Emulator::run_cluster(void (*entry)(), int64_t first, int threads, int shared, int cluster) {
  blocks_.clear();
  cluster_ = Meeting{cluster * threads, 0, 0};
  auto const count = static_cast<size_t>(cluster) * static_cast<size_t>(threads);
  std::vector<EmulatedThread> all(count);
  for (int b = 0; b < cluster; ++b) {
    auto block = std::make_unique<EmulatedBlock>();
    block->index = static_cast<uint32_t>(first + b);
    block->warps.resize(static_cast<size_t>(threads / kWarpSize));
    for (EmulatedWarp& warp : block->warps) warp.meeting.expected = kWarpSize;
    block->barrier.expected = threads;
    if (shared % 16 != 0) emulator_error("shared memory is no multiple of 16 bytes");
    block->storage.reset(new cuda::Bytes16[static_cast<size_t>(shared) / 16]);
    block->memory = reinterpret_cast<char*>(block->storage.get());
    std::memset(block->memory, 0xFF, static_cast<size_t>(shared));
    blocks_.push_back(std::move(block));
  }
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = order_ == Order::backward ? count - 1 - i : i;
  Random random(7);
  for (size_t i = 0; i < count; ++i) {
    EmulatedThread& thread = all[i];
    thread.block = blocks_[i / static_cast<size_t>(threads)].get();
    thread.number = static_cast<int>(i) % threads;
    prepare(thread, i, entry);
  }
  for (size_t left = count; left > 0;) {
    if (order_ == Order::mixed)
      for (size_t i = count - 1; i > 0; --i) std::swap(order[i], order[static_cast<size_t>(random.below(static_cast<int64_t>(i) + 1))]);
    uint64_t const before = progress_;
    for (size_t const i : order) {
      if (all[i].done) continue;
      current_ = &all[i];
      switch_to(main_, all[i].context);
      if (all[i].done) --left;
    }
    if (progress_ == before) emulator_error("the threads wait for different things");
  }
}

}  // namespace simam::test
