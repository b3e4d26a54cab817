"""Weights for a model by name: what is taken, and the words for what is not."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch.load_model import load


def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 2), 5.0), "bias": torch.arange(3.0)}


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_the_shapes_people_save_them(home: Path, key: str | None, prefix: str, zipped: bool) -> None:
    held: object = {prefix + name: value for name, value in weights().items()}
    torch.save(held if key is None else {"epoch": 3, key: held}, home / "w.pt", _use_new_zipfile_serialization=zipped)
    module, _ = load("models.py:build", home / "w.pt")
    for name, value in weights().items():
        assert torch.equal(module.state_dict()[name], value)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"weight": torch.ones(3, 2)}, r"do not fit Linear:\n  missing: bias$"),
        ({**weights(), "extra": torch.ones(1)}, r"do not fit Linear:\n  left over: extra$"),
        ({**weights(), "weight": torch.ones(4, 2)}, r"weight: shape \(4, 2\) in the file, \(3, 2\) in the model$"),
        ({}, r"missing: weight\n  missing: bias"),
        ([torch.ones(1)], "holds no state_dict"),
        ({"weight": 3}, "holds no state_dict"),
        ({1: torch.ones(1)}, "holds no state_dict"),
    ],
)
def test_weights_that_do_not_fit(home: Path, held: object, words: str) -> None:
    torch.save(held, home / "w.pt")
    with pytest.raises(ModelFileError, match=words):
        load("models.py:build", home / "w.pt")


def test_many_misfits_are_cut_short(home: Path) -> None:
    (home / "deep.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])\n"
    )
    held = {f"{i}.{name}": torch.ones(1) for i in range(9) for name in ("weight", "bias")}
    torch.save(held, home / "w.pt")
    with pytest.raises(ModelFileError, match=r"0.weight: shape (.*\n){5}  and 13 more$"):
        load("deep.py:build", home / "w.pt")


def test_no_such_weights(home: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file w.pt"):
        load("models.py:build", "w.pt")
    with pytest.raises(ModelFileError, match="is a folder"):
        load("models.py:build", home)
    with pytest.raises(ModelFileError, match="/dev/null is no file with weights in it"):
        load("models.py:build", "/dev/null")
    os.mkfifo(home / "pipe")
    with pytest.raises(ModelFileError, match="pipe is no file with weights in it"):
        load("models.py:build", home / "pipe")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_weights(home: Path, zipped: bool) -> None:
    torch.save(weights(), home / "whole.pt", _use_new_zipfile_serialization=zipped)
    whole = (home / "whole.pt").read_bytes()
    for length in range(0, len(whole) - 1, 23):
        (home / "w.pt").write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="truncated"):
            load("models.py:build", "w.pt")


@pytest.mark.parametrize("content", [b"hello, I am no checkpoint", b"PK\x03\x04" + bytes(90), bytes(50)])
def test_what_is_no_checkpoint(home: Path, content: bytes) -> None:
    (home / "w.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"w.pt is not a file of torch.save, or is truncated"):
        load("models.py:build", "w.pt")


class Malicious:
    """Unpickled, it makes the folder `proof`."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("proof",)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_checkpoint_runs(home: Path, zipped: bool) -> None:
    torch.save({"state_dict": weights(), "x": Malicious()}, home / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match=r"holds a pickled \w+\.mkdir, not weights alone.*runs code"):
        load("models.py:build", "w.pt")
    assert not (home / "proof").exists()
    torch.load(home / "w.pt", weights_only=False)
    assert (home / "proof").exists()  # the file is as malicious as it should be


def test_a_pickled_class_in_a_zip_that_python_does_not_take(home: Path) -> None:
    torch.save({"x": Malicious()}, home / "w.pt")
    whole = bytearray((home / "w.pt").read_bytes())
    whole[whole.index(b"PK\x06\x07") + 4] = 1  # the disk of the directory; torch does not ask
    (home / "w.pt").write_bytes(whole)
    with pytest.raises(ModelFileError, match=r"holds a pickled \w+\.mkdir, not weights alone; opening it runs code"):
        load("models.py:build", "w.pt")


def test_plain_pickles_run_no_code_either(home: Path) -> None:
    (home / "w.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ModelFileError, match=r"w.pt"):
        load("models.py:build", "w.pt")
    assert not (home / "proof").exists()


def test_a_whole_pickled_model_is_refused_by_its_class(home: Path) -> None:
    torch.save(nn.Linear(2, 3), home / "w.pt")
    lines = r"pickled torch.nn.modules.linear.Linear.*\n  python -c .*\.state_dict\(\).* w.pt w.weights.pth\n  simam-"
    with pytest.raises(ModelFileError, match=lines):
        load("models.py:build", "w.pt")
