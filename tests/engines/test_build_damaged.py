"""Damaged models through `build`: an engine, or an error in words. The parent never ends, and nothing is left."""

import re
import resource
import time
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest
from helpers.damaged_networks import GRAPHS, NODES, Damage, bytes_of
from helpers.graphs import BODY
from helpers.plugin import built_plugin
from helpers.small_onnx import names, save

import simam_deploy as sd
from export_models import digits
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.inspection import inspect
from simam_deploy.errors import SimAMDeployError

pytestmark = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
SECONDS, LONGEST = 15, 25_000
"""Upper bounds on the time of one, and on the characters of an error."""
SEEDS = range(24)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    sd.export(*digits.build(), path, check=False, exporter="torchscript", form="function")
    return onnx.load(path)


def answered(model: Path, words: str, plugin: str | Path) -> None:
    """Build it; an error has `words`, or any if "" is given, and then an engine is an answer too."""
    before, began = set(names(model.parent)), time.monotonic()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        build_engine(model, model.with_name("net.engine"), targets=["sm86"], plugin=plugin, timeout_s=SECONDS)
    except SimAMDeployError as error:
        said = str(error)
        assert re.search(words, said), said[:LONGEST]
        assert "Traceback" not in said
        assert 'File "' not in said
        assert len(said) < LONGEST
        assert re.search(r"model\.onnx|node|input|at the sizes in the file", said)
        assert set(names(model.parent)) == before
    else:
        assert words == "", "it was built"
        assert inspect(model.with_name("net.engine"), against=model).disagreements == ()
        assert set(names(model.parent)) == before | {"net.engine", "net.engine.json"}
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2**20  # KiB


def damaged(network: onnx.ModelProto, damage: Damage, folder: Path) -> Path:
    model, path = onnx.ModelProto(), folder / "model.onnx"
    model.CopyFrom(network)
    damage(model, folder)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", GRAPHS)
def test_a_damaged_network(name: str, network: onnx.ModelProto, tmp_path: Path) -> None:
    damage, words = GRAPHS[name]
    answered(damaged(network, damage, tmp_path), words, "none")


@pytest.mark.parametrize("name", NODES)
def test_a_damaged_node_of_the_plugin(name: str, network: onnx.ModelProto, tmp_path: Path) -> None:
    library = built_plugin()
    damage, words = NODES[name]
    answered(damaged(network, damage, tmp_path), words, library)


@pytest.mark.parametrize("seed", SEEDS)
def test_damaged_bytes(seed: int, network: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes_of(seed, network.SerializeToString()))
    answered(path, "", "none")


@pytest.mark.parametrize("with_plugin", [False, True], ids=["definition", "plugin"])
@pytest.mark.parametrize("rank", range(7))
def test_simam_of_every_rank(rank: int, with_plugin: bool, tmp_path: Path) -> None:
    """The plugin takes rows, maps and volumes. The definition in this file computes over axes 2 and 3."""
    dims = ",".join(["2"] * rank)
    call = f"g (float[{dims}] x) => (float[{dims}] y) {{ [block] y = simam.SimAM<e_lambda: float = 0.1>(x) }}"
    taken = (3, 4, 5) if with_plugin else (4, 5, 6)
    refused = "x must have 3, 4 or 5 dimensions" if with_plugin else "block"
    words = "" if rank in taken else "input 'x' has no shape in the file" if rank == 0 else refused
    answered(save(tmp_path, call + BODY), words, built_plugin() if with_plugin else "none")
