// Ways to run pieces of work: in order, backwards, shuffled, on threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#include "cpu/simam_cpu.h"
#include "harness.h"

namespace simam::test {

using cpu::Parallel;

inline void run_in_order(void*, void (*work)(void*, size_t), size_t count, void* data) {
  for (size_t i = 0; i < count; ++i) work(data, i);
}

inline void run_backwards(void*, void (*work)(void*, size_t), size_t count, void* data) {
  for (size_t i = count; i-- > 0;) work(data, i);
}

inline void run_shuffled(void* pool, void (*work)(void*, size_t), size_t count, void* data) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  Random& random = *static_cast<Random*>(pool);
  for (size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.bits() % i]);
  for (size_t const i : order) work(data, i);
}

// On *pool threads, that take one piece after the other.
inline void run_on_threads(void* pool, void (*work)(void*, size_t), size_t count, void* data) {
  std::atomic<size_t> next{0};
  auto const take = [&] {
    for (size_t i; (i = next++) < count;) work(data, i);
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < *static_cast<int*>(pool); ++i) threads.emplace_back(take);
  take();
  for (std::thread& thread : threads) thread.join();
}

inline Parallel in_order() { return {run_in_order, nullptr}; }
inline Parallel backwards() { return {run_backwards, nullptr}; }
inline Parallel shuffled(Random& random) { return {run_shuffled, &random}; }
inline Parallel on_threads(int& count) { return {run_on_threads, &count}; }

}  // namespace simam::test
