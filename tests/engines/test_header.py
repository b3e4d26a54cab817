"""The header of engines: each field is where it was found, in engines that are really built."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.made_engine import header
from helpers.small_onnx import HEAD
from onnx import numpy_helper, parser

from simam_deploy.engines import header as headers
from simam_deploy.engines.builder import build_engine

needs_builder = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
SETS = [
    *([target] for target in headers.TARGETS),
    ["sm80", "sm121"],
    ["sm80", "sm86", "sm89", "sm120", "sm121"],
    list(headers.TARGETS),
]


# ---- engines


@needs_builder
@pytest.mark.parametrize("targets", SETS, ids="+".join)
def test_the_header_of_an_engine_that_was_built(targets: list[str], static: Path) -> None:
    out = static.with_name("model.engine")
    report = build_engine(static, out, targets=targets)
    data = out.read_bytes()
    assert headers.begins_engine(data)
    read = headers.read(data[: headers.LENGTH], len(data))
    assert read == headers.Header("tensorrt_rtx", report.version, tuple(targets), len(data), ())


@needs_builder
def test_every_byte_has_a_field(static: Path, tmp_path: Path) -> None:
    """Targets, length and weights are all that varies from one engine to another."""
    seen = []
    for size in (8, 300):
        model = parser.parse_model(HEAD + f"g (float[1,{size}] x) => (float[1,{size}] y) {{ y = MatMul(x, w) }}")
        model.graph.initializer.append(numpy_helper.from_array(np.full((size, size), 0.1, np.float32), "w"))
        onnx.save(model, tmp_path / "mul.onnx")
        for targets in (["sm80"], ["sm86", "sm120"]):
            build_engine(tmp_path / "mul.onnx", tmp_path / "mul.engine", targets=targets)
            data = (tmp_path / "mul.engine").read_bytes()
            assert int.from_bytes(data[56:64], "little") == 4 * size * size
            seen.append(data[:64])
    build_engine(static, static.with_name("model.engine"), targets=["sm75"])
    seen.append(static.with_name("model.engine").read_bytes()[:64])
    vary = {at for at in range(64) if len({data[at] for data in seen}) > 1}
    assert vary <= {*range(16, 24), *range(32, 40), *range(56, 64)}
    assert {16, 32, 57} <= vary


@needs_builder
def test_the_length_is_that_of_the_library() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert trt.Runtime(trt.Logger(trt.Logger.ERROR)).engine_header_size == headers.LENGTH
    ours = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    assert tuple(ours) == headers.TARGETS


# ---- headers made here


def test_a_made_header_has_no_fault() -> None:
    assert headers.read(header(100), 100) == headers.Header("tensorrt_rtx", "1.7.1.116", ("sm86", "sm89"), 100, ())


@pytest.mark.parametrize(
    ("at", "words"),
    [
        *((at, r"bytes 4 to 7 are \w+, and 00000000 in engines") for at in range(4, 8)),
        *((at, r"bytes 8 to 15 are \w+, and 02\w+ in engines") for at in range(8, 16)),
        *(
            (at, r"the header says [\d,]+ bytes, and the file has 1,234,567: .*; copy the engine")
            for at in range(16, 24)
        ),
        *((at, r"bytes 28 to 31 are \w+, and 76747274 in engines") for at in range(28, 32)),
        *((at, r"bytes 32 to 39 name a GPU kind that is unknown") for at in range(32, 40)),
        *((at, r"bytes 40 to 55 are \w+, and 0+ in engines") for at in range(40, 56)),
    ],
)
def test_a_damaged_byte_is_named(at: int, words: str) -> None:
    data = bytearray(header(1_234_567))
    data[at] ^= 0x80
    (said,) = headers.read(bytes(data), 1_234_567).faults
    assert re.match(words, said)


def test_a_file_of_another_length() -> None:
    assert "it was cut" in headers.read(header(100), 99).faults[0]
    assert "something was added" in headers.read(header(100), 101).faults[0]


def test_no_target() -> None:
    read = headers.read(header(100, mask=0), 100)
    assert read.targets == ()
    assert "bytes 32 to 39 name no GPU kind (0x0)" in read.faults[0]


def test_of_tensorrt_the_version_alone_is_read() -> None:
    """Its header is not known in whole, so nothing else in it is called a fault."""
    data = header(100, version=(10, 13, 0, 35), mark=b"ftrt")
    assert headers.read(data[:32] + bytes(range(32)), 77) == headers.Header("tensorrt", "10.13.0", None, None, ())


def test_other_files_do_not_begin_as_engines() -> None:
    assert not any(map(headers.begins_engine, (b"", b"vtr", b"VTRT", b"\x08\x07\x12\x00", b"trtv" * 16)))
