"""Modules that stay, although they look like SimAM or compute it, and what is said of each."""

import threading
import warnings
from collections.abc import Callable

import pytest
import torch
from helpers.adopting import Block, X, names, net, said
from helpers.modules import HW, simam, simam_module, spelled, with_divisor
from torch import Tensor, nn

from simam_deploy.errors import InputError, ShapeError
from simam_deploy.pytorch.adopt import adopt
from simam_deploy.pytorch.module import SimAM


class Learnable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lam = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return simam(x, self.lam)  # type: ignore[arg-type]


class ScaledSimAM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(1, 3, 1, 1)), nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * simam(x) + self.shift


class SiLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean(HW, keepdim=True).sigmoid()


class NotSimAMAtAll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1


class C2fSimAM(nn.Module):
    """Named after the SimAM in it."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(simam_module())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


LEFT = {
    "population variance": (
        lambda: spelled(with_divisor(1)),
        r"\(Spelled\):\n  divides the sum of squares by M = 35",
    ),
    "λ is a parameter": (Learnable, r"it is SimAM with λ = 0.1, but lam of it may change"),
    "a scale": (ScaledSimAM, r"ScaledSimAM\):\n  it holds scale, shift; SimAM holds nothing"),
    "another gate": (Gate, r"Gate\):\n  the gate does not depend on"),
    "by its name": (NotSimAMAtAll, r"NotSimAMAtAll\):\n  y / x is not a gate"),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_reported(name: str) -> None:
    make, words = LEFT[name]
    done = adopt(net(make()))
    assert done.rows == ()
    assert len(done.left_alone) == 1
    assert done.left_alone[0].names == ("0.layers.0",)
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(said(done))


def test_what_is_not_worth_a_line() -> None:
    done = adopt(nn.Sequential(SiLU(), nn.Sigmoid(), nn.Softmax(1), nn.Dropout(), C2fSimAM(), nn.InstanceNorm2d(3)))
    assert names(done) == ["4.block.layers.0"]
    assert done.left_alone == ()


def test_calls_that_ours_would_not_take() -> None:
    class Calls(nn.Module):
        def __init__(self, how: Callable[[nn.Module, Tensor], Tensor]) -> None:
            super().__init__()
            self.conv, self.simam, self.how = nn.Conv2d(3, 3, 1), Named(), how

        def forward(self, x: Tensor) -> Tensor:
            return self.how(self.simam, self.conv(x))

    class Named(nn.Module):
        def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
            return simam(features.reshape(1, -1, *features.shape[-2:])).view_as(features)

    cases = {
        "called with 0 arguments and features=": lambda m, x: m(features=x),
        "called with 2 arguments": lambda m, x: m(x, None),
        r"called with 3-D x \(3, 9, 11\)": lambda m, x: m(x[0]),
        "maps of 1x1": lambda m, x: m(x[..., :1, :1]),
    }
    for words, how in cases.items():
        assert names(adopt(Calls(how))) == ["simam"]  # which nobody can know who sees the module alone
        done = adopt(Calls(how), X)
        assert done.rows == ()
        with pytest.raises(AssertionError, match=f"it is SimAM with λ = 0.0001, but it is .*{words}"):
            raise AssertionError(said(done))


def test_what_the_docstring_says_of_maps_of_1x1_and_of_plain_lists() -> None:
    class Careful(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return simam(x) if x.shape[2] * x.shape[3] > 1 else x

    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.att = Careful()
            self.steps = [self.att]

        def forward(self, x: Tensor) -> Tensor:
            return x + self.steps[0](x)  # type: ignore[no-any-return]

    small = X[..., :1, :1]
    with pytest.raises(ShapeError, match="1x1"):
        adopt(nn.Sequential(Careful()), X).model(small)
    assert adopt(nn.Sequential(Careful()), small).rows == ()
    done = adopt(Listed(), X)
    assert type(done.model.att) is SimAM
    assert type(done.model.steps[0]) is Careful  # type: ignore[index]


def test_what_a_class_does_around_forward_keeps_it() -> None:
    class Twice(simam_module):
        def __call__(self, x: Tensor) -> Tensor:
            return super().__call__(x) * 2  # type: ignore[no-any-return]

    class Derived(Twice):
        pass

    for args in (None, X):
        done = adopt(nn.Sequential(Derived()), args)
        assert done.rows == ()
        assert said(done).endswith("it is SimAM with λ = 0.0001, but its class Twice has a __call__ of its own")
    traced = torch.fx.symbolic_trace(spelled(simam))
    assert names(adopt(nn.Sequential(traced))) == ["0"]


# Scripted, traced, compiled


def old_ways(f: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and traced sizes are constants
        return f()


class Scriptable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean((2, 3), keepdim=True)) ** 2
        v = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(d / (4 * (v + 0.1)) + 0.5)


class TracedSimAM(Scriptable):
    def forward(self, x: Tensor) -> Tensor:
        d = (x - x.mean((2, 3), keepdim=True)) ** 2
        v = d.sum((2, 3), keepdim=True) / float(x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(d / (4 * (v + 0.1)) + 0.5)


def test_scripted_and_traced() -> None:
    scripted = old_ways(lambda: torch.jit.script(Scriptable()))
    whole = old_ways(lambda: torch.jit.script(net(Scriptable())))
    frozen = old_ways(lambda: torch.jit.trace(TracedSimAM(), X))
    model = nn.Sequential(scripted, whole, frozen)
    for given, args in ((model, None), (nn.Sequential(scripted), X)):
        done = adopt(given, args)
        assert done.rows == ()
        words = "0 (Scriptable):\n  it is SimAM with λ = 0.1, but it is TorchScript; adopt before torch.jit.script"
        assert words in said(done)
    done = adopt(model)
    assert [left.names for left in done.left_alone] == [("0",), ("1.0.layers.0",), ("2",)]
    assert "2 (TracedSimAM):\n  divides (x - mean)² by" in said(done)
    assert "it is TorchScript" in said(done).split("2 (TracedSimAM)")[1]


def test_compiled() -> None:
    def backend(*_: object) -> None:
        raise AssertionError("compiled")

    whole = torch.compile(net(simam_module()), backend=backend)
    alone = net(simam_module())
    alone[0].layers[0].compile(backend=backend)  # type: ignore[index,union-attr]
    model = nn.Sequential(net(simam_module()), nn.Identity())
    model[1] = whole  # type: ignore[assignment]
    done = adopt(model, inplace=True)
    assert names(done) == ["0.0.layers.0"]
    why = "it is SimAM with λ = 0.0001, but it is compiled; adopt before torch.compile"
    assert said(done) == f"1._orig_mod.0.layers.0 (simam_module):\n  {why}"
    for compiled in (whole, alone):
        done = adopt(compiled, X, inplace=True)
        assert done.rows == ()
        assert "it is compiled; adopt before torch.compile" in said(done)


# Not copied


def test_what_cannot_be_copied() -> None:
    class Locked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

        def forward(self, x: Tensor) -> Tensor:
            return simam(x)

    class LockedSimAM(Locked):
        pass

    model = net(Locked(), LockedSimAM(), simam_module())
    with pytest.raises(InputError, match=r"the model cannot be copied: .*lock.*\nadopt\(model, inplace=True\)"):
        adopt(model)
    done = adopt(model, inplace=True)
    assert names(done) == ["2.layers.0"]
    assert len(done.left_alone) == 1
    assert "1.layers.0 (LockedSimAM):\n  it cannot be copied, to be tried apart: TypeError" in said(done)


def test_a_model_that_copies_itself_as_itself() -> None:
    class Itself(nn.Sequential):
        def __deepcopy__(self, memo: object) -> nn.Module:
            return self

    model = Itself(simam_module())
    with pytest.raises(
        InputError, match=r"cannot be copied: its __deepcopy__ returns the model itself\nadopt.*inplace"
    ):
        adopt(model)
    assert type(model[0]) is simam_module
