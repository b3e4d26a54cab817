"""What TensorRT's parser makes of each SimAM block, in each form. Nothing runs; engines are built where asked."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from simam_deploy.api.given import OnePath
from simam_deploy.block import Block
from simam_deploy.engines import flavors
from simam_deploy.engines.builder import build_engine
from simam_deploy.engines.flavors import Flavor
from simam_deploy.engines.inspection import is_engine
from simam_deploy.engines.parse_file import parse_file, parser_flavor
from simam_deploy.engines.plugin_host import AUTO, NONE, PLUGIN
from simam_deploy.errors import BuildError, FormError, InputError, NativeError
from simam_deploy.graph import onnx_file
from simam_deploy.match.find import find
from simam_deploy.match.int8_nodes import opened
from simam_deploy.rewrite.fuse import fuse
from simam_deploy.text import Say, counted

FORMS = ("function", "primitive", "instance_norm")
"""Those that need no plugin, in the order of preference between equals."""
GIVEN = "the file"
MOST_KINDS = 3
"""Kinds of layers in a row of the table. `kinds` has all."""
EQUAL = 1.01
"""Ratio of the bytes of two engines that count as equal: 1 % is alignment and names."""


@dataclass(frozen=True)
class LayersOfBlock:
    """Layers of one block. kinds : number by kind and type of the result, as "REDUCE FLOAT".

    built : "plugin", "fallback" for the fallback definition, "" for operators of ONNX.
    """

    node: str
    built: str
    layers: int
    kinds: Mapping[str, int]

    @property
    def shown(self) -> tuple[str, str]:
        """The commonest kinds with their counts, and all types."""
        kinds: Counter[str] = Counter()
        for key, count in self.kinds.items():
            kinds[key.partition(" ")[0]] += count
        most = kinds.most_common(MOST_KINDS)
        counts = [f"{count} {kind}" for kind, count in most]
        if others := kinds.total() - sum(count for _, count in most):
            counts.append(counted(others, "other"))
        types = sorted({key.partition(" ")[2] for key in self.kinds})
        return ", ".join(counts) or "none", ", ".join(types)


@dataclass(frozen=True)
class LayersOfForm:
    """A form of the file. plugin : whether our plugin library was registered.

    layers, kinds : of the network.  warnings : of the parser, and of the builder where it ran.
    bytes : of the engine, if it was built.  why_not : why the form cannot be written or parsed, or "".
    """

    form: str
    plugin: bool
    blocks: tuple[LayersOfBlock, ...] = ()
    layers: int = 0
    kinds: Mapping[str, int] | None = None
    warnings: tuple[str, ...] = ()
    bytes: int | None = None
    why_not: str = ""

    @property
    def name(self) -> str:
        """Form and plugin."""
        return f"{self.form}, plugin" if self.plugin else self.form

    @property
    def good(self) -> bool:
        """Whether it was parsed without a warning."""
        return not self.why_not and not self.warnings


@dataclass(frozen=True)
class LayersReport:
    """Layers of an ONNX file in each form.

    parser : flavor and version.  choice : the form to take, with the reason; without and with the plugin.
    """

    file: Path
    parser: str
    forms: tuple[LayersOfForm, ...]
    choice: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Columns, and rows of equal blocks together; without SimAM, of the network's layers by kind."""
        if not any(form.blocks for form in self.forms):
            counts = [(*key.split(" "), n) for form in self.forms for key, n in (form.kinds or {}).items()]
            return ("layer", "type", "count"), counts
        sized = any(form.bytes for form in self.forms)
        rows: list[Sequence[object]] = []
        for form in self.forms:
            engine = [f"{form.bytes:,}" if form.bytes else "-"] if sized else []
            alike: dict[tuple[int, str, str], list[str]] = {}
            for block in form.blocks:
                alike.setdefault((block.layers, *block.shown), []).append(block.node)
            for (layers, kinds, types), nodes in alike.items():
                rows.append((form.name, str(len(nodes)), str(layers), kinds, types, str(form.layers), *engine))
        return ("form", "blocks", "layers", "kinds", "types", "network", *["bytes"] * sized), rows

    @property
    def faults(self) -> list[str]:
        """Why forms were not parsed, and the warnings of those that were."""
        refused = [f"{form.name}: {form.why_not}" for form in self.forms if form.why_not]
        return refused + [f"{form.name}: {line}" for form in self.forms for line in form.warnings]

    @property
    def verdict(self) -> str:
        """In one line."""
        parsed = sum(not form.why_not for form in self.forms)
        if not any(form.blocks for form in self.forms) and parsed == len(self.forms):
            return f"found: no SimAM block; {counted(self.forms[0].layers, 'layer')} by {self.parser}"
        return f"parsed: {parsed} of {counted(len(self.forms), 'form')} by {self.parser}; nothing was run or timed"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": "layers", **asdict(self), "file": str(self.file)}


