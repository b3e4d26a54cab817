"""The result of `adopt`: which modules were replaced, and which were left alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from simam_deploy.text import on_lines


@dataclass(frozen=True)
class AdoptedModule:
    """A module that was replaced."""

    names: tuple[str, ...]
    """All dotted names of a shared module; "" is the model itself."""
    class_name: str
    e_lambda: float


@dataclass(frozen=True)
class LeftAlone:
    """A module named SimAM, or close to it, that was not replaced, and the reasons."""

    names: tuple[str, ...]
    class_name: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return "\n  ".join((f"{shown(self.names)} ({self.class_name}):", *self.reasons))


@dataclass(frozen=True, repr=False)
class Adopted:
    """A model with our SimAM in it. rows : replaced modules.  left_alone : near misses. In the order of the model."""

    model: nn.Module
    rows: tuple[AdoptedModule, ...]
    left_alone: tuple[LeftAlone, ...]

    def __repr__(self) -> str:
        """A line for each replaced module, and for each near miss with its reasons."""
        done = (f"adopted {shown(row.names)} ({row.class_name}), λ = {row.e_lambda:g}" for row in self.rows)
        left = (f"left alone {module}" for module in self.left_alone)
        return "\n".join(map(on_lines, (*done, *left))) or "adopted no module"


def shown(names: tuple[str, ...]) -> str:
    """Names of one module for a message."""
    return ", ".join(name or "the model itself" for name in names)
