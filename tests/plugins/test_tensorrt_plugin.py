"""The built plugin library in a real registry: that of TensorRT-RTX, which loads, lists and creates plugins on a CPU.

Nothing is parsed here: see tests/engines/test_plugin_in_engines.py. All of it runs in a process of its own.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.plugin import built_plugin

from simam_deploy.formula import OP_DOMAIN, OP_NAME, OP_VERSION, OPS

# Reads a plan from stdin: the library, and for each plugin its name, phase and fields as [name, type, values].
# Writes the creators that the library brought, and for each plugin what was made, and what was logged meanwhile.
RUNNER = """
import json, sys
import numpy as np
import tensorrt_rtx as trt

class Logger(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
        self.lines = []
    def log(self, severity, message):
        self.lines.append([severity.name, message])

plan = json.load(sys.stdin)
logger = Logger()
builder = trt.Builder(logger)
registry = trt.get_plugin_registry()
before = {(c.name, c.plugin_version, c.plugin_namespace) for c in registry.all_creators}
handle = registry.load_library(plan["library"])
creators = [[c.name, c.plugin_version, c.plugin_namespace, sorted(f.name for f in c.field_names)]
            for c in registry.all_creators if (c.name, c.plugin_version, c.plugin_namespace) not in before]
made = []
for name, phase, fields in plan["plugins"]:
    creator = registry.get_creator(name, "1", plan["domain"])
    logger.lines.clear()
    values = [np.array(value, dtype) for _, dtype, value in fields]
    kinds = {"float32": "FLOAT32", "float64": "FLOAT64", "int32": "INT32"}
    collection = trt.PluginFieldCollection([
        trt.PluginField(field, value, getattr(trt.PluginFieldType, kinds[dtype]))
        for (field, dtype, _), value in zip(fields, values)])
    plugin = creator.create_plugin("block", collection, getattr(trt.TensorRTPhase, phase))
    said = [line for line in logger.lines if line[0] in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO")]
    identity = None
    if plugin is not None:
        info = plugin.interface_info
        identity = [info.kind, info.major]
    made.append([identity, said])
    del plugin
print(json.dumps({"creators": creators, "made": made}))
sys.stdout.flush()
"""

Field = tuple[str, str, list[float]]
LAMBDA: Field = ("e_lambda", "float32", [0.1])


@pytest.fixture(scope="module")
def plugin() -> Path:
    return built_plugin()


def run(library: Path, plugins: list[tuple[str, str, list[Field]]], domain: str = OP_DOMAIN) -> dict:
    plan = json.dumps({"library": str(library), "plugins": plugins, "domain": domain})
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=plan, text=True, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_operator_has_a_creator_in_both_namespaces(plugin: Path) -> None:
    found = run(plugin, [])["creators"]
    for op in OPS:
        scales = ["residual_scale"] * OPS[op].residual + ["x_scale", "y_scale"]
        assert [op, str(OP_VERSION), "", ["e_lambda", *scales]] in found
        assert [op, str(OP_VERSION), OP_DOMAIN, ["e_lambda"]] in found, "a parser warns of each that a node lacks"
    assert len(found) == 2 * len(OPS)


@pytest.mark.parametrize("domain", ["", OP_DOMAIN])
def test_right_fields_make_a_plugin(plugin: Path, domain: str) -> None:
    double: Field = ("e_lambda", "float64", [1e-4])
    scales: list[Field] = [("x_scale", "float32", [0.05]), ("y_scale", "float64", [0.02])]
    residual: Field = ("residual_scale", "float32", [0.03])
    version: Field = ("version", "int32", [OP_VERSION])
    plugins = [(op, "BUILD", fields) for op in OPS for fields in ([LAMBDA], [double])]
    plugins += [(op, "BUILD", [LAMBDA, *scales, *([residual] if OPS[op].residual else [])]) for op in OPS]
    plugins += [(op, "RUNTIME", [version, LAMBDA]) for op in OPS]
    for (name, *_), (identity, said) in zip(plugins, run(plugin, plugins, domain)["made"], strict=True):
        assert identity == ["PLUGIN", 1], f"{name}: {said}"
        assert said == [], name


@pytest.mark.parametrize(
    ("phase", "fields", "words"),
    [
        ("BUILD", [], "the field 'e_lambda' is missing"),
        ("BUILD", [("e_lambda", "float32", [-1.0])], "e_lambda is -1; it must be finite and not negative"),
        ("BUILD", [("e_lambda", "float64", [float("nan")])], "e_lambda is nan"),
        ("BUILD", [("e_lambda", "float64", [1e39])], "e_lambda is inf; it must be finite"),
        ("BUILD", [("e_lambda", "int32", [1])], "must be one float of 32 or 64 bits"),
        ("BUILD", [("e_lambda", "float32", [0.1, 0.1])], "length 2"),
        ("BUILD", [LAMBDA, ("epilogue", "int32", [1])], "there is no field 'epilogue'"),
        ("BUILD", [LAMBDA, ("x_scale", "float32", [0.1])], "the field 'y_scale' is missing"),
        ("BUILD", [LAMBDA, ("x_scale", "float32", [0.0]), ("y_scale", "float32", [1.0])], "x_scale is 0"),
        ("RUNTIME", [LAMBDA], "has no field 'version'"),
        ("RUNTIME", [("version", "int32", [2]), LAMBDA], "built with version 2 of the plugin"),
    ],
)
def test_wrong_fields_are_refused_in_words(plugin: Path, phase: str, fields: list[Field], words: str) -> None:
    [[identity, said]] = run(plugin, [(OP_NAME, phase, fields)])["made"]
    assert identity is None
    errors = [text for severity, text in said if severity == "ERROR" and text.startswith("SimAM: layer 'block': ")]
    assert len(errors) == 1
    assert words in errors[0]


def test_the_page_names_the_types_that_are_read() -> None:
    root = Path(__file__).parents[2]
    read = re.search(r"bool read_float\(.*?\n\}", (root / "plugins/tensorrt/fields.cpp").read_text(), re.DOTALL)
    page = (root / "docs/howto/tensorrt.md").read_text()
    (said,) = re.findall(r"A field is one float of 32 or 64 bits, ((?:kFLOAT\d+(?: or )?)+);", page)
    assert read is not None
    assert said.split(" or ") == re.findall(r"PluginFieldType::(\w+)", read[0])


def test_a_library_that_registers_says_why_it_does_not(plugin: Path) -> None:
    """TensorRT-RTX is no TensorRT 10 or 11: the process goes on, without the plugins, and one line says so."""
    companions = sorted(plugin.parent.glob("libsimam_tensorrt_trt*_autoreg.so"))
    if not companions:
        pytest.skip(f"no libsimam_tensorrt_trt10_autoreg.so or the like next to {plugin}")
    for path in companions:
        code = f"import tensorrt_rtx, ctypes; ctypes.CDLL({str(path)!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        [line] = done.stderr.splitlines()
        assert line.startswith(f"{path.name}: no plugin was registered: there is no TensorRT 1")
