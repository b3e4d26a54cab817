"""SimAM modules of other people replaced by ours: which are found, where they stand, and what they compute then."""

import copy

import numpy as np
import pytest
import torch
from helpers.adopting import X, names, net, outputs, said
from helpers.modules import simam, simam_module, spelled
from torch import Tensor, nn

from export_models import digits
from simam_deploy.errors import InputError
from simam_deploy.formula import tolerance
from simam_deploy.pytorch.adopt import adopt, adopted
from simam_deploy.pytorch.adopt.report import AdoptedModule
from simam_deploy.pytorch.module import SimAM


def test_a_model_with_several() -> None:
    model = net(simam_module(), spelled(simam, 0.1), nn.Identity(), SimAM(0.2))
    text = repr(model)
    done = adopt(model)
    assert done.rows == (
        AdoptedModule(("0.layers.0",), "simam_module", 1e-4),
        AdoptedModule(("1.layers.0",), "Spelled", 0.1),
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
    assert done.rows == (AdoptedModule(("",), "simam_module", 1e-4),)
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


def test_progress() -> None:
    told: list[str] = []
    adopt(net(simam_module()), X, on_progress=told.append)
    again = "run the model with our SimAM in it"
    assert told == ["run the model once, to see the sizes", "try 0.layers.0 (simam_module)", again]


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


# What is no model, and what does not run


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
    with pytest.raises(InputError, match="args is of type int; give a tensor, or a tuple"):
        adopt(net(simam_module()), 3)  # type: ignore[arg-type]
