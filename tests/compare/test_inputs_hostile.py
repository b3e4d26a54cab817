"""Inputs made to do harm: an error in words, at once, without the memory that they ask for, and no other program."""

import os
import re
import subprocess
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import Run
from hostile.inputs import INPUTS

from simam_deploy.compare.inputs import cases
from simam_deploy.errors import InputError
from simam_deploy.runtimes import TensorSpec

X = TensorSpec("x", np.dtype(np.float32), (1, 3, 4, 5))
MOST_BYTES, SECONDS = 120 * 2**20, 5
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes and links as POSIX has them")


@pytest.mark.parametrize("name", INPUTS)
def test_an_error_in_words(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, words = INPUTS[name]
    write(tmp_path / name)

    def no_program(*_: object, **__: object) -> None:
        pytest.fail("another program was started")

    monkeypatch.setattr(subprocess, "Popen", no_program)
    tracemalloc.start()
    start = time.monotonic()
    try:
        with pytest.raises(InputError) as refused:
            list(cases([str(tmp_path / name)], [X]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert re.search(words, str(refused.value), re.DOTALL)
    assert peak < MOST_BYTES
    assert time.monotonic() - start < SECONDS


def test_arrays_that_are_as_they_say(tmp_path: Path) -> None:
    """Of every layout that NumPy writes, and deflated as far as measured values are."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 3, 4, 5)).astype(np.float32)
    for save in (np.savez, np.savez_compressed):
        for array in (x, np.asfortranarray(x), x[::-1], x.astype(">f4"), x.astype(np.float16)):
            save(tmp_path / "in.npz", x=array)
            (case,) = cases([str(tmp_path / "in.npz")], [X])
            np.testing.assert_array_equal(np.concatenate([feed[0] for feed in case.feeds]), array.astype(np.float32))
    np.savez_compressed(tmp_path / "in.npz", x=np.zeros((1000, 3, 4, 5), np.float32))
    (case,) = cases([str(tmp_path / "in.npz")], [X])
    assert len(case.feeds) == 1000


def test_a_model_that_takes_more_than_pictures_are_made_to(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="more numbers than pictures are made to"):
        list(cases([str(tmp_path)], [TensorSpec("x", np.dtype(np.float32), (1, 3, 2**20, 2**20))]))


def test_the_command_line_says_it_escaped(folder: Path, run: Run) -> None:
    INPUTS["name_with_controls.npz"][0](folder / "in.npz")
    status, out, err = run("verify fixed.onnx --inputs in.npz")
    assert (status, out) == (2, "")
    assert err.replace("\n", "").isprintable()
    assert r"a\x1b[31m\u202eb.npy" in err


def test_a_truth_value_for_a_size_is_refused_in_words(folder: Path, run: Run) -> None:
    """NumPy's reader of headers takes it for a whole number, and its arrays do not."""
    header = b"{'descr':'<f4','fortran_order':False,'shape':(True,3)}\n"
    with zipfile.ZipFile(folder / "in.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 12)
    status, out, err = run("verify fixed.onnx --inputs in.npz --runtimes onnx_reference")
    assert (status, out) == (2, "")
    assert "as float32[True, 3]" in err
