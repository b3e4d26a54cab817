"""What the parser of TensorRT-RTX makes of each SimAM block, by form; on the command line too."""

import json
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from helpers.command_line import Run
from helpers.graphs import parse, save
from helpers.plugin import built_plugin

import simam_deploy as sd
from export_models import digits
from simam_deploy.api.layers import LayersOfBlock, LayersOfForm, _choice
from simam_deploy.engines import flavors, parse_file
from simam_deploy.engines.flavors import Flavor
from simam_deploy.errors import BuildError, InputError, ModelFileError, NativeError, RuntimeUnavailable

needs_parser = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
FORMS = ["the file", "function", "primitive", "instance_norm", "epilogue"]
PLAIN = "g (float[1,3,8,8] x) => (float[1,3,8,8] y) { z = Relu (x) y = Sigmoid (z) }"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript")
    return path


@needs_parser
def test_each_form_of_digits(network: Path) -> None:
    before = network.read_bytes()
    said: list[str] = []
    seen = sd.inspect_layers(network, plugin="none", on_progress=said.append)
    assert network.read_bytes() == before
    assert [form.name for form in seen.forms] == FORMS
    assert {"function: parse", "instance_norm: parse"} <= set(said)
    for form in seen.forms:
        assert (len(form.blocks), form.warnings, form.why_not) == (3, (), "")
        assert all(sum(block.kinds.values()) == block.layers > 4 for block in form.blocks)
        assert form.kinds is not None
        assert sum(form.kinds.values()) == form.layers
    by_name = {form.name: form for form in seen.forms}
    assert by_name["the file"].blocks == by_name["function"].blocks
    assert [block.built for block in by_name["function"].blocks] == ["fallback"] * 3
    assert "NORMALIZATION FLOAT" in by_name["instance_norm"].blocks[0].kinds
    layers = {name: form.blocks[0].layers for name, form in by_name.items()}
    assert layers["instance_norm"] < layers["primitive"] < layers["function"] < layers["epilogue"]
    (choice,) = seen.choice
    assert choice.startswith("without the plugin: function, as it parses without a warning")


@needs_parser
def test_a_file_of_operators_whose_nodes_have_no_names(network: Path, tmp_path: Path) -> None:
    sd.fuse(network, tmp_path / "primitive.onnx", form="primitive")
    model = onnx.load(tmp_path / "primitive.onnx")
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "unnamed.onnx")
    named, unnamed = (sd.inspect_layers(tmp_path / f"{n}.onnx", plugin="none") for n in ("primitive", "unnamed"))
    assert [b.kinds for b in unnamed.forms[0].blocks] == [b.kinds for b in named.forms[0].blocks]
    assert unnamed.forms[0].blocks[0].layers > 5


@needs_parser
def test_16_bits_show_what_is_float32_inside(network: Path, tmp_path: Path) -> None:
    low = tmp_path / "low.onnx"
    sd.convert(network, low, to="fp16", target="tensorrt", inputs={"x": digits.training_set()[0][:8]})
    for form in sd.inspect_layers(low, plugin="none").forms:
        assert all({"ELEMENTWISE FLOAT", "CAST HALF"} <= set(block.kinds) for block in form.blocks), form


def test_with_the_plugin(network: Path, tmp_path: Path) -> None:
    library = built_plugin()
    seen = sd.inspect_layers(network)
    by_name = {form.name: form for form in seen.forms}
    assert list(by_name) == [
        *("the file", "function", "function, plugin", "primitive", "instance_norm", "epilogue", "epilogue, plugin")
    ]
    for name in ("function, plugin", "epilogue, plugin"):
        assert [(b.built, b.kinds) for b in by_name[name].blocks] == [("plugin", {"PLUGIN_V3 FLOAT": 1})] * 3
    assert seen.notes == (f"plugin: {library}",)
    assert seen.choice[1].startswith("with the plugin: epilogue, as it has the fewest layers, 18, and each block is ")
    bare = tmp_path / "custom_op.onnx"
    sd.fuse(network, bare, form="custom_op")
    given, *others = sd.inspect_layers(bare, plugin=library).forms
    assert given.why_not.startswith("custom_op.onnx: node ")
    assert "no fallback definition is in the file" in given.why_not
    assert not any(form.why_not for form in others)


@needs_parser
def test_engines_of_each_form(network: Path) -> None:
    seen = sd.inspect_layers(network, plugin="none", targets=["sm86"])
    assert all(form.bytes and form.bytes > 1e6 for form in seen.forms)
    assert seen.table[0][-1] == "bytes"
    assert "no engine is smaller by more than 1 %" in seen.choice[0]


BLOCK = LayersOfBlock("b", "", 5, {"ELEMENTWISE FLOAT": 5})


