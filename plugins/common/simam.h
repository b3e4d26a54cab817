// What every kernel and shell agrees on: the operator, its names and its version. No type of any runtime.
//
//   simam(x) = x * sigmoid(d / (4 (s / (M - 1) + lambda)) + 1/2),   d = (x - mean)^2,  s = sum of d,  M = H * W
//
// per plane (n, c) of x : (N, C, H, W). Source: Yang et al., "SimAM", ICML 2021, Eq. (5), with the unbiased variance
// of the published code. The names are those of simam_deploy/formula.py; a test compares the two.
#pragma once

#include <cstdint>

namespace simam {

inline constexpr char kDomain[] = "simam";
inline constexpr char kBlockedDomain[] = "simam.nchwc";  // the same operators on ONNX Runtime's blocked layout
inline constexpr char kInt8Domain[] = "simam.int8";      // the same operators on 8-bit integers, channels last
inline constexpr int kVersion = 1;                       // of all domains
inline constexpr float kDefaultLambda = 1e-4F;
inline constexpr char kLambda[] = "e_lambda";

enum class Activation : uint8_t { none, relu, silu };

// One operator: y = activation(scale * simam(x) + bias + residual), scale and bias of length C.
struct Op {
  char const* name;
  bool affine;    // inputs 1 and 2: scale, bias; always float32
  bool residual;  // the last input, of the shape and type of x
  Activation activation;
};

inline constexpr Op kOps[] = {
    {"SimAM", false, false, Activation::none},
    {"SimAMAffine", true, false, Activation::none},
    {"SimAMAffineRelu", true, false, Activation::relu},
    {"SimAMAffineSilu", true, false, Activation::silu},
    {"SimAMAffineAdd", true, true, Activation::none},
    {"SimAMAffineAddRelu", true, true, Activation::relu},
    {"SimAMAffineAddSilu", true, true, Activation::silu},
};

}  // namespace simam
