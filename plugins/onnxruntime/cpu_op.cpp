// The operators for the CPU provider, NCHW and blocked: the work goes to the threads of the session.
#include <cstring>
#include <new>

#include "../cpu/features.h"
#include "pool.h"

namespace simam::ort {
namespace {

constexpr char kBlock[] = "block";
constexpr char kMachine[] = "machine";

// What a node knows before it runs.
struct Kernel {
  CustomOp const& custom_op;
  float lambda;
  int block;  // 1 in NCHW
};

// A specialised file computes with weights and values laid out for one kind of processor.
OrtStatus* read_layout(OrtKernelInfo const* info, char const* name, int& block) {
  int64_t asked = 0;
  SIMAM_RETURN_IF_FAILED(api()->KernelInfoGetAttribute_int64(info, kBlock, &asked));
  char made_for[64] = {};
  size_t size = sizeof made_for;
  SIMAM_RETURN_IF_FAILED(api()->KernelInfoGetAttribute_string(info, kMachine, made_for, &size));
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
  CustomOp const& custom_op = CustomOp::of(op);
  Kernel made{custom_op, kDefaultLambda, 1};
  SIMAM_RETURN_IF_FAILED(read_lambda(info, custom_op.op.name, made.lambda));
  if (custom_op.blocked) SIMAM_RETURN_IF_FAILED(read_layout(info, custom_op.op.name, made.block));
  *kernel = new (std::nothrow) Kernel(made);
  return *kernel != nullptr ? nullptr : fail(ORT_FAIL, "%s: out of memory", custom_op.op.name);
}

void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  Kernel const& node = *static_cast<Kernel const*>(kernel);
  Op const& op = node.custom_op.op;
  Values values;
  SIMAM_RETURN_IF_FAILED(read_values(context, op, node.block, values));
  if (values.empty) return nullptr;
  cpu::Task task;
  task.type = node.custom_op.type;
  task.activation = op.activation;
  task.x = values.x;
  task.y = values.y;
  task.residual = values.residual;
  task.scale = values.scale;
  task.bias = values.bias;
  task.planes = values.shape[0] * values.shape[1];
  task.m = values.shape[2] * values.shape[3];
  task.channels = values.shape[1];
  task.block = node.block;
  task.lambda = node.lambda;
  Pool pool{context, nullptr};
  cpu::run(task, {Pool::run, &pool});
  return pool.status;
}

}  // namespace

char const* machine() {
#if defined(__x86_64__)
  if (cpu::features().avx512f) return "x86_64 avx512f";
  return cpu::features().avx2 ? "x86_64 avx2" : "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

int block_size() {
#if defined(__x86_64__)
  return cpu::features().avx512f ? 16 : 8;
#else
  return 0;
#endif
}

CpuOp::CpuOp(Op const& op, cpu::Type type, bool blocked, uint32_t api_version)
    : CustomOp(op, type, blocked, api_version) {
  GetExecutionProviderType = [](OrtCustomOp const*) { return kProvider; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = destroy;
}

}  // namespace simam::ort
