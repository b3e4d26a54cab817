"""Networks with something behind SimAM, and how they are run."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from helpers.onnx_models import model
from simam_deploy.formula import (
    OP_DOMAIN,
    Float64,
)
from simam_deploy.graph import onnx_file
from simam_deploy.runtimes import open_session

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(np.float32)

BEFORE = "x = Relu (image)\n r = Neg (image)"

WEIGHTS = """float[3] gamma = {0.5, -2, 1.25}, float[3] beta = {0.1, 0.2, -3}, float[3] mu = {0.3, -0.1, 1},
    float[3] var = {1, 0.01, 5}, float[3,1,1] k = {1.5, -0.5, 2}, float[1,3,1,1] b = {0.1, 2, -0.3},
    float f = {0.7}, float tiny = {1e-21}, float[1,1,1,1] g1 = {-1.3}, float[3] zero = {0, 0, 0},
    float[7] row = {1, 2, 3, 4, 5, 6, 7},
    float[1,3,5,7] whole = {"""

WEIGHTS += ", ".join(map(str, range(105))) + "},"

BN = "BatchNormalization (y, gamma, beta, mu, var)"

FOLDS = {
    "bn": (f"out = {BN}", "SimAMAffine"),
    "bn with an epsilon": (BN.join(["out = ", ""]).replace("(y", "<epsilon: float = 0.5> (y"), "SimAMAffine"),
    "bn relu": (f"a = {BN}\n out = Relu (a)", "SimAMAffineRelu"),
    "bn silu": (f"a = {BN}\n s_ = Sigmoid (a)\n out = Mul (s_, a)", "SimAMAffineSilu"),
    "bn add": (f"a = {BN}\n out = Add (a, r)", "SimAMAffineAdd"),
    "bn add, the other way round": (f"a = {BN}\n out = Add (r, a)", "SimAMAffineAdd"),
    "bn add relu": (f"a = {BN}\n p = Add (r, a)\n out = Relu (p)", "SimAMAffineAddRelu"),
    "bn add silu": (f"a = {BN}\n p = Add (a, r)\n s_ = Sigmoid (p)\n out = Mul (p, s_)", "SimAMAffineAddSilu"),
    "add": ("out = Add (y, r)", "SimAMAffineAdd"),
    "add x": ("out = Add (y, x)", "SimAMAffineAdd"),
    "add relu": ("p = Add (r, y)\n out = Relu (p)", "SimAMAffineAddRelu"),
    "relu": ("out = Relu (y)", "SimAMAffineRelu"),
    "mul": ("out = Mul (k, y)", "SimAMAffine"),
    "mul by a number": ("out = Mul (y, f)", "SimAMAffine"),
    "mul add": ("a = Mul (y, k)\n out = Add (b, a)", "SimAMAffine"),
    "add mul": ("a = Add (y, b)\n out = Mul (a, g1)", "SimAMAffine"),
    "sub div": ("a = Sub (y, b)\n out = Div (a, k)", "SimAMAffine"),
    "constant minus": ("out = Sub (b, y)", "SimAMAffine"),
    "all": (f"a = {BN}\n i = Mul (a, k)\n j = Add (i, f)\n p = Add (r, j)\n out = Relu (p)", "SimAMAffineAddRelu"),
    "no-ops between": (f"i = Identity (y)\n a = {BN.replace('(y', '(i')}\n out = Dropout (a)", "SimAMAffine"),
    "as far as it goes": (f"a = {BN}\n h = Relu (a)\n out = Sin (h)", "SimAMAffineRelu"),
}  # fmt: skip


def net(after: str, *, before: str = BEFORE, **changes: str) -> ir.Model:
    return model(before=before, after=after, weights=WEIGHTS, lam=0.1, **changes)  # type: ignore[arg-type]


def data(what: ir.Model) -> bytes:
    return ir.to_proto(what).SerializeToString(deterministic=True)


def ops(what: ir.Model) -> list[str]:
    return [node.op_type for node in what.graph if node.domain == OP_DOMAIN]


def run(what: ir.Model, folder: Path, runtime: str, dtype: str | None = None) -> Float64:
    onnx_file.save(what, folder / "run.onnx")
    given = {} if dtype is None else {"dtype": dtype}
    with open_session(folder / "run.onnx", runtime, **given) as session:  # type: ignore[arg-type]
        return session.run({"image": IMAGE})["out"].astype(np.float64)
