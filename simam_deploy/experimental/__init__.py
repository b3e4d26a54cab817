"""Never run on a GPU. Kernels that are compiled ahead of time into a TensorRT engine."""