def test_the_form_to_choose() -> None:
    """By warnings, then by bytes where engines were built."""

    def chosen(*forms: LayersOfForm) -> str:
        return next(iter(_choice(forms)))

    function = LayersOfForm("function", False, (BLOCK,), bytes=400)
    primitive, norm = (LayersOfForm(name, False, (BLOCK,), bytes=200) for name in ("primitive", "instance_norm"))
    assert chosen(function, primitive, norm).startswith("without the plugin: primitive, as no engine is smaller by")
    warned = LayersOfForm("function", False, (BLOCK,), warnings=("WARNING: odd", "WARNING: odder"))
    assert chosen(warned, primitive).endswith("; function: 2 warnings")
    refused = LayersOfForm("function", False, why_not="cannot parse it:\n more")
    assert chosen(refused, norm).startswith("without the plugin: instance_norm")
    assert chosen(refused) == "without the plugin: none; function: cannot parse it:"


@needs_parser
def test_a_form_that_cannot_be_written_is_a_row(tmp_path: Path) -> None:
    text = "g (float[N,3,H,W] x) => (float[N,3,H,W] y) { [block] y = simam.SimAM <e_lambda: float = 0.1> (x) }"
    save(parse(text), tmp_path / "bare.onnx")
    sd.fuse(tmp_path / "bare.onnx", tmp_path / "net.onnx", form="function")
    by_name = {form.name: form for form in sd.inspect_layers(tmp_path / "net.onnx", plugin="none").forms}
    assert by_name["epilogue"].why_not == "no epilogue folds into a block of this file"
    assert "H is not fixed" in by_name["instance_norm"].why_not
    assert by_name["function"].good


@needs_parser
def test_on_the_command_line(network: Path, run: Run) -> None:
    status, out, err = run(f"inspect --layers {network} --plugin none")
    assert (status, err) == (0, "")
    rows = [line.split()[:3] for line in out.splitlines()]
    assert ["primitive", "3", "11"] in rows
    assert "without the plugin: function, as it parses without a warning" in out
    assert out.splitlines()[-1].startswith("parsed: 5 of 5 forms by TensorRT-RTX 1.")
    status, out, err = run(f"inspect --layers {network} --plugin none --json")
    seen = json.loads(out)
    assert (seen["kind"], [form["form"] for form in seen["forms"]]) == ("layers", FORMS)
    assert seen["forms"][1]["blocks"][0]["kinds"]["REDUCE FLOAT"] == 2


@needs_parser
def test_a_network_without_simam(tmp_path: Path, run: Run) -> None:
    save(parse(PLAIN), tmp_path / "plain.onnx")
    status, out, err = run(f"inspect --layers {tmp_path / 'plain.onnx'} --plugin none")
    assert (status, err) == (0, "")
    assert ["ACTIVATION", "FLOAT", "2"] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1].startswith("found: no SimAM block; 2 layers by TensorRT-RTX 1.")
    save(parse("g (float[2,3] x) => (int64[2,a] y) { y = NonZero (x) }"), tmp_path / "unknown.onnx")
    with pytest.raises(BuildError, match=r"(?s)cannot parse unknown.onnx:.*NonZero"):
        sd.inspect_layers(tmp_path / "unknown.onnx")


def test_an_engine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.engine"
    path.write_bytes(b"vtrt" + bytes(100))
    with pytest.raises(InputError, match=r"net.engine is an engine.*without its GPU\ngive the ONNX file that it was"):
        sd.inspect_layers(path)


@needs_parser
def test_what_build_refuses_is_refused(network: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--timeout is more than 0 .*; got inf"):
        sd.inspect_layers(network, plugin="none", timeout_s=float("inf"))
    twice = onnx.load(network)
    node = next(node for node in twice.graph.node if node.op_type == "SimAM")
    node.attribute.append(onnx.helper.make_attribute("e_lambda", 7.0))
    onnx.save(twice, tmp_path / "twice.onnx")
    with pytest.raises(ModelFileError, match="e_lambda is given 2 times"):
        sd.inspect_layers(tmp_path / "twice.onnx", plugin="none")


def test_no_parser_and_wrong_options(
    network: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="--flavor takes auto, tensorrt, tensorrt_rtx; got 'none'"):
        sd.inspect_layers(network, flavor="none")
    with pytest.raises(NativeError, match=r"--plugin /none is no file; no TensorRT plugin"):
        sd.inspect_layers(network, plugin="/none")
    status, _, err = run(f"inspect {network} --plugin none")
    assert (status, err.strip()) == (2, "error: --plugin is for --layers; add that, or leave it out")
    status, _, err = run(f"inspect --layers {network} --against {network}")
    assert (status, err.strip()) == (
        2,
        "error: --against is for engines, and --layers for ONNX files; leave one of the two out",
    )
    monkeypatch.setattr(Flavor, "installed", property(lambda _: False))
    words = r"no parser of TensorRT-RTX or TensorRT here shows the layers; install one\nTensorRT-RTX: pip install"
    with pytest.raises(RuntimeUnavailable, match=words):
        sd.inspect_layers(network)
    monkeypatch.setattr(Flavor, "installed", property(lambda flavor: flavor is flavors.TENSORRT))
    assert parse_file.parser_flavor() is flavors.TENSORRT
