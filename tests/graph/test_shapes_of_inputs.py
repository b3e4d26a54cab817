"""Sizes that a file declares: negative is unknown everywhere, as in ONNX Runtime; an input of none is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import model as simam

from simam_deploy import open_session
from simam_deploy.errors import ModelFileError
from simam_deploy.formula import reference
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.fuse import fuse_file
from simam_deploy.runtimes import installed


def resized(path: Path, *sizes: int) -> Path:
    """SimAM between two Relus, with these sizes of its input, its output and a value between."""
    proto = ir.to_proto(simam(shape="2, 3, 5, 7"))
    del proto.graph.value_info[:]
    proto.graph.value_info.add().CopyFrom(proto.graph.output[0])
    proto.graph.value_info[-1].name = "y"
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
            dim.dim_value = size
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("size", [-1, -2, -(2**63)])
@pytest.mark.parametrize("runtime", [name for name in installed() if name not in ("eager", "trt")])
def test_a_negative_size_is_dynamic(runtime: str, size: int, tmp_path: Path) -> None:
    if size != -1 and runtime == "openvino":
        pytest.skip("it takes -1 alone for an unknown size")
    source = resized(tmp_path / "a.onnx", size, 3, 5, 7)
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 7)).astype(np.float32)
    want = np.maximum(reference(np.maximum(x, 0)), 0)
    for path in (source, tmp_path / "b.onnx"):
        with open_session(path if path.exists() else _fused(source, path), runtime) as session:
            assert session.inputs[0].shape == (None, 3, 5, 7)
            assert session.outputs[0].shape == (None, 3, 5, 7)
            np.testing.assert_allclose(session.run({"image": x})["out"], want, atol=1e-5)


def _fused(source: Path, target: Path) -> Path:
    fuse_file(source, target)
    sizes = [m for m in onnx.load(target).graph.input[0].type.tensor_type.shape.dim if m.HasField("dim_value")]
    assert [size.dim_value for size in sizes] == [3, 5, 7]
    return target


def test_every_declaration_is_freed_of_it(tmp_path: Path) -> None:
    proto = onnx_file.read(resized(tmp_path / "a.onnx", -1, 3, -1, -1))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        assert [d.WhichOneof("value") for d in value.type.tensor_type.shape.dim] == [None, "dim_value", None, None]


@pytest.mark.parametrize("sizes", [(0, 3, 5, 7), (2, 3, 0, 7), (-1, 3, 0, 0)])
def test_an_input_of_size_0_is_refused(sizes: tuple[int, ...], tmp_path: Path) -> None:
    source = resized(tmp_path / "a.onnx", *sizes)
    words = "x".join("?" if size < 0 else str(size) for size in sizes)
    with pytest.raises(
        ModelFileError, match=rf"takes an input 'image' of size {words.replace('?', '.')}, which holds"
    ):
        onnx_file.load(source)


def test_an_empty_weight_that_is_listed_among_the_inputs_is_none(tmp_path: Path) -> None:
    proto = ir.to_proto(simam())
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(0, np.float32), "roi"))
    proto.graph.input.append(onnx.helper.make_tensor_value_info("roi", onnx.TensorProto.FLOAT, [0]))
    (tmp_path / "a.onnx").write_bytes(proto.SerializeToString())
    assert [value.name for value in onnx_file.load(tmp_path / "a.onnx").graph.inputs] == ["image", "roi"]
