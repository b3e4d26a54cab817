"""Which files the collection holds: a thinned cross product of spellings, nets, exporters, opsets and what follows.

The rule: every spelling through both exporters, static and dynamic; every opset and exporter with six spellings;
every post-processor with a fixed share of the spellings; every near miss through both exporters. `everything` lifts
the shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from collection import (
    miss_axes,
    miss_formula,
    miss_gate,
    spelling_gates,
    spelling_layouts,
    spelling_statistics,
    wrapped_branches,
    wrapped_functions,
    wrapped_torch,
)
from collection.modules import MISSES, SPELLINGS
from collection.nets import NETS, written
from collection.postprocess import POSTS
from collection.wrapped import WRAPPED, Wrapped

FILLED_BY = (
    miss_axes, miss_formula, miss_gate, spelling_gates, spelling_layouts, spelling_statistics, wrapped_branches,
    wrapped_functions, wrapped_torch,
)  # fmt: skip
"""Importing these fills SPELLINGS, MISSES and WRAPPED."""
SHAPES = {1: (2, 3, 35), 2: (2, 3, 12, 9), 3: (2, 3, 3, 5, 4)}
"""Of the image, by the number of a plane's axes. 12x9 is more than 101 pixels and not square."""
OTHERS = {1: (3, 3, 44), 2: (3, 3, 10, 14), 3: (1, 3, 4, 3, 6)}
"""Another size, for files of dynamic size."""
SIX = ("published", "torch_var_mean", "flat_gate_viewed_back", "instance_norm", "energy", "nested_means")
DYNAMIC_ALONE = ("lambda_of_the_batch", "lambda_of_the_size")
"""What is SimAM once its sizes are fixed."""
STATIC_ALONE = ("exp_over_one_plus_exp",)
"""What is SimAM on small maps alone."""
EPSILON_OF_M = ("instance_norm", "layer_norm", "group_norm", "layer_norm_of_flat", "batch_norm_of_planes")
"""What has λ (M-1)/M in an attribute: of dynamic size, a constant, which is right at one size."""
POSTED = (
    "published", "times_itself", "torch_var", "var_correction", "std_squared", "mean_of_squares", "root_form",
    "inverse_energy", "flat_gate_viewed_back", "flat_y_viewed_back", "channels_last", "instance_norm", "layer_norm",
    "tanh", "divided_by_one_plus_exp", "expanded", "pooled", "squared",
)  # fmt: skip
POSTED_MISSES = ("population_var", "without_half", "learned_scale_of_z_each", "squeeze_excitation", "lambda_each")


@dataclass(frozen=True)
class Recipe:
    """A file to make: an export or a graph built by hand, and what else is made of it."""

    name: str
    label: str
    e_lambda: tuple[float, ...]
    spelled: str = ""
    net: str = "plain"
    exporter: str = "torchscript"
    opset: int = 18
    dynamic: str = "static"
    half: bool = False
    shape: tuple[int, ...] = ()
    wrapped: Wrapped | None = None
    posts: tuple[str, ...] = field(default=(), compare=False)

    @property
    def names(self) -> list[str]:
        """Its file and those made of it."""
        return [self.name, *(f"{self.name}-{post}" for post in self.posts)]


def recipes(everything: bool = False) -> list[Recipe]:
    """All recipes, in a fixed order; no two files have one name."""
    made = [*_spelled(everything), *_opsets(), *_nets(), *_sizes(), *_halves(everything), *_missed(everything)]
    made += [Recipe(w.name, w.label, w.e_lambda, wrapped=w, posts=w.posts) for w in WRAPPED.values()]
    names = [name for recipe in made for name in recipe.names]
    assert len(set(names)) == len(names), sorted(n for n in names if names.count(n) > 1)
    return made


