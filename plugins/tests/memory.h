// Arrays that tell when something next to them is written, or read.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <vector>

#include "harness.h"

namespace simam::test {

// What is running, for the handler of a fault: it may not allocate.
inline char current[256];

inline void report_fault(int) {
  char const words[] = "  FAILED: memory fault in ";
  (void)!write(STDOUT_FILENO, words, sizeof words - 1);
  (void)!write(STDOUT_FILENO, current, std::strlen(current));
  (void)!write(STDOUT_FILENO, "\n", 1);
  _exit(1);
}

// Memory between two pages that nobody may touch. An array begins after the first, or ends before the second.
class Fenced {
 public:
  enum class Against { begin, end };

  explicit Fenced(size_t most) {
    auto const page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    inside_ = (most + page - 1) / page * page;
    all_ = inside_ + 2 * page;
    base_ = static_cast<char*>(mmap(nullptr, all_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + page, inside_, PROT_READ | PROT_WRITE) != 0) std::abort();
    first_ = base_ + page;
  }
  Fenced(Fenced const&) = delete;
  Fenced& operator=(Fenced const&) = delete;
  ~Fenced() { munmap(base_, all_); }

  char* array(size_t bytes, Against against) {
    if (bytes > inside_) std::abort();
    return first_ + (against == Against::end ? inside_ - bytes : 0);
  }

 private:
  char* base_;
  char* first_;
  size_t inside_;
  size_t all_;
};

// On the heap, to the byte, so that AddressSanitizer sees a read past the end; `before` and `after` it a pattern.
class Guarded {
 public:
  Guarded(size_t bytes, size_t before, size_t after, int pattern)
      : bytes_(bytes),
        before_(before),
        pattern_(static_cast<char>(pattern)),
        all_(static_cast<char*>(std::malloc(before + bytes + after))),
        after_(after) {
    std::memset(all_, pattern, before + bytes + after);
  }
  Guarded(Guarded const&) = delete;
  Guarded& operator=(Guarded const&) = delete;
  ~Guarded() { std::free(all_); }

  char* data() { return all_ + before_; }

  bool intact() const {
    for (size_t i = 0; i < before_; ++i)
      if (all_[i] != pattern_) return false;
    for (size_t i = 0; i < after_; ++i)
      if (all_[before_ + bytes_ + i] != pattern_) return false;
    return true;
  }

 private:
  size_t bytes_;
  size_t before_;
  char pattern_;
  char* all_;
  size_t after_;
};

}  // namespace simam::test
