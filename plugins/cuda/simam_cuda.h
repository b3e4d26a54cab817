// SimAM on a GPU: one call, for every shell. Plain C, so that Python's ctypes can say it too; no header of CUDA.
//
// y = activation(scale * simam(x) + bias + residual), per plane of x; simam as in ../common/simam.h.
//
// Accuracy, against the float64 formula: float32 within 2 eps max|y's terms| for mean / spread up to 1e5; float16 and
// bfloat16 one rounding of the exact result plus 2e-5 of the gate; int8 half a step of y_scale plus 2e-5 of the gate.
// Everything inside is float32, reduced in a fixed order: the same x on the same device gives the same bits.
// A NaN or infinity makes its own plane NaN and touches no other.
//
// It ends where floats do: a plane whose sum exceeds 3e38, or whose sum of (x - mean)^2 exceeds 8e37, may be NaN. Where
// lambda is below 1e-37 and |x - mean| below 1e-18 the gate is wrong or NaN. A lambda above 1e37 counts as 1e37.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum SimamType { SIMAM_F32 = 0, SIMAM_F16 = 1, SIMAM_BF16 = 2, SIMAM_S8 = 3 };
enum SimamActivation { SIMAM_NONE = 0, SIMAM_RELU = 1, SIMAM_SILU = 2 };

// How it is done. Each is right for every shape that it accepts; they differ in speed. SIMAM_AUTOMATIC is whichever
// suits: where that is the third and the workspace is too small, it is one of the others.
enum SimamTactic {
  SIMAM_AUTOMATIC = 0,
  SIMAM_REGISTERS = 1,  // keeps a plane, or a tile of channels, which it reads once: in registers, or in shared memory
  SIMAM_CLUSTER = 2,    // the same, spread over a cluster of blocks: compute capability 9.0 and up
  SIMAM_SPLIT = 3,      // two kernels, moments and gate: any size; needs a workspace, and reads x twice
};

// The layout is one number, `group`: how many channels lie side by side. With groups = ceil(channels / group), element
// (n, c, pixel) is at ((n * groups + c / group) * pixels + pixel) * group + c % group.
//
//   group 1                 NCHW; TensorRT's kLINEAR
//   ceil(channels, 8)       channels last, padded: TensorRT's kHWC8        channels, ceil(channels, 16): kHWC, kHWC16
//   32, 4                   TensorRT's kCHW32, kCHW4
//
// Where group > 1 the channels of padding are read, initialised or not, and ignored; they are written as zeros.
struct SimamParams {
  int32_t type;          // SimamType of x, y and residual
  int32_t activation;    // SimamActivation
  int32_t tactic;        // SimamTactic
  int32_t group;         // >= 1
  void const* x;         // device memory, aligned as one element is, as are y and residual; 16 bytes is fastest
  void* y;               // may be x or residual, the whole of it; must not overlap them otherwise
  void const* residual;  // or null
  float const* scale;    // device memory, [channels], or null: both or neither
  float const* bias;
  int64_t images, channels, pixels;        // N, C, H * W; pixels >= 2; pixels and N * C at most 2^30
  float lambda;                            // finite, >= 0
  float x_scale, residual_scale, y_scale;  // int8: the real value is scale * q; finite, > 0. Other types: ignored.
  void* workspace;  // device memory of simam_workspace() bytes, aligned to 16, for one stream at a time; uninitialised
  size_t workspace_size;
};

// Enqueues the work on `stream` (a cudaStream_t) of the current device, and gives a cudaError_t: 0 is success. It does
// not allocate, synchronise or copy to the host, and may be captured into a graph. Of an empty x it does nothing.
// cudaErrorInvalidValue (1): a parameter is not as said above, the tactic does not accept this shape here, or the
// workspace is too small.
int simam_launch(struct SimamParams const* params, void* stream);

// 1 if params.tactic accepts this shape, type and layout on the current device; pointers count by their alignment only.
int simam_accepts(struct SimamParams const* params);

// Bytes of workspace for these parameters on the current device; 0 for most. The workspace of SIMAM_SPLIT never shrinks
// when images, channels, group or pixels grow, and does not depend on the alignment of the pointers.
size_t simam_workspace(struct SimamParams const* params);

// Loads the kernels into the current device, so that nothing is loaded during a capture. A cudaError_t.
int simam_prepare(void);

#ifdef __cplusplus
}
#endif
