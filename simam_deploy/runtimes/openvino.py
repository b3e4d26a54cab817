"""OpenVINO on the CPU, in float32."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx
import onnx.inliner

from simam_deploy.errors import RuntimeUnavailable
from simam_deploy.formula import OP_DOMAIN, Array
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import nodes, say_defaults
from simam_deploy.runtimes import onnx_model
from simam_deploy.runtimes.session import Session, first_line, framework, pick, refuse_types_outside_numpy
from simam_deploy.text import on_one_line

DEQUANTISED = "DequantizeLinear"


class OpenVinoSession(Session):
    """An ONNX file in OpenVINO's CPU plugin.

    The ONNX frontend of OpenVINO (2026.4) does not support functions. So our nodes are replaced in memory by their
    fallback definitions, with a line in `notes`. On CPUs with bfloat16 units the plugin rounds every layer to
    bfloat16; the session requests float32 and verifies it.
    threads : threads of one inference; 0 leaves the number to OpenVINO.
    Threads take turns: an infer request holds one inference, and OpenVINO's threads share its work. One request per
    thread was no faster on maps from 256x256 on, and creating one crashed the process once.
    """

    def __init__(self, artifact: object, *, threads: int = 0) -> None:
        self._openvino = _import_openvino()
        super().__init__("openvino[CPU]")
        path, model = onnx_model.read(artifact, "openvino")
        say_defaults(model)
        onnx_model.refuse_without_fallback(model, path, "openvino")
        _refuse_moved_scales(model, path)
        self._ours = onnx_model.ours(model)
        self.inputs = onnx_model.input_specs(model, path)
        self.outputs = onnx_model.output_specs(model, path)
        refuse_types_outside_numpy("openvino", self.inputs + self.outputs)
        with ExitStack() as cleanup:
            self._request = self._load(path, model, threads, cleanup)
            self._cleanup = cleanup.pop_all()
        self._turn = threading.Lock()

    def _load(self, path: Path, model: onnx.ModelProto, threads: int, cleanup: ExitStack) -> Any:
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        source = self._loadable(path, model, cleanup)
        try:
            core = self._openvino.Core()
            compiled = core.compile_model(core.read_model(source), "CPU", config)
        except RuntimeError as error:
            version = self._openvino.__version__.partition("-")[0]
            raise RuntimeUnavailable(f"openvino {version} cannot load {path}: {first_line(error)}") from error
        got = compiled.get_property("INFERENCE_PRECISION_HINT")
        if got != self._openvino.Type.f32:
            raise RuntimeUnavailable(f"openvino: asked for float32, got {got.to_string()}")
        self._inputs = [_port(compiled.inputs, spec.name, path) for spec in self.inputs]
        self._outputs = [_port(compiled.outputs, spec.name, path) for spec in self.outputs]
        return compiled.create_infer_request()

    def _loadable(self, path: Path, model: onnx.ModelProto, cleanup: ExitStack) -> str | bytes:
        """The file itself, or a copy without our functions.

        OpenVINO reads weights below the folder of the model and follows no link out of it. So they lie beside the
        copy.
        """
        ours = [(f.domain, f.name) for f in model.functions if f.domain in onnx_model.DOMAINS]
        if not ours:
            return str(path)
        count = sum(node.domain == OP_DOMAIN for node in nodes(model))
        self.notes.append(
            f"{count} {OP_DOMAIN} node(s) replaced by their fallback definitions, as OpenVINO knows no functions"
        )
        try:
            inlined = onnx.inliner.inline_selected_functions(model, ours)
        except RuntimeError as error:
            raise RuntimeUnavailable(
                f"openvino cannot load {path}: fallback definitions of {OP_DOMAIN} cannot be inlined: "
                f"{first_line(error)}; write them in the opset of the file: simam-deploy fuse"
            ) from error
        if not onnx_file.weight_files(inlined, path):
            return bytes(inlined.SerializeToString())
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="simam-deploy-")))
        onnx_file.put_beside(inlined, path, folder)
        changed = folder / "model.onnx"
        changed.write_bytes(inlined.SerializeToString())
        return str(changed)

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        arrays = {port: feeds[spec.name] for port, spec in zip(self._inputs, self.inputs, strict=True)}
        with self._turn:
            results = self._request.infer(arrays, share_inputs=False, share_outputs=False)  # copied: memory is reused
            return pick(self.outputs, [results[port] for port in self._outputs])

    def _close(self) -> None:
        with self._turn:
            del self._request
        self._cleanup.close()


def _refuse_moved_scales(model: onnx.ModelProto, path: Path) -> None:
    """Raise RuntimeUnavailable if SimAM reads the result of an integer layer without rounding behind the layer.

    OpenVINO 2026.4 moves the scales of such a layer into SimAM, and the results are wrong: digits fell to 10 %.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        layer = makers.get(node.input[0]) if node.domain == OP_DOMAIN else None
        while layer is not None and layer.op_type in ("Cast", "Identity"):
            layer = makers.get(layer.input[0])
        given = [makers.get(name) for name in layer.input[:2]] if layer is not None else []
        if layer is not None and given and all(maker is not None and maker.op_type == DEQUANTISED for maker in given):
            raise RuntimeUnavailable(
                f"openvino cannot run {path}: the SimAM block at {on_one_line(node.name)!r} reads the integer layer "
                f"{on_one_line(layer.name)!r} without rounding between them, and OpenVINO 2026.4 gives wrong results "
                "for that; convert the float32 file with --target openvino"
            )


def _port(ports: list[Any], name: str, path: Path) -> int:
    for i, port in enumerate(ports):
        if name in port.get_names():
            return i
    raise RuntimeUnavailable(f"openvino lost '{name}' while loading {path}")


def _import_openvino() -> Any:
    """Import openvino without telemetry.

    Without the package openvino_telemetry, openvino installs a stub instead, also for its later reports, such as that
    of a conversion. So the package is hidden during the first import.
    """
    reports = "openvino_telemetry"
    held = {reports: sys.modules[reports]} if reports in sys.modules else {}
    sys.modules[reports] = None  # type: ignore[assignment]
    try:
        return framework("openvino", "openvino", "openvino")
    finally:
        del sys.modules[reports]
        sys.modules.update(held)


SESSION = OpenVinoSession
