// The operators on 8-bit integers with the channels last, for the CPU provider.
#include <algorithm>
#include <cmath>
#include <new>

#include "pool.h"

namespace simam::ort {
namespace {

struct Kernel {
  CustomOp const& custom_op;
  float lambda;
};

constexpr Int8Input kAll[] = {
    Int8Input::x,       Int8Input::x_scale,     Int8Input::x_zero_point,   Int8Input::scale,
    Int8Input::bias,    Int8Input::residual,    Int8Input::residual_scale, Int8Input::residual_zero_point,
    Int8Input::y_scale, Int8Input::y_zero_point};

bool takes(Op const& op, Int8Input input) {
  switch (input) {
    case Int8Input::scale:
    case Int8Input::bias: return op.affine;
    case Int8Input::residual:
    case Int8Input::residual_scale:
    case Int8Input::residual_zero_point: return op.residual;
    default: return true;
  }
}

bool is_float(Int8Input input) {
  switch (input) {
    case Int8Input::x_scale:
    case Int8Input::scale:
    case Int8Input::bias:
    case Int8Input::residual_scale:
    case Int8Input::y_scale: return true;
    default: return false;
  }
}

size_t count(Op const& op) {
  return static_cast<size_t>(
      std::count_if(std::begin(kAll), std::end(kAll), [&](Int8Input i) { return takes(op, i); }));
}

size_t index_of(Op const& op, Int8Input input) {
  return static_cast<size_t>(std::count_if(std::begin(kAll), std::find(std::begin(kAll), std::end(kAll), input),
                                           [&](Int8Input before) { return takes(op, before); }));
}

OrtStatus* create(OrtCustomOp const* op, OrtApi const*, OrtKernelInfo const* info, void** kernel) {
  CustomOp const& custom_op = CustomOp::of(op);
  Kernel made{custom_op, kDefaultLambda};
  SIMAM_RETURN_IF_FAILED(read_lambda(info, custom_op.op.name, made.lambda));
  *kernel = new (std::nothrow) Kernel(made);
  return *kernel != nullptr ? nullptr : fail(ORT_FAIL, "%s: out of memory", custom_op.op.name);
}

void destroy(void* kernel) { delete static_cast<Kernel*>(kernel); }

// One node in one run.
struct Node {
  OrtKernelContext* context;
  CustomOp const& custom_op;

  OrtStatus* refuse(char const* why) const { return fail(ORT_INVALID_ARGUMENT, "%s: %s", custom_op.op.name, why); }

  OrtStatus* tensor(Int8Input input, void const*& data, Dims& dims, size_t& rank) const {
    OrtValue const* value = nullptr;
    return read_input(context, index_of(custom_op.op, input), value, data, dims, rank);
  }

  OrtStatus* channel_parameter(Int8Input input, char const* what, int64_t channels, float const*& data) const {
    return read_parameter(context, index_of(custom_op.op, input), what, custom_op.op.name, channels, data);
  }

  // One number: a scalar, or a tensor of one element.
  OrtStatus* number(Int8Input input, void const*& data) const {
    Dims dims{};
    size_t rank = 0;
    SIMAM_RETURN_IF_FAILED(tensor(input, data, dims, rank));
    bool const one = rank == 0 || (rank == 1 && dims[0] == 1);
    return one ? nullptr : refuse("scales and zero points are one number for the whole tensor");
  }

  OrtStatus* step(Int8Input scale_input, Int8Input zero_input, float& scale, int32_t& zero) const {
    void const* data = nullptr;
    SIMAM_RETURN_IF_FAILED(number(scale_input, data));
    scale = *static_cast<float const*>(data);
    if (!(std::isfinite(scale) && scale > 0)) return refuse("the scale of a tensor must be finite and above 0");
    SIMAM_RETURN_IF_FAILED(number(zero_input, data));
    zero = custom_op.type == cpu::Type::s8 ? int32_t{*static_cast<int8_t const*>(data)}
                                           : int32_t{*static_cast<uint8_t const*>(data)};
    return nullptr;
  }

  OrtStatus* read(cpu::Task& task, bool& empty) const {
    Op const& op = custom_op.op;
    Dims x{};
    size_t rank = 0;
    SIMAM_RETURN_IF_FAILED(tensor(Int8Input::x, task.x, x, rank));
    if (rank != kRank)
      return fail(ORT_INVALID_ARGUMENT, "%s takes x of shape (N, H, W, C); got %zu dimensions", op.name, rank);
    empty = std::find(x.begin(), x.end(), 0) != x.end();
    if (!empty && x[1] * x[2] == 1)
      return refuse(
          "of a 1x1 map is 0/0: its variance divides by H*W - 1; feed larger inputs, or leave SimAM out there");
    SIMAM_RETURN_IF_FAILED(step(Int8Input::x_scale, Int8Input::x_zero_point, task.x_scale, task.x_zero));
    SIMAM_RETURN_IF_FAILED(step(Int8Input::y_scale, Int8Input::y_zero_point, task.y_scale, task.y_zero));
    if (op.affine) {
      SIMAM_RETURN_IF_FAILED(channel_parameter(Int8Input::scale, "scale", x[3], task.scale));
      SIMAM_RETURN_IF_FAILED(channel_parameter(Int8Input::bias, "bias", x[3], task.bias));
    }
    if (op.residual) {
      Dims residual{};
      SIMAM_RETURN_IF_FAILED(tensor(Int8Input::residual, task.residual, residual, rank));
      if (rank != kRank || residual != x) return refuse("residual must have the shape of x");
      SIMAM_RETURN_IF_FAILED(
          step(Int8Input::residual_scale, Int8Input::residual_zero_point, task.residual_scale, task.residual_zero));
    }
    OrtValue* output = nullptr;
    SIMAM_RETURN_IF_FAILED(api()->KernelContext_GetOutput(context, 0, x.data(), kRank, &output));
    if (!empty) {
      task.planes = x[0] * x[3];
      task.m = x[1] * x[2];
      task.channels = x[3];
    }
    return api()->GetTensorMutableData(output, &task.y);
  }
};

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  Kernel const& made = *static_cast<Kernel const*>(kernel);
  cpu::Task task;
  task.type = made.custom_op.type;
  task.activation = made.custom_op.op.activation;
  task.channels_last = true;
  task.lambda = made.lambda;
  bool empty = false;
  SIMAM_RETURN_IF_FAILED((Node{context, made.custom_op}.read(task, empty)));
  if (empty) return nullptr;
  Pool pool{context, nullptr};
  cpu::run(task, {Pool::run, &pool});
  return pool.status;
}

}  // namespace

Int8Input int8_input(Op const& op, size_t index) {
  return *std::find_if(std::begin(kAll), std::end(kAll),
                       [&](Int8Input i) { return takes(op, i) && index_of(op, i) == index; });
}

Int8Op::Int8Op(Op const& op, cpu::Type type, uint32_t api_version) : CustomOp(op, type, false, api_version) {
  GetInputTypeCount = [](OrtCustomOp const* op) { return count(of(op).op); };
  GetInputType = [](OrtCustomOp const* op, size_t i) {
    return is_float(int8_input(of(op).op, i)) ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : element_type(of(op).type);
  };
  GetExecutionProviderType = [](OrtCustomOp const*) { return CpuOp::kProvider; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = destroy;
}

}  // namespace simam::ort
