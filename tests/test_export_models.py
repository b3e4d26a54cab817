"""The models to export: reproducible, named like the published checkpoints, with outputs worth comparing."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export_models import detector, digits, mobilenetv2, resnet18, resnet50, scenes, train_digits
from simam_deploy.errors import ShapeError
from simam_deploy.pytorch.module import SimAM

Build = Callable[[], tuple[nn.Module, Tensor]]
MODELS: dict[str, tuple[Build, int, int]] = {
    # parameters as torchvision counts them for the three it has; SimAM adds none. Then the number of SimAM modules.
    "resnet18": (resnet18.build, 11_689_512, 8),
    "resnet18 end": (resnet18.build_end, 11_689_512, 8),
    "resnet18 plain": (resnet18.build_plain, 11_689_512, 0),
    "resnet50": (resnet50.build, 25_557_032, 16),
    "resnet50 end": (resnet50.build_end, 25_557_032, 16),
    "resnet50 plain": (resnet50.build_plain, 25_557_032, 0),
    "mobilenetv2": (mobilenetv2.build, 3_504_872, 17),
    "mobilenetv2 plain": (mobilenetv2.build_plain, 3_504_872, 0),
    "detector": (detector.build, 1_829_645, 4),
    "detector plain": (detector.build_plain, 1_829_645, 0),
    "digits": (digits.build, 56_554, 3),
    "scenes": (scenes.build, 644_108, 6),
}
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """On cores shared with other work, threads that wait for each other made these tests six times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def built(name: str) -> tuple[nn.Module, Tensor]:
    """One build per model for all tests that only look at it."""
    return MODELS[name][0]()


@cache
def outputs(name: str) -> tuple[Tensor, ...]:
    net, x = built(name)
    return run(net, x)


def run(net: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        y = net(x)
    return y if isinstance(y, tuple) else (y,)


# with and without SimAM a model takes the same path, so one of each kind is built twice
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2", "detector", "digits", "scenes"])
def test_two_builds_are_equal_and_leave_the_random_state_alone(name: str) -> None:
    first = outputs(name)
    torch.manual_seed(1234)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    net, x = MODELS[name][0]()
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(x, built(name)[1])
    assert all(torch.equal(a, b) for a, b in zip(run(net, x), first, strict=True))


@every_model
def test_parameters_and_attention_are_counted(name: str) -> None:
    net, x = built(name)
    _, parameters, simams = MODELS[name]
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(isinstance(m, SimAM) for m in net.modules()) == simams
    assert not net.training
    assert x.dtype == torch.float32
    assert all(t.dtype == torch.float32 for t in net.state_dict().values() if t.is_floating_point())


@every_model
def test_outputs_are_of_order_one(name: str) -> None:
    for y in outputs(name):
        assert y.isfinite().all()
        assert 0.3 < y.std().item() < 10
        assert y.abs().max().item() < 50


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2", "detector"])
def test_outputs_depend_on_the_image(name: str) -> None:
    # an output that is nearly the same for every image would hide a wrong conversion
    net, x = built(name)
    for y, other in zip(outputs(name), run(net, x.flip(3) * 0.9 + 0.1), strict=True):
        assert ((y - other).std() / y.std()).item() > 0.1


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2", "detector"])
def test_leaving_simam_out_shows(name: str) -> None:
    net, x = MODELS[name][0]()
    for parent in list(net.modules()):
        for child, module in parent.named_children():
            if isinstance(module, SimAM):
                setattr(parent, child, nn.Identity())
    for y, other in zip(outputs(name), run(net, x), strict=True):
        assert ((y - other).std() / y.std()).item() > 0.1


def test_batchnorm_is_not_at_its_defaults() -> None:
    net, _ = built("resnet18")
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        assert norm.momentum == 0.1
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert values.std() > 1e-3


def test_another_number_of_threads_builds_the_same_network() -> None:
    one, _ = built("resnet18")
    torch.set_num_threads(2)
    try:
        other, _ = resnet18.build()
    finally:
        torch.set_num_threads(1)
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        # calibrated in float64, so at most one rounding to float32 can differ
        torch.testing.assert_close(a, b, rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [
        ("resnet18", "layer1.0.conv2.0.weight", "layer1.0.conv2.weight"),
        ("resnet18", "layer2.0.downsample.0.weight", "layer1.0.downsample.0.weight"),
        ("resnet18", "layer4.1.bn2.running_var", "layer4.1.bn3.running_var"),
        ("resnet18 end", "layer1.0.conv2.weight", "layer1.0.conv2.0.weight"),
        ("resnet18 plain", "layer1.0.conv2.weight", "layer1.0.conv2.0.weight"),
        ("resnet50", "layer3.5.conv2.0.weight", "layer3.6.conv2.0.weight"),
        ("resnet50", "layer1.0.downsample.1.running_mean", "layer1.1.downsample.1.running_mean"),
        ("resnet50", "fc.bias", "classifier.bias"),
        ("mobilenetv2", "features.1.conv.0.0.weight", "features.1.conv.3.weight"),
        ("mobilenetv2", "features.17.conv.3.running_var", "features.17.conv.4.weight"),
        ("mobilenetv2", "classifier.1.bias", "classifier.0.bias"),
    ],
)
def test_weights_are_named_like_the_published_ones(name: str, present: str, absent: str) -> None:
    keys = built(name)[0].state_dict().keys()
    assert present in keys
    assert absent not in keys


@pytest.mark.parametrize("model", [resnet18, resnet50])
def test_published_weights_are_torchvisions_with_conv2_moved(model: ModuleType) -> None:
    name = model.__name__.rpartition(".")[2]
    plain = built(f"{name} plain")[0].state_dict()
    moved = [key.replace("conv2.weight", "conv2.0.weight") for key in plain]
    assert list(built(name)[0].state_dict()) == moved
    assert len(plain) == {"resnet18": 122, "resnet50": 320}[name]


def test_detector_gives_three_maps_at_any_multiple_of_32() -> None:
    net, x = built("detector")
    assert tuple(x.shape) == (1, 3, 320, 320)
    assert [tuple(y.shape) for y in outputs("detector")] == [(1, 255, 40, 40), (1, 255, 20, 20), (1, 255, 10, 10)]
    other = run(net, x.expand(2, -1, -1, -1)[:, :, :64, :96])
    assert [tuple(y.shape) for y in other] == [(2, 255, 8, 12), (2, 255, 4, 6), (2, 255, 2, 3)]


def test_detector_exports_with_dynamic_batch_height_and_width() -> None:
    net, x = built("detector")
    free = torch.export.Dim.DYNAMIC
    # two images: an example with one makes torch.export take N = 1 for a constant
    program = torch.export.export(net, (torch.cat([x, x]),), dynamic_shapes=({0: free, 2: free, 3: free},))
    exported = program.module()
    for shape in [(1, 3, 320, 320), (3, 3, 64, 96), (2, 3, 160, 352)]:
        image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        for y, expected in zip(run(exported, image), run(net, image), strict=True):
            # the same operators in the same order; a wrong size anywhere would show in the first digit
            torch.testing.assert_close(y, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "detector"])
