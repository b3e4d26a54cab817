"""The whole job on real input: `make demo`, or `python -m export_models.demo build/demo`.

Exports `digits` and ResNet-50, compares both with PyTorch in every form on every runtime (on the held-out scans and
on two photographs) and the speed of the forms, converts `digits` to float16 and int8, builds an engine for two GPUs.
Where TensorRT-RTX is installed, the network that its parser makes is a runtime too, without a GPU.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from export_models import digits, resnet50
from simam_deploy import api
from simam_deploy.cli import render
from simam_deploy.compare import bench, verify
from simam_deploy.compare.inputs import Case, cases
from simam_deploy.compare.matrix import Candidates, gather
from simam_deploy.engines import builder
from simam_deploy.runtimes import Session, installed, open_session
from simam_deploy.to_onnx import export

RUNTIMES = ["onnx_reference", "ort", "openvino"]
NOT_DEPLOYED = ("onnx_reference", "trt_network")
"""Runtimes that are not timed."""
THREADS = 2
TARGETS = ["sm86", "sm89"]
CALIBRATION = 128
MOST_LOST = 0.003
"""Of the accuracy in lower precision."""
Say = Callable[[str], None]


def main(folder: Path) -> int:
    """Leave everything in `folder`; return 0 if all rows passed."""
    folder.mkdir(parents=True, exist_ok=True)
    runtimes = [*RUNTIMES, *{"trt_network"}.intersection(installed())]
    images, labels = digits.test_set()
    np.savez(folder / "test_digits.npz", images)
    passed = True
    with render.progress() as say:
        for name, build, inputs, dynamic in (
            ("digits", digits.build, str(folder / "test_digits.npz"), ["batch"]),
            ("resnet50", resnet50.build, str(_photographs()), []),
        ):
            say(f"build {name}")
            module, example = build()
            path = folder / f"{name}.onnx"
            done = export(
                module, example, path, dynamic=dynamic, source=f"export_models.{name}:build", on_progress=say
            )
            render.lines([f"\n{path}: {len(done.fused.rows)} SimAM blocks, form {done.fused.rows[0].form}"])
            forms = folder / f"{name}.forms"
            forms.mkdir(exist_ok=True)
            chosen = gather(
                [path], ["all"], runtimes, forms, threads=THREADS, on_progress=lambda node: say(f"prove {node}")
            )
            chosen.open = {
                "eager": partial(open_session, module, "eager", threads=THREADS),
                **chosen.open,
            }
            with open_session(path, "onnx_reference") as session:
                given = list(cases([inputs], session.inputs))
            report = verify.verify(
                chosen.open,
                given,
                truth=partial(open_session, module, "eager", dtype="float64"),
                twin=partial(open_session, module, "eager"),
                on_progress=_verifying(say, name),
            )
            render.parity(report)
            passed &= report.passed
            if name == "digits":
                passed &= _agreement(chosen, given[0], labels, say)
            _speed(name, chosen, given[0], say)
        passed &= _lower_precision(folder, images, labels, say)
        passed &= _engine(folder, say)
    render.lines([f"\nall rows passed; see {folder}/" if passed else "\nsome rows FAILED"])
    return 0 if passed else 1


def _verifying(say: Say, name: str) -> Say:
    return lambda what: say(f"verify {name}: {what}")


def _agreement(chosen: Candidates, case: Case, labels: np.ndarray, say: Say) -> bool:
    """Top-1 of every session against PyTorch's, on the held-out digits: must be the same for all of them."""
    answers = {}
    for label, open_candidate in chosen.open.items():
        say(f"classify the digits: {label}")
        with open_candidate() as session:
            answers[label] = np.concatenate([_first(session, feed).argmax(axis=1) for feed in case.feeds])
    rows = [
        (
            label,
            f"{(got == answers['eager']).mean():.2%}",
            f"{(got == labels).mean():.2%}",
            bool((got == answers["eager"]).all()),
        )
        for label, got in answers.items()
    ]
    columns = ("session", "top-1 as PyTorch", "accuracy", "")
    render.table(f"digits: {len(labels)} held-out scans", columns, rows, right=columns[1:3])
    return all(row[-1] for row in rows)


def _first(session: Session, feed: tuple[np.ndarray, ...]) -> np.ndarray:
    return next(
        iter(session.run({spec.name: array for spec, array in zip(session.inputs, feed, strict=True)}).values())
    )


def _speed(name: str, chosen: Candidates, case: Case, say: Say) -> None:
    """All forms on the runtimes that people deploy on, call by call in turn."""
    sessions = []
    for label, open_candidate in chosen.open.items():
        if not label.endswith(NOT_DEPLOYED):
            sessions.append(open_candidate())
            sessions[-1].label = label
    rows = bench.bench(sessions, case.feeds[0], seconds=20, on_progress=lambda done: say(f"time {name}: {done:.0%}"))
    for session in sessions:
        session.close()
    render.timing(f"{name}: time per call, batch {len(case.feeds[0][0])}, {THREADS} threads, interleaved", rows)


def _lower_precision(folder: Path, images: np.ndarray, labels: np.ndarray, say: Say) -> bool:
    """digits in float16 and int8, calibrated on scans of its training, and what it reads then."""
    source = folder / "digits.onnx"
    trained_on, _ = digits.training_set()
    files = {source: "ort"}
    for to, runtime in (("fp16", "onnx_half"), ("int8", "ort")):
        path = folder / f"digits.{to}.onnx"
        done = api.convert(source, path, to=to, inputs={"x": trained_on[:CALIBRATION]}, on_progress=say)
        render.converted(done, f"\n{path}: what stays float32")
        render.verdict(done.verdict)
        files[path] = runtime
    report = api.verify(*files, inputs=[str(folder / "test_digits.npz")], on_progress=_verifying(say, "digits"))
    render.parity(report)
    passed = report.passed
    if "trt_network" in installed():
        parsed = api.verify(
            source,
            folder / "digits.fp16.onnx",
            runtimes=["trt_network"],
            inputs=[str(folder / "test_digits.npz")],
            on_progress=_verifying(say, "digits, parsed by TensorRT"),
        )
        render.parity(parsed)
        passed &= parsed.passed
    right = {}
    for path, runtime in files.items():
        with open_session(path, runtime) as session:
            x = images.astype(session.inputs[0].dtype)
            (logits,) = session.run({session.inputs[0].name: x}).values()
        right[path.stem] = logits.argmax(axis=1) == labels
    accuracy = {name: found.mean() for name, found in right.items()}
    rows = [(name, f"{share:.2%}", bool(share >= accuracy["digits"] - MOST_LOST)) for name, share in accuracy.items()]
    render.table(
        f"digits: accuracy on {len(labels)} held-out scans", ("file", "accuracy", ""), rows, right=["accuracy"]
    )
    return passed and all(row[-1] for row in rows)


def _engine(folder: Path, say: Say) -> bool:
    """The digits engine, for two GPUs that are not here."""
    shapes = {"x": ((1, 1, 8, 8), (64, 1, 8, 8), (450, 1, 8, 8))}
    built = builder.build_engine(
        folder / "digits.onnx", folder / "digits.engine", targets=TARGETS, shapes=shapes, on_progress=say
    )
    render.lines(
        [f"{built.path}: TensorRT-RTX {built.version}, {', '.join(built.targets)}, {built.size_bytes:,} bytes"]
    )
    return True


def _photographs() -> Path:
    """The folder of scikit-learn's two sample photographs."""
    from sklearn.datasets import load_sample_images

    return Path(load_sample_images().filenames[0]).parent


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
