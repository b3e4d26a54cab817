"""Values of checkpoints: converted where nothing is lost, refused where they would change; and safetensors."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import Net, Weights, loaded, prefixed, refused, same, trained
from torch import nn

from simam_deploy.errors import ModelFileError, RuntimeUnavailable
from simam_deploy.pytorch import checkpoint

# values


def with_value(name: str, change: Any) -> Weights:
    held = trained()
    held[name] = change(held[name])
    return held


def one(value: float) -> Any:
    def put(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return put


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_size_are_converted_and_said(tmp_path: Path, kind: torch.dtype) -> None:
    held = {name: value.to(kind) if value.is_floating_point() else value for name, value in trained().items()}
    net, said = loaded(held, tmp_path)
    assert same(net, held)
    assert said.endswith(f"w.pth, 10 tensors of {str(kind)[6:]} converted to float32")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("head.weight", lambda t: t.int(), "head.weight: is int32 in the file, float32 in the model"),
        ("head.weight", lambda t: t.to(torch.int8), "is int8 in the file"),
        ("scale", lambda t: t.long(), "scale: is int64 in the file"),
        ("head.bias", lambda t: t > 0, "head.bias: is bool in the file"),
        ("head.bias", lambda t: t + 1j, "head.bias: is complex64 in the file, float32 in the model"),
        ("head.bias", one(torch.nan), r"head.bias: holds NaN or infinity: 1 of 3; the model has none there"),
        ("norm.running_var", one(torch.inf), r"running_var: holds NaN or infinity: 1 of 2"),
        ("head.weight", lambda t: one(1e300)(t.double()), r"head.weight: holds numbers that are infinite in float32"),
        ("mask", one(torch.nan), r"mask: holds NaN or infinity: 1 of 2"),
        ("mask", lambda t: t.flip(0), r"mask: holds NaN or infinity: 1 of 2"),
        ("norm.num_batches_tracked", lambda t: t + 0.5, "holds numbers of float32 in the file that int64"),
        ("norm.num_batches_tracked", lambda _: torch.tensor(torch.nan), "holds numbers of float32 in the file"),
        ("head.weight", lambda t: t.to_sparse(), r"head.weight: is a sparse or nested tensor .* to_dense\(\)"),
        ("head.weight", lambda t: t.to("meta"), "head.weight: is a meta tensor, without values"),
        (
            "head.weight",
            lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
            r"head.weight: is a quantised tensor .* dequantize\(\)",
        ),
        ("head.bias", lambda t: t[:1], r"head.bias: shape \(1,\) in the file, \(3,\) in the model"),
        ("scale", lambda t: t.expand(3), r"scale: shape \(3,\) in the file, \(\) in the model"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse|torch.quantize|.*quantiz:UserWarning", "ignore::DeprecationWarning")
def test_values_that_would_change_are_refused(tmp_path: Path, name: str, change: Any, words: str) -> None:
    refused(with_value(name, change), tmp_path, words)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("norm.num_batches_tracked", lambda t: t.float()),
        ("norm.num_batches_tracked", lambda t: t.int()),
        ("scale", lambda t: t.reshape(1)),
        ("mask", lambda t: t.double()),
    ],
)
def test_values_that_stay_what_they_are_are_taken(tmp_path: Path, name: str, change: Any) -> None:
    net, _ = loaded(with_value(name, change), tmp_path)
    assert same(net, {**trained(), name: trained()[name]})


def test_a_count_of_batches_may_be_missing(tmp_path: Path) -> None:
    held = trained()
    del held["norm.num_batches_tracked"]
    net, _ = loaded(held, tmp_path)
    assert torch.equal(net.conv.weight, held["conv.weight"])


def test_a_model_on_the_meta_device_takes_no_weights(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match="is on the meta device in the model"):
        checkpoint.load(Net().to("meta"), tmp_path / "w.pth")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = self.first


def test_a_tensor_with_two_names_is_needed_once(tmp_path: Path) -> None:
    once = {"first.weight": torch.ones(2, 2), "first.bias": torch.ones(2)}
    torch.save(once, tmp_path / "w.pth")
    net = Tied()
    checkpoint.load(net, tmp_path / "w.pth")
    assert torch.equal(net.second.weight, torch.ones(2, 2))
    torch.save({**once, "second.weight": torch.zeros(2, 2), "second.bias": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(
        ModelFileError, match=r"second.weight: differs from first.weight, and the model keeps both in"
    ):
        checkpoint.load(net, tmp_path / "w.pth")


def test_lazy_and_old_modules_read_their_entries_themselves(tmp_path: Path) -> None:
    torch.save({"weight": torch.full((3, 4), 5.0), "bias": torch.ones(3)}, tmp_path / "w.pth")
    lazy = nn.LazyLinear(3)
    checkpoint.load(lazy, tmp_path / "w.pth")
    assert lazy.weight.shape == (3, 4)
    old = {"weight_g": torch.full((3, 1), 2.0), "weight_v": torch.ones(3, 2), "bias": torch.ones(3)}
    for prefix in ("", "module."):
        normed = nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
        torch.save(prefixed(prefix, old), tmp_path / "w.pth")
        checkpoint.load(normed, tmp_path / "w.pth")
        assert torch.allclose(normed.weight, torch.full((3, 2), 2**0.5))


def test_versions_of_modules_travel_with_a_prefix(tmp_path: Path) -> None:
    seen = []

    class Versioned(nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            seen.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    for wrapped in (Versioned(2, 3), nn.Sequential(OrderedDict(module=Versioned(2, 3)))):
        torch.save(wrapped.state_dict(), tmp_path / "w.pth")
        checkpoint.load(Versioned(2, 3), tmp_path / "w.pth")
    assert seen == [3, 3]


def test_dicts_that_hold_themselves_come_to_an_end(tmp_path: Path) -> None:
    deep: Weights = {"state_dict": trained()}
    deep["model"] = deep
    assert same(loaded(deep, tmp_path)[0], trained())
    wide: Weights = {}
    for _ in range(6):
        wide = {str(i): wide for i in range(300)}
    refused(wide, tmp_path, "holds no state_dict")


def test_tensors_that_claim_more_than_they_hold_are_not_read(tmp_path: Path) -> None:
    held = {part: {**trained(), "head.weight": torch.zeros(1).expand(2**20, 2**20)} for part in ("a", "b")}
    refused(held, tmp_path, r"head.weight: shape \(1048576, 1048576\) in the file, \(3, 2\) in the model")


# safetensors


def test_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    for name in ("w.safetensors", "w.pth"):
        save_file(prefixed("module.", trained()), tmp_path / name)
        net = Net()
        said = checkpoint.load(net, tmp_path / name)
        assert same(net, trained())
        assert said == f'weights: {tmp_path}/{name}, prefix "module." taken off'
    whole = (tmp_path / "w.pth").read_bytes()
    for length in (9, len(whole) // 3, len(whole) - 1):
        (tmp_path / "w.pth").write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="is truncated"):
            checkpoint.load(Net(), tmp_path / "w.pth")


def test_safetensors_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(RuntimeUnavailable, match=r'pip install "simam-deploy\[safetensors\]"'):
        checkpoint.load(Net(), tmp_path / "w.safetensors")
