"""Checks and timing of the CUDA kernels on a machine with a GPU: `make gpu`, one command, a table at the end.

    api         simam_cuda.h in ctypes, and the machine that it runs on
    build       the libraries, with plain nvcc and g++, into build/gpu
    problem     inputs in each type and layout, between guards
    reference   the formula in float64, and the tolerance of a kernel
    verdict     result of one case; checks: all kernels against the formula; module: the kernels in PyTorch
    sanitize    the kernels under compute-sanitizer
    speed       time against a copy; baselines: PyTorch and ONNX Runtime; tune: each tactic
    report      the printed table, and the kept rows; table: the one in docs/howto/gpu.md

Needs NumPy and PyTorch, and reports if they are missing. Uses other packages if installed.
"""
