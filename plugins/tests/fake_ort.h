// As much of ONNX Runtime's C interface as the op library uses, without ONNX Runtime: so that any attribute, rank,
// shape and failure can be put to it. What is handed out is counted: all of it must come back.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <type_traits>
#include <utility>
#include <variant>

#include "harness.h"
#include "onnxruntime/op.h"

struct OrtStatus {
  OrtErrorCode code;
  std::string message;
};
struct OrtTensorTypeAndShapeInfo {
  std::vector<int64_t> dims;
  std::vector<std::string> names;  // in inference alone: "" where a size has none
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;  // in inference alone
};
struct OrtMemoryInfo {};
struct OrtValue {
  std::vector<int64_t> dims;
  void* data = nullptr;
  OrtMemoryInfo memory;
};
struct OrtKernelInfo {
  std::map<std::string, std::variant<float, int64_t, std::string>> attributes;
};
struct OrtKernelContext {
  std::vector<OrtValue*> inputs;
  OrtValue output;
  std::vector<char>* memory = nullptr;  // of the output; null: it is made in the place of input 0
  size_t element = 4;
  void* stream = nullptr;  // null: there is none, and scratch may not be asked for
};
struct OrtShapeInferContext {
  OrtTensorTypeAndShapeInfo input, output;
  bool set = false;  // the output
};
struct OrtCustomOpDomain {
  std::string name;
  std::vector<OrtCustomOp const*> operators;
};
struct OrtSessionOptions {
  std::vector<OrtCustomOpDomain*> domains;
};

