// Which types and formats the plugin takes, written a second time, for the tests.
#pragma once

#include "tensorrt_host.h"

namespace simam::test {

struct ExpectedLayout {
  DataType type;
  Format format;
  int rank;  // 0: 3, 4 and 5
  int simam_type;
  int group_of_5, group_of_33;  // channels side by side, where there are 5 and 33
};

constexpr ExpectedLayout kExpected[] = {
    {DataType::kFLOAT, Format::kLINEAR, 0, SIMAM_F32, 1, 1},  {DataType::kFLOAT, Format::kHWC, 4, SIMAM_F32, 5, 33},
    {DataType::kFLOAT, Format::kCHW32, 4, SIMAM_F32, 32, 32}, {DataType::kFLOAT, Format::kDHWC, 5, SIMAM_F32, 5, 33},
    {DataType::kHALF, Format::kLINEAR, 0, SIMAM_F16, 1, 1},   {DataType::kHALF, Format::kHWC8, 4, SIMAM_F16, 8, 40},
    {DataType::kHALF, Format::kHWC16, 4, SIMAM_F16, 16, 48},  {DataType::kHALF, Format::kDHWC8, 5, SIMAM_F16, 8, 40},
    {DataType::kBF16, Format::kLINEAR, 0, SIMAM_BF16, 1, 1},  {DataType::kBF16, Format::kHWC8, 4, SIMAM_BF16, 8, 40},
    {DataType::kBF16, Format::kDHWC8, 5, SIMAM_BF16, 8, 40},  {DataType::kINT8, Format::kLINEAR, 0, SIMAM_S8, 1, 1},
    {DataType::kINT8, Format::kCHW4, 4, SIMAM_S8, 4, 4},      {DataType::kINT8, Format::kCHW32, 4, SIMAM_S8, 32, 32},
    {DataType::kINT8, Format::kHWC16, 4, SIMAM_S8, 16, 48},   {DataType::kINT8, Format::kCDHW32, 5, SIMAM_S8, 32, 32},
};

inline bool has_rank(ExpectedLayout const& layout, int rank) {
  return layout.rank == 0 ? rank >= 3 && rank <= 5 : layout.rank == rank;
}

// 0 where x is not taken like this.
inline int expected_group(DataType type, Format format, int rank, int channels) {
  for (ExpectedLayout const& layout : kExpected)
    if (layout.type == type && layout.format == format && has_rank(layout, rank))
      return channels == 5 ? layout.group_of_5 : layout.group_of_33;
  return 0;
}

}  // namespace simam::test
