"""Never run on a GPU: code that was tried on fakes, emulators and compilers alone. Nothing outside imports it.

`ahead_of_time` : SimAM's kernels inside a TensorRT engine.
"""
