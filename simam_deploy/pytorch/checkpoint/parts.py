"""Candidates for the weights of a model in a checkpoint, and the best fit."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from simam_deploy.errors import ModelFileError

Entries = dict[str, Any]

NOT_NEEDED = "num_batches_tracked"
"""Counter of BatchNormalization in training, missing in older checkpoints and averaged weights."""

_DEEPEST = 4  # dicts in dicts
_LONGEST = 2000  # letters of a name
_INSIDE = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # torch's wrappers, inside names too


@dataclass(frozen=True)
class Part:
    """A dict of tensors in a checkpoint, and a prefix of their names.

    where : keys that lead to the dict.  entries : its content.  metadata : of torch, by module.
    score : number of names of the model with equal shape, and number of common names.
    changed : changes of the names of `entries`, in words.
    """

    where: tuple[str, ...]
    prefix: str
    entries: Entries
    metadata: Mapping[str, Any]
    score: tuple[int, int]
    changed: tuple[str, ...] = ()

    @property
    def taken_off(self) -> list[str]:
        """Removed parts of the names, in words."""
        return [*self.changed, *([f'prefix "{shown(self.prefix)}" taken off'] if self.prefix else [])]

    @property
    def label(self) -> str:
        """The name to choose it by, as in `--weights w.ckpt:state_dict.model`; empty for the whole file."""
        return ".".join((*self.where, *([self.prefix[:-1]] if self.prefix else [])))

    @property
    def averaged(self) -> bool:
        """Whether it is named as an exponential moving average."""
        return re.search(r"(^|[._])ema([._]|$)", self.label.lower()) is not None

    def is_called(self, name: str) -> bool:
        """Whether `name` is its prefix, so that other entries are left out on purpose."""
        return bool(self.prefix) and name in (self.label, self.prefix[:-1])

    def inside(self) -> Entries:
        """The entries under the prefix, by their names in the model."""
        return {name[len(self.prefix) :]: v for name, v in self.entries.items() if name.startswith(self.prefix)}

    def with_metadata(self, given: Entries) -> Entries:
        """`given` with the metadata of torch, which holds the versions of modules."""
        dotted = {f"{place}." if place else "": version for place, version in self.metadata.items()}
        kept = {place[len(self.prefix) : -1]: v for place, v in dotted.items() if place.startswith(self.prefix)}
        state: Entries = OrderedDict(given)
        if kept:
            state._metadata = kept  # type: ignore[attr-defined]
        return state


def parts(held: Any, own: Mapping[str, Any]) -> Iterator[Part]:
    """Every dict of tensors in `held`, with no prefix and with every prefix of names of the model.

    own : the state_dict of the model.
    """
    deepest = max((name.count(".") for name in own), default=0)
    queue: list[tuple[tuple[str, ...], Any]] = [((), held)]
    seen = set()
    for where, value in queue:
        if not isinstance(value, dict) or id(value) in seen:
            continue
        seen.add(id(value))
        named = {name: entry for name, entry in value.items() if isinstance(name, str)}
        if any(isinstance(entry, torch.Tensor) for entry in named.values()) or (not value and not where):
            entries = without_wrappers(named)
            metadata = getattr(value, "_metadata", None)
            if not isinstance(metadata, dict) or entries.keys() != named.keys():
                metadata = {}
            words = [f'"{name}." taken out of the names' for name in sorted(_INSIDE) if _held(name, named, entries)]
            for prefix, score in _scores(entries, own, deepest).items():
                part = Part(where, prefix, entries, metadata, score, tuple(words))
                yield part
                yield from _of_some(part, own)
        if len(where) < _DEEPEST:
            queue += [((*where, name), entry) for name, entry in named.items()]


def _held(wrapper: str, named: Entries, entries: Entries) -> bool:
    """Whether the wrapper is in the names of the file, and not in those of `entries`."""
    return any(wrapper in name.split(".") for name in named.keys() - entries.keys())


def _of_some(part: Part, own: Mapping[str, Any]) -> Iterator[Part]:
    """All entries without the prefix of some, if the names stay unique and match the model exactly."""
    if not part.prefix or len(part.entries) > len(own):
        return
    plain = {name.removeprefix(part.prefix): value for name, value in part.entries.items()}
    count = sum(name.startswith(part.prefix) for name in part.entries)
    needed = {name for name in own if not name.endswith(NOT_NEEDED)}
    apart = len(plain) == len(part.entries) > count
    if apart and needed <= plain.keys() <= own.keys() and all(same_shape(plain[name], own[name]) for name in plain):
        score = (len(needed), len(needed))
        words = f'prefix "{shown(part.prefix)}" taken off {count} of {len(plain)} names'
        yield Part(part.where, "", plain, {}, score, (*part.changed, words))


def without_wrappers(entries: Mapping[str, Any]) -> Entries:
    """Entries with names without the wrappers of torch.compile, FSDP and checkpointing, if they stay unique."""
    plain = {".".join(part for part in name.split(".") if part not in _INSIDE): v for name, v in entries.items()}
    return plain if len(plain) == len(entries) else dict(entries)


def _scores(entries: Entries, own: Mapping[str, Any], deepest: int) -> dict[str, tuple[int, int]]:
    fits, named = Counter[str](), Counter({"": 0})
    for name, value in entries.items():
        ends = name.split(".") if len(name) < _LONGEST else []
        for start in range(max(0, len(ends) - deepest - 1), len(ends)):
            inner = ".".join(ends[start:])
            if inner in own and not inner.endswith(NOT_NEEDED):
                prefix = name[: len(name) - len(inner)]
                named[prefix] += 1
                fits[prefix] += same_shape(value, own[inner])
    return {prefix: (fits[prefix], named[prefix]) for prefix in named}


def same_shape(value: Any, own: Any) -> bool:
    """Whether the shapes agree. As in torch, a tensor of one number may be a scalar."""
    if not isinstance(own, torch.Tensor) or not isinstance(value, torch.Tensor):
        return not isinstance(own, torch.Tensor)
    return is_lazy(own) or value.shape == own.shape or (own.ndim == 0 and value.shape == (1,))


def choose(found: Sequence[Part], own: Mapping[str, Any], path: Path, wanted: str) -> tuple[Part, list[Part]]:
    """The best fit, and equal fits with other values.

    wanted : the part named by the user, or "". Raises ModelFileError if there is none, or if several fit equally.
    """
    if not found:
        raise ModelFileError(f"{path} holds no state_dict (a dict of tensors by name)")
    if wanted:
        asked = [p for p in found if wanted == p.prefix[:-1] or f"{p.label}.".startswith(f"{wanted}.")]
        if not asked:
            labels = sorted({p.label for p in found if p.label})
            raise ModelFileError(
                f"{path} has no part {shown(wanted)}; it has {', '.join(map(shown, labels[:8])) or 'one only'}"
            )
        found = asked
    best = max(found, key=lambda part: (part.score, len(part.entries)))
    values = _values(best, own)
    others = [p for p in found if p.score == best.score and p is not best and 2 * p.score[0] >= len(values) > 0]
    others = [p for p in others if values.keys() == _values(p, own).keys() and not _same(values, _values(p, own))]
    averaged = [part for part in (best, *others) if part.averaged]
    if others and len(averaged) != 1:
        lines = [_choice(part, path) for part in (best, *others)]
        raise ModelFileError("\n  ".join([f"several parts of {path} fit the model equally; choose one:", *lines]))
    chosen = averaged[0] if others else best
    return chosen, [part for part in (best, *others) if part is not chosen]


def _choice(part: Part, path: Path) -> str:
    if part.label:
        return f"--weights {path}:{shown(part.label)}"
    return "the names without a prefix, which cannot be chosen by a name: save them to a file of their own"


def _values(part: Part, own: Mapping[str, Any]) -> Entries:
    """Values that the model would load. A tensor of another shape may claim any number of elements."""
    names = {name: v for name, v in part.inside().items() if name in own and not name.endswith(NOT_NEEDED)}
    return {name: value for name, value in names.items() if same_shape(value, own[name])}


def _same(one: Entries, other: Entries) -> bool:
    return one.keys() == other.keys() and all(
        one[name] is other[name] or equal(one[name], other[name]) for name in one
    )


def equal(one: Any, other: Any) -> bool:
    """Whether two ordinary tensors are equal; False for quantised, sparse and meta tensors."""
    both = (one, other)
    if not all(isinstance(t, torch.Tensor) and t.layout == torch.strided and not t.is_quantized for t in both):
        return False
    return not (one.is_meta or other.is_meta) and one.dtype == other.dtype and torch.equal(one, other)


def shown(name: str) -> str:
    """A name from a file for a message: shortened and escaped."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= 100 else f"{text[:97]}..."
