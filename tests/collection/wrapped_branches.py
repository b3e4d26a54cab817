"""SimAM inside If and Loop, and beside users of its inner values."""

from __future__ import annotations

import onnx

from collection.wrapped import BOTH, DYNAMIC, chain, text, wrap

FLAG = ", bool flag"
BRANCH = "float[d0,d1,d2,d3]"


def _if(then: str, other: str, result: str = "y", made: str = "yes_y", else_made: str = "no_y") -> str:
    return f"""{result} = If (flag) <
        then_branch: graph = then_{result} () => ({BRANCH} {made}) {{
            {then}
        }},
        else_branch: graph = else_{result} () => ({BRANCH} {else_made}) {{
            {other}
        }}>
        """


RELU = "x = Relu (x0)\n"
OUT = "out = Relu (y)"


@wrap("true", (1e-4,), posts=("slimmed", "simplified", "ort_basic", "without_names"))
def plain_chain() -> onnx.ModelProto:
    """The control: no wrapping."""
    return text(RELU + chain() + OUT)


@wrap("true", (1e-4,))
def if_x_from_outside() -> onnx.ModelProto:
    return text(RELU + _if(chain("x", "yes_y"), "no_y = Relu (x)") + OUT, inputs=FLAG)


@wrap("true", (1e-4,), BOTH)
def if_x_from_outside_dynamic() -> onnx.ModelProto:
    return text(RELU + _if(chain("x", "yes_y", n=""), "no_y = Relu (x)") + OUT, inputs=FLAG, kind=DYNAMIC)


@wrap("true", (1e-4,))
def if_x_made_inside() -> onnx.ModelProto:
    return text(_if("x = Relu (x0)\n" + chain("x", "yes_y"), "no_y = Relu (x0)") + "out = Relu (y)", inputs=FLAG)


@wrap("true", (1e-4, 0.1))
def if_in_both_branches() -> onnx.ModelProto:
    then, other = chain("x", "yes_y", p="a"), chain("x", "no_y", p="b", lam="0.1")
    return text(RELU + _if(then, other) + OUT, inputs=FLAG)


@wrap("true", (1e-4, 1e-4))
def if_in_both_branches_with_equal_names() -> onnx.ModelProto:
    """Graphs beside each other may use one name."""
    return text(RELU + _if(chain("x", "yes_y"), chain("x", "no_y")) + OUT, inputs=FLAG)


@wrap("true", (1e-4,))
def if_constants_from_outside() -> onnx.ModelProto:
    constants, operators = chain("x", "yes_y").split("mean = ", 1)
    return text(RELU + constants + _if("mean = " + operators, "no_y = Relu (x)") + OUT, inputs=FLAG)


@wrap("shared", (1e-4,))
def if_mean_from_outside() -> onnx.ModelProto:
    """The mean is computed outside, as both branches use it."""
    lines = chain("x", "yes_y").split("c = Sub", 1)
    other = "no_y = Sub (x, mean)"
    return text(RELU + lines[0] + _if("c = Sub" + lines[1], other) + OUT, inputs=FLAG)


@wrap("true", (1e-4,))
def if_in_if() -> onnx.ModelProto:
    inner = _if(chain("x", "yes_y"), "no_y = Relu (x)", "ti") + "tt = Neg (ti)"
    return text(RELU + _if(inner, "oo = Neg (x)", "y", "tt", "oo") + OUT, inputs=FLAG)


@wrap("true", (1e-4,))
def block_behind_an_if() -> onnx.ModelProto:
    return text(_if("yes_y = Relu (x0)", "no_y = Neg (x0)", "x") + chain() + OUT, inputs=FLAG)


@wrap("miss", ())
def if_population_variance() -> onnx.ModelProto:
    return text(RELU + _if(chain("x", "yes_y", n="108.0"), "no_y = Relu (x)") + OUT, inputs=FLAG)


