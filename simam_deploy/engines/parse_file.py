"""Parse an ONNX file with the parser of TensorRT or TensorRT-RTX, in the builder's process, and build nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

from simam_deploy.engines import flavors
from simam_deploy.engines.arguments import refuse_bounds
from simam_deploy.engines.flavors import Flavor
from simam_deploy.engines.plugin_host import environment_for
from simam_deploy.engines.refusals import refuse_much, refuse_odd_lambdas, refuse_other_names, refuse_unknown_nodes
from simam_deploy.engines.run_worker import run_worker
from simam_deploy.errors import RuntimeUnavailable

MEMORY = 2**34
"""Upper bound on what the process writes to memory, in bytes."""


def parser_flavor(name: str = flavors.AUTO) -> Flavor:
    """The flavor of that name; for "auto" TensorRT-RTX, which parses without a GPU, or else TensorRT.

    Raises InputError for an unknown name, RuntimeUnavailable if it is not installed.
    """
    asked = [flavors.RTX, flavors.TENSORRT] if name == flavors.AUTO else [flavors.named(name)]
    for flavor in asked:
        if flavor.installed:
            return flavor
    ways = "\n".join(f"{flavor.title}: {flavor.install}" for flavor in asked)
    raise RuntimeUnavailable(
        f"no parser of {' or '.join(flavor.title for flavor in asked)} here shows the layers; install one\n{ways}"
    )


def parse_file(
    path: Path,
    blocks: Sequence[str],
    flavor: Flavor,
    *,
    plugin: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
    timeout_s: float | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The result of trt_build.build as far as the parser makes it, and the parser's warnings.

    blocks : names of nodes whose layers are counted.  plugin : our library, to take all nodes of ours.
    Raises BuildError if the parser refuses the file or its process dies, InputError for too many nodes, a time that
    is none, or a file that `build` does not take either.
    """
    refuse_bounds(timeout_s, None)
    model = onnx.load(path, load_external_data=False)
    refuse_much(model, path)
    refuse_odd_lambdas(model, path)
    refuse_other_names(path, plugin)
    refuse_unknown_nodes(model, path, flavor.title, plugin=plugin is not None)
    job: dict[str, object] = {
        "flavor": flavor.name,
        "model": str(path),
        "engine": None,
        "targets": [],
        "functions": sorted({function.name for function in model.functions}),
        "blocks": list(blocks),
        "options": {},
        "hint": "",
        "memory": MEMORY,
        "plugin": None if plugin is None else str(plugin),
    }
    with tempfile.TemporaryDirectory(prefix="simam-deploy-") as links:
        variables = {} if plugin is None else environment_for(Path(links))
        return run_worker(job, on_progress, timeout_s, variables)
