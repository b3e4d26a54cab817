"""Networks of two convolutions with SimAM between them, in channels that fill a block of the layout."""

from pathlib import Path

import numpy as np
import onnx
from onnx import parser

from simam_deploy.formula import Array
from simam_deploy.runtimes import open_session

SIMAM = """
    mean{0} = ReduceMean <axes = [2, 3]> ({1})
    c{0} = Sub ({1}, mean{0})
    d{0} = Mul (c{0}, c{0})
    sum{0} = ReduceSum (d{0}, axes)
    v{0} = Div (sum{0}, n)
    e{0} = Add (v{0}, l{3})
    q{0} = Mul (e{0}, four)
    r{0} = Div (d{0}, q{0})
    z{0} = Add (r{0}, half)
    g{0} = Sigmoid (z{0})
    {2} = Mul ({1}, g{0})
"""
"""Of M = 120. {0} : a name, {1} : x, {2} : y, {3} : which λ."""


def network(between: str, channels: int = 32, size: str = "N,3,12,10") -> onnx.ModelProto:
    """conv -> `between`, from a to b -> conv, with constants and a BatchNorm's parameters at hand."""
    rng = np.random.default_rng(channels)
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[{size}] x) => (float[N,4,12,10] y)
    <float n = {{119}}, float l0 = {{0.1}}, float l1 = {{0.001}}, float four = {{4}}, float half = {{0.5}},
     int64[2] axes = {{2, 3}}> {{
        a = Conv <pads = [1, 1, 1, 1]> (x, w0)
        {between}
        y = Conv (b, w1)
    }}"""
    model = parser.parse_model(text)
    weights = {
        "w0": rng.standard_normal((channels, 3, 3, 3)) / 4,
        "w1": rng.standard_normal((4, channels, 1, 1)) / channels,
        "w2": rng.standard_normal((channels, channels, 1, 1)) / channels**0.5,
        "gamma": 1 + 0.3 * rng.standard_normal(channels),
        "beta": rng.standard_normal(channels),
        "mu": rng.standard_normal(channels),
        "var": rng.random(channels) + 0.5,
    }
    for name, value in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return model


BN = "BatchNormalization ({}, gamma, beta, mu, var)"
NETWORKS = {
    "alone": SIMAM.format("", "a", "b", 0),
    "affine": SIMAM.format("", "a", "s", 0) + f"b = {BN.format('s')}\n",
    "affine, relu": SIMAM.format("", "a", "s", 0) + f"t = {BN.format('s')}\n b = Relu (t)\n",
    "residual": "o = Conv (a, w2)\n"
    + SIMAM.format("", "o", "s", 0)
    + f"t = {BN.format('s')}\n u = Add (t, a)\n b = Relu (u)\n",
    "residual first": "o = Conv (a, w2)\n" + SIMAM.format("", "o", "s", 0) + "u = Add (a, s)\n b = Relu (u)\n",
    "two λ of one x": SIMAM.format("0", "a", "s", 0) + SIMAM.format("1", "a", "t", 1) + "b = Add (s, t)\n",
    "equal ones": SIMAM.format("0", "a", "s", 0) + SIMAM.format("1", "a", "t", 0) + "b = Add (s, t)\n",
    "in a row": SIMAM.format("0", "a", "s", 0) + SIMAM.format("1", "s", "b", 1),
}


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "portable.onnx")
    return folder / "portable.onnx"


def outputs(path: Path, batch: int = 2) -> Array:
    with open_session(path, "ort", threads=2) as session:
        x = np.random.default_rng(7).standard_normal((batch, 3, 12, 10)).astype(np.float32)
        return session.run({"x": x})["y"]