def test_images_too_small_for_simam_are_refused(name: str) -> None:
    with pytest.raises(ShapeError, match="1x1"):
        built(name)[0](torch.zeros(1, 3, 32, 32))


def test_digits_are_read_from_held_out_scans() -> None:
    net, example = built("digits")
    images, labels = digits.test_set()
    assert (images.shape, images.dtype) == ((450, 1, 8, 8), np.float32)
    assert (labels.shape, labels.dtype) == ((450,), np.int64)
    assert images.min() == 0
    assert images.max() == 1
    assert np.bincount(labels).min() >= 43
    (logits,) = run(net, torch.from_numpy(images))
    assert (logits.argmax(1).numpy() == labels).mean() >= 0.98
    assert tuple(example.shape) == (1, 1, 8, 8)
    assert outputs("digits")[0].argmax().item() == 7


def test_held_out_scans_are_not_trained_on() -> None:
    trained, held = (images.reshape(len(images), -1) for images, _ in (digits.training_set(), digits.test_set()))
    assert len(trained) + len(held) == 1797
    assert not {row.tobytes() for row in trained} & {row.tobytes() for row in held}
    assert np.array_equal(digits.test_set()[0], digits.test_set()[0])


def test_digits_weights_are_small() -> None:
    assert digits.WEIGHTS.stat().st_size < 1_000_000


def test_training_learns_prints_and_writes_the_same_file_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.get_rng_state()
    for file in ("a.pt", "b.pt"):
        train_digits.main(["--epochs", "2", "--out", str(tmp_path / file)])
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]  # nothing is left beside
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch  1  loss ")
    assert "test accuracy" in lines[1]
    assert float(lines[1].split()[-1].rstrip("%")) > 50  # ten digits: chance is 10
    net = digits.Digits()
    net.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))


def test_a_failed_write_leaves_the_old_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digits.pt"
    path.write_bytes(b"old")

    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space left"):
        train_digits.save(digits.Digits(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["digits.pt"]
    assert path.read_bytes() == b"old"


def test_training_refuses_zero_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train_digits.main(["--epochs", "0"])
    assert "--epochs must be at least 1; got 0" in capsys.readouterr().err
