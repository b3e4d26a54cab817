"""Build a TensorRT engine with the kernels inside from an ONNX model, on its target GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import onnx.inliner

from simam_deploy.artifacts.atomic import refuse_overwriting_inputs, staging
from simam_deploy.errors import BuildError, InputError, NoBlockError
from simam_deploy.experimental.ahead_of_time.plugin import CompiledKernel, Options, register
from simam_deploy.formula import DEFAULT_LAMBDA, OP_DOMAIN, OPS
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes, say_defaults
from simam_deploy.runtimes import fallbacks


@dataclass(frozen=True)
class BuiltEngine:
    """Result of a build. nodes : number of SimAM nodes, each a plugin.  kernels : compiled candidates."""

    path: Path
    nodes: int
    kernels: tuple[CompiledKernel, ...]
    version: str


def build(
    model: str | os.PathLike[str],
    engine: str | os.PathLike[str],
    *,
    tensorrt: ModuleType | None = None,
    options: Options | None = None,
) -> BuiltEngine:
    """Build the engine of a model with fixed shapes, and write it.

    model : an ONNX file in form `function` or `custom_op`. Types are those in the graph (a strongly typed network).
    Raises RuntimeUnavailable and TypeError as `register`, InputError as `mark`, NoBlockError if no node is an
    operator of ours, BuildError with TensorRT's own words, ShapeError for dynamic shapes, OutputError.
    """
    plugins = register(tensorrt, options)
    trt: Any = plugins.tensorrt
    path = Path(model)
    proto = onnx_file.read(model)
    refuse_overwriting_inputs(engine, [path, *onnx_file.weight_files(proto, path)])
    proto, count = mark(proto)
    if not count:
        raise NoBlockError(
            f"{model}: no node is {OP_DOMAIN}::SimAM; convert it with: simam-deploy fuse {model} -o OUT.onnx"
        )
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flags = trt.NetworkDefinitionCreationFlag.__members__
    wanted = ("STRONGLY_TYPED", "PREFER_AOT_PYTHON_PLUGINS")
    network = builder.create_network(sum(1 << int(flags[name]) for name in wanted if name in flags))
    parser = trt.OnnxParser(network, logger)
    plugins.refusal = None
    parsed = parser.parse(proto.SerializeToString(), str(path.absolute()))
    _go_on(plugins.refusal)
    if not parsed:
        lines = "".join(f"\n  {parser.get_error(i)}" for i in range(parser.num_errors))
        raise BuildError(f"TensorRT {trt.__version__} cannot parse {model}:{lines}")
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    taken = sum(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers)
    if taken < count:
        raise BuildError(
            f"TensorRT {trt.__version__} made {taken} plugins of the {count} SimAM nodes in {model}; "
            "with this version use the plugin library instead, libsimam_tensorrt.so"
        )
    data = builder.build_serialized_network(network, builder.create_builder_config())
    _go_on(plugins.refusal)
    if data is None:
        raise BuildError(f"TensorRT {trt.__version__} built no engine from {model}; its log says why")
    with staging(engine) as staged:
        staged.write_bytes(bytes(data))
    return BuiltEngine(Path(engine), count, tuple(plugins.kernels.values()), str(trt.__version__))


def mark(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Prepare the model for TensorRT's parser: mark and count the SimAM nodes. Changes `model`.

    `plugin_namespace` and `aot` lead the parser to the ahead-of-time plugin. Removes the fallback definitions, so
    that the parser cannot use them instead. Inlines other functions; a node in them counts once per call.
    Raises InputError if a fallback definition differs from the plugin.
    """
    if differs := fallbacks.difference(model):
        raise InputError(f"no plugin can stand for every SimAM node of the model: {differs}")
    kept = [function for function in model.functions if function.domain != OP_DOMAIN]
    del model.functions[:]
    model.functions.extend(kept)
    if kept:
        say_defaults(model)
        model = onnx.inliner.inline_local_functions(model)
    ours = [node for node in nodes(model) if node.domain == OP_DOMAIN and node.op_type in OPS]
    for node in ours:
        given = {attribute.name for attribute in node.attribute}
        added: dict[str, Any] = {"e_lambda": DEFAULT_LAMBDA, "plugin_namespace": OP_DOMAIN, "aot": 1}
        node.attribute.extend(
            onnx.helper.make_attribute(name, value) for name, value in added.items() if name not in given
        )
    return model, len(ours)


def _go_on(refusal: Exception | None) -> None:
    if refusal is not None:
        raise refusal
