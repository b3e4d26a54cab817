"""ONNX files, forms and runtimes compared with the float64 truth, and timed against each other."""
