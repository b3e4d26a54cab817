"""Spellings of the chain of onnx_models: replacements of its lines."""

ONE = "one = Constant <value_float = 1.0> ()"

SPELLINGS = {
    "pow": {"d = Mul (c, c)": "two = Constant <value_float = 2.0> ()\n d = Pow (c, two)"},
    "gate first": {"y = Mul (x, g)": "y = Mul (g, x)"},
    "half first": {"z = Add (e, half)": "z = Add (half, e)"},
    "mean of squares": {
        "v = Div (s, n)": f"{ONE}\n m = Add (n, one)\n p = Div (s, m)\n r = Div (m, n)\n v = Mul (p, r)"
    },
    "reciprocal": {"e = Div (d, q)": "r = Reciprocal (q)\n e = Mul (d, r)"},
    "multiplied out": {
        "t = Add (v, lam)": "a = Mul (v, four)\n b = Mul (lam, four)",
        "q = Mul (t, four)": "q = Add (a, b)",
    },
    "exp": {"g = Sigmoid (z)": f"{ONE}\n o = Neg (z)\n f = Exp (o)\n p = Add (f, one)\n g = Reciprocal (p)"},
    "divided": {"g = Sigmoid (z)": f"{ONE}\n o = Neg (z)\n f = Exp (o)\n g = Add (f, one)", "y = Mul": "y = Div"},
    "average pool": {
        "mean = ReduceMean <keepdims: int = 1> (x, hw)": "mean = AveragePool <kernel_shape = [5, 7]> (x)"
    },
    "einsum": {
        "s = ReduceSum <keepdims: int = 1> (d, hw)": 's2 = Einsum <equation = "bchw,bchw->bc"> (c, c)\n'
        " s = Unsqueeze (s2, hw)"
    },
    "1/e*": {
        "e = Div (d, q)": "a = Mul (q, half)\n b = Add (d, a)",
        "z = Add (e, half)": "z = Div (b, q)",
    },
}
