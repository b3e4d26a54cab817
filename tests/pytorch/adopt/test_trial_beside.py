"""SimAM with something beside it is found, and is not replaceable; what is beside it is named."""

import pytest
import torch
from helpers.adopting import says
from helpers.modules import HW, SimAMWith, simam, simam_module, squares
from torch import Tensor, nn

from simam_deploy.pytorch.adopt.trial import TrialResult, judge


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


def test_containers_that_are_only_read_are_no_matter() -> None:
    assert judge(SimAMWith(sizes=[1, 2], names={"a": torch.ones(2)}, kinds={3})) == TrialResult(0.1)


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
