"""The checks of `make gpu` on the emulator: green, and red for each thing that can be wrong with a kernel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from helpers.gpu_machine import GPU_ONLY, Launch, changed, emulated_machine, run  # noqa: E402

from benchmarks.gpu import checks, reference, report, verdict  # noqa: E402
from benchmarks.gpu.api import Machine  # noqa: E402
from simam_deploy.native.cuda_library import Params  # noqa: E402


@pytest.fixture(scope="module")
def machine() -> Machine:
    return emulated_machine()


def test_the_kernels_pass_each_check(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(machine, *checks.all_checks())
    assert [row["check"] for row in done if not row["ok"]] == []
    assert {row["check"] for row in done if row["cases"] == 0} == GPU_ONLY
    assert {row["check"] for row in done} == set(checks.all_checks())
    assert sum(row["cases"] for row in done) > 300
    assert "check: f16 NCHW" in capsys.readouterr().err


# What a wrong kernel would do, done around a right one: the parameters are changed before it, or memory behind it.


def poking(at: Callable[[Params], int], byte: int) -> Launch:
    def launch(params: Params, kernel: Callable[[Params], int]) -> int:
        error = kernel(params)
        if not error:
            ctypes.memset(at(params), byte, 1)
        return error

    return launch


def bytes_of(params: Params) -> int:
    size = (4, 2, 2, 1)[params.type]
    return int(params.images * -(-params.channels // params.group) * params.group * params.pixels * size)


def unwritten(params: Params, kernel: Callable[[Params], int]) -> int:
    other = Params.from_buffer_copy(params)
    other.images -= 1
    return kernel(other)


def moody() -> Launch:
    calls = iter(range(1_000_000))

    def launch(params: Params, kernel: Callable[[Params], int]) -> int:
        return changed(e_lambda=1.0 + 1e-2 * (next(calls) % 2))(params, kernel)

    return launch


def spreading(params: Params, kernel: Callable[[Params], int]) -> int:
    """A NaN in each first element: one plane is not the only one that has it."""
    error = kernel(params)
    size = (4, 2, 2, 1)[params.type]
    ctypes.memset(params.y, 0xFF, size)
    return error


def apart(params: Params, kernel: Callable[[Params], int]) -> int:
    """In place, it works on an x that it has half overwritten."""
    if params.y in (params.x, params.residual):
        ctypes.memset(params.x, 0, bytes_of(params) // 2)
    return kernel(params)


def fewer_pixels(params: Params, kernel: Callable[[Params], int]) -> int:
    other = Params.from_buffer_copy(params)
    other.pixels = max(2, params.pixels - 1)
    return kernel(other)


def float16_sums(params: Params, kernel: Callable[[Params], int]) -> int:
    """The variance is infinite, and each gate sigmoid(1/2)."""
    return changed(e_lambda=1e30)(params, kernel)


WRONG: dict[str, tuple[str, Launch]] = {
    "f32 NCHW": ("of what is allowed", changed(e_lambda=1.5)),
    "f16 NCHW": ("of what is allowed", changed(e_lambda=1e3)),
    "bf16 HWC8": ("padding is not zero", unwritten),
    "s8 HWC16": ("of what is allowed", changed(y_scale=1.1)),
    "s8 CHW32": ("padding is not zero", poking(lambda p: p.y + bytes_of(p) - 1, 1)),
    "s8 CHW4": ("x was changed", poking(lambda p: p.x, 3)),
    "f32 HWC8": ("written outside y", poking(lambda p: p.y + bytes_of(p), 1)),
    "f16 HWC8": ("written outside x", poking(lambda p: p.x - 1, 1)),
    "s8 HWC8": ("of what is allowed", changed(x_scale=1.1)),
    "s8 NCHW": ("gives error 700", lambda params, kernel: 700),
    "bf16 NCHW": ("of what is allowed", changed(channels=0.5)),
    "every number of pixels": ("of what is allowed", fewer_pixels),
    "offsets of 2, 4, 8 bytes": ("written outside residual", poking(lambda p: p.residual - 1, 1)),
    "mean / spread of 1 to 1e5": ("of what is allowed", changed(e_lambda=30.0)),
    "sums beyond float16": ("of what is allowed", float16_sums),
    "constant, faint, outlier": ("of what is allowed", changed(e_lambda=1.1)),
    "NaN and infinity": ("inf of what is allowed", spreading),
    "in place": ("of what is allowed", apart),
    "the same bits again": ("other bits", moody()),
    "refused, and empty": ("gives 0, not 1", lambda params, kernel: 0),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_fails_the_check(machine: Machine, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, wrong = WRONG[name]
    right = machine.kernels
    kernels = SimpleNamespace(
        accepts=right.accepts,
        workspace=right.workspace,
        launch=lambda params, stream: wrong(params, lambda p: right.launch(p, stream)),
    )
    (row,) = run(replace(machine, kernels=kernels), name)  # type: ignore[arg-type]
    assert not row["ok"]
    assert words in row["note"], row["note"]
    assert words in row["wrong"][0]
    assert words in capsys.readouterr().err
    assert report.failed([row])


def test_a_check_that_breaks_does_not_end_the_others(machine: Machine) -> None:
    def launch(*_: object) -> int:
        raise TypeError("not this")

    kernels = SimpleNamespace(accepts=machine.kernels.accepts, workspace=machine.kernels.workspace, launch=launch)
    first, second = run(replace(machine, kernels=kernels), "f16 NCHW", "the gate at every number")  # type: ignore[arg-type]
    assert (first["ok"], first["note"]) == (False, "1 wrong, the first: after 0 cases: TypeError: not this")
    assert second["ok"]


def test_a_wrong_gate_fails_the_check(machine: Machine) -> None:
    def gate(square: torch.Tensor, to: torch.Tensor, stream: int) -> int:
        to.copy_(2 * torch.sigmoid(square.double() + 0.5) * (1 + 3e-5))
        return 0

    (row,) = run(replace(machine, probe=SimpleNamespace(gate=gate)), "the gate at every number")  # type: ignore[arg-type]
    assert not row["ok"]
    assert 1.4 < row["worst"] < 1.6


def test_a_wrong_reference_fails_its_check(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.simam
    monkeypatch.setattr(reference, "simam", lambda x, e_lambda: right(x, e_lambda * 1.001))
    (row,) = run(machine, "the reference itself")
    assert not row["ok"]


def test_every_check_is_seen_to_fail() -> None:
    assert set(checks.all_checks()) == set(WRONG) | GPU_ONLY | {"the gate at every number", "the reference itself"}


def test_a_tactic_that_must_take_all_and_does_not(machine: Machine) -> None:
    kernels = SimpleNamespace(
        accepts=lambda params: params.tactic != 3, workspace=lambda params: 0, launch=lambda *_: 0
    )
    (row,) = run(replace(machine, kernels=kernels), "f16 NCHW")  # type: ignore[arg-type]
    assert not row["ok"]
    assert row["cases"] == 12


def test_a_device_that_fails_is_a_failed_check(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(verdict, "judge", fail)
    (row,) = run(machine, "f32 NCHW")
    assert not row["ok"]
    assert "illegal memory access" in row["note"]


def test_without_time_a_check_is_not_passed(machine: Machine) -> None:
    (row,) = run(machine, "f32 NCHW", seconds=-1.0)
    assert (row["ok"], row["cases"], row["note"]) == (False, 1, "cut: no time left")


def test_half_an_ulp() -> None:
    for type, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        y = torch.tensor([1.0, 1.5, -3.0, 1000.0, 6e-8, 1e-5, 0.0], dtype=torch.float64)
        bits = y.abs().to(dtype).view(torch.int16)
        above = (bits + 1).view(dtype).double() - bits.view(dtype).double()
        torch.testing.assert_close(reference.half_ulp(type, bits.view(dtype).double()), above / 2, rtol=0, atol=0)
