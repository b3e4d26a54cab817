#include "logger.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <typeinfo>

#include <cxxabi.h>

namespace simam::trt {
namespace {

// findLogger and log are the first virtual functions of their classes in TensorRT 10. In 11 both classes derive from
// IVersionedInterface, whose two functions and destructor (two slots) come before. This library is for both, so it
// does not call them as its own headers have them, but by the slot that the host's have.
enum class Slot : size_t { tensorrt_10 = 0, tensorrt_11 = 4, unknown = SIZE_MAX };

constexpr char kVersioned[] = "N8nvinfer119IVersionedInterfaceE";
constexpr char kFinder10[] = "N8nvinfer113ILoggerFinderE";

std::atomic<void*> g_finder{nullptr};

template <class T>
T load(void const* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Whether a class is, or derives from, the one of this name. By the first base of each, which shares its table.
bool derives(std::type_info const* type, char const* name) noexcept {
  for (int depth = 0; type != nullptr && depth < 16; ++depth) {
    if (std::strcmp(type->name(), name) == 0) return true;
    if (auto const* const single = dynamic_cast<abi::__si_class_type_info const*>(type)) {
      type = single->__base_type;
    } else if (auto const* const several = dynamic_cast<abi::__vmi_class_type_info const*>(type)) {
      type = several->__base_count > 0 ? several->__base_info[0].__base_type : nullptr;
    } else {
      type = nullptr;
    }
  }
  return false;
}

// By what the host's compiler noted of its class; of a host that was compiled without such notes nothing is known.
Slot slot_of(void* finder) noexcept {
  auto const table = load<void const* const*>(finder);
  auto const* const type = static_cast<std::type_info const*>(table[-1]);
  bool const is_first_base = table[-2] == nullptr;  // the distance to the whole object
  if (type == nullptr || !is_first_base) return Slot::unknown;
  if (derives(type, kVersioned)) return Slot::tensorrt_11;
  return derives(type, kFinder10) ? Slot::tensorrt_10 : Slot::unknown;
}

template <class Function>
Function method(void* object, Slot slot) noexcept {
  return load<Function>(load<void const* const*>(object) + static_cast<size_t>(slot));
}

using FindLogger = void* (*)(void* self);
using Log = void (*)(void* self, int32_t severity, char const* message);

#if defined(__clang__)
__attribute__((no_sanitize("function")))  // they are called as what they are in the ABI
#endif
void say(Severity severity, char const* message) noexcept {
  void* const finder = g_finder.load(std::memory_order_acquire);
  if (finder == nullptr) return;
  Slot const slot = slot_of(finder);
  if (slot == Slot::unknown) return;
  try {  // findLogger may throw
    void* const logger = method<FindLogger>(finder, slot)(finder);
    if (logger != nullptr) method<Log>(logger, slot)(logger, static_cast<int32_t>(severity), message);
  } catch (...) {  // the host's own; there is nobody to tell
  }
}

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) noexcept { g_finder.store(finder, std::memory_order_release); }

void log(Severity severity, char const* format, ...) noexcept {
  char message[512];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(message, sizeof message, format, values);
  va_end(values);
  say(severity, message);
}

bool refuse(char const* name, char const* format, ...) noexcept {
  char message[512];
  int const used = std::snprintf(message, sizeof message, "%s: ", name);
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(message + used, sizeof message - static_cast<size_t>(used), format, values);
  va_end(values);
  say(Severity::kERROR, message);
  return false;
}

}  // namespace simam::trt
