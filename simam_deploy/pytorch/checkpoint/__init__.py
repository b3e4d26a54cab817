"""Load weights of a PyTorch model without running code, matched to the names of the model."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simam_deploy.errors import ModelFileError
from simam_deploy.pytorch.checkpoint.parts import NOT_NEEDED, Part, choose, parts, shown, without_wrappers
from simam_deploy.pytorch.checkpoint.reading import read
from simam_deploy.pytorch.checkpoint.values import misfit, place, torn

__all__ = ["load"]

MOST_SHOWN = 5
MOST_COMPARED = 500
LONGEST_COMPARED = 120
"""Upper bounds on names and their length in the search for the nearest name; its cost grows with their square."""


def load(module: nn.Module, path: Path, wanted: str = "") -> str:
    """Load a checkpoint into `module`. Returns a summary in one line.

    path : a file of torch.save or safetensors. Searches nested dicts (state_dict, model, params, ...) and prefixes of
    names (`module.`, `model.`, ...) for the best fit to the module's names and shapes. Removes a prefix of some names
    if the names then match exactly. Prefers the moving average (state_dict_ema, params_ema), as timm and BasicSR do
    in evaluation.
    wanted : the dict or the prefix to take, such as `params` or `state_dict.model`.
    Converts floats of another width to that of the module.
    Raises ModelFileError: no such file, or of another kind; no state_dict in it; names or shapes that do not fit;
    integer, complex, quantised, sparse or meta values for a float; NaN or infinity where the module has none; several
    parts that fit. RuntimeUnavailable if safetensors is not installed.
    """
    held = module.state_dict()
    own = without_wrappers(held)
    names = dict(zip(own, held, strict=True))
    part, others = choose(list(parts(read(path), own)), own, path, wanted)
    given = {name: value for name, value in part.inside().items() if name in own or not _counts(name, value)}
    outside = [name for name in part.entries if not name.startswith(part.prefix)]
    strangers = [] if part.is_called(wanted) else [name for name in outside if _is_of_the_model(name, part, others)]
    wrong = [f"{shown(name)}: {why}" for name in given if name in own and (why := misfit(given[name], own[name]))]
    wrong += torn(given, own)
    if wrong or strangers:
        missing, unknown = [name for name in own if name not in given], [name for name in given if name not in own]
    else:
        missing, unknown = _put(module, {names.get(name, name): value for name, value in given.items()}, part, path)
    filled = {place(own.get(name)) for name in given} - {None}  # safetensors writes a shared tensor once
    missing = [name for name in missing if not name.endswith(NOT_NEEDED) and place(own.get(name)) not in filled]
    if wrong or missing or unknown or strangers:
        raise ModelFileError(_refusal(module, path, part, wrong, missing, unknown, strangers))
    left_out = [*outside, *(name for name in part.inside() if name not in given)]
    return _summary(path, part, others, left_out, given, own)


def _counts(name: str, value: Any) -> bool:
    """Whether an entry is a counter: `n_averaged` of an AveragedModel, a step, an epoch."""
    if not isinstance(value, torch.Tensor):
        return True
    return "." not in name and value.numel() <= 1 and not value.is_floating_point()


def _is_of_the_model(name: str, part: Part, others: Sequence[Part]) -> bool:
    """Whether an entry outside the prefix may be a weight of the model: no counter, not part of another model."""
    value = part.entries[name]
    twins = tuple(other.prefix for other in others if other.entries is part.entries and other.prefix)
    if not isinstance(value, torch.Tensor) or name.startswith(twins):
        return False
    return value.numel() > 1 or ("." in name and value.is_floating_point())


def _put(module: nn.Module, given: dict[str, Any], part: Part, path: Path) -> tuple[list[str], list[str]]:
    """Load; return missing and unused names."""
    try:
        result = module.load_state_dict(part.with_metadata(given), strict=False)
    except Exception as error:  # of a module that reads its own entries, in any type
        lines = [line.strip()[:200] for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ModelFileError(
            "\n  ".join(
                [f"the weights in {path} cannot be loaded into {type(module).__name__}:", *lines[:MOST_SHOWN]]
            )
        ) from error
    return list(result.missing_keys), list(result.unexpected_keys)


def _refusal(
    module: nn.Module,
    path: Path,
    part: Part,
    wrong: Sequence[str],
    missing: Sequence[str],
    unknown: Sequence[str],
    strangers: Sequence[str],
) -> str:
    pool = [*unknown, *strangers]
    short = [name for name in pool if len(name) <= LONGEST_COMPARED][:MOST_COMPARED]
    lines = []
    for i, name in enumerate(missing):
        near = difflib.get_close_matches(name, short, 1) if i < MOST_SHOWN and len(name) <= LONGEST_COMPARED else []
        lines.append(f"missing: {shown(name)}" + (f"; nearest in the file: {shown(near[0])}" if near else ""))
    lines += wrong
    near_misses = {line.rpartition(": ")[2] for line in lines[:MOST_SHOWN] if "; nearest" in line}
    lines += [f"left over: {shown(name)}" for name in pool if shown(name) not in near_misses]
    rest = [f"and {len(lines) - MOST_SHOWN} more"] if len(lines) > MOST_SHOWN else []
    text = [f"the weights in {path}{_taken(part)} do not fit {type(module).__name__}:", *lines[:MOST_SHOWN], *rest]
    hint = f"\nto take these alone: --weights {path}:{shown(part.label)}" if strangers and part.prefix else ""
    return "\n  ".join(text) + hint


def _taken(part: Part) -> str:
    said = [shown(".".join(part.where))] if part.where else []
    said += part.taken_off
    return f" ({', '.join(said)})" if said else ""


def _summary(
    path: Path,
    part: Part,
    others: Sequence[Part],
    left_out: Sequence[str],
    given: Mapping[str, Any],
    own: Mapping[str, Any],
) -> str:
    """As in `weights: state_dict_ema of w.pth, prefix "module." taken off, n_averaged left out`."""
    said = [f"{shown('.'.join(part.where))} of {path}" if part.where else str(path)]
    said += part.taken_off
    if left_out:
        more = f" and {len(left_out) - MOST_SHOWN} more" if len(left_out) > MOST_SHOWN else ""
        said.append(f"{', '.join(map(shown, left_out[:MOST_SHOWN]))}{more} left out")
    kinds = Counter(
        (str(value.dtype), str(own[name].dtype))
        for name, value in given.items()
        if name in own and isinstance(value, torch.Tensor) and value.dtype != own[name].dtype
    )
    said += [
        f"{n} tensors of {given_type.removeprefix('torch.')} converted to {own_type.removeprefix('torch.')}"
        for (given_type, own_type), n in kinds.items()
    ]
    said += [f"to take {shown(p.label)} instead: --weights {path}:{shown(p.label)}" for p in others[:1] if p.label]
    return "weights: " + ", ".join(said)
