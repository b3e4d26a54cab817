"""Profiles of small models."""

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from simam_deploy.engines.profiles import Profiles, WantedShapes, profiles_of

PAIR = "g (float[N,3,H,W] x, float[N,H,W] mask, float[N,K] z) => (float[N,3,H,W] y) { y = Relu(x) }"


def profiles(
    model: onnx.ModelProto, wanted: WantedShapes | None = None, properties: Mapping[str, str] | None = None
) -> tuple[Profiles, list[str]]:
    """`profiles_of` the model with these metadata properties."""
    for key, text in (properties or {}).items():
        model.metadata_props.add(key=key, value=text)
    return profiles_of(model, ir.from_proto(model), wanted)
