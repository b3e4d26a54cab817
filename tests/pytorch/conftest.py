"""Models in files, by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MODELS = """
import sys

import torch
from sibling_of_models import layer

from simam_deploy.errors import ShapeError

held = layer()
number = 3


def build():
    return layer()


def with_example():
    return layer(), torch.ones(1, 2)


def with_examples():
    return layer(), (torch.ones(1, 2), torch.zeros(3))


def with_list():
    return layer(), [torch.ones(1, 2)]


def training():
    return layer().train()


def no_tensor():
    return layer(), {"x": 1}


def empty_example():
    return layer(), ()


def three():
    return layer(), 1, 2


def wrong():
    return "a model"


def nothing():
    return None


def raises():
    raise KeyError("width")


def leaves():
    sys.exit(0)


def needs(width):
    return layer()


def refuses():
    raise ShapeError("of our own")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with models.py and its sibling, where the user stands."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "sibling_of_models.py").write_text(
        "from torch import nn\n\n\ndef layer():\n    return nn.Linear(2, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("models", "sibling_of_models", "package_here", "_simam_deploy_source_models"):
            del sys.modules[name]
