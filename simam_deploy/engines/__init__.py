"""Engines of TensorRT-RTX, each built in a process of its own."""
