"""`build --plugin`: the library is taken for every block, or the build fails in words; auto says what it chose."""

import json
from importlib.util import find_spec
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from helpers.onnx_models import model as block_model
from helpers.plugin import built_plugin
from helpers.small_onnx import names

from simam_deploy.engines import flavors
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.plugin_host import PLUGIN, chosen_plugin
from simam_deploy.errors import BuildError, InputError, NativeError
from simam_deploy.graph import onnx_file
from simam_deploy.rewrite.forms import alone

needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
SHAPE = (2, 3, 8, 8)


def saved(folder: Path, form: str) -> Path:
    path = folder / f"{form}.onnx"
    onnx_file.save(alone(form, SHAPE), path)
    return path


@needs_builder
@pytest.mark.parametrize("form", ["function", "custom_op"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "of an older file"])
def test_the_library_takes_the_block(form: str, named: bool, tmp_path: Path) -> None:
    path, library = saved(tmp_path, form), built_plugin()
    if not named:
        model = onnx.load(path)
        for node in model.graph.node:
            kept = [attribute for attribute in node.attribute if not attribute.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
        onnx.save(model, path)
    report = build_engine(path, tmp_path / "e", targets=["sm86"], plugin=library)
    assert [(block["built"], block["layers"]) for block in report.blocks] == [("plugin", 1)]
    assert (report.log, report.plugin) == ((), str(library.resolve()))
    told = json.loads((tmp_path / "e.json").read_text())
    assert told["plugin"]["file"] == library.name
    assert len(told["plugin"]["sha256"]) == 64


@needs_builder
def test_auto_takes_the_definition_and_says_that_nothing_was_timed(tmp_path: Path) -> None:
    report = build_engine(saved(tmp_path, "function"), tmp_path / "e", targets=["sm86"])
    assert report.plugin is None
    assert any(
        note.startswith("plugin: none, the fallback definitions of the file, as nothing was timed here")
        for note in report.notes
    )
    assert [block["built"] for block in report.blocks] == ["fallback"]
    assert build_engine(saved(tmp_path, "function"), tmp_path / "e", targets=["sm86"], plugin="none").notes == (
        "flavor: tensorrt_rtx, as targets are named",
    )


@needs_builder
def test_auto_takes_the_library_where_nothing_else_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = built_plugin()
    monkeypatch.setenv(PLUGIN.variable, str(library))
    report = build_engine(saved(tmp_path, "custom_op"), tmp_path / "e", targets=["sm86"])
    assert f"plugin: {library}, as nodes have no fallback definition" in report.notes
    assert [block["built"] for block in report.blocks] == ["plugin"]


@pytest.mark.usefixtures("no_plugin")
class TestWithout:
    @pytest.fixture
    def no_plugin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(PLUGIN), "find", lambda _: None)
        monkeypatch.setattr(flavors, "find_spec", lambda _: object())

    def test_nodes_that_only_a_plugin_has(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"only our plugin has it; name the library with --plugin, or put the"):
            build_engine(saved(tmp_path, "custom_op"), tmp_path / "e", targets=["sm86"])
        assert names(tmp_path) == ["custom_op.onnx"]

    def test_a_library_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NativeError, match=r"--plugin nowhere\.so is no file; no TensorRT plugin: build it with"):
            build_engine(saved(tmp_path, "function"), tmp_path / "e", targets=["sm86"], plugin="nowhere.so")

    def test_a_library_with_nothing_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"--plugin lib\.so has nothing to do: no node of the file is ours"):
            build_engine(saved(tmp_path, "primitive"), tmp_path / "e", targets=["sm86"], plugin="lib.so")


def test_without_our_nodes_auto_says_nothing() -> None:
    assert chosen_plugin("auto", ir.to_proto(block_model(shape="2, 3, 8, 8"))) == (None, "")
