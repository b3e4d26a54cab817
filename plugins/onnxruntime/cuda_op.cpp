// The operators for the CUDA provider. A run enqueues on the session's stream and does nothing else: it may be captured
// into a CUDA graph.
#include <new>

#include "../common/activation.h"
#include "node.h"

namespace simam::ort {
namespace {

// What a node knows before it runs.
struct Kernel {
  CustomOp const& custom_op;
  float lambda;
};

int32_t type_of(cpu::Type type) {
  switch (type) {
    case cpu::Type::f16: return SIMAM_F16;
    case cpu::Type::bf16: return SIMAM_BF16;
    case cpu::Type::s8: return SIMAM_S8;
    case cpu::Type::u8:  // on a CPU alone
    case cpu::Type::f32: break;
  }
  return SIMAM_F32;
}

// The kernels are loaded here, as nothing may be loaded in a capture.
OrtStatus* create(OrtCustomOp const* op, OrtApi const*, OrtKernelInfo const* info, void** kernel) {
  CustomOp const& custom_op = CustomOp::of(op);
  Kernel made{custom_op, kDefaultLambda};
  SIMAM_RETURN_IF_FAILED(read_lambda(info, custom_op.op.name, made.lambda));
  if (int const error = simam_prepare())
    return fail(ORT_EP_FAIL,
                "%s: its kernels cannot be loaded into this GPU: cudaError_t %d; without the library the fallback "
                "definition in the file runs",
                custom_op.op.name, error);
  *kernel = new (std::nothrow) Kernel(made);
  return *kernel != nullptr ? nullptr : fail(ORT_FAIL, "%s: out of memory", custom_op.op.name);
}

void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }

// Memory of the provider's for this run, where y lies. It goes back as soon as the work is enqueued: who gets it next
// on this stream comes later, and on another stream the provider waits.
class Scratch {
 public:
  Scratch() = default;
  Scratch(Scratch const&) = delete;
  Scratch& operator=(Scratch const&) = delete;
  ~Scratch() {
    if (memory_ != nullptr) drop(api()->AllocatorFree(allocator_, memory_));
    if (allocator_ != nullptr) api()->ReleaseAllocator(allocator_);
  }

  OrtStatus* get(OrtKernelContext* context, OrtValue const* y, void const* stream, size_t bytes) {
    OrtMemoryInfo const* place = nullptr;
    SIMAM_RETURN_IF_FAILED(api()->GetTensorMemoryInfo(y, &place));
    SIMAM_RETURN_IF_FAILED(api()->KernelContext_GetAllocator(context, place, &allocator_));
    if (stream == nullptr) return api()->AllocatorAlloc(allocator_, bytes, &memory_);  // the next call would need one
    return api()->KernelContext_GetScratchBuffer(context, place, bytes, &memory_);
  }

  void* memory() const { return memory_; }

 private:
  static void drop(OrtStatus* status) {
    if (status != nullptr) api()->ReleaseStatus(status);
  }

  OrtAllocator* allocator_ = nullptr;
  void* memory_ = nullptr;
};

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  Kernel const& node = *static_cast<Kernel const*>(kernel);
  Op const& op = node.custom_op.op;
  Values values;
  SIMAM_RETURN_IF_FAILED(read_values(context, op, 1, values));
  if (values.empty) return nullptr;
  void* stream = nullptr;
  SIMAM_RETURN_IF_FAILED(api()->KernelContext_GetGPUComputeStream(context, &stream));
  SimamParams params{};
  params.type = type_of(node.custom_op.type);
  params.activation = activation_of(op.activation);
  params.tactic = SIMAM_AUTOMATIC;
  params.group = 1;
  params.x = values.x;
  params.y = values.y;
  params.residual = values.residual;
  params.scale = values.scale;
  params.bias = values.bias;
  params.images = values.shape[0];
  params.channels = values.shape[1];
  params.pixels = values.shape[2] * values.shape[3];
  params.lambda = node.lambda;
  params.x_scale = params.residual_scale = params.y_scale = 1;
  Scratch scratch;
  params.workspace_size = simam_workspace(&params);
  if (params.workspace_size != 0) {
    SIMAM_RETURN_IF_FAILED(scratch.get(context, values.output, stream, params.workspace_size));
    params.workspace = scratch.memory();
  }
  if (int const error = simam_launch(&params, stream))
    return fail(ORT_EP_FAIL, "%s of x of shape (%lld, %lld, %lld, %lld): the GPU's kernel failed: cudaError_t %d",
                op.name, static_cast<long long>(values.shape[0]), static_cast<long long>(values.shape[1]),
                static_cast<long long>(values.shape[2]), static_cast<long long>(values.shape[3]), error);
  return nullptr;
}

}  // namespace

CudaOp::CudaOp(Op const& op, cpu::Type type, char const* provider_, uint32_t api_version)
    : CustomOp(op, type, false, api_version), provider(provider_) {
  GetExecutionProviderType = [](OrtCustomOp const* op) { return static_cast<CudaOp const*>(op)->provider; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = destroy;
}

}  // namespace simam::ort
