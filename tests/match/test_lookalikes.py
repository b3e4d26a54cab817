"""What is SimAM where few look: at other sizes, in other channels, for other values, with other types.

Each has a control beside it that is SimAM, and differs from that by one line.
"""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from simam_deploy.match.find import find

SIZES = """sh = Shape (x)
  hw = Gather (sh, i23)
  mi = ReduceProd <keepdims = 0> (hw)
  nf = Cast <to = 1> (mi)
  n = Sub (nf, one)"""
STATISTICS = """mu = ReduceMean <axes = [2, 3]> (x)
  c = Sub (x, mu)
  d = Mul (c, c)
  s = ReduceSum (d, i23)
  v = Div (s, n)
  t = Add (v, lam)
  q = Mul (t, four)"""
GATE = """e = Div (d, q)
  z = Add (e, half)
  g = Sigmoid (z)
  y = Mul (x, g)"""
CONTROL = f"{SIZES}\n  {STATISTICS}\n  {GATE}"
WEIGHTS = ", ".join(["1"] * 16 + ["100"] * 48)


def model(
    body: str, shape: str, constants: str = "", inputs: str = "", y: str = "", version: int = 9
) -> onnx.ModelProto:
    text = f"""<ir_version: {version}, opset_import: ["" : 17]>
    net (float[{shape}] x{inputs}) => ({y or f"float[{shape}] y"})
    <float one = {{1.0}}, float four = {{4.0}}, float half = {{0.5}}, float lam = {{0.0001}}, int64[2] i23 = {{2, 3}}
    {constants}> {{ {body} }}"""
    proto = parser.parse_model(text)
    if version > 3:
        onnx.checker.check_model(proto)
    return proto


def gather(axis: int, condition: str) -> tuple[str, str]:
    """λ = 1 where an axis of x is as the condition says."""
    lam = f"at = Gather (sh, k)\n  is = {condition} (at, most)\n  lam2 = Where (is, one, lam)\n  t = Add (v, lam2)"
    return "t = Add (v, lam)", lam


