"""ONNX graphs: files in and out, shapes, float64, the reference evaluator."""
