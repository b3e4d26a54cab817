"""The file that an exporter writes is checked as any other file, before anything else looks at it."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from simam_deploy import SimAM
from simam_deploy.errors import InputError
from simam_deploy.to_onnx import export

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class BiasOut(nn.Module):
    """torch's optimiser folds the BatchNormalization into the Conv, and loses the bias that is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.simam = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), SimAM()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.simam(self.norm(self.conv(x))), self.conv.bias


def test_an_output_that_the_exporter_loses(tmp_path: Path) -> None:
    words = (
        r"^torch\.onnx\.export \(dynamo\) went wrong on the model:\n"
        r"  its file is damaged: an output of the graph is 'output_1', which nothing makes\n"
        r"the other exporter may take it: --exporter torchscript$"
    )
    with pytest.raises(InputError, match=words):
        export(BiasOut().eval(), X, tmp_path / "m.onnx", check=False)
    assert list(tmp_path.iterdir()) == []
    export(BiasOut().eval(), X, tmp_path / "m.onnx", exporter="torchscript", runtimes=["ort"], inputs=["plain"])


def nothing_makes(proto: onnx.ModelProto) -> None:
    proto.graph.node[-1].input[0] = "lost"


def newer(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 999


def twice(proto: onnx.ModelProto) -> None:
    node = proto.graph.node[-1]
    node.input[0] = node.output[0]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (nothing_makes, "its file is damaged: node .* reads 'lost', which nothing makes"),
        (newer, "its file has opset 999; the installed onnx"),
        (twice, "its file is damaged: nodes of .* wait for each other"),
    ],
)
def test_a_harmed_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exporter: str,
    harm: Callable[[onnx.ModelProto], None],
    words: str,
) -> None:
    real = torch.onnx.export

    def harmed(model: nn.Module, args: object, file: str, **options: object) -> None:
        real(model, args, file, **options)
        proto = onnx.load(file)
        harm(proto)
        onnx.save(proto, file)

    monkeypatch.setattr(torch.onnx, "export", harmed)
    with pytest.raises(InputError, match=rf"^torch\.onnx\.export \({exporter}\) went wrong .*\n  {words}") as caught:
        export(SimAM(), X, tmp_path / "m.onnx", exporter=exporter, check=False)
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
