"""Rows as a table on the screen, and what they say in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ReportRow = Mapping[str, Any]


def text(rows: Sequence[ReportRow]) -> str:
    """All tables, the words for what is wrong, and a summary."""
    parts = [_table(name, [row for row in rows if row["table"] == name]) for name in COLUMNS]
    return "\n\n".join([part for part in parts if part] + [summary(rows)])


def failed(rows: Sequence[ReportRow]) -> bool:
    """A check or a sanitizer that is not ok, a timed launch with a wrong result, or nothing checked at all."""
    wrong = [row for row in rows if row["table"] in ("check", "sanitizer") and not row["ok"]]
    wrong += [row for row in rows if row["table"] == "speed" and not row["worst"] <= 1]
    return bool(wrong) or not rows


def summary(rows: Sequence[ReportRow]) -> str:
    """Summary of checks, targets and notes."""
    lines = []
    if checks := [row for row in rows if row["table"] == "check"]:
        checks = [row for row in checks if row["cases"] or not row["ok"]]  # the others say nothing
        right = sum(row["ok"] for row in checks)
        lines.append(f"{right} of {len(checks)} checks are right, {sum(row['cases'] for row in checks)} cases")
    if speed := [row for row in rows if row["table"] == "speed"]:
        met = sum(row["ok"] and row["worst"] <= 1 for row in speed)
        lines.append(f"{met} of {len(speed)} rows meet their target")
        lines += [row["note"] for row in rows if row["table"] == "note"]
        notes = Counter(note for row in speed for note in row["note"].split("; ") if note)
        lines += [f"not timed in {count} of {len(speed)} rows: {note}" for note, count in notes.most_common()]
        if wrong := [row["row"] for row in speed if not row["worst"] <= 1]:
            lines.append(f"WRONG RESULTS in: {', '.join(wrong)}")
        rivals = [row for row in speed if row["over_compile"]]
        slower = [row["row"] for row in rivals if row["over_compile"] < 1]
        faster = sum(row["over_compile"] >= 1.5 for row in rivals)
        lines.append(
            f"next to torch.compile: 1.5 times as fast or more in {faster} of {len(rivals)} rows, "
            f"slower in {', '.join(slower) or 'none'}"
            if rivals
            else "torch.compile was not timed"
        )
    return "\n".join(lines)


def cells(row: ReportRow) -> list[str]:
    """A row of its table as text."""
    return [show(row) for _, show in COLUMNS[row["table"]]]


def _number(value: float | None, form: str = ".3g") -> str:
    return "-" if value is None else format(value, form)


def _verdict(row: ReportRow) -> str:
    if row.get("cases") == 0 and row["ok"]:
        return "-"
    if row["table"] == "speed":
        return "WRONG" if not row["worst"] <= 1 else "ok" if row["ok"] else "missed"
    return "ok" if row["ok"] else "FAILED"


def _target(row: ReportRow) -> str:
    return f"{'<=' if row['regime'] == 'batch 1' else '>='} {row['target']:.2f}"


COLUMNS: dict[str, Sequence[tuple[str, Any]]] = {
    "check": (
        ("check", lambda row: row["check"]),
        ("cases", lambda row: str(row["cases"])),
        ("worst / bar", lambda row: _number(row["worst"])),
        ("", _verdict),
        ("note", lambda row: row["note"]),
    ),
    "sanitizer": (
        ("compute-sanitizer", lambda row: row["tool"]),
        ("planted defect", lambda row: row["planted"]),
        ("kernels", lambda row: row["kernels"]),
        ("", _verdict),
    ),
    "speed": (
        ("row", lambda row: row["row"]),
        ("op", lambda row: row["op"].removeprefix("simam+") if row["op"] != "simam" else ""),
        ("us", lambda row: _number(row["us"])),
        ("copy us", lambda row: _number(row["copy_us"])),
        ("TB/s", lambda row: _number(row["tb_s"])),
        ("of copy", lambda row: _number(row["figure"], ".3f")),
        ("target", _target),
        ("", _verdict),
        ("eager us", lambda row: _number(row["eager_us"])),
        ("compile us", lambda row: _number(row["compile_us"])),
        ("x compile", lambda row: _number(row["over_compile"], ".2f")),
        ("ort us", lambda row: _number(row["ort_us"])),
        ("worst", lambda row: _number(row["worst"])),
        ("plan", lambda row: row["plan"]),
    ),
    "tune": (
        ("row", lambda row: row["row"]),
        ("op", lambda row: row["op"].removeprefix("simam+") if row["op"] != "simam" else ""),
        ("shape", lambda row: "x".join(map(str, row["shape"]))),
        ("tactic", lambda row: row["tactic"]),
        ("us", lambda row: _number(row["us"])),
        ("copy us", lambda row: _number(row["copy_us"])),
        ("of copy", lambda row: _number(row["figure"], ".3f")),
        ("plan", lambda row: row["plan"]),
    ),
}


def _table(name: str, rows: Sequence[ReportRow]) -> str:
    if not rows:
        return ""
    lines = [[title for title, _ in COLUMNS[name]], *(cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
