"""Match inputs or outputs of two sessions, by name or by position."""

from __future__ import annotations

from collections.abc import Iterable

from simam_deploy.errors import InputError


class Names:
    """Names of the inputs or outputs of one model, for matching those of others.

    kind : "inputs" or "outputs".  whose : as in "the truth".
    names : in the order of the result of `match`; duplicates count once.
    named : as `Session.named`. If False, the first session with names of its own supplies them.
    """

    def __init__(self, kind: str, whose: str, names: Iterable[str], *, named: bool = True) -> None:
        self.names = list(dict.fromkeys(names))
        self._kind, self._whose = kind, whose
        self._known = [(self.names, named)]

    def match(self, label: str, names: Iterable[str], *, named: bool = True) -> tuple[list[str], str]:
        """Order the names of another session like ours. Returns them and a note, "" if there is none.

        Equal names match in any order, with a note if the case differs. Without a common name, positions match, with
        a note if both sides have names of their own.
        Raises InputError if the counts differ, or if only some names are equal: two may be exchanged. If one side has
        no names of its own, equal names in equal positions are accepted.
        """
        theirs = list(dict.fromkeys(names))
        for ours, _ in self._known:
            if set(ours) == set(theirs):
                return ours, ""
        if len(theirs) != len(self.names):
            raise InputError(self._differ(label, theirs, self.names))
        note = ""
        for ours, own in self._known:
            mine, others = _folded(ours, theirs)
            if set(mine) == set(others):
                order = dict(zip(others, theirs, strict=True))
                words = "matched by name, whatever the case of the letters"
                return [order[name] for name in mine], f"{self._differ(label, theirs, ours)}: {words}"
            same = set(mine) & set(others)
            moved = any(a != b and same & {a, b} for a, b in zip(mine, others, strict=True))
            if moved or (same and own and named):
                raise InputError(
                    f"{self._differ(label, theirs, ours)}: some names are the same and others are not, so two may be "
                    "exchanged\ngive them the same names, or names that are all different"
                )
            if own and named:
                note = f"{self._differ(label, theirs, ours)}: matched by position, as no name is the same"
        if named and not self._known[-1][1]:
            self._known.append((theirs, True))
        return theirs, note

    def _differ(self, label: str, theirs: list[str], ours: list[str]) -> str:
        return f"{label} has the {self._kind} {', '.join(theirs)}; {self._whose} has {', '.join(ours)}"


def _folded(ours: list[str], theirs: list[str]) -> tuple[list[str], list[str]]:
    """Both lists in lower case, except for names that are equal already, or that differ in case alone."""
    same = set(ours) & set(theirs)
    left = [[name.casefold() for name in names if name not in same] for names in (ours, theirs)]
    if any(len(set(names)) < len(names) or same & set(names) for names in left):
        return ours, theirs
    mine, others = ([name if name in same else name.casefold() for name in names] for names in (ours, theirs))
    return mine, others
