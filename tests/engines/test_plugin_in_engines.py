"""Our plugin library in a real parser and builder: those of TensorRT-RTX, in a process of their own, on a CPU."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers.graphs import parse
from helpers.plugin import built_plugin

import simam_deploy as sd
from export_models import digits
from simam_deploy.engines.our_functions import settle
from simam_deploy.engines.plugin_host import environment_for, lambdas_in
from simam_deploy.engines.run_worker import run_worker
from simam_deploy.errors import BuildError, RuntimeUnavailable
from simam_deploy.formula import OPS

# Reads a plan from stdin: the library, and files with the profiles of their inputs. Writes the creators, and for each
# file the layers, the size of the engine, the λ in it and the log; sizes are None if it is not parsed or not built.
RUNNER = """
import json, sys
from pathlib import Path
import tensorrt_rtx as trt
from simam_deploy.engines.plugin_host import lambdas_in, register

class Log(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []
    def log(self, severity, text):
        if severity <= trt.ILogger.Severity.WARNING:
            self.lines.append(f"{severity.name}: {text}")

plan = json.load(sys.stdin)
log = Log()
builder = trt.Builder(log)
creators = register(trt, Path(plan["library"]), log.lines)
found = []
for path, profile in plan["files"]:
    log.lines.clear()
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    layers = engine = None
    if parser.parse_from_file(path):
        layers = [network.get_layer(i).type.name for i in range(network.num_layers)]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM86, 0)
        if profile:
            shapes = builder.create_optimization_profile()
            shapes.set_shape("x", *profile)
            config.add_optimization_profile(shapes)
        engine = builder.build_serialized_network(network, config)
    data = bytes(engine) if engine is not None else b""
    found.append({"layers": layers, "bytes": len(data), "lambdas": lambdas_in(data), "log": log.lines[:]})
