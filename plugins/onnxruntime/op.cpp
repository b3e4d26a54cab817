#include "op.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <new>

namespace simam::ort {
namespace {

OrtApi const* g_api = nullptr;

constexpr char kBlock[] = "block";
constexpr char kMachine[] = "machine";
constexpr size_t kRank = 4;

using Dims = std::array<int64_t, kRank>;

// What a node knows before it runs.
struct Kernel {
  CustomOp const& custom_op;
  float lambda;
  int block;  // 1 in NCHW
};

template <class... Values>
OrtStatus* fail(OrtErrorCode code, char const* format, Values... values) {
  char message[512];
  std::snprintf(message, sizeof message, format, values...);
  return g_api->CreateStatus(code, message);
}

#define SIMAM_RETURN_IF_FAILED(expression) \
  if (OrtStatus* const failure = (expression)) return failure

CustomOp const& self(OrtCustomOp const* op) { return *static_cast<CustomOp const*>(op); }

ONNXTensorElementDataType element_type(cpu::Type type) {
  switch (type) {
    case cpu::Type::f16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case cpu::Type::bf16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case cpu::Type::s8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case cpu::Type::f32: break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

bool is_parameter(Op const& op, size_t input) { return op.affine && (input == 1 || input == 2); }

size_t input_count(Op const& op) { return 1U + (op.affine ? 2U : 0U) + (op.residual ? 1U : 0U); }

// Creating a node -------------------------------------------------------------------------------------------------

bool succeeded(OrtStatus* status) {
  if (status != nullptr) g_api->ReleaseStatus(status);
  return status == nullptr;
}

// ONNX Runtime answers alike for an attribute that is absent and for one that is no float: the other types are tried.
bool has_another_type(OrtKernelInfo const* info, char const* attribute) {
  int64_t integer = 0;
  size_t size = 0;
  return succeeded(g_api->KernelInfoGetAttribute_int64(info, attribute, &integer)) ||
         succeeded(g_api->KernelInfoGetAttribute_string(info, attribute, nullptr, &size)) ||
         succeeded(g_api->KernelInfoGetAttributeArray_float(info, attribute, nullptr, &size)) ||
         succeeded(g_api->KernelInfoGetAttributeArray_int64(info, attribute, nullptr, &size));
}

OrtStatus* read_lambda(OrtKernelInfo const* info, char const* name, float& lambda) {
  if (!succeeded(g_api->KernelInfoGetAttribute_float(info, kLambda, &lambda))) {
    if (has_another_type(info, kLambda))
      return fail(ORT_INVALID_ARGUMENT, "%s: e_lambda must be a float, as in 1e-4 or 1.0", name);
    lambda = kDefaultLambda;
  }
  if (std::isfinite(lambda) && lambda >= 0) return nullptr;
  return fail(ORT_INVALID_ARGUMENT, "%s: e_lambda is %g; it must be finite and not negative", name,
              static_cast<double>(lambda));
}

// A specialised file computes with weights and values laid out for one kind of processor.
OrtStatus* read_layout(OrtKernelInfo const* info, char const* name, int& block) {
  int64_t asked = 0;
  SIMAM_RETURN_IF_FAILED(g_api->KernelInfoGetAttribute_int64(info, kBlock, &asked));
  char made_for[64] = {};
  size_t size = sizeof made_for;
  SIMAM_RETURN_IF_FAILED(g_api->KernelInfoGetAttribute_string(info, kMachine, made_for, &size));
  if (std::strcmp(made_for, machine()) != 0)
    return fail(ORT_INVALID_ARGUMENT,
                "%s: this file was specialised for '%s' and this machine is '%s'; specialise the original file here "
                "(simam-deploy fuse --specialise cpu), or ship the original, which runs everywhere",
                name, made_for, machine());
  int const here = block_size();
  if (here != 0 && asked != here)
    return fail(ORT_INVALID_ARGUMENT,
                "%s: block is %lld, and on '%s' it is %d: this file was changed; specialise the original file again",
                name, static_cast<long long>(asked), machine(), here);
  if (asked != 4 && asked != 8 && asked != 16)
    return fail(ORT_INVALID_ARGUMENT, "%s: block is %lld; it must be 4, 8 or 16", name, static_cast<long long>(asked));
  block = static_cast<int>(asked);
  return nullptr;
}

OrtStatus* create(OrtCustomOp const* op, OrtApi const*, OrtKernelInfo const* info, void** kernel) {
  CustomOp const& custom_op = self(op);
  Kernel made{custom_op, kDefaultLambda, 1};
  SIMAM_RETURN_IF_FAILED(read_lambda(info, custom_op.op.name, made.lambda));
  if (custom_op.blocked) SIMAM_RETURN_IF_FAILED(read_layout(info, custom_op.op.name, made.block));
  *kernel = new (std::nothrow) Kernel(made);
  return *kernel != nullptr ? nullptr : fail(ORT_FAIL, "%s: out of memory", custom_op.op.name);
}

void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }

// Running a node --------------------------------------------------------------------------------------------------

OrtStatus* read_input(OrtKernelContext* context, size_t index, OrtValue const*& value, void const*& data, Dims& dims,
                      size_t& rank) {
  SIMAM_RETURN_IF_FAILED(g_api->KernelContext_GetInput(context, index, &value));
  OrtTensorTypeAndShapeInfo* info = nullptr;
  SIMAM_RETURN_IF_FAILED(g_api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = g_api->GetDimensionsCount(info, &rank);
  if (status == nullptr && rank <= kRank) status = g_api->GetDimensions(info, dims.data(), rank);
  g_api->ReleaseTensorTypeAndShapeInfo(info);
  SIMAM_RETURN_IF_FAILED(status);
  void* writable = nullptr;
  SIMAM_RETURN_IF_FAILED(g_api->GetTensorMutableData(const_cast<OrtValue*>(value), &writable));
  data = writable;
  return nullptr;
}

OrtStatus* read_parameter(OrtKernelContext* context, size_t index, char const* name, int64_t channels,
                          float const*& data) {
  OrtValue const* value = nullptr;
  void const* bytes = nullptr;
  Dims dims{};
  size_t rank = 0;
  SIMAM_RETURN_IF_FAILED(read_input(context, index, value, bytes, dims, rank));
  if (rank != 1 || dims[0] != channels)
    return fail(ORT_INVALID_ARGUMENT, "%s: %s must have %lld elements, one for each channel of x", name,
                index == 1 ? "scale" : "bias", static_cast<long long>(channels));
  data = static_cast<float const*>(bytes);
  return nullptr;
}

struct Pool {
  OrtKernelContext* context;
  OrtStatus* status;

  static void run(void* pool, void (*work)(void*, size_t), size_t count, void* data) {
    Pool& self = *static_cast<Pool*>(pool);
    if (self.status == nullptr) self.status = g_api->KernelContext_ParallelFor(self.context, work, count, 0, data);
  }
};

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  Kernel const& node = *static_cast<Kernel const*>(kernel);
  Op const& op = node.custom_op.op;
  OrtValue const* value = nullptr;
  cpu::Task task;
  Dims x{};
  size_t rank = 0;
  SIMAM_RETURN_IF_FAILED(read_input(context, 0, value, task.x, x, rank));
  if (rank != kRank)
    return fail(ORT_INVALID_ARGUMENT, "%s takes x of shape (N, C, H, W); got %zu dimensions", op.name, rank);
  // Where nothing is computed the other sizes may be anything: their product is not taken.
  bool const empty = std::find(x.begin(), x.end(), 0) != x.end();
  task.m = empty ? 0 : x[2] * x[3];
  if (task.m == 1)
    return fail(ORT_INVALID_ARGUMENT,
                "%s of a 1x1 map is 0/0: its variance divides by H*W - 1; feed larger inputs, or leave SimAM out there",
                op.name);
  task.type = node.custom_op.type;
  task.activation = op.activation;
  task.block = node.block;
  task.channels = x[1];
  task.lambda = node.lambda;
  if (x[1] % node.block != 0)
    return fail(ORT_INVALID_ARGUMENT, "%s: %lld channels do not fill blocks of %d", op.name,
                static_cast<long long>(x[1]), node.block);
  task.planes = empty ? 0 : x[0] * x[1];
  if (op.affine) {
    SIMAM_RETURN_IF_FAILED(read_parameter(context, 1, op.name, x[1], task.scale));
    SIMAM_RETURN_IF_FAILED(read_parameter(context, 2, op.name, x[1], task.bias));
  }
  if (op.residual) {
    Dims residual{};
    SIMAM_RETURN_IF_FAILED(read_input(context, input_count(op) - 1, value, task.residual, residual, rank));
    if (rank != kRank || residual != x)
      return fail(ORT_INVALID_ARGUMENT, "%s: residual must have the shape of x", op.name);
  }
  OrtValue* y = nullptr;
  SIMAM_RETURN_IF_FAILED(g_api->KernelContext_GetOutput(context, 0, x.data(), kRank, &y));
  SIMAM_RETURN_IF_FAILED(g_api->GetTensorMutableData(y, &task.y));
  if (empty) return nullptr;
  Pool pool{context, nullptr};
  cpu::run(task, {Pool::run, &pool});
  return pool.status;
}

// What the graph's optimisers ask ---------------------------------------------------------------------------------

OrtStatus* infer_shape(OrtCustomOp const*, OrtShapeInferContext* context) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  SIMAM_RETURN_IF_FAILED(g_api->ShapeInferContext_GetInputTypeShape(context, 0, &info));
  return g_api->ShapeInferContext_SetOutputTypeShape(context, 0, info);  // info belongs to the context
}

// y in the place of x, or of the residual.
size_t may_inplace(int** inputs, int** outputs) {
  *inputs = new (std::nothrow) int[1]{0};
  *outputs = new (std::nothrow) int[1]{0};
  return *inputs != nullptr && *outputs != nullptr ? 1 : 0;
}

void release_inplace(int* inputs, int* outputs) {
  delete[] inputs;
  delete[] outputs;
}

}  // namespace

OrtApi const* api() { return g_api; }
void set_api(OrtApi const* api) { g_api = api; }

char const* machine() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "x86_64 avx512f";
  return __builtin_cpu_supports("avx2") ? "x86_64 avx2" : "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

int block_size() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") ? 16 : 8;
#else
  return 0;
#endif
}

