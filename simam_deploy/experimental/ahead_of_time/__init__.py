"""SimAM inside the engine: our CUDA kernels as TensorRT's ahead-of-time plugins, so no library is needed at run time.

    build("model.onnx", "model.engine")          # on the GPU that the engine is for
    plugins = register(tensorrt)                 # or only this, for a network that you build and parse yourself

TensorRT asks for each node's kernel while it builds: the plan is that of the plugin library, the kernel is compiled
for this one shape, type, layout and λ, and its PTX is stored in the engine. Limits, each an error that says what to
use instead:

- TensorRT 10.9 and newer. 10.6 to 10.8 have `tensorrt.plugin` without ahead-of-time plugins; TensorRT-RTX has none.
- Static shapes, (N, C, H, W). With dynamic ones TensorRT 11.1 and 11.2.1 leak a CUDA module at each change of shape
  (NVIDIA/TensorRT#4849): use the plugin library, libsimam_tensorrt.so.
- One launch without a workspace, at most 48 KB of a block's memory, clusters of at most 8. Planes too large for that
  take the plugin library. Which these are depends on the GPU: below compute capability 9.0 there are no clusters.
- FP32 (LINEAR), FP16 and BF16 (LINEAR and HWC8). For INT8 take the plugin library.
- The PTX must not be newer than the driver that loads it. CUDA 13.0's compilers write PTX 9.0, which needs a
  driver of CUDA 13.0 (r580) or newer. By default the builder's driver is the limit; `newest_ptx` names another one's.
- Compiled with NVRTC (`pip install "nvidia-cuda-nvrtc==13.0.*"`) or nvcc, on the machine that builds.

Never run on a GPU, nor by a real TensorRT: see docs/howto/tensorrt_ahead_of_time.md.
"""

from simam_deploy.experimental.ahead_of_time.build import BuiltEngine, build
from simam_deploy.experimental.ahead_of_time.compiler import Compiler, find
from simam_deploy.experimental.ahead_of_time.device import Device
from simam_deploy.experimental.ahead_of_time.plugin import CompiledKernel, Options, Plugins, register

__all__ = ["BuiltEngine", "CompiledKernel", "Compiler", "Device", "Options", "Plugins", "build", "find", "register"]
