"""Detectors of dynamic size: what their heads compute of sizes hides no block in front of them."""

import io

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import torch
from collection.exporting import quiet, session
from collection.modules import Spelled, exponent
from torch import Tensor, nn

from simam_deploy.rewrite.fuse import fuse


def _grid(features: list[Tensor]) -> Tensor:
    """The middle of each cell, (2, cells), as a Range makes it in the file."""
    points = []
    for feature in features:
        h, w = (torch.arange(n, dtype=torch.float32) + 0.5 for n in feature.shape[2:])
        y, x = torch.meshgrid(h, w, indexing="ij")
        points.append(torch.stack((x, y), -1).view(-1, 2))
    return torch.cat(points).transpose(0, 1)


class Detector(nn.Module):
    """Two scales and SimAM at each; the anchors are computed, or kept for images of one size."""

    def __init__(self, anchors: str) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 4, 3, 2, 1)])
        self.simam = Spelled(lambda x, lam: x * torch.sigmoid(exponent(x, lam)), 1e-4)
        self.heads = nn.ModuleList([nn.Conv2d(4, 6, 1) for _ in self.convs])
        self.register_buffer("kept", torch.rand(2, 8 * 8 + 4 * 4) if anchors == "kept" else None)

    def forward(self, image: Tensor) -> Tensor:
        features = []
        for conv in self.convs:
            image = self.simam(torch.nn.functional.silu(conv(image)))
            features.append(image)
        features[0] = features[0] + torch.nn.functional.interpolate(features[1], scale_factor=2.0)
        found = torch.cat([head(x).flatten(2) for head, x in zip(self.heads, features, strict=True)], 2)
        box, scores = found.split((2, 4), 1)
        return torch.cat([box + (_grid(features) if self.kept is None else self.kept), scores.sigmoid()], 1)


@pytest.mark.parametrize("anchors", ["computed", "kept"])
def test_found_and_the_same_numbers(anchors: str) -> None:
    torch.manual_seed(0)
    file = io.BytesIO()
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    with quiet():
        torch.onnx.export(
            Detector(anchors).eval(), (torch.zeros(1, 3, 32, 32),), file, dynamo=False, opset_version=12,
            input_names=["image"], dynamic_axes=axes,
        )  # fmt: skip
    proto = onnx.load_model_from_string(file.getvalue())
    assert ("Range" in {node.op_type for node in proto.graph.node}) == (anchors == "computed")
    fused = fuse(ir.from_proto(proto), "primitive")
    assert [row.e_lambda for row in fused.rows] == [1e-4, 1e-4]
    assert not fused.near_misses
    after = ir.to_proto(fused.model).SerializeToString()
    for shape in ((2, 3, 32, 32), *([(1, 3, 64, 32)] if anchors == "computed" else [])):
        feeds = {"image": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        wanted, got = (session(model).run(None, feeds)[0] for model in (file.getvalue(), after))
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)
