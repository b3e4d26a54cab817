"""What only a machine with TensorRT can show, by its own trtexec: `python -m benchmarks.tensorrt`.

Not tried with a real TensorRT: the options and the files of trtexec were read in its source, 10.3 to 11.1.

models.py   the files to try: a model in three forms, its input, its output in float64
trtexec.py  runs trtexec: builds an engine, then loads and times it
layers.py   reads what trtexec wrote
report.py   what a run says of each SimAM block
"""
