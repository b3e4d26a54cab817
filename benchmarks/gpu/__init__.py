"""What a machine with a GPU proves of the CUDA kernels: `make gpu`, one command, a table at the end.

    api         simam_cuda.h in ctypes, and the machine that it runs on
    build       the libraries, with plain nvcc and g++, into build/gpu
    problem     inputs in each type and layout, between guards
    reference   the formula in float64, and how far from it a kernel may be
    verdict     on one case; checks: right or not, for every kernel; module: as PyTorch calls them
    sanitize    the same kernels under compute-sanitizer
    speed       how fast, next to a copy; baselines: next to PyTorch and ONNX Runtime; tune: each tactic
    report      the table that is printed, and what is kept; table: the one in docs/howto/gpu.md

Needs NumPy and PyTorch, and says so where they are not there; everything else is used where it is there.
"""
