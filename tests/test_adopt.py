"""SimAM modules of other people replaced by ours: what is found, what stays as it was, what is reported."""

import copy
import gc
import linecache
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export_models import digits
from simam_deploy import adopt as adopt_room
from simam_deploy import export as export_room
from simam_deploy.adopt import Adopted, Row, adopt, adopted
from simam_deploy.adopt.trial import Judgement
from simam_deploy.errors import InputError, NoBlockError, ShapeError, VerificationError
from simam_deploy.export import export
from simam_deploy.formula import tolerance
from simam_deploy.module import SimAM
from simam_deploy.runtimes import open_session
from tests.modules import HW, Spelled, simam, simam_module, spelled, squares, tensor_n, with_divisor

X = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """Convolution, attention that is in a list too, and a shortcut."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.layers = nn.ModuleList([attention, nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        for layer in self.layers:
            y = layer(y)
        return x + y


def net(*attentions: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(Block(a) for a in attentions), nn.Conv2d(3, 2, 1)).eval()


def names(done: Adopted) -> list[str]:
    return [name for row in done.rows for name in row.names]


def said(done: Adopted) -> str:
    return "\n".join(map(str, done.left_alone))


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(X)


def test_a_model_with_several() -> None:
    model = net(simam_module(), spelled(simam, 0.1), nn.Identity(), SimAM(0.2))
    text = repr(model)
    done = adopt(model)
    assert done.rows == (
        Row(("0.layers.0",), "simam_module", 1e-4),
        Row(("1.layers.0",), "Spelled", 0.1),
    )
    assert done.left_alone == ()
    assert [type(m) for m in done.model.modules()].count(SimAM) == 3
    assert done.model[1].layers[0].e_lambda == 0.1  # type: ignore[index,union-attr]
    assert repr(model) == text  # a copy was changed
    assert done.model is not model
    before, after = model.state_dict(), done.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    a, b = outputs(model), outputs(done.model)
    assert not torch.equal(a, torch.zeros_like(a))
    torch.testing.assert_close(a, b)


def test_the_result_is_the_same_within_what_float32_allows() -> None:
    for e_lambda in (1e-4, 0.1):
        model = nn.Sequential(simam_module(e_lambda=e_lambda))
        bound = 2 * tolerance(X.numpy(), np.float32, e_lambda)
        assert ((outputs(adopt(model).model) - outputs(model)).abs().numpy() <= bound).all()


@pytest.mark.parametrize("args", [None, X, (X,)])
def test_inplace_and_with_inputs(args: Tensor | tuple[Tensor] | None) -> None:
    model = net(simam_module())
    done = adopt(model, args, inplace=True)
    assert done.model is model
    assert type(model[0].layers[0]) is SimAM  # type: ignore[index,union-attr]
    assert names(adopt(model)) == []  # nothing is left to do


def test_the_model_itself_may_be_simam() -> None:
    done = adopt(simam_module())
    assert done.rows == (Row(("",), "simam_module", 1e-4),)
    assert type(done.model) is SimAM
    model = simam_module()
    assert type(adopt(model, inplace=True).model) is SimAM
    with adopted(model) as swapped:
        assert type(swapped.model) is SimAM


def test_containers_are_looked_into() -> None:
    model = nn.ModuleDict(
        {"s": nn.Sequential(nn.Sequential(simam_module())), "l": nn.ModuleList([spelled(simam)]), "p": nn.Identity()}
    )
    model["p"] = nn.DataParallel(net(simam_module()))
    assert names(adopt(model)) == ["s.0.0", "l.0", "p.module.0.layers.0"]


def test_the_topmost_module_goes_with_what_is_in_it() -> None:
    class Wrapper(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.inner, self.factor = simam_module(), factor

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) * self.factor

    assert names(adopt(nn.Sequential(Wrapper(1), Wrapper(0.9)))) == ["0", "1.inner"]
    assert adopt(nn.Sequential(Wrapper(0.9))).left_alone == ()  # its child is all that there is to say


def test_what_holds_our_simam_is_not_replaced() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.simam = SimAM()

        def forward(self, x: Tensor) -> Tensor:
            return self.simam(x)

    assert adopt(nn.Sequential(Wrapper())).rows == ()

    class Derived(SimAM):
        pass

    assert names(adopt(nn.Sequential(Derived()))) == ["0"]


def test_a_shared_module_stays_shared() -> None:
    shared = simam_module()
    model = net(shared, shared, simam_module())
    done = adopt(model)
    assert done.rows[0].names == ("0.layers.0", "1.layers.0")
    assert done.rows[1].names == ("2.layers.0",)
    blocks = list(done.model.children())
    assert blocks[0].layers[0] is blocks[1].layers[0]  # type: ignore[union-attr,index]
    assert blocks[0].layers[0] is not blocks[2].layers[0]  # type: ignore[union-attr,index]


def test_a_module_that_holds_its_parent() -> None:
    model = net(simam_module())
    model[0].layers[0].parent = model  # type: ignore[union-attr,index]
    assert names(adopt(model)) == []  # it is not free of parameters any more
    assert "it holds parent.0.conv.weight, parent.0.conv.bias, parent.0.norm.weight and" in said(adopt(model))


# What stays as it was


def test_hooks_go_on_and_their_handles_too() -> None:
    model = net(simam_module())
    layer = model[0].layers[0]  # type: ignore[index,union-attr]
    fired: list[str] = []

    def hook(name: str, result: object = None) -> Callable[..., object]:
        def note(*_: object, **__: object) -> object:
            fired.append(name)
            return result

        return note

    handles = [
        layer.register_forward_pre_hook(hook("pre")),
        layer.register_forward_pre_hook(hook("pre with kwargs"), with_kwargs=True),
        layer.register_forward_hook(hook("forward")),
        layer.register_forward_hook(hook("always"), always_call=True),
        layer.register_forward_hook(hook("with kwargs"), with_kwargs=True),
        layer.register_full_backward_pre_hook(hook("backward pre")),
        layer.register_full_backward_hook(hook("backward")),
        layer.register_state_dict_pre_hook(hook("save pre")),
        layer.register_state_dict_post_hook(hook("save")),
        layer.register_load_state_dict_pre_hook(hook("load pre")),
        layer.register_load_state_dict_post_hook(hook("load")),
    ]

    def use() -> list[str]:
        fired.clear()
        model(X.clone().requires_grad_()).sum().backward()
        model.load_state_dict(model.state_dict())
        return sorted(fired)

    expected = use()
    assert len(expected) == len(handles)
    fired.clear()
    adopt(model, inplace=True)
    assert fired == []
    del layer
    gc.collect()
    assert type(model[0].layers[0]) is SimAM  # type: ignore[index,union-attr]
    assert use() == expected
    for handle in handles:
        handle.remove()
    assert use() == []


def test_a_load_hook_is_given_the_module_that_is_there() -> None:
    model = net(simam_module())
    given: list[object] = []
    model[0].layers[0].register_load_state_dict_pre_hook(lambda module, *_: given.append(module))  # type: ignore
    before = model[0].layers[0]  # type: ignore[index,union-attr]
    with adopted(model):
        model.load_state_dict(model.state_dict())
        assert given == [model[0].layers[0]]  # type: ignore[index,union-attr]
        assert given != [before]
    model.load_state_dict(model.state_dict())
    assert given[1] is before


def test_a_hook_that_changes_the_result_still_does() -> None:
    model = nn.Sequential(simam_module())
    model[0].register_forward_hook(lambda *given: given[2] + 1)
    done = adopt(model)
    assert names(done) == ["0"]
    torch.testing.assert_close(outputs(done.model), outputs(model))


def test_hooks_on_what_would_go_keep_it() -> None:
    model = nn.Sequential(simam_module())
    handle = model[0].activaton.register_forward_hook(lambda *_: None)  # type: ignore[union-attr]
    done = adopt(model)
    assert done.rows == ()
    assert "0 (simam_module):\n  it is SimAM with λ = 0.0001, but there are hooks on its activaton" in said(done)
    handle.remove()
    assert names(adopt(model)) == ["0"]


def test_attributes_and_modes_are_kept() -> None:
    model = net(simam_module(), simam_module())
    layer = model[0].layers[0]  # type: ignore[index,union-attr]
    layer.i, layer.f, layer.type, layer.np = 3, -1, "models.common.SimAM", 0
    layer.e_lambda, layer.forward = 0.1, lambda x: simam(x, 0.2)  # of these ours has its own
    layer.train()
    new = adopt(model).model[0].layers[0]  # type: ignore[index,union-attr]
    assert (new.i, new.f, new.type, new.np) == (3, -1, "models.common.SimAM", 0)
    assert new.training
    assert new.e_lambda == 0.2
    assert "forward" not in vars(new)
    torch.testing.assert_close(new(X), simam(X, 0.2))
    assert not adopt(model).model[1].layers[0].training  # type: ignore[index,union-attr]


def test_gradients_are_the_same() -> None:
    model = net(simam_module(), spelled(simam, 0.1)).double()
    new = adopt(model).model
    grads = []
    for m in (model, new):
        x = X.double().requires_grad_()
        m(x).square().sum().backward()
        grads.append([x.grad, *(p.grad for p in m.parameters())])
    assert all(g is not None and g.abs().max() > 1e-3 for g in grads[1])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_models_get_float32_statistics(half: torch.dtype) -> None:
    x = (60 * torch.randn(1, 2, 80, 80, generator=torch.Generator().manual_seed(0))).to(half)
    model = nn.Sequential(simam_module()).to(half)
    y = adopt(model, x).model(x)
    expected = simam(x.double())
    wide = tolerance(x.double().numpy(), "float16" if half == torch.float16 else "bfloat16")
    assert ((y.double() - expected).abs().numpy() <= wide).all()
    assert not ((model(x).double() - expected).abs() < 1.2 * (y.double() - expected).abs().max()).all()


def test_put_back_also_after_an_exception() -> None:
    model = net(simam_module(), simam_module()).train()
    before = [id(m) for m in model.modules()]
    with pytest.raises(KeyError, match="mine"), adopted(model, X) as swapped:  # noqa: PT012
        assert swapped.model is model
        assert len(swapped.rows) == 2
        assert [type(m) for m in model.modules()].count(SimAM) == 2
        raise KeyError("mine")
    assert [id(m) for m in model.modules()] == before
    assert all(m.training for m in model.modules())


def test_running_the_model_leaves_no_trace() -> None:
    model = net(simam_module()).train()
    model[0].norm.eval()  # type: ignore[union-attr]
    modes, state = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    x = X.clone()
    adopt(model, x, inplace=True)
    assert [m.training for m in model.modules()] == [True, True, True, False, True, True, True, True]
    assert sum(modes) == sum(m.training for m in model.modules()) + 1  # activaton is gone
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert torch.equal(x, X)


def test_progress() -> None:
    told: list[str] = []
    adopt(net(simam_module()), X, on_progress=told.append)
    again = "run the model with our SimAM in it"
    assert told == ["run the model once, to see the sizes", "try 0.layers.0 (simam_module)", again]


# What is left alone


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


def test_ctrl_c_at_any_line_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may raise KeyboardInterrupt anywhere: here at each line of adopt/, but for those that undo."""
    monkeypatch.setattr(adopt_room, "judge", lambda *_: Judgement(1e-4))  # it works on a copy, and takes its time
    undoing = ("put_back()", "handle.remove()", "in handles", "in training", "module.training")

    def state(model: nn.Module) -> object:
        return [(id(m), m.training, list(m._forward_pre_hooks), list(m._forward_hooks)) for m in model.modules()]

    def adopt_until(stop: int) -> list[tuple[str, int]]:
        """Where it came along before the `stop`th line."""
        model = net(simam_module(), simam_module()).train()
        before = state(model)
        lines: list[tuple[str, int]] = []

        def trace(frame: FrameType, event: str, _: object) -> object:
            path = Path(frame.f_code.co_filename)
            if path.parent.name != "adopt" or path.name == "trial.py" or frame.f_code.co_name == "put_back":
                return None
            text = linecache.getline(str(path), frame.f_lineno)
            if event == "line" and not any(words in text for words in undoing):
                lines.append((path.name, frame.f_lineno))
                if len(lines) == stop:
                    raise KeyboardInterrupt
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            with adopted(model, X):
                pass
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert state(model) == before, f"interrupted at {lines[-1]}"
        return lines

    last = {where: i for i, where in enumerate(adopt_until(-1), 1)}  # of a loop, when most of it is done
    assert len(last) > 80
    for stop in last.values():
        adopt_until(stop)


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