def _recipe(name: str, **how: object) -> Recipe:
    """The recipe of an export; its file is named by what it is made of."""
    one = written(name)
    label = "miss" if name in MISSES else "true" if one.axes == 2 else "rank"
    net = str(how.get("net", "plain" if label != "miss" else "without_relu"))
    count = 0 if label == "miss" else NETS[net][1] * (2 if name == "chunks_of_channels" else 1)
    e_lambda = (1e-4,) if net == "beside" else (one.e_lambda,) * count
    parts = [
        name,
        str(how.get("exporter", "torchscript")),
        str(how.get("opset", 18)),
        str(how.get("dynamic", "static")),
    ]
    parts += [net] if "net" in how else []
    parts += ["x".join(map(str, how["shape"][2:]))] if "shape" in how else []  # type: ignore[index]
    parts += ["half"] if how.get("half") else []
    how = {"shape": SHAPES[one.axes], **how, "net": net}
    return Recipe("-".join(parts), "beside" if net == "beside" else label, e_lambda, name, **how)  # type: ignore[arg-type]


def _spelled(everything: bool) -> Iterator[Recipe]:
    for i, name in enumerate(SPELLINGS):
        yield _recipe(name, opset=13, posts=_posts(name, 0, everything))
        if name not in STATIC_ALONE:
            yield _recipe(name, opset=18, dynamic="all")
            yield _recipe(name, exporter="dynamo", dynamic="all", posts=_posts(name, 1, everything))
        if everything or i % 4 == 0 or name in STATIC_ALONE or name in POSTED[:4]:
            posts = [post for post in _posts(name, 1, everything) if post.startswith("float16")]
            yield _recipe(name, exporter="dynamo", opset=20, posts=tuple(posts))


def _posts(name: str, exporter: int, everything: bool) -> tuple[str, ...]:
    """Every post-processor for a third of POSTED through each exporter."""
    if name not in POSTED:
        return ()
    at = POSTED.index(name)
    return tuple(post for i, post in enumerate(POSTS) if everything or (at + i) % 3 == exporter)


def _opsets() -> Iterator[Recipe]:
    for name in SIX:
        for opset in (11, 14, 16, 17, 20, 23):
            yield _recipe(name, opset=opset, dynamic=("static", "batch", "hw")[opset % 3])
        for opset in (20, 24):
            yield _recipe(name, exporter="dynamo", opset=opset, dynamic="hw" if opset == 20 else "batch")


def _nets() -> Iterator[Recipe]:
    for net in ("edge", "two", "same_twice", "residual", "residual_gate"):
        for at, name in enumerate(("published", "rsqrt_form", "tanh_half_outside")):
            yield _recipe(name, net=net, opset=17)
            if at == 0:
                yield _recipe(name, net=net, exporter="dynamo", dynamic="all")
    for name in ("population_var", "without_half", "learned_scale_of_z", "gates_the_centred"):
        yield _recipe(name, net="beside", opset=17)
    yield _recipe("population_variance", net="beside", exporter="dynamo", dynamic="all")


def _sizes() -> Iterator[Recipe]:
    for name in ("published", "torch_var_mean", "flat_y_viewed_back"):
        for h, w in ((8, 8), (20, 20), (1, 2), (80, 80)):
            yield _recipe(name, opset=17, shape=(1, 3, h, w))
    yield _recipe("published", opset=16, shape=(1, 3, 104, 104), posts=("float16_plain", "float16_keep_io"))
    yield _recipe("population_variance", opset=17, shape=(1, 3, 80, 80))
    yield _recipe("published", exporter="dynamo", opset=18, shape=(1, 3, 80, 80))


def _halves(everything: bool) -> Iterator[Recipe]:
    names = [n for n, s in SPELLINGS.items() if s.axes == 2] if everything else [*SIX, "rsqrt_form", "tanh"]
    for name in names:
        yield _recipe(name, opset=17, half=True)
    for name in SIX[:3]:
        yield _recipe(name, exporter="dynamo", dynamic="all", half=True)


def _missed(everything: bool) -> Iterator[Recipe]:
    posts = (
        tuple(POSTS) if everything else ("slimmed", "simplified", "ort_extended", "float16_keep_io", "without_shapes")
    )
    for i, name in enumerate(MISSES):
        if name not in DYNAMIC_ALONE:
            yield _recipe(name, opset=17, posts=posts if name in POSTED_MISSES else ())
        yield _recipe(name, opset=18, dynamic="all")
        if everything or i % 4 == 0 or name in DYNAMIC_ALONE:
            yield _recipe(name, exporter="dynamo", dynamic="all", posts=posts[:2] if name in POSTED_MISSES else ())
