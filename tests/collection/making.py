"""Recipe -> files and what is true of each, asked of the file itself in ONNX Runtime."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from collection.exporting import NotExported, agrees, export, images, quiet, session
from collection.nets import build, written
from collection.plan import DYNAMIC_ALONE, EPSILON_OF_M, OTHERS, Recipe, recipes
from collection.postprocess import POSTS

Entry = dict[str, Any]
"""What index.json says of a file: see `_entry`."""
FEW = 12
"""Exports that take no longer than two processes take to import torch."""


def make_all(
    folder: Path, everything: bool = False, wanted: Callable[[str], bool] = lambda name: True
) -> dict[str, Entry]:
    """Write all files whose name is wanted, those they are made of, and index.json into `folder`; returns the index.

    Same versions, same files. In two processes; a few files in this one, where torch may be imported already."""
    folder.mkdir(parents=True, exist_ok=True)
    asked = [
        replace(recipe, posts=tuple(post for post in recipe.posts if wanted(f"{recipe.name}-{post}")))
        for recipe in recipes(everything)
        if any(map(wanted, recipe.names))
    ]
    if len(asked) <= FEW:
        made = [entry for recipe in asked for entry in make(recipe, folder)]
    else:
        names = [(recipe.name, recipe.posts) for recipe in asked]  # what else is in a recipe is not sent to others
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with context.Pool(2, initializer=_start, initargs=(folder, everything)) as pool:
            made = [entry for entries in pool.imap(_make_named, names, chunksize=4) for entry in entries]
    (folder / "index.json").write_text(json.dumps(made, indent=1, ensure_ascii=False), encoding="utf-8")
    return {entry["name"]: entry for entry in made}


def _start(folder: Path, everything: bool) -> None:
    import torch._export.utils
    import torch.onnx._internal.exporter._registration
    from helpers import torch_lookups

    torch.set_num_threads(1)
    torch_lookups.keep()
    _start.folder = folder  # type: ignore[attr-defined]
    _start.recipes = {recipe.name: recipe for recipe in recipes(everything)}  # type: ignore[attr-defined]


def _make_named(asked: tuple[str, tuple[str, ...]]) -> list[Entry]:
    name, posts = asked
    return make(replace(_start.recipes[name], posts=posts), _start.folder)  # type: ignore[attr-defined]


def make(recipe: Recipe, folder: Path) -> list[Entry]:
    """Write the file of `recipe` and those made of it; returns an entry for each, also for what failed."""
    entry = _entry(recipe)
    try:
        model = _wrapped(recipe, entry) if recipe.wrapped else _exported(recipe, entry)
    except NotExported as error:
        return [{**entry, "name": name, "label": "failed", "reason": str(error)} for name in recipe.names]
    _write(model, folder / f"{recipe.name}.onnx")
    return [entry, *(_post(recipe, model, entry, post, folder) for post in recipe.posts)]


def _entry(recipe: Recipe) -> Entry:
    """name, label, e_lambda (one for each block), shapes of the input to run it at, half, how."""
    how = "built by hand" if recipe.wrapped else f"{recipe.exporter}, opset {recipe.opset}, {recipe.dynamic}"
    return {
        "name": recipe.name,
        "label": recipe.label,
        "e_lambda": list(recipe.e_lambda),
        "shapes": [list(recipe.shape)],
        "half": recipe.half,
        "how": how,
    }


def _exported(recipe: Recipe, entry: Entry) -> onnx.ModelProto:
    """The file, and in its entry `frozen` where it is right at the size of its export alone."""
    spelled = written(recipe.spelled)
    module = build(recipe.net, spelled)
    model = export(module, recipe.shape, recipe.exporter, recipe.opset, recipe.dynamic, recipe.half)
    if not agrees(model, module, recipe.shape):
        raise NotExported("the file does not compute what torch does")
    if recipe.dynamic == "static":
        return model
    free = {"batch": (0,), "hw": range(2, 5), "all": (0, *range(2, 5))}[recipe.dynamic]
    other = tuple(OTHERS[spelled.axes][i] if i in free else d for i, d in enumerate(recipe.shape))
    label = _elsewhere(model, recipe, other)
    if label == "true":
        entry["shapes"].append(list(other))
    elif recipe.label != "miss":
        entry["label"] = label
    elif recipe.spelled in DYNAMIC_ALONE:
        raise NotExported("the exporter fixed the size: it is SimAM of that size now")
    return model


def _elsewhere(model: onnx.ModelProto, recipe: Recipe, shape: tuple[int, ...]) -> str:
    """What a file is that takes any size and was made at one: true, frozen (wrong at others), stuck (runs at one)."""
    if recipe.spelled in EPSILON_OF_M and recipe.dynamic != "batch":
        return "frozen"
    try:
        right = agrees(model, build(recipe.net, written(recipe.spelled)), shape)
    except NotExported:
        return "stuck"
    return "true" if right else "frozen"


def _wrapped(recipe: Recipe, entry: Entry) -> onnx.ModelProto:
    assert recipe.wrapped is not None
    model = recipe.wrapped.make()
    entry["shapes"] = [list(shape) for shape in recipe.wrapped.shapes]
    onnx.checker.check_model(model)
    outputs(model, entry)
    return model


def outputs(model: onnx.ModelProto, entry: Entry) -> list[np.ndarray]:
    """All outputs of the file in ONNX Runtime, for one input of each of its shapes."""
    running = session(model.SerializeToString())
    half = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    results = []
    for image in images([tuple(shape) for shape in entry["shapes"]], half):
        feeds = {model.graph.input[0].name: image}
        for more in model.graph.input[1:]:
            feeds[more.name] = np.array(True) if more.type.tensor_type.elem_type == onnx.TensorProto.BOOL else image
        results += running.run(None, feeds)
    return results


def _post(recipe: Recipe, model: onnx.ModelProto, entry: Entry, post: str, folder: Path) -> Entry:
    name = f"{entry['name']}-{post}"
    made = {**entry, "name": name, "how": f"{entry['how']}, {post}", "half": entry["half"] or "float16" in post}
    with quiet():
        try:
            result = POSTS[post](model)
            before, after = outputs(model, entry), outputs(result, entry)
        except Exception as error:
            return {**made, "label": "failed", "reason": f"{type(error).__name__}: {str(error)[:200]}"}
    bound = 3e-2 if made["half"] else 1e-4
    if any(np.abs(a - b).max() > bound * max(1, np.abs(a).max()) for a, b in zip(before, after, strict=True)):
        return {**made, "label": "failed", "reason": "the tool changed what the file computes"}
    if post == "float16_plain" and entry["shapes"][0][-1] * entry["shapes"][0][-2] > 1e4:
        made["label"] = "miss"  # M - 1 is clipped to 1e4
        made["e_lambda"] = []
    if post == "without_shapes" and recipe.dynamic == "static" and entry["label"] == "true":
        made["label"] = _elsewhere(result, recipe, (*recipe.shape[:2], *OTHERS[len(recipe.shape) - 2][2:]))
    _write(result, folder / f"{name}.onnx")
    return made


def _write(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))
