"""Hooks, attributes and modes stay as they were; after `adopted` and after Ctrl-C so do the modules themselves."""

import copy
import gc
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from helpers.adopting import X, names, net, outputs, said
from helpers.modules import simam, simam_module
from torch import nn

from simam_deploy.pytorch import adopt as adopt_room
from simam_deploy.pytorch.adopt import adopt, adopted
from simam_deploy.pytorch.adopt.trial import TrialResult
from simam_deploy.pytorch.module import SimAM

# Hooks


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


# Attributes and modes


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


# Put back


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


def test_ctrl_c_at_any_line_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python may raise KeyboardInterrupt anywhere: here at each line of adopt/, but for those that undo."""
    monkeypatch.setattr(adopt_room, "judge", lambda *_: TrialResult(1e-4))  # it works on a copy, and takes its time
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
            torch.compiler.set_stance("default")  # kept by an interrupt right at the end of a `with`
        assert state(model) == before, f"interrupted at {lines[-1]}"
        return lines

    last = {where: i for i, where in enumerate(adopt_until(-1), 1)}  # of a loop, when most of it is done
    assert len(last) > 80
    for stop in last.values():
        adopt_until(stop)
