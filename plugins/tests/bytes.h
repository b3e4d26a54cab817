// Bytes of a fuzzer as choices. Where they end, zeros follow.
#pragma once

#include "harness.h"

namespace simam::test {

class Bytes {
 public:
  Bytes(uint8_t const* data, size_t size) : data_(data), size_(size) {}

  uint8_t byte() { return used_ < size_ ? data_[used_++] : uint8_t{0}; }
  int64_t below(int64_t end) { return number() % end; }
  bool coin() { return (byte() & 1U) != 0; }
  int64_t number() { return byte() | byte() << 8; }
  template <class T>
  T any() {  // any bits at all
    T value;
    unsigned char bytes[sizeof(T)];
    for (unsigned char& b : bytes) b = byte();
    std::memcpy(&value, bytes, sizeof value);
    return value;
  }
  template <class T, size_t count>
  T const& one_of(T const (&choices)[count]) {
    return choices[byte() % count];
  }

 private:
  uint8_t const* data_;
  size_t size_;
  size_t used_ = 0;
};

}  // namespace simam::test
