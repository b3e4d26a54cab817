// What the source of ahead.cpp includes. NVRTC has no header of the standard library: the kernels need these names.
#pragma once

#if defined(__CUDACC_RTC__)
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
using uintptr_t = unsigned long long;
#endif

#include "block.h"
#include "small.h"
#include "tiles.h"
