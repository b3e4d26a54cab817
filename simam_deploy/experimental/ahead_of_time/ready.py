"""Is all here that kernels ahead of time need: for `simam-deploy doctor --all`."""

from __future__ import annotations

from simam_deploy.errors import NativeError
from simam_deploy.experimental.ahead_of_time import compiler, plugin, source


def ready() -> str:
    """What they would be made with. Nothing is compiled.

    Raises RuntimeUnavailable (NativeError for our own library) for the first of TensorRT, compiler, headers and
    planner that is not here.
    """
    tensorrt = plugin.import_tensorrt()
    plugin.plugin_module(tensorrt)
    found, headers, planner = compiler.find(), source.headers(), source.LIBRARY.find()
    if planner is None:
        raise NativeError(source.LIBRARY.why_not())
    return f"TensorRT {tensorrt.__version__}, {found}, {headers}, {planner}"
