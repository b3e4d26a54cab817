"""Networks and random chains of operators keep their numbers with an epilogue folded."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.epilogues import data, net, ops, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_models import detector, resnet18, resnet50
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export

NETS = {
    "resnet50": (resnet50.build, "torchscript", {"SimAMAffineRelu": 16}),
    "resnet50 end": (resnet50.build_end, "torchscript", {"SimAMAffineAddRelu": 16}),
    "resnet18": (resnet18.build, "dynamo", {"SimAMAffineAddRelu": 8}),
    "detector": (detector.build, "dynamo", {"SimAM": 4}),  # a convolution follows, or a concatenation
}
"""The two large ones through the exporter that takes half as long."""


@pytest.mark.parametrize("name", NETS)
def test_networks(name: str, tmp_path: Path) -> None:
    build, exporter, wanted = NETS[name]
    model, example = build()
    done = export(model, example, tmp_path / "net.onnx", exporter=exporter, epilogue=True, check=False)
    assert Counter(row.op for row in done.fused.rows) == wanted
    assert not done.fused.notes
    said = json.loads((tmp_path / "net.onnx.json").read_text())
    assert Counter(block["op"] for block in said["blocks"]) == wanted
    with open_session(tmp_path / "net.onnx", "ort") as session, open_session(model, "eager") as eager:
        feed = example.numpy()
        got, want = (list(s.run({s.inputs[0].name: feed}).values()) for s in (session, eager))
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max())


STEPS = st.sampled_from(
    [
        "{o} = BatchNormalization ({i}, gamma, beta, mu, var)", "{o} = Mul ({i}, k)", "{o} = Mul (f, {i})",
        "{o} = Add (b, {i})", "{o} = Sub ({i}, f)", "{o} = Sub (k, {i})", "{o} = Div ({i}, g1)", "{o} = Add ({i}, r)",
        "{o} = Add (x, {i})", "{o} = Relu ({i})", "{o}s = Sigmoid ({i})\n {o} = Mul ({i}, {o}s)",
        "{o} = Identity ({i})", "{o} = Tanh ({i})", "{o} = Add ({i}, {i})",
    ]
)  # fmt: skip


@pytest.mark.parametrize("epilogue", [False, True])
def test_eight_identities_behind_it_are_taken_in_at_once(epilogue: bool) -> None:
    """What the first time leaves, a second time would take."""
    names = ["y", *(f"v{i}" for i in range(7)), "out"]
    source = net("\n".join(f"{o} = Identity ({i})" for i, o in itertools.pairwise(names)))
    once = fuse(source, epilogue=epilogue).model
    assert data(fuse(once, epilogue=epilogue).model) == data(once)


@given(steps=st.lists(STEPS, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_chains_keep_their_numbers(steps: list[str], tmp_path: Path) -> None:
    """Whatever stands behind SimAM: the same file in float64, up to the rounding of scale and bias."""
    names = ["y", *(f"v{i}" for i in range(len(steps) - 1)), "out"]
    lines = [s.format(i=i, o=o) for s, i, o in zip(steps, names, names[1:], strict=False)]
    source = net("\n".join(lines))
    fused = fuse(source, epilogue=True)
    exact, got = (run(m, tmp_path, "onnx_reference", "float64") for m in (source, fused.model))
    magnitude = np.abs(exact).max() + 1e3  # a chain may cancel what it added
    assert np.abs(got - exact).max() <= 1e-6 * magnitude
    assert data(fuse(fused.model, epilogue=True).model) == data(fused.model)
    if len(steps) == 1:
        stays = any(word in steps[0] for word in ("Tanh", "Identity", "({i}, {i})"))
        assert (ops(fused.model) == ["SimAM"]) == stays
