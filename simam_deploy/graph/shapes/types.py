"""Type aliases of shapes."""

from __future__ import annotations

Dims = tuple[int | str | None, ...]
"""A declared shape: a number where fixed, a name or None where dynamic."""
StaticShape = tuple[int, ...]
"""A shape of numbers alone."""
Identifier = tuple[str, str, str]
"""Domain, name and overload of a function."""
