"""Layers of a TensorRT network in NumPy: for each kind, the settings to read and a function.

A function takes the settings and the inputs, and returns the output. It computes in the type of its float inputs,
float32 or float64; the caller rounds and converts the output to the type of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simam_deploy.formula import OPS, Array, apply_epilogue, as_maps, reference

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """compute : the function.  settings : attributes of TensorRT's layer that it reads.

    only : setting -> the values that it can compute; of the others all.
    The settings of a plugin are read by trt_parse.py.
    """

    compute: Callable[..., Array]
    settings: Sequence[str] = ()
    only: Mapping[str, Collection[object]] = field(default_factory=dict)


def _divide(a: Array, b: Array) -> Array:
    """Integers are rounded towards zero."""
    return np.divide(a, b) if a.dtype.kind == "f" else np.trunc(np.divide(a, b))


def _clip(x: Array, low: float, high: float) -> Array:
    return np.clip(x, x.dtype.type(low), x.dtype.type(high))


ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "RELU": lambda x, *_: np.maximum(x, 0),
    "SIGMOID": lambda x, *_: 1 / (1 + np.exp(-x)),
    "CLIP": _clip,
}
ELEMENTWISE: dict[str, Callable[[Array, Array], Array]] = {
    "SUM": np.add,
    "SUB": np.subtract,
    "PROD": np.multiply,
    "DIV": _divide,
    "POW": np.power,
}
REDUCTIONS: dict[str, Callable[..., Array]] = {"SUM": np.sum, "AVG": np.mean, "PROD": np.prod}


def _activation(given: Settings, x: Array) -> Array:
    return ACTIVATIONS[given["type"]](x, given["alpha"], given["beta"])


def _elementwise(given: Settings, a: Array, b: Array) -> Array:
    return ELEMENTWISE[given["op"]](a, b)


def _axes(mask: int) -> tuple[int, ...]:
    """TensorRT names axes as bits."""
    return tuple(axis for axis in range(mask.bit_length()) if mask >> axis & 1)


def _reduce(given: Settings, x: Array) -> Array:
    return REDUCTIONS[given["op"]](x, axis=_axes(given["axes"]), keepdims=given["keep_dims"])


def _scale(given: Settings, x: Array) -> Array:
    """(x scale + shift) ^ power, along one axis or with one number; settings that are absent do nothing."""
    sizes = [1] * x.ndim
    if given["mode"] == "CHANNEL":
        sizes[given["channel_axis"]] = -1
    scale, shift, power = (
        None if given[name] is None else given[name].astype(x.dtype).reshape(sizes)
        for name in ("scale", "shift", "power")
    )
    y = x if scale is None else x * scale
    y = y if shift is None else y + shift
    return y if power is None or (power == 1).all() else y**power


def _normalization(given: Settings, x: Array, scale: Array, bias: Array) -> Array:
    axes = _axes(given["axes"])
    d = x - x.mean(axes, keepdims=True)
    variance = np.square(d).mean(axes, keepdims=True)
    y: Array = d / np.sqrt(variance + x.dtype.type(given["epsilon"])) * scale + bias
    return y


def _padded(x: Array, given: Settings, value: float) -> Array:
    pairs = list(zip(given["pre_padding"], given["post_padding"], strict=True))
    return np.pad(x, [(0, 0), (0, 0), *pairs], constant_values=value)


def _windows(x: Array, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Iterator[Array]:
    """The part of x (N, C, ...) that each place in the window sees."""
    sizes = [
        (size - step * (width - 1) - 1) // by + 1
        for size, width, by, step in zip(x.shape[2:], window, stride, dilation, strict=True)
    ]
    for place in np.ndindex(*window):
        spans = [
            slice(at * step, at * step + (size - 1) * by + 1, by)
            for at, size, by, step in zip(place, sizes, stride, dilation, strict=True)
        ]
        yield x[tuple([slice(None), slice(None), *spans])]


def _convolution(given: Settings, x: Array, kernel: Array | None = None, bias: Array | None = None) -> Array:
    """One matrix product for each place in the window. Quantised kernels are inputs."""
    kernel = given["kernel"].astype(x.dtype) if kernel is None else kernel
    bias = given["bias"] if bias is None else bias
    groups, maps, window = given["num_groups"], given["num_output_maps"], given["kernel_size_nd"]
    kernel = kernel.reshape(groups, maps // groups, x.shape[1] // groups, -1)
    total: Any = 0
    shape: tuple[int, ...] = ()
    for at, part in enumerate(_windows(_padded(x, given, 0), window, given["stride_nd"], given["dilation_nd"])):
        shape = len(x), maps, *part.shape[2:]
        columns = part.reshape(len(x), groups, x.shape[1] // groups, -1)
        weights = kernel[..., at]
        total = total + (weights * columns if weights.shape[1:] == (1, 1) else weights @ columns)
    y: Array = total.reshape(shape)
    return y if bias is None else y + bias.astype(x.dtype).reshape(-1, *[1] * len(window))


def _pooling(given: Settings, x: Array) -> Array:
    window = given["window_size_nd"]
    parts = _windows(_padded(x, given, -np.inf), window, given["stride_nd"], [1] * len(window))
    y: Array = np.maximum.reduce(list(parts))
    return y


def _matrix_multiply(given: Settings, a: Array, b: Array) -> Array:
    a = a.swapaxes(-1, -2) if given["op0"] == "TRANSPOSE" else a
    b = b.swapaxes(-1, -2) if given["op1"] == "TRANSPOSE" else b
    return a @ b


def _shuffle(given: Settings, x: Array, sizes: Array | None = None) -> Array:
    """Transpose, reshape, transpose. A size of 0 keeps that of the input where `zero_is_placeholder`."""
    y = np.transpose(x, given["first_transpose"][: x.ndim])
    wanted: list[int] | None = given["reshape_dims"] if sizes is None else sizes.tolist()
    if wanted is not None:
        keep = given["zero_is_placeholder"]
        y = y.reshape([y.shape[at] if keep and size == 0 else size for at, size in enumerate(wanted)])
    return np.transpose(y, given["second_transpose"][: y.ndim])


def _slice(given: Settings, x: Array) -> Array:
    """Along each axis `shape` values from `start` on, in steps of `stride`."""
    sizes = zip(given["start"], given["shape"], given["stride"], strict=True)
    for axis, (first, size, step) in enumerate(sizes):
        x = np.take(x, first + step * np.arange(size), axis)
    return x


def _softmax(given: Settings, x: Array) -> Array:
    axes = _axes(given["axes"])
    y = np.exp(x - x.max(axes, keepdims=True))
    shares: Array = y / y.sum(axes, keepdims=True)
    return shares


def _resize(given: Settings, x: Array) -> Array:
    """The value at floor(index / scale)."""
    for axis, scale in enumerate(given["scales"]):
        places = np.arange(int(x.shape[axis] * scale)) / scale
        x = np.take(x, places.astype(int), axis)
    return x


def _along(axis: int, number: Array, x: Array) -> Array:
    """One number, or one for each place of an axis, to be multiplied with x."""
    return number if number.size == 1 else number.reshape([-1 if at == axis else 1 for at in range(x.ndim)])


def _quantize(given: Settings, x: Array, scale: Array, zero: Array) -> Array:
    """Round half to even; values beyond int8 become its limits."""
    axis = given["axis"]
    y: Array = np.rint(x / _along(axis, scale, x)) + _along(axis, zero, x)
    return y.clip(-128, 127)


def _dequantize(given: Settings, x: Array, scale: Array, zero: Array) -> Array:
    axis = given["axis"]
    y: Array = (x.astype(scale.dtype) - _along(axis, zero, x)) * _along(axis, scale, x)
    return y


def _plugin(given: Settings, x: Array, *others: Array) -> Array:
    """Our operators, in float64 whatever the type of x. others : scale, bias, residual."""
    op = OPS[given["plugin"]]
    y = reference(as_maps(x), given["e_lambda"])
    if op.affine:
        scale, bias, *residual = others
        y = apply_epilogue(y, scale, bias, *map(as_maps, residual), activation=op.activation)
    return y.reshape(x.shape)


_IN_WINDOWS = ("pre_padding", "post_padding", "stride_nd", "padding_mode")
_EXPLICIT = {"padding_mode": ("EXPLICIT_ROUND_DOWN",)}
KINDS = {
    "ACTIVATION": Kind(_activation, ("type", "alpha", "beta"), {"type": ACTIVATIONS}),
    "CAST": Kind(lambda _, x: x),
    "CONCATENATION": Kind(lambda given, *parts: np.concatenate(parts, given["axis"]), ("axis",)),
    "CONSTANT": Kind(lambda given: given["weights"].reshape(given["shape"]), ("weights", "shape")),
    "CONVOLUTION": Kind(
        _convolution,
        ("kernel", "bias", "num_groups", "num_output_maps", "kernel_size_nd", "dilation_nd", *_IN_WINDOWS),
        _EXPLICIT,
    ),
    "DEQUANTIZE": Kind(_dequantize, ("axis",)),
    "ELEMENTWISE": Kind(_elementwise, ("op",), {"op": ELEMENTWISE}),
    "GATHER": Kind(
        lambda given, x, places: np.take(x, places, given["axis"]),
        ("axis", "mode", "num_elementwise_dims"),
        {"mode": ("DEFAULT",), "num_elementwise_dims": (0,)},
    ),
    "IDENTITY": Kind(lambda _, x: x),
    "MATRIX_MULTIPLY": Kind(_matrix_multiply, ("op0", "op1"), dict.fromkeys(("op0", "op1"), ("NONE", "TRANSPOSE"))),
    "NORMALIZATION": Kind(_normalization, ("axes", "epsilon", "num_groups"), {"num_groups": (1,)}),
    "PLUGIN_V3": Kind(_plugin, ("plugin", "e_lambda", "x_scale"), {"plugin": OPS, "x_scale": (None,)}),
    "POOLING": Kind(_pooling, ("type", "window_size_nd", *_IN_WINDOWS), {"type": ("MAX",), **_EXPLICIT}),
    "QUANTIZE": Kind(_quantize, ("axis", "to_type"), {"to_type": ("INT8",)}),
    "REDUCE": Kind(_reduce, ("op", "axes", "keep_dims"), {"op": REDUCTIONS}),
    "RESIZE": Kind(
        _resize,
        ("scales", "shape", "num_inputs", "resize_mode", "coordinate_transformation", "nearest_rounding"),
        {
            "shape": (None,),
            "num_inputs": (1,),
            "resize_mode": ("NEAREST",),
            "coordinate_transformation": ("ASYMMETRIC",),
            "nearest_rounding": ("FLOOR",),
        },
    ),
    "SCALE": Kind(
        _scale,
        ("mode", "scale", "shift", "power", "channel_axis"),
        {"mode": ("UNIFORM", "CHANNEL")},
    ),
    "SHAPE": Kind(lambda _, x: np.array(x.shape, np.int64)),
    "SHUFFLE": Kind(_shuffle, ("first_transpose", "reshape_dims", "second_transpose", "zero_is_placeholder")),
    "SLICE": Kind(
        _slice,
        ("start", "shape", "stride", "axes", "num_inputs", "mode"),
        {"axes": (None,), "num_inputs": (1,), "mode": ("STRICT_BOUNDS",)},
    ),
    "SOFTMAX": Kind(_softmax, ("axes",)),
    "SQUEEZE": Kind(lambda _, x, axes: np.squeeze(x, tuple(axes.tolist()))),
    "UNSQUEEZE": Kind(lambda _, x, axes: np.expand_dims(x, tuple(axes.tolist()))),
}
"""Layers of the networks in export_models, in every form and precision, and before `fuse`; and two of YOLOs."""
