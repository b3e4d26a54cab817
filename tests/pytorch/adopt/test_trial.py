"""A module tried by itself: every spelling is found with its λ, every near miss is refused with what is wrong."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from helpers.adopting import says
from helpers.modules import HW, NEAR, SPELLINGS, SimAMWith, simam, simam_module, spelled, squares
from torch import Tensor

from simam_deploy.formula import reference, tolerance
from simam_deploy.pytorch.adopt.trial import Seen, TrialResult, judge


@pytest.mark.parametrize("e_lambda", [1e-10, 1e-4, 0.1, 0.123456])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_found(name: str, e_lambda: float) -> None:
    module = spelled(SPELLINGS[name], e_lambda)
    assert judge(module) == TrialResult(e_lambda)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 6)).astype(np.float32)
    y = module(torch.from_numpy(x.copy())).numpy()  # it is what is said of it
    assert (np.abs(y - reference(x, e_lambda)) <= tolerance(x, np.float32, e_lambda)).all()


def test_the_published_code() -> None:
    assert judge(simam_module()) == TrialResult(1e-4)
    assert judge(simam_module(64, 0.1)) == TrialResult(0.1)


@pytest.mark.parametrize("name", NEAR)
def test_what_is_not_simam_is_refused_with_what_is_wrong(name: str) -> None:
    f, words = NEAR[name]
    judged = judge(spelled(f))
    assert judged.e_lambda is None
    says(judged, words)


@pytest.mark.parametrize(
    "name", ["population variance", "no half", "rows", "scaled", "λ grows with the map", "batch"]
)
def test_gates_are_told_from_other_modules(name: str) -> None:
    assert judge(spelled(NEAR[name][0])).is_gate
    assert judge(spelled(lambda x, _: x * torch.sigmoid(x.mean(HW, keepdim=True)))).is_gate


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x,
        lambda x: x * x.sigmoid(),
        lambda x: 0.5 * x,
        lambda x: x - x.mean(HW, keepdim=True),
        lambda x: x.softmax(1),
        lambda x: x.mean(HW),
        lambda x: x[0],
    ],
)
def test_other_modules_are_no_gates(f: Callable[[Tensor], Tensor]) -> None:
    judged = judge(spelled(lambda x, _: f(x)))
    assert judged.e_lambda is None
    assert not judged.is_gate


def test_the_first_channels_alone() -> None:
    def first(x: Tensor, e_lambda: float) -> Tensor:
        return torch.cat([simam(x[:, :16], e_lambda), x[:, 16:]], 1)

    judged = judge(spelled(first))
    assert judged.e_lambda is None
    says(judged, "y / x is not a gate")


# sizes and ranks


def test_a_fixed_number_of_channels() -> None:
    class Fixed(SimAMWith):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == self.wanted(), "channels"
            return super().forward(x)

        def wanted(self) -> int:
            return int(str(getattr(self, "channels", 48)))

    assert judge(Fixed(channels=64, index=-1, far=10**9)) == TrialResult(0.1)
    says(judge(Fixed(channels="64")), r"does not run on x of shape \(2, 3, 5, 7\): AssertionError: channels")
    assert judge(Fixed(), Seen(((1, 48, 7, 9),))) == TrialResult(0.1)


def test_a_fixed_map() -> None:
    """Where it cannot run at another size it may be replaced; where it is wrong there it may not."""

    def viewed(x: Tensor, e_lambda: float) -> Tensor:
        flat = x.view(-1, 4, 8 * 9)
        return simam(flat[..., None], e_lambda).view(x.shape[0], 4, 8, 9)

    assert judge(spelled(viewed), Seen(((1, 4, 8, 9),))) == TrialResult(1e-4)
    says(judge(spelled(viewed)), "does not run")

    def frozen(x: Tensor, e_lambda: float) -> Tensor:
        return x * torch.sigmoid(squares(x) / (4 * (squares(x).sum(HW, keepdim=True) / 71 + e_lambda)) + 0.5)

    judged = judge(spelled(frozen), Seen(((1, 4, 8, 9),)))
    assert judged.e_lambda is None
    says(judged, "SimAM with λ = 0.0001 on maps of 8x9 and not on others: its M - 1 is a constant")
    says(judge(spelled(frozen)), "or by 71 where M - 1 = 34")


def test_what_it_is_only_elsewhere_shows_where_the_model_calls_it() -> None:
    """No size that is tried by default has 31 channels, or maps of 30 rows."""
    wide = spelled(lambda x, e: simam(x, 2 * e if x.shape[1] == 31 else e))
    tall = spelled(lambda x, e: x / 2 if x.shape[2] == 30 else simam(x, e))
    for module, shape in ((wide, (1, 31, 8, 8)), (tall, (1, 8, 30, 30))):
        assert judge(module).e_lambda == 1e-4
        assert judge(module, Seen((shape,))).e_lambda is None


@pytest.mark.parametrize(
    ("dims", "shape"), [((2,), r"\(N, C, L\)"), ((2, 3, 4), r"\(N, C, D, H, W\)")], ids=["3-D", "5-D"]
)
def test_other_ranks_are_named(dims: tuple[int, ...], shape: str) -> None:
    def f(x: Tensor, e_lambda: float) -> Tensor:
        assert x.dim() == len(dims) + 2
        d = (x - x.mean(dims, keepdim=True)) ** 2
        return x * torch.sigmoid(d / (4 * (d.sum(dims, keepdim=True) / (d[0, 0].numel() - 1) + e_lambda)) + 0.5)

    judged = judge(spelled(f, 0.1))
    assert judged.e_lambda is None
    assert judged.is_gate
    says(judged, f"SimAM with λ = 0.1 for x of shape {shape}; our SimAM takes .N, C, H, W.")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen(((4, 9, 9),)), r"called with 3-D x \(4, 9, 9\); our SimAM takes \(N, C, H, W\)"),
        (Seen(((1, 4, 1, 1), (1, 4, 2, 2))), "called with maps of 1x1, where SimAM is 0/0"),
        (Seen((), ("it is called with 2 arguments",)), "called with 2 arguments"),
    ],
)
def test_calls_that_ours_would_not_take(seen: Seen, words: str) -> None:
    judged = judge(simam_module(), seen)
    assert judged.e_lambda == 1e-4
    says(judged, words)


def test_the_widest_trial_takes_few_values() -> None:
    """Speed: a module of 2048 channels is still tried in a moment."""
    sizes: list[int] = []

    def f(x: Tensor, e_lambda: float) -> Tensor:
        sizes.append(x.numel())
        return simam(x, e_lambda)

    assert judge(spelled(f), Seen(((8, 2048, 7, 7), (1, 64, 224, 224)))) == TrialResult(1e-4)
    assert max(sizes) == 2 * 224 * 224
    sizes.clear()

    def silu(x: Tensor, _: float) -> Tensor:
        sizes.append(x.numel())
        return x * x.sigmoid()

    assert not judge(spelled(silu), Seen(((1, 64, 224, 224),))).is_gate
    assert max(sizes) < 1000
