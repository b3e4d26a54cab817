"""A model laid out for ONNX Runtime on one kind of CPU."""
