"""Pickles by anybody: each is named as what it is, with lines that do the job or none, and none is opened."""

import argparse
import pickle
import shlex
import sys
import time
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from simam_deploy.artifacts.file_kinds import what_is
from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch.checkpoint import load

pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code", "ignore::UserWarning")


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def optimizer() -> dict[str, Any]:
    model = net()
    made = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3, 5, 5)).sum().backward()
    made.step()
    return made.state_dict()


def saved(held: Any, path: Path, *, zipped: bool = True) -> str:
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    return what_is(path)


def pickled(held: Any, path: Path, protocol: int = 4) -> str:
    path.write_bytes(pickle.dumps(held, protocol=protocol))
    return what_is(path)


def run(said: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the line of Python, and check the one behind it; returns the file that it writes."""
    python, _, code, *names = shlex.split(said.splitlines()[1])
    assert python == "python"
    monkeypatch.setattr(sys, "argv", ["-c", *names])
    exec(code, {})
    assert shlex.split(said.splitlines()[2])[2:5] == ["model.py:build", "--weights", names[1]]
    return Path(names[1])


NO_WEIGHTS = {
    "tensor": (lambda: torch.ones(3), "holds one tensor, and no model"),
    "parameter": (lambda: nn.Parameter(torch.ones(3)), "holds one tensor, and no model"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "holds one tensor"),
    "list": (lambda: [torch.ones(3), torch.ones(2)], "holds a list of tensors without names, and no model"),
    "tuple": (lambda: (torch.ones(3),), "holds a tuple of tensors without names, and no model"),
    "numbers": (lambda: {0: torch.ones(3), 1: torch.ones(3)}, "holds a dict of tensors without names"),
    "adam": (optimizer, "holds the state of an optimizer, and no model nor the weights of one"),
    "sgd": (lambda: torch.optim.SGD(net().parameters(), lr=0.1).state_dict(), "holds the state of an optimizer"),
    "optimizer": (lambda: torch.optim.SGD(net().parameters(), lr=0.1), "pickled torch.optim.sgd.SGD; opening it"),
    "settings": (lambda: {"lr": 0.1}, "holds a value of type dict with no tensors in it, and no model"),
    "text": (lambda: "hello", "holds a value of type str with no tensors in it"),
    "size": (lambda: torch.Size([1, 2]), "holds a value of type torch.Size with no tensors in it"),
    "arrays": (lambda: {"x": np.ones(3)}, "holds a dict of NumPy arrays, and no model"),
    "namespace": (lambda: argparse.Namespace(lr=1), "holds a pickled argparse.Namespace; opening it runs code"),
}


@pytest.mark.parametrize("name", NO_WEIGHTS)
@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_without_weights_by_name_get_no_lines(tmp_path: Path, name: str, zipped: bool) -> None:
    make, words = NO_WEIGHTS[name]
    said = saved(make(), tmp_path / "x.pt", zipped=zipped)
    assert "x.pt is a file of PyTorch that" in said
    assert words in said
    assert "\n" not in said


@pytest.mark.parametrize(
    "wrap",
    [
        lambda sd: sd,
        lambda sd: {"epoch": 1, "optimizer": optimizer(), "model": sd},
        lambda sd: {"a": {"b": sd}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_taken_as_they_are(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    said = saved(wrap(net().state_dict()), tmp_path / "x.pt", zipped=zipped)
    assert "x.pt is a file of weights, without the code" in said
    load(net(), tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_a_list_are_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    said = saved([1, net().state_dict(), optimizer()], tmp_path / "x.pt", zipped=zipped)
    assert "weights_only=True" in said
    load(net(), run(said, monkeypatch))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    weights = {f"model.{name}": value for name, value in net().state_dict().items()}
    held = {
        "epoch": 3,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": weights,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [optimizer()],
        "hyper_parameters": {"lr": 1e-3},
    }
    assert "x.ckpt is a checkpoint of PyTorch Lightning, without" in saved(held, tmp_path / "x.ckpt", zipped=zipped)
    load(net(), tmp_path / "x.ckpt")
    held["hyper_parameters"] = argparse.Namespace(lr=1e-3)
    said = saved(held, tmp_path / "y.ckpt", zipped=zipped)
    assert "holds a pickled argparse.Namespace, not weights alone; opening it runs code" in said
    load(net(), run(said, monkeypatch))


WHOLE = {
    "alone": lambda m: m,
    "trained": lambda m: {"epoch": 1, "params": [1], "model": m, "optimizer": optimizer()},
    "in a tuple": lambda m: (m, optimizer()),
    "averaged": lambda m: {"ema": {"module": m}, "lr": np.float64(0.1)},
    "as arrays": lambda m: {"model": {k: v.numpy() for k, v in m.state_dict().items()}, "lr": np.float64(0.1)},
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("kind", ["zip", "row", 0, 1, 2, 3, 4, 5])
def test_the_lines_take_the_weights_out_of_a_whole_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: Any
) -> None:
    held = WHOLE[name](net())
    if isinstance(kind, int):
        said = pickled(held, tmp_path / "it's.pkl", kind)
        assert "is a pickle that holds a pickled" in said
    else:
        said = saved(held, tmp_path / "it's.pkl", zipped=kind == "zip")
        assert "is a file of PyTorch that holds a pickled" in said
    assert "torch.nn.modules.container.Sequential" in said or name == "as arrays"
    load(net(), run(said, monkeypatch))


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    path = tmp_path / "x.pkl"
    assert "is a pickle that holds an array of NumPy, and no model" in pickled(np.ones((3, 4)), path, protocol)
    assert "is a pickle that holds a dict of NumPy arrays, and no model" in pickled({"w": np.ones(3)}, path, protocol)
    assert "is a pickle that holds a value of type dict with no tensors" in pickled({"w": 1}, path, protocol)
    assert "is a pickle that holds a value of type list with no tensors" in pickled([1, "a"], path, protocol)
    said = pickled(net().state_dict(), path, protocol)
    assert "is a pickle of weights, not by torch.save; opening it runs code" in said
    with pytest.raises(ModelFileError, match="is a pickle of weights") as refused:
        load(net(), path)
    assert str(refused.value) == said
    load(net(), run(said, monkeypatch))


def test_files_of_joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind its wrapper of an array stand the bytes of that, so the pickle ends there."""
    module = types.ModuleType("joblib.numpy_pickle")
    wrapper = type("NumpyArrayWrapper", (), {"__module__": module.__name__})
    module.NumpyArrayWrapper = wrapper  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "joblib", types.ModuleType("joblib"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data = pickle.dumps({"w": wrapper()})
    (tmp_path / "x.joblib").write_bytes(data[:-3] + np.ones(99).tobytes())
    assert "x.joblib is a file of joblib; opening it runs code" in what_is(tmp_path / "x.joblib")
    for level in (0, 3, 6, 9):
        (tmp_path / "y.joblib").write_bytes(zlib.compress(data, level))
        assert "y.joblib is compressed with zlib, as joblib does" in what_is(tmp_path / "y.joblib")


def test_nothing_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    for protocol in range(6):
        assert "opening it runs code" in pickled({"state": Evil()}, tmp_path / "x.pkl", protocol)
    assert "opening it runs code" in saved([Evil()], tmp_path / "x.pt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"N" * 2**20,
        b"(" * 2**20,
        b"}" * 2**20,
        b"(" + b"}\x94" * 2**19,
        b"N" + b"\x85" * 2**20,
        b"N.\x80\x02" * 2**18,
        b"]" + b"2a" * 2**19,
        b"]" + b"2(2e" * 2**18,
        b"]" * 2**19 + b"a" * 2**19,
        b"X\xff\xff\xff\x7f" + b"a" * 2**20,
        b"}q\x00(" + b"".join(b"X\x04\0\0\0k%03dh\x00" % i for i in range(999)) + b"u.",
        b")" + b"\x85" * 5000 + b"\x8c\x01a\x93.",
        b")q\x00" + b"h\x00h\x00\x86q\x00" * 30 + b"h\x00\x8c\x01a\x93.",
        b"\x8c\x01aq\x00" + b"X\0\0\x0c\0" + b"a" * 3 * 2**18 + b"q\x01" + b"h\x01h\x00\x930" * 24_000 + b".",
    ],
    ids=range(14),
)
def test_hostile_pickles_are_read_briefly(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + content)
    start = time.process_time()
    assert "\n" not in what_is(tmp_path / "x.pkl")
    assert time.process_time() - start < 1
