"""The scenes detector: how well it finds, how it is trained, and its ONNX file."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export_models import scenes, train_scenes
from export_models.scenes import data, metrics
from export_models.scenes.net import Scenes
from simam_deploy.runtimes import open_session
from simam_deploy.to_onnx import export

GOOD = 0.9


def test_digits_are_found_and_named_on_held_out_scenes() -> None:
    net, example = scenes.build()
    images, truths = data.test_set(32)
    assert metrics.mean_average_precision(scenes.detect(net, images), truths) >= GOOD
    (seven,) = scenes.detect(net, example.numpy())
    assert seven.labels[0] == 7
    assert seven.scores[0] > 0.5
    ink = np.array([[48, 48, 112, 112]], np.float32)
    assert metrics.overlaps(seven.boxes[:1], ink)[0, 0] > 0.6


def test_weights_are_small() -> None:
    assert scenes.WEIGHTS.stat().st_size < 3_000_000


def test_other_sizes_give_other_maps() -> None:
    net, _ = scenes.build()
    shapes = [tuple(y.shape) for y in net(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(2, 4, 8, 12), (2, 10, 8, 12), (2, 4, 4, 6), (2, 10, 4, 6)]


def test_the_loss_wants_outputs_that_decode_to_the_truth() -> None:
    """Outputs without a network, moved by the loss alone."""
    images, boxes, labels = train_scenes._batch(0)
    raw = [
        torch.full((len(images), channels, side, side), start, requires_grad=True)
        for side in (20, 10)
        for channels, start in ((4, 0.0), (10, -4.6))
    ]
    optimizer = torch.optim.Adam(raw, lr=0.1)
    for _ in range(150):
        loss = train_scenes._loss(tuple(raw), boxes, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, truths = data.training_set(len(images))
    found = metrics.decode([y.detach().numpy() for y in raw])
    assert metrics.mean_average_precision(found, truths, iou=0.75) > 0.99
    sure = sum(int((one.scores > 0.5).sum()) for one in found)
    assert sure == sum(len(one.labels) for one in truths)
    second = max(float(y.detach().sigmoid().topk(2, dim=1).values[:, 1].max()) for y in raw[1::2])
    assert second < 0.1


def test_training_prints_and_writes_the_same_file_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_scenes, "BATCH", 2)
    monkeypatch.setattr(train_scenes, "THREADS", 1)  # threads that wait for each other are slow on shared cores
    monkeypatch.setattr(train_scenes, "REPORT", 2)
    monkeypatch.setattr(data, "TEST_SCENES", 2)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for file in ("a.pt", "b.pt"):
            train_scenes.main(["--steps", "3", "--out", str(tmp_path / file)])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  loss ")[0] for line in lines[:2]] == ["step    2", "step    3"]
    assert "test mAP@0.5 0." in lines[2]
    Scenes().load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))


def test_training_refuses_zero_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_scenes.main(["--steps", "0"])
    assert "--steps must be at least 1; got 0" in capsys.readouterr().err


def test_the_onnx_file_finds_the_same(tmp_path: Path) -> None:
    net, example = scenes.build()
    path = tmp_path / "scenes.onnx"
    done = export(
        net, example, path, exporter="torchscript", dynamic=["batch", "height", "width"], runtimes=["ort"],
        inputs=["plain"],
    )  # fmt: skip
    assert len(done.fused.rows) == 6
    images, truths = data.test_set(32)
    with open_session(path, "ort", threads=1) as session:
        found = metrics.decode(list(session.run({session.inputs[0].name: images}).values()))
    in_torch = scenes.detect(net, images)
    assert metrics.mean_average_precision(found, truths) == pytest.approx(
        metrics.mean_average_precision(in_torch, truths), abs=1e-3
    )
    for ours, theirs in zip(found, in_torch, strict=True):
        assert len(ours.labels) == len(theirs.labels)
