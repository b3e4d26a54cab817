"""Checkpoints as people have them: what is taken, what is said of it, and what is refused."""

import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import Net, Weights, loaded, prefixed, refused, same, trained
from torch import nn
from torch.optim.swa_utils import AveragedModel

from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch import checkpoint

PREFIXES = [
    "module.",
    "model.",
    "_orig_mod.",
    "backbone.",
    "net.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "a.b.c.",
]
WRAPPERS = [
    "state_dict",
    "state_dict_ema",
    "ema",
    "model",
    "model_state_dict",
    "net",
    "params",
    "params_ema",
    "module",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    net, said = loaded(prefixed(prefix, trained()), tmp_path)
    assert same(net, trained())
    left = prefix.replace("_orig_mod.", "")
    taken = ', "_orig_mod." taken out of the names' if left != prefix else ""
    assert said == f"weights: {tmp_path}/w.pth{taken}" + (f', prefix "{left}" taken off' if left else "")


def partly(prefix: str, weights: Weights, step: int = 2) -> Weights:
    """Every other name with the prefix, or one of `step`."""
    return {(prefix if at % step == 0 else "") + name: value for at, (name, value) in enumerate(weights.items())}


@pytest.mark.parametrize("prefix", ["module.", "model.", "a.b."])
@pytest.mark.parametrize("step", [2, 5, 99])
@pytest.mark.parametrize("wrapper", ["", "state_dict"])
def test_a_prefix_of_some_names_is_taken_off_and_said(tmp_path: Path, prefix: str, step: int, wrapper: str) -> None:
    held = partly(prefix, trained(), step)
    net, said = loaded({wrapper: held} if wrapper else held, tmp_path)
    assert same(net, trained())
    count = sum(name.startswith(prefix) for name in held)
    whose = f"{wrapper} of " if wrapper else ""
    assert said == f'weights: {whose}{tmp_path}/w.pth, prefix "{prefix}" taken off {count} of {len(held)} names'


def test_a_prefix_of_some_names_stays_where_the_whole_does_not_fit(tmp_path: Path) -> None:
    lacking = partly("module.", trained())
    del lacking["head.weight" if "head.weight" in lacking else "module.head.weight"]
    refused(lacking, tmp_path, r"do not fit Net:\n  missing: .*; nearest in the file: ")
    refused(partly("module.", trained()) | {"extra": torch.ones(2)}, tmp_path, r"do not fit Net:\n  missing: ")
    clash = partly("module.", trained(1)) | {"conv.weight": trained(2)["conv.weight"]}
    with pytest.raises(ModelFileError, match="do not fit Net") as caught:
        loaded(clash, tmp_path)
    assert "choose one" not in str(caught.value)


def test_no_two_names_become_one(tmp_path: Path) -> None:
    """As many entries as the model has: of one that may be missing there is none, and of another there are two."""
    held = {name: value for name, value in trained(1).items() if not name.endswith("num_batches_tracked")}
    held |= {"module.conv.weight": trained(2)["conv.weight"]}
    assert len(held) == len(trained())
    refused(held, tmp_path, r"do not fit Net:\n  left over: module.conv.weight$")


def test_names_with_a_prefix_and_without_one_that_fit_equally(tmp_path: Path) -> None:
    words = (
        r"several parts of .*w.pth fit the model equally; choose one:\n"
        r"  the names without a prefix, which cannot be chosen by a name: save them to a file of their own\n"
        r"  --weights .*w.pth:teacher$"
    )
    refused(trained(1) | prefixed("teacher.", trained(2)), tmp_path, words)


@pytest.mark.parametrize("wrapper", [*WRAPPERS, "generator", "best"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_dicts_around_are_looked_through(tmp_path: Path, wrapper: str, prefix: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    held = {"epoch": 3, "optimizer": optimizer, wrapper: prefixed(prefix, trained()), "best_acc": torch.tensor(0.9)}
    net, said = loaded(held, tmp_path)
    assert same(net, trained())
    assert said.startswith(f"weights: {wrapper} of {tmp_path}/w.pth")
    assert ('prefix "module." taken off' in said) == bool(prefix)


def test_a_lightning_checkpoint_and_dicts_in_dicts(tmp_path: Path) -> None:
    held = {"pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}, "callbacks": {}, "loops": {"fit": 1}}
    net, said = loaded({**held, "state_dict": prefixed("model.", trained())}, tmp_path)
    assert same(net, trained())
    assert said == f'weights: state_dict of {tmp_path}/w.pth, prefix "model." taken off'
    net, said = loaded({"ema": {"module": OrderedDict(trained())}}, tmp_path)
    assert same(net, trained())
    assert said == f"weights: ema.module of {tmp_path}/w.pth"


def test_averaged_models_of_torch(tmp_path: Path) -> None:
    source = Net()
    source.load_state_dict(trained())
    averaged = AveragedModel(source)
    averaged.update_parameters(source)
    net, said = loaded(averaged.state_dict(), tmp_path)
    assert same(net, trained())
    assert said.endswith('w.pth, prefix "module." taken off, n_averaged left out')


def test_a_count_without_a_prefix_is_left_out_and_a_weight_is_not(tmp_path: Path) -> None:
    net, said = loaded(trained() | {"n_averaged": torch.tensor(5)}, tmp_path)
    assert same(net, trained())
    assert said.endswith("w.pth, n_averaged left out")
    refused(trained() | {"temperature": torch.tensor(0.5)}, tmp_path, "left over: temperature$")
    refused(trained() | {"table": torch.tensor([1, 2])}, tmp_path, "left over: table$")


@pytest.mark.parametrize("extra", [{"step": torch.tensor([7])}, {"decay": torch.tensor(0.99)}, {"epoch": 3}])
def test_a_count_beside_a_prefix_is_left_out_and_said(tmp_path: Path, extra: Weights) -> None:
    assert loaded(prefixed("ema_model.", trained()) | extra, tmp_path)[1].endswith(f"{next(iter(extra))} left out")


@pytest.mark.parametrize(
    "extra", [{"head2.weight": torch.ones(1)}, {"criterion.weight": torch.ones(3)}, {"other": torch.ones(2)}]
)
def test_weights_beside_a_prefix_are_left_over(tmp_path: Path, extra: Weights) -> None:
    (name,) = extra
    held = {"state_dict": prefixed("model.", trained()) | extra}
    words = rf'\(state_dict, prefix "model." taken off\) do not fit Net:\n  left over: {name}\n'
    refused(held, tmp_path, words + r"to take these alone: --weights .*w.pth:state_dict.model$")
    for wanted in ("state_dict.model", "model"):
        net, said = loaded(held, tmp_path, wanted)
        assert same(net, trained())
        assert said.endswith(f"{name} left out")


@pytest.mark.parametrize(
    ("raw", "averaged"), [("state_dict", "state_dict_ema"), ("params", "params_ema"), ("model", "ema_state_dict")]
)
@pytest.mark.parametrize("turned", [True, False])
def test_the_moving_average_is_taken_and_the_other_can_be(
    tmp_path: Path, raw: str, averaged: str, turned: bool
) -> None:
    held = {raw: trained(1), averaged: trained(2)}
    held = dict(reversed(held.items())) if turned else held
    net, said = loaded(held, tmp_path)
    assert same(net, trained(2))
    assert said == f"weights: {averaged} of {tmp_path}/w.pth, to take {raw} instead: --weights {tmp_path}/w.pth:{raw}"
    net, said = loaded(held, tmp_path, raw)
    assert same(net, trained(1))
    assert said == f"weights: {raw} of {tmp_path}/w.pth"


def test_a_moving_average_beside_the_model_in_one_dict(tmp_path: Path) -> None:
    held = {"state_dict": prefixed("model.", trained(1)) | prefixed("ema_model.", trained(2))}
    net, said = loaded(held, tmp_path)
    assert same(net, trained(2))
    assert "to take state_dict.model instead" in said
    assert same(loaded(held, tmp_path, "model")[0], trained(1))
    count = {"ema.n_averaged": torch.tensor(3)}
    net, said = loaded(prefixed("model.", trained(1)) | prefixed("ema.module.", trained(2)) | count, tmp_path)
    assert same(net, trained(2))
    assert "to take model instead" in said


def test_several_parts_that_fit_are_for_the_user_to_choose(tmp_path: Path) -> None:
    held = {"student": trained(1), "teacher": trained(2)}
    words = r"several parts of .*w.pth fit the model equally; choose one:\n  --weights .*:student\n  .*:teacher$"
    refused(held, tmp_path, words)
    assert same(loaded(held, tmp_path, "teacher")[0], trained(2))
    assert same(loaded({"model": trained(1), "best": trained(1)}, tmp_path)[0], trained(1))
    refused(held, tmp_path, r"w.pth has no part tutor; it has student, teacher$", wanted="tutor")


def test_the_part_that_fits_by_its_shapes_is_taken(tmp_path: Path) -> None:
    other = {name: torch.ones(*value.shape, 2) for name, value in trained().items()}
    net, said = loaded({"discriminator": other, "generator": trained()}, tmp_path)
    assert same(net, trained())
    assert said.startswith("weights: generator of")


@pytest.mark.parametrize("inside", ["conv._orig_mod", "conv._fsdp_wrapped_module", "conv._checkpoint_wrapped_module"])
def test_what_torch_puts_into_names_is_taken_out(tmp_path: Path, inside: str) -> None:
    held = {name.replace("conv", inside): value for name, value in trained().items()}
    assert same(loaded(held, tmp_path)[0], trained())
    net = Net()
    net.conv = nn.Sequential(OrderedDict({inside.partition(".")[2]: net.conv}))
    torch.save(trained(), tmp_path / "w.pth")
    checkpoint.load(net, tmp_path / "w.pth")
    assert torch.equal(net.conv[0].weight, trained()["conv.weight"])


def test_misfits_are_listed_with_the_nearest_name(tmp_path: Path) -> None:
    held = trained()
    held["heads.weight"] = held.pop("head.weight")
    held["extra"] = torch.ones(2)
    words = r"do not fit Net:\n  missing: head.weight; nearest in the file: heads.weight\n  left over: extra$"
    refused(held, tmp_path, words)
    refused({"x.y": torch.ones(1)}, tmp_path, r"missing: scale\n(  missing: .*\n){4}  and \d+ more$")
    refused({**trained(), "conv.weight": 3}, tmp_path, "conv.weight: is int in the file, no tensor")


def test_a_list_of_misfits_is_short_whatever_the_names_are(tmp_path: Path) -> None:
    held = {f"{'a.' * 5000}{i}": torch.ones(1) for i in range(3000)} | {"\x1b[31mred": torch.ones(2)}
    with pytest.raises(ModelFileError) as raised:
        loaded(held, tmp_path)
    assert len(str(raised.value)) < 1500
    refused({**trained(), "\x1b[31mred": torch.ones(2)}, tmp_path, re.escape(r"left over: \x1b[31mred") + "$")
