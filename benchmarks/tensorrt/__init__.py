"""Tests on a machine with TensorRT, by its own trtexec: `python -m benchmarks.tensorrt`.

Never run with a real TensorRT: the options and files of trtexec are those of its source, 10.3 to 11.1.

models.py   the models: three forms, input, output in float64
trtexec.py  runs trtexec: builds an engine, then loads and times it
layers.py   reads the output of trtexec
report.py   a row for each SimAM block
"""
