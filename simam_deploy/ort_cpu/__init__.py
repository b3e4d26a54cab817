"""Specialisation of a model for ONNX Runtime on one kind of CPU."""
