from pathlib import Path

import onnx
import pytest

from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: fixed, dynamic and bare (form custom_op) files, and one of primitive operators."""
    monkeypatch.chdir(tmp_path)
    for name, form, shape in (
        ("fixed", "function", (2, 3, 5, 7)),
        ("dynamic", "function", ("N", 3, "H", "W")),
        ("bare", "custom_op", (2, 3, 5, 7)),
        ("primitive", "primitive", (2, 3, 5, 7)),
    ):
        onnx_file.save(alone(form, shape), f"{name}.onnx")
    named = onnx.load("dynamic.onnx")
    onnx.save(named, "named.onnx")
    for node in named.graph.node:  # as files were before their nodes named the plugin
        kept = [attribute for attribute in node.attribute if not attribute.name.startswith("plugin_")]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(named, "dynamic.onnx")
    return tmp_path