def test_a_model_that_does_not_run() -> None:
    model = net(simam_module()).train()
    with pytest.raises(InputError, match=r"the model does not run on the inputs given: .*channels"):
        adopt(model, torch.zeros(1, 5, 9, 9), inplace=True)
    assert all(m.training and not m._forward_pre_hooks for m in model.modules())
    assert type(model[0].layers[0]) is simam_module  # type: ignore[index,union-attr]


def test_what_is_no_model_and_no_inputs() -> None:
    with pytest.raises(InputError, match=r"the model is of type str; give a torch\.nn\.Module"):
        adopt("x")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the model is of type str"), adopted("x"):  # type: ignore[arg-type]
        pytest.fail("it was entered")
    for args, words in ((3, "int"), ({"x": X}, "dict")):
        with pytest.raises(InputError, match=f"args is of type {words}; give a tensor, or a tuple"):
            adopt(net(simam_module()), args)  # type: ignore[arg-type]


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


def test_no_parameters_many_inputs() -> None:
    class Join(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.simam = simam_module()

        def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
            return [self.simam(a), b]

    done = adopt(Join(), (X, X))
    assert names(done) == ["simam"]
    assert done.left_alone == ()


# The model with ours in it


class AsksForTheClass(nn.Module):
    """Skips a layer of a class that it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layers, self.last = nn.Conv2d(3, 3, 1), nn.ModuleList([simam_module()]), simam_module()

    def forward(self, x: Tensor) -> object:
        y = self.conv(x)
        for layer in self.layers:
            if isinstance(layer, simam_module):
                y = layer(y)
        return self.result(self.last(y))

    def result(self, y: Tensor) -> object:
        return y


class InADict(AsksForTheClass):
    def result(self, y: Tensor) -> object:
        return {"shape": tuple(y.shape), "levels": [(torch.zeros(3), y)]}


class UsesAChild(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.att = simam_module()

    def forward(self, x: Tensor) -> Tensor:
        return self.att(x) * self.att.activaton(x)  # type: ignore[operator]


SKIPS, FAILS = (
    r"output {} differs by [\d.]+, where its largest value is [\d.]+\n",
    "it fails with AttributeError: .*\n",
)
OTHERS: dict[str, tuple[Callable[[], nn.Module], torch.dtype, str]] = {
    "asks for the class": (AsksForTheClass, torch.float32, SKIPS.format(0)),
    "in a dict": (InADict, torch.float32, SKIPS.format(1)),
    "float64": (AsksForTheClass, torch.float64, SKIPS.format(0)),
    "float16": (AsksForTheClass, torch.float16, SKIPS.format(0)),
    "bfloat16": (AsksForTheClass, torch.bfloat16, SKIPS.format(0)),
    "uses a child": (UsesAChild, torch.float32, FAILS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_is_another_one_with_ours_is_refused(name: str) -> None:
    make, dtype, words = OTHERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().to(dtype).train()
    before = [id(m) for m in model.modules()]
    x = X.to(dtype)
    whole = (
        f"(?s)another one with our SimAM in it: {words}.*\n  .*(last|att) .simam_module.\n.*--no-adopt .adopt=False"
    )
    for inplace in (True, False):
        with pytest.raises(InputError, match=whole):
            adopt(model, x, inplace=inplace)
    with pytest.raises(InputError, match=whole), adopted(model, x):
        pytest.fail("it was entered")
    assert [id(m) for m in model.modules()] == before
    assert all(m.training and not m._forward_pre_hooks and not m._forward_hooks for m in model.modules())
    assert names(adopt(model))  # which nobody can know without inputs


def test_the_same_model_in_other_types_of_results() -> None:
    class Results(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(simam_module())
            self.held: list[Tensor] = []

        def forward(self, x: Tensor) -> object:
            y = self.net(x)
            return {"y": y, "list": [y.argmax(1), (y > 0, y.log())], "none": None, "complex": torch.fft.fft(y)}

    for dtype in (torch.float32, torch.float64):
        assert names(adopt(Results().to(dtype), X.to(dtype))) == ["net.0.layers.0"]


def test_a_random_model_is_not_judged() -> None:
    class Random(UsesAChild):
        def forward(self, x: Tensor) -> Tensor:
            return self.att(x) + torch.rand(1)  # type: ignore[no-any-return]

    assert names(adopt(Random(), X)) == ["att"]


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


def test_export_says_that_adoption_changes_the_model(tmp_path: Path) -> None:
    for model in (AsksForTheClass(), UsesAChild()):
        for exporter in ("dynamo", "torchscript"):
            with pytest.raises(InputError, match="another one with our SimAM in it"):
                export(model, X, tmp_path / "m.onnx", exporter=exporter)
        assert len(export(model, X, tmp_path / "m.onnx", adopt=False, check=False).fused.rows) > 0
        (tmp_path / "m.onnx").unlink()


# In an export


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_export_adopts_and_puts_back(tmp_path: Path, exporter: str) -> None:
    model = net(simam_module(), spelled(with_divisor(1)), spelled(simam, 0.1))
    before = [id(m) for m in model.modules()]
    told: list[str] = []
    done = export(model, X, tmp_path / "m.onnx", exporter=exporter, opset=18, on_progress=told.append)
    assert [id(m) for m in model.modules()] == before
    assert done.adopted is not None
    assert names(done.adopted) == ["0.layers.0", "2.layers.0"]
    assert done.adopted.model is model
    assert [left.class_name for left in done.adopted.left_alone] == ["Spelled"]
    assert [row.e_lambda for row in done.fused.rows] == pytest.approx([1e-4, 0.1])
    assert "try 0.layers.0 (simam_module)" in told
    plain = export(model, X, tmp_path / "p.onnx", exporter=exporter, opset=18, adopt=False, check=False)
    assert plain.adopted is None
    assert len(plain.fused.rows) == 2


def test_a_frozen_size_thaws(tmp_path: Path) -> None:
    """torch.tensor(float(h * w - 1)) is a constant to the TorchScript exporter; adopted, M - 1 follows x."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Spelled(tensor_n, 0.1)).eval()
    options = {"exporter": "torchscript", "opset": 17, "dynamic": ("height", "width")}
    done = export(model, X, tmp_path / "m.onnx", **options)  # type: ignore[arg-type]
    assert done.parity is not None
    assert done.parity.passed
    x = torch.randn(2, 3, 40, 25, generator=torch.Generator().manual_seed(1))
    with open_session(tmp_path / "m.onnx", "ort") as session, torch.no_grad():
        (y,) = session.run({"input": x.numpy()}).values()
        torch.testing.assert_close(torch.from_numpy(y), model(x))
    # left as it is, its M - 1 is right for the example alone: that is found, and nothing is written
    with pytest.raises(NoBlockError, match=r"right only where the map has H\*W = 63 \(as 7x9\)"):
        export(model, X, tmp_path / "frozen.onnx", adopt=False, **options)  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match="not equal to the model") as caught:
        export(model.append(SimAM()), X, tmp_path / "frozen.onnx", adopt=False, **options)  # type: ignore[arg-type]
    assert {row.case for row in caught.value.report.rows if not row.passed} == {"other size"}
    assert not (tmp_path / "frozen.onnx").exists()


