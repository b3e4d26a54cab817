"""Code that has never run on a GPU: tested on fakes, emulators and compilers alone. `doctor --all` covers it.

`ahead_of_time` : SimAM's kernels inside a TensorRT engine.
"""
