"""Our own collection of ONNX files with SimAM in them, or nearly, as people and tools write them.

`python -m collection FOLDER` from tests/ writes the files and an index.json; tests/match/test_collection.py judges
the recogniser on them. `spelling_*` are PyTorch code for SimAM, `miss_*` for what is not; `exporting` makes files of
them, `postprocess` runs what the field runs on files, `wrapped` builds graphs that exporters alone do not make.
"""
