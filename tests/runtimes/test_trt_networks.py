"""The networks of export_models as TensorRT-RTX parses them, in every form and precision, on small inputs."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import simam_deploy as sd
from simam_deploy.engines.plugin_host import PLUGIN

pytestmark = [
    pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"),
    pytest.mark.slow,
]

SIZES = {
    "scenes": (1, 3, 96, 128),
    "detector": (1, 3, 64, 96),
    "resnet18": (1, 3, 64, 64),
    "resnet50": (1, 3, 64, 64),
    "mobilenetv2": (1, 3, 64, 64),
}
"""digits is in test_trt_network.py."""
FORMS = ["function", "primitive", "instance_norm"]
"""And custom_op, where the plugin library is."""
ORACLE = 1.5
"""Noise over that of the oracle, at most, and the other way round; 1.1 and 1.2 were seen."""


@pytest.mark.parametrize("name", SIZES)
def test_a_network(name: str, tmp_path: Path) -> None:
    """Within the limits of verify, in float32 in every form; in 16 bits with an error like that of the oracle."""
    module, _ = import_module(f"export_models.{name}").build()
    x = torch.rand(SIZES[name], generator=torch.Generator().manual_seed(0))
    wide = tmp_path / "wide.onnx"
    sd.export(module, x, wide, check=False)
    files = {to: tmp_path / f"{to}.onnx" for to in ("fp16", "bf16")}
    for to, file in files.items():
        sd.convert(wide, file, to=to, target="tensorrt", inputs={"x": x.numpy()})
    given = {"inputs": {"x": x.numpy()}, "against": module}
    forms = [*FORMS, *["custom_op"] * (PLUGIN.find() is not None)]
    assert (report := sd.verify(wide, forms=forms, runtimes=["trt_network"], **given)).passed, report
    report = sd.verify(wide, *files.values(), runtimes=["trt_network", "onnx_half"], **given)
    # of the outputs of ResNet-50, of random weights and 50 layers, bfloat16 leaves little, and verify says so
    assert all(row.passed for row in (*report.rows, *report.gates)), report
    for to in files:
        found, oracle = (
            max(np.sqrt(10 ** (-row.snr_db / 10)) for row in report.rows if row.session == f"{to} · {runtime}")
            for runtime in ("trt_network", "onnx_half")
        )
        assert oracle / ORACLE < found < ORACLE * oracle
