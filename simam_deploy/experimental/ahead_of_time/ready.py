"""Requirements of ahead-of-time kernels, for `simam-deploy doctor --all`."""

from __future__ import annotations

from simam_deploy.errors import NativeError
from simam_deploy.experimental.ahead_of_time import compiler, plugin, source


def ready() -> str:
    """Description of the installed tools. Compiles nothing.

    Raises RuntimeUnavailable (NativeError for our own library) for the first missing one of TensorRT, compiler,
    headers and planner.
    """
    tensorrt = plugin.import_tensorrt()
    plugin.plugin_module(tensorrt)
    found, headers, planner = compiler.find(), source.headers(), source.LIBRARY.find()
    if planner is None:
        raise NativeError(source.LIBRARY.why_not())
    return f"TensorRT {tensorrt.__version__}, {found}, {headers}, {planner}"
