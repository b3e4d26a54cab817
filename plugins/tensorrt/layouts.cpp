#include "layouts.h"

#include <algorithm>
#include <iterator>

#include "cuda/simam_cuda.h"
#include "logger.h"

namespace simam::trt {
namespace {

using nvinfer1::DataType;
using nvinfer1::Dims;
using Format = nvinfer1::TensorFormat;

constexpr Layout kLayouts[] = {
    {DataType::kFLOAT, Format::kLINEAR, 0, SIMAM_F32, 1, false},
    {DataType::kFLOAT, Format::kHWC, 4, SIMAM_F32, 1, true},
    {DataType::kFLOAT, Format::kCHW32, 4, SIMAM_F32, 32, false},
    {DataType::kFLOAT, Format::kDHWC, 5, SIMAM_F32, 1, true},
    {DataType::kHALF, Format::kLINEAR, 0, SIMAM_F16, 1, false},
    {DataType::kHALF, Format::kHWC8, 4, SIMAM_F16, 8, true},
    {DataType::kHALF, Format::kHWC16, 4, SIMAM_F16, 16, true},
    {DataType::kHALF, Format::kDHWC8, 5, SIMAM_F16, 8, true},
    {DataType::kBF16, Format::kLINEAR, 0, SIMAM_BF16, 1, false},
    {DataType::kBF16, Format::kHWC8, 4, SIMAM_BF16, 8, true},
    {DataType::kBF16, Format::kDHWC8, 5, SIMAM_BF16, 8, true},
    {DataType::kINT8, Format::kLINEAR, 0, SIMAM_S8, 1, false},
    {DataType::kINT8, Format::kCHW4, 4, SIMAM_S8, 4, false},
    {DataType::kINT8, Format::kCHW32, 4, SIMAM_S8, 32, false},
    {DataType::kINT8, Format::kHWC16, 4, SIMAM_S8, 16, true},
    {DataType::kINT8, Format::kCDHW32, 5, SIMAM_S8, 32, false},
};

bool differ(int64_t a, int64_t b) { return a >= 0 && b >= 0 && a != b; }

// -1 where a factor is not known and none is 0; false where the product is beyond int64.
bool multiply(int64_t const* factors, int32_t count, int64_t& product) {
  if (std::find(factors, factors + count, 0) != factors + count) return product = 0, true;
  if (std::any_of(factors, factors + count, [](int64_t size) { return size < 0; })) return product = -1, true;
  product = 1;
  for (int32_t i = 0; i < count; ++i)
    if (__builtin_mul_overflow(product, factors[i], &product)) return false;
  return true;
}

}  // namespace

Layout const* find_layout(DataType type, Format format, int32_t rank) noexcept {
  if (rank < kLowestRank || rank > kHighestRank) return nullptr;
  for (Layout const& layout : kLayouts)
    if (layout.type == type && layout.format == format && (layout.rank == 0 || layout.rank == rank)) return &layout;
  return nullptr;
}

bool has_type(DataType type) noexcept {
  return std::any_of(std::begin(kLayouts), std::end(kLayouts), [&](Layout const& l) { return l.type == type; });
}

bool read_sizes(Op const& op, Dims const* inputs, Sizes& sizes) noexcept {
  Dims const& x = inputs[0];
  if (x.nbDims < kLowestRank || x.nbDims > kHighestRank)
    return refuse(op.name, "x must have 3, 4 or 5 dimensions, as in (N, C, H, W); it has %d",
                  static_cast<int>(x.nbDims));
  sizes.images = x.d[0];
  sizes.channels = x.d[1];
  if (!multiply(x.d + 2, x.nbDims - 2, sizes.pixels)) return refuse(op.name, "H * W is beyond 64 bits");
  if (sizes.pixels == 1 && !sizes.empty())
    return refuse(op.name,
                  "of a 1x1 map it is 0/0: its variance divides by H*W - 1; build for larger inputs, or leave SimAM "
                  "out there");
  for (int32_t i = 1; i < input_count(op); ++i) {
    Dims const& dims = inputs[i];
    if (is_parameter(op, i)) {
      if (dims.nbDims != 1 || differ(dims.d[0], sizes.channels))
        return refuse(op.name, "%s must have one dimension of %lld, one element for each channel of x; it has %d%s%lld",
                      i == 1 ? "scale" : "bias", static_cast<long long>(sizes.channels), static_cast<int>(dims.nbDims),
                      dims.nbDims == 1 ? ", of " : ", the first of ",
                      static_cast<long long>(dims.nbDims > 0 ? dims.d[0] : 0));
      continue;
    }
    bool same = dims.nbDims == x.nbDims;
    for (int32_t k = 0; same && k < x.nbDims; ++k) same = !differ(dims.d[k], x.d[k]);
    if (!same) return refuse(op.name, "residual must have the shape of x: there is no broadcasting");
  }
  return true;
}

}  // namespace simam::trt
