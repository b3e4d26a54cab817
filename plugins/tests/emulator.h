// A block of threads and a cluster of blocks on the host: each thread is a coroutine, run in turn until it waits. The
// kernels see what cuda/block.h shows them of a GPU. Slow, and strict: a vector that is not aligned, threads that wait
// for different things and a block that leaves too early are errors; shared memory begins as NaN, is as large as asked
// to the byte, and what is written behind it is seen. In what order the threads run is a choice: where a barrier is
// missing the results depend on it.
#pragma once

#include <setjmp.h>
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

// backward: the last thread of the last cluster is the first. block_by_block, warp_by_warp: the next one of a cluster
// begins when no thread of this one can go on.
enum class Order { forward, backward, mixed, block_by_block, warp_by_warp };

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

// Where a coroutine, or the scheduler, goes on. swapcontext asks the kernel for the signal mask each time; so it makes
// the first entry alone, but under AddressSanitizer, which has to be told of each.
struct Place {
  ucontext_t context{};
  jmp_buf jump{};
  bool entered = true;
};

// A coroutine is made once and serves one thread of a launch after another.
struct EmulatedThread {
  Place place;
  EmulatedBlock* block = nullptr;
  int number = 0;
  bool done = true;
  unsigned sums = 0;           // how often it met its warp: the slot of values
  unsigned cluster_round = 0;  // of the arrival that is to be waited for
};

class Emulator {
 public:
  Order order = Order::forward;

  // Runs body(view) for each thread of `blocks` blocks, cluster by cluster. body is any callable.
  template <class Body>
  void launch(Body const& body, int64_t blocks, int threads, int shared, int cluster) {
    if (threads % kWarpSize != 0 || threads > 1024 || blocks % cluster != 0) emulator_error("a wrong launch");
    body_ = &body;
    call_ = [](void const* body, View const& view) { (*static_cast<Body const*>(body))(view); };
    for (int64_t first = 0; first < blocks; first += cluster)
      run_cluster(order == Order::backward ? blocks - cluster - first : first, threads, shared, cluster);
  }

  class View;

 private:
  static constexpr size_t kStack = 256 * 1024;
#if defined(SIMAM_ASAN)
  static constexpr size_t kFence = 0;  // AddressSanitizer has its own, and sees what is read there too
#else
  static constexpr size_t kFence = 64;  // bytes behind a block's memory: they stay as they are
#endif

  void run_cluster(int64_t first, int threads, int shared, int cluster);
  void add_thread();
  size_t take_turn(EmulatedThread& thread);
  static void serve(unsigned low, unsigned high);

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

