"""Manifests of engines: missing, damaged, foreign and edited ones are named."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.made_engine import engine, said, tell, told

from simam_deploy.artifacts import manifest
from simam_deploy.engines.inspection import inspect

FLIPS = 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON, or is damaged"),
        ("{", "is not JSON, or is damaged"),
        ("[]", "is no manifest of simam-deploy"),
        ('{"simam_deploy": "manifest", "a": ' + "[" * 900 + "]" * 900 + "}", "is not JSON, or is damaged"),
        ("[" * 100_000, "is not JSON, or is damaged"),
        ('{"simam_deploy": "manifest"}' + " " * manifest.LARGEST, "is larger than 16 MiB"),
        ('{"simam_deploy": "manifest", "blocks": [], "files": []}', "is the manifest of a model, not of an engine"),
        ('{"simam_deploy": "manifest", "engine": {}}', "has no hash of its own content"),
    ],
    ids=["empty", "cut", "foreign", "deep", "deeper", "large", "of a model", "of nothing"],
)
def test_a_manifest_that_is_none(text: str, words: str, tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine")
    path.with_name("model.engine.json").write_text(text)
    assert words in said(path)


def test_a_manifest_of_an_older_version(tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine")
    keys = ("source", "engine", "targets", "profiles", "strongly_typed", "versions")
    record = {key: told(path)[key] for key in keys}
    record["versions"]["python"] = "3.11"
    tell(path, record)
    assert "has no hash of its own content: written by an older simam-deploy, or edited; build again" in said(path)


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Keys to every value in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in pairs:
        yield (*at, key)
        yield from places(held, (*at, key))


def edits(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each value deleted, and replaced by others of each type."""
    for *inner, last in places(record):
        others = [
            None,
            [],
            {},
            "",
            "sm75",
            "\x1b[31m\u202e",
            -1,
            10**300,
            True,
            float("inf"),
            [[{}]],
            {"a": {"b": 1}},
        ]
        for other in [*others, StopIteration]:
            changed = copy.deepcopy(record)
            held: Any = changed
            for key in inner:
                held = held[key]
            if other is StopIteration:
                del held[last]
            elif held[last] == other:
                continue
            else:
                held[last] = other
            yield changed


def test_every_edit_of_a_manifest(whole: Path) -> None:
    count = 0
    for record in edits(told(whole)):
        tell(whole, record)
        assert said(whole)
        count += 1
    assert count > 300


def test_every_edit_that_contradicts_the_engine_with_its_hash_in_the_manifest(tmp_path: Path) -> None:
    """An edit of what only the manifest tells, as the precision, passes; it takes a liar, not an accident."""
    path = engine(tmp_path / "model.engine")
    record = told(path)
    checked = {"simam_deploy", "engine", "flavor", "targets", "files", "versions"}
    unseen = set()
    for changed in edits(record):
        tell(path, changed, hashed=True)
        found = inspect(path)
        assert all((found.summary, found.verdict, found.table, manifest.as_json(found.as_dict())))
        if not found.disagreements:
            unseen |= {key for key in record if key in checked and record[key] != changed.get(key)}
    assert unseen == {"engine", "flavor", "versions", "files"}
    for key, inner in (("engine", "bytes"), ("versions", "tensorrt_rtx")):
        changed = copy.deepcopy(record)
        changed[key][inner] = 7
        tell(path, changed, hashed=True)
        assert len(inspect(path).disagreements) == 1


def test_a_key_that_is_there_twice(tmp_path: Path) -> None:
    """Readers take the first or the last."""
    path = engine(tmp_path / "model.engine")
    beside = path.with_name("model.engine.json")
    text = beside.read_text()
    for key in ("precision", "targets", "sha256"):
        beside.write_text(text.replace(f'"{key}":', f'"{key}": "fp16", "{key}":', 1))
        assert "is not JSON, or is damaged" in said(path)


def test_flips_in_a_manifest(tmp_path: Path) -> None:
    path = engine(tmp_path / "model.engine")
    beside = path.with_name("model.engine.json")
    rng, data, right = random.Random(8), beside.read_bytes(), told(path)
    for _ in range(FLIPS):
        at = rng.randrange(len(data))
        end = at + (1 if rng.random() < 0.5 else rng.randrange(1, 100))
        flipped = data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) * (end == at + 1) + data[end:]
        beside.write_bytes(flipped)
        try:
            same = json.loads(flipped) == right  # a blank for another
        except ValueError:
            same = False
        assert same or said(path)
