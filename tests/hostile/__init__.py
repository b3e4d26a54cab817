"""ONNX files made to do harm, by name: each a function that returns the bytes."""

from hostile import bulk, heavy, kinds, long_texts, names, nesting, paths, sizes, texts, weights
from hostile.parts import Files

LARGE = Files(bulk.FILES, long_texts.FILES, heavy.FILES)
"""Those with much of one thing, which take seconds each."""
HOSTILE = Files(nesting.FILES, sizes.FILES, names.FILES, kinds.FILES, weights.FILES, paths.FILES, texts.FILES, LARGE)