print(json.dumps({"creators": creators, "found": found}))
"""


@pytest.fixture(scope="module")
def plugin() -> Path:
    return built_plugin()


def run(library: Path, files: list[tuple[Path, Any]], folder: Path) -> dict[str, Any]:
    plan = json.dumps({"library": str(library), "files": [(str(path), profile) for path, profile in files]})
    known = environment_for(folder)
    known["PYTHONPATH"] = os.pathsep.join(sys.path[1:])
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=plan,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
        env=known,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript")
    return path


def test_digits_in_every_type_build_with_the_plugin_and_no_warning(
    plugin: Path, network: Path, tmp_path: Path
) -> None:
    """λ of each block is in the engine. Without the definitions in the file nothing else could compute it."""
    files = []
    for epilogue in (False, True):
        source = tmp_path / f"fp32{epilogue}.onnx"
        sd.fuse(network, source, epilogue=epilogue)
        files.append(source)
        for to in ("fp16", "bf16", "int8"):
            files.append(tmp_path / f"{to}{epilogue}.onnx")
            sd.convert(source, files[-1], to=to, target="tensorrt", inputs={"x": digits.training_set()[0][:8]})
    for file in files:
        model = onnx.load(file)
        calls = [node for node in model.graph.node if node.domain == "simam"]
        for node, e_lambda in zip(calls, (0.1, 0.25, 1e-4), strict=True):
            next(a for a in node.attribute if a.name == "e_lambda").f = e_lambda
        settle(model, plugin=True)
        onnx.save(model, file)
    folder = tmp_path / "link"
    folder.mkdir()
    answer = run(plugin, [(file, None) for file in files], folder)
    assert answer["creators"] == sorted(f"{domain}::{op}" for op in OPS for domain in ("", "simam"))
    for file, found in zip(files, answer["found"], strict=True):
        assert found["log"] == [], file.name
        assert Counter(found["layers"])["PLUGIN_V3"] == 3, file.name
        assert found["bytes"] > 0
        assert found["lambdas"] == pytest.approx([1e-4, 0.1, 0.25], rel=1e-7), file.name


NODE = "e_lambda: float = 0.1"
OURS = 'plugin_namespace: string = "simam"'
MAP = "1,3,8,8"
ZERO = "of a 1x1 map it is 0/0: its variance divides by H*W - 1"


@pytest.mark.parametrize(
    ("dims", "attributes", "words"),
    [
        (MAP, "e_lambda: float = -1.0", "e_lambda is -1; it must be finite and not negative"),
        (MAP, "e_lambda: float = 7.0", "e_lambda is nan; it must be finite and not negative"),
        (MAP, "", "the field 'e_lambda' is missing; say the model's own"),
        (MAP, "e_lambda: int = 1", "the field 'e_lambda' must be one float of 32 or 64 bits; it has type 5"),
        (MAP, 'e_lambda: string = "1"', "the field 'e_lambda' must be one float of 32 or 64 bits; it has type 6"),
        (MAP, "e_lambda: floats = [0.1, 0.1]", "it has type 1 and length 2"),
        ("1,3", NODE, "x must have 3, 4 or 5 dimensions, as in (N, C, H, W); it has 2"),
        ("1,3,2,2,2,2", NODE, "x must have 3, 4 or 5 dimensions, as in (N, C, H, W); it has 6"),
        ("1,3,1,1", NODE, ZERO),
        ("1,3,1", NODE, ZERO),
    ],
    ids=["negative", "nan", "missing", "int", "string", "two", "2-D", "6-D", "1x1", "1"],
)
def test_what_the_plugin_refuses_is_a_parse_error_in_words(
    plugin: Path, dims: str, attributes: str, words: str, tmp_path: Path
) -> None:
    written = ", ".join(filter(None, (attributes, OURS)))
    model = parse(f"g (float[{dims}] x) => (float[{dims}] y) {{ [block] y = simam.SimAM <{written}> (x) }}")
    for attribute in model.graph.node[0].attribute:
        attribute.f = np.nan if attribute.f == 7 else attribute.f
    onnx.save(model, tmp_path / "model.onnx")
    (found,) = run(plugin, [(tmp_path / "model.onnx", None)], tmp_path)["found"]
    assert found["layers"] is None
    assert any(line.startswith("ERROR: SimAM: ") and words in line for line in found["log"]), found["log"]


def test_sizes_are_refused_at_either_end_of_a_profile(plugin: Path, tmp_path: Path) -> None:
    """3 to 5 dimensions and dynamic sizes are taken."""
    files = []
    for at, (dims, profile) in enumerate(
        [
            ("N,3,H,W", [(1, 3, 1, 1), (1, 3, 8, 8), (2, 3, 16, 16)]),
            ("N,3,H,W", [(1, 3, 1, 2), (1, 3, 8, 8), (2, 3, 16, 16)]),
            ("1,3,8", None),
            ("1,3,2,2,2", None),
        ]
    ):
        text = f"g (float[{dims}] x) => (float[{dims}] y) {{ [block] y = simam.SimAM <{NODE}, {OURS}> (x) }}"
        files.append((tmp_path / f"{at}.onnx", profile))
        onnx.save(parse(text), files[-1][0])
    one, *others = run(plugin, files, tmp_path)["found"]
    assert one["bytes"] == 0
    assert any(ZERO in line for line in one["log"])
    for found in others:
        assert (found["layers"], found["log"]) == (["PLUGIN_V3"], [])
        assert found["bytes"] > 0


def test_int8_takes_its_scales_in_the_empty_namespace(plugin: Path, tmp_path: Path) -> None:
    graph = """g (float[1,3,8,8] x) => (float[1,3,8,8] y) <float s = {{0.1}}, int8 z = {{0}}> {{
        q = QuantizeLinear (x, s, z)
        [block] p = simam.SimAM <e_lambda: float = 0.1, plugin_namespace: string = "{}", x_scale: float = 0.1,
                                 y_scale: float = 0.1> (q)
        y = DequantizeLinear (p, s, z)
    }}"""
    for namespace in ("", "simam"):
        onnx.save(parse(graph.format(namespace)), tmp_path / f"{namespace}.onnx")
    taken, refused = run(plugin, [(tmp_path / f"{n}.onnx", None) for n in ("", "simam")], tmp_path)["found"]
    assert "PLUGIN_V3" in taken["layers"]
    assert taken["log"] == []
    words = 'give it the fields x_scale and y_scale, in an ONNX file with plugin_namespace ""'
    assert any(words in line for line in refused["log"])


def job(model: Path, library: Path) -> dict[str, object]:
    read = onnx.load(model)
    return {
        "flavor": "tensorrt_rtx",
        "model": str(model),
        "engine": str(model.with_suffix(".engine")),
        "targets": ["sm86", "sm89"],
        "profiles": {},
        "functions": [function.name for function in read.functions],
        "blocks": [node.name for node in read.graph.node if node.domain == "simam"],
        "options": {},
        "hint": "",
        "memory": None,
        "plugin": str(library),
    }


@pytest.mark.parametrize("named", [True, False], ids=["", "plugin not named"])
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_the_worker_builds_with_it(plugin: Path, network: Path, form: str, named: bool, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    sd.fuse(network, model, form=form)
    if not named:
        old = onnx.load(model)
        for node in old.graph.node:
            kept = [attribute for attribute in node.attribute if not attribute.name.startswith("plugin_")]
            del node.attribute[:]
            node.attribute.extend(kept)
        onnx.save(old, model)
    link = tmp_path / "link"
    link.mkdir()
    done, log = run_worker(job(model, plugin), None, 120, environment_for(link))
    assert log == []
    assert [(block["built"], block["layers"]) for block in done["blocks"]] == [("plugin", 1)] * 3
    assert lambdas_in(model.with_suffix(".engine").read_bytes()) == pytest.approx([1e-4] * 3)


def test_the_worker_says_why_the_plugin_refuses(plugin: Path, tmp_path: Path) -> None:
    model, link = tmp_path / "model.onnx", tmp_path / "link"
    link.mkdir()
    text = f"g (float[{MAP}] x) => (float[{MAP}] y) {{ [block] y = simam.SimAM <e_lambda: float = -1.0> (x) }}"
    onnx.save(parse(text), model)
    with pytest.raises(BuildError, match=r"(?s)cannot parse model.onnx:.*layer 'block': e_lambda is -1; it must be"):
        run_worker(job(model, plugin), None, 120, environment_for(link))
    with pytest.raises(RuntimeUnavailable, match="there is no plugin library /none"):
        run_worker(job(model, Path("/none")), None, 120, environment_for(link.parent))
