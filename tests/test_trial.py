"""A module tried by itself: every spelling is found with its λ, every near miss is refused with what is wrong."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simam_deploy.adopt.trial import Judgement, Seen, judge
from simam_deploy.formula import reference, tolerance
from tests.modules import HW, NEAR, SPELLINGS, simam, simam_module, spelled, squares


def says(judged: Judgement, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError("; ".join(judged.reasons))


@pytest.mark.parametrize("e_lambda", [1e-10, 1e-4, 0.1, 0.123456])
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_is_found(name: str, e_lambda: float) -> None:
    module = spelled(SPELLINGS[name], e_lambda)
    assert judge(module) == Judgement(e_lambda)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 6)).astype(np.float32)
    y = module(torch.from_numpy(x.copy())).numpy()  # it is what is said of it
    assert (np.abs(y - reference(x, e_lambda)) <= tolerance(x, np.float32, e_lambda)).all()


def test_the_published_code() -> None:
    assert judge(simam_module()) == Judgement(1e-4)
    assert judge(simam_module(64, 0.1)) == Judgement(0.1)


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


class SimAMWith(nn.Module):
    """SimAM, with something beside it."""

    e_lambda = 0.1

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        return simam(x, self.e_lambda)


class Stateful(SimAMWith):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return simam(x, self.e_lambda) * (1 if self.calls < 3 else 1.01)


class Remembers(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.attention = y / x
        return y


class Grows(SimAMWith):
    def __init__(self) -> None:
        super().__init__(maps=[])

    def forward(self, x: Tensor) -> Tensor:
        self.maps.append(x)  # type: ignore[operator,union-attr]
        return super().forward(x)


class GrowsBelow(SimAMWith):
    def __init__(self) -> None:
        super().__init__(inner=Grows())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return,operator]


class Stores(SimAMWith):
    """One entry, a new value each time."""

    def __init__(self) -> None:
        super().__init__(store={"last": None})

    def forward(self, x: Tensor) -> Tensor:
        self.store["last"] = x  # type: ignore[index,operator]
        return super().forward(x)


class Collects(SimAMWith):
    def __init__(self) -> None:
        super().__init__(sizes=set())

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.add(x.shape)  # type: ignore[operator,union-attr]
        return super().forward(x)


class InEval(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else simam(x, self.e_lambda)


class OtherLambdaInTraining(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        return simam(x, 1e-3 if self.training else self.e_lambda)


class DropsInTraining(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout2d(simam(x, self.e_lambda), 0.1, self.training)


class Detached(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        d = squares(x).detach()
        return x * torch.sigmoid(d / (4 * (d.sum(HW, keepdim=True) / (d[0, 0].numel() - 1) + 0.1)) + 0.5)


class NoGradient(SimAMWith):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Widens(SimAMWith):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


class Learnable(SimAMWith):
    def __init__(self) -> None:
        super().__init__()
        self.lam = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return simam(x, self.lam)  # type: ignore[arg-type]


class Buffered(Learnable):
    def __init__(self) -> None:
        SimAMWith.__init__(self)
        self.register_buffer("lam", torch.tensor(0.1), persistent=False)


class Extra(SimAMWith):
    def get_extra_state(self) -> object:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        pass


RESERVED = {
    Remembers: "writes its attribute attention when it runs, which others may read",
    Grows: "writes its attribute maps when it runs",
    GrowsBelow: "writes its attribute maps when it runs",
    Stores: "writes its attribute store when it runs",
    Collects: "writes its attribute sizes when it runs",
    InEval: "not in training mode: y / x is not a gate",
    OtherLambdaInTraining: "not in training mode: λ is 0.001 there",
    DropsInTraining: "not in training mode: it (gives different results for the same x|draws random numbers)",
    Detached: r"its gradient is not that of SimAM \(something is detached\)",
    NoGradient: "no gradient flows through it: RuntimeError",
    Widens: r"returns torch.float32 for x of torch.float16; let its forward end with .to\(x.dtype\)",
    Learnable: "^lam of it may change, in training or with a checkpoint",
    Buffered: "^lam of it may change",
    Extra: "^_extra_state of it may change",
}


@pytest.mark.parametrize("module", RESERVED)
def test_simam_with_something_beside_is_not_replaceable(module: type[SimAMWith]) -> None:
    judged = judge(module())
    assert judged.e_lambda == pytest.approx(0.1)
    says(judged, RESERVED[module])


def test_a_memory_in_the_result_is_no_simam() -> None:
    judged = judge(Stateful())
    assert judged.e_lambda is None
    says(judged, ".")
    assert judge(Stateful(calls=10**6)).e_lambda is None


def test_a_fixed_number_of_channels() -> None:
    class Fixed(SimAMWith):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == self.wanted(), "channels"
            return super().forward(x)

        def wanted(self) -> int:
            return int(str(getattr(self, "channels", 48)))

    assert judge(Fixed(channels=64, index=-1, far=10**9)) == Judgement(0.1)
    says(judge(Fixed(channels="64")), r"does not run on x of shape \(2, 3, 5, 7\): AssertionError: channels")
    assert judge(Fixed(), Seen(((1, 48, 7, 9),))) == Judgement(0.1)


def test_a_fixed_map() -> None:
    """Where it cannot run at another size it may be replaced; where it is wrong there it may not."""

    def viewed(x: Tensor, e_lambda: float) -> Tensor:
        flat = x.view(-1, 4, 8 * 9)
        return simam(flat[..., None], e_lambda).view(x.shape[0], 4, 8, 9)

    assert judge(spelled(viewed), Seen(((1, 4, 8, 9),))) == Judgement(1e-4)
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


def test_random_numbers_are_those_of_the_trial() -> None:
    """The same verdict each time, and the numbers of the caller go on as if nothing had been."""

    class Draws(simam_module):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(3)
            return super().forward(x)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    says(judge(Draws()), "^it draws random numbers$")
    assert torch.equal(torch.get_rng_state(), before)
    verdicts = set()
    for seed in range(20):
        torch.manual_seed(seed)
        verdicts.add(judge(DropsInTraining()))
    assert len(verdicts) == 1


def test_a_trial_leaves_no_trace(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(simam_module):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            print("loud")
            warnings.warn("loud", stacklevel=1)
            return super().forward(x)

    module = Loud().train()
    fired: list[str] = []
    module.register_forward_hook(lambda *_: fired.append("own"))
    module.activaton.register_forward_pre_hook(lambda *_: fired.append("child"))
    with torch.inference_mode():
        assert judge(module) == Judgement(1e-4)
    assert capsys.readouterr().out == ""
    assert fired == []
    assert module.training
    assert len(module._forward_hooks) == 1


def test_hooks_are_not_even_copied() -> None:
    class Trainer:
        def __deepcopy__(self, memo: object) -> None:
            raise AssertionError("copied")

        def hook(self, *_: object) -> None: ...

    module = simam_module()
    module.register_forward_hook(Trainer().hook)
    assert judge(module) == Judgement(1e-4)


def test_what_cannot_be_copied() -> None:
    class Stuck(simam_module):
        def __deepcopy__(self, memo: object) -> nn.Module:
            raise TypeError("a lock\nand more")

    judged = judge(Stuck())
    assert judged.e_lambda is None
    says(judged, "^it cannot be copied, to be tried apart: TypeError: a lock$")


def test_a_copy_that_is_no_copy_is_not_touched() -> None:
    class Itself(simam_module):
        def __deepcopy__(self, memo: object) -> nn.Module:
            return self

    class Around(simam_module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

    itself = Itself()
    itself.lam = nn.Parameter(torch.tensor(0.1))
    itself.eval()
    for module in (itself, Around(itself)):
        judged = judge(module)
        assert judged.e_lambda is None
        says(judged, "^it cannot be copied, to be tried apart: TypeError: its __deepcopy__ does not copy all of it$")
        assert itself.lam.dtype == torch.float32
        assert not itself.training


def test_the_first_channels_alone() -> None:
    def first(x: Tensor, e_lambda: float) -> Tensor:
        return torch.cat([simam(x[:, :16], e_lambda), x[:, 16:]], 1)

    judged = judge(spelled(first))
    assert judged.e_lambda is None
    says(judged, "y / x is not a gate")


def test_containers_that_are_only_read_are_no_matter() -> None:
    assert judge(SimAMWith(sizes=[1, 2], names={"a": torch.ones(2)}, kinds={3})) == Judgement(0.1)


def test_whatever_it_raises_is_a_reason() -> None:
    class Tired(simam_module):
        left = 60

        def forward(self, x: Tensor) -> Tensor:
            self.left -= 1
            if self.left < 0:
                raise RuntimeError
            return super().forward(x)

    for left in range(80):
        module = Tired()
        module.left = left
        assert judge(module).reasons


def test_compiled_code_is_not_compiled_for_a_trial() -> None:
    compiled = torch.compile(simam, backend=_no_backend)
    assert judge(spelled(compiled)) == Judgement(1e-4)


def _no_backend(*_: object) -> None:
    raise AssertionError("compiled")


def test_the_widest_trial_takes_few_values() -> None:
    """Speed: a module of 2048 channels is still tried in a moment."""
    sizes: list[int] = []

    def f(x: Tensor, e_lambda: float) -> Tensor:
        sizes.append(x.numel())
        return simam(x, e_lambda)

    assert judge(spelled(f), Seen(((8, 2048, 7, 7), (1, 64, 224, 224)))) == Judgement(1e-4)
    assert max(sizes) == 2 * 224 * 224
    sizes.clear()

    def silu(x: Tensor, _: float) -> Tensor:
        sizes.append(x.numel())
        return x * x.sigmoid()

    assert not judge(spelled(silu), Seen(((1, 64, 224, 224),))).is_gate
    assert max(sizes) < 1000
