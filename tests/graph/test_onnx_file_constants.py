"""Constants of a model, as initializers or in attributes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import parser

from simam_deploy.graph import onnx_file
from simam_deploy.graph.onnx_file import constants

NET = """<ir_version: 9, opset_import: ["" : 18]> g (float[2] x) => (float[2] y) {
    t = Constant<value: tensor = float[2] {0.3, 0.9}>()
    f = Constant<value_floats = [0.5, 0.25]>()
    a = Mul(x, t)
    y = Mul(a, f)
}"""


def test_lifting_leaves_the_original_as_it_is() -> None:
    model = ir.from_proto(parser.parse_model(NET))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    copy = model.clone()
    constants.lift(copy)
    lifted = ir.to_proto(copy)
    assert {t.name: onnx.numpy_helper.to_array(t).tolist() for t in lifted.graph.initializer} == {
        "t": np.float32([0.3, 0.9]).tolist(),
        "f": [0.5, 0.25],
    }
    assert [node.op_type for node in lifted.graph.node] == ["Mul", "Mul"]
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_lifted_constants_stay_in_their_file(tmp_path: Path) -> None:
    proto = parser.parse_model(NET)
    proto.graph.node[0].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.float32([0.3, 0.9])))
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0, convert_attribute=True)
    model = onnx_file.load(path)
    (node, *_) = model.graph
    copy = model.clone()
    constants.lift(copy)
    held = copy.graph.initializers["t"].const_value
    assert isinstance(held, ir.ExternalTensor)
    assert Path(held.path) == tmp_path / "net.bin"
    ir.to_proto(copy)
    assert held.name == "t"
    assert node.attributes["value"].as_tensor().name != "t"
    np.testing.assert_array_equal(held.numpy(), np.float32([0.3, 0.9]))