CustomOp::CustomOp(Op const& op_, cpu::Type type_, bool blocked_, uint32_t api_version)
    : OrtCustomOp{}, op(op_), type(type_), blocked(blocked_) {
  version = api_version;
  GetName = [](OrtCustomOp const* op) { return self(op).op.name; };
  GetExecutionProviderType = [](OrtCustomOp const*) { return "CPUExecutionProvider"; };
  GetInputTypeCount = [](OrtCustomOp const* op) { return input_count(self(op).op); };
  GetInputType = [](OrtCustomOp const* op, size_t i) {
    return is_parameter(self(op).op, i) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : element_type(self(op).type);
  };
  GetOutputTypeCount = [](OrtCustomOp const*) -> size_t { return 1; };
  GetOutputType = [](OrtCustomOp const* op, size_t) { return element_type(self(op).type); };
  GetInputCharacteristic = [](OrtCustomOp const*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = [](OrtCustomOp const*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetInputMemoryType = [](OrtCustomOp const*, size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](OrtCustomOp const*) { return 1; };
  GetVariadicInputHomogeneity = [](OrtCustomOp const*) { return 1; };
  GetVariadicOutputMinArity = [](OrtCustomOp const*) { return 1; };
  GetVariadicOutputHomogeneity = [](OrtCustomOp const*) { return 1; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = destroy;
  InferOutputShapeFn = infer_shape;
  GetStartVersion = [](OrtCustomOp const*) { return kVersion; };
  GetEndVersion = [](OrtCustomOp const*) { return kVersion; };
  if (api_version >= kInplaceApi) {
    GetMayInplace = may_inplace;
    ReleaseMayInplace = release_inplace;
  }
}

}  // namespace simam::ort