  void yield() { switch_to(current_->place, main_); }

#if defined(SIMAM_ASAN)
  void switch_to(Place& from, Place& to) {
    void* fake = nullptr;
    bool const to_main = &to == &main_;
    __sanitizer_start_switch_fiber(&fake, to_main ? main_stack_ : to.context.uc_stack.ss_sp,
                                   to_main ? main_size_ : to.context.uc_stack.ss_size);
    swapcontext(&from.context, &to.context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
  }
#else
  [[gnu::noinline]] static void switch_to(Place& from, Place& to) {
    if (_setjmp(from.jump) != 0) return;
    if (to.entered) _longjmp(to.jump, 1);
    to.entered = true;
    setcontext(&to.context);
  }
#endif

  Place main_;
  EmulatedThread* current_ = nullptr;
  Meeting cluster_;
  std::vector<std::unique_ptr<EmulatedBlock>> blocks_;
  uint64_t progress_ = 0;
  void const* body_ = nullptr;
  void (*call_)(void const* body, View const& view) = nullptr;
#if defined(SIMAM_ASAN)
  void const* main_stack_ = nullptr;
  size_t main_size_ = 0;
#endif
  std::vector<std::unique_ptr<EmulatedThread>> threads_;

 public:
  Emulator() = default;
  Emulator(Emulator const&) = delete;
  Emulator& operator=(Emulator const&) = delete;
  ~Emulator() {
    for (auto const& each : threads_) munmap(each->place.context.uc_stack.ss_sp, kStack);
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
  Number other(Number v, int bit) const {
    EmulatedWarp& warp = thread_->block->warps[static_cast<size_t>(thread_->number / kWarpSize)];
    int const lane = thread_->number % kWarpSize;
    uint32_t* const values = warp.values[thread_->sums++ % 2];
    std::memcpy(&values[lane], &v, sizeof v);
    emulator_->meet(warp.meeting);
    Number theirs;
    std::memcpy(&theirs, &values[lane ^ bit], sizeof theirs);
    return theirs;
  }

  void cluster_begin() const { cluster_arrive(); }
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
  template <class T>
  static T* settled(T* pointer) {
    return pointer;
  }
  static void prefetch(void const* from) { (void)*static_cast<char const volatile*>(from); }
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

inline void Emulator::serve(unsigned low, unsigned high) {
  auto* const self = reinterpret_cast<Emulator*>(static_cast<uintptr_t>(high) << 32 | low);
#if defined(SIMAM_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &self->main_stack_, &self->main_size_);
#endif
  for (EmulatedThread& thread = *self->current_;;) {
    thread.block->begun = true;
    self->call_(self->body_, View(*self, thread, static_cast<int>(thread.block->warps.size()) * kWarpSize));
    thread.done = true;
    ++self->progress_;
    self->switch_to(thread.place, self->main_);
  }
}

inline void Emulator::add_thread() {
  auto thread = std::make_unique<EmulatedThread>();
  void* const made = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) emulator_error("no memory for a stack");
  ucontext_t& context = thread->place.context;
  thread->place.entered = false;
  getcontext(&context);
  context.uc_stack.ss_sp = made;
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  auto const self = reinterpret_cast<uintptr_t>(this);  // makecontext passes integers
  makecontext(&context, reinterpret_cast<void (*)()>(serve), 2, static_cast<unsigned>(self),
              static_cast<unsigned>(self >> 32));
  threads_.push_back(std::move(thread));
}

// Runs until it waits. 1 if it has come to its end.
inline size_t Emulator::take_turn(EmulatedThread& thread) {
  if (thread.done) return 0;
  current_ = &thread;
  switch_to(main_, thread.place);
  return thread.done ? 1 : 0;
}

inline void Emulator::run_cluster(int64_t first, int threads, int shared, int cluster) {
  if (shared % 16 != 0) emulator_error("shared memory is no multiple of 16 bytes");
  blocks_.clear();
  cluster_ = Meeting{cluster * threads, 0, 0};
  auto const count = static_cast<size_t>(cluster) * static_cast<size_t>(threads);
  for (int b = 0; b < cluster; ++b) {
    auto block = std::make_unique<EmulatedBlock>();
    block->index = static_cast<uint32_t>(first + b);
    block->warps.resize(static_cast<size_t>(threads / kWarpSize));
    for (EmulatedWarp& warp : block->warps) warp.meeting.expected = kWarpSize;
    block->barrier.expected = threads;
    block->storage.reset(new cuda::Bytes16[(static_cast<size_t>(shared) + kFence) / 16]);
    block->memory = reinterpret_cast<char*>(block->storage.get());
    std::memset(block->memory, 0xFF, static_cast<size_t>(shared) + kFence);
    blocks_.push_back(std::move(block));
  }
  while (threads_.size() < count) add_thread();
  std::vector<size_t> turns(count);
  for (size_t i = 0; i < count; ++i) {
    EmulatedThread& thread = *threads_[i];
    thread.block = blocks_[i / static_cast<size_t>(threads)].get();
    thread.number = static_cast<int>(i) % threads;
    thread.done = false;
    thread.sums = 0;
    turns[i] = order == Order::backward ? count - 1 - i : i;
  }
  Random random(7);
  for (size_t left = count; left > 0;) {
    if (order == Order::mixed)
      for (size_t i = count - 1; i > 0; --i)
        std::swap(turns[i], turns[static_cast<size_t>(random.below(static_cast<int64_t>(i) + 1))]);
    uint64_t const before = progress_;
    size_t const together = order == Order::block_by_block ? static_cast<size_t>(threads)
                            : order == Order::warp_by_warp ? size_t{kWarpSize}
                                                           : count;
    for (size_t from = 0; from < count; from += together)
      for (bool again = true; again;) {
        uint64_t const since = progress_;
        for (size_t i = from; i < from + together; ++i) left -= take_turn(*threads_[turns[i]]);
        again = together < count && progress_ != since;
      }
    if (progress_ == before) emulator_error("the threads wait for different things");
  }
  for (auto const& block : blocks_)
    for (char const* at = block->memory + shared; at != block->memory + shared + kFence; ++at)
      if (*at != '\xFF') emulator_error("written behind the shared memory");
}

}  // namespace simam::test
