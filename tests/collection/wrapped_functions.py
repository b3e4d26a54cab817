"""SimAM in model-local functions, as exporters that keep modules write them."""

from __future__ import annotations

import onnx

from collection.wrapped import BOTH, DYNAMIC, chain, function, text, wrap

RELU = "x = Relu (x0)\n"
OUT = "out = Relu (y)"


@wrap("true", (1e-4,), posts=("inlined",))
def function_is_simam() -> onnx.ModelProto:
    """A function that is exactly SimAM; M - 1 is a constant in it."""
    return text(RELU + "y = local.Attention (x)\n" + OUT, function("Attention", chain()))


@wrap("true", (1e-4,), BOTH)
def function_measures_x() -> onnx.ModelProto:
    return text(RELU + "y = local.Attention (x)\n" + OUT, function("Attention", chain(n="")), kind=DYNAMIC)


@wrap("true", (1e-4, 0.1), BOTH, posts=("inlined",))
def lambda_is_an_attribute() -> onnx.ModelProto:
    """One body, two calls, two λ."""
    body = chain(n="").replace("<value_float: float = 0.0001>", "<value_float: float = @lam>")
    calls = """a = local.Attention <lam: float = 0.0001> (x)
    b = Relu (a)
    y = local.Attention <lam: float = 0.1> (b)
    """
    return text(RELU + calls + OUT, function("Attention", body, attributes="<lam>"), kind=DYNAMIC)


@wrap("true", (1e-4, 1e-4), BOTH)
def called_twice() -> onnx.ModelProto:
    calls = "a = local.Attention (x)\nb = Neg (a)\ny = local.Attention (b)\n"
    return text(RELU + calls + OUT, function("Attention", chain(n="")), kind=DYNAMIC)


@wrap("true", (1e-4,))
def called_at_one_right_size() -> onnx.ModelProto:
    """M - 1 is a constant of the body: one call is on maps of that size, one is not."""
    calls = "p = MaxPool <kernel_shape: ints = [1, 1], strides: ints = [2, 2]> (x)\nq = local.Attention (p)\n"
    calls += "y = local.Attention (x)\nr = ReduceMean <keepdims: int = 1> (q)\n"
    return text(RELU + calls + "out = Add (y, r)", function("Attention", chain()))


@wrap("true", (1e-4,), BOTH)
def function_is_layer_and_simam() -> onnx.ModelProto:
    body = "x = Relu (image)\n" + chain(n="")
    return text("y = local.Layer (x0)\n" + OUT, function("Layer", body, "image"), kind=DYNAMIC)


@wrap("true", (1e-4,), BOTH)
def function_with_a_weight() -> onnx.ModelProto:
    body = "x = Conv <kernel_shape: ints = [1, 1]> (image, w)\n" + chain(n="")
    return text("y = local.Layer (x0, weight)\n" + OUT, function("Layer", body, "image, w"), kind=DYNAMIC)


@wrap("true", (1e-4,), BOTH)
def function_in_function() -> onnx.ModelProto:
    outer = function("Layer", "a = Relu (image)\nb = local.Attention (a)\ny = Neg (b)", "image")
    return text("y = local.Layer (x0)\n" + OUT, outer, function("Attention", chain(n="")), kind=DYNAMIC)


@wrap("true", (1e-4,), BOTH)
def lambda_through_two_functions() -> onnx.ModelProto:
    body = chain(n="").replace("<value_float: float = 0.0001>", "<value_float: float = @lam>")
    outer = function("Layer", "a = Relu (image)\ny = local.Attention <lam: float = @eps> (a)", "image", "y", "<eps>")
    call = "y = local.Layer <eps: float = 0.0001> (x0)\n"
    return text(call + OUT, outer, function("Attention", body, attributes="<lam>"), kind=DYNAMIC)


@wrap("true", (1e-4,))
def n_is_an_input() -> onnx.ModelProto:
    """H*W - 1 is handed in, as old exporters do with what they fold."""
    body = chain().replace("n = Constant <value_float: float = 107.0> ()", "")
    call = "m_1 = Constant <value_float: float = 107.0> ()\ny = local.Attention (x, m_1)\n"
    return text(RELU + call + OUT, function("Attention", body, "x, n"))


@wrap("true", (1e-4,))
def statistics_are_a_function() -> onnx.ModelProto:
    """v and d come from a function, the rest is in the graph."""
    lines = chain().split("t = Add", 1)
    constants, operators = lines[0].split("mean = ", 1)
    inner = "axes = Constant <value_ints: ints = [2, 3]> ()\nn = Constant <value_float: float = 107.0> ()\nmean = "
    call = "d, v = local.Statistics (x)\n"
    return text(RELU + constants + call + "t = Add" + lines[1] + OUT,
                function("Statistics", inner + operators, "x", "d, v"))  # fmt: skip


@wrap("true", (1e-4,))
def gate_is_a_function() -> onnx.ModelProto:
    body = chain().rsplit("y = Mul", 1)[0]
    return text(RELU + "g = local.Gate (x)\ny = Mul (x, g)\n" + OUT, function("Gate", body, "x", "g"))


@wrap("true", (1e-4,))
def activation_is_a_function() -> onnx.ModelProto:
    """Only the sigmoid is one, of standard operators."""
    sigmoid = "a = Neg (z)\nb = Exp (a)\none = Constant <value_float: float = 1.0> ()\nc = Add (one, b)\n"
    sigmoid += "s = Reciprocal (c)"
    body = chain().replace("g = Sigmoid (z)", "g = local.Logistic (z)")
    return text(RELU + body + OUT, function("Logistic", sigmoid, "z", "s"))


@wrap("shared", (1e-4,))
def function_with_the_gate_as_second_output() -> onnx.ModelProto:
    body = "y, g = local.Attention (x)\n"
    return text(RELU + body + OUT, function("Attention", chain(), "x", "y, g"), outputs="out g")


@wrap("miss", ())
def function_of_population_variance() -> onnx.ModelProto:
    body = function("SimAM", chain(n="108.0"))
    return text(RELU + "y = local.SimAM (x)\n" + OUT, body)


@wrap("miss", ())
def function_by_name_alone() -> onnx.ModelProto:
    """Its name says SimAM, its body SiLU."""
    return text(RELU + "y = local.SimAM (x)\n" + OUT, function("SimAM", "g = Sigmoid (x)\ny = Mul (x, g)"))


@wrap("miss", ())
def gate_function_of_another() -> onnx.ModelProto:
    body = chain().rsplit("y = Mul", 1)[0]
    call = "other = Sin (x)\ng = local.Gate (other)\ny = Mul (x, g)\n"
    return text(RELU + call + OUT, function("Gate", body, "x", "g"))


@wrap("miss", ())
def lambda_zero_by_attribute() -> onnx.ModelProto:
    body = chain().replace("<value_float: float = 0.0001>", "<value_float: float = @lam>")
    call = "y = local.Attention <lam: float = 0.0> (x)\n"
    return text(RELU + call + OUT, function("Attention", body, attributes="<lam>"))
