"""A TensorRT network on a CPU: TensorRT-RTX parses the file, NumPy computes the layers that it made.

Shows what the parser decides: epsilons, axes, types, casts, folded constants, weights of a BatchNormalization, how
functions expand. It cannot see what the builder does later: fusions, kernels and their order of sums, formats, and
whether an engine is built at all.

Our nodes without a fallback definition, of form custom_op, go to our plugin library, as in a build. Each becomes one
PLUGIN_V3, computed by the formula in float64 with λ as the parsed plugin tells it, and rounded to the type of the
layer. So the table shows the fields and the types that the plugin got, and nothing of its kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np

from simam_deploy.engines.plugin_host import AUTO, PLUGIN, chosen_plugin
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import Array
from simam_deploy.runtimes import onnx_model
from simam_deploy.runtimes.session import Session, TensorSpec, is_float
from simam_deploy.runtimes.trt_layers import KINDS
from simam_deploy.runtimes.trt_parse import ParsedLayer, parse
from simam_deploy.text import on_lines

STORED: dict[str, Any] = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "BOOL": np.bool_,
}
"""TensorRT's type -> that of NumPy."""


class TrtNetworkSession(Session):
    """An ONNX file as TensorRT-RTX parses it, in a strongly typed network.

    dtype : None computes each layer in float32, from inputs in their own type, and rounds its output to the type of
            the layer once: 16-bit types accumulate in float32, as on a GPU. "float64" computes in float64 with the
            weights as stored, without rounding, and accepts float feeds of any width.
    Raises RuntimeUnavailable for a layer that trt_layers.py does not compute, with its name and type.
    """

    def __init__(self, artifact: object, *, dtype: str | None = None) -> None:
        if dtype not in (None, "float64"):
            raise InputError(f"runtime 'trt_network' computes as in the file or in float64; got dtype={dtype!r}")
        super().__init__(f"trt_network[{dtype}]" if dtype else "trt_network")
        path, model = onnx_model.read(artifact, "trt_network")
        library, note = chosen_plugin(AUTO, model)
        if library is None:
            onnx_model.refuse_without_fallback(model, path, "trt_network", PLUGIN.why_not())
        else:
            self.notes.append(note)
        self._float = np.dtype(dtype or "float32")
        self._wide = dtype == "float64"
        self.inputs = tuple(map(self._widened, onnx_model.input_specs(model, path)))
        self.outputs = tuple(map(self._widened, onnx_model.output_specs(model, path)))
        parsed = parse(path, library)
        self._layers, self._names = parsed.layers, parsed.inputs
        if strange := [f"{layer}: {why}" for layer in self._layers if (why := _unknown(layer))]:
            raise RuntimeUnavailable(
                on_lines("\n  ".join([f"trt_network cannot run {path}: it does not compute", *strange[:10]]))
                + "\nit computes the layers of networks with SimAM; use another runtime"
            )
        kept = {spec.name for spec in self.outputs}
        last = {
            name: at for at, layer in enumerate(self._layers) for name in layer.inputs if name and name not in kept
        }
        self._unused: list[list[str]] = [[] for _ in self._layers]
        for name, at in last.items():
            self._unused[at].append(name)

    def _widened(self, spec: TensorSpec) -> TensorSpec:
        return replace(spec, dtype=self._float) if self._wide and is_float(spec.dtype) else spec

    def _takes(self, spec: TensorSpec, dtype: np.dtype[Any]) -> bool:
        return dtype == spec.dtype or (self._wide and is_float(dtype) and is_float(spec.dtype))

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        given = [np.asarray(feeds[spec.name], spec.dtype) for spec in self.inputs]
        wide = [array.astype(self._float) if is_float(array.dtype) else array for array in given]
        values = dict(zip(self._names, wide, strict=True))
        with np.errstate(all="ignore"):  # inf is a result like any other, as in every runtime
            for layer, unused in zip(self._layers, self._unused, strict=True):
                inputs = [None if name is None else values[name] for name in layer.inputs]
                values[layer.output] = self._stored(layer, KINDS[layer.kind].compute(layer.settings, *inputs))
                for name in unused:
                    del values[name]
        return {spec.name: np.array(values[spec.name], dtype=spec.dtype) for spec in self.outputs}

    def _stored(self, layer: ParsedLayer, array: Array) -> Array:
        """In the type of the layer. 16-bit values are held in float32."""
        dtype = np.dtype(STORED[layer.type])
        if not is_float(dtype):
            return np.asarray(array, dtype)
        return np.asarray(array if self._wide else np.asarray(array).astype(dtype, copy=False), self._float)

    def _close(self) -> None:
        del self._layers


def _unknown(layer: ParsedLayer) -> str:
    """The reason why a layer cannot be computed, or ""."""
    if layer.kind not in KINDS:
        return "no such kind"
    if layer.type not in STORED:
        return f"its output is {layer.type}"
    only, given = KINDS[layer.kind].only, layer.settings
    return ", ".join(f"{name} is {given[name]}" for name in only if given[name] not in only[name])


SESSION = TrtNetworkSession
