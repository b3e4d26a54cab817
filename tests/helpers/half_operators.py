"""Standard operators as ONNX text, and their results in float64 NumPy, written here anew."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from simam_deploy.formula import Array

PLANES = (2, 4, 6, 5)
SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("a", "b", "p", "c"), PLANES),
    **{"m": (5, 7), "w": (3, 4, 3, 3), "t": (4, 3, 2, 2), "s": (4,), "o": (4,), "u": (4,), "v": (5,), "r": (7,)},
    **{"z": (), "q": PLANES, "i": (3,), "g": (2, 3, 3, 2)},
}
"""Inputs by name. p and u are positive, c is bool, q is int8, i is int64, z is a number, g is a grid in [-1, 1]."""


def inputs(seed: int = 0) -> dict[str, Array]:
    """float64, before rounding to a low type."""
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {name: 2 * rng.standard_normal(shape) for name, shape in SHAPES.items()}
    made["p"], made["u"] = np.abs(made["p"]) + 0.1, np.abs(made["u"]) + 0.1
    made["g"] = np.tanh(made["g"])
    made["z"] = np.array(0.037)
    made["c"] = made["c"] > 0
    made["q"] = np.clip(made["q"] * 30, -128, 127).astype(np.int8)
    made["i"] = np.array([3, 0, -1])
    return made


def _erf(x: Array) -> Array:
    return np.array(np.vectorize(math.erf)(x))


def _sigmoid(x: Array) -> Array:
    return np.array(1 / (1 + np.exp(-x)))


def _windows(x: Array, h: int, w: int, pad: int = 0, fill: float = 0) -> Array:
    """(..., H, W, h, w)"""
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)], constant_values=fill)
    return np.array(sliding_window_view(padded, (h, w), (2, 3)))


def _conv(x: Array, w: Array, bias: Array | None = None) -> Array:
    made = np.einsum("nchwij,ocij->nohw", _windows(x, 3, 3, 1), w)
    return np.array(made if bias is None else made + bias[:, None, None])


def _transposed(x: Array, w: Array) -> Array:
    """Stride 2, kernel 2: windows do not overlap."""
    made = np.einsum("nchw,coij->nohiwj", x, w)
    n, o, h, i, width, j = made.shape
    return np.array(made.reshape(n, o, h * i, width * j))


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float = 1e-5) -> Array:
    return np.array((x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + np.float32(epsilon)))


def _grouped(x: Array) -> Array:
    n, c, h, w = x.shape
    return _normalized(x.reshape(n, 2, c // 2, h, w), (2, 3, 4)).reshape(x.shape)


def _softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.array(e / e.sum(axis, keepdims=True))


def _linear(x: Array) -> Array:
    """Twice as wide and high, half_pixel."""
    for axis in (2, 3):
        size = x.shape[axis]
        at = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if k == axis else 1 for k in range(4)])
        x = (1 - share) * x.take(low, axis) + share * x.take(np.minimum(low + 1, size - 1), axis)
    return x


def _lrn(x: Array) -> Array:
    square = np.pad(x * x, [(0, 0), (1, 1), (0, 0), (0, 0)])
    return np.array(x / (1 + np.float32(1e-4) / 3 * (square[:, :-2] + square[:, 1:-1] + square[:, 2:])) ** 0.75)


def _sampled(x: Array, grid: Array) -> Array:
    """Bilinear, zeros outside, corners not aligned."""
    _, _, h, w = x.shape
    made = np.zeros((*x.shape[:2], *grid.shape[1:3]))
    px, py = ((grid[..., k] + 1) * size / 2 - 0.5 for k, size in ((0, w), (1, h)))
    for n, r, k in np.ndindex(*grid.shape[:3]):
        for row in (math.floor(py[n, r, k]), math.floor(py[n, r, k]) + 1):
            for col in (math.floor(px[n, r, k]), math.floor(px[n, r, k]) + 1):
                if 0 <= row < h and 0 <= col < w:
                    share = (1 - abs(py[n, r, k] - row)) * (1 - abs(px[n, r, k] - col))
                    made[n, :, r, k] += share * x[n, :, row, col]
    return made


def _quantised(x: Array, scale: Array) -> Array:
    return np.array(np.clip(np.rint(x / scale), -128, 127))


def _of(axes: tuple[int, ...], reduce: Callable[..., Any]) -> Callable[[Array], Array]:
    return lambda x: np.array(reduce(x, axis=axes, keepdims=True))


def _column(per_channel: Array) -> Array:
    return np.array(per_channel[:, None, None])


AXES = "S = Constant<value_ints = [2, 3]>()\n"
PADS = "S = Constant<value_ints = [0, 0, 1, 0, 0, 0, 0, 2]>()\n"
SIZE = "S = Constant<value_floats = [1.0, 1.0, 2.0, 2.0]>()\n"
CASES: dict[str, Callable[..., Any]] = {
    # elementwise
    "Y = Add(a, b)": lambda a, b: a + b,
    "Y = Sub(a, b)": lambda a, b: a - b,
    "Y = Mul(a, b)": lambda a, b: a * b,
    "Y = Div(a, p)": lambda a, p: a / p,
    "Y = Pow(p, b)": lambda p, b: p**b,
    "Y = Sum(a, b, p)": lambda a, b, p: a + b + p,
    "Y = Mean(a, b)": lambda a, b: (a + b) / 2,
    "Y = Max(a, b)": np.maximum,
    "Y = Min(a, b)": np.minimum,
    "Y = Mod<fmod = 1>(a, p)": np.fmod,
    "Y = Abs(a)": np.abs,
    "Y = Neg(a)": lambda a: -a,
    "Y = Sign(a)": np.sign,
    "Y = Floor(a)": np.floor,
    "Y = Ceil(a)": np.ceil,
    "Y = Round(a)": np.rint,
    "Y = Reciprocal(p)": lambda p: 1 / p,
    "Y = Sqrt(p)": np.sqrt,
    "Y = Exp(a)": np.exp,
    "Y = Log(p)": np.log,
    "Y = Sin(a)": np.sin,
    "Y = Cos(a)": np.cos,
    "Y = Atan(a)": np.arctan,
    "Y = Erf(a)": _erf,
    "Y = Relu(a)": lambda a: np.maximum(a, 0),
    "Y = Sigmoid(a)": _sigmoid,
    "Y = Tanh(a)": np.tanh,
    "Y = Softplus(a)": lambda a: np.log1p(np.exp(a)),
    "Y = Softsign(a)": lambda a: a / (1 + np.abs(a)),
    "Y = HardSigmoid(a)": lambda a: np.clip(np.float32(0.2) * a + 0.5, 0, 1),
    "Y = HardSwish(a)": lambda a: a * np.clip(a / 6 + 0.5, 0, 1),
    "Y = Mish(a)": lambda a: a * np.tanh(np.log1p(np.exp(a))),
    "Y = Gelu(a)": lambda a: a * (1 + _erf(a / math.sqrt(2))) / 2,
    "Y = Elu(a)": lambda a: np.where(a > 0, a, np.expm1(a)),
    "Y = Selu(a)": lambda a: (
        np.float32(1.05070102214813) * np.where(a > 0, a, np.float32(1.67326319217681) * np.expm1(a))
    ),
    "Y = LeakyRelu(a)": lambda a: np.where(a > 0, a, np.float32(0.01) * a),
    "Y = ThresholdedRelu(a)": lambda a: np.where(a > 1, a, 0),
    "S = Constant<value_ints = [1, 2]>()\nK = Unsqueeze(s, S)\nY = PRelu(a, K)": lambda s, a: np.where(
        a > 0, a, _column(s) * a
    ),
    "L = Neg(z)\nY = Clip(a, L, z)": lambda z, a: np.clip(a, -z, z),
    # linear
    "Y = Conv<pads = [1, 1, 1, 1]>(a, w)": _conv,
    "K = Gather(o, i)\nY = Conv<pads = [1, 1, 1, 1]>(a, w, K)": lambda o, i, a, w: _conv(a, w, o[i]),
    "Y = ConvTranspose<strides = [2, 2]>(a, t)": _transposed,
    "Y = MatMul(a, m)": lambda a, m: a @ m,
    "Y = Gemm<transA = 1, alpha = 0.5>(m, m, r)": lambda m, r: m.T @ m / 2 + r,
    'Y = Einsum<equation = "nchw,wk->nhck">(a, m)': lambda a, m: np.einsum("nchw,wk->nhck", a, m),
    # reductions and pools
    AXES + "Y = ReduceMean(a, S)": _of((2, 3), np.mean),
    AXES + "Y = ReduceSum(a, S)": _of((2, 3), np.sum),
    AXES + "Y = ReduceMax(a, S)": _of((2, 3), np.max),
    AXES + "Y = ReduceMin(a, S)": _of((2, 3), np.min),
    AXES + "Y = ReduceProd(p, S)": _of((2, 3), np.prod),
    AXES + "Y = ReduceL1(a, S)": lambda a: np.abs(a).sum((2, 3), keepdims=True),
    AXES + "Y = ReduceL2(a, S)": lambda a: np.sqrt((a * a).sum((2, 3), keepdims=True)),
    AXES + "Y = ReduceSumSquare(a, S)": lambda a: (a * a).sum((2, 3), keepdims=True),
    AXES + "Y = ReduceLogSum(p, S)": lambda p: np.log(p.sum((2, 3), keepdims=True)),
    AXES + "Y = ReduceLogSumExp(a, S)": lambda a: np.log(np.exp(a).sum((2, 3), keepdims=True)),
    "S = Constant<value_int = 3>()\nY = CumSum(a, S)": lambda a: a.cumsum(3),
    "Y = GlobalAveragePool(a)": _of((2, 3), np.mean),
    "Y = GlobalMaxPool(a)": _of((2, 3), np.max),
    "Y = AveragePool<kernel_shape = [3, 3]>(a)": lambda a: _windows(a, 3, 3).mean((4, 5)),
    "Y = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)": lambda a: _windows(a, 3, 3, 1, -np.inf).max((4, 5)),
    "Y = LpPool<kernel_shape = [2, 2]>(a)": lambda a: np.sqrt((_windows(a, 2, 2) ** 2).sum((4, 5))),
    # normalizations
    "Y = BatchNormalization(a, s, o, o, u)": lambda a, s, o, u: (
        _column(s) * (a - _column(o)) / np.sqrt(_column(u) + np.float32(1e-5)) + _column(o)
    ),
    "Y = InstanceNormalization(a, s, o)": lambda a, s, o: _column(s) * _normalized(a, (2, 3)) + _column(o),
    "Y = LayerNormalization(a, v)": lambda a, v: _normalized(a, (3,)) * v,
    "Y = GroupNormalization<num_groups = 2>(a, s, o)": lambda a, s, o: _column(s) * _grouped(a) + _column(o),
    "Y = LpNormalization<axis = 1, p = 2>(a)": lambda a: a / np.sqrt((a * a).sum(1, keepdims=True)),
    "Y = LRN<size = 3>(a)": _lrn,
    "Y = Softmax<axis = 1>(a)": lambda a: _softmax(a, 1),
    "Y = LogSoftmax(a)": lambda a: np.log(_softmax(a)),
    # positions
    SIZE + 'Y = Resize<mode = "nearest">(a, , S)': lambda a: a.repeat(2, 2).repeat(2, 3),
    SIZE + 'Y = Resize<mode = "linear">(a, , S)': _linear,
    'Y = GridSample<mode = "linear">(a, g)': _sampled,
    "Y = Concat<axis = 1>(a, b)": lambda a, b: np.concatenate([a, b], 1),
    PADS + "Y = Pad(a, S, z)": lambda a, z: np.pad(a, [(0, 0), (0, 0), (1, 0), (0, 2)], constant_values=z),
    "Y = Where(c, a, b)": np.where,
    "Y = Transpose<perm = [0, 2, 3, 1]>(a)": lambda a: a.transpose(0, 2, 3, 1),
    "Y = Gather<axis = 1>(a, i)": lambda a, i: a.take(i, 1),
    "Y, K = Split<axis = 1, num_outputs = 2>(a)": lambda a: a[:, :2],
    "Y = DepthToSpace<blocksize = 2>(a)": lambda a: (
        a.reshape(2, 2, 2, 1, 6, 5).transpose(0, 3, 4, 1, 5, 2).reshape(2, 1, 12, 10)
    ),
    "Y = Trilu(a)": np.triu,
    "S = Constant<value_ints = [3]>()\nY, K = TopK(a, S)": lambda a: -np.sort(-a, -1)[..., :3],
    # types
    "K = Cast<to = 6>(a)\nY = CastLike(K, a)": np.trunc,
    "K = Cast<to = 1>(a)\nL = Mul(K, K)\nM = Sqrt(L)\nY = CastLike(M, a)": np.abs,  # an island
    "Y = DequantizeLinear(q, z)": lambda q, z: q.astype(np.float64) * z,
    "K = QuantizeLinear<output_dtype = 3>(a, z)\nY = CastLike(K, a)": _quantised,
}
"""The graph, and a function of the inputs in the order in which it names them. Y is the result."""


def result(text: str, named: Mapping[str, Array]) -> Array:
    """The result of a graph of CASES for inputs of these names."""
    names = dict.fromkeys(re.findall(r"\b[a-z]\b", re.sub("<.*>", "", text)))
    with np.errstate(all="ignore"):
        return np.asarray(CASES[text](*(named[name] for name in names)))