class Wrong(SimAM):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(squares(x) / (4 * (x.var(HW, keepdim=True) + 0.3)) + 0.5)


class WrongInTheFile(Wrong):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if torch.compiler.is_exporting() else SimAM.forward(self, x)


@pytest.mark.parametrize("model", [net(simam_module()), simam_module()], ids=["inside", "the model itself"])
def test_the_file_is_compared_with_the_model_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: nn.Module
) -> None:
    """If ours were wrong, it would show."""
    monkeypatch.setattr(adopt_room, "SimAM", WrongInTheFile)
    with pytest.raises(VerificationError):
        export(model, X, tmp_path / "m.onnx")
    monkeypatch.setattr(adopt_room, "SimAM", Wrong)
    with pytest.raises(InputError, match="the model is another one with our SimAM in it"):
        export(model, X, tmp_path / "m.onnx")


def test_put_back_when_the_exporter_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net(simam_module())
    before = [id(m) for m in model.modules()]
    seen: list[type] = []

    def refuse(given: nn.Module, *_: object, **__: object) -> None:
        seen.extend(type(m) for m in given.modules())
        raise RuntimeError("no")

    monkeypatch.setattr(export_room.torch.onnx, "export", refuse)
    with pytest.raises(InputError, match="refused the model"):
        export(model, X, tmp_path / "m.onnx")
    assert SimAM in seen
    assert simam_module not in seen
    assert [id(m) for m in model.modules()] == before


def test_a_real_model_in_other_words() -> None:
    """The trained digits network with the published class in the place of ours."""
    ours, x = digits.build()
    theirs = copy.deepcopy(ours)
    for parent in list(theirs.modules()):
        for key, child in list(parent._modules.items()):
            if type(child) is SimAM:
                parent._modules[key] = simam_module(e_lambda=child.e_lambda)
    done = adopt(theirs, x)
    assert len(done.rows) == sum(type(m) is SimAM for m in ours.modules())
    with torch.no_grad():
        assert torch.equal(done.model.eval()(x), ours.eval()(x))
    assert repr(done.model) == repr(ours)
