"""A trial is made on a copy: it leaves no trace, and says so where there can be none."""

import warnings

import pytest
import torch
from helpers.adopting import says
from helpers.modules import simam, simam_module, spelled
from torch import Tensor, nn

from simam_deploy.pytorch.adopt.trial import TrialResult, judge


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
        assert judge(module) == TrialResult(1e-4)
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
    assert judge(module) == TrialResult(1e-4)


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
    assert judge(spelled(compiled)) == TrialResult(1e-4)


def _no_backend(*_: object) -> None:
    raise AssertionError("compiled")