namespace simam::test {

inline int handed_out = 0;      // statuses, shapes, allocators and memory that were not released
inline int calls_to_fail = -1;  // so many calls succeed, then one fails; -1: none does
inline int calls = 0;

inline OrtStatus* make_status(OrtErrorCode code, char const* message) noexcept {
  ++handed_out;
  return new OrtStatus{code, message};
}

inline OrtStatus* failing() {
  ++calls;
  return calls_to_fail >= 0 && calls_to_fail-- == 0 ? make_status(ORT_FAIL, "the fake fails here") : nullptr;
}

#define SIMAM_MAY_FAIL \
  if (OrtStatus* const failure = failing()) return failure

template <class T>
OrtStatus* attribute(OrtKernelInfo const* info, char const* name, T& value) {
  if (!std::is_same_v<T, float>) SIMAM_MAY_FAIL;  // an attribute that is absent is no failure
  auto const found = info->attributes.find(name);
  if (found == info->attributes.end()) return make_status(ORT_FAIL, "no such attribute");
  if (!std::holds_alternative<T>(found->second)) return make_status(ORT_FAIL, "an attribute of another type");
  value = std::get<T>(found->second);
  return nullptr;
}

inline int64_t elements(std::vector<int64_t> const& dims) {
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

inline OrtStatus* get_string(OrtKernelInfo const* info, char const* name, char* out, size_t* size) noexcept {
  std::string value;
  if (OrtStatus* const failed = attribute(info, name, value)) return failed;
  size_t const room = std::exchange(*size, value.size() + 1);
  if (out == nullptr) return nullptr;
  if (room < *size) return make_status(ORT_INVALID_ARGUMENT, "the string does not fit");
  std::memcpy(out, value.c_str(), *size);
  return nullptr;
}

template <class T>
OrtStatus* no_list(OrtKernelInfo const*, char const*, T*, size_t*) noexcept {
  SIMAM_MAY_FAIL;
  return make_status(ORT_FAIL, "no such list");
}

inline OrtStatus* get_output(OrtKernelContext* context, size_t index, int64_t const* dims, size_t rank,
                             OrtValue** out) noexcept {
  SIMAM_MAY_FAIL;
  if (index != 0) std::abort();
  context->output.dims.assign(dims, dims + rank);
  if (context->memory != nullptr) {
    context->memory->assign(static_cast<size_t>(elements(context->output.dims)) * context->element, 0x5A);
    context->memory->shrink_to_fit();
    context->output.data = context->memory->data();
  } else {
    context->output.data = context->inputs[0]->data;
  }
  *out = &context->output;
  return nullptr;
}

// Memory of a provider's, asked for one way or the other: how much, and where the value lay that it is next to.
struct Asked {
  size_t bytes;
  bool scratch;
  OrtMemoryInfo const* place;
};
inline std::vector<Asked> asked;

// The allocator that the fake gives: it knows its place, and each time is another.
struct FakeAllocator : OrtAllocator {
  explicit FakeAllocator(OrtMemoryInfo const* place_) : OrtAllocator{}, place(place_) {}
  OrtMemoryInfo const* place;
};

inline OrtStatus* give_memory(size_t bytes, bool scratch, OrtMemoryInfo const* place, void** out) {
  asked.push_back({bytes, scratch, place});
  ++handed_out;
  *out = std::malloc(bytes);
  return nullptr;
}

inline void add_device_calls(OrtApi& a) {
  a.KernelContext_GetGPUComputeStream = [](OrtKernelContext const* context, void** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    *out = context->stream;
    return nullptr;
  };
  a.GetTensorMemoryInfo = [](OrtValue const* value, OrtMemoryInfo const** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    *out = &value->memory;
    return nullptr;
  };
  a.KernelContext_GetAllocator = [](OrtKernelContext const*, OrtMemoryInfo const* place,
                                    OrtAllocator** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    ++handed_out;
    *out = new FakeAllocator(place);
    return nullptr;
  };
  a.ReleaseAllocator = [](OrtAllocator* allocator) {
    --handed_out;
    delete static_cast<FakeAllocator*>(allocator);
  };
  a.AllocatorAlloc = [](OrtAllocator* allocator, size_t bytes, void** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    return give_memory(bytes, false, static_cast<FakeAllocator*>(allocator)->place, out);
  };
  a.AllocatorFree = [](OrtAllocator*, void* memory) noexcept -> OrtStatus* {
    --handed_out;
    std::free(memory);
    return nullptr;
  };
  a.KernelContext_GetScratchBuffer = [](OrtKernelContext const* context, OrtMemoryInfo const* place, size_t bytes,
                                        void** out) noexcept -> OrtStatus* {
    if (context->stream == nullptr) std::abort();  // as the real one does, which reads through it
    SIMAM_MAY_FAIL;
    return give_memory(bytes, true, place, out);
  };
}

// A shape as ONNX Runtime keeps it in inference: a number for each size, -1 where it is not known, and a name or "".
inline void add_shape_calls(OrtApi& a) {
  a.CreateTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    ++handed_out;
    *out = new OrtTensorTypeAndShapeInfo{};
    return nullptr;
  };
  a.GetTensorElementType = [](OrtTensorTypeAndShapeInfo const* info,
                              ONNXTensorElementDataType* out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    *out = info->type;
    return nullptr;
  };
  a.SetTensorElementType = [](OrtTensorTypeAndShapeInfo* info, ONNXTensorElementDataType type) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    info->type = type;
    return nullptr;
  };
  a.SetDimensions = [](OrtTensorTypeAndShapeInfo* info, int64_t const* dims, size_t count) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    info->dims.assign(dims, dims + count);
    return nullptr;
  };
  a.GetSymbolicDimensions = [](OrtTensorTypeAndShapeInfo const* info, char const** out,
                               size_t count) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    if (count > info->names.size()) std::abort();
    for (size_t i = 0; i < count; ++i) out[i] = info->names[i].c_str();
    return nullptr;
  };
  a.SetSymbolicDimensions = [](OrtTensorTypeAndShapeInfo* info, char const** names,
                               size_t count) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    info->names.clear();  // as the real one does: names of its own are gone then
    for (size_t i = 0; i < count; ++i) info->names.emplace_back(names[i]);
    return nullptr;
  };
  a.ShapeInferContext_GetInputTypeShape = [](OrtShapeInferContext const* context, size_t,
                                             OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    *out = const_cast<OrtTensorTypeAndShapeInfo*>(&context->input);
    return nullptr;
  };
  a.ShapeInferContext_SetOutputTypeShape = [](OrtShapeInferContext const* context, size_t,
                                              OrtTensorTypeAndShapeInfo const* info) noexcept -> OrtStatus* {
    SIMAM_MAY_FAIL;
    if (info->names.size() != info->dims.size()) return make_status(ORT_FAIL, "symbolic and integer dims mismatch");
    const_cast<OrtShapeInferContext*>(context)->output = *info;
    const_cast<OrtShapeInferContext*>(context)->set = true;
    return nullptr;
  };
}

