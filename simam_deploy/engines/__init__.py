"""TensorRT-RTX engines, each built in a separate process."""