@wrap("miss", ())
def if_gate_in_a_branch() -> onnx.ModelProto:
    """Whether it is SimAM depends on the flag."""
    body = chain("x", "y").split("g = Sigmoid", 1)
    return text(
        RELU + body[0] + _if("yes_y = Sigmoid (z)", "no_y = Tanh (z)", "g") + "y = Mul (x, g)\n" + OUT, inputs=FLAG
    )


def _loop(body: str) -> str:
    return f"""trips = Constant <value_int: int = 2> ()
        yes = Constant <value = bool {{1}}> ()
        y = Loop (trips, yes, x) <body: graph = body (int64 i, bool go, {BRANCH} a) => (bool on, {BRANCH} b) {{
            on = Identity (go)
            {body}
        }}>
        """


@wrap("stuck", (1e-4,))
def loop_carried() -> onnx.ModelProto:
    """SimAM of what the loop made before. A loop may change shapes, so nothing but a run tells that M is 108."""
    return text(RELU + _loop(chain("a", "b")) + OUT)


@wrap("true", (1e-4,), BOTH)
def loop_carried_dynamic() -> onnx.ModelProto:
    return text(RELU + _loop(chain("a", "b", n="")) + OUT, kind=DYNAMIC)


@wrap("true", (1e-4,))
def loop_of_outer_x() -> onnx.ModelProto:
    return text(RELU + _loop(chain("x", "s0", p="p") + "b = Add (a, s0)") + OUT)


@wrap("miss", ())
def loop_x_of_the_iteration() -> onnx.ModelProto:
    """The gate is of the outer x, the product of what the loop carries."""
    return text(RELU + _loop(chain("x", "unused").replace("unused = Mul (x, g)", "b = Mul (a, g)")) + OUT)


@wrap("shared", (1e-4,))
def mean_used_by_squeeze() -> onnx.ModelProto:
    return text(RELU + chain() + "w = Sigmoid (mean)\nout = Mul (y, w)")


@wrap("shared", (1e-4,))
def gate_is_an_output() -> onnx.ModelProto:
    return text(RELU + chain() + OUT, outputs="out g")


@wrap("shared", (1e-4,))
def variance_is_an_output() -> onnx.ModelProto:
    return text(RELU + chain() + OUT, outputs="out v")


@wrap("shared", (1e-4,))
def squares_used_behind() -> onnx.ModelProto:
    return text(RELU + chain() + "out = Add (y, d)")


@wrap("shared", (1e-4,))
def z_used_before_the_sigmoid() -> onnx.ModelProto:
    return text(RELU + chain() + "th = Tanh (z)\nout = Mul (y, th)")


@wrap("shared", (1e-4, 0.1))
def two_lambdas_share_squares() -> onnx.ModelProto:
    second = chain("x", "y2", p="b", lam="0.1").split("bt = Add", 1)
    constants = second[0].split("bmean =", 1)[0]
    return text(RELU + chain() + constants + "bt = Add" + second[1].replace("bd,", "d,").replace("(bv,", "(v,")
                .replace("bt = Add (bv", "bt = Add (v") + "out = Add (y, y2)")  # fmt: skip


@wrap("shared", (1e-4,))
def gate_used_on_another() -> onnx.ModelProto:
    """The gate of x multiplies x, which is SimAM, and -x, which is not."""
    return text(RELU + chain() + "other = Neg (x)\nmiss = Mul (other, g)\nout = Add (y, miss)")


@wrap("true", (1e-4, 1e-4))
def the_same_twice() -> onnx.ModelProto:
    """y = x g and y2 = g x: two products of one gate."""
    return text(RELU + chain() + "y2 = Mul (g, x)\nout = Add (y, y2)")


@wrap("true", (1e-4,))
def y_is_the_output_twice_used() -> onnx.ModelProto:
    return text(RELU + chain() + "out = Relu (y)", outputs="out y")


@wrap("true", (1e-4,), BOTH)
def dynamic_chain() -> onnx.ModelProto:
    return text(RELU + chain(n="") + OUT, kind=DYNAMIC)


@wrap("frozen", (1e-4,), BOTH[:1])
def frozen_chain() -> onnx.ModelProto:
    return text(RELU + chain() + OUT, kind=DYNAMIC)