CASES = {
    # name: (line of the control, what stands there, constants, shape, shape of an x for which it is not SimAM)
    "n up to 10000": (
        "n = Sub (nf, one)",
        "n0 = Sub (nf, one)\n n = Min (n0, cap)",
        ", float cap = {10000}",
        "N, C, H, W",
        (1, 2, 150, 150),
    ),
    "n in 16 bits": (
        "nf = Cast <to = 1> (mi)",
        "ni = Cast <to = 5> (mi)\n nf = Cast <to = 1> (ni)",
        "",
        "N, C, H, W",
        (1, 2, 200, 200),
    ),
    "n through float16": (
        "nf = Cast <to = 1> (mi)",
        "nh = Cast <to = 10> (mi)\n nf = Cast <to = 1> (nh)",
        "",
        "N, C, H, W",
        (1, 2, 260, 260),
    ),
    "more than 8 images": (*gather(0, "Greater"), ", int64 k = {0}, int64 most = {8}", "N, C, H, W", (9, 3, 6, 6)),
    "64 channels": (*gather(1, "Equal"), ", int64 k = {1}, int64 most = {64}", "2, 64, 8, 8", (2, 64, 8, 8)),
    "8 images": (*gather(0, "Equal"), ", int64 k = {0}, int64 most = {8}", "8, 3, 8, 8", (8, 3, 8, 8)),
    "a λ for each of so many channels": (
        "t = Add (v, lam)",
        "nc = Gather (sh, i1)\n w0 = Slice (w, i0, nc)\n w1 = Unsqueeze (w0, i12)\n"
        " wl = Mul (lam, w1)\n t = Add (v, wl)",
        f", int64[1] i0 = {{0}}, int64[1] i1 = {{1}}, int64[2] i12 = {{1, 2}}, float[64] w = {{{WEIGHTS}}}",
        "N, 64, H, W",
        (2, 64, 8, 8),
    ),
    "H in threes": (
        "mi = ReduceProd <keepdims = 0> (hw)",
        "h = Gather (sh, k2)\n wd = Gather (sh, k3)\n h3 = Div (h, k3)\n h4 = Mul (h3, k3)\n mi = Mul (h4, wd)",
        ", int64 k2 = {2}, int64 k3 = {3}",
        "N, C, H, W",
        (2, 3, 7, 6),
    ),
    "the variance has a floor": (
        "v = Div (s, n)",
        "v0 = Div (s, n)\n v = Max (v0, low)",
        ", float low = {0.000005}",
        "N, C, H, W",
        (2, 3, 6, 6),
    ),
    "another λ for a faint plane": (
        "t = Add (v, lam)",
        "faint = Less (v, low)\n l2 = Where (faint, big, lam)\n t = Add (v, l2)",
        ", float low = {0.00001}, float big = {0.01}",
        "N, C, H, W",
        (2, 3, 6, 6),
    ),
    "rounded like a float16": (
        "g = Sigmoid (z)",
        "g0 = Sigmoid (z)\n kind = Cast <to = 10> (one)\n g1 = CastLike (g0, kind)\n g = CastLike (g1, one)",
        "",
        "N, C, H, W",
        (2, 3, 6, 6),
    ),
    "a number for each row": (
        "t = Add (v, lam)",
        "hi = Gather (sh, k2)\n r = Range (k0, hi, k1)\n rf = Cast <to = 1> (r)\n ru = Unsqueeze (rf, k1a)\n"
        " rl = Mul (ru, tiny)\n r1 = Add (rl, lam)\n t = Add (v, r1)",
        ", int64 k2 = {2}, int64 k0 = {0}, int64 k1 = {1}, int64[1] k1a = {1}, float tiny = {0.000001}",
        "N, C, H, W",
        (1, 2, 80, 4),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_sizes_channels_and_values(name: str) -> None:
    line, other, constants, shape, at = CASES[name]
    assert line in CONTROL
    assert len(find(ir.from_proto(model(CONTROL, shape, constants))).blocks) == 1, "the control is SimAM"
    alike = model(CONTROL.replace(line, other), shape, constants)
    found = find(ir.from_proto(alike))
    assert not found.blocks
    assert found.near_misses
    # and it is none: somewhere it differs from the control
    x = np.random.default_rng(0).standard_normal(at).astype(np.float32)
    outputs = [
        [
            onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
                None, {"x": s * x}
            )[0]
            for s in (1, 2e-3)
        ]
        for m in (alike, model(CONTROL, shape, constants))
    ]
    assert not np.allclose(*outputs, rtol=1e-5, atol=0)


@pytest.mark.parametrize("batch", ["2", "N"])
def test_statistics_of_the_batch_on_a_large_map(batch: str) -> None:
    """Few planes are run at this size; two images must be among them."""
    body = CONTROL.replace("[2, 3]", "[0, 2, 3]").replace("i23)", "i023)").replace("(sh, i023)", "(sh, i23)")
    body = body.replace("mi = ReduceProd <keepdims = 0> (hw)", "mi = Identity (size)")
    constants = ", int64[3] i023 = {0, 2, 3}, int64 size = {262144}"
    (miss,) = find(ir.from_proto(model(body, f"{batch}, 3, 512, 512", constants))).near_misses
    assert "over H and W alone" in str(miss)


def test_a_default_that_callers_may_replace() -> None:
    body = CONTROL.replace("(v, lam)", "(v, l2)")
    given = {"constants": ", float l2 = {0.0001}", "inputs": ", float l2", "shape": "N, C, H, W"}
    (block,) = find(ir.from_proto(model(body, **given))).blocks
    assert block.defaults == ("l2",), "it is SimAM as long as they do not"
    (block,) = find(ir.from_proto(model(body, **given, version=3))).blocks
    assert block.defaults == (), "before IR 4 every initialiser was an input, and none could be replaced"


@pytest.mark.parametrize("kind", ["double", "float16"])
def test_two_types(kind: str) -> None:
    """x.double() * gate(x.double()): y has another type than x."""
    code = {"double": 11, "float16": 10}[kind]
    body = f"a = Cast <to = {code}> (x)\n b = Cast <to = {code}> (x)\n"
    body += CONTROL.replace("(x)", "(a)").replace("(x,", "(a,").replace("Mul (a, g)", "Mul (b, g)")
    body = body.replace("Cast <to = 1>", f"Cast <to = {code}>")
    for name in ("one", "four", "half", "lam"):
        body = body.replace(f", {name})", f", {name}_)")
    casts = "".join(f"{n}_ = Cast <to = {code}> ({n})\n" for n in ("one", "four", "half", "lam"))
    body = casts + body.replace("a = Cast <to = 1", "a = Cast <to = 1").replace(
        "Cast <to = 11> (a)", "Cast <to = 11> (x)"
    )
    body = body.replace(f"a = Cast <to = {code}> (a)", f"a = Cast <to = {code}> (x)").replace(
        f"b = Cast <to = {code}> (a)", f"b = Cast <to = {code}> (x)"
    )
    (miss,) = find(ir.from_proto(model(body, "2, 3, 6, 6", y=f"{kind}[2, 3, 6, 6] y"))).near_misses
    assert "x and y have two types" in str(miss)


def test_n_of_another_input() -> None:
    body = CONTROL.replace("Shape (x)", "Shape (other)")
    inputs = ", float[N, 3, H2, W2] other"
    assert not find(ir.from_proto(model(body, "N, 3, H, W", inputs=inputs))).blocks
    assert find(ir.from_proto(model(body, "N, 3, H, W", inputs=inputs.replace("2", "")))).blocks, "the same H and W"


def test_a_rank_that_the_file_does_not_tell() -> None:
    """Axes -2 and -1 of a video (N, C, T, H, W) are not SimAM's."""
    body = "x = Reshape (image, shape)\n" + CONTROL.replace("i23", "last").replace("[2, 3]", "[-2, -1]")
    text = f"""<ir_version: 9, opset_import: ["" : 17]>
    net (float[M] image, int64[K] shape) => (float out)
    <float one = {{1.0}}, float four = {{4.0}}, float half = {{0.5}}, float lam = {{0.0001}},
    int64[2] last = {{-2, -1}}, int64[2] end = {{-2, -1}}, float[1, 2, 1, 1] kernel = {{1, 1}}>
    {{ {body}\n out = END }}"""
    text = text.replace("Gather (sh, last)", "Gather (sh, end)")
    for end, found in (("Relu (y)", 0), ("Conv (y, kernel)", 1)):
        searched = find(ir.from_proto(parser.parse_model(text.replace("END", end))))
        assert len(searched.blocks) == found
        assert found or "does not tell how many axes x has" in str(searched.near_misses[0])
