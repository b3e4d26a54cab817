"""temporary"""

from __future__ import annotations
import numpy as np, onnx
from onnx import numpy_helper as nh, TensorProto as T

HALF = (T.FLOAT, T.FLOAT16, T.BFLOAT16)


def _t(t):
    if t.data_type in HALF:
        t.CopyFrom(nh.from_array(nh.to_array(t).astype(np.float64), t.name))


def _nodes(nodes):
    for n in nodes:
        for a in n.attribute:
            if a.type == onnx.AttributeProto.TENSOR:
                _t(a.t)
            if a.type == onnx.AttributeProto.GRAPH:
                _g(a.g)
            if n.op_type == "Cast" and a.name == "to" and a.i in HALF:
                a.i = T.DOUBLE
        if n.op_type == "Constant" and n.attribute[0].name == "value_float" and not n.attribute[0].ref_attr_name:
            v = n.attribute[0].f
            del n.attribute[:]
            n.attribute.append(onnx.helper.make_attribute("value", nh.from_array(np.array(v, np.float64))))


def _g(g):
    for t in g.initializer:
        _t(t)
    for v in [*g.input, *g.output, *g.value_info]:
        if v.type.tensor_type.elem_type in HALF:
            v.type.tensor_type.elem_type = T.DOUBLE
    _nodes(g.node)


def widen(m):
    m2 = onnx.ModelProto()
    m2.CopyFrom(m)
    _g(m2.graph)
    for f in m2.functions:
        _nodes(f.node)
        for n in list(f.node):
            if n.op_type == "Constant" and n.attribute[0].ref_attr_name and n.attribute[0].name == "value_float":
                i = list(f.node).index(n)
                o = n.output[0]
                n.output[0] = o + "_f"
                f.node.insert(i + 1, onnx.helper.make_node("Cast", [o + "_f"], [o], to=T.DOUBLE))
    return m2