inline OrtApi const* fake_api() {
  static OrtApi const api = [] {
    OrtApi a{};
    a.CreateStatus = make_status;
    a.ReleaseStatus = [](OrtStatus* status) {
      if (status != nullptr) --handed_out;
      delete status;
    };
    a.CreateCustomOpDomain = [](char const* name, OrtCustomOpDomain** out) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      *out = new OrtCustomOpDomain{name, {}};
      return nullptr;
    };
    a.CustomOpDomain_Add = [](OrtCustomOpDomain* domain, OrtCustomOp const* op) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      domain->operators.push_back(op);
      return nullptr;
    };
    a.AddCustomOpDomain = [](OrtSessionOptions* options, OrtCustomOpDomain* domain) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      options->domains.push_back(domain);
      return nullptr;
    };
    a.KernelInfoGetAttribute_float = [](OrtKernelInfo const* info, char const* name, float* out) noexcept {
      return attribute(info, name, *out);
    };
    a.KernelInfoGetAttribute_int64 = [](OrtKernelInfo const* info, char const* name, int64_t* out) noexcept {
      return attribute(info, name, *out);
    };
    a.KernelInfoGetAttribute_string = get_string;
    a.KernelInfoGetAttributeArray_float = no_list<float>;
    a.KernelInfoGetAttributeArray_int64 = no_list<int64_t>;
    a.KernelContext_GetInput = [](OrtKernelContext const* context, size_t index,
                                  OrtValue const** out) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      if (index >= context->inputs.size()) return make_status(ORT_FAIL, "no such input");
      *out = context->inputs[index];
      return nullptr;
    };
    a.KernelContext_GetOutput = get_output;
    a.GetTensorTypeAndShape = [](OrtValue const* value, OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      ++handed_out;
      *out = new OrtTensorTypeAndShapeInfo{value->dims, {}};
      return nullptr;
    };
    a.ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo* info) {
      --handed_out;
      delete info;
    };
    a.GetDimensionsCount = [](OrtTensorTypeAndShapeInfo const* info, size_t* out) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      *out = info->dims.size();
      return nullptr;
    };
    a.GetDimensions = [](OrtTensorTypeAndShapeInfo const* info, int64_t* out, size_t count) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      if (count > info->dims.size()) std::abort();
      std::copy_n(info->dims.begin(), count, out);
      return nullptr;
    };
    a.GetTensorMutableData = [](OrtValue* value, void** out) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      *out = value->data;
      return nullptr;
    };
    a.KernelContext_ParallelFor = [](OrtKernelContext const*, void (*work)(void*, size_t), size_t count, size_t,
                                     void* data) noexcept -> OrtStatus* {
      SIMAM_MAY_FAIL;
      for (size_t i = count; i-- > 0;) work(data, i);
      return nullptr;
    };
    add_shape_calls(a);
    add_device_calls(a);
    return a;
  }();
  return &api;
}

inline uint32_t newest_api = ORT_API_VERSION;  // what the fake has

inline OrtApiBase const* fake_base() {
  static OrtApiBase const base{[](uint32_t version) noexcept { return version <= newest_api ? fake_api() : nullptr; },
                               []() noexcept { return "the fake"; }};
  return &base;
}

}  // namespace simam::test

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, OrtApiBase const* base);
