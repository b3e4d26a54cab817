"""Small float32 networks for the quantiser, and samples for them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from helpers.graphs import BODY, parse
from simam_deploy.compare.inputs import specs
from simam_deploy.formula import Array
from simam_deploy.precision.samples import Samples

NET = """g (float[N,3,8,8] x) => (float[N,5] y) {
    [conv1] a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    [simam] s = simam.SimAM <e_lambda: float = 0.0001> (a)
    [bn] n = BatchNormalization (s, gamma, beta, mu, var)
    [relu] r = Relu (n)
    [conv2] c = Conv <pads = [1, 1, 1, 1]> (r, w2)
    [pool] p = GlobalAveragePool (c)
    [flat] f = Flatten (p)
    [fc] y = Gemm <transB = 1> (f, w3, b3)
}"""
"""x : (N, 3, 8, 8) to y : (N, 5)."""


def weights(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    made = {
        "w1": 0.3 * rng.standard_normal((6, 3, 3, 3)),
        "b1": 0.1 * rng.standard_normal(6),
        "gamma": rng.uniform(0.5, 1.5, 6),
        "beta": 0.1 * rng.standard_normal(6),
        "mu": 0.1 * rng.standard_normal(6),
        "var": rng.uniform(0.5, 1.5, 6),
        "w2": 0.2 * rng.standard_normal((4, 6, 3, 3)),
        "w3": rng.standard_normal((5, 4)),
        "b3": 0.1 * rng.standard_normal(5),
    }
    return {name: array.astype(np.float32) for name, array in made.items()}


def net(graph: str = NET, *functions: str, given: dict[str, Array] | None = None, opset: int = 18) -> onnx.ModelProto:
    """`graph` with its weights. given : in place of those of the same name."""
    model = parse(graph, *(functions or (BODY,)), opset=opset)
    used = {name for node in model.graph.node for name in node.input}
    for name, array in (weights() | (given or {})).items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def images(count: int = 16, seed: int = 1, shape: tuple[int, ...] = (3, 8, 8)) -> Array:
    """Bright and dark planes with noise, so that outputs differ from sample to sample."""
    rng = np.random.default_rng(seed)
    return (rng.random((count, shape[0], 1, 1)) * rng.random((count, *shape))).astype(np.float32)


def saved(folder: Path, model: onnx.ModelProto, x: Array | None = None) -> tuple[Path, Samples]:
    """The file, and samples for it."""
    path = folder / "net.onnx"
    onnx.save(model, path)
    taken = specs(path)
    return path, Samples({taken[0].name: images() if x is None else x}, taken)


UNEQUAL = """g (float[N,8,32,32] x) => (float[N,8,32,32] y) {
    [spread] a = Conv <group = 8> (x, scales)
    [simam] y = simam.SimAM <e_lambda: float = 0.0001> (a)
}"""


def unequal_planes(folder: Path) -> tuple[Path, Samples]:
    """SimAM on 8 planes with standard deviations from 0.1 to 10."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 8, 32, 32)).astype(np.float32)
    scales = np.logspace(-1, 1, 8).astype(np.float32).reshape(8, 1, 1, 1)
    return saved(folder, net(UNEQUAL, given={"scales": scales}), x)