def inspect_layers(
    file: OnePath,
    *,
    flavor: str = flavors.AUTO,
    plugin: OnePath = AUTO,
    targets: Sequence[str] = (),
    timeout_s: float | None = None,
    on_progress: Say | None = None,
) -> LayersReport:
    """Parse an ONNX file, and each form that `fuse` writes of it, with TensorRT's parser, and count the layers.

    The forms are written to a temporary folder. A block's layers are those that the parser names by its nodes.
    flavor : "tensorrt_rtx", which parses without a GPU, "tensorrt", or "auto": the first that is installed.
    plugin : our plugin library, "none", or "auto": the one that is found.
    targets : GPU kinds, such as "sm86", to build an engine of each form for; their bytes then decide the choice.
    timeout_s : of each parse and each build.
    Raises InputError for an engine, ModelFileError, RuntimeUnavailable without a parser, BuildError if the parser
    refuses a file without SimAM. A form that it refuses is a row with its words.
    """
    path, say = Path(file), on_progress or (lambda _: None)
    if is_engine(path):
        raise InputError(
            f"{path} is an engine, and nothing reads the layers of one without its GPU\n"
            "give the ONNX file that it was built from: simam-deploy inspect --layers MODEL.onnx\n"
            f"the manifest has its layers by kind: simam-deploy inspect {path}"
        )
    chosen = parser_flavor(flavor)
    library, notes = _library(plugin)
    model = onnx_file.load(path)
    with onnx_file.blaming(path):
        found = find(model, lambda node: say(f"check the block at {node}"))
    versions: list[str] = []

    def parsed(name: str, source: Path, blocks: Sequence[Block], using: Path | None) -> LayersOfForm:
        about = LayersOfForm(name, using is not None)
        say(f"{about.name}: parse")
        names = {block.node: _names(block) if name == GIVEN else [block.node] for block in blocks}
        flat = list(dict.fromkeys(each for held in names.values() for each in held))
        try:
            done, log = parse_file(source, flat, chosen, plugin=using, timeout_s=timeout_s)
            built = _built(source, chosen, using, targets, timeout_s, lambda what: say(f"{about.name}: {what}"))
        except BuildError as error:
            if not found.blocks:
                raise
            return replace(about, why_not=str(error).replace(str(source), path.name))
        versions.append(done["version"])
        records = {record["node"]: record for record in done["blocks"]}
        each = tuple(_block(node, [records[one] for one in held]) for node, held in names.items())
        warnings = tuple(dict.fromkeys([*log, *(built.log if built else ())]))
        size = built.size_bytes if built else None
        return replace(about, blocks=each, layers=done["layers"], kinds=done["types"], warnings=warnings, bytes=size)

    forms: list[LayersOfForm] = [parsed(GIVEN, path, found.blocks, None)]
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        if found.blocks:
            forms += _in_forms(opened(model), Path(folder), library, parsed)
    title = f"{chosen.title} {versions[0]}" if versions else chosen.title
    return LayersReport(path, title, tuple(forms), tuple(_choice(forms)) if found.blocks else (), tuple(notes))


