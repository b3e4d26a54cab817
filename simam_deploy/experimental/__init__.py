"""Never run on a GPU: code that was tried on fakes, emulators and compilers alone. `doctor --all` looks at it.

`ahead_of_time` : SimAM's kernels inside a TensorRT engine.
"""
