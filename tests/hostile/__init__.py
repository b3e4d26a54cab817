"""ONNX files made to do harm, by name: each a function that returns the bytes."""

from hostile import kinds, names, nesting, paths, sizes, texts, weights
from hostile.parts import Files

HOSTILE = Files(nesting.FILES, sizes.FILES, names.FILES, kinds.FILES, weights.FILES, paths.FILES, texts.FILES)
