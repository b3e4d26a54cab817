"""Plain names for tools that build names of their own.

ONNX Runtime's quantiser takes `x_scale` for its own scale of x, even if a file has a weight of that name, and tells
nodes apart by their names, which files may leave out. With `v1`, `v2` for values and `n1`, `n2` for nodes neither
can happen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

_PLAIN = re.compile(r"[vn]\d+(?=_|$)")


@dataclass
class PlainNames:
    """nodes, values : name in the file by plain name. Names of nodes are unique; those left out are made up."""

    nodes: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @classmethod
    def give(cls, model: ir.Model) -> PlainNames:
        """Rename all values and nodes of `model`, except those in functions."""
        names, taken = cls(), set[str]()
        values = list(dict.fromkeys(_values(model)))
        names.values = {f"v{i}": str(value.name) for i, value in enumerate(values)}
        for i, node in enumerate(model.graph.all_nodes()):
            made = node.name or next((str(v.name) for v in node.outputs if v.name), "") or node.op_type
            names.nodes[f"n{i}"] = _free(made, taken)
            node.name = f"n{i}"
        _rename(values, [f"v{i}" for i in range(len(values))])
        return names

    def plain(self, name: str) -> str | None:
        """Plain name of a node, by its name in the file."""
        return next((plain for plain, own in self.nodes.items() if own == name), None)

    def in_text(self, text: str) -> str:
        """A message of a tool, with the names of the file."""
        return re.sub(r"\b[vn]\d+\b", lambda m: self.nodes.get(m[0], self.values.get(m[0], m[0])), text)

    def take_back(self, model: ir.Model) -> None:
        """Rename in a model with plain names, and with names that a tool has made of them."""
        taken_values, taken_nodes = set(self.values.values()), set(self.nodes.values())
        values = list(dict.fromkeys(_values(model)))
        _rename(values, [self._own(str(value.name), self.values, taken_values) for value in values])
        for node in model.graph.all_nodes():
            node.name = self._own(str(node.name), self.nodes, taken_nodes)

    def _own(self, name: str, exact: dict[str, str], taken: set[str]) -> str:
        if name in exact:
            return exact[name]
        own = _PLAIN.sub(lambda m: self.values.get(m[0], self.nodes.get(m[0], m[0])), name, count=1)
        return _free(own, taken)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for graph in model.graphs():
        yield from graph.inputs
        yield from graph.initializers.values()
        for node in graph:
            yield from (value for value in node.outputs if value.name)


def _rename(values: Sequence[ir.Value], names: Sequence[str]) -> None:
    """Rename all at once: an initialiser cannot take a name that another still has."""
    for i, value in enumerate(values):
        value.name = f"\0{i}"
    for value, name in zip(values, names, strict=True):
        value.name = name


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