def _library(plugin: OnePath) -> tuple[Path | None, list[str]]:
    if os.fspath(plugin) == NONE:
        return None, []
    if os.fspath(plugin) != AUTO:
        if not Path(plugin).is_file():
            raise NativeError(f"--plugin {plugin} is no file; {PLUGIN.why_not()}")
        return Path(plugin).resolve(), []
    library = PLUGIN.find()
    return library, [f"plugin: {library}" if library else f"plugin: none; {PLUGIN.why_not()}"]


def _in_forms(model: ir.Model, folder: Path, library: Path | None, parsed: Any) -> Iterator[LayersOfForm]:
    """Each form, and those of our operators with the plugin too."""
    found = find(model)
    for form in (*FORMS, "epilogue"):
        epilogue, target = form == "epilogue", folder / f"{form}.onnx"
        ours = epilogue or form == "function"
        try:
            fused = fuse(model, "function" if epilogue else form, epilogue=epilogue, found=found)
        except FormError as error:
            yield LayersOfForm(form, False, why_not=str(error))
            continue
        if epilogue and all(block.epilogue is None for block in fused.blocks):
            yield LayersOfForm(form, False, why_not="no epilogue folds into a block of this file")
            continue
        onnx_file.save(fused.model, target)
        for using in (None, library)[: 1 + (ours and library is not None)]:
            yield parsed(form, target, fused.blocks, using)


def _names(block: Block) -> list[str]:
    """Names by which the parser knows the nodes of a block. One stands for all that begin with it and a slash."""
    names = [node.name or f"node_of_{node.outputs[0].name}" for node in block.inside]
    return [name for name in names if not any(name.startswith(f"{other}/") for other in names)]


def _block(node: str, records: Sequence[Mapping[str, Any]]) -> LayersOfBlock:
    kinds: Counter[str] = Counter()
    for record in records:
        kinds.update(record["kinds"])
    built = next((record["built"] for record in records if record["built"]), "")
    return LayersOfBlock(node, built, sum(record["layers"] for record in records), dict(sorted(kinds.items())))


def _built(
    source: Path, flavor: Flavor, library: Path | None, targets: Sequence[str], timeout_s: float | None, say: Say
) -> Any:
    """The report of a build, or None without targets."""
    if not targets:
        return None
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as folder:
        return build_engine(
            source,
            Path(folder, "net.engine"),
            flavor=flavor.name,
            targets=targets,
            plugin=library or NONE,
            timeout_s=timeout_s,
            on_progress=say,
        )


def _choice(forms: Sequence[LayersOfForm]) -> Iterator[str]:
    """The form to take without the plugin and with it, each with the reason."""
    alone = [form for form in forms if form.form in FORMS and not form.plugin]
    good = [form for form in alone if form.good]
    others = [f"{form.form}: {_fault(form)}" for form in alone if not form.good]
    if good:
        sizes = [form.bytes for form in good if form.bytes is not None]
        taken = good[0] if not sizes else next(f for f in good if f.bytes and f.bytes <= EQUAL * min(sizes))
        why = "no engine is smaller by more than 1 %" if sizes else "it parses without a warning"
        ours = " and the same file takes the plugin where that is" if taken.form == "function" else ""
        counts = "" if sizes else "; layers do not decide, as a builder fuses them: --targets compares engines"
        yield f"without the plugin: {taken.form}, as {why}{ours}{counts}" + "".join(f"; {each}" for each in others)
    else:
        yield "without the plugin: none; " + "; ".join(others)
    with_plugin = [form for form in forms if form.plugin and form.good]
    if taken_by := [form for form in with_plugin if all(block.built == "plugin" for block in form.blocks)]:
        least = min(taken_by, key=lambda form: form.layers)
        yield (
            f"with the plugin: {least.form}, as it has the fewest layers, {least.layers}, and each block is one; "
            "no engine with it was run"
        )


def _fault(form: LayersOfForm) -> str:
    return form.why_not.split("\n", 1)[0] or counted(len(form.warnings), "warning")
