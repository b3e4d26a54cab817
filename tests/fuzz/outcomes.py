"""Whether fuse and inspect treat small valid files well that have a few bytes or fields changed."""

import math
import resource
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto

from fuzz.changes import CHANGES
from fuzz.seeds import BESIDE, NETWORKS, SEEDS, outside
from simam_deploy import native
from simam_deploy.artifacts import manifest
from simam_deploy.errors import FormError, InputError, ModelFileError
from simam_deploy.graph import onnx_file
from simam_deploy.graph.traverse import messages
from simam_deploy.match.find import find
from simam_deploy.rewrite.forms import FORMS
from simam_deploy.rewrite.fuse import fuse_file

Outputs = list[dict[str, np.ndarray[Any, Any]]]
SECONDS, MIB = 5, 512
"""Of CPU and of memory, for inspect and fuse together."""
MOST_VALUES = 2**20
"""Of x: not every form of a block on a larger one is found."""
MOST_NUMBERS = 2**20
"""Of the inputs of a mutant that is run."""
SCALES = (1.0, 1e-2)
"""Of the inputs: the usual one, and one at which a wrong λ shows, as the variance is some λ there."""
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
"""Of the largest output. Statistics in float16 lose digits, and ours are in float32."""
KINDS = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def outcome(number: int, folder: Path) -> str:
    """What comes of one mutant. Raises AssertionError where it is a fault of ours."""
    rng = np.random.default_rng(number)
    seeds = NETWORKS if rng.random() < 0.05 else SEEDS
    name = str(rng.choice(list(seeds)))
    change = CHANGES[rng.integers(len(CHANGES))]
    library = native.library()
    form = str(rng.choice([form for form in FORMS if form != "custom_op" or library is not None]))
    kernel = library is not None and (form == "custom_op" or "custom_op" in name or rng.random() < 0.5)
    epilogue, repair = bool(FORMS[form].EPILOGUE and rng.random() < 0.5), bool(rng.random() < 0.1)
    about = f"{name}, {change.__name__} -> {form}{' +epilogue' * epilogue}{' +repair' * repair}"

    source, target = folder / "mutant.onnx", folder / "out.onnx"
    source.write_bytes(change(seeds[name], rng))
    (folder / BESIDE).write_bytes(outside()[1])
    target.unlink(missing_ok=True)
    began, peak = time.process_time(), most_memory()
    refusal = fused = None
    try:
        with onnx_file.blaming(source):
            "".join(map(str, find(onnx_file.load(source)).near_misses))
        fused = fuse_file(source, target, form, repair=repair, epilogue=epilogue)
    except (InputError, FormError) as error:
        refusal = error
    took = time.process_time() - began, most_memory() - peak
    assert took[0] < SECONDS, (about, took)
    assert took[1] < MIB, (about, took)
    if fused is None:
        assert not target.exists(), about
        runs = isinstance(refusal, ModelFileError) and outputs(source, kernel) is not None
        return f"refused: {type(refusal).__name__}{', and runs' * runs}"
    assert not manifest.disagreements(target), about
    before = outputs(source, kernel)
    if before is None:
        return "works, and does not run"
    found, written = find(onnx_file.load(target)).blocks, [row.e_lambda for row in fused.rows]
    if not any(math.prod(size for size in row.shape if isinstance(size, int)) > MOST_VALUES for row in fused.rows):
        np.testing.assert_allclose(sorted(b.e_lambda for b in found), sorted(written), rtol=1e-6, err_msg=about)
    after = outputs(target, kernel)
    assert after is not None, f"{about}: it is not loaded, or does not run, any more"
    if any("M - 1, a constant before" in note for note in fused.notes):
        return "works, and is repaired"
    if seeds is NETWORKS and not all(np.isfinite(value).all() for each in before for value in each.values()):
        return "works, and overflows"  # and what is picked by its size may be another
    half = TensorProto.FLOAT16 in types(source)
    for one, other in zip(before, after, strict=True):
        compare(one, other, HALF_TOLERANCE if half else TOLERANCE, about)
    return "works, and computes the same"


def most_memory() -> float:
    """MiB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def types(file: Path) -> set[int]:
    """Of the numbers that the file declares or makes."""
    fields = (field for message in messages(onnx_file.read(file)) for field in message.ListFields())
    return {value for field, value in fields if field.name in ("elem_type", "data_type", "to")}


def compare(before: dict[str, Any], after: dict[str, Any], tolerance: float, about: str) -> None:
    """Where a number is finite: ours sum up in more digits, and overflow later."""
    for name, value in before.items():
        held = np.isfinite(value) if value.dtype.kind == "f" else np.full(value.shape, True)
        limit = tolerance * np.abs(value[held]).max(initial=1e-5) if value.dtype.kind == "f" else 0
        assert after[name].shape == value.shape, f"{about}: {name}"
        np.testing.assert_allclose(after[name][held], value[held], rtol=0, atol=limit, err_msg=f"{about}: {name}")


def outputs(file: Path, kernel: bool) -> Outputs | None:
    """By name, for inputs that are made; None where ONNX Runtime does not load or run it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    found = native.library()
    if kernel and found is not None:
        options.register_custom_ops_library(str(found.path))
    run = onnxruntime.RunOptions()
    timer = threading.Timer(SECONDS, lambda: setattr(run, "terminate", True))
    timer.start()
    try:
        session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"], enable_fallback=0)
        declared = {value.name: value.shape for value in session.get_outputs()}
        given = [feeds(session, scale) for scale in SCALES]
        made = [dict(zip(declared, session.run([*declared], feed, run), strict=True)) for feed in given]
        return (
            made if all(fits(array.shape, declared[name]) for each in made for name, array in each.items()) else None
        )
    except Exception:  # of ONNX Runtime, in any type, or of an input that is none
        return None
    finally:
        timer.cancel()


def fits(sizes: tuple[int, ...], declared: list[Any]) -> bool:
    """Whether an output is as the file says: otherwise the input is none that it is for. Of a scalar, and where the
    file does not tell, ONNX Runtime gives no sizes."""
    fixed = [(a, b) for a, b in zip(sizes, declared, strict=False) if isinstance(b, int)]
    return len(declared) in (0, len(sizes)) and all(a == b for a, b in fixed)


def feeds(session: onnxruntime.InferenceSession, scale: float) -> dict[str, Any]:
    """Raises KeyError, ValueError: there is an input for which none can be made."""
    rng = np.random.default_rng(0)
    made = {}
    for value in session.get_inputs():
        kind = np.dtype(KINDS[value.type])
        sizes = [size if isinstance(size, int) else 4 + at for at, size in enumerate(value.shape)]
        if np.prod(sizes, dtype=float) > MOST_NUMBERS:
            raise ValueError("too large")
        if kind.kind == "f":
            made[value.name] = (scale * rng.standard_normal(sizes)).astype(kind)
        elif kind.kind == "b":
            made[value.name] = np.full(sizes, scale == 1)
        else:
            made[value.name] = rng.integers(1, 5, sizes).astype(kind)
    return made


def main(count: int, first: int = 0) -> int:
    """Try so many. The number of those that are treated badly."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, first + count):
            try:
                outcomes[outcome(number, Path(folder))] += 1
            except Exception as error:
                outcomes["fault"] += 1
                print(f"number {number}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(dict(outcomes))
    return outcomes["fault"]
