#include "node.h"

#include <algorithm>
#include <cmath>

namespace simam::ort {
namespace {

OrtApi const* g_api = nullptr;

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

}  // namespace

OrtApi const* api() { return g_api; }
void set_api(OrtApi const* api) { g_api = api; }

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

OrtStatus* read_parameter(OrtKernelContext* context, size_t index, char const* what, char const* name, int64_t channels,
                          float const*& data) {
  OrtValue const* value = nullptr;
  void const* bytes = nullptr;
  Dims dims{};
  size_t rank = 0;
  SIMAM_RETURN_IF_FAILED(read_input(context, index, value, bytes, dims, rank));
  if (rank != 1 || dims[0] != channels)
    return fail(ORT_INVALID_ARGUMENT, "%s: %s must have %lld elements, one for each channel of x", name, what,
                static_cast<long long>(channels));
  data = static_cast<float const*>(bytes);
  return nullptr;
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

OrtStatus* read_values(OrtKernelContext* context, Op const& op, int block, Values& values) {
  OrtValue const* value = nullptr;
  Dims& x = values.shape;
  size_t rank = 0;
  SIMAM_RETURN_IF_FAILED(read_input(context, 0, value, values.x, x, rank));
  if (rank != kRank)
    return fail(ORT_INVALID_ARGUMENT, "%s takes x of shape (N, C, H, W); got %zu dimensions", op.name, rank);
  values.empty = std::find(x.begin(), x.end(), 0) != x.end();
  if (!values.empty && x[2] * x[3] == 1)
    return fail(ORT_INVALID_ARGUMENT,
                "%s of a 1x1 map is 0/0: its variance divides by H*W - 1; feed larger inputs, or leave SimAM out there",
                op.name);
  if (x[1] % block != 0)
    return fail(ORT_INVALID_ARGUMENT, "%s: %lld channels do not fill blocks of %d", op.name,
                static_cast<long long>(x[1]), block);
  if (op.affine) {
    SIMAM_RETURN_IF_FAILED(read_parameter(context, 1, "scale", op.name, x[1], values.scale));
    SIMAM_RETURN_IF_FAILED(read_parameter(context, 2, "bias", op.name, x[1], values.bias));
  }
  if (op.residual) {
    Dims residual{};
    SIMAM_RETURN_IF_FAILED(read_input(context, input_count(op) - 1, value, values.residual, residual, rank));
    if (rank != kRank || residual != x)
      return fail(ORT_INVALID_ARGUMENT, "%s: residual must have the shape of x", op.name);
  }
  SIMAM_RETURN_IF_FAILED(g_api->KernelContext_GetOutput(context, 0, x.data(), kRank, &values.output));
  return g_api->GetTensorMutableData(values.output, &values.y);
}

}  // namespace simam::ort
